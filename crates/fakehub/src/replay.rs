//! Which recording answers a request: by method and URL, then `Accept`, then the request's body,
//! then the writes that have been served.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::{Mutex, OnceLock};

use bytes::Bytes;
use http::{HeaderName, HeaderValue};
use serde::Deserialize;
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::corpus::Corpus;
use crate::exchange::{API_HOST, Exchange};
use crate::log::lock;
use crate::target::{key, normal};
use crate::token::hex;

/// Hosts whose responses carry rate limits.
pub(crate) fn is_api(host: &str) -> bool {
    host == API_HOST || host == "uploads.github.com"
}

/// A request in the terms of the corpus.
pub(crate) struct Query<'a> {
    pub(crate) method: &'a str,
    pub(crate) host: &'a str,
    pub(crate) target: &'a str,
    pub(crate) accept: Option<&'a str>,
    pub(crate) body: &'a [u8],
    /// Whether the request has `If-None-Match` or `If-Modified-Since`.
    pub(crate) conditional: bool,
}

/// A recording, ready to be served.
pub(crate) struct Recording {
    pub(crate) exchange: Exchange,
    pub(crate) headers: Vec<(HeaderName, HeaderValue)>,
    /// Recordings of one domain are one story: a scenario, or a repository where no scenario is
    /// known.
    domain: usize,
    writes: bool,
    digest: OnceLock<String>,
    gzipped: OnceLock<Option<Bytes>>,
}

impl Recording {
    /// SHA-256 of the recorded body.
    pub(crate) fn digest(&self) -> &str {
        self.digest.get_or_init(|| hex(&Sha256::digest(&self.exchange.body)))
    }

    /// The recorded body in gzip, made by `pack` once.
    pub(crate) fn gzipped(&self, pack: impl FnOnce(&[u8]) -> Option<Bytes>) -> Option<&Bytes> {
        self.gzipped.get_or_init(|| pack(&self.exchange.body)).as_ref()
    }
}

/// The corpus, indexed, and how far its stories have been told.
pub(crate) struct Replay {
    recordings: Vec<Recording>,
    exact: HashMap<String, Vec<usize>>,
    loose: HashMap<String, Vec<usize>>,
    hosts: HashSet<String>,
    /// `/repositories/ID` to `/repos/owner/repo`, as the recorded repositories say.
    names: HashMap<String, String>,
    /// Per domain, the writes that have been served.
    served: Mutex<HashMap<usize, BTreeSet<usize>>>,
}

impl Replay {
    pub(crate) fn new(corpus: Corpus) -> Self {
        let names = repository_names(corpus.exchanges());
        let mut domains: HashMap<String, usize> = HashMap::new();
        let mut replay = Self {
            recordings: Vec::with_capacity(corpus.exchanges().len()),
            exact: HashMap::new(),
            loose: HashMap::new(),
            hosts: HashSet::new(),
            names,
            served: Mutex::default(),
        };
        for exchange in corpus.into_exchanges() {
            let number = replay.recordings.len();
            let domain = match &exchange.scenario {
                Some(scenario) => format!("scenario {scenario}"),
                None => format!("place {} {}", exchange.host, replay.owner(&exchange.target)),
            };
            let next = domains.len();
            let domain = *domains.entry(domain).or_insert(next);
            let (method, host, target) = (&exchange.method, &exchange.host, &exchange.target);
            replay.exact.entry(key(method, host, target)).or_default().push(number);
            replay.loose.entry(key(method, host, &normal(target))).or_default().push(number);
            replay.hosts.insert(host.clone());
            let body = exchange.request_body.as_deref().unwrap_or_default();
            replay.recordings.push(Recording {
                domain,
                writes: is_write(method, target, body),
                headers: parsed(&exchange.headers),
                digest: OnceLock::new(),
                gzipped: OnceLock::new(),
                exchange,
            });
        }
        replay
    }

    /// The corpus's name of a requested host: itself where it is known, `api.github.com` otherwise.
    pub(crate) fn host(&self, requested: &str) -> String {
        let name = requested.split(':').next().unwrap_or(requested).to_ascii_lowercase();
        let known = self.hosts.contains(&name)
            || name == "github.com"
            || name.ends_with(".github.com")
            || name.ends_with(".githubusercontent.com");
        if known { name } else { API_HOST.to_owned() }
    }

    /// `owner/repo` in lower case that an API path lies in, also in its `/repositories/ID` form.
    pub(crate) fn repository(&self, target: &str) -> Option<String> {
        let owner = self.owner(target);
        let name = owner.strip_prefix("/repos/")?;
        (name.split('/').count() == 2).then(|| name.to_owned())
    }

    /// The repository, or other two-segment place, that a path lies in.
    fn owner(&self, target: &str) -> String {
        let normal = normal(target.split('?').next().unwrap_or(target)).to_ascii_lowercase();
        let count = if normal.starts_with("/repos/") { 3 } else { 2 };
        let mut place = String::new();
        for segment in normal.split('/').filter(|segment| !segment.is_empty()).take(count) {
            place.push('/');
            place.push_str(segment);
        }
        self.names.get(&place).cloned().unwrap_or(place)
    }

    /// The recording that answers `query` now. A write counts as served from here on.
    pub(crate) fn find(&self, query: &Query<'_>) -> Option<&Recording> {
        let number = match query.method {
            "HEAD" => self.find_as("HEAD", query).or_else(|| self.find_as("GET", query)),
            method => self.find_as(method, query),
        }?;
        let found = &self.recordings[number];
        if found.writes {
            lock(&self.served).entry(found.domain).or_default().insert(number);
        }
        Some(found)
    }

    fn find_as(&self, method: &str, query: &Query<'_>) -> Option<usize> {
        let all = self
            .exact
            .get(&key(method, query.host, query.target))
            .or_else(|| self.loose.get(&key(method, query.host, &normal(query.target))))?;
        let usable = self.answering(all, query);
        let variant = self.variant(&usable, query.accept);
        let matching = self.with_body(&variant, query)?;
        let writes = self.recordings[*matching.first()?].writes;
        if writes { self.next_write(&matching) } else { self.current(&matching) }
    }

    /// A recorded `304` answers only a conditional request, and only where nothing else was
    /// recorded: otherwise conditions are evaluated against the recorded representation.
    fn answering(&self, all: &[usize], query: &Query<'_>) -> Vec<usize> {
        let full = self.filtered(all, |exchange| exchange.status != 304);
        if full.is_empty() && query.conditional { all.to_vec() } else { full }
    }

    fn filtered(&self, numbers: &[usize], keep: impl Fn(&Exchange) -> bool) -> Vec<usize> {
        numbers.iter().copied().filter(|number| keep(&self.recordings[*number].exchange)).collect()
    }

    /// Those recorded with the same `Accept`; else those without one; else those like the first.
    fn variant(&self, numbers: &[usize], accept: Option<&str>) -> Vec<usize> {
        let of = |exchange: &Exchange| exchange.request_header("accept").map(media);
        let like = |wanted: Option<String>| self.filtered(numbers, |exchange| of(exchange) == wanted);
        let mut found = like(accept.map(media));
        if found.is_empty() {
            found = like(None);
        }
        if let (true, Some(first)) = (found.is_empty(), numbers.first()) {
            found = like(of(&self.recordings[*first].exchange));
        }
        found
    }

    /// For requests with a body: those recorded with an equal one, if any. A GraphQL request that
    /// was recorded with another body is another request.
    fn with_body(&self, numbers: &[usize], query: &Query<'_>) -> Option<Vec<usize>> {
        if matches!(query.method, "GET" | "HEAD") {
            return Some(numbers.to_vec());
        }
        let equal = self.filtered(numbers, |exchange| {
            exchange.request_body.as_ref().is_some_and(|recorded| same_body(recorded, query.body))
        });
        if !equal.is_empty() {
            return Some(equal);
        }
        if is_graphql(query.target)
            && let Some(name) = operation_name(query.body)
        {
            let same_name = self.filtered(numbers, |exchange| {
                let recorded = exchange.request_body.as_ref().and_then(|body| operation_name(body));
                recorded.as_ref() == Some(&name)
            });
            if !same_name.is_empty() {
                return Some(same_name);
            }
        }
        let unknown = self.filtered(numbers, |exchange| exchange.request_body.is_none());
        match (unknown.is_empty(), is_graphql(query.target)) {
            (false, _) => Some(unknown),
            (true, true) => None,
            (true, false) => Some(numbers.to_vec()),
        }
    }

    /// Writes are served in turn; after the last it stays.
    fn next_write(&self, numbers: &[usize]) -> Option<usize> {
        let served = lock(&self.served);
        let done = |number: &usize| {
            served.get(&self.recordings[*number].domain).is_some_and(|writes| writes.contains(number))
        };
        numbers.iter().copied().find(|number| !done(number)).or_else(|| numbers.last().copied())
    }

    /// The last recording before which, and after its predecessor, a write of its own story was
    /// served.
    fn current(&self, numbers: &[usize]) -> Option<usize> {
        let served = lock(&self.served);
        let reached = numbers.windows(2).rev().find(|pair| {
            let writes = served.get(&self.recordings[pair[1]].domain);
            writes.is_some_and(|writes| writes.range(pair[0] + 1..pair[1]).next().is_some())
        });
        reached.map(|pair| pair[1]).or_else(|| numbers.first().copied())
    }
}

/// An `Accept` value as it is compared: case and white space do not matter, and the ways to ask for
/// GitHub's default JSON are one.
fn media(accept: &str) -> String {
    let plain: String =
        accept.chars().filter(|c| !c.is_ascii_whitespace()).map(|c| c.to_ascii_lowercase()).collect();
    let names_the_default = |range: &str| {
        matches!(
            range.split(';').next().unwrap_or_default(),
            "" | "*/*"
                | "application/json"
                | "application/vnd.github+json"
                | "application/vnd.github.v3+json"
        )
    };
    if plain.split(',').all(names_the_default) { "application/vnd.github+json".to_owned() } else { plain }
}

/// Whether a target is the one of GraphQL.
pub(crate) fn is_graphql(target: &str) -> bool {
    target.split('?').next() == Some("/graphql")
}

/// The name of a GraphQL operation: clients build the text of theirs from parts, in no fixed order.
fn operation_name(body: &[u8]) -> Option<String> {
    #[derive(Deserialize)]
    struct Operation {
        query: String,
    }
    let operation: Operation = serde_json::from_slice(body).ok()?;
    let at = operation.query.match_indices("query ").map(|(at, _)| at).find(|at| {
        let before = operation.query[..*at].chars().next_back();
        before.is_none_or(|c| c.is_whitespace() || c == '}')
    })?;
    let rest = operation.query[at + "query ".len()..].trim_start();
    let name: String = rest.chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '_').collect();
    (!name.is_empty()).then_some(name)
}

/// Whether serving a request changes what is read afterwards. A GraphQL query does not, a mutation
/// does.
fn is_write(method: &str, target: &str, body: &[u8]) -> bool {
    #[derive(Deserialize)]
    struct Operation {
        query: String,
    }
    match method {
        "POST" if is_graphql(target) => serde_json::from_slice::<Operation>(body).is_ok_and(|operation| {
            let rests = operation.query.lines().filter_map(|line| line.trim_start().strip_prefix("mutation"));
            rests
                .into_iter()
                .any(|rest| !rest.starts_with(|next: char| next.is_alphanumeric() || "_:".contains(next)))
        }),
        "POST" | "PUT" | "PATCH" | "DELETE" => true,
        _ => false,
    }
}

/// Equal bytes, or equal JSON values.
fn same_body(recorded: &[u8], sent: &[u8]) -> bool {
    let json = |bytes| serde_json::from_slice::<Value>(bytes).ok();
    recorded == sent || json(recorded).is_some_and(|value| Some(value) == json(sent))
}

/// Headers that were checked when the corpus was read; what was built in code and HTTP cannot carry
/// is left out.
fn parsed(headers: &[(String, String)]) -> Vec<(HeaderName, HeaderValue)> {
    headers
        .iter()
        .filter_map(|(name, value)| {
            let name = HeaderName::from_bytes(name.as_bytes()).ok()?;
            Some((name, HeaderValue::from_bytes(value.as_bytes()).ok()?))
        })
        .collect()
}

/// Learns which `/repositories/ID` is which `/repos/owner/repo` from recorded repositories.
fn repository_names(exchanges: &[Exchange]) -> HashMap<String, String> {
    #[derive(Deserialize)]
    struct Repository {
        id: u64,
        full_name: String,
    }
    let mut names = HashMap::new();
    for exchange in exchanges.iter().filter(|exchange| (200..300).contains(&exchange.status)) {
        let path = exchange.target.split('?').next().unwrap_or_default();
        let segments = path.split('/').filter(|segment| !segment.is_empty()).count();
        let of_repository = path.starts_with("/repos/") && segments == 3
            || path.starts_with("/repositories/") && segments == 2
            || path.ends_with("/repos") && exchange.method == "POST";
        if exchange.host == API_HOST
            && of_repository
            && let Ok(repository) = serde_json::from_slice::<Repository>(&exchange.body)
        {
            let name = format!("/repos/{}", repository.full_name.to_ascii_lowercase());
            // The first name wins: after a rename the id is still the same place.
            names.entry(format!("/repositories/{}", repository.id)).or_insert(name);
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    fn replay(lines: &[&str]) -> Replay {
        Replay::new(Corpus::parse(lines.join("\n").as_bytes()).unwrap())
    }

    fn ask<'a>(
        replay: &'a Replay,
        method: &str,
        target: &str,
        accept: Option<&str>,
        body: &str,
    ) -> Option<&'a str> {
        let query =
            Query { method, host: API_HOST, target, accept, body: body.as_bytes(), conditional: false };
        replay.find(&query).map(|found| std::str::from_utf8(&found.exchange.body).unwrap())
    }

    #[test]
    fn urls_match_exactly_first_then_by_sorted_query() {
        let replay = replay(&[
            r#"{"method":"get","url":"https://api.github.com/s?b=1&a=2","status":200,"body":"first"}"#,
            r#"{"method":"get","url":"https://api.github.com/s?a=2&b=1","status":200,"body":"second"}"#,
            r#"{"method":"get","url":"https://api.github.com/q?q=a+b&x=%C3%A9","status":200,"body":"third"}"#,
        ]);
        assert_eq!(ask(&replay, "GET", "/s?a=2&b=1", None, ""), Some("second"));
        assert_eq!(ask(&replay, "GET", "/s?b=1&a=2", None, ""), Some("first"));
        assert_eq!(ask(&replay, "GET", "/q?x=%c3%a9&q=a%20b", None, ""), Some("third"));
        assert_eq!(ask(&replay, "GET", "/q?x=%c3%a9&q=a%2Bb", None, ""), None);
        assert_eq!(ask(&replay, "HEAD", "/s?b=1&a=2", None, ""), Some("first"));
        assert_eq!(ask(&replay, "GET", "/s", None, ""), None);
    }

    #[test]
    fn an_accept_header_selects_a_variant() {
        let replay = replay(&[
            r#"{"method":"GET","url":"/r","request_headers":{"accept":"application/json"},"status":200,"body":"json"}"#,
            r#"{"method":"GET","url":"/r","request_headers":{"Accept":"text/html, a/b"},"status":200,"body":"html"}"#,
        ]);
        assert_eq!(ask(&replay, "GET", "/r", Some("text/html,a/b"), ""), Some("html"));
        assert_eq!(ask(&replay, "GET", "/r", Some("application/json"), ""), Some("json"));
        assert_eq!(ask(&replay, "GET", "/r", None, ""), Some("json"));
    }

    #[test]
    fn without_scenarios_only_writes_to_the_same_repository_advance() {
        let replay = replay(&[
            r#"{"method":"GET","url":"/repos/o/r","status":200,"body":{"id":7,"full_name":"O/r"}}"#,
            r#"{"method":"GET","url":"/repositories/7/labels?page=2","status":200,"body":"page before"}"#,
            r#"{"method":"GET","url":"/repos/o/r/labels","status":200,"body":"before"}"#,
            r#"{"method":"POST","url":"/repos/o/other/labels","status":201,"body":"elsewhere"}"#,
            r#"{"method":"POST","url":"/repos/o/r/labels","status":201,"body":"made"}"#,
            r#"{"method":"GET","url":"/repos/o/r/labels","status":200,"body":"after"}"#,
            r#"{"method":"GET","url":"/repositories/7/labels?page=2","status":200,"body":"page after"}"#,
        ]);
        ask(&replay, "POST", "/repos/o/other/labels", None, "");
        assert_eq!(ask(&replay, "GET", "/repos/o/r/labels", None, ""), Some("before"));
        ask(&replay, "POST", "/repos/o/r/labels", None, "");
        assert_eq!(ask(&replay, "GET", "/repos/o/r/labels", None, ""), Some("after"));
        assert_eq!(ask(&replay, "GET", "/repositories/7/labels?page=2", None, ""), Some("page after"));
        assert_eq!(replay.repository("/repositories/7/x").as_deref(), Some("o/r"));
        assert_eq!(replay.repository("/orgs/o/repos"), None);
    }

    #[test]
    fn graphql_matches_the_name_of_its_operation_where_no_body_is_equal() {
        let name = |query: &str| operation_name(serde_json::json!({ "query": query }).to_string().as_bytes());
        assert_eq!(name("query Checks($id: ID!) { a }"), Some("Checks".to_owned()));
        assert_eq!(name("fragment f on X{a}query List($n: Int){ b }"), Some("List".to_owned()));
        assert_eq!(name("query($n: Int){ b }"), None);
        assert_eq!(name("mutation Merge { a }"), None);
    }

    #[test]
    fn writes_and_graphql_match_their_body() {
        let replay = replay(&[
            r#"{"method":"POST","url":"/i","request_body":{"t":1},"status":201,"body":"one"}"#,
            r#"{"method":"POST","url":"/i","request_body":{"t":2},"status":201,"body":"two"}"#,
            r#"{"method":"POST","url":"/graphql","request_body":{"query":"query { a }"},"status":200,"body":"a"}"#,
            r#"{"method":"POST","url":"/graphql","request_body":{"query":"mutation { b }"},"status":200,"body":"b"}"#,
            r#"{"method":"POST","url":"/graphql","request_body":{"query":"query { a }"},"status":200,"body":"a2"}"#,
        ]);
        assert_eq!(ask(&replay, "POST", "/i", None, "{ \"t\": 2 }"), Some("two"));
        assert_eq!(ask(&replay, "POST", "/i", None, "other"), Some("one"));
        assert_eq!(ask(&replay, "POST", "/i", None, "other"), Some("two"));
        let query = "{\"query\":\"query { a }\"}";
        assert_eq!(ask(&replay, "POST", "/graphql", None, query), Some("a"));
        assert_eq!(ask(&replay, "POST", "/graphql", None, query), Some("a"));
        assert_eq!(ask(&replay, "POST", "/graphql", None, "{\"query\":\"mutation { b }\"}"), Some("b"));
        assert_eq!(ask(&replay, "POST", "/graphql", None, query), Some("a2"));
        assert_eq!(ask(&replay, "POST", "/graphql", None, "{\"query\":\"query { z }\"}"), None);
    }

    #[test]
    fn an_unknown_host_is_the_api() {
        let replay = replay(&[r#"{"method":"GET","url":"https://ghe.example/x","status":200,"body":"x"}"#]);
        assert_eq!(replay.host("127.0.0.1:8080"), API_HOST);
        assert_eq!(replay.host("Codeload.GitHub.com:443"), "codeload.github.com");
        assert_eq!(replay.host("ghe.example"), "ghe.example");
    }
}
