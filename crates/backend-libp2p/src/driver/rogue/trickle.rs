//! A peer that goes on asking for what is large and hardly takes any of it.

use std::process::Command;

use peercache_api::{CacheBackend as _, Clock as _, Entry, Key, MAX_VALUE_BYTES, NodeId, VersionClock};
use peercache_testkit::memory::resident_kib;

use super::slow::get;
use super::*;
use crate::Limits;

/// Reads at most a kilobyte a second, from each lane a half, and goes on asking for what is large.
/// Ends with the connection, and gives what the memory was at its highest, in KiB, and the most
/// that waited to be sent, in bytes.
async fn trickle(victim: &Peers, (mut small, mut bulk): (Stream, Stream), keys: &[Key]) -> (u64, usize) {
    const PIECE: usize = 50;
    let (mut most, mut waited) = (0, 0);
    for (req, key) in (1..).zip(keys.iter().cycle()) {
        for lane in [&mut small, &mut bulk] {
            let mut piece = [0; PIECE];
            let reading = tokio::time::timeout(Duration::from_millis(1), lane.read(&mut piece));
            if let Ok(Ok(0) | Err(_)) = reading.await {
                return (most, waited);
            }
        }
        if small.write_all(&get(req, key)).await.is_err() || small.flush().await.is_err() {
            return (most, waited);
        }
        most = most.max(resident_kib(std::process::id()).unwrap());
        waited = waited.max(victim.report().unsent_bytes);
        // Ten pieces from each lane in a second of real time: that rate is what is tried, over real
        // sockets.
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    unreachable!("it asks for ever");
}

/// In a process of its own, so that the memory of no other test is counted.
#[test]
fn a_peer_that_reads_a_kilobyte_a_second_leaves_memory_flat_and_is_dropped() {
    const CHILD: &str = "PEERCACHE_TRICKLE_CHILD";
    const NAME: &str =
        "driver::rogue::trickle::a_peer_that_reads_a_kilobyte_a_second_leaves_memory_flat_and_is_dropped";
    const VALUES: usize = 6;
    /// One value on its way in chunks, what Yamux lets be sent ahead, and what an allocator keeps.
    const MOST_KIB: u64 = 16 << 10;
    if std::env::var_os(CHILD).is_none() {
        let mut child = Command::new(std::env::current_exe().unwrap());
        let output = child.args(["--exact", NAME, "--nocapture"]).env(CHILD, "1").output().unwrap();
        let printed = String::from_utf8_lossy(&output.stdout);
        println!("{printed}\n{}", String::from_utf8_lossy(&output.stderr));
        assert!(
            output.status.success() && printed.contains("KiB before"),
            "the child did not get to its end"
        );
        return;
    }
    tokio::runtime::Runtime::new().unwrap().block_on(async {
        let victim = victim().await;
        let versions = VersionClock::new(NodeId::from_u64(1));
        let keys: Vec<_> = (0..VALUES).map(|at| Key::new(format!("value {at}")).unwrap()).collect();
        for key in &keys {
            let now = SystemClock::new().now();
            let entry = Entry::builder(vec![7; MAX_VALUE_BYTES], versions.next(now), now);
            victim.put(key, entry.fresh_for(Duration::from_secs(600)).build().unwrap()).await.unwrap();
        }
        let (_rogue, small, mut bulk) = Rogue::join(&victim).await;
        // Nothing, which makes the lane known.
        write(&mut bulk, &[0; 12]).await;
        let before = resident_kib(std::process::id()).unwrap();
        let (most, waited) =
            tokio::time::timeout(Duration::from_secs(60), trickle(&victim, (small, bulk), &keys))
                .await
                .expect("it is not borne for ever");
        let seen = victim.report();
        println!(
            "{before} KiB before, {most} KiB at the most, {waited} bytes waited at the most: {:?}",
            seen.connections
        );
        assert_eq!(seen.connections.dropped_slow, 1, "{:?}", seen.connections);
        assert!(
            waited > MAX_VALUE_BYTES && waited <= Limits::default().send_bytes_per_peer + MAX_VALUE_BYTES
        );
        assert!(most < before + MOST_KIB, "{before} KiB before, {most} KiB at the most");
        assert_eq!(seen.unsent_bytes, 0, "what waited went with the connection");
    });
}
