//! Which server a request is for, and what it is called there.

use std::collections::HashMap;

use http::header::HOST;
use http::request::Parts;
use http::uri::Authority;
use reqwest::Url;

use crate::error::{BuildError, Problem};
use crate::key::{BadPath, NormalUrl};

/// The public API.
pub(crate) const PUBLIC_API: &str = "api.github.com";
const UPLOADS: &str = "uploads.github.com";
/// Where the proxy's own endpoints are.
const OWN: &str = "/-/peercache/";

/// Hosts besides the API that clients of a unix socket reach through it: `gh` sends downloads there.
const OTHER_HOSTS: [&str; 5] =
    ["github.com", "www.github.com", UPLOADS, "codeload.github.com", "gist.github.com"];

/// Whether a host is one that requests are passed through to.
fn is_other_host(host: &str) -> bool {
    // Artifacts and logs of workflow runs are on storage accounts with this name and a suffix.
    let is_results_store = host
        .strip_prefix("productionresultssa")
        .and_then(|rest| rest.strip_suffix(".blob.core.windows.net"))
        .is_some_and(|number| !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit()));
    OTHER_HOSTS.contains(&host) || host.ends_with(".githubusercontent.com") || is_results_store
}

/// What a request is for.
#[derive(Clone, Debug)]
pub(crate) enum Route {
    /// The API.
    Api(ApiRoute),
    /// Another server: passed through, never stored.
    Other(Box<Url>),
    /// One of the proxy's own endpoints; the rest of the path.
    Own(String),
}

/// A request for the API.
#[derive(Clone, Debug)]
pub(crate) struct ApiRoute {
    /// The normal form, as the API calls it: without `/api/v3`.
    pub(crate) url: NormalUrl,
    /// Path and query to send, as the client wrote them, behind the upstream's origin.
    target: String,
    /// What the client uses as base URL, if it uses one: `http://host:port` and a prefix.
    pub(crate) base: Option<String>,
    /// Whether this is the GraphQL endpoint.
    pub(crate) graphql: bool,
}

/// The upstream and the hosts that requests are routed by.
#[derive(Clone, Debug)]
pub(crate) struct Hosts {
    /// Scheme, host and port, without a slash at the end.
    origin: String,
    /// A path before every path of the API, `/api/v3` on GitHub Enterprise Server; usually empty.
    prefix: String,
    /// Host and port as keys name it.
    authority: String,
    host: String,
    port: Option<u16>,
    /// URLs in `Link` and `Location` that stand for the API.
    pub(crate) api_urls: Vec<String>,
    overrides: HashMap<String, Url>,
}

impl Hosts {
    pub(crate) fn new(upstream: &str, overrides: Vec<(String, String)>) -> Result<Self, BuildError> {
        let url = parse("the upstream", upstream)?;
        let origin = url.origin().ascii_serialization();
        let prefix = url.path().trim_end_matches('/').to_owned();
        let host = url.host_str().unwrap_or_default().to_ascii_lowercase();
        let port = url.port();
        let mut routes = HashMap::new();
        for (name, target) in overrides {
            let name = name.to_ascii_lowercase();
            if name.parse::<Authority>().is_ok_and(|authority| authority.host() == name) {
                routes.insert(name, parse("the target of a route", &target)?);
            } else {
                return Err(BuildError::Host(name));
            }
        }
        let mut api_urls = vec![format!("{origin}{prefix}")];
        if host != PUBLIC_API {
            api_urls.push(format!("https://{PUBLIC_API}"));
        }
        let authority = port.map_or_else(|| host.clone(), |port| format!("{host}:{port}"));
        Ok(Self { origin, prefix, authority, host, port, api_urls, overrides: routes })
    }

    /// What the upstream is called in keys.
    pub(crate) fn authority(&self) -> &str {
        &self.authority
    }

    /// Whether the upstream is github.com's API.
    pub(crate) fn is_public_api(&self) -> bool {
        self.host == PUBLIC_API
    }

    /// Where to send an API request.
    pub(crate) fn target(&self, api: &ApiRoute) -> Result<Url, Problem> {
        Url::parse(&format!("{}{}", self.origin, api.target)).map_err(|_| bad_target())
    }

    /// A request of this proxy's own for a path of the API.
    pub(crate) fn api_path(&self, path: &str) -> Option<ApiRoute> {
        let url = NormalUrl::new(path, None).ok()?;
        let target = format!("{}{path}", self.prefix);
        Some(ApiRoute { url, target, base: None, graphql: false })
    }

    /// Decides what a request is for.
    pub(crate) fn route(&self, parts: &Parts) -> Result<Route, Problem> {
        let authority = authority_of(parts)?;
        let path = parts.uri.path();
        if !path.starts_with('/') {
            return Err(bad_target());
        }
        let Some(authority) = authority else {
            // HTTP/1.0 without Host: nothing to compare with, and nothing to rewrite to.
            return self.base_url(parts, None);
        };
        let host = authority.host().to_ascii_lowercase();
        if self.is_upstream(&host, authority.port_u16()) {
            return self.transparent(parts, &host);
        }
        if host == PUBLIC_API && is_default_port(&authority) {
            return self.transparent(parts, &host);
        }
        if let Some(base) = self.overrides.get(&host) {
            return other(base.as_str().trim_end_matches('/'), parts);
        }
        if is_other_host(&host) {
            if !is_default_port(&authority) {
                return Err(Problem::bad_request(
                    "peercache: this host is reached on its usual port only; leave the port out",
                    "bad-host",
                ));
            }
            return other(&format!("https://{host}"), parts);
        }
        self.base_url(parts, Some(&authority))
    }

    fn is_upstream(&self, host: &str, port: Option<u16>) -> bool {
        host == self.host
            && match self.port {
                Some(own) => port == Some(own),
                None => matches!(port, None | Some(80 | 443)),
            }
    }

    /// The client believes to talk to the server itself, so nothing is rewritten.
    fn transparent(&self, parts: &Parts, host: &str) -> Result<Route, Problem> {
        let (path, tail) = (parts.uri.path(), tail(parts, 0));
        if host == PUBLIC_API || self.prefix.is_empty() {
            return self.api(path, parts.uri.query(), format!("{}{tail}", self.prefix), None);
        }
        // GitHub Enterprise Server: the API is below a prefix, and the rest is not the API.
        match below(path, &self.prefix) {
            Some(rest) => self.api(rest, parts.uri.query(), tail.to_owned(), None),
            None if path == self.graphql() => self.api("/graphql", None, tail.to_owned(), None),
            None => other(&self.origin, parts),
        }
    }

    /// The client was given this proxy's address as the API's.
    fn base_url(&self, parts: &Parts, authority: Option<&Authority>) -> Result<Route, Problem> {
        let (path, query) = (parts.uri.path(), parts.uri.query());
        if let Some(own) = path.strip_prefix(OWN) {
            return Ok(Route::Own(own.to_owned()));
        }
        let base = |prefix: &str| authority.map(|host| format!("http://{host}{prefix}"));
        if path == "/api/graphql" || path == "/graphql" {
            let target = with_query(&self.graphql(), query);
            return self.api("/graphql", query, target, base(""));
        }
        if let Some(rest) = below(path, "/api/uploads") {
            return self.uploads(rest, query);
        }
        let (rest, cut) = match below(path, "/api/v3") {
            Some(rest) => (rest, "/api/v3"),
            None => (path, ""),
        };
        let tail = tail(parts, cut.len());
        let slash = if tail.starts_with('/') { "" } else { "/" };
        self.api(rest, query, format!("{}{slash}{tail}", self.prefix), base(cut))
    }

    fn api(
        &self,
        path: &str,
        query: Option<&str>,
        target: String,
        base: Option<String>,
    ) -> Result<Route, Problem> {
        let url = NormalUrl::new(path, query).map_err(|bad| match bad {
            BadPath::DotSegment => Problem::bad_request(
                "peercache: the path has a segment `.` or `..`; send the path that is meant",
                "bad-path",
            ),
            BadPath::Backslash => {
                Problem::bad_request("peercache: the path has a backslash; encode it as %5C", "bad-path")
            }
            BadPath::Percent => Problem::bad_request(
                "peercache: the URL has a % without two hexadecimal digits; encode it as %25",
                "bad-path",
            ),
        })?;
        let graphql = url.path == "/graphql";
        Ok(Route::Api(ApiRoute { url, target, base, graphql }))
    }

    /// Uploads have a host of their own on github.com and a path on Enterprise Server.
    fn uploads(&self, rest: &str, query: Option<&str>) -> Result<Route, Problem> {
        let target = with_query(rest, query);
        let url = if let Some(base) = self.overrides.get(UPLOADS) {
            format!("{}{target}", base.as_str().trim_end_matches('/'))
        } else if self.host == PUBLIC_API {
            format!("https://{UPLOADS}{target}")
        } else if let Some(api) = self.prefix.strip_suffix("/v3") {
            format!("{}{api}/uploads{target}", self.origin)
        } else {
            return Err(Problem::bad_request(
                "peercache: it is not known where this upstream takes uploads; start it with a route for \
                 uploads.github.com",
                "no-uploads-host",
            ));
        };
        Url::parse(&url).map(|url| Route::Other(Box::new(url))).map_err(|_| bad_target())
    }

    /// The path of the GraphQL endpoint on the upstream.
    fn graphql(&self) -> String {
        format!("{}/graphql", self.prefix.strip_suffix("/v3").unwrap_or(&self.prefix))
    }
}

/// The authority of the request-target if it is absolute, else of `Host` (RFC 9112, section 3.2.2).
fn authority_of(parts: &Parts) -> Result<Option<Authority>, Problem> {
    let bad =
        || Problem::bad_request("peercache: the request needs exactly one valid Host header", "bad-host");
    let mut hosts = parts.headers.get_all(HOST).iter();
    let host = hosts.next();
    if hosts.next().is_some() {
        return Err(bad());
    }
    let authority = match (parts.uri.authority(), host) {
        (Some(authority), _) => authority.clone(),
        (None, Some(host)) => Authority::try_from(host.as_bytes()).map_err(|_| bad())?,
        (None, None) if parts.version < http::Version::HTTP_11 => return Ok(None),
        (None, None) => return Err(bad()),
    };
    let has_user = authority.as_str().contains('@');
    if has_user || authority.host().is_empty() { Err(bad()) } else { Ok(Some(authority)) }
}

fn is_default_port(authority: &Authority) -> bool {
    matches!(authority.port_u16(), None | Some(80 | 443))
}

/// Path and query as they were written, without the first `skip` bytes.
fn tail(parts: &Parts, skip: usize) -> &str {
    parts.uri.path_and_query().and_then(|both| both.as_str().get(skip..)).unwrap_or("/")
}

fn with_query(path: &str, query: Option<&str>) -> String {
    query.map_or_else(|| path.to_owned(), |query| format!("{path}?{query}"))
}

/// What follows `prefix` in `path`, if it is `prefix` or below it.
fn below<'a>(path: &'a str, prefix: &str) -> Option<&'a str> {
    match path.strip_prefix(prefix)? {
        "" => Some("/"),
        rest => rest.starts_with('/').then_some(rest),
    }
}

fn other(base: &str, parts: &Parts) -> Result<Route, Problem> {
    Url::parse(&format!("{base}{}", tail(parts, 0)))
        .map(|url| Route::Other(Box::new(url)))
        .map_err(|_| bad_target())
}

const fn bad_target() -> Problem {
    Problem::bad_request("peercache: the request-target is not a path or an http URL", "bad-target")
}

fn parse(what: &'static str, text: &str) -> Result<Url, BuildError> {
    let fail = |shown: String, problem| BuildError::Url { what, url: shown, problem };
    let Ok(mut url) = Url::parse(text) else {
        return Err(fail(text.to_owned(), "it is not a URL"));
    };
    let with_user = !url.username().is_empty() || url.password().is_some();
    // Never repeat a password.
    if with_user && url.set_username("").and_then(|()| url.set_password(None)).is_ok() {
        return Err(fail(url.into(), "it has a user name or password; clients send their own token"));
    }
    if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none_or(str::is_empty) {
        return Err(fail(url.into(), "it is not an http or https URL"));
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err(fail(url.into(), "it has a query or a fragment"));
    }
    Ok(url)
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::Request;

    fn hosts(upstream: &str) -> Hosts {
        let routes = vec![("objects.githubusercontent.com".to_owned(), "http://127.0.0.1:7/".to_owned())];
        Hosts::new(upstream, routes).unwrap()
    }

    fn route(upstream: &str, host: &str, target: &str) -> Result<Route, Problem> {
        let request = Request::builder().uri(target).header(HOST, host).body(()).unwrap();
        hosts(upstream).route(&request.into_parts().0)
    }

    /// What is sent where, what it is keyed by, and what the client calls the API.
    fn api(upstream: &str, host: &str, target: &str) -> (String, String, Option<String>) {
        match route(upstream, host, target) {
            Ok(Route::Api(api)) => {
                (hosts(upstream).target(&api).unwrap().to_string(), api.url.path, api.base)
            }
            other => panic!("{other:?}"),
        }
    }

    fn other_url(upstream: &str, host: &str, target: &str) -> String {
        match route(upstream, host, target) {
            Ok(Route::Other(url)) => url.to_string(),
            other => panic!("{other:?}"),
        }
    }

    const DOTCOM: &str = "https://api.github.com";
    const GHES: &str = "https://ghe.example.com/api/v3";

    #[test]
    fn transparent_requests_are_sent_as_they_are() {
        let expected = ("https://api.github.com/repos/O/r?b=1&a".to_owned(), "/repos/o/r".to_owned(), None);
        for host in ["api.github.com", "API.github.com:443", "api.github.com:80"] {
            assert_eq!(api(DOTCOM, host, "/repos/O/r?b=1&a"), expected);
        }
        assert_eq!(api(DOTCOM, "ignored", "http://api.github.com/repos/O/r?b=1&a"), expected);
        // A stand-in for the API still answers to its name.
        assert_eq!(api("http://127.0.0.1:9", "api.github.com", "/x").0, "http://127.0.0.1:9/x");
        assert_eq!(api("http://127.0.0.1:9", "127.0.0.1:9", "/x").2, None);
    }

    #[test]
    fn a_base_url_with_and_without_enterprise_paths() {
        for (target, sent, base) in [
            ("/repos/o/r?q=1", "https://api.github.com/repos/o/r?q=1", "http://localhost:8080"),
            ("/api/v3/repos/o/r?q=1", "https://api.github.com/repos/o/r?q=1", "http://localhost:8080/api/v3"),
            ("/api/v3?x", "https://api.github.com/?x", "http://localhost:8080/api/v3"),
            ("/api/v3x", "https://api.github.com/api/v3x", "http://localhost:8080"),
            ("/api/graphql", "https://api.github.com/graphql", "http://localhost:8080"),
            ("/graphql", "https://api.github.com/graphql", "http://localhost:8080"),
            ("/", "https://api.github.com/", "http://localhost:8080"),
        ] {
            let (to, _, client) = api(DOTCOM, "localhost:8080", target);
            assert_eq!((to.as_str(), client.as_deref()), (sent, Some(base)), "{target}");
        }
        assert_eq!(
            other_url(DOTCOM, "localhost:8080", "/api/uploads/repos/o/r/releases/1/assets?name=x"),
            "https://uploads.github.com/repos/o/r/releases/1/assets?name=x"
        );
    }

    #[test]
    fn enterprise_server_as_upstream() {
        let (to, key, base) = api(GHES, "localhost", "/repos/o/r");
        assert_eq!((to.as_str(), key.as_str()), ("https://ghe.example.com/api/v3/repos/o/r", "/repos/o/r"));
        assert_eq!(base.as_deref(), Some("http://localhost"));
        assert_eq!(api(GHES, "localhost", "/api/v3/repos/o/r").0, to);
        assert_eq!(api(GHES, "api.github.com", "/repos/o/r").0, to);
        assert_eq!(api(GHES, "ghe.example.com", "/api/v3/repos/o/r"), (to, key, None));
        assert_eq!(api(GHES, "localhost", "/graphql").0, "https://ghe.example.com/api/graphql");
        assert_eq!(api(GHES, "ghe.example.com", "/api/graphql").0, "https://ghe.example.com/api/graphql");
        assert_eq!(
            other_url(GHES, "ghe.example.com", "/o/r/archive.zip"),
            "https://ghe.example.com/o/r/archive.zip"
        );
        assert_eq!(
            other_url(GHES, "localhost", "/api/uploads/x?y"),
            "https://ghe.example.com/api/uploads/x?y"
        );
        assert!(route("http://127.0.0.1:9", "localhost", "/api/uploads/x").is_err());
    }

    #[test]
    fn other_hosts_of_github_are_passed_through_and_strangers_are_not() {
        assert_eq!(other_url(DOTCOM, "github.com", "/o/r/archive?x=1"), "https://github.com/o/r/archive?x=1");
        assert_eq!(
            other_url(DOTCOM, "raw.githubusercontent.com", "/a"),
            "https://raw.githubusercontent.com/a"
        );
        assert_eq!(other_url(DOTCOM, "objects.githubusercontent.com", "/a?b"), "http://127.0.0.1:7/a?b");
        assert_eq!(
            other_url(DOTCOM, "productionresultssa12.blob.core.windows.net", "/a"),
            "https://productionresultssa12.blob.core.windows.net/a"
        );
        for host in ["evil.blob.core.windows.net", "productionresultssa.evil.net", "xgithubusercontent.com"] {
            assert_eq!(
                api(DOTCOM, host, "/a").0,
                "https://api.github.com/a",
                "{host} is a name of this proxy"
            );
        }
        assert!(route(DOTCOM, "github.com:22", "/").is_err());
    }

    #[test]
    fn own_endpoints_are_not_on_hosts_of_github() {
        assert!(
            matches!(route(DOTCOM, "localhost", "/-/peercache/health"), Ok(Route::Own(rest)) if rest == "health")
        );
        assert_eq!(
            api(DOTCOM, "api.github.com", "/-/peercache/health").0,
            "https://api.github.com/-/peercache/health"
        );
    }

    #[test]
    fn smuggled_hosts_and_paths_are_refused() {
        for (host, target) in [
            ("user@api.github.com", "/x"),
            ("api.github.com/evil", "/x"),
            ("a b", "/x"),
            ("", "/x"),
            ("localhost", "/api/v3/../../x"),
            ("localhost", "/repos/%2e%2e/x"),
            ("localhost", "/a\\b"),
            ("localhost", "*"),
        ] {
            assert!(route(DOTCOM, host, target).is_err(), "{host} {target}");
        }
        let two = Request::builder().uri("/x").header(HOST, "a").header(HOST, "b").body(()).unwrap();
        assert!(hosts(DOTCOM).route(&two.into_parts().0).is_err());
        let none = Request::builder().uri("/x").body(()).unwrap();
        assert!(hosts(DOTCOM).route(&none.into_parts().0).is_err());
        // A path that begins with two slashes stays a path.
        assert_eq!(api(DOTCOM, "localhost", "//evil.example/x").0, "https://api.github.com//evil.example/x");
    }

    #[test]
    fn settings_that_cannot_work_are_refused_with_their_value() {
        let message = |upstream: &str| Hosts::new(upstream, Vec::new()).unwrap_err().to_string();
        assert!(message("api.github.com").contains("\"api.github.com\": it is not a URL"));
        assert!(message("ftp://x/").contains("ftp://x/"));
        assert!(message("https://x/?y").contains("query"));
        let with_password = message("https://me:hush@ghe.example.com/");
        assert!(
            !with_password.contains("hush") && with_password.contains("ghe.example.com"),
            "{with_password}"
        );
        let host = vec![("https://x".to_owned(), "http://127.0.0.1:1".to_owned())];
        assert!(matches!(Hosts::new(DOTCOM, host), Err(BuildError::Host(_))));
    }
}
