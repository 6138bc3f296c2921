//! Handshakes over a pipe in memory, with honest peers and others.

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex};
use tokio_util::compat::TokioAsyncReadCompatExt;

use super::*;
use crate::core::Role;
use crate::wire::ClockReading;
use peercache_api::Timestamp;

const DIALLER: PeerKey = PeerKey([1; 32]);
const LISTENER: PeerKey = PeerKey([2; 32]);

fn key(network: u8, writer: Option<u8>, id: u8) -> NetworkKey {
    NetworkKey::new([network; 32], writer.map(|byte| [byte; 32]), [id; 8])
}

fn greeting(key: &NetworkKey, nonce: u8) -> Greeting {
    Greeting {
        role: Role::Anchor,
        nonce: [nonce; 32],
        instance: 5,
        removals_since: None,
        clock: ClockReading { machine: Timestamp::from_millis(1_800_000_000_000), correction: 7 },
        keys: key.ring().map(|key| key.id()).collect(),
        addresses: vec!["/ip4/10.0.0.1/tcp/9100".into()],
    }
}

async fn side(
    stream: DuplexStream,
    side: Side,
    key: &NetworkKey,
    nonce: u8,
) -> Result<(Greeting, bool), Refused> {
    let (me, peer) = if side == Side::Dialler { (DIALLER, LISTENER) } else { (LISTENER, DIALLER) };
    greet(&mut stream.compat(), &Meeting { key, side, me, peer }, &greeting(key, nonce)).await
}

async fn meet(dialler: &NetworkKey, listener: &NetworkKey) -> [Result<bool, Refused>; 2] {
    let (a, b) = duplex(8192);
    let both = tokio::join!(side(a, Side::Dialler, dialler, 1), side(b, Side::Listener, listener, 2));
    [both.0.map(|(_, writer)| writer), both.1.map(|(_, writer)| writer)]
}

#[tokio::test]
async fn members_learn_what_the_other_says_of_itself() {
    let (a, b) = duplex(8192);
    let key = key(1, Some(2), 0);
    let (one, other) = tokio::join!(side(a, Side::Dialler, &key, 1), side(b, Side::Listener, &key, 2));
    assert_eq!(one, Ok((greeting(&key, 2), true)));
    assert_eq!(other, Ok((greeting(&key, 1), true)));
}

#[tokio::test]
async fn keys_decide_who_is_a_member_and_who_writes() {
    let (writer, reader, other) = (key(1, Some(2), 0), key(1, None, 0), key(3, Some(2), 0));
    assert_eq!(meet(&reader, &writer).await, [Ok(false), Ok(false)]);
    assert_eq!(meet(&other, &writer).await, [Err(Refused::Proof), Err(Refused::Proof)]);
    assert_eq!(meet(&key(1, Some(2), 9), &writer).await, [Err(Refused::Key), Err(Refused::Key)]);
    let rotating = key(4, Some(5), 1).with_old(writer.clone());
    assert_eq!(meet(&rotating, &writer).await, [Ok(true), Ok(true)]);
    assert_eq!(meet(&writer, &rotating).await, [Ok(true), Ok(true)]);
}

/// What an honest dialler sends: its HELLO and its proof, as a listener with `nonce` hears it.
async fn recorded(key: &NetworkKey, nonce: u8) -> Vec<u8> {
    let (a, b) = duplex(8192);
    let (mut c, d) = duplex(8192);
    let honest = side(a, Side::Dialler, key, 1);
    let listener = side(d, Side::Listener, key, nonce);
    let tap = async {
        let (mut from_dialler, mut to_dialler) = tokio::io::split(b);
        let mut all = Vec::new();
        let mut from_listener = vec![0; 8192];
        let mut piece = vec![0; 8192];
        while all.len() < greeting(key, 1).encode().len() + 2 + PROOF_BYTES {
            tokio::select! {
                read = from_dialler.read(&mut piece) => {
                    let read = read.unwrap();
                    all.extend(&piece[..read]);
                    c.write_all(&piece[..read]).await.unwrap();
                }
                read = c.read(&mut from_listener) => {
                    to_dialler.write_all(&from_listener[..read.unwrap()]).await.unwrap();
                }
            }
        }
        let read = c.read(&mut from_listener).await.unwrap();
        to_dialler.write_all(&from_listener[..read]).await.unwrap();
        all
    };
    let (one, other, all) = tokio::join!(honest, listener, tap);
    assert_eq!((one.map(|it| it.1), other.map(|it| it.1)), (Ok(true), Ok(true)));
    all
}

/// What a listener with `nonce` says to somebody who sends `bytes`, whatever it answers.
async fn played_to(key: &NetworkKey, nonce: u8, bytes: &[u8]) -> Result<bool, Refused> {
    let (mut a, b) = duplex(16 * 1024);
    a.write_all(bytes).await.unwrap();
    side(b, Side::Listener, key, nonce).await.map(|(_, writer)| writer)
}

#[tokio::test]
async fn a_replayed_handshake_is_refused() {
    let key = key(1, Some(2), 0);
    let record = recorded(&key, 2).await;
    assert_eq!(played_to(&key, 2, &record).await, Ok(true), "with the same nonce it would pass");
    assert_eq!(played_to(&key, 3, &record).await, Err(Refused::Proof));
}

#[tokio::test]
async fn a_handshake_altered_in_any_byte_is_refused() {
    let key = key(1, Some(2), 0);
    let record = recorded(&key, 2).await;
    let flags = record.len() - PROOF_BYTES;
    for at in 2..record.len() {
        let mut altered = record.clone();
        altered[at] ^= 0x40;
        // Flags of the proof that nobody knows yet are passed over.
        let expected = at == flags;
        assert_eq!(played_to(&key, 2, &altered).await.is_ok(), expected, "byte {at}");
    }
}

#[tokio::test]
async fn a_hello_that_is_none_is_refused() {
    let key = key(1, Some(2), 0);
    let long = [&5000_u16.to_be_bytes()[..], &[0; 5000]].concat();
    assert_eq!(played_to(&key, 2, &long).await, Err(Refused::Malformed));
    assert_eq!(played_to(&key, 2, &[0, 3, 9, 9, 9]).await, Err(Refused::Version(9)));
    assert_eq!(played_to(&key, 2, &[0, 3, 1, 0, 0]).await, Err(Refused::Malformed));
}

#[tokio::test(start_paused = true)]
async fn whoever_says_nothing_has_two_seconds() {
    let key = key(1, Some(2), 0);
    let begun = tokio::time::Instant::now();
    let (_silent, b) = duplex(8192);
    assert_eq!(side(b, Side::Listener, &key, 2).await, Err(Refused::TooSlow));
    assert_eq!(begun.elapsed(), HELLO_LIMIT);
}
