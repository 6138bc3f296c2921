//! Asking a running `peercache serve`.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use peercache::Config;
use peercache::config::COMMAND;
use reqwest::header::HeaderMap;
use serde_json::Value;

use crate::args::ServerArgs;
use crate::exit::Failure;
use crate::plain::on_one_line;

const DEFAULT_URL: &str = "http://127.0.0.1:9180";
const PATH: &str = "/-/stats";
const WITHIN: Duration = Duration::from_secs(10);
/// The most that a stats answer may have, in bytes. A real one has a few KiB.
const MAX_ANSWER_BYTES: usize = 4 << 20;

/// Where a server is.
struct Place {
    /// Its URL; over a socket the host only has to be none of GitHub's.
    base: String,
    socket: Option<PathBuf>,
}

impl Place {
    /// The server that `args` name, else the settings, else the one at the usual address.
    fn of(args: &ServerArgs) -> Result<Self, Failure> {
        let over = |socket: PathBuf| Self { base: "http://peercache".to_owned(), socket: Some(socket) };
        let at = |base: &str| Self { base: base.trim_end_matches('/').to_owned(), socket: None };
        if let Some(socket) = &args.socket {
            return Ok(over(socket.clone()));
        }
        if let Some(url) = &args.url {
            if !url.starts_with("http://") {
                return Err(Failure::config(format!("--url {url}: give a URL such as {DEFAULT_URL}")));
            }
            return Ok(at(url));
        }
        let settings = Config::from_env(COMMAND)?.server();
        Ok(match (settings.url, settings.socket, settings.http_listen.first()) {
            (Some(url), ..) => at(&url),
            (None, Some(socket), _) => over(socket),
            (None, None, Some(address)) => at(&format!("http://{}", reachable(*address))),
            (None, None, None) => at(DEFAULT_URL),
        })
    }

    /// Whether it is on this machine, whoever listens there.
    fn is_local(&self) -> bool {
        let host = self.base.strip_prefix("http://").and_then(|rest| rest.split(['/', '?', '#']).next());
        let Some(host) = host.filter(|host| !host.contains('@')) else { return false };
        let name = match host.rsplit_once(':') {
            Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
            _ => host,
        };
        let address = name.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
        self.socket.is_some() || name == "localhost" || address.is_ok_and(|address| address.is_loopback())
    }

    fn shown(&self) -> String {
        self.socket.as_ref().map_or_else(|| self.base.clone(), |path| path.display().to_string())
    }
}

/// Where a process of this machine reaches who listens at `address`.
fn reachable(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        ip => ip,
    };
    SocketAddr::new(ip, address.port())
}

/// A client for plain HTTP that no proxy setting diverts. It trusts no certificate authority, so
/// that it starts on an image that has none.
pub(crate) fn client(
    settings: impl FnOnce(reqwest::ClientBuilder) -> reqwest::ClientBuilder,
) -> Result<reqwest::Client, Failure> {
    let builder = reqwest::Client::builder().no_proxy().tls_certs_only([]);
    settings(builder)
        .build()
        .map_err(|error| Failure::failed(format!("the HTTP client cannot start: {error}")))
}

/// Why there are no statistics.
#[derive(Debug)]
pub(crate) enum Unanswered {
    /// Nobody listens there.
    Nobody,
    /// What listens there is no peercache; in words what it did.
    Other(String),
}

/// The statistics of the server that `args` or the settings name, or of the one at the usual
/// address.
pub(crate) async fn server(args: &ServerArgs) -> Result<Value, Failure> {
    let (asked, answer) = look(args).await?;
    answer.map_err(|unanswered| match unanswered {
        Unanswered::Nobody => Failure::failed(format!(
            "no peercache answers at {asked}; start one with `peercache serve`, or name another with --url or --socket"
        )),
        Unanswered::Other(what) => Failure::failed(format!("{asked} {what}; is that a peercache?")),
    })
}

/// Sends a command to a server: where it was looked for, and whether it did what it was told.
pub(crate) async fn post(args: &ServerArgs, path: &str) -> Result<(String, Result<(), Unanswered>), Failure> {
    let place = Place::of(args)?;
    let client = client(|client| match &place.socket {
        Some(path) => client.timeout(WITHIN).unix_socket(path.as_path()),
        None => client.timeout(WITHIN),
    })?;
    let answer = match client.post(format!("{}{path}", place.base)).send().await {
        Err(error) if error.is_builder() => {
            return Err(Failure::config(format!(
                "{}: this is not a URL; give one such as {DEFAULT_URL}",
                place.base
            )));
        }
        Err(error) if error.is_connect() => Err(Unanswered::Nobody),
        Err(error) if error.is_timeout() => {
            Err(Unanswered::Other(format!("did not answer within {} s", WITHIN.as_secs())))
        }
        Err(_) => Err(Unanswered::Other("did not answer with HTTP".to_owned())),
        Ok(response) if !response.status().is_success() => {
            Err(Unanswered::Other(format!("answered {}", response.status().as_u16())))
        }
        Ok(_) => Ok(()),
    };
    Ok((place.shown(), answer))
}

/// What a server on this machine answers to `path` with these headers, which may hold a token: no
/// other machine is asked.
pub(crate) async fn local(args: &ServerArgs, path: &str, headers: HeaderMap) -> Result<Value, Failure> {
    let place = Place::of(args)?;
    if !place.is_local() {
        return Err(Failure::config(format!(
            "{}: a token is sent to a server of this machine only; name one with --server \
             http://127.0.0.1:PORT or --socket PATH",
            place.shown()
        )));
    }
    let client = client(|client| match &place.socket {
        Some(path) => client.timeout(WITHIN).unix_socket(path.as_path()),
        None => client.timeout(WITHIN),
    })?;
    let asked = place.shown();
    let response = client.get(format!("{}{path}", place.base)).headers(headers).send().await.map_err(
        |error| match error.is_connect() {
            true => {
                Failure::failed(format!("no peercache answers at {asked}; start one with `peercache serve`"))
            }
            false => Failure::failed(format!("{asked} did not answer; is that a peercache?")),
        },
    )?;
    let status = response.status();
    let body = bounded(response).await.unwrap_or_default();
    let answer: Value = serde_json::from_slice(&body).unwrap_or_default();
    match (status.is_success(), answer["message"].as_str()) {
        (true, _) if answer.is_object() => Ok(answer),
        (false, Some(message)) if message.starts_with("peercache: ") => {
            Err(Failure::config(on_one_line(message.trim_start_matches("peercache: "))))
        }
        _ => Err(Failure::failed(format!("{asked} answered {}; is that a peercache?", status.as_u16()))),
    }
}

/// Where a server was looked for, and what it said.
pub(crate) async fn look(args: &ServerArgs) -> Result<(String, Result<Value, Unanswered>), Failure> {
    let place = Place::of(args)?;
    let base = &place.base;
    let client = client(|client| match &place.socket {
        Some(path) => client.timeout(WITHIN).unix_socket(path.as_path()),
        None => client.timeout(WITHIN),
    })?;
    let answer = match client.get(format!("{base}{PATH}")).send().await {
        Err(error) if error.is_builder() => {
            return Err(Failure::config(format!(
                "{base}: this is not a URL; give one such as {DEFAULT_URL}"
            )));
        }
        Err(error) if error.is_connect() => Err(Unanswered::Nobody),
        Err(error) if error.is_timeout() => {
            Err(Unanswered::Other(format!("did not answer within {} s", WITHIN.as_secs())))
        }
        Err(_) => Err(Unanswered::Other("did not answer with HTTP".to_owned())),
        Ok(response) if !response.status().is_success() => {
            Err(Unanswered::Other(format!("answered {}", response.status().as_u16())))
        }
        Ok(response) => match bounded(response).await {
            None => Err(Unanswered::Other(format!(
                "did not give a whole answer of at most {MAX_ANSWER_BYTES} bytes"
            ))),
            Some(body) => match serde_json::from_slice::<Value>(&body) {
                Ok(stats) if stats.pointer("/cache/tiers").is_some() => Ok(stats),
                Ok(_) => Err(Unanswered::Other("answered with other JSON".to_owned())),
                Err(_) => Err(Unanswered::Other("did not answer with JSON".to_owned())),
            },
        },
    };
    Ok((place.shown(), answer))
}

/// The body, unless it is longer than any that is expected.
pub(crate) async fn bounded(mut response: reqwest::Response) -> Option<Vec<u8>> {
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.ok()? {
        if body.len() + chunk.len() > MAX_ANSWER_BYTES {
            return None;
        }
        body.extend_from_slice(&chunk);
    }
    Some(body)
}
