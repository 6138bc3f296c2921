//! `peercache serve`: the proxy as a process.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;

use peercache::{Config, Peers};
use peercache_github::{GitHubCache, Server};
use serde_json::json;
use tokio::signal::unix::{SignalKind, signal};

use crate::cli::ServeArgs;
use crate::exit::{Exit, Failure};
use crate::id::bootstrap;
use crate::peers::counted;
use crate::{install_key, output};

const DEFAULT_LISTEN: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 9180);

/// Serves until SIGTERM or SIGINT, then lets running requests end.
pub(crate) async fn run(args: ServeArgs, json: bool) -> Result<Exit, Failure> {
    // Before anything is opened: what is under way then ends in order.
    let stop = stop_signal()?;
    let config = Config::from_env("peercache")?;
    let cache = config.open().await?;
    let mut proxy = GitHubCache::builder(cache.clone())
        .upstream(&args.upstream)
        .install_key(install_key::of(&config).await?);
    for (host, url) in &args.route {
        proxy = proxy.route(host, url);
    }
    let proxy = proxy.build().map_err(Failure::config)?;
    let mut server = Server::new(proxy.clone()).drain_timeout(args.drain_timeout);
    let tcp = match (args.listen, &args.socket) {
        (Some(address), _) => Some(address),
        (None, None) => Some(DEFAULT_LISTEN),
        (None, Some(_)) => None,
    };
    let mut url = None;
    if let Some(address) = tcp {
        url = Some(format!("http://{}", server.listen_tcp(address).await.map_err(Failure::config)?));
    }
    if let Some(path) = &args.socket {
        server.listen_unix(path, args.socket_mode).map_err(Failure::config)?;
    }
    announce(cache.peers(), url.as_deref(), args.socket.as_deref(), json)?;
    let drained = server.serve(stop).await.map_err(Failure::failed)?;
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

/// Says who this is and where it listens; where the proxy listens comes last, so that who waits for that
/// has read the rest.
fn announce(
    peers: Option<&Peers>,
    url: Option<&str>,
    socket: Option<&Path>,
    json: bool,
) -> Result<(), Failure> {
    let node = peers.map(Peers::report);
    if json {
        let node = node.map(|node| {
            json!({ "peer_id": node.name, "role": node.role, "addresses": node.addresses, "connected": node.connected })
        });
        return output::json(&json!({ "listening": { "url": url, "socket": socket }, "peers": node }));
    }
    if let Some(node) = node {
        let connected = counted(node.connected as u64, "peer");
        let found = match node.addresses.is_empty() {
            true => String::new(),
            false => format!("; others find it with {}", bootstrap(&node.addresses)),
        };
        output::line(format_args!(
            "peercache is the {} {}, {connected} connected{found}",
            node.role, node.name
        ))?;
    }
    if let Some(url) = url {
        output::line(format_args!("peercache listening on {url}"))?;
    }
    if let Some(socket) = socket {
        output::line(format_args!("peercache listening on unix:{}", socket.display()))?;
    }
    Ok(())
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
