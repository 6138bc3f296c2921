//! Our side: an anchor in another process that holds the entries, and a leaf in this one that reads
//! them over the backend's own trait, with every check that it makes.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use peercache_api::{CacheBackend as _, Clock as _, Entry, Key, NodeId, SystemClock, VersionClock};
use peercache_libp2p::{NetworkKey, Peers, RoleChoice};

use crate::load::{Load, Side, once};

/// How many keys there are of each size.
const KEYS: usize = 16;

fn key() -> NetworkKey {
    NetworkKey::new([1; 32], Some([2; 32]), *b"benchnet")
}

/// Holds entries until it is killed.
pub(crate) async fn serve() {
    let anchor = Peers::builder(key())
        .role(RoleChoice::Anchor)
        .listen_ips(vec![Ipv4Addr::LOCALHOST.into()])
        .listen_port(Some(0))
        .start()
        .await
        .unwrap();
    println!("{}", anchor.addresses()[0]);
    std::future::pending::<()>().await;
}

pub(crate) struct Client {
    peers: Peers,
    turn: AtomicUsize,
    absent: Vec<Key>,
}

fn name(bytes: usize, number: usize) -> Key {
    Key::new(format!("{bytes} bytes, {number}")).unwrap()
}

impl Client {
    /// Stores entries of these sizes at the anchor.
    pub(crate) async fn connect(address: &str, sizes: &[usize]) -> Self {
        let peers = Peers::builder(key()).bootstrap(vec![address.parse().unwrap()]).start().await.unwrap();
        let (clock, versions) = (SystemClock::new(), VersionClock::new(NodeId::random().unwrap()));
        for &bytes in sizes {
            for number in 0..KEYS {
                let now = clock.now();
                let entry = Entry::builder(vec![7; bytes], versions.next(now), now);
                let entry = entry.fresh_for(Duration::from_secs(3600)).build().unwrap();
                peers.put(&name(bytes, number), entry).await.unwrap();
            }
        }
        let absent = (0..KEYS).map(|number| name(0, number)).collect();
        Self { peers, turn: AtomicUsize::new(0), absent }
    }

    pub(crate) async fn hit(&self, bytes: usize) {
        let number = self.turn.fetch_add(1, Ordering::Relaxed) % KEYS;
        let entry = self.peers.get(&name(bytes, number)).await.unwrap();
        assert_eq!(entry.unwrap().value().len(), bytes);
    }

    pub(crate) async fn miss(&self) {
        let number = self.turn.fetch_add(1, Ordering::Relaxed) % KEYS;
        assert_eq!(self.peers.get(&self.absent[number]).await.unwrap(), None);
    }
}

/// Small reads, one at a time, while four of 1 MiB are always under way.
pub(crate) async fn mixed(client: &Arc<Client>, span: Duration) -> Load {
    let large = {
        let client = Arc::clone(client);
        Side::new(move || {
            let client = Arc::clone(&client);
            async move { client.hit(1024 * 1024).await }
        })
    };
    let small = {
        let client = Arc::clone(client);
        Side::new(move || {
            let client = Arc::clone(&client);
            async move { client.hit(1024).await }
        })
    };
    let background = tokio::spawn(async move { once(&large, 4, span + Duration::from_millis(200)).await });
    tokio::time::sleep(Duration::from_millis(100)).await;
    let load = once(&small, 1, span).await;
    background.await.unwrap();
    load
}
