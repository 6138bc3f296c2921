//! Times with a unit, and deadlines by tier.

use std::time::Duration;

use super::kind::{AnyKind, Kind, refused};
use crate::config::backend_name::BackendName;
use crate::config::env::Env;
use crate::config::error::{ConfigError, redacted, shortened};
use crate::config::value::{Given, Raw};

/// The longest deadline that a setting gives.
const LONGEST: Duration = Duration::from_secs(600);

/// A duration with a unit, from 1 ms to 10 min.
pub(in crate::config) struct Wait;

impl Wait {
    pub(in crate::config) fn given(duration: Duration) -> Given {
        Given::Text(wait_text(duration))
    }
}

const ACCEPTED_WAIT: &str = "give a time with its unit, from 1ms to 600s, such as 800ms or 2s";

impl AnyKind for Wait {
    fn accepted(&self, _: Option<&str>) -> String {
        ACCEPTED_WAIT.to_owned()
    }

    fn described(&self) -> String {
        "time with a unit, such as `800ms` or `2s`; 1ms to 600s".to_owned()
    }
}

impl Kind for Wait {
    type Value = Duration;

    fn parse(&self, raw: &Raw, _: &Env<'_>) -> Result<Duration, ConfigError> {
        wait(&raw.given.text()).map_or_else(|| refused(self, raw, "this is not a time"), Ok)
    }

    fn show(&self, duration: &Duration) -> Option<String> {
        Some(wait_text(*duration))
    }
}

fn wait(text: &str) -> Option<Duration> {
    let text = text.trim().to_ascii_lowercase();
    let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let number: u64 = text[..digits].parse().ok()?;
    let duration = match text[digits..].trim() {
        "ms" => Duration::from_millis(number),
        "s" => Duration::from_secs(number),
        "m" | "min" => Duration::from_secs(number.checked_mul(60)?),
        _ => return None,
    };
    (Duration::from_millis(1)..=LONGEST).contains(&duration).then_some(duration)
}

fn wait_text(duration: Duration) -> String {
    match duration.as_millis() {
        millis if millis % 1000 == 0 => format!("{}s", millis / 1000),
        millis => format!("{millis}ms"),
    }
}

/// Deadlines: one for every tier, or one for each that is named, or both.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::config) struct Deadlines {
    pub(in crate::config) every: Option<Duration>,
    pub(in crate::config) of: Vec<(BackendName, Duration)>,
}

impl Deadlines {
    /// The deadline of one tier, if there is one for it.
    pub(in crate::config) fn of(&self, name: BackendName) -> Option<Duration> {
        let own = self.of.iter().find(|(named, _)| *named == name).map(|(_, wait)| *wait);
        own.or(self.every)
    }
}

/// Deadlines by tier.
pub(in crate::config) struct Waits;

impl Waits {
    pub(in crate::config) fn given(deadlines: impl Into<String>) -> Given {
        Given::Text(deadlines.into())
    }
}

impl AnyKind for Waits {
    fn accepted(&self, _: Option<&str>) -> String {
        "give one time for all tiers, such as 2s, or times by tier, such as s3=2s,libp2p=300ms, each from 1ms to 600s"
            .to_owned()
    }

    fn described(&self) -> String {
        "time with a unit, such as `2s`, for all tiers; or by tier, `s3=2s,libp2p=300ms`; 1ms to 600s"
            .to_owned()
    }

    fn takes_list(&self) -> bool {
        true
    }
}

impl Kind for Waits {
    type Value = Deadlines;

    fn parse(&self, raw: &Raw, _: &Env<'_>) -> Result<Deadlines, ConfigError> {
        let mut deadlines = Deadlines::default();
        for part in raw.given.parts() {
            let (name, text) = match part.split_once('=') {
                Some((name, text)) => (Some(name.trim()), text),
                None => (None, part.as_str()),
            };
            let Some(wait) = wait(text) else {
                return refused(self, raw, format!("`{}` is not a time", shortened(&redacted(&part))));
            };
            let Some(name) = name else {
                if deadlines.every.replace(wait).is_some() {
                    return refused(self, raw, "there are two times for all tiers");
                }
                continue;
            };
            let Ok(backend) = name.to_ascii_lowercase().parse::<BackendName>() else {
                return refused(self, raw, format!("there is no backend `{}`", shortened(&redacted(name))));
            };
            if deadlines.of.iter().any(|(named, _)| *named == backend) {
                return refused(self, raw, format!("there are two times for `{backend}`"));
            }
            deadlines.of.push((backend, wait));
        }
        Ok(deadlines)
    }

    fn show(&self, deadlines: &Deadlines) -> Option<String> {
        let of = deadlines.of.iter().map(|(name, wait)| format!("{name}={}", wait_text(*wait)));
        let all: Vec<_> = deadlines.every.map(wait_text).into_iter().chain(of).collect();
        Some(all.join(",")).filter(|text| !text.is_empty())
    }
}
