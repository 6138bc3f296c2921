//! Invalidation from outside: GitHub's webhooks, and `peercache invalidate --github`.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use hmac::{Hmac, KeyInit, Mac};
use http::header::{CONTENT_LENGTH, HeaderMap, HeaderName, ORIGIN};
use http::request::Parts;
use http::{Method, Response, StatusCode};
use http_body::Body;
use http_body_util::{BodyExt, Limited};
use serde::Deserialize;
use sha2::Sha256;

use crate::arrival::Arrival;
use crate::body::ResponseBody;
use crate::cache_status::CacheStatus;
use crate::error::Problem;
use crate::proxy::GitHubCache;
use crate::shared::Shared;

/// Where GitHub delivers events, without the slash at the start.
pub(crate) const WEBHOOK: &str = "-/webhook";
/// Where a repository is invalidated by hand.
pub(crate) const INVALIDATE: &str = "-/invalidate";

/// The largest delivery: GitHub sends at most 25 MB.
const MAX_DELIVERY_BYTES: usize = 25 * 1024 * 1024;
/// How long a delivery may take to arrive.
const ARRIVES_WITHIN: Duration = Duration::from_secs(30);
/// How many deliveries are remembered, so that one that is delivered again does nothing.
const MAX_DELIVERIES: usize = 10_000;
/// An event may come before what it tells of is seen by every read: it is marked once more after
/// this.
const AGAIN_AFTER: Duration = Duration::from_secs(5);
/// How many repositories wait to be marked again; further ones are marked once.
const MAX_AGAIN: usize = 10_000;
/// The most repositories that one delivery names and that are invalidated.
const MAX_REPOSITORIES: usize = 1000;

const SIGNATURE: HeaderName = HeaderName::from_static("x-hub-signature-256");
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

/// A repository as GitHub names it: `OWNER/REPO`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct RepositoryName(String);

impl RepositoryName {
    /// `None` for what is no such name.
    pub(crate) fn new(text: &str) -> Option<Self> {
        let (owner, name) = text.split_once('/')?;
        let is_part = |part: &str| {
            !part.is_empty()
                && part.len() <= 100
                && part != "."
                && part != ".."
                && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
        };
        (is_part(owner) && is_part(name)).then(|| Self(text.to_ascii_lowercase()))
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

/// What is known about deliveries.
pub(crate) struct Webhook {
    secret: Option<Hmac<Sha256>>,
    delivered: quick_cache::sync::Cache<Bytes, ()>,
    again: Arc<Mutex<HashSet<(RepositoryName, bool)>>>,
}

impl std::fmt::Debug for Webhook {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Webhook").field("secret", &self.secret.is_some()).finish_non_exhaustive()
    }
}

impl Webhook {
    /// Deliveries are believed that are signed with `secret`; none without one.
    pub(crate) fn new(secret: Option<&str>) -> Self {
        // HMAC takes keys of every length.
        let secret = secret.and_then(|secret| Hmac::<Sha256>::new_from_slice(secret.as_bytes()).ok());
        Self { secret, delivered: quick_cache::sync::Cache::new(MAX_DELIVERIES), again: Arc::default() }
    }

    fn is_signed(&self, headers: &HeaderMap, body: &[u8]) -> bool {
        let Some(secret) = &self.secret else { return false };
        let signature = headers
            .get(SIGNATURE)
            .and_then(|value| value.to_str().ok())
            .and_then(|value| value.strip_prefix("sha256="))
            .and_then(decode_hex);
        let mut mac = secret.clone();
        mac.update(body);
        signature.is_some_and(|signature| mac.verify_slice(&signature).is_ok())
    }
}

fn decode_hex(text: &str) -> Option<Vec<u8>> {
    let digits = text.as_bytes();
    if digits.len() != 64 || !digits.iter().all(u8::is_ascii_hexdigit) {
        return None;
    }
    digits.chunks(2).map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()).collect()
}

/// The parts of an event that say what it is about.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Event {
    repository: Option<EventRepository>,
    repositories: Vec<EventRepository>,
    repositories_added: Vec<EventRepository>,
    repositories_removed: Vec<EventRepository>,
    changes: Option<Changes>,
}

#[derive(Debug, Deserialize)]
struct EventRepository {
    id: u64,
    full_name: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Changes {
    repository: Option<RenamedRepository>,
    owner: Option<FormerOwner>,
}

#[derive(Debug, Deserialize)]
struct RenamedRepository {
    name: Option<From>,
}

#[derive(Debug, Deserialize)]
struct From {
    from: String,
}

#[derive(Debug, Deserialize)]
struct FormerOwner {
    from: FormerAccount,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct FormerAccount {
    user: Option<Account>,
    organization: Option<Account>,
}

#[derive(Debug, Deserialize)]
struct Account {
    login: String,
}

impl Event {
    /// The repositories that it is about, under every name that it tells, with their ids.
    fn repositories(&self) -> Vec<(RepositoryName, Option<u64>)> {
        let mut found = Vec::new();
        let lists = [&self.repositories, &self.repositories_added, &self.repositories_removed];
        for one in self.repository.iter().chain(lists.into_iter().flatten()) {
            found.extend(RepositoryName::new(&one.full_name).map(|name| (name, Some(one.id))));
        }
        if let (Some(now), Some(changes)) = (&self.repository, &self.changes)
            && let Some((owner, name)) = now.full_name.split_once('/')
        {
            let former = changes.repository.as_ref().and_then(|renamed| renamed.name.as_ref());
            found.extend(
                former
                    .and_then(|former| RepositoryName::new(&format!("{owner}/{}", former.from)))
                    .map(|name| (name, None)),
            );
            let owners = changes.owner.as_ref().map(|owner| &owner.from);
            let owners = owners.into_iter().flat_map(|from| [&from.user, &from.organization]).flatten();
            found.extend(
                owners
                    .filter_map(|owner| RepositoryName::new(&format!("{}/{name}", owner.login)))
                    .map(|name| (name, None)),
            );
        }
        found.truncate(MAX_REPOSITORIES);
        found
    }
}

impl GitHubCache {
    /// Makes everything of a repository, `OWNER/REPO`, be asked for again before it is served, for
    /// every token and on every machine that shares the store. Nothing is removed: what did not
    /// change is confirmed free of charge.
    ///
    /// Returns `false`, and does nothing, for what is no name of a repository. Completes when the
    /// local tiers have it; cancelled, it may have happened or not.
    pub async fn invalidate_repository(&self, name: &str) -> bool {
        let Some(name) = RepositoryName::new(name) else { return false };
        mark(&self.shared, &name, None, true).await;
        true
    }

    /// Answers `POST /-/invalidate?repository=OWNER/REPO`.
    pub(crate) async fn invalidate_by_hand(
        &self,
        parts: &Parts,
        arrival: &Arrival,
    ) -> Result<Response<ResponseBody>, Problem> {
        if parts.method != Method::POST {
            return Err(Problem::method_not_allowed("POST"));
        }
        if parts.headers.contains_key(ORIGIN) {
            return Err(Problem::other_origin());
        }
        if let Some(refusal) = self.shared.build_cache.authorize(&parts.headers, arrival)? {
            return Ok(refusal);
        }
        let query = parts.uri.query().unwrap_or_default();
        let named = query.split('&').find_map(|parameter| parameter.strip_prefix("repository="));
        match named {
            Some(name) if self.invalidate_repository(&name.replace("%2F", "/")).await => {
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
    pub(crate) async fn deliver<B>(&self, parts: &Parts, body: B) -> Result<Response<ResponseBody>, Problem>
    where
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        if parts.method != Method::POST {
            return Err(Problem::method_not_allowed("POST"));
        }
        let webhook = &self.shared.webhook;
        if webhook.secret.is_none() {
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
            mark(&self.shared, &name, id, about_rights).await;
            mark_again(&self.shared, name, id, about_rights);
        }
        // Only now: a delivery that was cut off is to count when it comes again.
        if let Some(id) = id {
            webhook.delivered.insert(id, ());
        }
        Ok(done(StatusCode::NO_CONTENT, "event"))
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    fn names(event: &str) -> Vec<String> {
        let event: Event = serde_json::from_str(event).unwrap();
        event.repositories().into_iter().map(|(name, _)| name.0).collect()
    }

    #[test]
    fn event_names_its_repositories_also_as_they_were_called() {
        let plain = r#"{"action":"opened","repository":{"id":7,"full_name":"O/R","private":true}}"#;
        assert_eq!(names(plain), ["o/r"]);
        let renamed =
            r#"{"repository":{"id":7,"full_name":"O/New"},"changes":{"repository":{"name":{"from":"Old"}}}}"#;
        assert_eq!(names(renamed), ["o/new", "o/old"]);
        let transferred = r#"{"repository":{"id":7,"full_name":"New/R"},
            "changes":{"owner":{"from":{"organization":{"login":"Old","id":1}}}}}"#;
        assert_eq!(names(transferred), ["new/r", "old/r"]);
        let removed = r#"{"repositories_removed":[{"id":1,"full_name":"o/a"},{"id":2,"full_name":"o/b"}]}"#;
        assert_eq!(names(removed), ["o/a", "o/b"]);
        assert!(names(r#"{"zen":"Design for failure."}"#).is_empty());
        assert!(names(r#"{"repository":{"id":7,"full_name":"../.."}}"#).is_empty());
    }

    #[test]
    fn names_of_repositories_are_told_from_others() {
        assert_eq!(RepositoryName::new("Octo/Repo.js").unwrap().as_str(), "octo/repo.js");
        for wrong in ["", "o", "o/", "/r", "o/r/x", "o/..", "o/r?x", "o/r r", "o%2Fr"] {
            assert!(RepositoryName::new(wrong).is_none(), "{wrong}");
        }
    }

    #[test]
    fn signature_is_that_of_githubs_documentation() {
        // "Validating webhook deliveries", the example for testing.
        let webhook = Webhook::new(Some("It's a Secret to Everybody"));
        let mut headers = HeaderMap::new();
        let good = "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17";
        headers.insert(SIGNATURE, good.parse().unwrap());
        assert!(webhook.is_signed(&headers, b"Hello, World!"));
        assert!(!webhook.is_signed(&headers, b"Hello, World?"));
        assert!(!Webhook::new(None).is_signed(&headers, b"Hello, World!"));
        for wrong in ["", "sha256=", "sha1=7571", "sha256=zz", &good.replace("75", "76")] {
            headers.insert(SIGNATURE, wrong.parse().unwrap());
            assert!(!webhook.is_signed(&headers, b"Hello, World!"), "{wrong}");
        }
    }
}
