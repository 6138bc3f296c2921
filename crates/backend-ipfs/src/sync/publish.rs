//! Publishes what was written, and the root once in a while.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, sleep_until};

use super::message::{LINKS, Link, Message};
use super::reconnect::own_addresses;
use super::shared::Shared;
use crate::report::add;
use crate::rpc::Trouble;

/// About how often the root is published.
const BEAT: Duration = Duration::from_secs(2);
/// The least time between two beats: while the other nodes' roots are not known, and when they ask
/// for ours.
const SHORTEST_BEAT: Duration = Duration::from_millis(500);
/// How often a publication is tried that overtook another one of the same node.
const ATTEMPTS: u32 = 5;
/// How long it waits before the second attempt.
const PAUSE: Duration = Duration::from_millis(5);

/// One publication after the other: the node refuses those that overtake each other.
pub(super) async fn run(shared: Arc<Shared>, mut queue: mpsc::Receiver<Link>) {
    let mut links = Vec::with_capacity(LINKS);
    let mut next = Instant::now();
    let mut last = next;
    loop {
        tokio::select! {
            count = queue.recv_many(&mut links, LINKS) => {
                if count == 0 {
                    return;
                }
                let message = Message { links: std::mem::take(&mut links), ..Message::default() };
                let sent = send(&shared, &message).await;
                shared.done(count);
                match sent {
                    Ok(()) => add(&shared.counters.announced, count as u64),
                    Err(trouble) => {
                        add(&shared.counters.dropped, count as u64);
                        shared.failed(trouble);
                    }
                }
            }
            () = due(&shared, next, last) => {
                if let Err(trouble) = beat(&shared).await {
                    shared.failed(trouble);
                }
                last = Instant::now();
                // From a half to one and a half, so that nodes spread.
                let part = f64::from(shared.store.clock.monotonic().subsec_nanos() % 1000) / 1000.0;
                let pause = if shared.asking.load(Ordering::Acquire) > 0 { SHORTEST_BEAT } else { BEAT };
                next = last + pause.mul_f64(0.5 + part);
            }
        }
    }
}

/// Waits for the next beat: its time, or that somebody asks for it.
async fn due(shared: &Shared, next: Instant, last: Instant) {
    tokio::select! {
        () = sleep_until(next) => {}
        () = shared.asked.notified() => sleep_until(last + SHORTEST_BEAT).await,
    }
}

/// Publishes the root, unless another process on the same node just did.
async fn beat(shared: &Shared) -> Result<(), Trouble> {
    if shared.store.check_version(peercache_api::Operation::Open).await.is_err() {
        // The listener says why.
        return Ok(());
    }
    let asking = shared.asking.load(Ordering::Acquire);
    let asks = asking > 0;
    // A root that was heard meanwhile has set it to zero, which stays.
    let _heard =
        shared.asking.compare_exchange(asking, asking.saturating_sub(1), Ordering::AcqRel, Ordering::Acquire);
    if !asks && shared.peers.own_root_is_known(BEAT) {
        return Ok(());
    }
    let Some(folder) = shared.store.node.folder(&shared.store.layout.root()).await? else { return Ok(()) };
    let addresses = own_addresses(shared).await?;
    send(shared, &Message { root: Some(folder.cid), addresses, asks, ..Message::default() }).await
}

async fn send(shared: &Shared, message: &Message) -> Result<(), Trouble> {
    if !shared.sealer.can_seal() {
        return Ok(());
    }
    let sealed = match shared.sealer.seal(message.encode()).await {
        Ok(sealed) => sealed,
        Err(error) => return Err(Trouble::Unreadable(error.to_string())),
    };
    for attempt in 0..ATTEMPTS {
        match shared.store.node.publish(&shared.topic, sealed.clone()).await {
            Err(Trouble::PublicationOvertaken) if attempt + 1 < ATTEMPTS => {
                add(&shared.counters.repeated, 1);
                sleep(PAUSE * (attempt + 1)).await;
            }
            done => return done,
        }
    }
    Ok(())
}
