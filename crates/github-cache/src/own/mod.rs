//! The proxy's own endpoints: what an operator and a monitor look at. They only look.

mod metrics;
mod page;

use bytes::Bytes;
use http::header::{
    CACHE_CONTROL, CONTENT_LENGTH, CONTENT_SECURITY_POLICY, CONTENT_TYPE, X_CONTENT_TYPE_OPTIONS,
};
use http::{HeaderValue, Response};
use serde_json::json;

use crate::body::ResponseBody;
use crate::error::Problem;
use crate::report::StatsReport;

/// Each endpoint and what it answers; `no_such_endpoint` lists them for people.
pub(crate) fn answer(
    path: &str,
    report: impl FnOnce() -> StatsReport,
) -> Result<Response<ResponseBody>, Problem> {
    const JSON: &str = "application/json; charset=utf-8";
    let internal = |_| Problem::internal();
    let mut policy = None;
    let (media, text) = match path {
        "-/" | "-" => {
            policy = HeaderValue::from_str(&page::POLICY).ok();
            (page::MEDIA, page::render(&report()).map_err(internal)?)
        }
        "-/stats" => (JSON, serde_json::to_string(&report()).map_err(|_| Problem::internal())?),
        "-/health/live" => (JSON, json!({ "status": "live" }).to_string()),
        // It answers without any tier, so what is degraded is told and is no reason to take it away.
        "-/health/ready" => (JSON, json!({ "status": "ready", "degraded": report().degraded }).to_string()),
        "-/metrics" | "metrics" => (metrics::MEDIA, metrics::render(report()).map_err(internal)?),
        _ => return Err(Problem::no_such_endpoint()),
    };
    let mut response = Response::new(ResponseBody::empty());
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(media));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(CONTENT_LENGTH, HeaderValue::from(text.len()));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    if let Some(policy) = policy {
        headers.insert(CONTENT_SECURITY_POLICY, policy);
    }
    *response.body_mut() = ResponseBody::full(Bytes::from(text));
    Ok(response)
}
