//! The shortest useful program: a cache as the environment describes it, and one value that is
//! fetched once and then served, with where it came from.
//!
//! ```sh
//! cargo run --example quickstart
//! ```
//!
//! Run it twice: the second time the value comes from the disk. `CACHE_BACKEND=memory` does without
//! a disk, `CACHE_DIR=/some/where` puts it elsewhere.

use peercache::{Cache, Key, Ttl};
use serde::{Deserialize, Serialize};

#[derive(Debug, Serialize, Deserialize)]
struct Repo {
    name: String,
    stars: u64,
}

/// Stands for a slow call that is counted against a limit.
async fn fetch(name: &str) -> Result<Repo, std::io::Error> {
    println!("fetching {name}");
    Ok(Repo { name: name.to_owned(), stars: 107_000 })
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let cache = Cache::from_env("quickstart").await?;
    let name = "rust-lang/rust";
    let key = Key::from_parts(["repos", name])?;

    match cache.lookup(&key).await.tier {
        Some(tier) => println!("found in {tier}"),
        None => println!("not cached yet"),
    }
    // However many tasks ask at once, one of them fetches and the others wait for it.
    let repo: Repo = cache.get_or_fetch(&key, Ttl::from_secs(300), || fetch(name)).await?;
    println!("{} has {} stars", repo.name, repo.stars);

    let lookup = cache.lookup(&key).await;
    println!("now in {}, {} s old", lookup.tier.as_deref().unwrap_or("no tier"), lookup.age.as_secs());
    cache.close().await?;
    Ok(())
}
