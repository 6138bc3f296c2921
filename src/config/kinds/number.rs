//! Numbers: sizes, seconds, ports.

use std::time::Duration;

use super::kind::{AnyKind, Kind, refused};
use crate::config::env::Env;
use crate::config::error::ConfigError;
use crate::config::size;
use crate::config::value::{Given, Raw};

/// A size in bytes.
pub(in crate::config) struct Bytes {
    pub(in crate::config) least: u64,
}

impl Bytes {
    pub(in crate::config) fn given(bytes: u64) -> Given {
        Given::Number(bytes.to_string())
    }
}

impl AnyKind for Bytes {
    fn accepted(&self, default: Option<&str>) -> String {
        let example = default.unwrap_or("64MiB");
        format!("give a whole number of bytes, or one with a unit such as {example}")
    }

    fn described(&self) -> String {
        format!("bytes, such as `64MiB`; at least {}", size::write(self.least))
    }

    fn takes_number(&self) -> bool {
        true
    }
}

impl Kind for Bytes {
    type Value = u64;

    fn parse(&self, raw: &Raw, _: &Env<'_>) -> Result<u64, ConfigError> {
        match size::parse(&raw.given.text()) {
            None => refused(self, raw, "this is not a size"),
            Some(bytes) if bytes < self.least => {
                refused(self, raw, format!("this is too small, the least is {}", size::write(self.least)))
            }
            Some(bytes) => Ok(bytes),
        }
    }

    fn show(&self, bytes: &u64) -> Option<String> {
        Some(size::write(*bytes))
    }
}

/// A duration in whole seconds.
pub(in crate::config) struct Seconds {
    /// What it is, with its article.
    pub(in crate::config) what: &'static str,
    pub(in crate::config) least: u64,
    pub(in crate::config) most: u64,
}

impl Seconds {
    pub(in crate::config) fn given(duration: Duration) -> Given {
        Given::Number(duration.as_secs().to_string())
    }
}

impl AnyKind for Seconds {
    fn accepted(&self, _: Option<&str>) -> String {
        format!("give whole seconds from {} to {}", self.least, self.most)
    }

    fn described(&self) -> String {
        format!("whole seconds, {} to {}", self.least, self.most)
    }

    fn takes_number(&self) -> bool {
        true
    }
}

impl Kind for Seconds {
    type Value = Duration;

    fn parse(&self, raw: &Raw, _: &Env<'_>) -> Result<Duration, ConfigError> {
        match raw.given.text().trim().parse::<u64>() {
            Ok(seconds) if (self.least..=self.most).contains(&seconds) => Ok(Duration::from_secs(seconds)),
            _ => refused(self, raw, format!("this is not {}", self.what)),
        }
    }

    fn show(&self, duration: &Duration) -> Option<String> {
        Some(duration.as_secs().to_string())
    }
}

/// A whole number.
pub(in crate::config) struct Whole {
    /// What it is, with its article.
    pub(in crate::config) what: &'static str,
    /// Of what there are so many.
    pub(in crate::config) unit: &'static str,
    pub(in crate::config) most: u32,
}

impl Whole {
    pub(in crate::config) fn given(number: u32) -> Given {
        Given::Number(number.to_string())
    }
}

impl AnyKind for Whole {
    fn accepted(&self, _: Option<&str>) -> String {
        format!("give whole {} from 0 to {}", self.unit, self.most)
    }

    fn described(&self) -> String {
        format!("whole {}, 0 to {}", self.unit, self.most)
    }

    fn takes_number(&self) -> bool {
        true
    }
}

impl Kind for Whole {
    type Value = u32;

    fn parse(&self, raw: &Raw, _: &Env<'_>) -> Result<u32, ConfigError> {
        match raw.given.text().trim().parse::<u32>() {
            Ok(number) if number <= self.most => Ok(number),
            _ => refused(self, raw, format!("this is not {}", self.what)),
        }
    }

    fn show(&self, number: &u32) -> Option<String> {
        Some(number.to_string())
    }
}

/// A TCP port.
pub(in crate::config) struct Port;

impl Port {
    pub(in crate::config) fn given(port: u16) -> Given {
        Given::Number(port.to_string())
    }
}

impl AnyKind for Port {
    fn accepted(&self, _: Option<&str>) -> String {
        "give a port from 1 to 65535, or 0 for any that is free".to_owned()
    }

    fn described(&self) -> String {
        "port, 1 to 65535; 0 for any that is free".to_owned()
    }

    fn takes_number(&self) -> bool {
        true
    }
}

impl Kind for Port {
    type Value = u16;

    fn parse(&self, raw: &Raw, _: &Env<'_>) -> Result<u16, ConfigError> {
        raw.given.text().trim().parse().or_else(|_| refused(self, raw, "this is not a port"))
    }

    fn show(&self, port: &u16) -> Option<String> {
        Some(port.to_string())
    }
}
