//! A peer that has the network's key and breaks the rules, against a node as users start it.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::io::{AsyncReadExt, AsyncWriteExt};
use libp2p::swarm::{Stream, SwarmEvent};
use peercache_api::SystemClock;
use tokio::sync::mpsc;

use super::greet::{Meeting, greet};
use super::handler::{LaneKind, Lanes};
use super::hello::Side;
use super::transport::build;
use super::*;
use crate::wire::PeerKey;
use crate::{Connections, Identity, NetworkKey, Peers, RoleChoice};

mod slow;
#[cfg(target_os = "linux")]
mod trickle;

const MIB: u32 = 1 << 20;

fn key() -> NetworkKey {
    NetworkKey::new([1; 32], Some([2; 32]), *b"testnet1")
}

async fn victim() -> Peers {
    let builder = Peers::builder(key()).role(RoleChoice::Anchor);
    builder.listen_ips(vec![Ipv4Addr::LOCALHOST.into()]).listen_port(Some(0)).start().await.unwrap()
}

async fn until(peers: &Peers, what: impl Fn(&Connections) -> bool) {
    let waiting = async {
        while !what(&peers.report().connections) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let waited = tokio::time::timeout(Duration::from_secs(30), waiting).await;
    assert!(waited.is_ok(), "it never happened: {:?}", peers.report().connections);
}

/// A connection that Noise has secured, and nothing more.
struct Rogue {
    engine: Arc<Engine>,
    lanes: Lanes,
    peer: PeerKey,
    /// Keeps the connection going.
    _swarm: tokio::task::JoinHandle<()>,
}

impl Rogue {
    async fn dial(victim: &Peers) -> Self {
        let identity = Identity::ephemeral().unwrap();
        let me = PeerKey::of(&identity.name().0).unwrap();
        let setup = Setup {
            key: key(),
            role: crate::core::Role::Leaf,
            instance: 1,
            queues: QueueLimits { small: 1 << 20, bulk: 1 << 20 },
            send_bytes: 1 << 20,
            receive_bytes: 1 << 20,
        };
        let clock = Arc::new(peercache_api::CorrectedClock::new(Arc::new(SystemClock::new())));
        let engine = Arc::new(Engine::new(me, setup, 1 << 20, None, clock, mpsc::channel(1).0));
        let plan = Plan {
            keypair: identity.keypair().clone(),
            listen: Vec::new(),
            bootstrap: Vec::new(),
            announce: Vec::new(),
            allowed: std::collections::HashSet::new(),
            limits: ConnectionLimits {
                half_open: HalfOpenLimits { total: 8, per_address: 8 },
                established: 8,
                per_peer: 8,
            },
            mdns: false,
        };
        let mut swarm = build(&plan, &engine).unwrap();
        let address: libp2p::Multiaddr = victim.addresses()[0].parse().unwrap();
        swarm.dial(address).unwrap();
        let lanes = loop {
            if let SwarmEvent::ConnectionEstablished { connection_id, .. } = swarm.select_next_some().await {
                break swarm.behaviour_mut().links.take_lanes(connection_id).unwrap();
            }
        };
        let swarm = tokio::spawn(async move { while swarm.next().await.is_some() {} });
        Self { engine, lanes, peer: PeerKey::of(&victim.name().0).unwrap(), _swarm: swarm }
    }

    /// The small lane and the bulk lane.
    async fn both(&mut self) -> (Stream, Stream) {
        let (one, other) = (self.lanes.recv().await.unwrap(), self.lanes.recv().await.unwrap());
        if one.0 == LaneKind::Small { (one.1, other.1) } else { (other.1, one.1) }
    }

    /// Both lanes after an honest handshake.
    async fn join(victim: &Peers) -> (Self, Stream, Stream) {
        let mut rogue = Self::dial(victim).await;
        let (mut small, bulk) = rogue.both().await;
        let key = key();
        let meeting = Meeting { key: &key, side: Side::Dialler, me: rogue.engine.me, peer: rogue.peer };
        let mine = rogue.engine.greeting([3; 32], true);
        assert!(greet(&mut small, &meeting, &mine).await.unwrap().1);
        (rogue, small, bulk)
    }
}

async fn write(stream: &mut Stream, bytes: &[u8]) {
    stream.write_all(bytes).await.unwrap();
    stream.flush().await.unwrap();
}

/// Reads until the other side has closed the stream.
async fn closed(stream: &mut Stream) {
    let mut bytes = [0; 4096];
    let ends = async { while stream.read(&mut bytes).await.is_ok_and(|read| read > 0) {} };
    tokio::time::timeout(Duration::from_secs(30), ends).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_declared_frame_of_64_mib_closes_the_connection_and_is_counted() {
    let victim = victim().await;
    let (_rogue, mut small, _bulk) = Rogue::join(&victim).await;
    until(&victim, |seen| seen.greeted == 1).await;
    write(&mut small, &(64 * MIB).to_be_bytes()).await;
    closed(&mut small).await;
    until(&victim, |seen| seen.dropped_too_long == 1).await;
    let (_rogue, mut small, mut bulk) = Rogue::join(&victim).await;
    let header: Vec<u8> = [1, 1, 64 * MIB].iter().flat_map(|field: &u32| field.to_be_bytes()).collect();
    write(&mut bulk, &header).await;
    closed(&mut small).await;
    until(&victim, |seen| seen.dropped_too_long == 2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bytes_that_are_no_message_close_the_connection_and_later_kinds_do_not() {
    let victim = victim().await;
    let (_rogue, mut small, _bulk) = Rogue::join(&victim).await;
    // A kind of a later version, then a ping, which is answered.
    let unknown = [&12_u32.to_be_bytes()[..], &[250; 12]].concat();
    let ping = [&10_u32.to_be_bytes()[..], &[72, 0], &7_u64.to_be_bytes()].concat();
    write(&mut small, &[unknown, ping].concat()).await;
    let mut heard: Vec<u8> = Vec::new();
    let pong = [&26_u32.to_be_bytes()[..], &[73, 0], &7_u64.to_be_bytes()].concat();
    while !heard.windows(pong.len()).any(|window| window == pong) {
        let mut bytes = [0; 4096];
        let read = small.read(&mut bytes).await.unwrap();
        assert!(read > 0);
        heard.extend(&bytes[..read]);
    }
    write(&mut small, &[0, 0, 0, 3, 16, 0, 0]).await;
    closed(&mut small).await;
    until(&victim, |seen| seen.dropped_malformed == 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_proof_is_refused_and_counted() {
    let victim = victim().await;
    let mut rogue = Rogue::dial(&victim).await;
    let (mut small, _bulk) = rogue.both().await;
    // It has the key of the network, and claims to write with another one.
    let forged = NetworkKey::new([1; 32], Some([9; 32]), *b"testnet1");
    let meeting = Meeting { key: &forged, side: Side::Dialler, me: rogue.engine.me, peer: rogue.peer };
    let mine = rogue.engine.greeting([3; 32], true);
    let _ = greet(&mut small, &meeting, &mine).await;
    closed(&mut small).await;
    until(&victim, |seen| seen.refused_proofs == 1).await;
    assert_eq!(victim.report().connected, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_says_something_else_than_hello_is_refused_and_counted() {
    let victim = victim().await;
    let mut rogue = Rogue::dial(&victim).await;
    let (mut small, _bulk) = rogue.both().await;
    write(&mut small, &[0xff; 5000]).await;
    closed(&mut small).await;
    until(&victim, |seen| seen.refused_malformed == 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_that_does_not_read_is_bounded_and_slows_nobody() {
    let victim = victim().await;
    let (_rogue, mut small, _bulk) = Rogue::join(&victim).await;
    let honest = Peers::builder(key()).bootstrap(vec![victim.addresses()[0].parse().unwrap()]);
    let honest = honest.start().await.unwrap();
    let value = vec![7; 4 << 20];
    let entries = peercache_api::VersionClock::new(peercache_api::NodeId::from_u64(1));
    let now = peercache_api::Clock::now(&SystemClock::new());
    let name = peercache_api::Key::new("k").unwrap();
    let entry = peercache_api::Entry::builder(value, entries.next(now), now);
    let entry = entry.fresh_for(Duration::from_secs(60)).build().unwrap();
    peercache_api::CacheBackend::put(&honest, &name, entry.clone()).await.unwrap();
    // It asks for it a thousand times, which makes 4 GiB, and takes nothing of it.
    for req in 0..1000_u64 {
        let get = [
            &46_u32.to_be_bytes()[..],
            &[16, 0],
            &req.to_be_bytes(),
            name.digest(),
            &60_000_u32.to_be_bytes(),
        ];
        write(&mut small, &get.concat()).await;
    }
    let bound = 32 << 20;
    for _ in 0..20 {
        assert!(victim.report().unsent_bytes <= bound + (4 << 20));
        let found = peercache_api::CacheBackend::get(&honest, &name).await.unwrap();
        assert!(found.is_some_and(|found| found == entry));
    }
    assert!(victim.report().counters.not_sent > 900, "{:?}", victim.report().counters);
}
