//! Two nodes of one fleet in one program, composed in code: an anchor, as a host runs it, and a
//! leaf, as a container does, which only dials out. Each has a cache over memory and its node.
//!
//! ```sh
//! cargo run --example peers --features libp2p
//! ```
//!
//! Machines that share a secret find each other the same way: `network_key` gives the same key to
//! all of them, and nobody without the secret is let in or reads what they share.

use std::net::Ipv4Addr;
use std::time::Duration;

use peercache::backend::network_key;
use peercache::backend::peers::{Peers, RoleChoice};
use peercache::chain::WritePolicy;
use peercache::seal::{Keyring, Sealed, Secret};
use peercache::{Cache, Error, Key, Memory, Ttl};

/// A cache over memory and a node, whose entries leave this process sealed.
fn over(node: &Peers, secret: &Secret) -> Result<Cache, Error> {
    Cache::builder()
        .tier(Memory::with_capacity(8 << 20))
        .tier(Sealed::new(secret.clone(), node.clone()))
        // Its report becomes part of the cache's.
        .peers(node.clone())
        // A put returns when a peer has the value, not before.
        .write_policy(WritePolicy::Quorum(1))
        .build()
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let secret = Secret::generate()?;
    let network = network_key(&Keyring::new(secret.clone()));

    let anchor = Peers::builder(network.clone())
        .role(RoleChoice::Anchor)
        .listen_ips(vec![Ipv4Addr::LOCALHOST.into()])
        .listen_port(Some(0))
        .start()
        .await?;
    let found_at = anchor.addresses().iter().map(|address| address.parse()).collect::<Result<Vec<_>, _>>()?;
    // Waits for the first peer, so that it is of use from here on.
    let leaf = Peers::builder(network).bootstrap(found_at).start().await?;
    let (host, runner) = (over(&anchor, &secret)?, over(&leaf, &secret)?);
    println!("the {} is connected with {} peer", leaf.report().role, leaf.report().connected);

    let key = Key::from_parts(["stars", "rust-lang/rust"])?;
    runner.put(&key, &107_000, Ttl::from_secs(300)).await?;
    let lookup = host.lookup(&key).await;
    println!("the host found it in {}", lookup.tier.as_deref().unwrap_or("no tier"));

    host.remove(&key).await;
    // The runner still has it in memory, until it is told.
    while runner.get::<u32>(&key).await.is_some() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    println!("the runner has forgotten it");

    let report = &runner.report().backends["peers"];
    let member = report["members"][0]["name"].as_str().unwrap_or("nobody");
    println!("the runner knows {member}");
    runner.close().await?;
    host.close().await?;
    Ok(())
}
