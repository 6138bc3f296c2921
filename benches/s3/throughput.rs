//! Large values through the `Cache`, beside the SDK's own ways and those of `object_store`, with as
//! much in flight.

use std::convert::Infallible;
use std::time::{Duration, Instant};

use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::{CompletedMultipartUpload, CompletedPart};
use bytes::Bytes;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use object_store::path::Path;
use object_store::{ObjectStoreExt as _, WriteMultipart};
use peercache::chain::{TierOptions, WritePolicy};
use peercache::stream::SHARED_CHUNK_BYTES;
use peercache::{Cache, Key, Ttl};
use peercache_testkit::servers::SeaweedFs;

use crate::clients::{Clients, tier};
use crate::table::{Bar, Times, median, ratio, turns};

const MIB: usize = 1 << 20;
const VALUE: usize = 64 * MIB;
/// What the AWS command line takes; the least that S3 takes is 5 MiB.
const PART: usize = 8 * MIB;
/// As many as `get_stream` has in flight; `put_stream` has two.
const WRITING: usize = 4;
const READING: usize = 4;
/// The least that we may carry, as a multiple of what the SDK does.
const BAR: Bar = Bar::AtLeast(0.7);
/// The machine does other things besides.
const PATIENCE: Duration = Duration::from_secs(60);

#[derive(Clone, Copy)]
enum Write {
    Cache,
    Multipart,
    /// As many objects as we write, each of a chunk's size.
    Pieces,
    Objects,
}

#[derive(Clone, Copy)]
enum Read {
    Cache,
    Ranges,
    Pieces,
    Whole,
    Objects,
}

const WRITES: [(Write, &str, Bar); 4] = [
    (Write::Cache, "", Bar::None),
    (Write::Multipart, "SDK, multipart", BAR),
    (Write::Pieces, "SDK, objects like ours", Bar::None),
    (Write::Objects, "object_store, multipart", Bar::None),
];
const READS: [(Read, &str, Bar); 5] = [
    (Read::Cache, "", Bar::None),
    (Read::Ranges, "SDK, ranges", BAR),
    (Read::Pieces, "SDK, objects like ours", Bar::None),
    (Read::Whole, "SDK, one request", Bar::None),
    (Read::Objects, "object_store, ranges", Bar::None),
];

struct Bench<'a> {
    clients: &'a Clients,
    writer: Cache,
    reader: Cache,
}

/// A machine of its own, without memory: everything comes from the bucket.
async fn machine(server: &SeaweedFs) -> Cache {
    let patient = TierOptions {
        read_deadline: Some(PATIENCE),
        write_deadline: Some(PATIENCE),
        ..TierOptions::default()
    };
    Cache::builder()
        .tier_with(tier(server).await, patient)
        .read_budget(PATIENCE)
        .write_policy(WritePolicy::All)
        .build()
        .unwrap()
}

/// 64 MiB, no two chunks and no two rounds alike: equal chunks are stored once.
fn value(round: usize) -> Bytes {
    let word = |n: usize| (n as u64 ^ (round as u64) << 40).wrapping_mul(0x9e37_79b9_7f4a_7c15).to_le_bytes();
    (0..VALUE / 8).flat_map(word).collect()
}

fn starts(piece: usize) -> impl Iterator<Item = (usize, usize)> {
    (0..VALUE).step_by(piece).map(move |start| (start, VALUE.min(start + piece)))
}

pub(crate) async fn compare(server: &SeaweedFs, clients: &Clients, rounds: usize) {
    println!(
        "a value of {} MiB, {WRITING} writes or {READING} reads in flight, {rounds} of each\n",
        VALUE / MIB
    );
    println!("operation  reference                     ours          its  ratio min/median/max");
    let bench = Bench { clients, writer: machine(server).await, reader: machine(server).await };
    let (mut writes, mut reads) = (Times::for_each(&WRITES), Times::for_each(&READS));
    // The first round grows volumes and is not counted.
    for round in 0..=rounds {
        let (value, name) = (value(round), format!("value {round}"));
        for side in turns(round, WRITES.len()) {
            let took = bench.write(WRITES[side].0, &name, &value).await;
            if round > 0 {
                writes.add(side, took);
            }
        }
        for side in turns(round, READS.len()) {
            let (took, read) = bench.read(READS[side].0, &name).await;
            assert_eq!(read, VALUE);
            if round > 0 {
                reads.add(side, took);
            }
        }
    }
    print("put", &writes, &WRITES.map(|(_, name, bar)| (name, bar)));
    print("get", &reads, &READS.map(|(_, name, bar)| (name, bar)));
    println!("\nThe bar: at least 0.7 times the SDK.");
}

fn print(operation: &str, times: &Times, sides: &[(&str, Bar)]) {
    let rate = |took: Duration| format!("{:.0} MiB/s", (VALUE / MIB) as f64 / took.as_secs_f64());
    for ((ours, theirs), (name, bar)) in times.pairs().zip(&sides[1..]) {
        // Of each round by itself, so that what the machine does besides hits both.
        let mut ratios: Vec<_> =
            ours.iter().zip(theirs).map(|(ours, theirs)| ratio(*theirs, *ours)).collect();
        ratios.sort_by(f64::total_cmp);
        let middle = ratios[ratios.len() / 2];
        println!(
            "{operation:<10} {name:<23} {:>10} {:>12}  {:.2} / {middle:.2} / {:.2}{}",
            rate(median(ours)),
            rate(median(theirs)),
            ratios[0],
            ratios[ratios.len() - 1],
            bar.verdict(middle),
        );
    }
}

impl Bench<'_> {
    async fn write(&self, how: Write, name: &str, value: &Bytes) -> Duration {
        let began = Instant::now();
        match how {
            Write::Cache => {
                let source = stream::iter([Ok::<_, Infallible>(value.clone())]);
                let put =
                    self.writer.put_stream(&Key::new(name).unwrap(), source, Ttl::from_secs(3600)).await;
                assert!(put.unwrap().outcome.is_durable());
            }
            Write::Multipart => self.multipart(name, value).await,
            Write::Pieces => {
                stream::iter(starts(SHARED_CHUNK_BYTES))
                    .map(|(start, end)| {
                        let request = self.clients.sdk.put_object().bucket(self.clients.bucket);
                        request
                            .key(format!("pieces/{name}/{start}"))
                            .body(ByteStream::from(value.slice(start..end)))
                            .send()
                    })
                    .buffered(WRITING)
                    .try_for_each(async |_| Ok(()))
                    .await
                    .unwrap();
            }
            Write::Objects => {
                let upload = self.clients.objects.put_multipart(&Path::from(format!("objects/{name}"))).await;
                let mut upload = WriteMultipart::new_with_chunk_size(upload.unwrap(), PART);
                for (start, end) in starts(PART) {
                    upload.wait_for_capacity(WRITING).await.unwrap();
                    upload.put(value.slice(start..end));
                }
                upload.finish().await.unwrap();
            }
        }
        began.elapsed()
    }

    async fn multipart(&self, name: &str, value: &Bytes) {
        let (sdk, bucket, key) = (&self.clients.sdk, self.clients.bucket, format!("multipart/{name}"));
        let begun = sdk.create_multipart_upload().bucket(bucket).key(&key).send().await.unwrap();
        let id = begun.upload_id().unwrap();
        let parts: Vec<_> = stream::iter((1..).zip(starts(PART)))
            .map(async |(number, (start, end))| {
                let part = sdk.upload_part().bucket(bucket).key(&key).upload_id(id).part_number(number);
                let sent = part.body(ByteStream::from(value.slice(start..end))).send().await.unwrap();
                CompletedPart::builder()
                    .part_number(number)
                    .set_e_tag(sent.e_tag)
                    .set_checksum_crc32(sent.checksum_crc32)
                    .build()
            })
            .buffered(WRITING)
            .collect()
            .await;
        let parts = CompletedMultipartUpload::builder().set_parts(Some(parts)).build();
        let end = sdk.complete_multipart_upload().bucket(bucket).key(&key).upload_id(id);
        end.multipart_upload(parts).send().await.unwrap();
    }

    /// How long it took, and how many bytes there were.
    async fn read(&self, how: Read, name: &str) -> (Duration, usize) {
        let (sdk, bucket) = (&self.clients.sdk, self.clients.bucket);
        let began = Instant::now();
        let read = match how {
            Read::Cache => {
                let found = self.reader.get_stream(&Key::new(name).unwrap()).await.unwrap();
                found.into_stream().try_fold(0, async |read, part| Ok(read + part.len())).await.unwrap()
            }
            Read::Ranges => {
                sum(starts(PART), async |(start, end)| {
                    let range = format!("bytes={start}-{}", end - 1);
                    let request = sdk.get_object().bucket(bucket).key(format!("multipart/{name}"));
                    let answer = request.range(range).send().await.unwrap();
                    answer.body.collect().await.unwrap().into_bytes().len()
                })
                .await
            }
            Read::Pieces => {
                sum(starts(SHARED_CHUNK_BYTES), async |(start, _)| {
                    let request = sdk.get_object().bucket(bucket).key(format!("pieces/{name}/{start}"));
                    request.send().await.unwrap().body.collect().await.unwrap().into_bytes().len()
                })
                .await
            }
            Read::Whole => {
                let request = sdk.get_object().bucket(bucket).key(format!("multipart/{name}"));
                let (mut body, mut read) = (request.send().await.unwrap().body, 0);
                while let Some(part) = body.next().await {
                    read += part.unwrap().len();
                }
                read
            }
            Read::Objects => {
                let path = Path::from(format!("objects/{name}"));
                sum(starts(PART), async |(start, end)| {
                    let range = start as u64..end as u64;
                    self.clients.objects.get_range(&path, range).await.unwrap().len()
                })
                .await
            }
        };
        (began.elapsed(), read)
    }
}

/// Reads pieces side by side and adds up their bytes.
async fn sum(
    pieces: impl Iterator<Item = (usize, usize)>,
    read: impl AsyncFn((usize, usize)) -> usize,
) -> usize {
    stream::iter(pieces)
        .map(|piece| read(piece))
        .buffered(READING)
        .fold(0, async |all, read| all + read)
        .await
}
