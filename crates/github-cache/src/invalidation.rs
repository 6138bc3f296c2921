//! Invalidation from outside: GitHub's webhooks, and `peercache invalidate --github`.

use std::sync::{Arc, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, HeaderName, ORIGIN};
use http::request::Parts;
use http::{Method, Response, StatusCode};
use http_body::Body;
use http_body_util::{BodyExt, Limited};

use crate::arrival::Arrival;
use crate::body::ResponseBody;
use crate::cache_status::CacheStatus;
use crate::error::Problem;
use crate::shared::Shared;
use crate::webhook::{Event, RepositoryName};

/// Where GitHub delivers events, without the slash at the start.
pub(crate) const WEBHOOK: &str = "-/webhook";
/// Where a repository is invalidated by hand.
pub(crate) const INVALIDATE: &str = "-/invalidate";

/// The largest delivery: GitHub sends at most 25 MB.
const MAX_DELIVERY_BYTES: usize = 25 * 1024 * 1024;
/// How long a delivery may take to arrive.
const ARRIVES_WITHIN: Duration = Duration::from_secs(30);
/// An event may come before what it tells of is seen by every read: it is marked once more after
/// this.
const AGAIN_AFTER: Duration = Duration::from_secs(5);
/// How many repositories wait to be marked again; further ones are marked once.
const MAX_AGAIN: usize = 10_000;

const DELIVERY: HeaderName = HeaderName::from_static("x-github-delivery");
const EVENT: HeaderName = HeaderName::from_static("x-github-event");

/// Events after which others may see a repository, or under another name.
const ABOUT_RIGHTS: [&str; 8] = [
    "repository",
    "public",
    "member",
    "team",
    "team_add",
    "installation",
    "installation_repositories",
    "organization",
];

/// Makes everything of a repository, `OWNER/REPO`, be asked for again before it is served, for
/// every token and on every machine that shares the store. Nothing is removed: what did not
/// change is confirmed free of charge.
///
/// Returns `false`, and does nothing, for what is no name of a repository. Completes when the
/// local tiers have it; cancelled, it may have happened or not.
pub(crate) async fn invalidate_repository(shared: &Shared, name: &str) -> bool {
    let Some(name) = RepositoryName::new(name) else { return false };
    mark(shared, &name, None, true).await;
    true
}

/// Answers `POST /-/invalidate?repository=OWNER/REPO`.
pub(crate) async fn invalidate_by_hand(
    shared: &Shared,
    parts: &Parts,
    arrival: &Arrival,
) -> Result<Response<ResponseBody>, Problem> {
    if parts.method != Method::POST {
        return Err(Problem::method_not_allowed("POST"));
    }
    if parts.headers.contains_key(ORIGIN) {
        return Err(Problem::other_origin());
    }
    if let Some(refusal) = shared.build_cache.authorize(&parts.headers, arrival)? {
        return Ok(refusal);
    }
    let query = parts.uri.query().unwrap_or_default();
    let named = query.split('&').find_map(|parameter| parameter.strip_prefix("repository="));
    match named {
        Some(name) if invalidate_repository(shared, &name.replace("%2F", "/")).await => {
            Ok(done(StatusCode::NO_CONTENT, "invalidated"))
        }
        _ => Err(Problem::bad_request(
            "peercache: name a repository with ?repository=OWNER/REPO",
            "repository",
        )),
    }
}

/// Answers a delivery of an event. What it is about is marked before the answer is sent, and
/// once more after [`AGAIN_AFTER`].
pub(crate) async fn deliver<B>(
    shared: &Arc<Shared>,
    parts: &Parts,
    body: B,
) -> Result<Response<ResponseBody>, Problem>
where
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    if parts.method != Method::POST {
        return Err(Problem::method_not_allowed("POST"));
    }
    let webhook = &shared.webhook;
    if !webhook.is_taken() {
        return Err(Problem::no_webhook());
    }
    let arriving = Limited::new(body, MAX_DELIVERY_BYTES).collect();
    let body = match tokio::time::timeout(ARRIVES_WITHIN, Box::pin(arriving)).await {
        Ok(Ok(body)) => body.to_bytes(),
        Ok(Err(error)) if error.is::<http_body_util::LengthLimitError>() => {
            return Err(Problem::too_large());
        }
        Ok(Err(_)) | Err(_) => return Err(Problem::broken_upload()),
    };
    if !webhook.is_signed(&parts.headers, &body) {
        return Err(Problem::bad_signature());
    }
    let id = parts.headers.get(DELIVERY).map(|id| Bytes::copy_from_slice(id.as_bytes()));
    if id.as_ref().is_some_and(|id| webhook.delivered.get(id).is_some()) {
        return Ok(done(StatusCode::OK, "delivered-before"));
    }
    let event: Event = serde_json::from_slice(&body).map_err(|_| {
        Problem::bad_request(
            "peercache: the event is no JSON; set the webhook's content type to application/json",
            "event",
        )
    })?;
    let kind = parts.headers.get(EVENT).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    let about_rights = ABOUT_RIGHTS.contains(&kind);
    for (name, id) in event.repositories() {
        mark(shared, &name, id, about_rights).await;
        mark_again(shared, name, id, about_rights);
    }
    // Only now: a delivery that was cut off is to count when it comes again.
    if let Some(id) = id {
        webhook.delivered.insert(id, ());
    }
    Ok(done(StatusCode::NO_CONTENT, "event"))
}

async fn mark(shared: &Shared, name: &RepositoryName, id: Option<u64>, about_rights: bool) {
    for api in shared.hosts.apis() {
        shared.store.invalidate_repository(api.authority(), name.as_str(), id, about_rights).await;
    }
}

fn mark_again(shared: &Arc<Shared>, name: RepositoryName, id: Option<u64>, about_rights: bool) {
    let waiting = Arc::clone(&shared.webhook.again);
    {
        let mut waiting = waiting.lock().unwrap_or_else(PoisonError::into_inner);
        // One that waits already is marked later than this event. A change of rights invalidates
        // more, so it does not count as waiting behind another event.
        if waiting.len() >= MAX_AGAIN || !waiting.insert((name.clone(), about_rights)) {
            return;
        }
    }
    let shared = Arc::clone(shared);
    tokio::spawn(async move {
        tokio::time::sleep(AGAIN_AFTER).await;
        waiting.lock().unwrap_or_else(PoisonError::into_inner).remove(&(name.clone(), about_rights));
        mark(&shared, &name, id, about_rights).await;
    });
}

fn done(status: StatusCode, detail: &'static str) -> Response<ResponseBody> {
    let mut response = Response::new(ResponseBody::empty());
    *response.status_mut() = status;
    if status != StatusCode::NO_CONTENT {
        response.headers_mut().insert(CONTENT_LENGTH, http::HeaderValue::from(0));
    }
    CacheStatus::local(detail).append_to(response.headers_mut());
    response
}
