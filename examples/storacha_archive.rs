//! A space of a UCAN upload service as the slow end of a chain: memory answers first, the space
//! keeps.
//!
//! Needs `WEB3_STORAGE_TOKEN`, as `peercache storacha token` builds it, with the service in it:
//! `cargo run --example storacha_archive --features storacha`.

use std::sync::Arc;
use std::time::Duration;

use peercache::backend::storacha::{Storacha, Token};
use peercache::seal::{Sealed, Secret};
use peercache::{Cache, Key, Memory, Ttl};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let Ok(token) = std::env::var("WEB3_STORAGE_TOKEN") else {
        return Err("set WEB3_STORAGE_TOKEN; docs/how-to/storacha.md says how to get one".into());
    };
    let token = Token::parse(&token)?;
    println!("{:?}", token.grant());
    let space =
        Storacha::builder(token).allow_private(true).request_timeout(Duration::from_secs(60)).open()?;
    let space = Arc::new(space);

    // Removed bytes can stay readable there, so nothing goes there in clear. A fleet shares one
    // secret.
    let secret = Secret::generate()?;
    let cache = Cache::builder()
        .tier(Memory::with_capacity(1 << 20))
        .tier(Sealed::new(secret, Arc::clone(&space)))
        .build()?;

    let key = Key::from_parts(["report", "2026-11"])?;
    let report = cache
        .get_or_fetch(&key, Ttl::from_secs(3600), || async {
            Ok::<_, std::io::Error>("all is well".to_owned())
        })
        .await?;
    println!("{report}");
    cache.close().await?;
    println!("{:?}", space.report().counts);
    Ok(())
}
