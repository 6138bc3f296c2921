//! `REDIS_URL`: which servers, and how to log in.

use std::fmt;
use std::path::PathBuf;

use peercache_api::{Error, ErrorKind, Operation};

/// Redis' own port.
const PORT: u16 = 6379;
/// The port of Sentinel.
const SENTINEL_PORT: u16 = 26379;
/// The most nodes that a URL may name.
const MAX_NODES: usize = 64;

/// What a URL says.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Address {
    pub(crate) servers: Servers,
    pub(crate) tls: bool,
    pub(crate) user: Option<String>,
    pub(crate) password: Option<String>,
    pub(crate) database: i64,
}

/// How the servers stand together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Servers {
    /// One server, or a name that leads to the current one.
    Single(Node),
    /// Nodes of a cluster, from which the others are learned.
    Cluster(Vec<Node>),
    /// Sentinels, and the name of the primary that they watch.
    Sentinel { nodes: Vec<Node>, primary: String },
}

/// Where a server listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Node {
    Tcp(String, u16),
    Unix(PathBuf),
}

/// Nothing of the login is shown.
impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.tls { "rediss" } else { "redis" };
        let list = |nodes: &[Node]| nodes.iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
        match &self.servers {
            Servers::Single(node @ Node::Unix(_)) => write!(f, "unix://{node}?db={}", self.database),
            Servers::Single(node) => write!(f, "{scheme}://{node}/{}", self.database),
            Servers::Cluster(nodes) => write!(f, "{scheme}+cluster://{}", list(nodes)),
            Servers::Sentinel { nodes, primary } => {
                write!(f, "{scheme}+sentinel://{}/{primary}/{}", list(nodes), self.database)
            }
        }
    }
}

impl fmt::Display for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(host, port) if host.contains(':') => write!(f, "[{host}]:{port}"),
            Self::Tcp(host, port) => write!(f, "{host}:{port}"),
            Self::Unix(path) => write!(f, "{}", path.display()),
        }
    }
}

/// The error for a part of the URL. The URL itself is not repeated: it may hold a password.
fn mistake(message: impl Into<std::borrow::Cow<'static, str>>) -> Error {
    Error::new(ErrorKind::Config, Operation::Open, message)
        .with_backend("redis")
        .with_context("variable", "REDIS_URL")
        .with_help(
            "write redis://[USER:PASSWORD@]HOST[:PORT][/DATABASE], rediss:// for TLS, unix:///PATH for a \
             socket, commas between the nodes of a cluster, or redis+sentinel://HOST[,HOST]/PRIMARY; \
             percent-encode `@`, `/`, `:` and `,` in a password",
        )
}

impl Address {
    /// Reads a URL.
    pub(crate) fn parse(url: &str) -> Result<Self, Error> {
        let url = url.trim();
        let Some((scheme, rest)) = url.split_once("://") else {
            return Err(mistake("the URL has no scheme"));
        };
        // Valkey's names for the same.
        let scheme = scheme.to_ascii_lowercase();
        let scheme = match scheme.strip_prefix("valkey") {
            Some(rest) => format!("redis{rest}"),
            None => scheme,
        };
        match scheme.as_str() {
            "redis" | "rediss" => {
                let (nodes, address) = Self::over_tcp(rest, scheme == "rediss", PORT)?;
                let mut address = address.with_database(single_segment(rest)?)?;
                address.servers = match nodes.len() {
                    1 => Servers::Single(nodes.into_iter().next().unwrap_or(Node::Tcp(String::new(), PORT))),
                    _ => Servers::Cluster(nodes),
                };
                address.checked()
            }
            "redis+cluster" | "rediss+cluster" => {
                let (nodes, address) = Self::over_tcp(rest, scheme.starts_with("rediss"), PORT)?;
                let mut address = address.with_database(single_segment(rest)?)?;
                address.servers = Servers::Cluster(nodes);
                address.checked()
            }
            "redis+sentinel" | "rediss+sentinel" => {
                let (nodes, address) = Self::over_tcp(rest, scheme.starts_with("rediss"), SENTINEL_PORT)?;
                let mut path = path_of(rest)?.split('/');
                let primary = decoded(path.next().unwrap_or_default())?;
                if primary.is_empty() {
                    return Err(mistake("the URL of Sentinel does not name the primary"));
                }
                let mut address = address.with_database(path.next().unwrap_or_default())?;
                if path.next().is_some() {
                    return Err(mistake("the URL has more parts after the database"));
                }
                address.servers = Servers::Sentinel { nodes, primary };
                Ok(address)
            }
            "unix" | "redis+unix" => Self::over_unix(rest),
            _ => Err(mistake("the scheme of the URL is not one of Redis")),
        }
    }

    fn over_tcp(rest: &str, tls: bool, port: u16) -> Result<(Vec<Node>, Self), Error> {
        if rest.contains(['?', '#']) {
            return Err(mistake("the URL has a `?` or `#`, which means nothing here"));
        }
        let authority = rest.split_once('/').map_or(rest, |(authority, _)| authority);
        let (login, hosts) = match authority.rsplit_once('@') {
            Some((login, hosts)) => (Some(login), hosts),
            None => (None, authority),
        };
        let (user, password) = match login.map(|login| login.split_once(':').unwrap_or((login, ""))) {
            Some((user, password)) => (some(decoded(user)?), some(decoded(password)?)),
            None => (None, None),
        };
        let nodes: Vec<_> = hosts
            .split(',')
            .map(str::trim)
            .filter(|host| !host.is_empty())
            .map(|host| node(host, port))
            .collect::<Result<_, _>>()?;
        if nodes.is_empty() {
            return Err(mistake("the URL names no host"));
        }
        if nodes.len() > MAX_NODES {
            return Err(mistake("the URL names more than 64 hosts; a few are enough to find the others"));
        }
        let servers = Servers::Cluster(Vec::new());
        Ok((nodes, Self { servers, tls, user, password, database: 0 }))
    }

    fn over_unix(rest: &str) -> Result<Self, Error> {
        let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
        if !path.starts_with('/') {
            return Err(mistake("the path of the socket does not begin with `/`"));
        }
        let servers = Servers::Single(Node::Unix(PathBuf::from(decoded(path)?)));
        let mut address = Self { servers, tls: false, user: None, password: None, database: 0 };
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            match name {
                "db" => address = address.with_database(value)?,
                "user" => address.user = some(decoded(value)?),
                "pass" | "password" => address.password = some(decoded(value)?),
                _ => return Err(mistake("the URL of the socket has a parameter other than db, user, pass")),
            }
        }
        Ok(address)
    }

    fn with_database(self, text: &str) -> Result<Self, Error> {
        if text.is_empty() {
            return Ok(self);
        }
        match text.parse::<u16>() {
            Ok(database) => Ok(Self { database: i64::from(database), ..self }),
            Err(_) => Err(mistake("the database is not a number")),
        }
    }

    fn checked(self) -> Result<Self, Error> {
        match self.servers {
            Servers::Cluster(_) if self.database != 0 => {
                Err(mistake("a cluster has the database 0 only, and the URL names another one"))
            }
            _ => Ok(self),
        }
    }
}

fn path_of(rest: &str) -> Result<&str, Error> {
    Ok(rest.split_once('/').map_or("", |(_, path)| path).trim_end_matches('/'))
}

fn single_segment(rest: &str) -> Result<&str, Error> {
    let path = path_of(rest)?;
    if path.contains('/') {
        return Err(mistake("the URL has more parts after the database"));
    }
    Ok(path)
}

fn some(text: String) -> Option<String> {
    Some(text).filter(|text| !text.is_empty())
}

fn node(text: &str, port: u16) -> Result<Node, Error> {
    let (host, given) = match text.strip_prefix('[') {
        Some(rest) => match rest.split_once(']') {
            Some((host, "")) => (host, None),
            Some((host, rest)) => (host, Some(rest.strip_prefix(':').unwrap_or("not a port"))),
            None => return Err(mistake("an address of IPv6 has no closing bracket")),
        },
        None => match text.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (text, None),
        },
    };
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_.:%".contains(c);
    if host.is_empty() || !host.chars().all(plain) {
        return Err(mistake("a host of the URL is not a name or an address"));
    }
    let port = match given {
        None => port,
        Some(text) => match text.parse() {
            Ok(port) if port != 0 => port,
            _ => return Err(mistake("a port of the URL is not a number from 1 to 65535")),
        },
    };
    Ok(Node::Tcp(host.to_owned(), port))
}

/// Without percent-encoding (RFC 3986, 2.1).
fn decoded(text: &str) -> Result<String, Error> {
    let bad = || mistake("a `%` in the URL is not followed by two hexadecimal digits of UTF-8 text");
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, tail)) = rest.split_first() {
        if *first == b'%' {
            let digits = tail.get(..2).and_then(|digits| std::str::from_utf8(digits).ok()).ok_or_else(bad)?;
            bytes.push(u8::from_str_radix(digits, 16).map_err(|_| bad())?);
            rest = &tail[2..];
        } else {
            bytes.push(*first);
            rest = tail;
        }
    }
    String::from_utf8(bytes).map_err(|_| bad())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(url: &str) -> Address {
        Address::parse(url).unwrap_or_else(|error| panic!("{url}: {error}"))
    }

    #[test]
    fn every_form_of_url_is_read() {
        for (url, shown) in [
            ("redis://cache.example", "redis://cache.example:6379/0"),
            ("redis://cache.example:1/5", "redis://cache.example:1/5"),
            ("rediss://[fd00::1]:7000", "rediss://[fd00::1]:7000/0"),
            ("valkeys://cache.example/", "rediss://cache.example:6379/0"),
            ("unix:///run/redis.sock", "unix:///run/redis.sock?db=0"),
            ("unix:///run/redis.sock?db=3&user=u&pass=p", "unix:///run/redis.sock?db=3"),
            ("redis://a,b:7001,c", "redis+cluster://a:6379,b:7001,c:6379"),
            ("redis+cluster://a", "redis+cluster://a:6379"),
            ("redis+sentinel://a,b/mymaster", "redis+sentinel://a:26379,b:26379/mymaster/0"),
            ("rediss+sentinel://a:1/mymaster/2", "rediss+sentinel://a:1/mymaster/2"),
            (" redis://user:word@cache.example \n", "redis://cache.example:6379/0"),
        ] {
            assert_eq!(parsed(url).to_string(), shown, "{url}");
        }
    }

    #[test]
    fn login_is_read_and_never_shown() {
        let address = parsed("redis://ci:hush%40%2f%3A@cache.example");
        assert_eq!((address.user.as_deref(), address.password.as_deref()), (Some("ci"), Some("hush@/:")));
        assert!(!format!("{address:?} {address}").contains("hush"));
        let default = parsed("redis://:hush@cache.example");
        assert_eq!((default.user, default.password.as_deref()), (None, Some("hush")));
        let socket = parsed("unix:///s?user=ci&pass=hush%26");
        assert_eq!((socket.user.as_deref(), socket.password.as_deref()), (Some("ci"), Some("hush&")));
    }

    #[test]
    fn mistake_in_a_url_is_named_and_the_url_is_not_repeated() {
        for url in [
            "cache.example:6379",
            "http://hush@cache.example",
            "redis://",
            "redis://hush@",
            "redis://:hush@cache.example/x",
            "redis://:hush@cache.example/1/2",
            "redis://:hush@cache.example:0",
            "redis://:hush@cache.example:port",
            "redis://:hu%sh@cache.example",
            "redis://:hush@cache example",
            "redis://:hush@cache.example?db=1",
            "redis://[::1",
            "redis://:hush@a,b/3",
            "redis+sentinel://:hush@a",
            "redis+sentinel://:hush@a/m/0/x",
            "unix://run/hush",
            "unix:///run/hush?dbs=1",
        ] {
            let error = Address::parse(url).expect_err(url);
            assert_eq!((error.kind(), error.context("variable")), (ErrorKind::Config, Some("REDIS_URL")));
            assert!(!error.to_string().contains("hush"), "{error}");
        }
    }
}
