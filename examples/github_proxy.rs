//! The GitHub proxy inside a program of your own: a cache composed in code, a server on a free
//! port, and two requests that show what it does.
//!
//! ```sh
//! # against a GitHub-like origin in this process
//! cargo run --example github_proxy
//! # against GitHub
//! cargo run --example github_proxy -- https://api.github.com /repos/rust-lang/rust
//! ```
//!
//! The second answer is a hit: it says so in `Cache-Status`, and the origin counts one request.

use peercache::{Cache, Memory};
use peercache_fakehub::{Corpus, FakeHub};
use peercache_github::{GitHubCache, Server};
use tokio::sync::oneshot;

type Failure = Box<dyn std::error::Error + Send + Sync>;

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let mut args = std::env::args().skip(1);
    if let Some(upstream) = args.next() {
        let path = args.next().unwrap_or_else(|| "/".to_owned());
        return ask_twice(&upstream, &path).await;
    }
    let hub = FakeHub::builder(Corpus::generated(1)).start().await?;
    ask_twice(&hub.url(), "/orgs/octo-org-1").await?;
    println!("the origin counted {} request", hub.summary().requests);
    hub.shutdown().await;
    Ok(())
}

/// Serves `upstream` through a cache and asks for `path` twice.
async fn ask_twice(upstream: &str, path: &str) -> Result<(), Failure> {
    let cache = Cache::builder().tier(Memory::with_capacity(64 << 20)).build()?;
    // Names tokens in the store. Keep one per installation where the store outlives the process.
    let mut install_key = [0; 32];
    getrandom::fill(&mut install_key)?;
    let proxy = GitHubCache::builder(cache).upstream(upstream).install_key(install_key).build()?;

    let mut server = Server::new(proxy);
    let address = server.listen_tcp(([127, 0, 0, 1], 0).into()).await?;
    let (stop, stopped) = oneshot::channel::<()>();
    let serving = tokio::spawn(server.serve(async move {
        // Dropping the sender stops the server too.
        let _ = stopped.await;
    }));

    if rustls::crypto::CryptoProvider::get_default().is_none() {
        // Losing a race against another thread that installs one is as good.
        let _either = rustls::crypto::ring::default_provider().install_default();
    }
    let client = reqwest::Client::builder().no_proxy().user_agent("peercache-example").build()?;
    for _ in 0..2 {
        let response = client.get(format!("http://{address}{path}")).send().await?;
        let status = response.headers().get("cache-status").and_then(|value| value.to_str().ok());
        println!("{}, Cache-Status: {}", response.status(), status.unwrap_or("none"));
        response.bytes().await?;
    }
    drop(stop);
    serving.await??;
    Ok(())
}
