//! One Kubo node that runners share: what one of them has stored, another one finds.
//!
//! ```sh
//! ipfs daemon &
//! IPFS_API=/ip4/127.0.0.1/tcp/5001 cargo run --example ipfs_shared --features ipfs
//! ```
//!
//! It leaves one small sealed entry under `peercache-example`, which expires in five minutes.

use std::sync::Arc;

use peercache::chain::WritePolicy;
use peercache::seal::{Sealed, Secret};
use peercache::{Cache, CacheBackend, Ipfs, Key, Memory, Ttl};

/// A runner with a memory of its own above the node.
fn runner(api: &str, secret: &Secret) -> Result<Cache, Box<dyn std::error::Error>> {
    let node = Ipfs::builder(api).prefix("peercache-example");
    // Right for a node that nobody but us can reach. Else only entries that are marked public are
    // stored.
    let node = Arc::new(node.allow_private(true).open()?);
    Ok(Cache::builder()
        .tier(Memory::with_capacity(1 << 20))
        // Whoever reaches the node sees sealed bytes under blinded keys.
        .tier(Sealed::new(secret.clone(), Arc::clone(&node)))
        // A put returns when the node has the value too.
        .write_policy(WritePolicy::All)
        .ipfs(node)
        .build()?)
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let api = std::env::var("IPFS_API").unwrap_or_else(|_| Ipfs::DEFAULT_API.to_owned());
    let check = Ipfs::builder(&api).open()?;
    check.probe().await?;
    println!("Kubo {}", check.report().version.unwrap_or_default());

    let secret = Secret::generate()?;
    let (one, other) = (runner(&api, &secret)?, runner(&api, &secret)?);
    let key = Key::from_parts(["stars", "rust-lang/rust"])?;
    one.put(&key, &107_000, Ttl::from_secs(300)).await?;

    let lookup = other.lookup(&key).await;
    println!("found in {}", lookup.tier.as_deref().unwrap_or("no tier"));
    assert_eq!(other.get::<u32>(&key).await, Some(107_000));

    one.remove(&key).await;
    let late = runner(&api, &secret)?;
    assert_eq!(late.get::<u32>(&key).await, None);
    println!("removed for all");
    for cache in [one, other, late] {
        cache.close().await?;
    }
    Ok(())
}
