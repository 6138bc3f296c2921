//! `peercache serve`: the proxy as a process.

use std::convert::Infallible;
use std::io::Write as _;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::time::Duration;

use clap::{Args, ValueEnum};
use peercache::config::COMMAND;
use peercache::{Cache, Config, Peers};
use peercache_github::{AccessRecord, CertificateAuthority, RewriteBodies, Server, TlsIdentity};
use serde_json::json;
use tokio::signal::unix::{SignalKind, signal};

use crate::args::{parse_mode, parse_route, parse_seconds};
use crate::exit::{Exit, Failure};
use crate::id::{bootstrap, without_id};
use crate::peers::counted;
use crate::{ca, github, output};

const DEFAULT_LISTEN: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 9180);
/// The variable that holds the client token, so that it need not stand in a list of processes.
const CLIENT_TOKEN: &str = "CACHE_CLIENT_TOKEN";
/// The variable that holds the secret of webhooks, for the same reason.
const WEBHOOK_SECRET: &str = "CACHE_WEBHOOK_SECRET";
/// How often the server looks whether a command has left writes in the journal.
const REPLAY_EVERY: Duration = Duration::from_secs(30);
/// The shortest client token.
const MIN_TOKEN_BYTES: usize = 16;
/// The most records of an access log that wait to be written; further ones are left out and
/// counted.
const MAX_WAITING_RECORDS: usize = 4096;

#[derive(Args, Debug)]
pub(crate) struct ServeArgs {
    /// TCP address to listen on; repeatable [default: CACHE_HTTP_LISTEN, else 127.0.0.1:9180,
    /// unless a socket or TLS is given]
    #[arg(long, value_name = "ADDR:PORT")]
    listen: Vec<SocketAddr>,

    /// TCP address to listen on for TLS; repeatable
    #[arg(long, value_name = "ADDR:PORT")]
    listen_tls: Vec<SocketAddr>,

    /// The certificate of --listen-tls, PEM, its chain behind it [default: one of `peercache ca`]
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    tls_cert: Option<PathBuf>,

    /// The private key of --tls-cert, PEM
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    tls_key: Option<PathBuf>,

    /// Unix socket to listen on, for `gh config set http_unix_socket PATH` [default: CACHE_SOCKET]
    #[arg(long, value_name = "PATH")]
    socket: Option<PathBuf>,

    /// Who may connect to the socket, as an octal file mode
    #[arg(long, value_name = "MODE", default_value = "600", value_parser = parse_mode)]
    socket_mode: u32,

    /// An API to cache; repeatable: requests for the host of one go there, and base URLs stand for
    /// the first [default: CACHE_UPSTREAM, else https://api.github.com]
    #[arg(long, value_name = "URL")]
    upstream: Vec<String>,

    /// Send requests for another host of GitHub's to this URL instead of https://HOST; repeatable
    #[arg(long, value_name = "HOST=URL")]
    route: Vec<String>,

    /// A name by which clients call this server, beside its addresses and localhost; repeatable
    #[arg(long, value_name = "NAME")]
    host: Vec<String>,

    /// An address or network of proxies in front whose X-Forwarded headers are used; repeatable
    #[arg(long, value_name = "ADDR[/BITS]")]
    trusted_proxy: Vec<String>,

    /// Whose JSON bodies name this server instead of the API: those below /api/v3, all, or none
    #[arg(long, value_name = "WHOSE", default_value = "auto")]
    rewrite_bodies: Bodies,

    /// Answer CONNECT: TLS for the API ends here if there is an authority of `peercache ca`, the
    /// rest is tunnelled
    #[arg(long)]
    forward_proxy: bool,

    /// The folder of `peercache ca` [default: `ca` in CACHE_DIR]
    #[arg(long, value_name = "DIR")]
    ca: Option<PathBuf>,

    /// What clients of other machines show for CONNECT and /-/cache; @FILE reads it [default:
    /// CACHE_CLIENT_TOKEN]
    #[arg(long, value_name = "TOKEN")]
    client_token: Option<String>,

    /// The secret of GitHub's webhooks, which are delivered to /-/webhook; @FILE reads it [default:
    /// CACHE_WEBHOOK_SECRET]
    #[arg(long, value_name = "SECRET")]
    webhook_secret: Option<String>,

    /// Print a line for each request to standard output
    #[arg(long)]
    access_log: bool,

    /// Seconds that running requests may take to end after SIGTERM or SIGINT
    #[arg(long, value_name = "SECONDS", default_value = "10", value_parser = parse_seconds)]
    drain_timeout: Duration,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Bodies {
    Auto,
    Always,
    Never,
}

/// Serves until SIGTERM or SIGINT, then lets running requests end.
pub(crate) async fn run(args: ServeArgs, json: bool) -> Result<Exit, Failure> {
    // Before anything is opened: what is under way then ends in order.
    let stop = stop_signal()?;
    let config = Config::from_env(COMMAND)?;
    let token = client_token(args.client_token.as_deref())?;
    let authority = authority(&args, &config)?.map(Arc::new);
    let cache = config.open().await?;
    let settings = config.server();
    let socket = args.socket.clone().or_else(|| settings.socket.clone());
    let mut proxy = github::builder(&cache, &config).await?.rewrite_bodies(match args.rewrite_bodies {
        Bodies::Auto => RewriteBodies::Auto,
        Bodies::Always => RewriteBodies::Always,
        Bodies::Never => RewriteBodies::Never,
    });
    let usual = [settings.upstream.clone()];
    for url in if args.upstream.is_empty() { usual.as_slice() } else { args.upstream.as_slice() } {
        proxy = proxy.upstream(url);
    }
    for route in &args.route {
        let (host, url) = parse_route(route)?;
        proxy = proxy.route(host, url);
    }
    for name in &args.host {
        proxy = proxy.host(name);
    }
    for network in &args.trusted_proxy {
        proxy = proxy.trusted_proxy(network);
    }
    if let Some(token) = &token {
        proxy = proxy.client_token(token);
    }
    if let Some(secret) = webhook_secret(args.webhook_secret.as_deref())? {
        proxy = proxy.webhook_secret(secret);
    }
    let proxy = proxy.build().map_err(Failure::config)?;
    let mut server = Server::new(proxy.clone()).drain_timeout(args.drain_timeout);
    if args.forward_proxy {
        server = server.forward_proxy(authority.clone(), token);
    }
    if args.access_log {
        let log = access_log(json)?;
        server = server.access_log(move |record| {
            // A reader that does not keep up loses records; requests do not wait for it.
            let _full = log.try_send(record);
        });
    }
    let mut urls = Vec::new();
    let mut tcp = args.listen.clone();
    if tcp.is_empty() && args.socket.is_none() {
        tcp.clone_from(&settings.http_listen);
    }
    if tcp.is_empty() && socket.is_none() && args.listen_tls.is_empty() {
        tcp.push(DEFAULT_LISTEN);
    }
    for address in tcp {
        urls.push(format!("http://{}", server.listen_tcp(address).await.map_err(Failure::config)?));
    }
    if !args.listen_tls.is_empty() {
        let identity = tls_identity(&args, authority)?;
        for address in &args.listen_tls {
            let bound = server.listen_tls(*address, identity.clone()).await.map_err(Failure::config)?;
            urls.push(format!("https://{bound}"));
        }
    }
    if let Some(path) = &socket {
        server.listen_unix(path, args.socket_mode).map_err(Failure::config)?;
    }
    announce(cache.peers(), &urls, socket.as_deref(), json)?;
    let drained = tokio::select! {
        drained = server.serve(stop) => drained.map_err(Failure::failed)?,
        never = keep_replaying(&cache) => match never {},
    };
    cache
        .close()
        .await
        .map_err(|error| Failure::failed(format!("the cache did not close cleanly: {error}")))?;
    if drained.aborted > 0 {
        return Err(Failure::failed(format!(
            "{} requests were cut off because they took longer than --drain-timeout",
            drained.aborted
        )));
    }
    Ok(Exit::Ok)
}

/// The token that clients of other machines show: from the argument, a file or the environment. It
/// is repeated in no message.
fn client_token(argument: Option<&str>) -> Result<Option<String>, Failure> {
    secret(argument, "--client-token", CLIENT_TOKEN)
}

fn webhook_secret(argument: Option<&str>) -> Result<Option<String>, Failure> {
    secret(argument, "--webhook-secret", WEBHOOK_SECRET)
}

/// A secret from the command line, a file that it names, or else a variable.
fn secret(argument: Option<&str>, option: &str, variable: &str) -> Result<Option<String>, Failure> {
    let (text, from) = match argument {
        Some(argument) => match argument.strip_prefix('@') {
            Some(path) => {
                let text = std::fs::read_to_string(path)
                    .map_err(|error| Failure::config(format!("{option}: cannot read {path}: {error}")))?;
                (text, option)
            }
            None => (argument.to_owned(), option),
        },
        None => match std::env::var(variable) {
            Ok(text) if !text.trim().is_empty() => (text, variable),
            _ => return Ok(None),
        },
    };
    let text = text.trim();
    if text.len() < MIN_TOKEN_BYTES || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(Failure::config(format!(
            "{from}: give at least {MIN_TOKEN_BYTES} printable ASCII characters without spaces, such as \
             `openssl rand -hex 16` prints"
        )));
    }
    Ok(Some(text.to_owned()))
}

fn tls_identity(
    args: &ServeArgs,
    authority: Option<Arc<CertificateAuthority>>,
) -> Result<TlsIdentity, Failure> {
    let read = |path: &Path| {
        std::fs::read_to_string(path)
            .map_err(|error| Failure::config(format!("cannot read {}: {error}", path.display())))
    };
    match (&args.tls_cert, &args.tls_key, authority) {
        (Some(chain), Some(key), _) => TlsIdentity::from_pem(&read(chain)?, &read(key)?)
            .map_err(|error| Failure::config(format!("{}: {error}", chain.display()))),
        (_, _, Some(authority)) => Ok(TlsIdentity::from_authority(authority)),
        _ => Err(Failure::config(
            "--listen-tls needs a certificate: give --tls-cert and --tls-key, or make an authority with \
             `peercache ca`",
        )),
    }
}

/// A thread that writes records as they come: standard output may be a pipe that nobody reads.
fn access_log(json: bool) -> Result<SyncSender<AccessRecord>, Failure> {
    let (log, records) = sync_channel::<AccessRecord>(MAX_WAITING_RECORDS);
    std::thread::Builder::new()
        .name("access-log".to_owned())
        .spawn(move || {
            let mut out = std::io::stdout();
            for record in records {
                let line = if json {
                    serde_json::to_string(&record).unwrap_or_default()
                } else {
                    record.to_string()
                };
                if writeln!(out, "{line}").is_err() {
                    tracing::warn!("standard output is closed; the access log ends");
                    return;
                }
            }
        })
        .map_err(|error| Failure::failed(format!("a thread for the access log cannot start: {error}")))?;
    Ok(log)
}

/// Says who this is and where it listens; where the proxy listens comes last, so that who waits for
/// that has read the rest.
fn announce(
    peers: Option<&Peers>,
    urls: &[String],
    socket: Option<&Path>,
    json: bool,
) -> Result<(), Failure> {
    let node = peers.map(Peers::report);
    if json {
        let node = node.map(|node| {
            json!({ "peer_id": node.name, "role": node.role, "addresses": node.addresses, "connected": node.connected })
        });
        return output::json(
            &json!({ "listening": { "url": urls.first(), "urls": urls, "socket": socket }, "peers": node }),
        );
    }
    if let Some(node) = node {
        let connected = counted(node.connected as u64, "peer");
        let found = match node.addresses.is_empty() {
            true => String::new(),
            false => format!("; others find it with {}", bootstrap(&without_id(&node.addresses))),
        };
        output::line(format_args!(
            "peercache is the {} {}, {connected} connected{found}",
            node.role, node.name
        ))?;
    }
    for url in urls {
        output::line(format_args!("peercache listening on {url}"))?;
    }
    if let Some(socket) = socket {
        output::line(format_args!("peercache listening on unix:{}", socket.display()))?;
    }
    Ok(())
}

/// The authority of `peercache ca`, if there is one. One that nobody asked for is left out where it
/// cannot be read, as everything else in such a directory is.
fn authority(args: &ServeArgs, config: &Config) -> Result<Option<CertificateAuthority>, Failure> {
    let loaded = ca::load(&ca::dir_of(args.ca.clone(), config.dir()).unwrap_or_default());
    let is_wanted = args.ca.is_some() || args.forward_proxy || !args.listen_tls.is_empty();
    match loaded {
        Err(failure) if !is_wanted => {
            tracing::warn!("the authority of `peercache ca` is left out: {failure}");
            Ok(None)
        }
        loaded => loaded,
    }
}

/// Delivers what commands on this machine have left in the journal, for as long as it is polled.
async fn keep_replaying(cache: &Cache) -> Infallible {
    loop {
        tokio::time::sleep(REPLAY_EVERY).await;
        cache.replay_journal().await;
    }
}

fn stop_signal() -> Result<impl Future<Output = ()> + Send, Failure> {
    let failed = |error| Failure::failed(format!("cannot wait for signals: {error}"));
    let mut terminate = signal(SignalKind::terminate()).map_err(failed)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(failed)?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
}
