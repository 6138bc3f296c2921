//! GitHub's webhooks: who signed a delivery, and which repositories it is about.

use std::collections::HashSet;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use hmac::{Hmac, KeyInit, Mac};
use http::header::{HeaderMap, HeaderName};
use serde::Deserialize;
use sha2::Sha256;

/// How many deliveries are remembered, so that one that is delivered again does nothing.
const MAX_DELIVERIES: usize = 10_000;
/// The most repositories that one delivery names and that are invalidated.
const MAX_REPOSITORIES: usize = 1000;

const SIGNATURE: HeaderName = HeaderName::from_static("x-hub-signature-256");

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
    pub(crate) delivered: quick_cache::sync::Cache<Bytes, ()>,
    pub(crate) again: Arc<Mutex<HashSet<(RepositoryName, bool)>>>,
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

    /// Whether deliveries are taken at all.
    pub(crate) const fn is_taken(&self) -> bool {
        self.secret.is_some()
    }

    pub(crate) fn is_signed(&self, headers: &HeaderMap, body: &[u8]) -> bool {
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
pub(crate) struct Event {
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
    pub(crate) fn repositories(&self) -> Vec<(RepositoryName, Option<u64>)> {
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
