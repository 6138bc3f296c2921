//! Where a cache keeps what waits for shared tiers.

use std::path::{Path, PathBuf};

use super::backend_name::BackendName;
use super::configuration::Config;
use super::secret::Ring;
use super::value::Origin;
use crate::cache::CacheBuilder;

/// In the directory of the disk tier.
const DIR: &str = "journal";

impl Config {
    /// Gives `builder` the journal that belongs to these settings, sealed with the secret if there
    /// is one. `shared` says whether any of its tiers is shared with other machines.
    ///
    /// There is none for a process that writes to no shared tier, nor where no place on disk was
    /// chosen: who lists memory alone has not asked for anything to be kept in the usual directory.
    pub(super) fn journal_for(
        &self,
        builder: CacheBuilder,
        shared: bool,
        ring: Option<&Ring>,
    ) -> CacheBuilder {
        match self
            .journal_dir()
            .filter(|_| shared && !self.values.read_only.value && !self.look_only && !self.alone)
        {
            None => builder,
            // A cache does without, as it does without a disk tier. A process that ends before a
            // shared tier has a write says so.
            Some(dir) if !is_usable(&dir) => builder,
            Some(dir) => match ring {
                Some(ring) => ring.journal(builder, dir),
                None => builder.journal(dir),
            },
        }
    }

    fn journal_dir(&self) -> Option<PathBuf> {
        let chosen =
            self.backends().contains(&BackendName::Disk) || self.values.dir.origin != Origin::Default;
        self.values.dir.value.as_ref().filter(|_| chosen).map(|dir| dir.join(DIR))
    }
}

/// Whether files can be made in `dir`, which is made if need be. Says so where they cannot.
fn is_usable(dir: &Path) -> bool {
    let mut builder = std::fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    let probe = dir.join(format!("probe-{}", std::process::id()));
    let tried = builder.create(dir).and_then(|()| std::fs::write(&probe, "")).and_then(|()| {
        // Of no use to anybody. What opens the journal next finds out if it cannot be removed.
        std::fs::remove_file(&probe)
    });
    if let Err(error) = &tried {
        tracing::warn!(
            "the journal is left out, so writes that wait for a shared tier end with this process: {}: {error}",
            dir.display()
        );
    }
    tried.is_ok()
}

#[cfg(test)]
#[cfg(all(feature = "memory", feature = "disk"))]
mod tests {
    use std::path::Path;
    use std::sync::Arc;

    use peercache_api::{BackendInfo, CacheBackend, Capabilities, Entry, Error, Key, async_trait};

    use crate::Cache;
    use crate::config::ConfigBuilder;

    /// A shared tier that is always empty.
    #[derive(Debug)]
    struct Far(BackendInfo);

    #[async_trait]
    impl CacheBackend for Far {
        fn info(&self) -> &BackendInfo {
            &self.0
        }

        fn fleet(&self) -> Option<&dyn peercache_api::Fleet> {
            None
        }

        async fn get(&self, _: &Key) -> Result<Option<Entry>, Error> {
            Ok(None)
        }

        async fn put(&self, _: &Key, _: Entry) -> Result<(), Error> {
            Ok(())
        }

        async fn probe(&self) -> Result<(), Error> {
            Ok(())
        }

        async fn close(&self) -> Result<(), Error> {
            Ok(())
        }
    }

    /// Whether the cache of these settings, with a shared tier besides, has a journal, and a sealed
    /// one.
    async fn journal(config: ConfigBuilder, shared: bool, home: &Path) -> Option<bool> {
        let home = home.to_str().unwrap().to_owned();
        let config = config.without_file().read_vars(|name| (name == "HOME").then(|| home.clone())).unwrap();
        let ring = config.secrets.ring_off_the_runtime().await.unwrap();
        let far = Far(BackendInfo::new("far", Capabilities::shared()));
        let builder = Cache::builder().tier(Arc::new(far));
        let cache = config.journal_for(builder, shared, ring.as_ref()).build().unwrap();
        let report = cache.report().chain.journal;
        report.map(|journal| journal.sealed)
    }

    fn memory_alone() -> ConfigBuilder {
        ConfigBuilder::new("peercache").backend(["memory".parse().unwrap()])
    }

    #[tokio::test]
    async fn directory_that_cannot_be_used_leaves_the_journal_out() {
        let home = tempfile::tempdir().unwrap();
        let file = home.path().join("file");
        std::fs::write(&file, "").unwrap();
        for dir in [file.clone(), file.join("below")] {
            let config = memory_alone().dir(&dir);
            assert_eq!(journal(config, true, home.path()).await, None, "{}", dir.display());
            // A command that reads a shared tier needs no directory either.
            let once = memory_alone().dir(&dir).without_file().read_vars(|_| None).unwrap().one_shot();
            let far = Far(BackendInfo::new("far", Capabilities::shared()));
            let builder = once.journal_for(Cache::builder().tier(Arc::new(far)), true, None);
            assert!(builder.build().unwrap().report().chain.journal.is_none());
        }
    }

    #[tokio::test]
    async fn there_is_one_where_something_can_wait_and_a_place_was_chosen() {
        let home = tempfile::tempdir().unwrap();
        let (home, usual) = (home.path(), home.path().join(".cache/peercache/journal"));
        let chosen = home.join("chosen");
        assert_eq!(journal(ConfigBuilder::new("peercache"), false, home).await, None, "nothing is shared");
        assert_eq!(journal(ConfigBuilder::new("peercache").read_only(true), true, home).await, None);
        assert_eq!(journal(memory_alone(), true, home).await, None, "nobody asked for a disk");
        assert_eq!(std::fs::read_dir(home).unwrap().count(), 0);

        assert_eq!(journal(ConfigBuilder::new("peercache"), true, home).await, Some(false));
        assert!(usual.is_dir());
        assert_eq!(journal(memory_alone().dir(&chosen), true, home).await, Some(false));
        assert!(chosen.join("journal").is_dir());
    }

    #[cfg(feature = "seal")]
    #[tokio::test]
    async fn with_a_secret_it_is_sealed_and_with_a_read_only_one_there_is_none() {
        let home = tempfile::tempdir().unwrap();
        let secret = peercache_seal::Secret::generate().unwrap();
        let with = |secret: &peercache_seal::Secret| {
            ConfigBuilder::new("peercache").secret(secret.to_text().as_str())
        };
        assert_eq!(journal(with(&secret), true, home.path()).await, Some(true));
        assert_eq!(journal(with(&secret.read_only()), true, home.path()).await, None);
    }

    #[cfg(unix)]
    #[tokio::test]
    async fn a_place_that_others_can_write_to_is_an_error_in_terms_of_the_setting() {
        use std::os::unix::fs::PermissionsExt as _;
        let home = tempfile::tempdir().unwrap();
        let dir = home.path().join("dir");
        std::fs::create_dir_all(dir.join("journal")).unwrap();
        std::fs::set_permissions(dir.join("journal"), std::fs::Permissions::from_mode(0o777)).unwrap();
        let config = memory_alone().dir(&dir).without_file().read_vars(|_| None).unwrap();
        let builder = config.journal_for(Cache::builder(), true, None);
        let error = config.build(builder).await.unwrap_err();
        assert_eq!(error.variable(), "CACHE_DIR");
        let text = error.to_string();
        assert!(text.contains("other users can write to the journal's directory"), "{text}");
        assert!(text.ends_with("set CACHE_DIR to a directory that this user alone can write"), "{text}");
    }
}
