//! A runner for two sides that take turns: A B A B, so that what the machine does besides hits
//! both.

use std::fmt;
use std::ops::Range;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::{Duration, Instant};

/// How long one batch should take: long against the clock's resolution, shorter than the slice that
/// a busy machine gives a thread.
const BATCH: Duration = Duration::from_millis(1);
/// The bar for a hit in memory: at most this much above the library called directly.
const BAR_NS: f64 = 1000.0;

type Work = Arc<dyn Fn(Range<usize>) + Send + Sync>;
/// The work, the operations to do, and what everyone waits at before they begin.
type Batch = (Work, Range<usize>, Arc<Barrier>);

/// One side of a comparison: does the operations with these numbers.
pub(crate) struct Side(Work);

impl Side {
    pub(crate) fn new(work: impl Fn(Range<usize>) + Send + Sync + 'static) -> Self {
        Self(Arc::new(work))
    }
}

/// Threads that stay, each doing the same batch at the same time.
struct Crew {
    jobs: Vec<SyncSender<Batch>>,
    times: Receiver<Duration>,
}

impl Crew {
    fn new(threads: usize) -> Self {
        let (done, times) = sync_channel(threads);
        let jobs = (0..threads)
            .map(|_| {
                let (sender, jobs) = sync_channel::<Batch>(1);
                let done = done.clone();
                thread::spawn(move || {
                    for (work, steps, start) in jobs {
                        start.wait();
                        let started = Instant::now();
                        work(steps);
                        if done.send(started.elapsed()).is_err() {
                            return;
                        }
                    }
                });
                sender
            })
            .collect();
        Self { jobs, times }
    }

    /// Nanoseconds per operation of one batch of `steps` on every thread.
    fn batch(&self, side: &Side, from: usize, steps: usize) -> f64 {
        let start = Arc::new(Barrier::new(self.jobs.len()));
        for (thread, jobs) in self.jobs.iter().enumerate() {
            // Each thread visits other values than its neighbour.
            let first = from + thread * 7919;
            jobs.send((Arc::clone(&side.0), first..first + steps, Arc::clone(&start))).unwrap();
        }
        let total: Duration = self.jobs.iter().map(|_| self.times.recv().unwrap()).sum();
        nanos(total) / (steps * self.jobs.len()) as f64
    }
}

fn nanos(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e9
}

pub(crate) struct Runner {
    budget: Duration,
    missed: Vec<String>,
    judged: usize,
    /// The last comparison: its name, what ours took, and what theirs.
    last: (String, f64, f64),
}

impl Runner {
    /// Each comparison takes about `budget`.
    pub(crate) fn new(budget: Duration) -> Self {
        println!(
            "{:<23} {:>6} {:>7} {:>11} {:>11}   {:<22} difference",
            "operation", "size", "threads", "ours p50", "theirs p50", "ratio min/median/max"
        );
        Self { budget, missed: Vec::new(), judged: 0, last: Default::default() }
    }

    /// Compares `ours` with `theirs` and prints a line. With `bar`, the difference is held against
    /// it.
    pub(crate) fn pair(
        &mut self,
        name: &str,
        size: &str,
        threads: usize,
        ours: Side,
        theirs: Side,
        bar: bool,
    ) {
        let crew = Crew::new(threads);
        let steps = [&ours, &theirs].map(|side| calibrate(&crew, side));
        let mut pairs = Vec::new();
        let (mut from, started) = (0, Instant::now());
        while pairs.len() < 5 || (started.elapsed() < self.budget && pairs.len() < 1000) {
            pairs.push((crew.batch(&ours, from, steps[0]), crew.batch(&theirs, from, steps[1])));
            from += steps[0].max(steps[1]);
        }
        let ours = median(pairs.iter().map(|pair| pair.0).collect());
        let theirs = median(pairs.iter().map(|pair| pair.1).collect());
        let ratios: Vec<_> = pairs.iter().map(|pair| pair.0 / pair.1).collect();
        let least = ratios.iter().copied().fold(f64::INFINITY, f64::min);
        let most = ratios.iter().copied().fold(0.0, f64::max);
        let ratio = format!("{least:.2} / {:.2} / {most:.2}", median(ratios));
        let difference = ours - theirs;
        let verdict = match (bar, difference <= BAR_NS) {
            (false, _) => "",
            (true, true) => "  within 1 us",
            (true, false) => "  OVER 1 us",
        };
        println!(
            "{name:<23} {size:>6} {threads:>7} {:>11} {:>11}   {ratio:<22} {:+.0} ns{verdict}",
            Nanos(ours).to_string(),
            Nanos(theirs).to_string(),
            difference
        );
        self.last = (format!("{name}, {size}, {threads} threads"), ours, theirs);
        self.judged += usize::from(bar);
        if bar && difference > BAR_NS {
            self.missed.push(format!("{name}, {size}, {threads} threads: {difference:+.0} ns"));
        }
    }

    /// Holds the last comparison to a ratio.
    pub(crate) fn at_most_ratio(&mut self, bar: f64) {
        let (name, ours, theirs) = &self.last;
        let ratio = ours / theirs;
        let verdict = if ratio <= bar { "within" } else { "OVER" };
        println!("  {name}: {ratio:.2} times, {verdict} {bar} times");
    }

    /// Holds what ours took in the last comparison to a time.
    pub(crate) fn at_most_ns(&mut self, bar: f64) {
        let (name, ours, _) = &self.last;
        let verdict = if *ours <= bar { "within" } else { "OVER" };
        println!("  {name}: {ours:.0} ns, {verdict} {bar} ns");
    }

    pub(crate) fn summary(&self) {
        println!(
            "\nA hit in memory should be within 1 us of the library called directly: {} of {} are.",
            self.judged - self.missed.len(),
            self.judged
        );
        for missed in &self.missed {
            println!("  over: {missed}");
        }
    }
}

/// How many operations take about one [`BATCH`].
fn calibrate(crew: &Crew, side: &Side) -> usize {
    // The first batch also opens connections and warms caches.
    let _ = crew.batch(side, 0, 4);
    let mut steps = 4;
    loop {
        let each = crew.batch(side, 0, steps);
        if each * steps as f64 >= nanos(BATCH) / 4.0 {
            return ((nanos(BATCH) / each) as usize).max(2);
        }
        steps *= 4;
    }
}

fn median(mut numbers: Vec<f64>) -> f64 {
    numbers.sort_by(f64::total_cmp);
    numbers[numbers.len() / 2]
}

/// A duration in the unit that suits it.
struct Nanos(f64);

impl fmt::Display for Nanos {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            nanos if nanos < 10_000.0 => write!(f, "{nanos:.0} ns"),
            nanos if nanos < 10_000_000.0 => write!(f, "{:.1} us", nanos / 1e3),
            nanos => write!(f, "{:.1} ms", nanos / 1e6),
        }
    }
}
