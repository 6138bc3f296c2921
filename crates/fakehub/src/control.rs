//! Faults on demand, and changes of resources: by method of the handle, or by `POST /_fakehub/…`.
//!
//! | request | body | effect |
//! |---|---|---|
//! | `POST /_fakehub/fail` | `{"status":502,"count":1,"retry_after":30}` | the next `count` requests get that status; `retry_after` is optional, seconds or an HTTP-date |
//! | `POST /_fakehub/delay` | `{"millis":200,"count":1}` | the next `count` answers wait |
//! | `POST /_fakehub/truncate` | `{"count":1}` | the next `count` answers with a body break off in its middle |
//! | `POST /_fakehub/touch` | `{"url":"https://api.github.com/…"}` | the resource's body changes, and with it its validators |
//! | `POST /_fakehub/reset_log` | none | log and totals start anew |
//! | `GET /_fakehub/summary` | | the totals |
//! | `GET /_fakehub/log` | | the records in memory, as JSON lines |
//!
//! None of them is logged or charged. A fault's answer is logged, and charged like any other.

use std::sync::Mutex;
use std::time::Duration;

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderValue, Method, Response, StatusCode};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::log::{Log, lock};

pub(crate) const PREFIX: &str = "/_fakehub/";

/// An answer that takes the place of the recorded one.
#[derive(Clone)]
pub(crate) struct Failure {
    pub(crate) status: StatusCode,
    pub(crate) retry_after: Option<HeaderValue>,
}

/// How the origin is gone, until it is back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Outage {
    /// The port is closed, and connections that were open are cut.
    Refuse,
    /// Requests are taken and never answered.
    Tarpit,
    /// Every request gets this status, with an HTML body as GitHub's front end sends it.
    Status(u16),
    /// Every body breaks off in its middle.
    Truncate,
}

#[derive(Default)]
struct Pending {
    failure: Option<(Failure, u64)>,
    delay: (Duration, u64),
    truncations: u64,
}

/// What has been asked for and not yet happened.
#[derive(Default)]
pub(crate) struct Control {
    pending: Mutex<Pending>,
}

impl Control {
    /// The next `count` requests get `status`. Replaces an earlier order.
    pub(crate) fn fail_next(&self, status: u16, count: u64, retry_after: Option<&str>) -> Result<(), String> {
        let status = StatusCode::from_u16(status)
            .ok()
            .filter(|_| (200..=599).contains(&status))
            .ok_or_else(|| format!("\"status\" is {status}; a whole number from 200 to 599 is expected"))?;
        let retry_after = retry_after.map(HeaderValue::from_str).transpose().map_err(|_| {
            "\"retry_after\" has a control character; seconds or an HTTP-date are expected".to_owned()
        })?;
        lock(&self.pending).failure = Some((Failure { status, retry_after }, count));
        Ok(())
    }

    /// The next `count` answers wait for `delay`. Replaces an earlier order.
    pub(crate) fn delay_next(&self, delay: Duration, count: u64) {
        lock(&self.pending).delay = (delay, count);
    }

    /// The next `count` answers with a body break off. Replaces an earlier order.
    pub(crate) fn truncate_next(&self, count: u64) {
        lock(&self.pending).truncations = count;
    }

    pub(crate) fn take_failure(&self) -> Option<Failure> {
        let mut pending = lock(&self.pending);
        let (failure, count) = pending.failure.as_mut()?;
        *count = count.checked_sub(1)?;
        Some(failure.clone())
    }

    pub(crate) fn take_delay(&self) -> Option<Duration> {
        let mut pending = lock(&self.pending);
        pending.delay.1 = pending.delay.1.checked_sub(1)?;
        Some(pending.delay.0)
    }

    pub(crate) fn take_truncation(&self) -> bool {
        let mut pending = lock(&self.pending);
        let some = pending.truncations > 0;
        pending.truncations = pending.truncations.saturating_sub(1);
        some
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Fail {
    status: u16,
    count: u64,
    retry_after: Option<Value>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Delay {
    millis: u64,
    count: u64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Truncate {
    count: u64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TouchUrl {
    url: String,
}

/// Answers a request below `/_fakehub/`.
pub(crate) fn answer(
    control: &Control,
    log: &Log,
    touch: impl FnOnce(&str) -> Result<u64, String>,
    method: &Method,
    path: &str,
    body: &[u8],
) -> Response<Bytes> {
    let done = json!({ "ok": true });
    let result = match (method.as_str(), path.strip_prefix(PREFIX).unwrap_or_default()) {
        ("POST", "fail") => parse::<Fail>(body).and_then(|fail| {
            let after = fail.retry_after.map(|after| match after {
                Value::String(text) => text,
                other => other.to_string(),
            });
            control.fail_next(fail.status, fail.count, after.as_deref()).map(|()| done)
        }),
        ("POST", "delay") => parse::<Delay>(body).map(|delay| {
            control.delay_next(Duration::from_millis(delay.millis), delay.count);
            done
        }),
        ("POST", "truncate") => parse::<Truncate>(body).map(|truncate| {
            control.truncate_next(truncate.count);
            done
        }),
        ("POST", "touch") => parse::<TouchUrl>(body)
            .and_then(|named| touch(&named.url))
            .map(|revision| json!({ "ok": true, "fakehub_revision": revision })),
        ("POST", "reset_log") => log.reset().map(|()| done).map_err(|error| format!("the log file: {error}")),
        ("GET", "summary") => serde_json::to_value(log.summary()).map_err(|error| error.to_string()),
        ("GET", "log") => return log_lines(log),
        (method, what) => {
            let error = format!(
                "{method} {PREFIX}{what} is not known; POST fail, delay, truncate, touch or reset_log, or GET summary or log"
            );
            return respond(StatusCode::NOT_FOUND, "application/json", json!({ "error": error }).to_string());
        }
    };
    match result {
        Ok(value) => respond(StatusCode::OK, "application/json", value.to_string()),
        Err(error) => {
            respond(StatusCode::BAD_REQUEST, "application/json", json!({ "error": error }).to_string())
        }
    }
}

fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, String> {
    serde_json::from_slice(body).map_err(|error| format!("the body is not as expected: {error}"))
}

fn log_lines(log: &Log) -> Response<Bytes> {
    let lines: Result<String, serde_json::Error> =
        log.records().iter().map(|record| serde_json::to_string(record).map(|line| line + "\n")).collect();
    match lines {
        Ok(lines) => respond(StatusCode::OK, "application/x-ndjson", lines),
        Err(error) => respond(StatusCode::INTERNAL_SERVER_ERROR, "text/plain", error.to_string()),
    }
}

fn respond(status: StatusCode, content_type: &'static str, body: String) -> Response<Bytes> {
    let mut response = Response::new(Bytes::from(body));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}
