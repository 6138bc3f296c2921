//! Times, and how they are shown.

use std::time::Duration;

/// What is asked of a ratio.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Bar {
    None,
    AtMost(f64),
    AtLeast(f64),
}

impl Bar {
    pub(crate) fn verdict(self, ratio: f64) -> &'static str {
        match self {
            Self::None => "",
            Self::AtMost(most) if ratio <= most => "  within the bar",
            Self::AtLeast(least) if ratio >= least => "  within the bar",
            Self::AtMost(_) => "  ABOVE THE BAR",
            Self::AtLeast(_) => "  BELOW THE BAR",
        }
    }
}

/// The order of the sides in a round: another one begins each time.
pub(crate) fn turns(round: usize, sides: usize) -> impl Iterator<Item = usize> {
    (0..sides).map(move |turn| (turn + round) % sides)
}

/// The times of one operation, by side; the first one is ours.
pub(crate) struct Times(Vec<Vec<Duration>>);

pub(crate) fn median(times: &[Duration]) -> Duration {
    quantile(times, 0.5)
}

fn quantile(times: &[Duration], part: f64) -> Duration {
    let mut sorted = times.to_vec();
    sorted.sort_unstable();
    sorted[((sorted.len() - 1) as f64 * part) as usize]
}

pub(crate) fn ratio(one: Duration, other: Duration) -> f64 {
    one.as_secs_f64() / other.as_secs_f64()
}

impl Times {
    pub(crate) fn for_each<T>(sides: &[T]) -> Self {
        Self(sides.iter().map(|_| Vec::new()).collect())
    }

    pub(crate) fn add(&mut self, side: usize, took: Duration) {
        self.0[side].push(took);
    }

    /// The times of our side and of each other one.
    pub(crate) fn pairs(&self) -> impl Iterator<Item = (&[Duration], &[Duration])> {
        self.0[1..].iter().map(|theirs| (&*self.0[0], &**theirs))
    }

    /// A line for each side but ours.
    pub(crate) fn print(&self, operation: &str, size: &str, sides: &[(&str, Bar)]) {
        for ((ours, theirs), (name, bar)) in self.pairs().zip(&sides[1..]) {
            let middle = ratio(median(ours), median(theirs));
            println!(
                "{operation:<6} {size:>8}  {name:<20} {:>10} {:>10} {middle:>9.2} {:>9.2}{}",
                format!("{} us", median(ours).as_micros()),
                format!("{} us", median(theirs).as_micros()),
                ratio(quantile(ours, 0.99), quantile(theirs, 0.99)),
                bar.verdict(middle),
            );
        }
    }
}
