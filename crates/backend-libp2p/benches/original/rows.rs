//! What is measured: the same steps for both systems.

use std::time::{Duration, Instant};

use crate::lab::{ANSWER, Lab, Pair, System};
use crate::process::{Node, Trouble};
use crate::table::{Outcome, Row, median};

const KIB: usize = 1024;
/// About what a page of a list of workflow runs takes.
const SMALL: usize = 4 * KIB;
const PAUSE: Duration = Duration::from_millis(250);
/// For an entry that is put while nothing else happens.
const ARRIVE: Duration = Duration::from_secs(20);
/// For one larger value.
const LARGE_LIMIT: Duration = Duration::from_secs(10);
const BURST: usize = 300;
const BURST_LIMIT: Duration = Duration::from_secs(60);
/// What the joiner of a fleet could find.
const LATE: usize = 50;
/// The original looks after its connections once a minute, so a minute and a half is waited where
/// nothing arrives.
const ROUND: Duration = Duration::from_secs(90);
/// How long a caller may need to put all of a burst.
const PUT: Duration = Duration::from_secs(120);

/// How often each step is done.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Effort {
    pub(crate) paced: usize,
    pub(crate) rounds: usize,
}

/// A pair of each system.
pub(crate) struct Both {
    ours: Pair,
    original: Pair,
}

impl Both {
    pub(crate) fn start(lab: &mut Lab) -> Result<Self, Trouble> {
        Ok(Self { ours: lab.pair(System::Ours)?, original: lab.pair(System::Original)? })
    }

    fn each(&mut self) -> [&mut Pair; 2] {
        [&mut self.ours, &mut self.original]
    }

    /// The first entries, which are not measured. A system that delivers none of them does not run,
    /// and nothing can be said of it.
    pub(crate) fn warm_up(&mut self) -> Result<(), Trouble> {
        for pair in self.each() {
            for number in 0..5 {
                let step = Step { prefix: format!("warm{number}"), count: 1, bytes: SMALL, limit: ARRIVE };
                if step.take(&mut pair.dialler, &mut pair.listener)?.seen == 0 {
                    return Err(pair.listener.trouble(&format!(
                        "was connected and got nothing within {ARRIVE:?}, which is no comparison"
                    )));
                }
            }
        }
        Ok(())
    }

    /// One entry after the other, with a pause.
    pub(crate) fn paced(&mut self, effort: Effort) -> Result<Vec<Row>, Trouble> {
        let mut times = [Vec::new(), Vec::new()];
        for number in 0..effort.paced {
            for (pair, times) in self.each().into_iter().zip(&mut times) {
                std::thread::sleep(PAUSE);
                let step = Step { prefix: format!("paced{number}"), count: 1, bytes: SMALL, limit: ARRIVE };
                let took = step.take(&mut pair.dialler, &mut pair.listener)?;
                times.extend((took.seen == 1).then_some(took.visible));
            }
        }
        let arrived = times.each_ref().map(|times| Outcome::Count { arrived: times.len(), of: effort.paced });
        let p50 = times.each_ref().map(|times| middle(times, ARRIVE));
        let slowest = times
            .each_ref()
            .map(|times| times.iter().max().map_or(Outcome::Absent(ARRIVE), |it| Outcome::Took(*it)));
        Ok(vec![
            Row::new("paced, 4 KiB: arrived", arrived),
            Row::new("paced, 4 KiB: until visible, p50", p50),
            Row::new("paced, 4 KiB: until visible, slowest", slowest),
        ])
    }

    /// Many entries, as fast as the caller is let.
    pub(crate) fn burst(&mut self, effort: Effort) -> Result<Vec<Row>, Trouble> {
        let (mut visible, mut returned, mut arrived) = <([Vec<_>; 2], [Vec<_>; 2], [usize; 2])>::default();
        for round in 0..effort.rounds {
            for (side, pair) in self.each().into_iter().enumerate() {
                let step =
                    Step { prefix: format!("burst{round}"), count: BURST, bytes: SMALL, limit: BURST_LIMIT };
                let took = step.take(&mut pair.dialler, &mut pair.listener)?;
                arrived[side] += took.seen;
                returned[side].push(took.returned);
                visible[side].extend((took.seen == BURST).then_some(took.visible));
            }
        }
        let of = BURST * effort.rounds;
        let rate = |times: &Vec<Duration>| match median(times) {
            Some(time) => Outcome::Rate(BURST as f64 / time.as_secs_f64()),
            None => Outcome::Absent(BURST_LIMIT),
        };
        Ok(vec![
            Row::new("burst of 300, 4 KiB: arrived", arrived.map(|arrived| Outcome::Count { arrived, of })),
            Row::new("burst of 300: entries per second, until visible", visible.each_ref().map(rate)),
            Row::new(
                "burst of 300: the last visible after",
                visible.each_ref().map(|times| middle(times, BURST_LIMIT)),
            ),
            Row::new(
                "burst of 300: the caller is through after",
                returned.each_ref().map(|times| middle(times, PUT)),
            ),
        ])
    }

    /// A node that starts after the entries were put, and dials the listener as the first one did.
    pub(crate) fn late_joiner(&mut self, lab: &mut Lab) -> Result<Vec<Row>, Trouble> {
        let mut found = Vec::new();
        for (system, pair) in [(System::Ours, &mut self.ours), (System::Original, &mut self.original)] {
            let step = Step { prefix: "late".to_owned(), count: LATE, bytes: SMALL, limit: BURST_LIMIT };
            let there = step.take(&mut pair.dialler, &mut pair.listener)?.seen;
            if there < LATE {
                return Err(pair.listener.trouble(&format!("got {there} of the {LATE} entries to be found")));
            }
            let mut joiner = lab.node(system, Some(&pair.listener.address))?;
            let limit = ROUND.as_millis();
            joiner.say(&format!("see late {LATE} {SMALL} {limit}"))?;
            found.push(seen(&joiner.answer("seen", ROUND + ANSWER)?.1)?.0);
        }
        let count = |at: usize| Outcome::Count { arrived: found[at], of: LATE };
        Ok(vec![Row::new(format!("late joiner: entries readable within {ROUND:?}"), [count(0), count(1)])])
    }

    /// Values of growing size. That of 64 KiB arrives at the original's other node in some tries
    /// and not in others.
    pub(crate) fn sizes(&mut self, effort: Effort) -> Result<Vec<Row>, Trouble> {
        let mut rows = Vec::new();
        for (bytes, name) in
            [(64 * KIB, "64 KiB"), (100 * KIB, "100 KiB"), (300 * KIB, "300 KiB"), (KIB * KIB, "1 MiB")]
        {
            let mut times = [Vec::new(), Vec::new()];
            for round in 0..effort.rounds {
                for (pair, times) in self.each().into_iter().zip(&mut times) {
                    std::thread::sleep(PAUSE);
                    let prefix = format!("size{bytes}x{round}");
                    let step = Step { prefix, count: 1, bytes, limit: LARGE_LIMIT };
                    let took = step.take(&mut pair.dialler, &mut pair.listener)?;
                    times.extend((took.seen == 1).then_some(took.visible));
                }
            }
            let arrived =
                times.each_ref().map(|times| Outcome::Count { arrived: times.len(), of: effort.rounds });
            rows.push(Row::new(format!("one value of {name}: arrived within {LARGE_LIMIT:?}"), arrived));
            let p50 = times.each_ref().map(|times| middle(times, LARGE_LIMIT));
            rows.push(Row::new(format!("one value of {name}: until visible, p50"), p50));
        }
        Ok(rows)
    }

    /// The other way: put where was dialled, read by who dialled. An entry every second, from the
    /// moment at which the two are connected.
    pub(crate) fn other_way(&mut self) -> Result<Vec<Row>, Trouble> {
        let (began, count) = (Instant::now(), ROUND.as_secs());
        for number in 0..count {
            for pair in self.each() {
                pair.listener.say(&format!("put back {number} 1 {SMALL}"))?;
                pair.listener.answer("put", PUT)?;
            }
            let next = Duration::from_secs(number + 1);
            std::thread::sleep(next.saturating_sub(began.elapsed()));
        }
        let limit = ARRIVE.as_millis();
        let (mut arrived, mut first) = (Vec::new(), Vec::new());
        for pair in self.each() {
            pair.dialler.say(&format!("see back {count} {SMALL} {limit}"))?;
            let (seen, number) = seen(&pair.dialler.answer("seen", ARRIVE + ANSWER)?.1)?;
            arrived.push(seen);
            first.push(
                number.map_or(Outcome::Absent(ROUND), |number| Outcome::Took(Duration::from_secs(number))),
            );
        }
        let count = |at: usize| Outcome::Count { arrived: arrived[at], of: count as usize };
        Ok(vec![
            Row::new("listener to dialler, one a second: arrived", [count(0), count(1)]),
            Row::new("listener to dialler: the first that arrived was put after", [first[0], first[1]]),
        ])
    }
}

/// Entries that are put at one node and looked for at the other.
struct Step {
    prefix: String,
    count: usize,
    bytes: usize,
    limit: Duration,
}

struct Taken {
    seen: usize,
    /// From the first put until the other node has seen the last.
    visible: Duration,
    /// From the first put until the last returned.
    returned: Duration,
}

impl Step {
    fn take(&self, from: &mut Node, to: &mut Node) -> Result<Taken, Trouble> {
        let Self { prefix, count, bytes, limit } = self;
        to.say(&format!("see {prefix} {count} {bytes} {}", limit.as_millis()))?;
        let began = Instant::now();
        from.say(&format!("put {prefix} 0 {count} {bytes}"))?;
        let (saw, answer) = to.answer("seen", *limit + ANSWER)?;
        let (returned, _) = from.answer("put", PUT)?;
        Ok(Taken { seen: seen(&answer)?.0, visible: saw - began, returned: returned - began })
    }
}

/// How many were seen, and the number of the first.
fn seen(answer: &str) -> Result<(usize, Option<u64>), Trouble> {
    let parsed = answer.split_once(' ').and_then(|(seen, first)| {
        let first = if first == "-" { None } else { Some(first.parse().ok()?) };
        Some((seen.parse().ok()?, first))
    });
    parsed.ok_or_else(|| format!("`seen {answer}` is no answer"))
}

fn middle(times: &[Duration], waited: Duration) -> Outcome {
    median(times).map_or(Outcome::Absent(waited), Outcome::Took)
}
