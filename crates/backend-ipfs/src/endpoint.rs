//! Where the node is, and what it is told to let us in.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http02::Uri;
use peercache_api::{Error, ErrorKind, Operation};
use reqwest::header::HeaderValue;

/// The RPC of a Kubo node: `http` or `https`, host, port, and a path if a proxy serves it below
/// one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Endpoint {
    base: Uri,
    tls: bool,
}

/// The path of the RPC.
const API_PATH: &str = "/api/v0";

impl Endpoint {
    /// Reads a multiaddress (`/ip4/127.0.0.1/tcp/5001`, with `/http` or `/https` behind it or not)
    /// or a URL (`http://127.0.0.1:5001`).
    pub(crate) fn parse(text: &str) -> Result<Self, Error> {
        let text = text.trim();
        let url = if text.starts_with('/') { of_multiaddr(text) } else { of_url(text) };
        let (tls, place) =
            url.map_err(|what| mistake("IPFS_API", what).with_context("value", shown(text)))?;
        let scheme = if tls { "https" } else { "http" };
        let base = format!("{scheme}://{place}{API_PATH}").parse().map_err(|error| {
            mistake("IPFS_API", "the address is not one")
                .with_context("value", shown(text))
                .with_source(error)
        })?;
        Ok(Self { base, tls })
    }

    /// `http://127.0.0.1:5001/api/v0`. Holds no credentials.
    pub(crate) fn base(&self) -> &Uri {
        &self.base
    }

    pub(crate) fn is_tls(&self) -> bool {
        self.tls
    }

    /// As reports show it, without the path of the RPC.
    pub(crate) fn shown(&self) -> String {
        let text = self.base.to_string();
        text.strip_suffix(API_PATH).map(str::to_owned).unwrap_or(text)
    }
}

/// The value without what may be a password.
fn shown(text: &str) -> String {
    match text.split_once("://") {
        Some((scheme, rest)) => match rest.rsplit_once('@') {
            Some((_, host)) => format!("{scheme}://…@{host}"),
            None => text.to_owned(),
        },
        None => text.chars().take(200).collect(),
    }
}

fn of_multiaddr(text: &str) -> Result<(bool, String), &'static str> {
    let mut parts = text.split('/').skip(1);
    let mut next = || parts.next().filter(|part| !part.is_empty());
    let host = match (next(), next()) {
        (Some("ip4"), Some(host)) => {
            host.parse::<std::net::Ipv4Addr>().map_err(|_| "the address after /ip4/ is not one")?;
            host.to_owned()
        }
        (Some("ip6"), Some(host)) => {
            let host =
                host.parse::<std::net::Ipv6Addr>().map_err(|_| "the address after /ip6/ is not one")?;
            format!("[{host}]")
        }
        (Some("dns" | "dns4" | "dns6"), Some(host)) if is_host(host) => host.to_owned(),
        (Some("unix"), _) => {
            return Err("a Unix socket cannot be asked; let Addresses.API listen on a TCP port");
        }
        _ => return Err("a multiaddress begins with /ip4/, /ip6/ or /dns/ and a host"),
    };
    let port = match (next(), next()) {
        (Some("tcp"), Some(port)) => port.parse::<u16>().map_err(|_| "the port after /tcp/ is not one")?,
        _ => return Err("a port must follow the host, as in /ip4/127.0.0.1/tcp/5001"),
    };
    let tls = match (next(), next(), next()) {
        (None | Some("http"), None, None) => false,
        (Some("https"), None, None) | (Some("tls"), Some("http"), None) => true,
        _ => return Err("only /http or /https may follow the port"),
    };
    Ok((tls, format!("{host}:{port}")))
}

fn of_url(text: &str) -> Result<(bool, String), &'static str> {
    let (tls, rest) = match (text.strip_prefix("http://"), text.strip_prefix("https://")) {
        (Some(rest), _) => (false, rest),
        (_, Some(rest)) => (true, rest),
        _ => return Err("it is neither a multiaddress nor a URL that begins with http:// or https://"),
    };
    let rest = rest.trim_end_matches('/');
    let rest = rest.strip_suffix(API_PATH).unwrap_or(rest);
    let (host, path) = rest.split_once('/').map_or((rest, ""), |(host, path)| (host, path));
    if host.contains('@') {
        return Err("the URL must not hold a user or password; set IPFS_API_AUTH");
    }
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_.:[]".contains(c);
    if host.is_empty() || !host.chars().all(plain) {
        return Err("the URL has no host");
    }
    let safe = |c: char| c.is_ascii_alphanumeric() || "-_./".contains(c);
    if !path.chars().all(safe) {
        return Err("the URL has a query, a fragment or a character that a path does not take");
    }
    Ok((tls, rest.to_owned()))
}

fn is_host(host: &str) -> bool {
    host.len() <= 253 && host.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c))
}

fn mistake(variable: &'static str, message: &'static str) -> Error {
    Error::new(ErrorKind::Config, Operation::Open, message)
        .with_backend("ipfs")
        .with_context("variable", variable)
        .with_help(match variable {
            "IPFS_API" => "give /ip4/127.0.0.1/tcp/5001 or http://127.0.0.1:5001: Addresses.API of the node",
            _ => "give basic:USER:PASSWORD or bearer:TOKEN, as in API.Authorizations of the node",
        })
}

/// What is sent as `Authorization`.
#[derive(Clone)]
pub(crate) struct Authorization(HeaderValue);

impl Authorization {
    /// Reads `basic:USER:PASSWORD` or `bearer:TOKEN`, as `API.Authorizations` of Kubo's
    /// configuration writes them.
    pub(crate) fn parse(text: &str) -> Result<Self, Error> {
        let header = match text.trim().split_once(':') {
            Some(("basic", pair)) if pair.split_once(':').is_some_and(|(user, _)| !user.is_empty()) => {
                format!("Basic {}", STANDARD.encode(pair))
            }
            Some(("bearer", token)) if !token.is_empty() => format!("Bearer {token}"),
            _ => return Err(mistake("IPFS_API_AUTH", "the credentials of the IPFS node are not understood")),
        };
        let mut header = HeaderValue::try_from(header).map_err(|_| {
            mistake("IPFS_API_AUTH", "the credentials have a character that a header cannot hold")
        })?;
        header.set_sensitive(true);
        Ok(Self(header))
    }

    pub(crate) fn header(&self) -> &HeaderValue {
        &self.0
    }
}

impl fmt::Debug for Authorization {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Authorization(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> String {
        Endpoint::parse(text).unwrap().base().to_string()
    }

    #[test]
    fn endpoint_of_a_multiaddress_or_url_is_the_rpc() {
        assert_eq!(parsed("/ip4/127.0.0.1/tcp/5001"), "http://127.0.0.1:5001/api/v0");
        assert_eq!(parsed("/ip4/10.0.0.7/tcp/5001/http"), "http://10.0.0.7:5001/api/v0");
        assert_eq!(parsed("/ip6/::1/tcp/5001"), "http://[::1]:5001/api/v0");
        assert_eq!(parsed("/dns4/ipfs.example/tcp/443/https"), "https://ipfs.example:443/api/v0");
        assert_eq!(parsed("/dns/ipfs.example/tcp/443/tls/http"), "https://ipfs.example:443/api/v0");
        assert_eq!(parsed("http://127.0.0.1:5001/"), "http://127.0.0.1:5001/api/v0");
        assert_eq!(parsed("http://127.0.0.1:5001/api/v0/"), "http://127.0.0.1:5001/api/v0");
        assert_eq!(parsed("https://proxy.example/kubo"), "https://proxy.example/kubo/api/v0");
        assert_eq!(Endpoint::parse("/ip4/127.0.0.1/tcp/5001").unwrap().shown(), "http://127.0.0.1:5001");
    }

    #[test]
    fn endpoint_that_is_none_is_refused_with_an_example_and_no_password() {
        for text in [
            "",
            "127.0.0.1:5001",
            "/ip4/127.0.0.1",
            "/ip4/300.0.0.1/tcp/1",
            "/ip4/127.0.0.1/tcp/99999",
            "/ip4/127.0.0.1/udp/4001/quic-v1",
            "/unix/run/ipfs.sock",
            "ftp://h",
            "http://",
            "http://h/?x=1",
            "http://h/#f",
            "/dns4/a b/tcp/1",
        ] {
            let error = Endpoint::parse(text).unwrap_err();
            assert_eq!(
                (error.kind(), error.context("variable")),
                (ErrorKind::Config, Some("IPFS_API")),
                "{text}"
            );
            assert!(error.to_string().contains("/ip4/127.0.0.1/tcp/5001"), "{error}");
        }
        let error = Endpoint::parse("http://me:hush@host:5001").unwrap_err().to_string();
        assert!(error.contains("IPFS_API_AUTH") && !error.contains("hush"), "{error}");
    }

    #[test]
    fn authorization_is_read_as_kubo_writes_it_and_shown_nowhere() {
        let header = |text| Authorization::parse(text).unwrap().header().to_str().unwrap().to_owned();
        assert_eq!(header("basic:me:pass:word"), "Basic bWU6cGFzczp3b3Jk");
        assert_eq!(header("bearer:abc"), "Bearer abc");
        for text in ["", "hush", "basic:hush", "basic::hush", "bearer:", "Bearer hush", "bearer:hu\nsh"] {
            let error = Authorization::parse(text).unwrap_err();
            assert_eq!(error.context("variable"), Some("IPFS_API_AUTH"), "{text}");
            assert!(!error.to_string().contains("hush"), "{error}");
        }
        assert!(!format!("{:?}", Authorization::parse("bearer:hush").unwrap()).contains("hush"));
    }
}
