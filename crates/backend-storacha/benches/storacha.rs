//! The Storacha tier beside the official JavaScript client, on the same upload service, in turns:
//! how many requests a put and a get make, and how long they take. Each keeps its own time.
//!
//! Both sides do the same for the same result. The client's lookups have a nonce, as ours do:
//! without one, two that are made within a second are one invocation to the service, which answers
//! the second with the old receipt, runs nothing, and hides what was written in between. The last
//! row is the client without a nonce, beside nothing: a tier must not answer so. The client
//! verifies no receipt and ours verifies each. Ours fetches the bytes that it expects while it asks
//! which write is the newest; the client's interface gives the address after that answer only.
//!
//! `--quick` makes fewer rounds.
#![allow(clippy::unwrap_used, reason = "a bench that cannot go on says where")]

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use peercache_api::{CacheBackend as _, Clock as _, Entry, Key, NodeId, SystemClock, VersionClock};
use peercache_storacha::{Storacha, Token};
use peercache_testkit::servers::{StorachaService, StorachaSpace};

/// What every value has.
const BYTES: usize = 4096;
/// The operations: the first get is of what another process wrote.
const OPERATIONS: [&str; 3] = ["put", "first get", "get again"];

/// One operation of one of the two.
#[derive(Clone, Copy)]
struct Measured {
    millis: f64,
    requests: u64,
}

/// The official client, in a process of its own that ends with this.
struct Official {
    child: Child,
    to: ChildStdin,
    from: BufReader<ChildStdout>,
}

impl Drop for Official {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

impl Official {
    fn start(service: &StorachaService, printed: &StorachaSpace) -> Self {
        let mut child = Command::new("node")
            .args(["--input-type=module", "-e", include_str!("client.mjs")])
            .args([&printed.key, &printed.proof, &BYTES.to_string()])
            .current_dir(service.packages())
            .env("SERVICE_URL", service.url())
            .env("SERVICE_DID", service.did())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let (to, from) = (child.stdin.take().unwrap(), BufReader::new(child.stdout.take().unwrap()));
        let mut official = Self { child, to, from };
        assert_eq!(official.line(), "ready");
        official
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        assert!(self.from.read_line(&mut line).unwrap() > 0, "the official client ended");
        line.trim().to_owned()
    }

    fn measure(&mut self, what: &str, index: usize) -> Measured {
        writeln!(self.to, "{what} {index}").unwrap();
        let line = self.line();
        let (millis, requests) = line.split_once(' ').unwrap();
        Measured { millis: millis.parse().unwrap(), requests: requests.parse().unwrap() }
    }
}

struct Maker {
    versions: VersionClock,
    clock: SystemClock,
}

impl Maker {
    fn entry(&self, seed: usize) -> Entry {
        let mut state = (seed as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        let noise = std::iter::repeat_with(|| {
            state ^= state >> 12;
            state ^= state << 25;
            state ^= state >> 27;
            state as u8
        });
        let now = self.clock.now();
        let entry = Entry::builder(noise.take(BYTES).collect::<Vec<_>>(), self.versions.next(now), now);
        entry.fresh_for(Duration::from_secs(36_000)).build().unwrap()
    }
}

/// One operation of the tier.
async fn ours(tier: &Storacha, operation: impl AsyncFnOnce(&Storacha)) -> Measured {
    let before = tier.report().counts;
    let began = Instant::now();
    operation(tier).await;
    let millis = began.elapsed().as_secs_f64() * 1000.0;
    let after = tier.report().counts;
    let requests = after.messages + after.requests - before.messages - before.requests;
    Measured { millis, requests }
}

fn part(all: &[Measured], part: f64) -> f64 {
    let mut times: Vec<_> = all.iter().map(|one| one.millis).collect();
    times.sort_unstable_by(f64::total_cmp);
    times[((times.len() - 1) as f64 * part) as usize]
}

fn requests(all: &[Measured]) -> String {
    let (least, most) = (all.iter().map(|one| one.requests).min(), all.iter().map(|one| one.requests).max());
    match (least.unwrap_or_default(), most.unwrap_or_default()) {
        (least, most) if least == most => least.to_string(),
        (least, most) => format!("{least} to {most}"),
    }
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() {
    let rounds = if std::env::args().any(|arg| arg == "--quick") { 20 } else { 100 };
    let Some(service) = StorachaService::start().await.unwrap() else { return };
    let printed = service.space().await.unwrap();
    let mut official = Official::start(&service, &printed);
    let open = || {
        let did = service.did().to_owned();
        let token = Token::new(&printed.key, &printed.proof, Some(service.url()), Some(did)).unwrap();
        let tier = Storacha::builder(token).allow_private(true);
        tier.request_timeout(Duration::from_secs(120)).open().unwrap()
    };
    // One that writes, and one that has not seen what was written.
    let (writer, reader) = (open(), open());
    let maker = Maker { versions: VersionClock::new(NodeId::from_u64(1)), clock: SystemClock::new() };
    println!("@storacha/upload-api 2.8.4, values of {BYTES} bytes, {rounds} rounds, one at a time\n");

    // By operation, ours and theirs.
    let mut rows: [[Vec<Measured>; 2]; 3] = Default::default();
    let mut replayed = Vec::new();
    // The first round opens connections and compiles JavaScript.
    for round in 0..=rounds {
        let key = Key::new(format!("key {round}")).unwrap();
        let entry = maker.entry(round);
        let found = async |tier: &Storacha| assert!(tier.get(&key).await.unwrap().is_some());
        for (row, name) in ["put", "first", "again"].into_iter().enumerate() {
            for turn in 0..2 {
                let who = (round + turn) % 2;
                let measured = match (who, row) {
                    (1, _) => official.measure(name, round),
                    (_, 0) => ours(&writer, async |tier| tier.put(&key, entry.clone()).await.unwrap()).await,
                    _ => ours(&reader, found).await,
                };
                if round > 0 {
                    rows[row][who].push(measured);
                }
            }
        }
        // The first one is run by the service, and the second one is not.
        official.measure("replay", round);
        let measured = official.measure("replay", round);
        if round > 0 {
            replayed.push(measured);
        }
    }

    println!(
        "| operation | requests, tier | requests, client | p50 tier | p50 client | p90 tier | p90 client | ratio |"
    );
    println!("|---|---|---|---|---|---|---|---|");
    let mut slower = Vec::new();
    for (name, [ours, theirs]) in OPERATIONS.into_iter().zip(&rows) {
        let ratio = part(ours, 0.5) / part(theirs, 0.5);
        println!(
            "| {name} | {} | {} | {:.1} ms | {:.1} ms | {:.1} ms | {:.1} ms | {ratio:.2} |",
            requests(ours),
            requests(theirs),
            part(ours, 0.5),
            part(theirs, 0.5),
            part(ours, 0.9),
            part(theirs, 0.9),
        );
        if ratio >= 1.0 {
            slower.push(name);
        }
    }
    println!(
        "| old receipt | – | {} | – | {:.1} ms | – | {:.1} ms | – |",
        requests(&replayed),
        part(&replayed, 0.5),
        part(&replayed, 0.9),
    );
    println!("\nThe bar: below 1 at p50 in each row that has a ratio.");
    assert!(slower.is_empty(), "slower than the official client: {slower:?}");
}
