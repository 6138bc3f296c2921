//! A node of ours, driven by lines: what `driver.py` does with a node of the original, in the same
//! words.

use std::io::{BufRead as _, Write as _};
use std::net::Ipv4Addr;
use std::path::Path;
use std::time::{Duration, Instant};

use bytes::Bytes;
use peercache_api::{CacheBackend as _, Clock as _, Entry, Key, NodeId, SystemClock, VersionClock};
use peercache_libp2p::{NetworkKey, Peers, RoleChoice};
use peercache_seal::{Sealed, Secret};

/// Names the secret to the nodes of this bench, which are processes of their own.
pub(crate) const SECRET: &str = "PEERCACHE_BENCH_SECRET";
const LIFETIME: Duration = Duration::from_secs(3600);
/// As in `driver.py`.
const STRIDE: usize = 4099;
const REST: Duration = Duration::from_millis(1);
const REST_FACTOR: u32 = 10;

struct Node {
    peers: Peers,
    sealed: Sealed<Peers>,
    versions: VersionClock,
    payload: Bytes,
}

/// Obeys until its input ends: `PORT PAYLOAD [ADDRESS]`. The node with an address dials it and
/// listens nowhere, as a container does; the one without is an anchor.
pub(crate) async fn serve(args: &[String]) {
    let [port, payload, bootstrap @ ..] = args else { panic!("PORT PAYLOAD [ADDRESS]") };
    let node = Node::start(port.parse().unwrap(), Path::new(payload), bootstrap).await;
    let at = node.peers.addresses();
    say(&format!("at {}", at.first().map_or("-", String::as_str)));
    for line in std::io::stdin().lock().lines() {
        let line = line.unwrap();
        let words: Vec<_> = line.split(' ').collect();
        let number = |at: usize| words[at].parse::<usize>().unwrap();
        let answer = match words[0] {
            "put" => node.put(words[1], number(2), number(3), number(4)).await,
            "see" => node.see(words[1], number(2), number(3), Duration::from_millis(number(4) as u64)).await,
            "peers" => format!("peers {}", node.peers.report().connected),
            other => panic!("unknown line: {other}"),
        };
        say(&answer);
    }
}

fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}").and_then(|()| out.flush()).unwrap();
}

impl Node {
    async fn start(port: u16, payload: &Path, bootstrap: &[String]) -> Self {
        let secret = Secret::parse(&std::env::var(SECRET).unwrap()).unwrap();
        let writers = secret.derive_for_writers("bench writers").map(|key| *key);
        let key = NetworkKey::new(*secret.derive("bench network"), writers, *secret.id().as_bytes());
        let builder = Peers::builder(key);
        let builder = if bootstrap.is_empty() {
            let loopback = vec![Ipv4Addr::LOCALHOST.into()];
            builder.role(RoleChoice::Anchor).listen_ips(loopback).listen_port(Some(port))
        } else {
            builder.bootstrap(bootstrap.iter().map(|address| address.parse().unwrap()).collect())
        };
        let peers = builder.start().await.unwrap();
        // The original does not compress either.
        let sealed = Sealed::builder(secret, peers.clone()).compression(false).build();
        let versions = VersionClock::new(NodeId::random().unwrap());
        Self { peers, sealed, versions, payload: std::fs::read(payload).unwrap().into() }
    }

    fn value(&self, number: usize, bytes: usize) -> Bytes {
        let first = number * STRIDE % (self.payload.len() - bytes);
        self.payload.slice(first..first + bytes)
    }

    async fn put(&self, prefix: &str, first: usize, count: usize, bytes: usize) -> String {
        for number in first..first + count {
            let now = SystemClock::new().now();
            let entry = Entry::builder(self.value(number, bytes), self.versions.next(now), now);
            let entry = entry.fresh_for(LIFETIME).build().unwrap();
            self.sealed.put(&name(prefix, number), entry).await.unwrap();
        }
        "put".to_owned()
    }

    async fn see(&self, prefix: &str, count: usize, bytes: usize, limit: Duration) -> String {
        let (mut missing, mut first, begin) = ((0..count).collect::<Vec<_>>(), None, Instant::now());
        loop {
            let (look, mut absent) = (Instant::now(), Vec::new());
            for number in missing {
                match self.sealed.get(&name(prefix, number)).await.unwrap() {
                    None => absent.push(number),
                    Some(entry) => {
                        let expected = self.value(number, bytes);
                        assert_eq!(*entry.value(), expected, "{prefix}-{number}");
                        first = Some(first.map_or(number, |first: usize| first.min(number)));
                    }
                }
            }
            missing = absent;
            if missing.is_empty() || begin.elapsed() >= limit {
                let first = first.map_or("-".to_owned(), |first| first.to_string());
                return format!("seen {} {first}", count - missing.len());
            }
            tokio::time::sleep(REST.max(REST_FACTOR * look.elapsed())).await;
        }
    }
}

fn name(prefix: &str, number: usize) -> Key {
    Key::new(format!("{prefix}-{number}")).unwrap()
}
