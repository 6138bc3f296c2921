//! The sealed journal: what could not be written waits on disk, for those who may write it.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use peercache::backend::{BackendInfo, Capabilities, async_trait};
use peercache::chain::WriteBehind;
use peercache::report::JournalReport;
use peercache::seal::{Keyring, Secret};
use peercache::{Cache, CacheBackend, Entry, Error, Key, Memory, Ttl};

use crate::support::{Broken, World, key};

/// What memory stores, as a tier that other machines share.
#[derive(Debug)]
struct Far(BackendInfo, Arc<Memory>);

#[async_trait]
impl CacheBackend for Far {
    fn info(&self) -> &BackendInfo {
        &self.0
    }

    fn fleet(&self) -> Option<&dyn peercache::backend::Fleet> {
        None
    }

    async fn get(&self, key: &Key) -> Result<Option<Entry>, Error> {
        self.1.get(key).await
    }

    async fn put(&self, key: &Key, entry: Entry) -> Result<(), Error> {
        self.1.put(key, entry).await
    }

    async fn probe(&self) -> Result<(), Error> {
        Ok(())
    }

    async fn close(&self) -> Result<(), Error> {
        Ok(())
    }
}

/// A cache whose shared tier is away, or is `far`.
fn cache(world: &World, dir: &Path, ring: Option<&Keyring>, far: Option<&Arc<Memory>>) -> Cache {
    // A tier that is away uses all of it; one that answers never does.
    let flush_deadline = far.map_or(Duration::from_millis(20), |_| Duration::from_secs(60));
    let far: Arc<dyn CacheBackend> = match far {
        Some(far) => Arc::new(Far(BackendInfo::new("far", Capabilities::shared()), Arc::clone(far))),
        None => Arc::new(Broken::shared("far")),
    };
    let limits = WriteBehind { flush_deadline, ..WriteBehind::default() };
    let builder = world.builder().tier(world.memory()).tier(far).write_behind(limits);
    let builder = match ring {
        Some(ring) => builder.sealed_journal(dir, ring),
        None => builder.journal(dir),
    };
    builder.build().unwrap()
}

/// What a process with this ring makes of the journal: what it reports, and whether it took over
/// the write.
async fn next(world: &World, dir: &Path, ring: Option<&Keyring>) -> (Option<JournalReport>, Option<String>) {
    let far = world.memory();
    let cache = cache(world, dir, ring, Some(&far));
    let journal = cache.report().chain.journal;
    // Writes out what waits.
    cache.close().await.unwrap();
    let written = world.builder().tier(far).build().unwrap().get(&key("acme/plans")).await;
    (journal, written)
}

fn counts(journal: Option<JournalReport>) -> (bool, u64, u64, u64) {
    let journal = journal.unwrap();
    (journal.sealed, journal.torn, journal.refused, journal.foreign)
}

#[tokio::test]
async fn what_waits_is_sealed_and_only_who_may_write_delivers_it() {
    let (world, dir) = (World::default(), tempfile::tempdir().unwrap());
    let (secret, stranger) = (Secret::generate().unwrap(), Secret::generate().unwrap());
    let ring = Keyring::new(secret.clone());
    let first = cache(&world, dir.path(), Some(&ring), None);
    first.put(&key("acme/plans"), "the-hidden-value", Ttl::from_secs(600)).await.unwrap();
    // The tier that is away cannot be closed either.
    first.close().await.unwrap_err();
    assert_eq!(first.report().chain.tiers[1].queue.as_ref().unwrap().journalled, 1);
    drop(first);

    let bytes: Vec<u8> = std::fs::read_dir(dir.path())
        .unwrap()
        .flat_map(|file| std::fs::read(file.unwrap().path()).unwrap())
        .collect();
    for hidden in ["acme", "plans", "hidden", "value"] {
        assert!(!bytes.windows(hidden.len()).any(|window| window == hidden.as_bytes()), "{hidden}");
    }
    assert!(bytes.len() > 100, "and it is there");

    let reader = Keyring::new(secret.read_only());
    assert_eq!(next(&world, dir.path(), Some(&reader)).await, (None, None), "a reader has no journal");
    let (journal, written) = next(&world, dir.path(), Some(&Keyring::new(stranger.clone()))).await;
    assert_eq!((counts(journal), written), ((true, 0, 0, 1), None));
    let (journal, written) = next(&world, dir.path(), None).await;
    assert_eq!((counts(journal), written), ((false, 0, 0, 1), None));
    // One whose former secret is the reader's form cannot read it either.
    let half = Keyring::new(stranger.clone()).with_old(secret.read_only()).unwrap();
    let (journal, written) = next(&world, dir.path(), Some(&half)).await;
    assert_eq!((counts(journal), written), ((true, 0, 0, 1), None));

    let rotated = Keyring::new(stranger).with_old(secret).unwrap();
    let (journal, written) = next(&world, dir.path(), Some(&rotated)).await;
    assert_eq!((counts(journal), written.as_deref()), ((true, 0, 0, 0), Some("the-hidden-value")));
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0, "it is delivered");
}

#[tokio::test]
async fn what_lies_there_in_clear_is_not_written_in_the_name_of_who_has_the_secret() {
    let (world, dir) = (World::default(), tempfile::tempdir().unwrap());
    let planted = cache(&world, dir.path(), None, None);
    planted.put(&key("acme/plans"), "poison", Ttl::from_secs(600)).await.unwrap();
    planted.close().await.unwrap_err();
    drop(planted);
    let ring = Keyring::new(Secret::generate().unwrap());
    let (journal, written) = next(&world, dir.path(), Some(&ring)).await;
    assert_eq!((counts(journal), written), ((true, 0, 0, 1), None));
    let (journal, written) = next(&world, dir.path(), None).await;
    assert_eq!((counts(journal), written.as_deref()), ((false, 0, 0, 0), Some("poison")));
}
