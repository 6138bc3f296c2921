//! The table: what each system did, the ratio, and who is ahead.

use std::cmp::Ordering;
use std::fmt;
use std::time::Duration;

/// What one system did in one row.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Outcome {
    /// Shorter is better.
    Took(Duration),
    /// So many in a second: more is better.
    Rate(f64),
    /// More is better.
    Count { arrived: usize, of: usize },
    /// Nothing, or not all of it, although so long was waited.
    Absent(Duration),
}

impl Outcome {
    /// `self / other`, where both did something.
    fn ratio(self, other: Self) -> Option<f64> {
        let ratio = match (self, other) {
            (Self::Took(one), Self::Took(other)) => one.as_secs_f64() / other.as_secs_f64(),
            (Self::Rate(one), Self::Rate(other)) => one / other,
            (Self::Count { arrived: one, .. }, Self::Count { arrived: other, .. }) => {
                one as f64 / other as f64
            }
            _ => return None,
        };
        ratio.is_finite().then_some(ratio)
    }

    /// `Greater` where `self` is better.
    fn compare(self, other: Self) -> Ordering {
        match (self, other) {
            (Self::Absent(_), Self::Absent(_)) => Ordering::Equal,
            (Self::Absent(_), _) => Ordering::Less,
            (_, Self::Absent(_)) => Ordering::Greater,
            (Self::Took(one), Self::Took(other)) => other.cmp(&one),
            (Self::Rate(one), Self::Rate(other)) => one.total_cmp(&other),
            (Self::Count { arrived: one, .. }, Self::Count { arrived: other, .. }) => one.cmp(&other),
            _ => unreachable!("a row measures one thing"),
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = match self {
            Self::Took(Duration::ZERO) => "at once".to_owned(),
            Self::Took(time) => format!("{time:.1?}"),
            Self::Rate(rate) => format!("{rate:.0}/s"),
            Self::Count { arrived, of } => format!("{arrived} of {of}"),
            Self::Absent(waited) => format!("not in {waited:?}"),
        };
        f.pad(&text)
    }
}

/// One line: ours and the original's.
#[derive(Clone, Debug)]
pub(crate) struct Row {
    what: String,
    sides: [Outcome; 2],
}

impl Row {
    pub(crate) fn new(what: impl Into<String>, sides: [Outcome; 2]) -> Self {
        Self { what: what.into(), sides }
    }

    pub(crate) fn print_head() {
        println!("{:58} {:>12} {:>12} {:>8}", "what", "peercache", "original", "ratio");
    }

    pub(crate) fn print(&self) {
        let [ours, original] = self.sides;
        let ratio = ours.ratio(original).map_or("–".to_owned(), |ratio| format!("{ratio:.3}"));
        let verdict = match ours.compare(original) {
            Ordering::Greater => "ahead",
            Ordering::Equal => "equal",
            Ordering::Less => "BEHIND",
        };
        println!("{:58} {ours:>12} {original:>12} {ratio:>8}   {verdict}", self.what);
    }
}

/// The median, of two in the middle the smaller.
pub(crate) fn median(times: &[Duration]) -> Option<Duration> {
    let mut times = times.to_vec();
    times.sort_unstable();
    times.get(times.len().checked_sub(1)? / 2).copied()
}
