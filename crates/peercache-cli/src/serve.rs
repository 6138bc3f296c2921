//! `peercache serve`: the proxy as a process.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;

use peercache::Config;
use peercache_github::{GitHubCache, Server};
use peercache_testkit::fakehub::{self, FakeHubArgs};
use serde_json::json;
use tokio::signal::unix::{SignalKind, signal};

use crate::cli::ServeArgs;
use crate::exit::{Exit, Failure};
use crate::{install_key, output};

const DEFAULT_LISTEN: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 9180);

/// Serves until SIGTERM or SIGINT, then lets running requests end.
pub(crate) async fn run(args: ServeArgs, json: bool) -> Result<Exit, Failure> {
    let config = Config::from_env()?;
    let cache = config.open().await?;
    let mut proxy = GitHubCache::builder(cache.clone())
        .upstream(&args.upstream)
        .install_key(install_key::load_or_create(config.dir())?);
    for (host, url) in &args.route {
        proxy = proxy.route(host, url);
    }
    let proxy = proxy.build().map_err(Failure::config)?;
    // Before the first line is printed: whoever waits for it may send the signal at once.
    let stop = stop_signal()?;
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
    announce(url.as_deref(), args.socket.as_deref(), json)?;
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

/// Runs the origin of the demo and of tests, until SIGTERM or SIGINT.
pub(crate) async fn fakehub(args: FakeHubArgs) -> Result<Exit, Failure> {
    fakehub::run_cli(args).await.map_err(Failure::config)?;
    Ok(Exit::Ok)
}

fn announce(url: Option<&str>, socket: Option<&Path>, json: bool) -> Result<(), Failure> {
    if json {
        return output::json(&json!({ "listening": { "url": url, "socket": socket } }));
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
