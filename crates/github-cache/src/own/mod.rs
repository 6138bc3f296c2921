//! The proxy's own endpoints: what an operator and a monitor look at. They only look.

mod live;
mod metrics;
mod page;

use bytes::Bytes;
use http::header::{
    CACHE_CONTROL, CONTENT_LENGTH, CONTENT_SECURITY_POLICY, CONTENT_TYPE, X_CONTENT_TYPE_OPTIONS,
};
use http::{HeaderValue, Response};
use serde::Serialize;
use serde_json::json;

use crate::body::ResponseBody;
use crate::error::Problem;
use crate::report::StatsReport;

pub(crate) use self::live::{LivePages, Stopping};

const JSON: &str = "application/json; charset=utf-8";

/// An endpoint of the proxy's own; `Problem::no_such_endpoint` lists them for people.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Endpoint {
    /// The status page.
    Page,
    /// What changes in the status page, again and again.
    Events,
    /// The report as JSON.
    Stats,
    /// The report as metrics.
    Metrics,
    /// Whether the process answers.
    Live,
    /// What is degraded. The proxy answers without any tier, so that is no reason to send it no
    /// requests.
    Ready,
}

impl Endpoint {
    /// The endpoint at `path`, which has no leading slash. Those below `/-/peercache/` are the
    /// names of early builds, which monitors still ask for.
    pub(crate) fn of(path: &str) -> Option<Self> {
        Some(match path {
            "-/" | "-" => Self::Page,
            "-/events" => Self::Events,
            "-/stats" | "-/peercache/stats" => Self::Stats,
            "-/metrics" | "metrics" => Self::Metrics,
            "-/health/live" | "-/peercache/health" => Self::Live,
            "-/health/ready" => Self::Ready,
            _ => return None,
        })
    }

    /// Its answer; `report` is asked for where it is needed, and again for each event.
    pub(crate) fn answer(
        self,
        live: &LivePages,
        stop: Option<&Stopping>,
        report: impl Fn() -> StatsReport + Send + 'static,
    ) -> Result<Response<ResponseBody>, Problem> {
        let (media, text) = match self {
            Self::Events => return live.open(stop, report),
            Self::Page => (page::MEDIA, page::render(&report()).map_err(|_| Problem::internal())?),
            Self::Stats => (JSON, serde_json::to_string(&report()).map_err(|_| Problem::internal())?),
            Self::Metrics => (metrics::MEDIA, metrics::render(report()).map_err(|_| Problem::internal())?),
            Self::Live => (JSON, json!({ "status": "live" }).to_string()),
            Self::Ready => (JSON, json!({ "status": "ready", "degraded": report().degraded }).to_string()),
        };
        let mut response = answer(media, text);
        if self == Self::Page {
            let policy = HeaderValue::from_str(&page::POLICY).map_err(|_| Problem::internal())?;
            response.headers_mut().insert(CONTENT_SECURITY_POLICY, policy);
        }
        Ok(response)
    }
}

/// What the proxy itself says, as JSON.
pub(crate) fn json_answer(value: &impl Serialize) -> Result<Response<ResponseBody>, Problem> {
    serde_json::to_string(value).map(|text| answer(JSON, text)).map_err(|_| Problem::internal())
}

fn answer(media: &'static str, text: String) -> Response<ResponseBody> {
    let mut response = Response::new(ResponseBody::empty());
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(media));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(CONTENT_LENGTH, HeaderValue::from(text.len()));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    *response.body_mut() = ResponseBody::full(Bytes::from(text));
    response
}
