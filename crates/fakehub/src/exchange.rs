//! One recorded request and its response.

use std::fmt;

use bytes::Bytes;

/// The host that an unknown `Host` means.
pub(crate) const API_HOST: &str = "api.github.com";

/// One recorded request and its response.
#[derive(Clone, PartialEq, Eq)]
pub struct Exchange {
    /// Exchanges of one scenario belong together, in their order. `None`: the recorder did not say.
    pub scenario: Option<String>,
    /// In upper case.
    pub method: String,
    /// In lower case, without port.
    pub host: String,
    /// Path and query, starting with `/`.
    pub target: String,
    /// As recorded: in order, duplicates kept.
    pub request_headers: Vec<(String, String)>,
    /// What was sent, when the recorder kept it.
    pub request_body: Option<Bytes>,
    /// 200 to 599.
    pub status: u16,
    /// As recorded: in order, duplicates kept.
    pub headers: Vec<(String, String)>,
    /// The decoded body (no content coding).
    pub body: Bytes,
}

impl Exchange {
    /// The absolute URL.
    #[must_use]
    pub fn url(&self) -> String {
        format!("https://{}{}", self.host, self.target)
    }

    /// The first value of a request header, its name in any case.
    #[must_use]
    pub fn request_header(&self, name: &str) -> Option<&str> {
        first(&self.request_headers, name)
    }

    /// The first value of a response header, its name in any case.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        first(&self.headers, name)
    }
}

fn first<'a>(headers: &'a [(String, String)], name: &str) -> Option<&'a str> {
    headers.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
}

impl fmt::Debug for Exchange {
    /// Without headers and bodies: recorded ones may hold tokens.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Exchange")
            .field("scenario", &self.scenario)
            .field("method", &self.method)
            .field("host", &self.host)
            .field("target", &self.target)
            .field("status", &self.status)
            .field("body_bytes", &self.body.len())
            .finish_non_exhaustive()
    }
}
