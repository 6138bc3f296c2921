//! Two machines that share a Redis or Valkey server: one load for both, and a removal that both
//! see.
//!
//! ```sh
//! REDIS_URL=redis://127.0.0.1:6379 cargo run --example redis_fleet --features redis
//! ```

use std::time::Duration;

use peercache::seal::{Sealed, Secret};
use peercache::{Cache, Key, Memory, Redis, Ttl};

/// A machine of its own: its memory above the shared server. Entries leave the machine sealed.
fn machine(url: &str, secret: &Secret) -> Result<Cache, Box<dyn std::error::Error>> {
    let shared = Redis::builder(url).prefix("peercache-example").open()?;
    let cache = Cache::builder()
        .tier(Memory::with_capacity(1 << 24))
        .tier(Sealed::new(secret.clone(), shared))
        .build()?;
    Ok(cache)
}

/// Waits until `done` holds; the server answers in milliseconds.
async fn until(mut done: impl AsyncFnMut() -> bool) -> Result<(), &'static str> {
    for _ in 0..500 {
        if done().await {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    Err("the other machine did not see it within five seconds")
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let url = std::env::var("REDIS_URL").map_err(|_| "set REDIS_URL, such as redis://127.0.0.1:6379")?;
    let secret = Secret::generate()?;
    let (one, other) = (machine(&url, &secret)?, machine(&url, &secret)?);
    let key = Key::new("rust-lang/rust")?;

    // The write goes to the memory at once and to the server behind it.
    one.put_bytes(&key, "107000 stars", Ttl::from_secs(60)).await?;
    until(async || other.lookup(&key).await.entry.is_some()).await?;
    let found = other.lookup(&key).await;
    println!("the other machine found it in {}", found.tier.as_deref().unwrap_or("no tier"));

    if !one.remove(&key).await.is_stored() {
        return Err("the removal was not stored".into());
    }
    until(async || other.lookup(&key).await.entry.is_none()).await?;
    println!("the other machine has forgotten it");
    one.close().await?;
    other.close().await?;
    Ok(())
}
