//! Building answers: the recording as it stands, with the few headers that this origin owns.

use std::borrow::Cow;
use std::io::Write;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use http::header::{
    CACHE_CONTROL, CONNECTION, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, DATE, ETAG, HeaderName,
    LAST_MODIFIED, LINK, TE, TRAILER, TRANSFER_ENCODING, UPGRADE, VARY,
};
use http::{HeaderMap, HeaderValue, StatusCode};
use serde_json::json;
use sha2::{Digest, Sha256};

use crate::access::View;
use crate::changes::Touch;
use crate::conditional::{accepts_gzip, not_modified};
use crate::etag::{self, EtagMode};
use crate::limits::Usage;
use crate::replay::{Query, Recording, is_api, is_graphql};
use crate::shape;
use crate::token::{RunKey, hex};

/// Bodies up to this many bytes are not compressed.
const GZIP_ABOVE: usize = 860;

const RATE_HEADERS: [HeaderName; 5] = [
    HeaderName::from_static("x-ratelimit-limit"),
    HeaderName::from_static("x-ratelimit-remaining"),
    HeaderName::from_static("x-ratelimit-reset"),
    HeaderName::from_static("x-ratelimit-used"),
    HeaderName::from_static("x-ratelimit-resource"),
];

const NOT_PROVIDED: HeaderValue = HeaderValue::from_static("");

/// An answer, complete but for the live headers that [`Answer::stamp`] sets.
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    /// The body as it is sent, after content coding. Empty for `304`.
    pub(crate) wire: Bytes,
    /// SHA-256 of the body that the answer has, or for `304` stands for, before content coding.
    pub(crate) digest: String,
}

impl Answer {
    /// An answer of this origin's own.
    pub(crate) fn own(status: StatusCode, content_type: &'static str, body: String) -> Self {
        let mut headers = HeaderMap::new();
        headers.insert(DATE, NOT_PROVIDED);
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
        let digest = hex(&Sha256::digest(body.as_bytes()));
        Self { status, headers, wire: Bytes::from(body), digest }
    }

    /// An error in the shape of GitHub's API.
    pub(crate) fn error(status: StatusCode, message: &str, documentation: &str) -> Self {
        let body = json!({
            "message": message,
            "documentation_url": documentation,
            "status": status.as_str(),
        });
        let mut answer = Self::own(status, "application/json; charset=utf-8", body.to_string());
        answer.headers.insert("access-control-allow-origin", HeaderValue::from_static("*"));
        answer.headers.insert("x-content-type-options", HeaderValue::from_static("nosniff"));
        answer.headers.insert("x-github-media-type", HeaderValue::from_static("github.v3; format=json"));
        answer
    }

    /// What an unrecorded URL and another's private repository both get.
    pub(crate) fn not_found(host: &str) -> Self {
        if is_api(host) {
            return Self::error(StatusCode::NOT_FOUND, "Not Found", "https://docs.github.com/rest");
        }
        Self::own(StatusCode::NOT_FOUND, "text/plain; charset=utf-8", "404: Not Found".to_owned())
    }

    /// Sets the headers that are live: the date, and the state of the bucket where there is one.
    pub(crate) fn stamp(&mut self, usage: Option<Usage>, now_millis: u64) {
        self.headers.insert(DATE, http_date(now_millis));
        if let Some(usage) = usage {
            let resource = HeaderValue::from_static(usage.resource.as_str());
            let values = [
                usage.limit.into(),
                usage.remaining().into(),
                usage.reset.into(),
                usage.used.into(),
                resource,
            ];
            for (name, value) in RATE_HEADERS.into_iter().zip(values) {
                self.headers.insert(name, value);
            }
        }
    }
}

/// What an answer is made from, besides the recording.
pub(crate) struct Frame<'a> {
    pub(crate) mode: EtagMode,
    pub(crate) key: &'a RunKey,
    pub(crate) request: &'a HeaderMap,
    pub(crate) query: &'a Query<'a>,
    /// Who asks, where bodies and headers depend on it.
    pub(crate) view: Option<View>,
    pub(crate) touch: Option<Touch>,
}

/// The body as it is now, before content coding.
enum Body<'a> {
    Recorded(&'a Recording),
    Revised(Vec<u8>),
}

impl Body<'_> {
    fn bytes(&self) -> &[u8] {
        match self {
            Self::Recorded(recording) => &recording.exchange.body,
            Self::Revised(bytes) => bytes,
        }
    }

    fn digest(&self) -> String {
        match self {
            Self::Recorded(recording) => recording.digest().to_owned(),
            Self::Revised(bytes) => hex(&Sha256::digest(bytes)),
        }
    }

    fn gzipped(&self) -> Option<Bytes> {
        match self {
            Self::Recorded(recording) => recording.gzipped(pack).cloned(),
            Self::Revised(bytes) => pack(bytes),
        }
    }

    fn identity(self) -> Bytes {
        match self {
            Self::Recorded(recording) => recording.exchange.body.clone(),
            Self::Revised(bytes) => Bytes::from(bytes),
        }
    }
}

/// Answers with a recording. `None` when it is a recorded `304` that does not fit the request's
/// validators.
pub(crate) fn from_recording(recording: &Recording, frame: &Frame<'_>) -> Option<Answer> {
    let exchange = &recording.exchange;
    let status = StatusCode::from_u16(exchange.status).ok()?;
    let reads = matches!(frame.query.method, "GET" | "HEAD");
    let recorded_etag = exchange.header("etag");
    if status == StatusCode::NOT_MODIFIED {
        let fits = [recorded_etag, exchange.request_header("if-none-match")]
            .into_iter()
            .flatten()
            .any(|tag| not_modified(frame.request, Some(tag), exchange.header("last-modified")));
        let headers = owned_headers(recording, recorded_etag, None, false, true);
        return fits.then(|| Answer {
            status,
            headers,
            wire: Bytes::new(),
            digest: recording.digest().to_owned(),
        });
    }

    let changes =
        (reads || is_graphql(frame.query.target)) && status.is_success() && !exchange.body.is_empty();
    let touch = frame.touch.filter(|_| changes);
    let view = frame.view.filter(|_| changes);
    let revision = touch.map_or(0, |touch| touch.revision);
    let body = match shape::body(&exchange.body, frame.query.target, view, revision) {
        Cow::Owned(bytes) => Body::Revised(bytes),
        Cow::Borrowed(_) => Body::Recorded(recording),
    };
    let may_gzip = body.bytes().len() > GZIP_ABOVE
        && compressible(exchange.header("content-type"))
        && accepts_gzip(frame.request);
    let gzipped = if may_gzip { body.gzipped() } else { None };
    let gzip = gzipped.is_some();
    let computed = || {
        let url = format!("{}{}", frame.query.host, frame.query.target);
        let tag = etag::tag(frame.mode, frame.key, frame.request, &url, body.bytes());
        format!("{}\"{tag}\"", if gzip { "W/" } else { "" })
    };
    let etag = if !is_api(frame.query.host) {
        // Download hosts have rules of their own; what was recorded holds until the resource
        // changes.
        recorded_etag.map(|recorded| if touch.is_some() { computed() } else { recorded.to_owned() })
    } else if recorded_etag.is_some() || (reads && status == StatusCode::OK && taggable(recording)) {
        Some(computed())
    } else {
        None
    };

    let last_modified = match (touch, exchange.header("last-modified")) {
        (Some(touch), Some(_)) => Some(http_date(touch.at)),
        (_, recorded) => recorded.and_then(|text| HeaderValue::from_bytes(text.as_bytes()).ok()),
    };
    let date = last_modified.as_ref().and_then(|value| value.to_str().ok());
    let unchanged = reads && status == StatusCode::OK && not_modified(frame.request, etag.as_deref(), date);
    let mut headers = owned_headers(recording, etag.as_deref(), last_modified, gzip && !unchanged, unchanged);
    if let (Some(view), true) = (frame.view, reads && status == StatusCode::OK) {
        for_caller(&mut headers, view);
    }
    let digest = body.digest();
    Some(if unchanged {
        Answer { status: StatusCode::NOT_MODIFIED, headers, wire: Bytes::new(), digest }
    } else {
        Answer { status, headers, wire: gzipped.unwrap_or_else(|| body.identity()), digest }
    })
}

/// GitHub gives no entity tag to what it says must not be reused, and to search results.
fn taggable(recording: &Recording) -> bool {
    let forbids = |value: &str| {
        let value = value.to_ascii_lowercase();
        value.contains("no-cache") || value.contains("no-store")
    };
    !recording.exchange.header(CACHE_CONTROL.as_str()).is_some_and(forbids)
        && !recording.exchange.target.starts_with("/search/")
}

/// The recorded headers in their order, those that this origin owns in the place where they were
/// recorded.
fn owned_headers(
    recording: &Recording,
    etag: Option<&str>,
    last_modified: Option<HeaderValue>,
    gzip: bool,
    unchanged: bool,
) -> HeaderMap {
    let live = is_api(&recording.exchange.host);
    let etag = etag.and_then(|etag| HeaderValue::from_str(etag).ok());
    let mut headers = HeaderMap::with_capacity(recording.headers.len() + 8);
    for (name, value) in &recording.headers {
        if belongs_to_the_transfer(name) || unchanged && (*name == LINK || *name == CONTENT_TYPE) {
            continue;
        }
        if *name == DATE || live && RATE_HEADERS.contains(name) {
            headers.insert(name, NOT_PROVIDED);
        } else if let (true, Some(etag)) = (*name == ETAG, &etag) {
            headers.insert(ETAG, etag.clone());
        } else if let (true, Some(modified)) = (*name == LAST_MODIFIED, &last_modified) {
            headers.insert(LAST_MODIFIED, modified.clone());
        } else {
            headers.append(name, value.clone());
        }
    }
    if let Some(etag) = etag {
        headers.insert(ETAG, etag);
    }
    if gzip {
        headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    }
    headers
}

/// What GitHub says to a caller with a token, and to one without (recorded 2019 to 2026).
fn for_caller(headers: &mut HeaderMap, view: View) {
    let (scope, vary) = match view.kind {
        Some(_) => ("private", "Accept, Authorization, Cookie, X-GitHub-OTP"),
        None => ("public", "Accept"),
    };
    headers.insert(VARY, HeaderValue::from_static(vary));
    headers.append(VARY, HeaderValue::from_static("Accept-Encoding, Accept, X-Requested-With"));
    let recorded = headers.get(CACHE_CONTROL).and_then(|value| value.to_str().ok());
    let rest = recorded
        .and_then(|value| value.split_once(','))
        .filter(|(first, _)| matches!(first.trim(), "private" | "public"));
    if let Some((_, rest)) = rest
        && let Ok(value) = HeaderValue::from_str(&format!("{scope},{rest}"))
    {
        headers.insert(CACHE_CONTROL, value);
    }
}

/// Headers that describe one transfer, not the recording (RFC 9110, 7.6.1), and content coding.
fn belongs_to_the_transfer(name: &HeaderName) -> bool {
    [CONNECTION, CONTENT_ENCODING, CONTENT_LENGTH, TE, TRAILER, TRANSFER_ENCODING, UPGRADE].contains(name)
        || matches!(name.as_str(), "keep-alive" | "proxy-connection")
}

/// Whether a content type is text of some sort; a type that was not recorded is not.
fn compressible(content_type: Option<&str>) -> bool {
    content_type.is_some_and(|content_type| {
        let lower = content_type.to_ascii_lowercase();
        lower.starts_with("text/") || ["json", "xml", "javascript"].iter().any(|kind| lower.contains(kind))
    })
}

/// `body` in gzip. `None` if the encoder fails, which writing into memory does not.
fn pack(body: &[u8]) -> Option<Bytes> {
    let mut encoder = GzEncoder::new(Vec::with_capacity(body.len() / 4), Compression::fast());
    encoder.write_all(body).ok()?;
    encoder.finish().ok().map(Bytes::from)
}

/// An HTTP-date (RFC 9110, 5.6.7), whole seconds.
pub(crate) fn http_date(millis: u64) -> HeaderValue {
    // The format ends with the year 9999.
    const LAST: u64 = 253_402_300_799;
    let time: SystemTime = UNIX_EPOCH + Duration::from_secs((millis / 1000).min(LAST));
    HeaderValue::from_str(&httpdate::fmt_http_date(time)).unwrap_or(NOT_PROVIDED)
}
