//! What the tests over a real node share.
#![allow(dead_code, reason = "each test file uses its part of it")]

use std::sync::Arc;
use std::time::Duration;

use peercache_api::{CacheBackend, Class, Clock as _, Entry, Key, NodeId, SystemClock, VersionClock};
use peercache_ipfs::{Ipfs, IpfsBuilder};
use peercache_testkit::servers::Kubo;

/// What never happens on a machine however busy, so that a test that waits in vain ends.
pub(crate) const FOR_EVER: Duration = Duration::from_secs(120);

pub(crate) fn key(text: &str) -> Key {
    Key::new(text).unwrap()
}

/// Makes entries with versions of its own.
pub(crate) struct Writer {
    pub(crate) versions: VersionClock,
    clock: SystemClock,
}

impl Writer {
    pub(crate) fn new(node: u64) -> Self {
        Self { versions: VersionClock::new(NodeId::from_u64(node)), clock: SystemClock::new() }
    }

    pub(crate) fn entry(&self, value: impl Into<Vec<u8>>) -> Entry {
        let now = self.clock.now();
        let entry = Entry::builder(value.into(), self.versions.next(now), now);
        entry.fresh_for(Duration::from_secs(3600)).build().unwrap()
    }

    /// As [`Writer::entry`], marked public.
    pub(crate) fn public_entry(&self, value: impl Into<Vec<u8>>) -> Entry {
        let now = self.clock.now();
        let entry = Entry::builder(value.into(), self.versions.next(now), now).class(Class::Public);
        entry.fresh_for(Duration::from_secs(3600)).build().unwrap()
    }

    pub(crate) fn tombstone(&self) -> Entry {
        let now = self.clock.now();
        Entry::tombstone(self.versions.next(now), now)
    }
}

/// A tier over `node` that takes everything.
pub(crate) fn builder(node: &Kubo, prefix: &str) -> IpfsBuilder {
    Ipfs::builder(node.api()).prefix(prefix).allow_private(true)
}

/// A client that is not the tier's.
pub(crate) fn client() -> reqwest::Client {
    if rustls::crypto::CryptoProvider::get_default().is_none() {
        // Another test of this process may be faster, which is as good.
        let _either = rustls::crypto::ring::default_provider().install_default();
    }
    reqwest::Client::builder().no_proxy().tls_certs_only([]).build().unwrap()
}

/// A call of the node's RPC, as anybody could make it.
pub(crate) async fn rpc(node: &Kubo, call: &str) -> String {
    let url = format!("http://{}/api/v0/{call}", node.address());
    let answer = client().post(url).send().await.unwrap();
    answer.text().await.unwrap()
}

/// Adds a file to the node as anybody could; gives the CID.
pub(crate) async fn add(node: &Kubo, options: &str, bytes: Vec<u8>) -> String {
    let url = format!("http://{}/api/v0/add?cid-version=1&{options}", node.address());
    let boundary = "5f1c0a";
    let mut body = format!(
        "--{boundary}\r\nContent-Disposition: form-data; name=\"file\"; filename=\"f\"\r\n\
         Content-Type: application/octet-stream\r\n\r\n"
    )
    .into_bytes();
    body.extend_from_slice(&bytes);
    body.extend_from_slice(format!("\r\n--{boundary}--\r\n").as_bytes());
    let request = client()
        .post(url)
        .header("content-type", format!("multipart/form-data; boundary={boundary}"))
        .body(body);
    let answer: serde_json::Value =
        serde_json::from_str(&request.send().await.unwrap().text().await.unwrap()).unwrap();
    answer["Hash"].as_str().unwrap().to_owned()
}

/// How many files the node holds below the folder of a key.
pub(crate) async fn files_of(node: &Kubo, prefix: &str, key: &Key) -> usize {
    let digits: String = key.digest().iter().map(|byte| format!("{byte:02x}")).collect();
    let folder = format!("/{prefix}/entries/{}/{}", &digits[..2], &digits[2..4]);
    let text = rpc(node, &format!("files/ls?arg={folder}")).await;
    let answer: serde_json::Value = serde_json::from_str(&text).unwrap();
    let names = answer["Entries"].as_array().map(Vec::as_slice).unwrap_or_default();
    names.iter().filter(|entry| entry["Name"].as_str().unwrap().starts_with(&digits[4..])).count()
}

/// Bytes that depend on `seed` alone and that nothing makes shorter.
pub(crate) fn noise(seed: u64, bytes: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut noise = Vec::with_capacity(bytes + 8);
    while noise.len() < bytes {
        // xorshift64*: any seed will do.
        state ^= state >> 12;
        state ^= state << 25;
        state ^= state >> 27;
        noise.extend_from_slice(&state.wrapping_mul(0x2545_f491_4f6c_dd1d).to_le_bytes());
    }
    noise.truncate(bytes);
    noise
}

/// Waits until `done` holds.
pub(crate) async fn until(what: &str, done: impl AsyncFnMut() -> bool) {
    assert!(until_or(done).await, "this never came: {what}");
}

/// Waits until `done` holds. Gives whether it ever did.
pub(crate) async fn until_or(mut done: impl AsyncFnMut() -> bool) -> bool {
    let waiting = async {
        while !done().await {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(FOR_EVER, waiting).await.is_ok()
}

/// What is read under a key, if it is a value.
pub(crate) async fn value(tier: &Arc<Ipfs>, key: &Key) -> Option<Vec<u8>> {
    let found = tier.get(key).await.ok().flatten();
    found.filter(|entry| !entry.is_tombstone()).map(|entry| entry.value().to_vec())
}
