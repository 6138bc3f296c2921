//! What goes wrong: answers of the proxy's own, in the shape that GitHub's clients parse, and the
//! errors of building and serving.

use std::path::PathBuf;

use bytes::Bytes;
use http::header::{ALLOW, CONTENT_LENGTH, CONTENT_TYPE, HeaderName, HeaderValue, RETRY_AFTER};
use http::{Response, StatusCode};

use crate::body::ResponseBody;
use crate::budget::{Spent, SpentReason};
use crate::cache_status::{CacheStatus, Forward};

/// Where a reader of an error learns more about the API's own limits and errors.
const DOCUMENTATION: &str = "https://docs.github.com/rest";

/// Where GitHub explains its rate limits.
const RATE_LIMITS: &str = "https://docs.github.com/rest/overview/rate-limits-for-the-rest-api";

/// An answer that the proxy gives itself. Texts name no internals: no address, no key, no header
/// value.
#[derive(Clone, Debug)]
pub(crate) struct Problem {
    status: StatusCode,
    message: &'static str,
    detail: &'static str,
    forward: Option<Forward>,
    retry_after: Option<u64>,
    allow: Option<&'static str>,
    spent: Option<Spent>,
}

impl Problem {
    const fn new(status: StatusCode, message: &'static str, detail: &'static str) -> Self {
        Self { status, message, detail, forward: None, retry_after: None, allow: None, spent: None }
    }

    /// 400: the request cannot be understood or must not be passed on.
    pub(crate) const fn bad_request(message: &'static str, detail: &'static str) -> Self {
        Self::new(StatusCode::BAD_REQUEST, message, detail)
    }

    /// 404: not one of the proxy's own endpoints.
    pub(crate) const fn no_such_endpoint() -> Self {
        Self::new(
            StatusCode::NOT_FOUND,
            "peercache: no such endpoint; there are /-/ (the status page), /-/events, /-/stats, /-/metrics, \
             /-/health/live, /-/health/ready, /-/explain?url=URL and /-/cache/KEY",
            "local",
        )
    }

    /// 503: as many status pages are live as may be.
    pub(crate) const fn too_many_pages() -> Self {
        Self::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "peercache: 16 status pages are kept up to date already; close one, or load the page again",
            "local",
        )
    }

    /// 404: webhooks are not taken.
    pub(crate) const fn no_webhook() -> Self {
        Self::new(
            StatusCode::NOT_FOUND,
            "peercache: webhooks are taken only when the server is started with --webhook-secret",
            "webhook",
        )
    }

    /// 401: a delivery that is not signed with the webhook's secret.
    pub(crate) const fn bad_signature() -> Self {
        Self::new(
            StatusCode::UNAUTHORIZED,
            "peercache: X-Hub-Signature-256 does not fit; give GitHub and --webhook-secret the same secret",
            "signature",
        )
    }

    /// 501: `CONNECT`.
    pub(crate) const fn connect() -> Self {
        Self::new(
            StatusCode::NOT_IMPLEMENTED,
            "peercache: CONNECT is not answered here. Start `peercache serve` with --forward-proxy, or use its \
             address as the API's base URL, or its unix socket with `gh config set http_unix_socket PATH`",
            "connect",
        )
    }

    /// 405: the method is not one that this resource has.
    pub(crate) const fn method_not_allowed(allow: &'static str) -> Self {
        let mut problem = Self::new(
            StatusCode::METHOD_NOT_ALLOWED,
            "peercache: this method is not allowed here; the header Allow lists those that are",
            "method-not-allowed",
        );
        problem.allow = Some(allow);
        problem
    }

    /// 403: a page of another origin asks for one of the proxy's own endpoints.
    pub(crate) const fn other_origin() -> Self {
        Self::new(
            StatusCode::FORBIDDEN,
            "peercache: the proxy's own endpoints do not answer pages of other origins",
            "other-origin",
        )
    }

    /// 403: from another machine, without a token that it could show.
    pub(crate) const fn beyond_loopback() -> Self {
        Self::new(
            StatusCode::FORBIDDEN,
            "peercache: clients of other machines are answered here only when the server is started with \
             --client-token",
            "client-token",
        )
    }

    /// 403: what is explained is for users of this machine.
    pub(crate) const fn explained_elsewhere() -> Self {
        Self::new(
            StatusCode::FORBIDDEN,
            "peercache: /-/explain answers clients of this machine only, over loopback or the socket",
            "beyond-loopback",
        )
    }

    /// 413: a value is larger than the bound.
    pub(crate) const fn too_large() -> Self {
        Self::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            "peercache: the value is larger than this server keeps",
            "too-large",
        )
    }

    /// 400: an upload ended early or too slowly.
    pub(crate) const fn broken_upload() -> Self {
        Self::new(
            StatusCode::BAD_REQUEST,
            "peercache: the value did not arrive whole; nothing was stored",
            "incomplete",
        )
    }

    /// 507: no tier took a value.
    pub(crate) const fn not_stored() -> Self {
        Self::new(
            StatusCode::INSUFFICIENT_STORAGE,
            "peercache: no tier of the cache took the value; `peercache stats` says why",
            "not-stored",
        )
    }

    /// 421: the request is for a host that this proxy does not answer for.
    pub(crate) const fn misdirected() -> Self {
        Self::new(
            StatusCode::MISDIRECTED_REQUEST,
            "peercache: this proxy does not answer for the host of this request, and sent nothing. Use its \
             listening address; or start `peercache serve` with --host NAME for a name of its own, or with \
             one more --upstream URL for another GitHub",
            "unknown-host",
        )
    }

    /// 508: the request has been here before.
    pub(crate) const fn looped() -> Self {
        Self::new(
            StatusCode::LOOP_DETECTED,
            "peercache: this request came back to the proxy that sent it; --upstream of one of the proxies \
             leads to the other",
            "loop",
        )
    }

    /// 504: `only-if-cached`, and nothing usable is stored.
    pub(crate) const fn only_if_cached() -> Self {
        Self::new(
            StatusCode::GATEWAY_TIMEOUT,
            "peercache: nothing usable is stored and the request said only-if-cached; send it without to \
             ask GitHub",
            "only-if-cached",
        )
    }

    /// 502: no answer from upstream.
    pub(crate) const fn unreachable(why: Forward) -> Self {
        let mut problem = Self::new(
            StatusCode::BAD_GATEWAY,
            "peercache: the upstream server cannot be reached or broke the connection; check the network \
             and https://www.githubstatus.com, then try again",
            "upstream-unreachable",
        );
        problem.forward = Some(why);
        problem
    }

    /// 504: upstream took too long.
    pub(crate) const fn timeout(why: Forward) -> Self {
        let mut problem = Self::new(
            StatusCode::GATEWAY_TIMEOUT,
            "peercache: the upstream server did not answer in time; try again later",
            "upstream-timeout",
        );
        problem.forward = Some(why);
        problem
    }

    /// 503: too many requests are waiting for upstream.
    pub(crate) const fn busy(why: Forward) -> Self {
        let mut problem = Self::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "peercache: too many requests are under way to the upstream server; try again after the \
             seconds in Retry-After",
            "upstream-queue-full",
        );
        problem.forward = Some(why);
        problem.retry_after = Some(5);
        problem
    }

    /// 403: nothing of a rate limit is left for this request. As GitHub would say it, so that
    /// clients wait.
    pub(crate) const fn spent(why: Forward, spent: Spent) -> Self {
        let message = match spent.reason {
            SpentReason::Quota => {
                "API rate limit exceeded. Said by peercache, which sent nothing: GitHub has told it that \
                 nothing is left until x-ratelimit-reset"
            }
            SpentReason::Reserve => {
                "API rate limit exceeded. Said by peercache, which sent nothing: what is left is kept for \
                 requests with `Priority: u=0` (CACHE_GITHUB_RESERVE)"
            }
            SpentReason::Pause => {
                "You have exceeded a secondary rate limit. Said by peercache, which sent nothing: GitHub \
                 asked for a pause; try again after the seconds in Retry-After"
            }
        };
        let mut problem = Self::new(StatusCode::FORBIDDEN, message, spent.reason.detail());
        problem.forward = Some(why);
        problem.retry_after = Some(spent.retry_after);
        problem.spent = Some(spent);
        problem
    }

    /// 500: a task ended without an answer.
    pub(crate) const fn internal() -> Self {
        Self::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "peercache: the request was given up inside the proxy; try again, and report it if it stays",
            "internal",
        )
    }

    /// As a response.
    pub(crate) fn into_response(self) -> Response<ResponseBody> {
        let documentation = if self.spent.is_some() { RATE_LIMITS } else { DOCUMENTATION };
        let json = serde_json::json!({ "message": self.message, "documentation_url": documentation });
        let body = Bytes::from(json.to_string());
        let mut response = Response::new(ResponseBody::empty());
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json; charset=utf-8"));
        headers.insert(CONTENT_LENGTH, HeaderValue::from(body.len()));
        if let Some(seconds) = self.retry_after {
            headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
        }
        if let Some(methods) = self.allow {
            headers.insert(ALLOW, HeaderValue::from_static(methods));
        }
        if let Some(Spent { quota: Some(quota), resource, .. }) = self.spent {
            let numbers =
                [("limit", quota.limit), ("used", quota.used), ("remaining", 0), ("reset", quota.reset)];
            for (name, number) in numbers {
                if let Ok(name) = HeaderName::try_from(format!("x-ratelimit-{name}")) {
                    headers.insert(name, HeaderValue::from(number));
                }
            }
            headers.insert("x-ratelimit-resource", HeaderValue::from_static(resource.as_str()));
        }
        let status = match self.forward {
            Some(why) => CacheStatus::forwarded(why).detail(Some(self.detail)),
            None => CacheStatus::local(self.detail),
        };
        status.append_to(headers);
        *response.body_mut() = ResponseBody::full(body);
        response
    }
}

/// Why a [`crate::GitHubCache`] cannot be built.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BuildError {
    /// A URL is not one that can be used.
    #[error("{what} is {url:?}: {problem}; give an http or https URL such as https://api.github.com")]
    Url {
        /// Which setting.
        what: &'static str,
        /// Its value, without user name and password.
        url: String,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// A host to route is not a host name.
    #[error("the host to route is {0:?}; give a name such as uploads.github.com, without scheme and path")]
    Host(String),
    /// The rules about routes cannot be used.
    #[error("the rules in {} cannot be used: {problem}; see docs/reference/proxy.md for their form", path.display())]
    Policy {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// No install key was given.
    #[error("no install key: call install_key with 32 random bytes that stay the same between restarts")]
    NoInstallKey,
    /// No upstream was given.
    #[error("no upstream: give the URL of at least one API, such as https://api.github.com")]
    NoUpstream,
    /// The address of a trusted proxy is none.
    #[error("the trusted proxy is {0:?}; give an address such as 10.0.0.7 or a network such as 10.0.0.0/8")]
    TrustedProxy(String),
    /// TLS for connections to upstream cannot be set up.
    #[error("TLS for connections to the upstream cannot be set up: {0}")]
    Tls(String),
}

/// Why serving cannot begin.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServeError {
    /// There is nothing to listen on.
    #[error("there is nothing to listen on: give a TCP address or a unix socket")]
    NoListener,
    /// A TCP address cannot be listened on.
    #[error("cannot listen on {address}: {source}; choose another port, or stop what uses it")]
    Bind {
        /// The address.
        address: std::net::SocketAddr,
        /// What the system said.
        source: std::io::Error,
    },
    /// Another process accepts connections on the socket.
    #[error("{} is in use: another process is listening on it; stop it or choose another path", path.display())]
    SocketInUse {
        /// The socket.
        path: PathBuf,
    },
    /// Something else is where the socket should be.
    #[error("{} exists and is not a socket; it is left alone: remove it or choose another path", path.display())]
    NotASocket {
        /// The path.
        path: PathBuf,
    },
    /// The socket cannot be made.
    #[error("cannot make the socket {}: {source}; check that its directory exists and may be written", path.display())]
    Socket {
        /// The socket.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::BodyExt;

    #[tokio::test]
    async fn problems_are_json_with_a_message_and_a_cache_status() {
        for (problem, status, cache_status) in [
            (Problem::connect(), 501, "peercache; detail=connect"),
            (Problem::timeout(Forward::Stale), 504, "peercache; fwd=stale; detail=upstream-timeout"),
            (
                Problem::unreachable(Forward::UriMiss),
                502,
                "peercache; fwd=uri-miss; detail=upstream-unreachable",
            ),
            (Problem::busy(Forward::Method), 503, "peercache; fwd=method; detail=upstream-queue-full"),
            (Problem::only_if_cached(), 504, "peercache; detail=only-if-cached"),
        ] {
            let response = problem.into_response();
            assert_eq!(response.status().as_u16(), status);
            assert_eq!(response.headers()["cache-status"], cache_status);
            assert_eq!(response.headers().contains_key(RETRY_AFTER), status == 503);
            let body = response.into_body().collect().await.unwrap().to_bytes();
            let json: serde_json::Value = serde_json::from_slice(&body).unwrap();
            assert!(json["message"].as_str().unwrap().starts_with("peercache: "));
            assert!(json["documentation_url"].is_string());
        }
    }
}
