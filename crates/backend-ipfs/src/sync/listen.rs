//! Listens to what other nodes publish.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::StreamExt as _;
use peercache_api::Operation;
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};

use super::message::{Link, Message};
use super::reconnect::{learn_own_identity, reconnect_all};
use super::shared::{ASKING, Shared};
use crate::report::add;
use crate::rpc::{self, Trouble};

/// How long to wait before subscribing again; doubled up to the longest.
const FIRST_PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);
/// How long a subscription may be silent.
const IDLE: Duration = Duration::from_secs(60);

pub(super) async fn run(shared: Arc<Shared>, links: mpsc::Sender<Link>, roots: mpsc::Sender<String>) {
    let mut pause = FIRST_PAUSE;
    loop {
        match subscribe(&shared, &links, &roots, &mut pause).await {
            Ok(()) => {}
            Err(trouble) => shared.failed(trouble),
        }
        sleep(pause).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

/// Listens until the subscription ends, as it does when the node is restarted.
async fn subscribe(
    shared: &Shared,
    links: &mpsc::Sender<Link>,
    roots: &mpsc::Sender<String>,
    pause: &mut Duration,
) -> Result<(), Trouble> {
    if let Err(error) = shared.store.check_version(Operation::Open).await {
        return Err(Trouble::Other { status: 0, message: error.to_string() });
    }
    // A node that was killed may have lost links that were not flushed, so what was settled is to
    // be had again.
    shared.settled.clear();
    // One that was restarted has forgotten whom it was connected to.
    learn_own_identity(shared).await?;
    reconnect_all(shared).await;
    shared.asking.store(ASKING, Ordering::Release);
    shared.asked.notify_one();
    let mut messages = shared.store.node.subscribe(&shared.topic);
    // A subscription that says nothing for long is dead: our own beats come back by it.
    while let Ok(Some(message)) = timeout(IDLE, messages.next()).await {
        let message = message?;
        // The node hands our own back to us, so the first beat proves that it works.
        *pause = FIRST_PAUSE;
        shared.works();
        hear(shared, message, links, roots).await;
    }
    Ok(())
}

async fn hear(
    shared: &Shared,
    message: rpc::Message,
    links: &mpsc::Sender<Link>,
    roots: &mpsc::Sender<String>,
) {
    let own = shared.peers.is_own(&message.from);
    let Some(text) = shared.sealer.open(message.data).await else {
        add(&shared.counters.foreign, 1);
        return;
    };
    let Some(heard) = Message::decode(&text) else { return };
    if own {
        if heard.root.is_some() {
            shared.peers.note_own_root();
        }
        return;
    }
    shared.peers.note(&message.from, heard.addresses);
    for link in heard.links {
        add(&shared.counters.received, 1);
        if links.try_send(link).is_err() {
            add(&shared.counters.dropped, 1);
        }
    }
    if heard.asks {
        shared.asked.notify_one();
    }
    if let Some(root) = heard.root {
        shared.asking.store(0, Ordering::Release);
        // One that does not fit is followed by the next beat's.
        let _full = roots.try_send(root);
    }
}
