//! Which repositories are known to be public, and which tokens are known to work.
//!
//! A stored answer is given to a token that did not fetch it only if the repository is proven
//! public within [`PROOF_LIFETIME`], and the token itself had a successful answer within
//! [`STANDING_LIFETIME`].
//!
//! A proof is about a span of time, and it has to cover the moment at which the answer was
//! validated: a repository that is made private tells nobody, and what is fetched from then on by
//! those who may see it must not be given away by the proof from before. The span begins when the
//! repository was last changed, as its own answer says (`updated_at`), so that what was fetched
//! before it was made public is not covered either. It ends with the request that gave the proof.
//! What was validated after that counts as public for [`REACH`] after the request, or as set: for
//! that long GitHub calls the answer fresh. What says otherwise before, a write, a webhook, a
//! refusal or the repository's own answer, ends the proof at once.

use std::time::Duration;

use http::HeaderMap;
use peercache::backend::{Timestamp, Version};
use peercache::{Cache, Entry, Key};
use serde::Deserialize;

use crate::cache_control::CacheControl;
use crate::iso_date::parse_iso_date;
use crate::scope::Scope;
use crate::token::{TokenId, TokenKind};
use crate::write_marks::{Sent, decode_version, encode_version};

/// For how long a proof counts, from the moment that the request which gave it was sent.
pub(crate) const PROOF_LIFETIME: Duration = Duration::from_secs(600);
/// For how long after its request a proof covers what was validated since, unless set: the
/// `max-age` that GitHub gives the repository's own answer.
pub(crate) const REACH: Duration = Duration::from_secs(60);
/// The least time between two requests for a proof of one repository.
const PROOF_INTERVAL: Duration = Duration::from_millis(250);
/// The least time after a request that gave no proof. It is four times as long after each further
/// one, up to [`PROOF_LIFETIME`].
const FAILED_PROOF_INTERVAL: Duration = Duration::from_secs(5);
/// How far GitHub's clock may be behind this machine's when a change of a repository is compared
/// with a request.
const CLOCK_MARGIN: Duration = Duration::from_secs(5);
/// For how long a token counts as good after GitHub last answered it with success.
pub(crate) const STANDING_LIFETIME: Duration = Duration::from_secs(3600);
/// How many tokens, pairs of token and scope, and repositories are remembered.
const MAX_REMEMBERED: usize = 20_000;
/// How many tokens have to be answered about a repository before a request is spent on a proof.
const TOKENS_BEFORE_PROOF: usize = 3;

/// What a repository says about itself.
#[derive(Debug, Deserialize)]
struct RepositoryBody {
    id: u64,
    full_name: String,
    private: bool,
    updated_at: Option<String>,
}

/// What the body of a repository's own answer says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RepositoryFacts {
    pub(crate) id: u64,
    /// `owner/repo`, in lower case.
    pub(crate) full_name: String,
    pub(crate) private: bool,
    /// When it was last changed, its visibility included.
    pub(crate) updated: Option<Timestamp>,
}

/// Reads the body of `GET /repos/{owner}/{repo}`.
pub(crate) fn repository_facts(body: &[u8]) -> Option<RepositoryFacts> {
    let read: RepositoryBody = serde_json::from_slice(body).ok()?;
    Some(RepositoryFacts {
        id: read.id,
        full_name: read.full_name.to_ascii_lowercase(),
        private: read.private,
        updated: read.updated_at.as_deref().and_then(parse_iso_date),
    })
}

/// That a repository was public, from its last change on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Proof {
    /// The first version that it covers.
    from: Version,
    /// The version of the request that gave it.
    asked: Version,
    /// For how long after that request it covers what was validated since.
    reach: Duration,
}

impl Proof {
    /// Whether what was validated at this version was public then.
    pub(crate) fn includes(&self, version: Version) -> bool {
        self.from <= version && version <= self.asked
    }

    /// Whether what was validated at this version counts as public now.
    pub(crate) fn covers(&self, version: Version, now: Timestamp) -> bool {
        self.includes(version) || self.asked < version && now <= self.end()
    }

    /// Whether what was validated at this version would count as public if it were asked again.
    pub(crate) fn ended_before(&self, version: Version, now: Timestamp) -> bool {
        version > self.asked && now > self.end()
    }

    /// How long ago it was asked for.
    pub(crate) fn age(&self, now: Timestamp) -> Duration {
        now.saturating_since(self.asked.wall)
    }

    fn end(&self) -> Timestamp {
        self.asked.wall.saturating_add(self.reach)
    }
}

/// The first version that the answer of a repository which was last changed at `updated` covers.
fn covered_from(updated: Option<Timestamp>, sent: &Sent) -> Version {
    updated
        .map(|at| Version { wall: at.saturating_add(CLOCK_MARGIN), ..Version::ZERO })
        .map_or(sent.version, |from| from.min(sent.version))
}

/// Whether an answer without credentials says that everybody may have it.
pub(crate) fn proves_public(kind: TokenKind, headers: &HeaderMap) -> bool {
    kind == TokenKind::Anonymous && CacheControl::of_response(headers).public
}

/// What a body has in it where it depends on the token's rights: a draft is shown to those who may
/// publish it,
/// `permissions` are the token's own, and something private of another repository, or an issue of
/// one, is shown to those who may see that.
const OF_RIGHTS: [&[u8]; 6] = [
    b"\"draft\":true",
    b"\"draft\": true",
    b"\"permissions\":",
    b"\"private\":true",
    b"\"private\": true",
    b"\"parent_issue_url\":\"",
];

/// Whether a body is free of what depends on the token's rights.
pub(crate) fn is_shareable(body: &[u8]) -> bool {
    OF_RIGHTS.iter().all(|part| !contains(body, part))
}

fn contains(body: &[u8], wanted: &[u8]) -> bool {
    body.windows(wanted.len()).any(|window| window == wanted)
}

/// Who asked for a repository lately, to decide whether a proof is worth a request.
#[derive(Clone, Debug, Default)]
struct Demand {
    tokens: Vec<TokenId>,
    attempted: Option<Timestamp>,
    /// How many requests in a row gave no proof.
    failed: u32,
}

impl Demand {
    /// How long to wait after the latest request for a proof.
    fn interval(&self) -> Duration {
        match self.failed.checked_sub(1) {
            None => PROOF_INTERVAL,
            Some(more) => {
                FAILED_PROOF_INTERVAL.saturating_mul(4_u32.saturating_pow(more)).min(PROOF_LIFETIME)
            }
        }
    }
}

/// What is known about repositories and tokens. The proofs are in the cache, the rest is this
/// process's.
#[derive(Debug)]
pub(crate) struct PublicProofs {
    cache: Cache,
    /// For how long after its request a proof covers what was validated since.
    reach: Duration,
    standing: quick_cache::sync::Cache<(TokenId, Option<Scope>), Timestamp>,
    /// Repositories that are private, or that somebody was refused something of.
    hidden: quick_cache::sync::Cache<Scope, Timestamp>,
    /// Repositories that said that they are private.
    private: quick_cache::sync::Cache<Scope, Timestamp>,
    demand: quick_cache::sync::Cache<Scope, Demand>,
}

impl PublicProofs {
    pub(crate) fn new(cache: Cache, reach: Duration) -> Self {
        Self {
            cache,
            reach,
            standing: quick_cache::sync::Cache::new(MAX_REMEMBERED),
            hidden: quick_cache::sync::Cache::new(MAX_REMEMBERED),
            private: quick_cache::sync::Cache::new(MAX_REMEMBERED),
            demand: quick_cache::sync::Cache::new(MAX_REMEMBERED),
        }
    }

    /// Notes that GitHub answered this token with success, for something in `scope`.
    pub(crate) fn note_success(&self, token: &TokenId, scope: &Scope, sent: Timestamp) {
        self.standing.insert((token.clone(), None), sent);
        self.standing.insert((token.clone(), Some(scope.clone())), sent);
    }

    /// Notes that GitHub accepted this token for something.
    pub(crate) fn note_valid(&self, token: &TokenId, now: Timestamp) {
        self.standing.insert((token.clone(), None), now);
    }

    /// Notes that GitHub does not accept this token.
    pub(crate) fn note_refused(&self, token: &TokenId, scope: Option<&Scope>) {
        self.standing.remove(&(token.clone(), scope.cloned()));
    }

    /// Whether this token had a successful answer within the hour.
    pub(crate) fn is_in_good_standing(&self, token: &TokenId, now: Timestamp) -> bool {
        self.is_recent(&(token.clone(), None), now)
    }

    /// Whether this token had a successful answer about `scope` within the hour.
    pub(crate) fn has_seen(&self, token: &TokenId, scope: &Scope, now: Timestamp) -> bool {
        self.is_in_good_standing(token, now) && self.is_recent(&(token.clone(), Some(scope.clone())), now)
    }

    fn is_recent(&self, key: &(TokenId, Option<Scope>), now: Timestamp) -> bool {
        self.standing.get(key).is_some_and(|at| at <= now && now.saturating_since(at) < STANDING_LIFETIME)
    }

    /// Notes that a repository is not public, or may not be.
    pub(crate) fn note_hidden(&self, scope: &Scope, sent: Timestamp) {
        self.hidden.insert(scope.clone(), sent);
    }

    /// Notes that a repository says that it is public.
    pub(crate) fn note_shown(&self, scope: &Scope) {
        self.hidden.remove(scope);
        self.private.remove(scope);
    }

    /// Notes that a repository says that it is private.
    pub(crate) fn note_private(&self, scope: &Scope, sent: Timestamp) {
        self.note_hidden(scope, sent);
        self.private.insert(scope.clone(), sent);
    }

    /// Whether a repository said within [`PROOF_LIFETIME`] that it is private. A refusal of
    /// something in it says less: a file may be missing.
    pub(crate) fn is_private(&self, scope: &Scope, now: Timestamp) -> bool {
        self.private.get(scope).is_some_and(|at| at > now || now.saturating_since(at) < PROOF_LIFETIME)
    }

    /// Whether there is reason to think that a repository is private.
    pub(crate) fn may_be_hidden(&self, scope: &Scope, now: Timestamp) -> bool {
        self.hidden.get(scope).is_some_and(|at| at > now || now.saturating_since(at) < PROOF_LIFETIME)
    }

    /// The proof that the repository under this key is public.
    pub(crate) async fn proof(&self, key: &Key) -> Option<Proof> {
        self.read(&self.cache.lookup(key).await.hit()?)
    }

    /// The proof that an entry holds.
    pub(crate) fn read(&self, entry: &Entry) -> Option<Proof> {
        Some(Proof { from: decode_version(entry.value())?, asked: entry.version(), reach: self.reach })
    }

    /// Keeps the proof by the answer to this request, of a repository that was last changed at
    /// `updated`.
    pub(crate) async fn prove(&self, key: &Key, updated: Option<Timestamp>, sent: &Sent) {
        let from = encode_version(covered_from(updated, sent));
        let entry = Entry::builder(from, sent.version, sent.at).fresh_for(PROOF_LIFETIME);
        if let Ok(entry) = entry.build() {
            let _outcome = self.cache.put_entry(key, entry).await;
        }
    }

    /// Forgets a proof, on every machine.
    pub(crate) async fn disprove(&self, key: &Key, version: Version) {
        let _outcome = self.cache.put_entry(key, Entry::tombstone(version, self.cache.now())).await;
    }

    /// Whether it is time to spend a request on a proof for `scope`, of which `token` was given
    /// something: several tokens were, or others wait for it, and none was sent just now, or in
    /// vain a while ago. What comes of it is noted with [`Self::note_attempt`].
    pub(crate) fn is_proof_due(
        &self,
        token: &TokenId,
        scope: &Scope,
        is_awaited: bool,
        now: Timestamp,
    ) -> bool {
        let mut demand = self.demand.get(scope).unwrap_or_default();
        if !demand.tokens.contains(token) && demand.tokens.len() < TOKENS_BEFORE_PROOF {
            demand.tokens.push(token.clone());
        }
        let wanted = is_awaited || demand.tokens.len() >= TOKENS_BEFORE_PROOF;
        let recent =
            demand.attempted.is_some_and(|at| at <= now && now.saturating_since(at) < demand.interval());
        let due = wanted && !recent;
        if due {
            demand.attempted = Some(now);
        }
        self.demand.insert(scope.clone(), demand);
        due
    }

    /// Notes whether a request for a proof gave one.
    pub(crate) fn note_attempt(&self, scope: &Scope, proven: bool) {
        let mut demand = self.demand.get(scope).unwrap_or_default();
        demand.failed = if proven { 0 } else { demand.failed.saturating_add(1) };
        self.demand.insert(scope.clone(), demand);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_repository_says_who_it_is() {
        let body = br#"{"id":7,"name":"R","full_name":"O/R","private":false,"owner":{}}"#;
        let facts = RepositoryFacts { id: 7, full_name: "o/r".to_owned(), private: false, updated: None };
        assert_eq!(repository_facts(body), Some(facts));
        assert_eq!(repository_facts(br#"{"id":7,"full_name":"O/R"}"#), None, "silence is no proof");
        assert_eq!(repository_facts(br#"[{"id":7,"full_name":"O/R","private":false}]"#), None);
    }

    #[test]
    fn proof_covers_what_was_validated_since_the_last_change_and_later_things_for_its_reach() {
        let at = |seconds: u64| Timestamp::from_millis(1_800_000_000_000 + seconds * 1000);
        let version = |seconds| Version { wall: at(seconds), counter: 1, ..Version::ZERO };
        let sent = Sent { version: version(100), at: at(100) };
        let of = |updated, seconds| Proof {
            from: covered_from(updated, &sent),
            asked: sent.version,
            reach: Duration::from_secs(seconds),
        };
        let proof = of(Some(at(40)), 60);
        for (seconds, covered) in [(39, false), (44, false), (45, true), (100, true)] {
            for now in [100, 160, 700] {
                assert_eq!(proof.covers(version(seconds), at(now)), covered, "{seconds} at {now}");
            }
        }
        for (now, covered) in [(110, true), (160, true), (161, false)] {
            assert_eq!(proof.covers(version(110), at(now)), covered, "{now}");
            assert_eq!(proof.ended_before(version(110), at(now)), !covered, "{now}");
        }
        assert!(!of(None, 60).covers(version(99), at(100)), "who does not say it covers nothing before");
        let ahead = of(Some(at(500)), 60);
        assert!(!ahead.covers(version(99), at(100)) && ahead.covers(version(100), at(100)));
        let strict = of(Some(at(40)), 0);
        assert!(strict.covers(version(100), at(101)) && !strict.covers(version(101), at(101)));
    }

    #[test]
    fn proof_that_fails_is_tried_again_ever_later() {
        let mut demand = Demand::default();
        let mut waits = Vec::new();
        for failed in 0..6 {
            demand.failed = failed;
            waits.push(demand.interval().as_millis());
        }
        assert_eq!(waits, [250, 5_000, 20_000, 80_000, 320_000, 600_000]);
        demand.failed = u32::MAX;
        assert_eq!(demand.interval(), PROOF_LIFETIME);
    }

    #[test]
    fn bodies_with_rights_or_drafts_are_not_shared() {
        assert!(is_shareable(br#"[{"draft":false}]"#));
        assert!(!is_shareable(br#"[{"draft": true}]"#));
        assert!(!is_shareable(br#"{"draft":true}"#));
        assert!(!is_shareable(br#"{"permissions":{"push":true}}"#));
        assert!(!is_shareable(br#"{"head":{"repo":{"private":true}}}"#));
        assert!(!is_shareable(br#"{"parent_issue_url":"https://api.github.com/repos/o/secret/issues/1"}"#));
        assert!(is_shareable(br#"{"parent_issue_url":null,"private":false}"#));
    }
}
