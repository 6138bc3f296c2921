//! What sealing costs, part by part, as medians and as ratios to copying the bytes and to plain
//! AES-256-GCM. Run it with `cargo bench -p peercache-seal`; it asserts nothing.

#![allow(clippy::unwrap_used, reason = "a benchmark that cannot go on has nothing to say")]

use std::hint::black_box;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use aes_gcm::aead::inout::InOutBuf;
use aes_gcm::{AeadInOut, Aes256Gcm, KeyInit};
use ed25519_dalek::{Signer, SigningKey};
use peercache_api::{
    BackendInfo, CacheBackend, Capabilities, Clock, Entry, Error, Key, NodeId, SystemClock, VersionClock,
    async_trait,
};
use peercache_seal::{Sealed, Secret};
use sha2::{Digest, Sha256};

/// How long each line is measured for.
const EACH: Duration = Duration::from_millis(400);

/// A store that costs nothing: it holds the last entry.
#[derive(Debug)]
struct Slot(BackendInfo, Mutex<Option<Entry>>);

#[async_trait]
impl CacheBackend for Slot {
    fn info(&self) -> &BackendInfo {
        &self.0
    }

    async fn get(&self, _: &Key) -> Result<Option<Entry>, Error> {
        Ok(self.1.lock().unwrap().clone())
    }

    async fn put(&self, _: &Key, entry: Entry) -> Result<(), Error> {
        *self.1.lock().unwrap() = Some(entry);
        Ok(())
    }

    async fn probe(&self) -> Result<(), Error> {
        Ok(())
    }

    async fn close(&self) -> Result<(), Error> {
        Ok(())
    }

    fn fleet(&self) -> Option<&dyn peercache_api::Fleet> {
        None
    }
}

fn main() {
    for bytes in [1024, 64 * 1024, 1024 * 1024] {
        size(bytes);
    }
}

/// Text that shrinks like answers of an API do, with numbers that differ.
fn json(bytes: usize) -> Vec<u8> {
    let mut text = String::new();
    let mut n = 1_u64;
    while text.len() < bytes {
        n = n.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        text += &format!(
            "{{\"id\":{},\"node_id\":\"R_{:x}\",\"private\":false,\"fork\":{}}},",
            n >> 40,
            n,
            n & 4 == 0
        );
    }
    text.truncate(bytes);
    text.into_bytes()
}

fn size(bytes: usize) {
    let value = json(bytes);
    let mut buffer = value.clone();
    let copy = median(|| {
        buffer.copy_from_slice(black_box(&value));
        black_box(&mut buffer);
    });
    let cipher = Aes256Gcm::new((&[7; 32]).into());
    let gcm = median(|| {
        let sealed =
            cipher.encrypt_inout_detached(&[1; 12].into(), &[0; 90], InOutBuf::from(&mut buffer[..]));
        black_box(sealed.unwrap());
    });
    let signing = SigningKey::from_bytes(&[9; 32]);
    let statement = [5; 171];
    let signature = signing.sign(&statement);
    let mut nonce = [0; 24];
    let lines = [
        ("copy", copy),
        ("AES-256-GCM alone, one key for all", gcm),
        (
            "AES-256-GCM with a key for each",
            median(|| {
                let cipher = Aes256Gcm::new((&[7; 32]).into());
                let sealed =
                    cipher.encrypt_inout_detached(&[1; 12].into(), &[0; 90], InOutBuf::from(&mut buffer[..]));
                black_box(sealed.unwrap());
            }),
        ),
        ("nonce from the system", median(|| getrandom::fill(black_box(&mut nonce)).unwrap())),
        (
            "SHA-256 of the ciphertext",
            median(|| {
                black_box(Sha256::digest(&buffer));
            }),
        ),
        (
            "Ed25519, sign",
            median(|| {
                black_box(signing.sign(black_box(&statement)));
            }),
        ),
        (
            "Ed25519, verify",
            median(|| {
                signing.verifying_key().verify_strict(black_box(&statement), &signature).unwrap();
            }),
        ),
        (
            "zstd, compress",
            median(|| {
                black_box(zstd::bulk::compress(&value, 1).unwrap());
            }),
        ),
    ];
    println!("\n{bytes} bytes{:>38} {:>9} {:>9}", "us", "x copy", "x GCM");
    let show = |what: &str, took: f64| {
        println!("  {what:<38}{took:>8.2} {:>9.1} {:>9.1}", took / copy, took / gcm);
    };
    lines.iter().for_each(|(what, took)| show(what, *took));
    for compress in [false, true] {
        let how = if compress { "compressed" } else { "as it is" };
        let (put, get, stored) = whole(&value, compress);
        show(&format!("seal, {how}"), put);
        show(&format!("open, {how}"), get);
        println!("  stored bytes, {how}: {stored}");
    }
}

/// The whole way in and out, and how long the stored value is.
fn whole(value: &[u8], compress: bool) -> (f64, f64, usize) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).build().unwrap();
    let slot = Arc::new(Slot(BackendInfo::new("slot", Capabilities::local()), Mutex::default()));
    let sealed =
        Sealed::builder(Secret::generate().unwrap(), Arc::clone(&slot)).compression(compress).build();
    let (key, now) = (Key::new("repos/acme/rocket").unwrap(), SystemClock::new().now());
    let versions = VersionClock::new(NodeId::from_u64(1));
    let entry = Entry::builder(value.to_vec(), versions.next(now), now)
        .fresh_for(Duration::from_secs(3600))
        .content_type("application/json")
        .build()
        .unwrap();
    let put = median(|| runtime.block_on(sealed.put(&key, entry.clone())).unwrap());
    let get = median(|| {
        assert!(runtime.block_on(sealed.get(&key)).unwrap().is_some());
    });
    let stored = runtime.block_on(slot.get(&key)).unwrap().map_or(0, |entry| entry.value().len());
    (put, get, stored)
}

/// The median of many runs, in microseconds. Short work is timed in batches.
fn median(mut work: impl FnMut()) -> f64 {
    let started = Instant::now();
    work();
    let batch = (20_000 / started.elapsed().as_nanos().max(20)).max(1) as u32;
    let mut times = Vec::new();
    let started = Instant::now();
    while started.elapsed() < EACH {
        let one = Instant::now();
        (0..batch).for_each(|_| work());
        times.push(one.elapsed().as_secs_f64() * 1e6 / f64::from(batch));
    }
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}
