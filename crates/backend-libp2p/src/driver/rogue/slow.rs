//! A peer that asks for something large and does not take it.

use peercache_api::{CacheBackend as _, Clock as _, Entry, Key, MAX_VALUE_BYTES, NodeId, VersionClock};

use super::*;

const SMALL_READS: u64 = 200;

/// A message that asks for `key`, as it lies on the small lane.
pub(super) fn get(req: u64, key: &Key) -> Vec<u8> {
    let fields = [&[16, 0][..], &req.to_be_bytes(), key.digest(), &60_000_u32.to_be_bytes()].concat();
    [&u32::try_from(fields.len()).unwrap().to_be_bytes()[..], &fields].concat()
}

async fn number(stream: &mut Stream) -> usize {
    let mut bytes = [0; 4];
    stream.read_exact(&mut bytes).await.unwrap();
    u32::from_be_bytes(bytes) as usize
}

/// Reads the small lane up to the hit that answers `req`; its length.
async fn hit(small: &mut Stream, req: u64) -> usize {
    loop {
        let mut message = vec![0; number(small).await];
        small.read_exact(&mut message).await.unwrap();
        if message.first() == Some(&18) && message[2..10] == req.to_be_bytes() {
            return message.len();
        }
    }
}

/// Reads a chunk of the bulk lane: the length of its message, where it is the first one, and its
/// own.
async fn chunk(bulk: &mut Stream) -> (usize, usize) {
    let (length, _message, whole) = (number(bulk).await, number(bulk).await, number(bulk).await);
    bulk.read_exact(&mut vec![0; length]).await.unwrap();
    (whole, length)
}

#[tokio::test(flavor = "multi_thread")]
async fn small_reads_are_answered_while_a_large_answer_is_on_its_way() {
    let victim = victim().await;
    let honest = Peers::builder(key()).bootstrap(vec![victim.addresses()[0].parse().unwrap()]);
    let honest = honest.start().await.unwrap();
    let versions = VersionClock::new(NodeId::from_u64(1));
    let (large, little) = (Key::new("large").unwrap(), Key::new("little").unwrap());
    for (key, bytes) in [(&large, MAX_VALUE_BYTES), (&little, 1024)] {
        let now = SystemClock::new().now();
        let entry = Entry::builder(vec![7; bytes], versions.next(now), now);
        honest.put(key, entry.fresh_for(Duration::from_secs(60)).build().unwrap()).await.unwrap();
    }

    let (_rogue, mut small, mut bulk) = Rogue::join(&victim).await;
    // Nothing, which makes the lane known.
    write(&mut bulk, &[0; 12]).await;
    write(&mut small, &get(1, &large)).await;
    let (mut whole, mut taken) = (0, 0);
    while taken == 0 {
        (whole, taken) = chunk(&mut bulk).await;
    }
    assert!(whole > MAX_VALUE_BYTES);
    // It has begun, and nothing more of it is taken until all of these are answered.
    for req in 2..2 + SMALL_READS {
        write(&mut small, &get(req, &little)).await;
        let length = tokio::time::timeout(Duration::from_secs(30), hit(&mut small, req)).await.unwrap();
        assert!(length > 1024);
    }
    let waits = victim.report().unsent_bytes;
    assert!(waits > MAX_VALUE_BYTES / 4, "{waits} of {whole} bytes waited: it was not on its way any more");
    // And then it comes, whole.
    while taken < whole {
        taken += tokio::time::timeout(Duration::from_secs(30), chunk(&mut bulk)).await.unwrap().1;
    }
    assert_eq!(taken, whole);
}
