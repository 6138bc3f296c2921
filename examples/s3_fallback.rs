//! Peers first, a bucket behind them: what the peers no longer answer, the bucket does, and the
//! caller sees nothing but another tier.
//!
//! ```sh
//! export AWS_S3_BUCKET=team-cache AWS_REGION=eu-central-1
//! cargo run --example s3_fallback --features libp2p,s3
//! ```
//!
//! Credentials and region are found as the AWS SDK finds them; for a store that is not AWS, set
//! `AWS_ENDPOINT_URL_S3`. It leaves one small entry under `peercache-example/`, which expires in
//! five minutes.

use std::net::Ipv4Addr;
use std::time::Duration;

use peercache::backend::network_key;
use peercache::backend::peers::{Peers, RoleChoice};
use peercache::chain::WritePolicy;
use peercache::seal::{Keyring, Sealed, Secret};
use peercache::{Cache, CacheBackend, Key, S3, Ttl};

/// Where `key` is found now.
async fn found(cache: &Cache, key: &Key) -> String {
    let lookup = cache.lookup(key).await;
    let passed: Vec<_> = lookup.trace.iter().map(|trace| format!("{} {}", trace.tier, trace.skip)).collect();
    format!("{} {}", lookup.tier.as_deref().unwrap_or("no tier"), passed.join(", ")).trim_end().to_owned()
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let bucket = std::env::var("AWS_S3_BUCKET").map_err(|_| "set AWS_S3_BUCKET to the name of a bucket")?;
    let secret = Secret::generate()?;
    let network = network_key(&Keyring::new(secret.clone()));

    let anchor = Peers::builder(network.clone())
        .role(RoleChoice::Anchor)
        .listen_ips(vec![Ipv4Addr::LOCALHOST.into()])
        .listen_port(Some(0))
        .start()
        .await?;
    let addresses =
        anchor.addresses().iter().map(|address| address.parse()).collect::<Result<Vec<_>, _>>()?;
    let node = Peers::builder(network).bootstrap(addresses).start().await?;
    let bucket = S3::builder(bucket).prefix("peercache-example").open().await?;
    // One seal for both: neither a peer nor whoever runs the store reads what is shared.
    let runner = Cache::builder()
        .tier(Sealed::new(secret.clone(), node.clone()))
        .tier(Sealed::new(secret, bucket))
        // A put returns when both have the value.
        .write_policy(WritePolicy::All)
        .peers(node)
        .build()?;

    let key = Key::from_parts(["stars", "rust-lang/rust"])?;
    runner.put(&key, &107_000, Ttl::from_secs(300)).await?;
    println!("with peers: {}", found(&runner, &key).await);

    // The host with the anchor is gone, as when a machine is switched off.
    anchor.close().await?;
    while runner.peers().is_some_and(|peers| peers.report().connected > 0) {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    println!("without: {}", found(&runner, &key).await);
    assert_eq!(runner.get::<u32>(&key).await, Some(107_000));
    // The copy for the peers that were to take it over waits in vain, and closing says so.
    if let Err(error) = runner.close().await {
        println!("closed: {error}");
    }
    Ok(())
}
