//! `/-/cache/{key}`: values of any kind, for ccache, sccache (WebDAV), Bazel, Gradle and scripts. `GET` and
//! `HEAD` read, `PUT` stores, `DELETE` removes; bodies are streamed both ways.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use http::header::{
    ALLOW, AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE, HeaderMap, HeaderValue, ORIGIN, WWW_AUTHENTICATE,
};
use http::request::Parts;
use http::{Method, Response, StatusCode};
use http_body::Body;
use http_body_util::BodyExt;
use peercache::stream::StreamOptions;
use peercache::{Cache, Key, Ttl};
use subtle::ConstantTimeEq;

use crate::arrival::Arrival;
use crate::body::{PIPE_BYTES, ResponseBody, pipe};
use crate::cache_status::CacheStatus;
use crate::error::Problem;
use crate::fetch::Client;
use crate::upstream::{Limits, Upload};

/// Where it is, without the slash at the start.
pub(crate) const PREFIX: &str = "-/cache/";
/// The longest key.
const MAX_KEY_BYTES: usize = 512;
const METHODS: &str = "GET, HEAD, PUT, DELETE, OPTIONS, PROPFIND, MKCOL";

/// What the endpoint allows.
#[derive(Clone, Debug)]
pub(crate) struct BuildCache {
    /// The largest value, in bytes.
    pub(crate) most: u64,
    /// For how long a value is kept.
    pub(crate) ttl: Duration,
    /// What clients beyond loopback have to show.
    pub(crate) token: Option<String>,
}

impl Default for BuildCache {
    fn default() -> Self {
        Self { most: 1024 * 1024 * 1024, ttl: Duration::from_secs(7 * 24 * 3600), token: None }
    }
}

impl BuildCache {
    /// Answers a request for `key`.
    pub(crate) async fn answer<B>(
        &self,
        cache: &Cache,
        limits: &Limits,
        parts: &Parts,
        body: B,
        key: &str,
        arrival: &Arrival,
    ) -> Result<Response<ResponseBody>, Problem>
    where
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        if parts.headers.contains_key(ORIGIN) {
            return Err(Problem::other_origin());
        }
        if let Some(refusal) = self.authorize(&parts.headers, arrival)? {
            return Ok(refusal);
        }
        match parts.method.as_str() {
            // What WebDAV clients ask before they write: there are no collections to make.
            "OPTIONS" => {
                let mut response = status(StatusCode::NO_CONTENT, "local");
                response.headers_mut().insert(ALLOW, HeaderValue::from_static(METHODS));
                response.headers_mut().insert("dav", HeaderValue::from_static("1"));
                return Ok(response);
            }
            "MKCOL" => return Ok(status(StatusCode::CREATED, "local")),
            "PROPFIND" => return self.properties(cache, parts, key).await,
            _ => {}
        }
        let key = stored_key(key)?;
        match parts.method {
            Method::GET | Method::HEAD => self.read(cache, parts, &key, limits).await,
            Method::PUT => self.store(cache, limits, parts, body, &key).await,
            Method::DELETE => {
                cache.remove(&key).await;
                Ok(status(StatusCode::NO_CONTENT, "removed"))
            }
            _ => Err(Problem::method_not_allowed(METHODS)),
        }
    }

    fn authorize(
        &self,
        headers: &HeaderMap,
        arrival: &Arrival,
    ) -> Result<Option<Response<ResponseBody>>, Problem> {
        if arrival.peer.is_none_or(|peer| peer.to_canonical().is_loopback()) {
            return Ok(None);
        }
        let Some(token) = &self.token else { return Err(Problem::beyond_loopback()) };
        let shown = headers.get(AUTHORIZATION).and_then(credential).unwrap_or_default();
        if bool::from(shown.as_bytes().ct_eq(token.as_bytes())) {
            return Ok(None);
        }
        let mut response = status(StatusCode::UNAUTHORIZED, "client-token");
        let challenge = HeaderValue::from_static("Basic realm=\"peercache\"");
        response.headers_mut().insert(WWW_AUTHENTICATE, challenge);
        Ok(Some(response))
    }

    async fn read(
        &self,
        cache: &Cache,
        parts: &Parts,
        key: &Key,
        limits: &Limits,
    ) -> Result<Response<ResponseBody>, Problem> {
        let Some(value) = cache.get_stream(key).await else {
            return Ok(status(StatusCode::NOT_FOUND, "miss"));
        };
        let mut response = Response::new(ResponseBody::empty());
        let headers = response.headers_mut();
        headers.insert(CONTENT_LENGTH, HeaderValue::from(value.len()));
        let media = value.content_type().and_then(|media| HeaderValue::from_str(media).ok());
        let media = media.unwrap_or(HeaderValue::from_static("application/octet-stream"));
        headers.insert(CONTENT_TYPE, media);
        CacheStatus::hit(value.metadata().fresh_for.as_secs()).append_to(headers);
        if parts.method == Method::HEAD || value.is_empty() {
            return Ok(response);
        }
        let (writer, reader) = pipe();
        let idle = limits.idle;
        let mut stream = value.into_stream();
        tokio::spawn(async move {
            let mut client = Client(Some(writer));
            while let Some(piece) = stream.next().await {
                // A value with a part missing breaks the body off: its length says so.
                let Ok(piece) = piece else { return };
                client.give(piece, idle, PIPE_BYTES).await;
                if client.0.is_none() {
                    return;
                }
            }
            client.finish();
        });
        *response.body_mut() = ResponseBody::pipe(reader);
        Ok(response)
    }

    async fn store<B>(
        &self,
        cache: &Cache,
        limits: &Limits,
        parts: &Parts,
        body: B,
        key: &Key,
    ) -> Result<Response<ResponseBody>, Problem>
    where
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let announced = body.size_hint().exact();
        if announced.is_some_and(|bytes| bytes > self.most) {
            return Err(Problem::too_large());
        }
        let mut options = StreamOptions::new(Ttl::new(self.ttl));
        if let Some(bytes) = announced {
            options = options.expected_len(bytes);
        }
        let media = parts.headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
        if let Some(media) = media.filter(|media| !media.starts_with("application/vnd.peercache.")) {
            options = options.content_type(media);
        }
        let source = Box::pin(bounded(Upload::new(body, limits), self.most));
        match cache.put_stream(key, source, options).await {
            Ok(outcome) if outcome.stored => Ok(status(StatusCode::CREATED, "stored")),
            Ok(_) => Err(Problem::not_stored()),
            Err(error) => {
                let too_large =
                    std::iter::successors(Some(&error as &(dyn std::error::Error + 'static)), |&error| {
                        error.source()
                    })
                    .any(|error| error.is::<TooLarge>());
                tracing::debug!(%error, "a value of a build was not stored");
                Err(if too_large { Problem::too_large() } else { Problem::broken_upload() })
            }
        }
    }

    /// What sccache's WebDAV client asks about a path: whether it is there.
    async fn properties(
        &self,
        cache: &Cache,
        parts: &Parts,
        key: &str,
    ) -> Result<Response<ResponseBody>, Problem> {
        let is_collection = key.is_empty() || key.ends_with('/');
        let (length, kind) = if is_collection {
            (0, "<D:resourcetype><D:collection/></D:resourcetype>")
        } else {
            match cache.get_stream(&stored_key(key)?).await {
                Some(value) => (value.len(), "<D:resourcetype/>"),
                None => return Ok(status(StatusCode::NOT_FOUND, "miss")),
            }
        };
        let path = parts.uri.path().replace('&', "&amp;").replace('<', "&lt;");
        let body = format!(
            "<?xml version=\"1.0\" encoding=\"utf-8\"?><D:multistatus xmlns:D=\"DAV:\"><D:response>\
             <D:href>{path}</D:href><D:propstat><D:prop>{kind}\
             <D:getcontentlength>{length}</D:getcontentlength>\
             <D:getlastmodified>Thu, 01 Jan 1970 00:00:00 GMT</D:getlastmodified></D:prop>\
             <D:status>HTTP/1.1 200 OK</D:status></D:propstat></D:response></D:multistatus>"
        );
        let mut response = status(StatusCode::MULTI_STATUS, "local");
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/xml; charset=utf-8"));
        headers.insert(CONTENT_LENGTH, HeaderValue::from(body.len()));
        *response.body_mut() = ResponseBody::full(body.into());
        Ok(response)
    }
}

/// The source has more bytes than a value may have.
#[derive(Debug, thiserror::Error)]
#[error("the value is larger than the bound")]
struct TooLarge;

/// The data of a body, up to `most` bytes.
fn bounded<B>(
    body: B,
    most: u64,
) -> impl Stream<Item = Result<Bytes, Box<dyn std::error::Error + Send + Sync>>>
where
    B: Body<Data = Bytes, Error = Box<dyn std::error::Error + Send + Sync>>,
{
    let start = (Box::pin(body), 0_u64);
    futures_util::stream::try_unfold(start, move |(mut body, taken)| async move {
        while let Some(frame) = body.frame().await {
            if let Ok(bytes) = frame?.into_data() {
                let taken = taken + bytes.len() as u64;
                if taken > most {
                    return Err(TooLarge.into());
                }
                return Ok(Some((bytes, (body, taken))));
            }
        }
        Ok(None)
    })
}

/// The key under which a value is stored: apart from everything of GitHub's.
fn stored_key(key: &str) -> Result<Key, Problem> {
    let is_key = (1..=MAX_KEY_BYTES).contains(&key.len())
        && key.bytes().all(|byte| byte.is_ascii_graphic())
        && !key.split('/').any(|segment| matches!(segment, "." | ".."));
    let key = is_key.then(|| Key::new(format!("build/{key}")).ok()).flatten();
    key.ok_or(Problem::bad_request(
        "peercache: a key has 1 to 512 printable ASCII characters and no segment `.` or `..`",
        "bad-key",
    ))
}

/// The password of `Basic`, or the token of `Bearer`.
fn credential(value: &HeaderValue) -> Option<String> {
    let (scheme, rest) = value.to_str().ok()?.split_once(' ')?;
    if scheme.eq_ignore_ascii_case("bearer") {
        return Some(rest.trim().to_owned());
    }
    let decoded = STANDARD.decode(rest.trim()).ok().filter(|_| scheme.eq_ignore_ascii_case("basic"))?;
    let pair = String::from_utf8(decoded).ok()?;
    pair.split_once(':').map(|(_, password)| password.to_owned())
}

fn status(status: StatusCode, detail: &'static str) -> Response<ResponseBody> {
    let mut response = Response::new(ResponseBody::empty());
    *response.status_mut() = status;
    if status != StatusCode::NO_CONTENT {
        response.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from(0));
    }
    CacheStatus::local(detail).append_to(response.headers_mut());
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_stay_apart_and_within_bounds() {
        assert_eq!(stored_key("ac/0a1b").unwrap().as_str(), "build/ac/0a1b");
        for key in ["", "a b", "../grant/x", "a/./b", "é", &"k".repeat(MAX_KEY_BYTES + 1)] {
            assert!(stored_key(key).is_err(), "{key}");
        }
    }
}
