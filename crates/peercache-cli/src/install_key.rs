//! The key under which tokens are named: the fleet's where there is a secret, else 32 random bytes
//! beside the disk tier.

use std::fs;
use std::io::{self, Write as _};
use std::path::Path;

use peercache::Config;

use crate::exit::Failure;

const FILE: &str = "install.key";
const BYTES: usize = 32;

/// What the fleet's key is derived for. Another text, and nobody finds what others fetched.
const PURPOSE: &str = "github token names";

/// The key of these settings: the same on every machine of a fleet, so that a token finds on one
/// what it fetched on another.
pub(crate) async fn of(config: &Config) -> Result<[u8; BYTES], Failure> {
    match config.fleet_key(PURPOSE).await? {
        Some(key) => Ok(*key),
        None => load_or_create(config.dir()),
    }
}

/// The key in `dir`, made on first use; without a directory a random one for this process. So it is
/// where the directory cannot be used: what is cached for tokens then ends with this process, as
/// the disk tier does, and nothing else.
///
/// Every process on one directory gets the same key, also when several start at once: each writes a
/// file of its own, and giving it the final name succeeds for exactly one.
fn load_or_create(dir: Option<&Path>) -> Result<[u8; BYTES], Failure> {
    let fresh = random()?;
    let Some(dir) = dir else { return Ok(fresh) };
    let path = dir.join(FILE);
    let stored = match kept(dir, &path, &fresh) {
        Ok(stored) => stored,
        Err(error) => {
            tracing::warn!(
                "no key for token names can be kept in {}: {error}; answers that are cached for tokens are \
                 fetched anew after a restart",
                path.display()
            );
            return Ok(fresh);
        }
    };
    stored.try_into().map_err(|stored: Vec<u8>| {
        Failure::config(format!(
            "{} holds {} bytes, not {BYTES}; delete it, and what is cached for tokens is fetched anew",
            path.display(),
            stored.len()
        ))
    })
}

/// What is in `path`: `fresh`, if there was nothing.
fn kept(dir: &Path, path: &Path, fresh: &[u8]) -> io::Result<Vec<u8>> {
    if !path.try_exists()? {
        // Readable to this user only, which is how the library makes it.
        let mut draft = tempfile::Builder::new().prefix(FILE).tempfile_in(dir)?;
        draft.write_all(fresh)?;
        match draft.persist_noclobber(path) {
            Err(lost) if lost.error.kind() != io::ErrorKind::AlreadyExists => return Err(lost.error),
            _ => {}
        }
    }
    fs::read(path)
}

fn random() -> Result<[u8; BYTES], Failure> {
    let mut key = [0; BYTES];
    getrandom::fill(&mut key)
        .map_err(|error| Failure::failed(format!("the operating system gave no random bytes: {error}")))?;
    Ok(key)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn everyone_on_one_directory_gets_the_same_key() {
        let dir = tempfile::tempdir().unwrap();
        let keys: Vec<_> = std::thread::scope(|scope| {
            let starts: Vec<_> =
                (0..8).map(|_| scope.spawn(|| load_or_create(Some(dir.path())).unwrap())).collect();
            starts.into_iter().map(|start| start.join().unwrap()).collect()
        });
        assert!(keys.iter().all(|key| *key == keys[0]));
        let mode = fs::metadata(dir.path().join(FILE)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "no draft is left");
    }

    #[test]
    fn a_directory_that_cannot_be_used_gives_a_key_for_this_process() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        fs::write(&file, "").unwrap();
        for unusable in [&file, &file.join("below"), &dir.path().join("absent")] {
            let keys = [(); 2].map(|()| load_or_create(Some(unusable)).unwrap());
            assert_ne!(keys[0], keys[1], "{}", unusable.display());
        }
    }

    #[test]
    fn a_damaged_key_is_named_with_what_to_do() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join(FILE), "short").unwrap();
        let error = format!("{:?}", load_or_create(Some(dir.path())).unwrap_err());
        assert!(error.contains("holds 5 bytes, not 32; delete it"), "{error}");
    }
}
