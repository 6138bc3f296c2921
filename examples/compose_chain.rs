//! A chain composed in code: memory over disk over a store of your own, each with its own deadline
//! and mode. The value travels up, and the report says what each tier did.
//!
//! ```sh
//! cargo run --example compose_chain
//! ```

use std::collections::HashMap;
use std::time::Duration;

use peercache::backend::{BackendInfo, Capabilities, Operation, async_trait};
use peercache::chain::{Mode, TierOptions};
use peercache::{Cache, CacheBackend, Disk, Entry, Error, ErrorKind, Key, Memory};

/// What a nightly job left for everybody: read by many machines, written by none of them.
#[derive(Debug)]
struct Archive {
    info: BackendInfo,
    entries: HashMap<Key, Entry>,
}

#[async_trait]
impl CacheBackend for Archive {
    fn info(&self) -> &BackendInfo {
        &self.info
    }

    async fn get(&self, key: &Key) -> Result<Option<Entry>, Error> {
        Ok(self.entries.get(key).cloned())
    }

    async fn put(&self, _: &Key, _: Entry) -> Result<(), Error> {
        Err(Error::new(ErrorKind::Denied, Operation::Put, "the archive is read-only").with_backend("archive"))
    }

    async fn probe(&self) -> Result<(), Error> {
        Ok(())
    }

    async fn close(&self) -> Result<(), Error> {
        Ok(())
    }

    fn fleet(&self) -> Option<&dyn peercache::backend::Fleet> {
        None
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let key = Key::from_parts(["users", "ferris"])?;
    // Entries built by hand need a version; any cache makes them.
    let nightly = Cache::builder().build()?;
    let entry = nightly.new_entry("a crab").fresh_for(Duration::from_secs(3600)).build()?;
    let archive = Archive {
        info: BackendInfo::new("archive", Capabilities::shared().with_read_only()),
        entries: HashMap::from([(key.clone(), entry)]),
    };

    let dir = tempfile::tempdir()?;
    let disk = Disk::builder(dir.path()).capacity(64 << 20).open()?;
    let impatient = TierOptions {
        mode: Mode::ReadOnly,
        read_deadline: Some(Duration::from_millis(200)),
        ..TierOptions::default()
    };
    let cache = Cache::builder()
        .tier(Memory::with_capacity(16 << 20))
        .tier(disk)
        .tier_with(archive, impatient)
        .build()?;

    for _ in 0..2 {
        let lookup = cache.lookup(&key).await;
        println!("found in {}", lookup.tier.as_deref().unwrap_or("no tier"));
        for passed in &lookup.trace {
            println!("  not in {}: {:?}", passed.tier, passed.skip);
        }
    }
    // Closing waits for the copy that is on its way to the disk.
    cache.close().await?;
    println!("{}", serde_json::to_string_pretty(&cache.report())?);
    Ok(())
}
