//! Which server a request is for, and what it is called there. Hosts are an allow-list: a request
//! for a host that is not ours, not a configured upstream and not one of GitHub's is answered 421,
//! so that a token goes to no other host than the one that its client named.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use http::Uri;
use http::header::{HOST, HeaderMap, HeaderName, HeaderValue, USER_AGENT};
use http::request::Parts;
use http::uri::{Authority, PathAndQuery, Scheme};

use crate::arrival::{Arrival, Entrance};
use crate::body_rewrite::{BodyUrls, RewriteBodies};
use crate::error::{BuildError, Problem};
use crate::key::{BadPath, NormalUrl};

/// The public API.
pub(crate) const PUBLIC_API: &str = "api.github.com";
const UPLOADS: &str = "uploads.github.com";
/// Where the proxy's own endpoints are. GitHub has none there.
const OWN: &str = "/-/";
/// The name that the command uses for the server behind a unix socket.
const OWN_NAME: &str = "peercache";

/// Hosts besides the API that clients of a unix socket reach through it: `gh` sends downloads
/// there.
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
    Other(Box<Uri>),
    /// One of the proxy's own endpoints; the path without the slash at its start.
    Own(String),
}

/// A request for the API.
#[derive(Clone, Debug)]
pub(crate) struct ApiRoute {
    /// The API that is asked.
    pub(crate) api: Arc<ApiHost>,
    /// The normal form, as the API calls it: without `/api/v3`.
    pub(crate) url: NormalUrl,
    /// Path and query to send, as the client wrote them, behind the upstream's origin.
    target: String,
    /// What the client uses as base URL, if it uses one: `http://host:port` and a prefix.
    pub(crate) base: Option<String>,
    /// How bodies are rewritten for this client, if they are.
    pub(crate) bodies: Option<BodyUrls>,
    /// Whether the client named an entity tag of a rewritten body.
    pub(crate) knows_rewritten: bool,
    /// Whether this is the GraphQL endpoint.
    pub(crate) graphql: bool,
}

impl ApiRoute {
    /// Where to send the request.
    pub(crate) fn target(&self) -> Result<Uri, Problem> {
        self.api.server.at(&self.target)
    }

    /// A request of this proxy's own for another path of the same API.
    pub(crate) fn sibling(&self, path: &str) -> Option<Self> {
        let url = NormalUrl::new(path, None).ok()?;
        let target = format!("{}{path}", self.api.server.prefix);
        let api = Arc::clone(&self.api);
        Some(Self { api, url, target, base: None, bodies: None, knows_rewritten: false, graphql: false })
    }
}

/// A server and a path on it.
#[derive(Clone, Debug)]
struct Server {
    scheme: Scheme,
    authority: Authority,
    /// Before every path; no slash at its end, usually empty.
    prefix: String,
}

impl Server {
    /// A target on this server, byte for byte; the prefix is not added.
    fn at(&self, target: &str) -> Result<Uri, Problem> {
        let target = PathAndQuery::try_from(target).map_err(|_| bad_target())?;
        let mut parts = http::uri::Parts::default();
        parts.scheme = Some(self.scheme.clone());
        parts.authority = Some(self.authority.clone());
        parts.path_and_query = Some(target);
        Uri::from_parts(parts).map_err(|_| bad_target())
    }

    fn origin(&self) -> String {
        format!("{}://{}", self.scheme, self.authority)
    }
}

/// One API: GitHub's, an Enterprise Server's, or a tenant's.
#[derive(Debug)]
pub(crate) struct ApiHost {
    server: Server,
    /// Host and port as keys name it.
    authority: String,
    host: String,
    /// Whether requests for api.github.com go here.
    answers_for_public: bool,
    /// URLs in `Link`, `Location` and bodies that stand for this API, without a slash at the end.
    pub(crate) urls: Vec<String>,
}

impl ApiHost {
    fn new(url: &str) -> Result<Self, BuildError> {
        let server = parse("the upstream", url)?;
        let host = server.authority.host().to_ascii_lowercase();
        // A stand-in has the paths of api.github.com; an Enterprise Server has them below /api/v3,
        // and a tenant's API is its own.
        let answers_for_public = server.prefix.is_empty() && !host.ends_with(".ghe.com");
        let mut urls = vec![format!("{}{}", server.origin(), server.prefix)];
        if answers_for_public && host != PUBLIC_API {
            urls.push(format!("https://{PUBLIC_API}"));
        }
        let authority = server.authority.as_str().to_ascii_lowercase();
        Ok(Self { server, authority, host, answers_for_public, urls })
    }

    /// What the API is called in keys.
    pub(crate) fn authority(&self) -> &str {
        &self.authority
    }

    /// Whether this is github.com's.
    pub(crate) fn is_public(&self) -> bool {
        self.host == PUBLIC_API
    }

    fn is(&self, host: &str, port: Option<u16>) -> bool {
        let same_port = match self.server.authority.port_u16() {
            Some(own) => port == Some(own),
            None => matches!(port, None | Some(80 | 443)),
        };
        host == self.host && same_port
    }

    /// The path of the GraphQL endpoint.
    fn graphql(&self) -> String {
        format!("{}/graphql", self.server.prefix.strip_suffix("/v3").unwrap_or(&self.server.prefix))
    }

    /// The API path of a URL in a response, if it is on this server (RFC 9111, section 4.4). `near`
    /// is what a relative URL is relative to.
    pub(crate) fn path_of(&self, near: &Uri, url: &str) -> Option<String> {
        let absolute;
        let url = if url.starts_with('/') && !url.starts_with("//") {
            absolute = format!("{}://{}{url}", near.scheme_str()?, near.authority()?);
            &absolute
        } else {
            url
        };
        let rest = self.urls.iter().find_map(|base| url.strip_prefix(base.as_str()))?;
        let path = rest.split(['?', '#']).next().filter(|path| path.starts_with('/'))?;
        NormalUrl::new(path, None).ok().map(|url| url.path)
    }
}

/// The upstreams, and the hosts that requests are routed by.
#[derive(Clone, Debug)]
pub(crate) struct Hosts {
    /// The first is the one that base URLs stand for.
    apis: Vec<Arc<ApiHost>>,
    first: Arc<ApiHost>,
    overrides: HashMap<String, Server>,
    /// Names of this proxy, in lower case.
    names: Vec<String>,
    /// From whom `X-Forwarded-*` is believed.
    trusted: Vec<Network>,
    bodies: RewriteBodies,
}

impl Hosts {
    pub(crate) fn new(
        upstreams: &[String],
        overrides: Vec<(String, String)>,
        names: Vec<String>,
        trusted: &[String],
    ) -> Result<Self, BuildError> {
        let mut apis = Vec::new();
        for url in upstreams {
            apis.push(Arc::new(ApiHost::new(url)?));
        }
        let first = apis.first().cloned().ok_or(BuildError::NoUpstream)?;
        let mut routes = HashMap::new();
        for (name, target) in overrides {
            routes.insert(host_name(name)?, parse("the target of a route", &target)?);
        }
        let names = names.into_iter().map(host_name).collect::<Result<_, _>>()?;
        let trusted = trusted.iter().map(|text| Network::parse(text)).collect::<Result<_, _>>()?;
        Ok(Self { apis, first, overrides: routes, names, trusted, bodies: RewriteBodies::default() })
    }

    pub(crate) const fn rewrite_bodies(mut self, bodies: RewriteBodies) -> Self {
        self.bodies = bodies;
        self
    }

    /// The API that base URLs stand for.
    pub(crate) fn first(&self) -> Arc<ApiHost> {
        Arc::clone(&self.first)
    }

    /// All of them.
    pub(crate) fn apis(&self) -> &[Arc<ApiHost>] {
        &self.apis
    }

    /// Whether every upstream is github.com's API.
    pub(crate) fn is_public_api(&self) -> bool {
        self.apis.iter().all(|api| api.is_public())
    }

    /// Decides what a request is for.
    pub(crate) fn route(&self, parts: &Parts, arrival: &Arrival) -> Result<Route, Problem> {
        let named = authority_of(parts)?;
        if !parts.uri.path().starts_with('/') {
            return Err(bad_target());
        }
        let front = self.front(&parts.headers, arrival)?;
        let Some(authority) = named else {
            // HTTP/1.0 without Host: nothing to compare with, and nothing to rewrite to.
            return self.base_url(parts, arrival, None, front.as_ref());
        };
        let host = authority.host().to_ascii_lowercase();
        if let Entrance::Intercepted(only) = &arrival.entrance
            && **only != *host
        {
            return Err(Problem::misdirected());
        }
        if let Some(api) = self.api_named(&host, &authority) {
            return transparent(api, parts, &host);
        }
        if let Some(server) = self.overrides.get(&host) {
            return other(server, parts);
        }
        if is_other_host(&host) {
            if !is_default_port(&authority) {
                return Err(Problem::bad_request(
                    "peercache: this host is reached on its usual port only; leave the port out",
                    "bad-host",
                ));
            }
            let authority = Authority::try_from(host).map_err(|_| bad_target())?;
            return other(&Server { scheme: Scheme::HTTPS, authority, prefix: String::new() }, parts);
        }
        let is_ours =
            front.as_ref().is_some_and(|front| front.host.is_some()) || self.is_own_name(&host, arrival);
        if !is_ours {
            return Err(Problem::misdirected());
        }
        self.base_url(parts, arrival, Some(&authority), front.as_ref())
    }

    /// Whether requests for this host and port are requests for an API.
    pub(crate) fn is_api(&self, host: &str, authority: &Authority) -> bool {
        self.api_named(host, authority).is_some()
    }

    /// The API that a host name stands for.
    fn api_named(&self, host: &str, authority: &Authority) -> Option<&Arc<ApiHost>> {
        let exact = self.apis.iter().find(|api| api.is(host, authority.port_u16()));
        exact.or_else(|| {
            let public = host == PUBLIC_API && is_default_port(authority);
            self.apis.iter().find(|api| public && api.answers_for_public)
        })
    }

    fn is_own_name(&self, host: &str, arrival: &Arrival) -> bool {
        let address = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>().ok();
        let is_loopback = host == "localhost"
            || host.ends_with(".localhost")
            || address.is_some_and(|address| address.to_canonical().is_loopback());
        let is_entrance = match &arrival.entrance {
            Entrance::Tcp { local, .. } => {
                address.map(|own| own.to_canonical()) == Some(local.ip().to_canonical())
            }
            Entrance::Unix => host == OWN_NAME,
            Entrance::Intercepted(_) | Entrance::InProcess => false,
        };
        is_loopback || is_entrance || self.names.iter().any(|name| name == host)
    }

    /// What a trusted proxy says about the address that its client used.
    fn front(&self, headers: &HeaderMap, arrival: &Arrival) -> Result<Option<Front>, Problem> {
        let Some(from) = arrival.peer.filter(|from| self.trusted.iter().any(|net| net.contains(*from)))
        else {
            return Ok(None);
        };
        tracing::trace!(%from, "a trusted proxy's X-Forwarded headers are used");
        Front::of(headers).map(Some)
    }

    /// The client was given this proxy's address as the API's.
    fn base_url(
        &self,
        parts: &Parts,
        arrival: &Arrival,
        authority: Option<&Authority>,
        front: Option<&Front>,
    ) -> Result<Route, Problem> {
        let (path, query) = (parts.uri.path(), parts.uri.query());
        if path.starts_with(OWN) || path == "/metrics" {
            return Ok(Route::Own(path.trim_start_matches('/').to_owned()));
        }
        let api = &self.first;
        let base = |prefix: &str| {
            let secure = matches!(arrival.entrance, Entrance::Tcp { secure: true, .. });
            let mut scheme = if secure { "https" } else { "http" };
            let mut host = authority.map(Authority::as_str);
            let mut before = "";
            if let Some(front) = front {
                scheme = front.scheme.unwrap_or(scheme);
                host = front.host.as_ref().map(Authority::as_str).or(host);
                before = &front.prefix;
            }
            host.map(|host| format!("{scheme}://{host}{before}{prefix}"))
        };
        let graphql = api.graphql();
        if path == "/api/graphql" || path == "/graphql" {
            let enterprise = path == "/api/graphql";
            let target = with_query(&graphql, query);
            let base = base(if enterprise { "/api/v3" } else { "" });
            return route(api, "/graphql", query, target, base, None);
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
        let target = format!("{}{slash}{tail}", api.server.prefix);
        let base = base(cut);
        let rewrites = match self.bodies {
            RewriteBodies::Auto => !cut.is_empty() || follows_bodies(&parts.headers),
            RewriteBodies::Always => true,
            RewriteBodies::Never => false,
        };
        let bodies = base.as_deref().filter(|_| rewrites).map(|base| BodyUrls::new(&api.urls, base));
        route(api, rest, query, target, base, bodies)
    }

    /// Uploads have a host of their own on github.com and a path on Enterprise Server.
    fn uploads(&self, rest: &str, query: Option<&str>) -> Result<Route, Problem> {
        NormalUrl::new(rest, query).map_err(bad_path)?;
        let target = with_query(rest, query);
        let api = &self.first;
        let url = if let Some(server) = self.overrides.get(UPLOADS) {
            server.at(&format!("{}{target}", server.prefix))
        } else if api.is_public() {
            let authority = Authority::from_static(UPLOADS);
            Server { scheme: Scheme::HTTPS, authority, prefix: String::new() }.at(&target)
        } else if let Some(above) = api.server.prefix.strip_suffix("/v3") {
            api.server.at(&format!("{above}/uploads{target}"))
        } else {
            return Err(Problem::bad_request(
                "peercache: it is not known where this upstream takes uploads; start it with a route for \
                 uploads.github.com",
                "no-uploads-host",
            ));
        };
        url.map(|url| Route::Other(Box::new(url)))
    }
}

/// The client believes to talk to the server itself, so nothing is rewritten.
fn transparent(api: &Arc<ApiHost>, parts: &Parts, host: &str) -> Result<Route, Problem> {
    let (path, query, tail) = (parts.uri.path(), parts.uri.query(), tail(parts, 0));
    let prefix = api.server.prefix.as_str();
    if host != api.host || prefix.is_empty() {
        return route(api, path, query, format!("{prefix}{tail}"), None, None);
    }
    // GitHub Enterprise Server: the API is below a prefix, and the rest is not the API.
    match below(path, prefix) {
        Some(rest) => route(api, rest, query, tail.to_owned(), None, None),
        None if path == api.graphql() => route(api, "/graphql", None, tail.to_owned(), None, None),
        None => {
            NormalUrl::new(path, query).map_err(bad_path)?;
            api.server.at(tail).map(|url| Route::Other(Box::new(url)))
        }
    }
}

fn route(
    api: &Arc<ApiHost>,
    path: &str,
    query: Option<&str>,
    target: String,
    base: Option<String>,
    bodies: Option<BodyUrls>,
) -> Result<Route, Problem> {
    let url = NormalUrl::new(path, query).map_err(bad_path)?;
    let graphql = url.path == "/graphql";
    let api = Arc::clone(api);
    Ok(Route::Api(ApiRoute { api, url, target, base, bodies, knows_rewritten: false, graphql }))
}

/// Whether the client is known to follow the URLs in bodies, whatever its base URL looks like:
/// PyGithub refuses those of another host, the others leave for api.github.com with their token.
fn follows_bodies(headers: &HeaderMap) -> bool {
    let agent = headers.get(USER_AGENT).map(HeaderValue::as_bytes).unwrap_or_default();
    let has = |name: &[u8]| agent.windows(name.len()).any(|window| window.eq_ignore_ascii_case(name));
    has(b"pygithub") || has(b"github3.py") || has(b"octokit")
}

fn bad_path(bad: BadPath) -> Problem {
    match bad {
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
    }
}

/// What a proxy in front says about the address that its client used.
#[derive(Debug)]
struct Front {
    scheme: Option<&'static str>,
    host: Option<Authority>,
    /// A path before every path, without a slash at its end.
    prefix: String,
}

impl Front {
    /// Reads `X-Forwarded-Proto`, `-Host` and `-Prefix`, else `Forwarded` (RFC 7239). In a list,
    /// the last member is the one that the trusted proxy itself added.
    fn of(headers: &HeaderMap) -> Result<Self, Problem> {
        let bad = || {
            Problem::bad_request(
                "peercache: the proxy in front sent an X-Forwarded or Forwarded header that is not valid",
                "bad-forwarded",
            )
        };
        let text = |name: HeaderName| match headers.get_all(name).iter().next_back() {
            None => Ok(None),
            Some(value) => {
                let value = value.to_str().map_err(|_| bad())?;
                Ok(value.rsplit(',').next().map(|last| last.trim().to_owned()))
            }
        };
        let forwarded = text(http::header::FORWARDED)?.unwrap_or_default();
        let parameter = |wanted: &str| {
            forwarded.split(';').find_map(|pair| {
                let (name, value) = pair.split_once('=')?;
                let is_it = name.trim().eq_ignore_ascii_case(wanted);
                is_it.then(|| value.trim().trim_matches('"').to_owned())
            })
        };
        let scheme = text(HeaderName::from_static("x-forwarded-proto"))?.or_else(|| parameter("proto"));
        let scheme = match scheme {
            None => None,
            Some(scheme) if scheme.eq_ignore_ascii_case("https") => Some("https"),
            Some(scheme) if scheme.eq_ignore_ascii_case("http") => Some("http"),
            Some(_) => return Err(bad()),
        };
        let host = text(HeaderName::from_static("x-forwarded-host"))?.or_else(|| parameter("host"));
        let host = host.map(|host| Authority::try_from(host).map_err(|_| bad())).transpose()?;
        if host.as_ref().is_some_and(|host| host.as_str().contains('@')) {
            return Err(bad());
        }
        let prefix = text(HeaderName::from_static("x-forwarded-prefix"))?.unwrap_or_default();
        let prefix = prefix.trim_end_matches('/').to_owned();
        let is_path = prefix.is_empty()
            || (prefix.starts_with('/')
                && !prefix.starts_with("//")
                && NormalUrl::new(&prefix, None).is_ok()
                && prefix.bytes().all(|byte| byte.is_ascii_graphic() && !b"<>\"".contains(&byte)));
        if is_path { Ok(Self { scheme, host, prefix }) } else { Err(bad()) }
    }
}

/// Addresses that begin with the same bits.
#[derive(Clone, Copy, Debug)]
struct Network {
    address: IpAddr,
    bits: u8,
}

impl Network {
    fn parse(text: &str) -> Result<Self, BuildError> {
        let bad = || BuildError::TrustedProxy(text.to_owned());
        let (address, bits) = match text.split_once('/') {
            Some((address, bits)) => (address, Some(bits.parse::<u8>().map_err(|_| bad())?)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(|_| bad())?;
        let most = if address.is_ipv4() { 32 } else { 128 };
        let bits = bits.unwrap_or(most);
        if bits > most { Err(bad()) } else { Ok(Self { address, bits }) }
    }

    fn contains(self, address: IpAddr) -> bool {
        let shift = |most: u32| most - u32::from(self.bits);
        match (self.address, address.to_canonical()) {
            (IpAddr::V4(own), IpAddr::V4(other)) => {
                (own.to_bits() ^ other.to_bits()).checked_shr(shift(32)).unwrap_or(0) == 0
            }
            (IpAddr::V6(own), IpAddr::V6(other)) => {
                (own.to_bits() ^ other.to_bits()).checked_shr(shift(128)).unwrap_or(0) == 0
            }
            _ => false,
        }
    }
}

/// The authority of the request-target if it is absolute, else of `Host` (RFC 9112, section 3.2.2).
pub(crate) fn authority_of(parts: &Parts) -> Result<Option<Authority>, Problem> {
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

fn other(server: &Server, parts: &Parts) -> Result<Route, Problem> {
    let tail = tail(parts, 0);
    if !server.prefix.is_empty() {
        // What is below a prefix stays there, however the server reads dots and backslashes.
        NormalUrl::new(parts.uri.path(), None).map_err(bad_path)?;
    }
    server.at(&format!("{}{tail}", server.prefix)).map(|url| Route::Other(Box::new(url)))
}

const fn bad_target() -> Problem {
    Problem::bad_request("peercache: the request-target is not a path or an http URL", "bad-target")
}

/// A host name in lower case.
fn host_name(name: String) -> Result<String, BuildError> {
    let lower = name.to_ascii_lowercase();
    let is_name = lower.parse::<Authority>().is_ok_and(|authority| authority.host() == lower);
    if is_name { Ok(lower) } else { Err(BuildError::Host(name)) }
}

fn parse(what: &'static str, text: &str) -> Result<Server, BuildError> {
    // Never repeat a password, or what may be one.
    let shown = match text.rsplit_once('@') {
        Some((before, host)) => match before.split_once("://") {
            Some((scheme, _)) => format!("{scheme}://...@{host}"),
            None => format!("...@{host}"),
        },
        None => text.to_owned(),
    };
    let fail = |problem| BuildError::Url { what, url: shown.clone(), problem };
    let url: Uri = text.trim().parse().map_err(|_| fail("it is not a URL"))?;
    let parts = url.into_parts();
    let (Some(scheme), Some(authority)) = (parts.scheme, parts.authority) else {
        return Err(fail("it is not a URL"));
    };
    if authority.as_str().contains('@') {
        return Err(fail("it has a user name or password; clients send their own token"));
    }
    if (scheme != Scheme::HTTP && scheme != Scheme::HTTPS) || authority.host().is_empty() {
        return Err(fail("it is not an http or https URL"));
    }
    let path = parts.path_and_query.unwrap_or(PathAndQuery::from_static("/"));
    if path.query().is_some() || text.contains('#') {
        return Err(fail("it has a query or a fragment"));
    }
    if NormalUrl::new(path.path(), None).is_err() {
        return Err(fail("its path has a segment `.` or `..`, a backslash or a wrong percent-encoding"));
    }
    // A default port is left out, as clients leave it out.
    let default = if scheme == Scheme::HTTPS { 443 } else { 80 };
    let authority = match authority.port_u16() {
        Some(port) if port == default => {
            Authority::try_from(authority.host()).map_err(|_| fail("its host is not valid"))?
        }
        _ => authority,
    };
    Ok(Server { scheme, authority, prefix: path.path().trim_end_matches('/').to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::Request;

    fn hosts(upstream: &str) -> Hosts {
        let routes = vec![("objects.githubusercontent.com".to_owned(), "http://127.0.0.1:7/".to_owned())];
        Hosts::new(&[upstream.to_owned()], routes, vec!["Cache.Test".to_owned()], &[]).unwrap()
    }

    fn tcp() -> Arrival {
        let local = "192.0.2.7:9180".parse().unwrap();
        Arrival { entrance: Entrance::Tcp { local, secure: false }, ..Arrival::IN_PROCESS }
    }

    fn unix() -> Arrival {
        Arrival { entrance: Entrance::Unix, ..Arrival::IN_PROCESS }
    }

    fn route(upstream: &str, host: &str, target: &str) -> Result<Route, Problem> {
        let request = Request::builder().uri(target).header(HOST, host).body(()).unwrap();
        hosts(upstream).route(&request.into_parts().0, &tcp())
    }

    fn over_unix(upstream: &str, host: &str, target: &str) -> Result<Route, Problem> {
        let request = Request::builder().uri(target).header(HOST, host).body(()).unwrap();
        hosts(upstream).route(&request.into_parts().0, &unix())
    }

    /// What is sent where, what it is keyed by, and what the client calls the API.
    fn api(upstream: &str, host: &str, target: &str) -> (String, String, Option<String>) {
        match route(upstream, host, target) {
            Ok(Route::Api(api)) => (api.target().unwrap().to_string(), api.url.path, api.base),
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
        assert_eq!(api(DOTCOM, "evil.example", "http://api.github.com/repos/O/r?b=1&a"), expected);
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
            ("/api/graphql", "https://api.github.com/graphql", "http://localhost:8080/api/v3"),
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
            assert!(route(DOTCOM, host, "/a").is_err(), "{host}");
            assert!(over_unix(DOTCOM, host, "/a").is_err(), "{host}");
        }
        assert!(route(DOTCOM, "github.com:22", "/").is_err());
    }

    #[test]
    fn only_listed_hosts_are_answered() {
        let ours = ["localhost:1", "x.localhost", "127.0.0.1:9180", "[::1]:9180", "192.0.2.7", "cache.test"];
        for host in ours {
            assert!(matches!(route(DOTCOM, host, "/x"), Ok(Route::Api(_))), "{host}");
        }
        let strangers =
            ["evil.example:9180", "192.0.2.8", "peercache", "octocorp.ghe.com", "api.octocorp.ghe.com"];
        for host in strangers {
            assert!(route(DOTCOM, host, "/x").is_err(), "{host}");
            assert!(route(DOTCOM, "localhost", &format!("http://{host}/x")).is_err(), "{host}, absolute");
            if host != "peercache" {
                assert!(over_unix(DOTCOM, host, "/x").is_err(), "{host}, over a socket");
            }
        }
        assert!(over_unix(DOTCOM, "ghe.corp.example", "/api/v3/x").is_err());
        assert!(matches!(over_unix(DOTCOM, "peercache", "/-/stats"), Ok(Route::Own(_))));
    }

    #[test]
    fn token_for_github_com_does_not_reach_an_enterprise_server_or_a_tenant() {
        for upstream in [GHES, "https://api.octocorp.ghe.com"] {
            assert!(over_unix(upstream, "api.github.com", "/user").is_err(), "{upstream}");
            assert!(route(upstream, "localhost", "http://api.github.com/user").is_err(), "{upstream}");
        }
    }

    #[test]
    fn each_of_several_upstreams_gets_what_names_it() {
        let upstreams = [GHES.to_owned(), DOTCOM.to_owned(), "https://api.octocorp.ghe.com".to_owned()];
        let hosts = Hosts::new(&upstreams, Vec::new(), Vec::new(), &[]).unwrap();
        for (host, target, sent) in [
            ("ghe.example.com", "/api/v3/user", "https://ghe.example.com/api/v3/user"),
            ("api.github.com", "/user", "https://api.github.com/user"),
            ("api.octocorp.ghe.com", "/user", "https://api.octocorp.ghe.com/user"),
            ("localhost", "/user", "https://ghe.example.com/api/v3/user"),
        ] {
            let request = Request::builder().uri(target).header(HOST, host).body(()).unwrap();
            match hosts.route(&request.into_parts().0, &unix()) {
                Ok(Route::Api(api)) => assert_eq!(api.target().unwrap().to_string(), sent),
                other => panic!("{host}: {other:?}"),
            }
        }
    }

    #[test]
    fn tunnel_that_ends_here_carries_requests_for_its_host_only() {
        let entrance = Entrance::Intercepted("api.github.com".into());
        let arrival = Arrival { entrance, ..Arrival::IN_PROCESS };
        for (host, fits) in [("api.github.com", true), ("github.com", false), ("localhost", false)] {
            let request = Request::builder().uri("/x").header(HOST, host).body(()).unwrap();
            assert_eq!(hosts(DOTCOM).route(&request.into_parts().0, &arrival).is_ok(), fits, "{host}");
        }
    }

    #[test]
    fn path_of_a_route_cannot_be_left() {
        let routes = vec![(UPLOADS.to_owned(), "http://127.0.0.1:7/uploads/prefix".to_owned())];
        let hosts = Hosts::new(&[DOTCOM.to_owned()], routes, Vec::new(), &[]).unwrap();
        let route = |host: &str, target: &str| {
            let request = Request::builder().uri(target).header(HOST, host).body(()).unwrap();
            hosts.route(&request.into_parts().0, &unix())
        };
        for path in ["/../../admin", "/%2e%2e/admin", "/a/%2E./b", "/..\\admin", "/./x"] {
            assert!(route(UPLOADS, path).is_err(), "{path}");
            assert!(route("localhost", &format!("/api/uploads{path}")).is_err(), "{path}");
        }
        match route(UPLOADS, "/a?b=..") {
            Ok(Route::Other(url)) => assert_eq!(url.to_string(), "http://127.0.0.1:7/uploads/prefix/a?b=.."),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn targets_are_sent_byte_for_byte() {
        for target in
            ["/search?q='a'&b[]=1&c%5B%5D=2|^", "/x/{a}?b={c}", "/a//b/%7e;x=1,2", "/x?", "/x?a=%c3%a9"]
        {
            let (sent, _, _) = api(DOTCOM, "localhost", target);
            assert_eq!(sent, format!("https://api.github.com{target}"));
        }
    }

    #[test]
    fn address_of_a_trusted_proxy_is_believed_and_of_others_is_not() {
        let trusted = ["10.0.0.0/8".to_owned(), "2001:db8::/32".to_owned(), "192.0.2.1".to_owned()];
        let names = vec!["cache.corp.example".to_owned()];
        let hosts = Hosts::new(&[DOTCOM.to_owned()], Vec::new(), names, &trusted).unwrap();
        let base = |peer: &str, headers: &[(&str, &str)]| {
            let mut request = Request::builder().uri("/api/v3/x").header(HOST, "cache.corp.example");
            for (name, value) in headers {
                request = request.header(*name, *value);
            }
            let arrival = Arrival { peer: Some(peer.parse().unwrap()), ..tcp() };
            match hosts.route(&request.body(()).unwrap().into_parts().0, &arrival) {
                Ok(Route::Api(api)) => api.base.unwrap(),
                other => panic!("{other:?}"),
            }
        };
        let https = [("x-forwarded-proto", "http, https")];
        for peer in ["10.200.0.1", "::ffff:10.0.0.1", "2001:db8:1::1", "192.0.2.1"] {
            assert_eq!(base(peer, &https), "https://cache.corp.example/api/v3", "{peer}");
        }
        for peer in ["11.0.0.1", "2001:db9::1", "192.0.2.2"] {
            assert_eq!(base(peer, &https), "http://cache.corp.example/api/v3", "{peer}");
        }
        let all = [
            ("x-forwarded-proto", "https"),
            ("x-forwarded-host", "front.example:8443"),
            ("x-forwarded-prefix", "/github/"),
        ];
        assert_eq!(base("10.0.0.1", &all), "https://front.example:8443/github/api/v3");
        let rfc7239 = [("forwarded", "for=1.2.3.4;proto=https;host=\"front.example\"")];
        assert_eq!(base("10.0.0.1", &rfc7239), "https://front.example/api/v3");
        for bad in ["10.0.0.0/33", "::/129", "corp.example", ""] {
            let trusted = [bad.to_owned()];
            let error = Hosts::new(&[DOTCOM.to_owned()], Vec::new(), Vec::new(), &trusted).unwrap_err();
            assert!(error.to_string().contains(&format!("{bad:?}")), "{error}");
        }
    }

    #[test]
    fn default_ports_of_an_upstream_are_left_out() {
        for (upstream, key) in
            [("https://ghe.example.com:443/api/v3", "ghe.example.com"), ("http://h:8080", "h:8080")]
        {
            assert_eq!(hosts(upstream).first().authority(), key);
        }
    }

    #[test]
    fn own_endpoints_are_not_on_hosts_of_github() {
        assert!(
            matches!(route(DOTCOM, "localhost", "/-/health/live"), Ok(Route::Own(rest)) if rest == "-/health/live")
        );
        assert_eq!(api(DOTCOM, "api.github.com", "/-/health/live").0, "https://api.github.com/-/health/live");
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
        assert!(hosts(DOTCOM).route(&two.into_parts().0, &tcp()).is_err());
        let none = Request::builder().uri("/x").body(()).unwrap();
        assert!(hosts(DOTCOM).route(&none.into_parts().0, &tcp()).is_err());
        // A path that begins with two slashes stays a path.
        assert_eq!(api(DOTCOM, "localhost", "//evil.example/x").0, "https://api.github.com//evil.example/x");
    }

    #[test]
    fn settings_that_cannot_work_are_refused_with_their_value() {
        let message = |upstream: &str| {
            Hosts::new(&[upstream.to_owned()], Vec::new(), Vec::new(), &[]).unwrap_err().to_string()
        };
        assert!(message("api.github.com").contains("\"api.github.com\": it is not a URL"));
        assert!(message("ftp://x/").contains("ftp://x/"));
        assert!(message("https://x/?y").contains("query"));
        let with_password = message("https://me:hush@ghe.example.com/");
        assert!(
            !with_password.contains("hush") && with_password.contains("ghe.example.com"),
            "{with_password}"
        );
        let host = vec![("https://x".to_owned(), "http://127.0.0.1:1".to_owned())];
        assert!(matches!(Hosts::new(&[DOTCOM.to_owned()], host, Vec::new(), &[]), Err(BuildError::Host(_))));
    }
}
