//! What fleets go through.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use peercache_api::{Key, Version, envelope};

use super::traffic::Traffic;
use super::world::{DEADLINE, Rng, Weather, World};
use crate::core::{OpId, Outcome, Role};
use crate::wire::KeyId;

/// How long a healed fleet may take until everyone agrees.
const HEALS: Duration = Duration::from_secs(30);
/// How long a fleet takes to come together before anything is measured.
const GATHERS: Duration = Duration::from_secs(15);

/// A fleet to simulate.
#[derive(Clone, Copy, Debug)]
pub struct Fleet {
    /// All nodes, anchors included.
    pub nodes: usize,
    /// How many of them are anchors.
    pub anchors: usize,
    /// Decides everything that is left to chance.
    pub seed: u64,
}

impl Fleet {
    /// A fleet with one anchor in 20 nodes, from 2 to 64.
    #[must_use]
    pub fn of(nodes: usize, seed: u64) -> Self {
        Self { nodes, anchors: (nodes / 20).clamp(2, 64).min(nodes), seed }
    }
}

/// What became of a fleet.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct Outcomes {
    /// Reads that should have found something, and did.
    pub hits: u64,
    /// Reads that should have found something, and found nothing.
    pub lost: u64,
    /// Reads that found something older than what was acknowledged.
    pub stale: u64,
    /// Reads that found what was removed.
    pub resurrected: u64,
    /// Reads that ended without an answer.
    pub failed: u64,
    /// Messages for one read that finds something.
    pub messages_per_hit: f64,
    /// Messages for one read that finds nothing.
    pub messages_per_miss: f64,
    /// Messages for one write.
    pub messages_per_put: f64,
    /// Messages for one removal, for each node.
    pub messages_per_removal_and_node: f64,
    /// The 50th percentile of how long reads took, in virtual time.
    pub read_p50: Duration,
    /// The 99th percentile.
    pub read_p99: Duration,
    /// Messages of membership and repair for each node and second while nobody reads or writes.
    pub idle_per_node_and_second: f64,
    /// Nodes whose ring was not the whole ring in the end.
    pub apart: u64,
}

impl fmt::Display for Outcomes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} hits, {} lost, {} stale, {} resurrected, {} failed, {} apart; read p50 {:.1?}, p99 {:.1?}",
            self.hits,
            self.lost,
            self.stale,
            self.resurrected,
            self.failed,
            self.apart,
            self.read_p50,
            self.read_p99,
        )?;
        // Only counted where nothing else goes on.
        if self.messages_per_put > 0.0 {
            write!(
                f,
                "; messages per hit {:.2}, miss {:.2}, put {:.2}, removal and node {:.2}, idle {:.2} per node and s",
                self.messages_per_hit,
                self.messages_per_miss,
                self.messages_per_put,
                self.messages_per_removal_and_node,
                self.idle_per_node_and_second,
            )?;
        }
        Ok(())
    }
}

/// What users did, and so what must be found.
#[derive(Default)]
struct Truth {
    /// By key: the newest write or removal that was acknowledged.
    newest: BTreeMap<KeyId, (Version, bool)>,
    /// Not yet acknowledged.
    pending: Vec<(usize, OpId, KeyId, Version, bool)>,
}

impl Truth {
    fn note(&mut self, at: usize, (op, version): (OpId, Version), key: KeyId, removal: bool) {
        self.pending.push((at, op, key, version, removal));
    }

    /// Takes note of what was acknowledged meanwhile.
    fn settle(&mut self, world: &mut World) {
        let newest = &mut self.newest;
        self.pending.retain(|(at, op, key, version, removal)| match world.take(*at, *op) {
            Some(done) => {
                let known = newest.get(key).map(|(version, _)| *version);
                if matches!(done.outcome, Outcome::Stored(1..)) && known < Some(*version) {
                    newest.insert(*key, (*version, *removal));
                }
                false
            }
            None => world.is_alive(*at),
        });
    }
}

struct Run {
    world: World,
    fleet: Fleet,
    truth: Truth,
    outcomes: Outcomes,
    took: Vec<Duration>,
    /// How long what is put lives.
    lifetime: Duration,
    /// What the users choose. Not the network's chance, so that both can be changed alone.
    users: Rng,
}

impl Run {
    fn begin(fleet: Fleet, weather: Weather) -> Self {
        let mut world = World::new(fleet.seed, weather);
        for number in 0..fleet.nodes {
            let (role, bootstrap) = if number < fleet.anchors {
                (Role::Anchor, vec![0, 1 % fleet.anchors])
            } else {
                (Role::Leaf, vec![world.rng.below(fleet.anchors), world.rng.below(fleet.anchors)])
            };
            world.add(role, bootstrap);
        }
        world.run(GATHERS);
        let (users, outcomes) = (Rng::new(!fleet.seed), Outcomes::default());
        let (truth, took, lifetime) = (Truth::default(), Vec::new(), Duration::from_secs(24 * 3600));
        Self { world, fleet, truth, outcomes, took, lifetime, users }
    }

    fn someone(&mut self) -> usize {
        loop {
            let at = self.users.below(self.world.len());
            if self.world.is_alive(at) {
                return at;
            }
        }
    }

    fn key(number: usize) -> Key {
        // Never empty, never long.
        Key::new(format!("key {number}")).unwrap_or_else(|_| unreachable!("a short text is a key"))
    }

    fn put(&mut self, at: usize, number: usize) {
        let key = Self::key(number);
        let op = self.world.put_for(at, &key, Some(&number.to_be_bytes()), self.lifetime);
        self.truth.note(at, op, KeyId::from(&key), false);
    }

    fn remove(&mut self, at: usize, number: usize) {
        let key = Self::key(number);
        let op = self.world.put(at, &key, None);
        self.truth.note(at, op, KeyId::from(&key), true);
    }

    /// Somebody writes the next key; one time in five somebody removes an old one, too.
    fn put_and_maybe_remove(&mut self, number: &mut usize) {
        let at = self.someone();
        self.put(at, *number);
        *number += 1;
        if *number > 50 && self.users.percent(20) {
            let (at, old) = (self.someone(), self.users.below(*number - 20));
            self.remove(at, old);
        }
    }

    /// Reads all of these and judges what is found.
    fn read(&mut self, reads: Vec<(usize, KeyId)>) {
        let mut asked = Vec::new();
        for chunk in reads.chunks(256) {
            for (at, key) in chunk {
                asked.push((*at, *key, self.world.get(*at, *key)));
            }
            self.world.run(Duration::from_millis(50));
        }
        self.world.run(DEADLINE + Duration::from_millis(1));
        for (at, key, op) in asked {
            let Some(done) = self.world.take(at, op) else {
                self.outcomes.failed += u64::from(self.world.is_alive(at));
                continue;
            };
            self.took.push(done.took);
            let expected = self.truth.newest.get(&key).copied();
            match (done.outcome, expected) {
                (Outcome::Found(found), Some(expected)) => self.judge(&found, expected),
                (Outcome::Absent, Some((_, true))) => self.outcomes.hits += 1,
                (Outcome::Absent, Some((_, false))) => self.outcomes.lost += 1,
                (Outcome::Absent | Outcome::Found(_), None) => {}
                _ => self.outcomes.failed += 1,
            }
        }
    }

    fn judge(&mut self, found: &Bytes, (version, removed): (Version, bool)) {
        match envelope::peek_version(found) {
            Ok(read) if read >= version => self.outcomes.hits += 1,
            Ok(_) if removed => self.outcomes.resurrected += 1,
            _ => self.outcomes.stale += 1,
        }
    }

    /// Reads every key that was written, each by a few nodes.
    fn read_everything(&mut self, readers: usize) {
        self.truth.settle(&mut self.world);
        let keys: Vec<_> = self.truth.newest.keys().copied().collect();
        let mut reads = Vec::new();
        for key in keys {
            for _ in 0..readers {
                reads.push((self.someone(), key));
            }
        }
        self.read(reads);
    }

    fn end(mut self) -> Outcomes {
        for at in 0..self.world.len() {
            let now = self.world.now_at(at);
            if let Some(node) = self.world.node(at) {
                let alive = (0..self.fleet.anchors).filter(|anchor| self.world.is_alive(*anchor)).count();
                self.outcomes.apart += u64::from(node.report(now).anchors != alive);
            }
        }
        self.took.sort_unstable();
        let at = |percent: usize| self.took.get(self.took.len().saturating_sub(1) * percent / 100).copied();
        self.outcomes.read_p50 = at(50).unwrap_or_default();
        self.outcomes.read_p99 = at(99).unwrap_or_default();
        self.outcomes
    }

    /// Messages per node and second while nothing happens.
    fn idle(&mut self) {
        let before = self.world.traffic;
        let span = Duration::from_secs(10);
        self.world.run(span);
        let sent = self.world.traffic.since(before).total();
        self.outcomes.idle_per_node_and_second = sent as f64 / self.fleet.nodes as f64 / span.as_secs_f64();
    }
}

fn each(traffic: u64, count: usize) -> f64 {
    traffic as f64 / count.max(1) as f64
}

/// A calm day: entries are put by some and read by others. What does a message cost?
#[must_use]
pub fn steady(fleet: Fleet) -> Outcomes {
    let weather = Weather {
        least: Duration::from_micros(500),
        most: Duration::from_millis(2),
        loss: 0,
        skew: Duration::from_millis(200),
    };
    let mut run = Run::begin(fleet, weather);
    let count = (fleet.nodes * 5).clamp(200, 5_000);
    let traffic = |run: &Run| -> Traffic { run.world.traffic };
    let before = traffic(&run);
    for number in 0..count {
        let at = run.someone();
        run.put(at, number);
        run.world.run(Duration::from_millis(1));
    }
    run.world.run(DEADLINE);
    run.outcomes.messages_per_put = each(traffic(&run).since(before).writes, count);
    run.truth.settle(&mut run.world);

    let before = traffic(&run);
    let reads = (0..count).map(|number| (run.someone(), KeyId::from(&Run::key(number)))).collect();
    run.read(reads);
    run.outcomes.messages_per_hit = each(traffic(&run).since(before).reads, count);

    let before = traffic(&run);
    let reads = (0..count).map(|number| (run.someone(), KeyId::from(&Run::key(count + number)))).collect();
    run.read(reads);
    run.outcomes.messages_per_miss = each(traffic(&run).since(before).reads, count);

    let before = traffic(&run);
    let removed = 20;
    for number in 0..removed {
        let at = run.someone();
        run.remove(at, number);
    }
    run.world.run(DEADLINE);
    run.outcomes.messages_per_removal_and_node =
        each(traffic(&run).since(before).removals, removed) / fleet.nodes as f64;
    run.read_everything(1);
    run.idle();
    run.end()
}

/// A bad five minutes: a fifth of the nodes is replaced every minute, an anchor starts anew every
/// 20 s, one packet in 20 is lost, a message takes 1 to 100 ms, clocks are up to a minute apart.
#[must_use]
pub fn churn(fleet: Fleet) -> Outcomes {
    let weather = Weather {
        least: Duration::from_millis(1),
        most: Duration::from_millis(100),
        loss: 5,
        skew: Duration::ZERO,
    };
    let mut run = Run::begin(fleet, weather);
    let leaves = fleet.nodes - fleet.anchors;
    let mut due = 0.0;
    let mut down: Vec<usize> = Vec::new();
    let mut number = 0;
    for second in 0..300 {
        for at in down.drain(..) {
            run.world.start(at, at >= fleet.anchors);
        }
        due += leaves as f64 * 0.2 / 60.0;
        while due >= 1.0 && leaves > 0 {
            due -= 1.0;
            let at = fleet.anchors + run.users.below(leaves);
            let heard = run.users.percent(50);
            if run.world.is_alive(at) {
                run.world.kill(at, heard);
                down.push(at);
            }
        }
        if second % 20 == 10 && fleet.anchors > 2 {
            let at = run.users.below(fleet.anchors);
            let heard = run.users.percent(50);
            run.world.kill(at, heard);
            down.push(at);
        }
        for _ in 0..4 {
            run.put_and_maybe_remove(&mut number);
            run.world.run(Duration::from_millis(250));
        }
        run.truth.settle(&mut run.world);
    }
    for at in down.drain(..) {
        run.world.start(at, at >= fleet.anchors);
    }
    run.world.run(HEALS);
    run.read_everything(1);
    run.end()
}

/// Clocks are set wrong, by up to 40 minutes either way, and right again: those of a fifth of the
/// leaves, and of one anchor where there are three or more. Entries live for 20 minutes, so that
/// whoever goes by a wrong time loses them, or is not believed.
#[must_use]
pub fn clocks(fleet: Fleet) -> Outcomes {
    let weather = Weather {
        least: Duration::from_millis(1),
        most: Duration::from_millis(20),
        loss: 1,
        skew: Duration::from_secs(2),
    };
    let mut run = Run::begin(fleet, weather);
    run.lifetime = Duration::from_secs(20 * 60);
    let (mut number, mut wrong) = (0, Vec::new());
    for _ in 0..6 {
        for at in wrong.drain(..) {
            run.world.set_clock(at, 0);
        }
        // With three anchors the middle one is right as long as no two change at once: the others
        // hear of it with the next answer to a ping.
        run.world.run(Duration::from_secs(5));
        let leaves = fleet.nodes - fleet.anchors;
        wrong.extend((0..leaves / 5).map(|_| fleet.anchors + run.users.below(leaves)));
        if fleet.anchors > 2 {
            wrong.push(run.users.below(fleet.anchors));
        }
        for at in &wrong {
            let millis = (run.users.below(40 * 60 * 1000) + 1) as i64;
            run.world.set_clock(*at, if run.users.percent(50) { millis } else { -millis });
        }
        // A node notices when it does something next, which is after 2 s at the latest.
        run.world.run(Duration::from_millis(2_500));
        for _ in 0..80 {
            run.put_and_maybe_remove(&mut number);
            run.world.run(Duration::from_millis(250));
        }
        run.world.run(DEADLINE);
        run.read_everything(2);
    }
    run.end()
}

/// Half of the fleet is cut off for five minutes while both halves write and remove the same keys.
#[must_use]
pub fn partition(fleet: Fleet) -> Outcomes {
    let weather = Weather {
        least: Duration::from_millis(1),
        most: Duration::from_millis(20),
        loss: 1,
        skew: Duration::from_secs(60),
    };
    let mut run = Run::begin(fleet, weather);
    const KEYS: usize = 300;
    for number in 0..KEYS {
        let at = run.someone();
        run.put(at, number);
    }
    run.world.run(DEADLINE);
    run.truth.settle(&mut run.world);
    run.world.split((0..fleet.nodes).filter(|at| at % 2 == 1));
    for _ in 0..300 {
        for _ in 0..4 {
            let (at, number) = (run.someone(), run.users.below(KEYS));
            if run.users.percent(30) { run.remove(at, number) } else { run.put(at, number) }
        }
        run.world.run(Duration::from_secs(1));
        run.truth.settle(&mut run.world);
    }
    run.world.heal();
    run.world.run(HEALS);
    run.read_everything(4);
    run.end()
}
