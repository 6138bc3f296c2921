//! Why a URL is a hit or a miss now: `GET /-/explain?url=URL`, with the headers of the request that
//! is meant. It changes nothing, and nothing is sent.
//!
//! Whether others asked for a URL is told only to a token that may know it anyway: one that was
//! given something of the repository, or where everybody may have it.

use std::time::Duration;

use http::header::{ACCEPT, AUTHORIZATION, ETAG, HOST, HeaderMap};
use http::request::Parts;
use http::{Method, Request, Version};
use peercache::backend::{Timestamp, Version as EntryVersion};
use serde::Serialize;

use crate::accept::DEFAULT;
use crate::arrival::Arrival;
use crate::budget::Spender;
use crate::cache_control::CacheControl;
use crate::candidates::Candidate;
use crate::client_label::ShortId;
use crate::error::Problem;
use crate::hosts::{ApiRoute, Route};
use crate::key::API_VERSION;
use crate::look::{Stored, StoredGrant};
use crate::policy::{Plan, plan};
use crate::priority::is_urgent;
use crate::public::{PROOF_LIFETIME, Proof};
use crate::quota::Resource;
use crate::request_headers::of_client;
use crate::route_table::{Lifetime, Rule, Share};
use crate::shared::Shared;
use crate::sharing::{Proven, fresh_enough, may_share, proven};
use crate::store::Place;
use crate::target_bytes::encoded;
use crate::token::TokenKind;

/// Where it is asked for, without the slash at the start.
pub(crate) const EXPLAIN: &str = "-/explain";
/// What is said to be sent where nothing is.
const NOTHING: &str = "nothing";

/// What would happen with a request now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub(crate) enum Verdict {
    /// Served from the store.
    Hit,
    /// Served from what another token fetched of a public repository.
    Shared,
    /// It waits for the same request of the same token, which is under way.
    Coalesced,
    /// GitHub is asked with a condition; if nothing changed, it is not charged.
    Revalidated,
    /// GitHub is asked, and charges it.
    Miss,
    /// It is passed through.
    Bypass,
    /// Nothing of the rate limit is left for it: what this token got before is served.
    Stale,
    /// Nothing of the rate limit is left for it, and there is nothing to serve instead.
    Refused,
}

/// The grant of the token.
#[derive(Debug, Serialize)]
pub(crate) struct GrantPart {
    tier: Option<String>,
    /// Of the answer; `None` where its bytes are gone.
    status: Option<u16>,
    age_seconds: u64,
    fresh_for_seconds: u64,
    has_entity_tag: bool,
    /// Whether nothing was written since that makes it doubtful.
    believed: bool,
    /// Whether it is a page that may have grown without a change of its tag.
    full_page: bool,
}

/// Since when what is stored is believed.
#[derive(Debug, Serialize)]
pub(crate) struct MarkPart {
    /// Seconds since the last write that is known, about the repository or part of the API; `None`
    /// where there is no mark, so that nothing is believed.
    scope_seconds: Option<u64>,
    /// The same about everything of this token.
    token_seconds: Option<u64>,
}

/// The proof that a repository is public.
#[derive(Debug, Serialize)]
pub(crate) struct ProofPart {
    age_seconds: u64,
    good_for_seconds: u64,
}

/// What is known of the rate limit.
#[derive(Debug, Serialize)]
pub(crate) struct BudgetPart {
    resource: &'static str,
    limit: u64,
    used: u64,
    /// Requests that are under way.
    in_flight: u64,
    /// Seconds since the Unix epoch.
    reset: u64,
}

/// The answer.
#[derive(Debug, Serialize)]
pub(crate) struct Explanation {
    verdict: Verdict,
    /// Why, in a sentence.
    why: String,
    /// What would be sent upstream.
    sends: String,
    /// The normal form that is keyed.
    url: String,
    /// The API that is asked.
    host: String,
    accept: String,
    api_version: Option<String>,
    /// The path of the rule in the route table.
    route: String,
    lifetime: &'static str,
    share: &'static str,
    stored: bool,
    /// The short id of the token.
    token: String,
    token_kind: &'static str,
    grant: Option<GrantPart>,
    /// `None` where nothing is stored for this route.
    write_mark: Option<MarkPart>,
    public_proof: Option<ProofPart>,
    /// How many representations are known; `None` where this token may not know.
    candidates: Option<usize>,
    /// `None` where GitHub has told this token nothing yet.
    budget: Option<BudgetPart>,
}

/// The request to explain, as the query names it.
pub(crate) fn explained(parts: &Parts, arrival: &Arrival) -> Result<Parts, Problem> {
    if parts.method != Method::GET {
        return Err(Problem::method_not_allowed("GET"));
    }
    if arrival.peer.is_some_and(|peer| !peer.to_canonical().is_loopback()) {
        return Err(Problem::explained_elsewhere());
    }
    let bad = || {
        Problem::bad_request(
            "peercache: name what is to be explained with ?url=URL, percent-encoded, such as \
             https://api.github.com/repos/OWNER/REPO or /repos/OWNER/REPO",
            "explain-url",
        )
    };
    let query = parts.uri.query().unwrap_or_default();
    let url = query.split('&').find_map(|one| one.strip_prefix("url=")).and_then(decoded).ok_or_else(bad)?;
    let is_absolute = url.starts_with("http://") || url.starts_with("https://");
    let url = if is_absolute || url.starts_with('/') { url } else { format!("/{url}") };
    // As with a request that names it.
    let url = encoded(&url);
    // Without a host it is for the API that base URLs stand for.
    let request = Request::builder().uri(url).version(Version::HTTP_10).body(()).map_err(|_| bad())?;
    let mut asked = request.into_parts().0;
    asked.headers = parts.headers.clone();
    asked.headers.remove(HOST);
    Ok(asked)
}

fn decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let pair = (*first == b'%').then(|| after.get(..2).and_then(|pair| std::str::from_utf8(pair).ok()));
        match pair {
            None => bytes.push(*first),
            Some(pair) => bytes.push(u8::from_str_radix(pair?, 16).ok()?),
        }
        rest = if pair.is_some() { &after[2..] } else { after };
    }
    String::from_utf8(bytes).ok().filter(|text| !text.is_empty())
}

/// Says what a `GET` with these headers would do now.
pub(crate) async fn explain(
    shared: &Shared,
    asked: Parts,
    arrival: &Arrival,
) -> Result<Explanation, Problem> {
    let api = match shared.hosts.route(&asked, arrival)? {
        Route::Api(api) => api,
        Route::Other(_) => {
            return Err(Problem::bad_request(
                "peercache: requests for this host are passed through and never stored",
                "other-host",
            ));
        }
        Route::Own(_) => {
            return Err(Problem::bad_request(
                "peercache: this is an endpoint of the proxy's own, which is never stored",
                "local",
            ));
        }
    };
    let token = shared.hasher.id(asked.headers.get(AUTHORIZATION));
    let kind = TokenKind::of(asked.headers.get(AUTHORIZATION));
    let short = asked.headers.contains_key(AUTHORIZATION).then(|| ShortId::of(&token));
    let headers = of_client(&asked.headers);
    let directives = CacheControl::of_request(&headers);
    let (rule, class) = shared.routes.classify(&api.url.path);
    let place = shared.store.place(token, kind, api.api.authority(), &api.url, &headers).await;
    let stored = Stored::at(&shared.store, &place, &headers).await;
    let question =
        Question { shared, place: &place, rule: &rule, headers: &headers, directives, stored: &stored };
    let now = shared.store.now();
    let may_know = question.may_know(now);
    let (verdict, why, sends) = match plan(&Method::GET, &headers, false, rule.store, &question.directives) {
        Plan::Answer { .. } => question.decide(now, may_know),
        Plan::Forward(_, detail) => {
            let why = format!("it is passed through: {}", detail.unwrap_or("method"));
            (Verdict::Bypass, why, "the request as it is".to_owned())
        }
    };
    let spender = Spender {
        token: place.token.clone(),
        authority: place.authority().into(),
        resource: Resource::of(&api.url.path),
        urgent: is_urgent(&headers),
    };
    let spent = shared.budget.refusal(&spender, now).filter(|_| sends != NOTHING);
    let (verdict, why, sends) = match spent {
        None => (verdict, why, sends),
        Some(spent) => {
            let may_be_stale = !question.directives.insists() && question.is_stale_enough(now);
            let instead = if may_be_stale { Verdict::Stale } else { Verdict::Refused };
            let why = format!("{why}; and nothing is sent: {}", spent.reason.detail());
            (instead, why, NOTHING.to_owned())
        }
    };
    let budget = shared.budget.known(&spender, now).map(|(quota, in_flight)| BudgetPart {
        resource: spender.resource.as_str(),
        limit: quota.limit,
        used: quota.used,
        in_flight,
        reset: quota.reset,
    });
    let proof = stored.proof.filter(|_| shared.share_public && rule.share == Share::Repository);
    Ok(Explanation {
        verdict,
        why,
        sends,
        url: shown(&api),
        host: api.api.authority().to_owned(),
        accept: text_of(&headers, &ACCEPT).unwrap_or_default(),
        api_version: text_of(&headers, &API_VERSION),
        route: shared.routes.classes().get(usize::from(class)).map_or_else(String::new, ToString::to_string),
        lifetime: match rule.lifetime {
            Lifetime::Github => "as GitHub says",
            Lifetime::Revalidate => "revalidated at every request",
            Lifetime::Immutable => "the bytes never change",
        },
        share: match rule.share {
            Share::None => "each token its own",
            Share::Repository => "the same for all who may see the repository",
            Share::Everyone => "the same for everybody",
        },
        stored: rule.store,
        token: short.map_or_else(|| "anonymous".to_owned(), |short| short.as_str().to_owned()),
        token_kind: kind.as_str(),
        grant: stored.grant.as_ref().map(|grant| grant_part(grant, &stored, now)),
        write_mark: rule.store.then(|| MarkPart {
            scope_seconds: stored.scope_floor.filter(|_| may_know).map(|floor| since(floor, now)),
            token_seconds: stored.token_floor.map(|floor| since(floor, now)),
        }),
        public_proof: proof.map(|proof| proof_part(proof, now)),
        candidates: may_know.then_some(stored.candidates.len()),
        budget,
    })
}

fn shown(api: &ApiRoute) -> String {
    match api.url.query.as_str() {
        "" => api.url.path.clone(),
        query => format!("{}?{query}", api.url.path),
    }
}

fn text_of(headers: &HeaderMap, name: &http::HeaderName) -> Option<String> {
    let value = headers.get(name)?;
    Some(value.to_str().unwrap_or("not printable").to_owned())
}

fn since(version: EntryVersion, now: Timestamp) -> u64 {
    now.saturating_since(version.wall).as_secs()
}

fn grant_part(stored: &StoredGrant, all: &Stored, now: Timestamp) -> GrantPart {
    let StoredGrant { grant, version, tier, status } = stored;
    GrantPart {
        tier: tier.clone(),
        status: *status,
        age_seconds: grant.freshness.age_seconds(now),
        fresh_for_seconds: grant.freshness.remaining(now).as_secs(),
        has_entity_tag: grant.headers.contains_key(ETAG),
        believed: all.believes(*version),
        full_page: grant.full_page,
    }
}

fn proof_part(proof: Proof, now: Timestamp) -> ProofPart {
    let age = proof.age(now);
    ProofPart { age_seconds: age.as_secs(), good_for_seconds: PROOF_LIFETIME.saturating_sub(age).as_secs() }
}

/// What is known about the request that is explained.
struct Question<'a> {
    shared: &'a Shared,
    place: &'a Place,
    rule: &'a Rule,
    headers: &'a HeaderMap,
    directives: CacheControl,
    stored: &'a Stored,
}

impl Question<'_> {
    /// Whether this token may know what others asked for.
    fn may_know(&self, now: Timestamp) -> bool {
        let public = &self.shared.store.public;
        self.rule.share == Share::Everyone
            || self.stored.grant.is_some()
            || public.has_seen(&self.place.token, &self.place.scope, now)
            || self.shared.share_public && self.stored.proof.is_some()
    }

    fn decide(&self, now: Timestamp, may_know: bool) -> (Verdict, String, String) {
        let nothing = || NOTHING.to_owned();
        if let Some(why) = self.fresh(now) {
            return (Verdict::Hit, why, nothing());
        }
        match self.sharing(now) {
            Proven::Given(_) => {
                let why = "another token's answer is fresh, and the repository is proven public".to_owned();
                return (Verdict::Shared, why, nothing());
            }
            // Who may not know what others asked for is given the answer of who asks alone.
            Proven::Ask if may_know && !self.directives.only_if_cached => {
                let why = "another token's answer is fresh; whether the repository is public is asked first";
                let sends = "a request for the repository itself, and this one if that is not public";
                return (Verdict::Shared, why.to_owned(), sends.to_owned());
            }
            Proven::Ask | Proven::Withheld => {}
        }
        if self.shared.flights.is_under_way(&self.place.grant) && !self.directives.insists() {
            let why = "the same request of this token is under way".to_owned();
            return (Verdict::Coalesced, why, nothing());
        }
        let why = self.why_not(now);
        let conditions = self.conditions(may_know);
        match conditions {
            Some(condition) => (Verdict::Revalidated, why, condition),
            None => (Verdict::Miss, why, "an unconditional request".to_owned()),
        }
    }

    /// Why the token's own grant answers it.
    fn fresh(&self, now: Timestamp) -> Option<String> {
        let stored = self.stored.grant.as_ref()?;
        let is_fresh = stored.status.is_some()
            && self.stored.believes(stored.version)
            && stored.grant.freshness.satisfies(&self.directives, now);
        is_fresh.then(|| {
            let left = stored.grant.freshness.remaining(now).as_secs();
            format!("this token's grant is fresh for {left} s")
        })
    }

    /// Whether the token's own grant may be served although it is not fresh, as far as its age
    /// goes.
    fn is_stale_enough(&self, now: Timestamp) -> bool {
        let most = self.shared.max_stale;
        let grant = self.stored.grant.as_ref().filter(|stored| stored.status == Some(200));
        grant.is_some_and(|stored| stored.grant.freshness.age(now) <= most)
    }

    /// Whether another token's answer is given, as the proxy decides it.
    fn sharing(&self, now: Timestamp) -> Proven {
        let Some(newest) = self.stored.candidates.first() else { return Proven::Withheld };
        if !may_share(self.shared, self.place, self.rule, &self.stored.candidates) {
            return Proven::Withheld;
        }
        let believes = |version| self.stored.believes(version);
        let fresh = fresh_enough(newest, self.place, &self.directives, believes, now);
        match self.rule.share {
            Share::Repository => proven(self.shared, self.place, self.stored.proof, &fresh, now),
            Share::Everyone | Share::None => {
                fresh.first().map_or(Proven::Withheld, |one| Proven::Given(**one))
            }
        }
    }

    /// Why the token's own grant does not answer it.
    fn why_not(&self, now: Timestamp) -> String {
        let Some(stored) = &self.stored.grant else {
            return "this token has no grant for it".to_owned();
        };
        let freshness = &stored.grant.freshness;
        if stored.status.is_none() {
            "the bytes of this token's grant are gone".to_owned()
        } else if !self.stored.believes(stored.version) {
            match self.stored.scope_floor.zip(self.stored.token_floor) {
                None => "there is no mark that says when it was last written to".to_owned(),
                Some(_) => "it was written to after this token's grant was validated".to_owned(),
            }
        } else if self.directives.insists() {
            "the client's own Cache-Control insists on an answer of GitHub's".to_owned()
        } else if self.rule.lifetime == Lifetime::Revalidate {
            "its route is revalidated at every request".to_owned()
        } else if freshness.remaining(now) == Duration::ZERO {
            let age = freshness.age_seconds(now);
            format!("this token's grant is {age} s old and no longer fresh")
        } else {
            "this token's grant is not as fresh as the client asks for".to_owned()
        }
    }

    /// The condition that would be sent, if one would be.
    fn conditions(&self, may_know: bool) -> Option<String> {
        let in_use = self.shared.self_check.is_in_use(self.place.kind);
        let own = self.stored.grant.as_ref().filter(|stored| stored.status == Some(200));
        if own.is_some_and(|own| own.grant.full_page) {
            return None;
        }
        let own_tag = own.is_some_and(|own| own.grant.headers.contains_key(ETAG));
        let is_another = |one: &&Candidate| {
            !one.full_page && own.is_none_or(|own| own.grant.representation != one.representation)
        };
        let others = self.stored.candidates.iter().filter(is_another).count();
        match (own_tag, if in_use { others } else { 0 }) {
            (true, 0) => Some("a conditional request with the validator of this token's grant".to_owned()),
            (true, others) => Some(format!(
                "a conditional request with the validator of this token's grant and {others} of others"
            )),
            (false, 0) if own.is_some() => {
                let date = own.is_some_and(|own| own.grant.headers.contains_key("last-modified"));
                date.then(|| "a conditional request with the date of this token's grant".to_owned())
            }
            // Whether there are any is not for this token to know.
            (false, _) if !may_know => in_use
                .then(|| "a request with the validators of what is known, or of an empty list".to_owned()),
            (false, 0) => (in_use && self.headers.get(ACCEPT) == Some(&DEFAULT))
                .then(|| "a request with the validator of an empty list".to_owned()),
            (false, others) => {
                Some(format!("a conditional request with {others} validators of what other tokens got"))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_taken_from_the_query() {
        let url = |query: &str| {
            let request = Request::builder().uri(format!("/-/explain?{query}")).body(()).unwrap();
            explained(&request.into_parts().0, &Arrival::IN_PROCESS).ok().map(|parts| parts.uri.to_string())
        };
        assert_eq!(url("url=%2Frepos%2Fo%2Fr%3Fa%3D1"), Some("/repos/o/r?a=1".to_owned()));
        assert_eq!(url("x=1&url=repos/o/r"), Some("/repos/o/r".to_owned()));
        assert_eq!(
            url("url=https%3A%2F%2Fapi.github.com%2Fmeta"),
            Some("https://api.github.com/meta".to_owned())
        );
        assert_eq!(
            url("url=search/repositories?q=stars:%3E1000"),
            Some("/search/repositories?q=stars:%3E1000".to_owned())
        );
        for wrong in ["", "url=", "url=%2", "url=%zz", "url=%ff", "url=%20x"] {
            assert_eq!(url(wrong), None, "{wrong}");
        }
    }
}
