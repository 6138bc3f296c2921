//! Who a node is: an Ed25519 key that is made anew, kept in a file, or derived from the network's
//! key and a name.

use std::fmt;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use libp2p::PeerId;
use libp2p::identity::{Keypair, PublicKey, ed25519};
use peercache_api::{Error, ErrorKind, Operation};
use zeroize::Zeroizing;

use crate::address::PeerName;
use crate::network_key::{NetworkKey, hex};
use crate::wire::PeerKey;

/// The first word of an identity file.
const MAGIC: &str = "peercache-identity-1";
/// The first word, a space, 64 hexadecimal digits, and the end of the line.
const FILE_BYTES: usize = MAGIC.len() + 1 + 64 + 1;

/// Who a node is. `Debug` shows its public name alone.
#[derive(Clone)]
pub struct Identity(Keypair);

impl Identity {
    /// Another one for each process: what leaves have.
    ///
    /// # Errors
    /// [`ErrorKind::Unavailable`] when the system gives no random bytes.
    pub fn ephemeral() -> Result<Self, Error> {
        random_seed().and_then(Self::from_seed)
    }

    /// The one in the file at `path`, which is made if there is none: readable by its owner alone,
    /// whole or not there, and never written again. Several processes may start at once and get the
    /// same one; they must not run at the same time, or others see two nodes with one name.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] when the file cannot be read or made, others can read it, or it is no
    /// identity file. Nothing is ever overwritten.
    pub fn stored(path: impl AsRef<Path>) -> Result<Self, Error> {
        let path = path.as_ref();
        match read(path) {
            Ok(seed) => Self::from_seed(seed),
            Err(Unread::Absent) => create(path).and_then(Self::from_seed),
            Err(Unread::Failed(error)) => Err(error),
        }
    }

    /// The one that belongs to `name` in the network of `key`: everybody who may write can compute
    /// it, so a bootstrap address needs no copied peer id. Two nodes of one network must not use
    /// one name.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] when the name is empty or longer than 255 bytes, or the key cannot
    /// write: a node that only reads could take the name of any other one.
    pub fn derived(key: &NetworkKey, name: &str) -> Result<Self, Error> {
        if name.is_empty() || name.len() > 255 {
            return Err(config(format!("a node's name has 1 to 255 bytes, this one has {}", name.len())));
        }
        let seed = key.identity_seed(name).ok_or_else(|| {
            config("a secret that cannot write gives no node its name, or it could take another node's")
                .with_help("leave the name out, use an identity file, or give this node the full secret")
        })?;
        Self::from_seed(seed)
    }

    /// The public name: what follows `/p2p/` in an address.
    #[must_use]
    pub fn name(&self) -> PeerName {
        PeerName(self.0.public().to_peer_id())
    }

    pub(crate) fn keypair(&self) -> &Keypair {
        &self.0
    }

    fn from_seed(mut seed: Zeroizing<[u8; 32]>) -> Result<Self, Error> {
        Keypair::ed25519_from_bytes(seed.as_mut_slice())
            .map(Self)
            .map_err(|error| config("the bytes are no Ed25519 key").with_source(error))
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Identity({})", self.name())
    }
}

impl PeerKey {
    /// The key that a peer's id is made of; `None` for other kinds of keys than Ed25519, which
    /// nobody of this network has.
    pub(crate) fn of(peer: &PeerId) -> Option<Self> {
        let public = PublicKey::try_decode_protobuf(peer.as_ref().digest()).ok()?;
        public.try_into_ed25519().ok().map(|key| Self(key.to_bytes()))
    }

    /// `None` when the bytes are no point of the curve: then nobody has this key.
    pub(crate) fn to_peer_id(self) -> Option<PeerId> {
        let public = ed25519::PublicKey::try_from_bytes(&self.0).ok()?;
        Some(PublicKey::from(public).to_peer_id())
    }
}

fn random_seed() -> Result<Zeroizing<[u8; 32]>, Error> {
    let mut seed = Zeroizing::new([0; 32]);
    getrandom::fill(seed.as_mut_slice()).map_err(|error| {
        Error::new(ErrorKind::Unavailable, Operation::Open, "the system gives no random bytes")
            .with_context("reason", error)
    })?;
    Ok(seed)
}

enum Unread {
    Absent,
    Failed(Error),
}

fn read(path: &Path) -> Result<Zeroizing<[u8; 32]>, Unread> {
    let failed = |error: io::Error| match error.kind() {
        io::ErrorKind::NotFound => Unread::Absent,
        _ => Unread::Failed(at(path, "the identity file cannot be read").with_source(error)),
    };
    let file = std::fs::File::open(path).map_err(failed)?;
    check_mode(path, &file.metadata().map_err(failed)?).map_err(Unread::Failed)?;
    let mut text = Zeroizing::new(String::with_capacity(FILE_BYTES + 1));
    // One byte more than there may be, so that a longer file is told from a whole one.
    file.take(FILE_BYTES as u64 + 1).read_to_string(&mut text).map_err(failed)?;
    parse(&text).ok_or_else(|| {
        let error = at(path, "this is no identity file")
            .with_help("name another file; a new identity is made where there is none");
        Unread::Failed(error)
    })
}

fn parse(text: &str) -> Option<Zeroizing<[u8; 32]>> {
    let digits = text.strip_suffix('\n')?.strip_prefix(MAGIC)?.strip_prefix(' ')?.as_bytes();
    if digits.len() != 64 {
        return None;
    }
    let mut seed = Zeroizing::new([0; 32]);
    for (byte, pair) in seed.iter_mut().zip(digits.chunks_exact(2)) {
        let digit = |at: usize| char::from(pair[at]).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
        *byte = digit(0)? << 4 | digit(1)?;
    }
    Some(seed)
}

/// Writes a draft beside the file and gives it the file's name, unless another process was faster:
/// then that one's identity is the one.
fn create(path: &Path) -> Result<Zeroizing<[u8; 32]>, Error> {
    let seed = random_seed()?;
    let text = Zeroizing::new(format!("{MAGIC} {}\n", *Zeroizing::new(hex(&*seed))));
    let mut suffix = [0; 8];
    getrandom::fill(&mut suffix)
        .map_err(|error| at(path, "the system gives no random bytes").with_context("reason", error))?;
    let draft = Draft(with_suffix(path, &hex(&suffix)));
    let written = write_new(&draft.0, text.as_bytes()).and_then(|()| std::fs::hard_link(&draft.0, path));
    match written {
        Ok(()) => Ok(seed),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => match read(path) {
            Ok(seed) => Ok(seed),
            Err(Unread::Failed(error)) => Err(error),
            Err(Unread::Absent) => Err(at(path, "the identity file comes and goes")),
        },
        Err(error) => Err(at(path, "the identity file cannot be made")
            .with_source(error)
            .with_help("name a file in a folder that this user may write to")),
    }
}

/// Removes what it names when it goes, whatever happened before.
struct Draft(PathBuf);

impl Drop for Draft {
    fn drop(&mut self) {
        // It is not there when it could not be made, and harmless when it stays: it has a name of
        // its own.
        if let Err(error) = std::fs::remove_file(&self.0) {
            tracing::debug!(%error, "the draft of the identity file stays");
        }
    }
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".");
    name.push(suffix);
    path.with_file_name(name)
}

fn write_new(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

#[cfg(unix)]
fn check_mode(path: &Path, meta: &std::fs::Metadata) -> Result<(), Error> {
    let mode = std::os::unix::fs::MetadataExt::mode(meta) & 0o777;
    if mode & 0o077 == 0 {
        return Ok(());
    }
    Err(at(path, "others can read or change the identity file")
        .with_context("mode", format_args!("{mode:04o}"))
        .with_help("chmod 600 the file, or name another one and let it be made"))
}

#[cfg(not(unix))]
fn check_mode(_: &Path, _: &std::fs::Metadata) -> Result<(), Error> {
    Ok(())
}

fn config(message: impl Into<std::borrow::Cow<'static, str>>) -> Error {
    Error::new(ErrorKind::Config, Operation::Open, message).with_backend(crate::BACKEND)
}

fn at(path: &Path, message: &'static str) -> Error {
    config(message).with_context("file", path.display())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stored_identity_is_made_once_and_then_read() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("identity");
        let made = Identity::stored(&path).unwrap();
        assert_eq!(Identity::stored(&path).unwrap().name(), made.name());
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1, "no draft is left");
        #[cfg(unix)]
        {
            let mode = std::os::unix::fs::MetadataExt::mode(&path.metadata().unwrap());
            assert_eq!(mode & 0o777, 0o600);
        }
    }

    #[test]
    fn processes_that_start_at_once_get_the_same_identity() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("identity");
        let names = std::thread::scope(|scope| {
            let made: Vec<_> =
                (0..8).map(|_| scope.spawn(|| Identity::stored(&path).unwrap().name().to_string())).collect();
            made.into_iter().map(|made| made.join().unwrap()).collect::<std::collections::BTreeSet<_>>()
        });
        assert_eq!(names.len(), 1);
    }

    #[cfg(unix)]
    #[test]
    fn a_file_that_others_can_read_is_refused() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("identity");
        Identity::stored(&path).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
        let error =
            Identity::stored(&path).unwrap_err().to_string().replace(dir.path().to_str().unwrap(), "DIR");
        insta::assert_snapshot!(error, @"peers: open failed (configuration): others can read or change the identity file [file=DIR/identity, mode=0640]; chmod 600 the file, or name another one and let it be made");
    }

    #[test]
    fn what_is_no_identity_is_refused_and_left_as_it_is() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("identity");
        let good = format!("{MAGIC} {}\n", "ab".repeat(32));
        for bad in
            ["", "hello\n", &good[1..], good.trim_end(), &format!("{good}\n"), &good.replace("ab", "zz")]
        {
            write_new(&path, bad.as_bytes()).unwrap();
            let error = Identity::stored(&path).unwrap_err();
            assert!(error.message().contains("no identity file"), "{bad:?}: {error}");
            assert_eq!(std::fs::read_to_string(&path).unwrap(), bad);
            std::fs::remove_file(&path).unwrap();
        }
        write_new(&path, good.as_bytes()).unwrap();
        Identity::stored(&path).unwrap();
    }

    #[test]
    fn a_derived_identity_follows_key_and_name() {
        let key = NetworkKey::new([1; 32], Some([5; 32]), [0; 8]);
        let name = |key: &NetworkKey, name: &str| Identity::derived(key, name).unwrap().name().to_string();
        insta::assert_snapshot!(name(&key, "mcp-server"), @"12D3KooWKFYdt5ytvHquzdjBBCCQadUXXw5kJnG69yP7EB34s88W");
        assert_ne!(name(&key, "mcp-server"), name(&key, "other"));
        assert_ne!(
            name(&key, "mcp-server"),
            name(&NetworkKey::new([1; 32], Some([6; 32]), [0; 8]), "mcp-server")
        );
        let reader = Identity::derived(&NetworkKey::new([1; 32], None, [0; 8]), "mcp-server").unwrap_err();
        assert_eq!(reader.kind(), ErrorKind::Config);
        assert!(Identity::derived(&key, "").is_err());
    }

    #[test]
    fn a_peers_id_and_its_key_are_the_same_thing() {
        let identity = Identity::ephemeral().unwrap();
        let peer = identity.name().0;
        assert_eq!(PeerKey::of(&peer).unwrap().to_peer_id(), Some(peer));
        assert_eq!(PeerKey::of(&PeerId::random()), None);
    }
}
