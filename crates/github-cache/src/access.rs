//! One record for each request, for whoever wants an access log.

use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

use http::{HeaderMap, Method, StatusCode};
use serde::Serialize;

use crate::cache_status::CACHE_STATUS;

/// A request and what became of it: no query, no header of the client and nothing of a body, since
/// these carry secrets.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct AccessRecord {
    /// The client's address; none over a unix socket.
    pub client: Option<IpAddr>,
    /// The method.
    pub method: String,
    /// The path, without the query; printable ASCII.
    pub path: String,
    /// The status of the answer.
    pub status: u16,
    /// Our member of `Cache-Status`.
    pub cache: String,
    /// Until the answer's head was ready, in milliseconds.
    pub milliseconds: u64,
}

impl AccessRecord {
    pub(crate) fn new(
        client: Option<IpAddr>,
        method: &Method,
        path: &str,
        status: StatusCode,
        headers: &HeaderMap,
        took: Duration,
    ) -> Self {
        let cache = headers.get_all(CACHE_STATUS).iter().next_back();
        let cache = cache.and_then(|value| value.to_str().ok()).unwrap_or_default();
        Self {
            client,
            method: method.to_string(),
            path: path.chars().filter(char::is_ascii_graphic).take(512).collect(),
            status: status.as_u16(),
            cache: cache.strip_prefix("peercache; ").unwrap_or(cache).to_owned(),
            milliseconds: u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
        }
    }
}

impl fmt::Display for AccessRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.client {
            Some(client) => write!(f, "{client}")?,
            None => f.write_str("unix")?,
        }
        let Self { method, path, status, cache, milliseconds, .. } = self;
        write!(f, " {method} {path} {status} {milliseconds} ms ({cache})")
    }
}
