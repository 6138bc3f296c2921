//! Where the core meets the world: whoever has news calls the core, and does what it says.
//!
//! One lock guards the core, the links and the operations that wait. It is held for microseconds
//! and never across an await. Lanes hand over what came together, so a hundred small messages take
//! the lock once and leave in one write.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, Weak};
use std::time::Duration;

use bytes::Bytes;
use peercache_api::{Clock as _, CorrectedClock, RemovalWatcher, Timestamp, envelope};
use tokio::sync::{Notify, mpsc, oneshot, watch};
use tokio::time::Instant;

use super::bootstrap::BootstrapReport;
use super::budget::Budget;
use super::hello::Greeting;
use super::keeper::Keeper;
use super::lane::Traffic;
use super::link::{Link, QueueLimits};
use super::tally::{Connections, Tally};
use crate::core::{Action, Event, Hello, Node, NodeReport, Now, OpId, Outcome, Role, Settings};
use crate::network_key::NetworkKey;
use crate::wire::{KeyId, Message, PeerKey};

/// A timer that is due this little earlier than the one that is set is not worth waking for.
const TIMER_GRAIN: Duration = Duration::from_micros(500);

/// From so many operations on, lanes wait for others to ask before they write.
const CROWD: usize = 4;

/// What the swarm's task is asked to do.
#[derive(Debug)]
pub(crate) enum Command {
    /// See [`Action::Dial`].
    Dial { peer: PeerKey, addresses: Vec<String> },
    /// See [`Action::Probe`].
    Probe { peer: PeerKey, addresses: Vec<String> },
}

/// The watchers of removals.
pub(crate) type Watcher = Weak<dyn RemovalWatcher>;

/// How the driver is set up.
#[derive(Clone, Debug)]
pub(crate) struct Setup {
    pub(crate) key: NetworkKey,
    pub(crate) role: Role,
    /// Random for each process.
    pub(crate) instance: u64,
    pub(crate) queues: QueueLimits,
    /// The most bytes that wait to be sent, over all peers.
    pub(crate) send_bytes: usize,
    /// The most bytes of messages that have arrived in part, over all peers.
    pub(crate) receive_bytes: usize,
}

/// The core with all that it needs to act.
pub(crate) struct Engine {
    pub(crate) me: PeerKey,
    pub(crate) setup: Setup,
    pub(crate) tally: Tally,
    /// Where an anchor keeps what it holds.
    pub(crate) keeper: Option<Arc<Keeper>>,
    pub(crate) arriving: Arc<Budget>,
    leaving: Arc<Budget>,
    crowded: Arc<AtomicBool>,
    clock: Arc<CorrectedClock>,
    /// Waiting is measured from here, by tokio's clock, as all waiting in the driver is.
    origin: Instant,
    state: Mutex<State>,
    timer: Notify,
    commands: mpsc::Sender<Command>,
    watchers: RwLock<Vec<Watcher>>,
    /// How many peers are connected.
    connected: watch::Sender<usize>,
    addresses: RwLock<Addresses>,
    targets: RwLock<Vec<BootstrapReport>>,
}

/// Where this node says that it can be dialled.
#[derive(Clone, Debug, Default)]
pub(crate) struct Addresses {
    /// Told to those who are on another machine.
    pub(crate) public: Vec<String>,
    /// Told to those on this machine.
    pub(crate) local: Vec<String>,
}

struct State {
    node: Node,
    links: HashMap<PeerKey, Arc<Link>>,
    /// Peers that this node greets as the dialler.
    greeting: HashSet<PeerKey>,
    ops: HashMap<OpId, oneshot::Sender<Outcome>>,
    next_op: u64,
    /// For when the timer's task is set.
    armed: Option<Duration>,
    actions: Vec<Action>,
    unsent: Vec<Event>,
}

/// What is done when the lock is free again.
#[derive(Default)]
struct After {
    wake: Vec<Arc<Link>>,
    commands: Vec<Command>,
    /// The envelopes of tombstones.
    removed: Vec<Bytes>,
    dropped: u64,
    kept: Vec<(Bytes, bool)>,
    recalls: Vec<KeyId>,
}

impl Engine {
    pub(crate) fn new(
        me: PeerKey,
        setup: Setup,
        capacity: usize,
        keeper: Option<Arc<Keeper>>,
        clock: Arc<CorrectedClock>,
        commands: mpsc::Sender<Command>,
    ) -> Self {
        let origin = Instant::now();
        let settings = Settings {
            me,
            role: setup.role,
            placement: setup.key.placement(),
            capacity,
            keeps: keeper.is_some(),
            checks_writers: setup.key.can_write(),
            seed: setup.instance,
        };
        let node = Node::new(settings, Now { mono: Duration::ZERO, wall: clock.uncorrected() });
        Self {
            me,
            tally: Tally::default(),
            keeper,
            arriving: Arc::new(Budget::new(setup.receive_bytes)),
            leaving: Arc::new(Budget::new(setup.send_bytes)),
            crowded: Arc::default(),
            setup,
            clock,
            origin,
            state: Mutex::new(State::new(node)),
            timer: Notify::new(),
            commands,
            watchers: RwLock::default(),
            connected: watch::Sender::new(0),
            addresses: RwLock::default(),
            targets: RwLock::default(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.node.passed = Some(self.clock.monotonic());
        state
    }

    pub(crate) fn now(&self) -> Now {
        Now { mono: self.origin.elapsed(), wall: self.clock.uncorrected() }
    }

    /// The time that the network goes by.
    pub(crate) fn wall(&self) -> Timestamp {
        self.clock.now()
    }

    pub(crate) const fn clock(&self) -> &Arc<CorrectedClock> {
        &self.clock
    }

    /// Begins an operation. Its outcome may be there at once.
    pub(crate) fn begin(&self, event: impl FnOnce(OpId) -> Event) -> (OpId, oneshot::Receiver<Outcome>) {
        let (sender, receiver) = oneshot::channel();
        let mut after = After::default();
        let mut state = self.lock();
        state.next_op += 1;
        let op = OpId(state.next_op);
        state.ops.insert(op, sender);
        state.step(self.now(), event(op), &mut after);
        self.done(state, after);
        (op, receiver)
    }

    /// Nobody waits for the operation any more.
    pub(crate) fn cancel(&self, op: OpId) {
        let mut state = self.lock();
        if state.ops.remove(&op).is_some() {
            let mut after = After::default();
            state.step(self.now(), Event::Cancel { op }, &mut after);
            self.done(state, after);
        }
    }

    /// Tells the core.
    pub(crate) fn tell(&self, event: Event) {
        let mut after = After::default();
        let mut state = self.lock();
        state.step(self.now(), event, &mut after);
        self.done(state, after);
    }

    /// Takes what came over `link`, all of it.
    pub(crate) fn received(&self, link: &Arc<Link>, messages: &mut Vec<Message>) {
        let mut after = After::default();
        let mut state = self.lock();
        if !state.is_current(link) {
            return messages.clear();
        }
        let now = self.now();
        link.heard_at(now.mono);
        for message in messages.drain(..) {
            state.step(now, Event::Message { peer: link.peer, message }, &mut after);
        }
        self.done(state, after);
    }

    /// Frees the lock and does what was put off.
    fn done(&self, mut state: MutexGuard<'_, State>, after: After) {
        let next = state.node.wakes_at();
        let sooner = match (next, state.armed) {
            (Some(next), Some(armed)) => next + TIMER_GRAIN < armed,
            (next, None) => next.is_some(),
            (None, _) => false,
        };
        if sooner {
            state.armed = next;
        }
        self.crowded.store(state.ops.len() >= CROWD, Ordering::Relaxed);
        self.clock.correct(state.node.correction());
        drop(state);
        if sooner {
            self.timer.notify_one();
        }
        for link in &after.wake {
            link.wake();
        }
        self.tally.dropped.add(after.dropped);
        for command in after.commands {
            if let Err(refused) = self.commands.try_send(command) {
                self.not_dialled(refused.into_inner());
            }
        }
        if let Some(keeper) = &self.keeper {
            for (envelope, is_first) in after.kept {
                keeper.keep(envelope, is_first);
            }
            for key in after.recalls {
                if !keeper.recall(key) {
                    self.tell(Event::Recalled { key, envelope: None });
                }
            }
        }
        if !after.removed.is_empty() {
            self.tell_watchers(after.removed);
        }
    }

    fn tell_watchers(&self, removed: Vec<Bytes>) {
        let watchers: Vec<_> = {
            let known = self.watchers.read().unwrap_or_else(PoisonError::into_inner);
            known.iter().filter_map(Weak::upgrade).collect()
        };
        // The core has read them already, so they are whole.
        for (key, tombstone) in removed.into_iter().filter_map(|it| envelope::decode_unkeyed(it).ok()) {
            watchers.iter().for_each(|watcher| watcher.removed(&key, &tombstone));
        }
    }

    /// The swarm has too much to do, or is gone.
    fn not_dialled(&self, command: Command) {
        let (Command::Dial { peer, .. } | Command::Probe { peer, .. }) = command;
        self.tell(Event::Dialled { peer, reached: false });
    }

    /// Runs the core's timers for ever.
    pub(crate) async fn run_timers(&self) {
        loop {
            let next = {
                let mut state = self.lock();
                state.armed = state.node.wakes_at();
                state.armed
            };
            let Some(next) = next else {
                self.timer.notified().await;
                continue;
            };
            tokio::select! {
                () = tokio::time::sleep_until(self.origin + next) => self.tell(Event::Tick),
                () = self.timer.notified() => {}
            }
        }
    }

    /// Whether this node should greet a peer that it has dialled. If so, [`Engine::greeted`] is to
    /// be called when that has ended.
    pub(crate) fn greets(&self, peer: PeerKey) -> bool {
        let now = self.origin.elapsed();
        let mut state = self.lock();
        let suffices = state.links.get(&peer).is_some_and(|link| link.suffices(self.me, now));
        !suffices && state.greeting.insert(peer)
    }

    pub(crate) fn greeted(&self, peer: PeerKey) {
        self.lock().greeting.remove(&peer);
    }

    /// What this node says of itself to a peer that is, or is not, on this machine.
    pub(crate) fn greeting(&self, nonce: [u8; 32], nearby: bool) -> Greeting {
        let addresses = self.addresses();
        let now = self.now();
        let (since, clock) = {
            let state = self.lock();
            (state.node.removals_since(now), state.node.clock_reading(now.wall))
        };
        Greeting {
            role: self.setup.role,
            nonce,
            instance: self.setup.instance,
            removals_since: Some(since),
            clock,
            keys: self.setup.key.ring().map(|key| key.id()).collect(),
            addresses: if nearby { addresses.local } else { addresses.public },
        }
    }

    pub(crate) fn addresses(&self) -> Addresses {
        self.addresses.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn set_addresses(&self, addresses: Addresses) {
        *self.addresses.write().unwrap_or_else(PoisonError::into_inner) = addresses;
    }

    pub(crate) fn targets(&self) -> Vec<BootstrapReport> {
        self.targets.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn set_targets(&self, targets: Vec<BootstrapReport>) {
        *self.targets.write().unwrap_or_else(PoisonError::into_inner) = targets;
    }

    /// A peer has proved itself. `None` when another connection with it is kept instead.
    pub(crate) fn connect(
        &self,
        of: (PeerKey, bool, u64),
        remote: String,
        hello: Hello,
    ) -> Option<Arc<Link>> {
        let (peer, dialled, instance) = of;
        let now = self.now();
        let mut after = After::default();
        let mut state = self.lock();
        if state.links.get(&peer).is_some_and(|link| link.outlasts(self.me, dialled, instance, now.mono)) {
            return None;
        }
        let traffic = Traffic { crowded: Arc::clone(&self.crowded), ..Traffic::default() };
        let link = Arc::new(Link::new(of, remote, self.setup.queues, &self.leaving, traffic));
        link.heard_at(now.mono);
        if let Some(old) = state.links.insert(peer, Arc::clone(&link)) {
            self.tally.duplicates.up();
            old.close("another connection with this peer took its place");
            state.step(now, Event::Disconnected { peer }, &mut after);
        }
        state.step(now, Event::Connected { peer, hello, dialled }, &mut after);
        self.connected.send_replace(state.links.len());
        self.done(state, after);
        Some(link)
    }

    /// The connection has ended.
    pub(crate) fn disconnect(&self, link: &Arc<Link>) {
        link.small.close();
        link.bulk.close();
        let mut after = After::default();
        let mut state = self.lock();
        if state.is_current(link) {
            state.links.remove(&link.peer);
            state.step(self.now(), Event::Disconnected { peer: link.peer }, &mut after);
        }
        self.connected.send_replace(state.links.len());
        self.done(state, after);
    }

    pub(crate) fn is_connected(&self, peer: PeerKey) -> bool {
        self.lock().links.contains_key(&peer)
    }

    /// Waits until a peer is connected. May be cancelled.
    pub(crate) async fn anybody(&self) {
        // An error says that the sender is gone, which is `self`.
        let _ = self.connected.subscribe().wait_for(|connected| *connected > 0).await;
    }

    /// What the connections went through.
    pub(crate) fn connections(&self) -> Connections {
        Connections { passed_over: self.arriving.refusals(), ..self.tally.read() }
    }

    /// Bytes that wait to be sent.
    pub(crate) fn unsent(&self) -> usize {
        self.leaving.used()
    }

    /// Bytes that an anchor has not stored yet.
    pub(crate) fn unkept(&self) -> usize {
        self.keeper.as_ref().map_or(0, |keeper| keeper.unkept())
    }

    /// Takes back what was stored before this process. Says whether there was room for it.
    pub(crate) fn restore(&self, envelope: Bytes) -> bool {
        let mut state = self.lock();
        state.node.restore(self.now(), envelope, false)
    }

    pub(crate) fn is_of_use(&self) -> bool {
        self.lock().node.is_of_use()
    }

    pub(crate) fn watch_removals(&self, watcher: Watcher) {
        let mut watchers = self.watchers.write().unwrap_or_else(PoisonError::into_inner);
        watchers.retain(|known| known.strong_count() > 0);
        watchers.push(watcher);
    }

    pub(crate) fn report(&self) -> (NodeReport, HashMap<PeerKey, Arc<Link>>) {
        let state = self.lock();
        (state.node.report(self.now()), state.links.clone())
    }

    /// Fails everything that waits: nobody will answer any more.
    pub(crate) fn stop(&self) {
        let mut state = self.lock();
        state.ops.clear();
        state.links.values().for_each(|link| link.close("this node stopped"));
    }
}

impl fmt::Debug for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Engine").field("me", &self.me).finish_non_exhaustive()
    }
}

impl State {
    fn new(node: Node) -> Self {
        Self {
            node,
            links: HashMap::new(),
            greeting: HashSet::new(),
            ops: HashMap::new(),
            next_op: 0,
            armed: None,
            actions: Vec::new(),
            unsent: Vec::new(),
        }
    }

    fn is_current(&self, link: &Arc<Link>) -> bool {
        self.links.get(&link.peer).is_some_and(|current| Arc::ptr_eq(current, link))
    }

    fn step(&mut self, now: Now, event: Event, after: &mut After) {
        let mut next = Some(event);
        while let Some(event) = next {
            self.node.step(now, event, &mut self.actions);
            let mut actions = std::mem::take(&mut self.actions);
            for action in actions.drain(..) {
                self.act(action, after);
            }
            // The memory of the list is used again.
            self.actions = actions;
            next = self.unsent.pop();
        }
    }

    fn act(&mut self, action: Action, after: &mut After) {
        match action {
            Action::Send { peer, message } => {
                let Some(link) = self.links.get(&peer) else {
                    return self.unsent.push(Event::NotSent { peer, message });
                };
                if let Err(message) = link.push(message) {
                    return self.unsent.push(Event::NotSent { peer, message });
                }
                if !after.wake.iter().any(|woken| Arc::ptr_eq(woken, link)) {
                    after.wake.push(Arc::clone(link));
                }
            }
            Action::Done { op, outcome } => {
                // Whoever waited may have gone meanwhile.
                let _ = self.ops.remove(&op).map(|waiting| waiting.send(outcome));
            }
            Action::Dial { peer, addresses } => after.commands.push(Command::Dial { peer, addresses }),
            Action::Probe { peer, addresses } => after.commands.push(Command::Probe { peer, addresses }),
            Action::Drop { peer, why } => {
                if let Some(link) = self.links.remove(&peer) {
                    after.dropped += 1;
                    link.close(why);
                }
            }
            Action::Keep { envelope, is_first } => after.kept.push((envelope, is_first)),
            Action::Recall { key } => after.recalls.push(key),
            Action::Removed { envelope, .. } => after.removed.push(envelope),
        }
    }
}
