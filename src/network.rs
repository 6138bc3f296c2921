//! The private network of those who have one secret.

use peercache_libp2p::NetworkKey;
use peercache_seal::{Keyring, Secret};

/// What the network's keys are derived for; `docs/reference/sealed-format.md` names them.
const NETWORK: &str = "peers network";
const WRITERS: &str = "peers writers";

/// The key of the network that everybody with these secrets is a member of, to start a node with
/// ([`Peers::builder`](peercache_libp2p::Peers::builder)). Whoever has the read-only form is a
/// member that cannot write. Former secrets are accepted, as many as fit
/// ([`MAX_NETWORK_KEYS`](peercache_libp2p::MAX_NETWORK_KEYS)).
#[must_use]
pub fn network_key(keyring: &Keyring) -> NetworkKey {
    keyring.old().iter().map(of_one).fold(of_one(keyring.current()), NetworkKey::with_old)
}

fn of_one(secret: &Secret) -> NetworkKey {
    let writers = secret.derive_for_writers(WRITERS).map(|key| *key);
    NetworkKey::new(*secret.derive(NETWORK), writers, *secret.id().as_bytes())
}

#[cfg(test)]
mod tests {
    use peercache_libp2p::Identity;

    use super::*;

    fn name(key: &NetworkKey) -> String {
        Identity::derived(key, "mcp-server").unwrap().name().to_string()
    }

    /// A change would part fleets that are half updated: this test is the tripwire.
    #[test]
    fn derivation_never_changes() {
        let text = "pc-secret-1-KioqKioqKioqKioqKioqKioqKioqKioqKioqKioqKirrM9Ug";
        let full = Secret::parse(text).unwrap();
        let key = network_key(&Keyring::new(full.clone()));
        insta::assert_snapshot!(name(&key), @"12D3KooWH91j1HVNF66M9kPvV2tvt4jrkLba6itSzTuQmJqQJz94");
        let reader = network_key(&Keyring::new(full.read_only()));
        assert!(Identity::derived(&reader, "mcp-server").is_err(), "a reader takes nobody's name");
        let public = network_key(&Keyring::new(full.public()));
        assert_eq!(format!("{public:?}"), format!("{key:?}"), "whoever reads is a member too");
        assert_eq!((key.can_write(), reader.can_write()), (true, false));
        let moved = Keyring::new(Secret::generate().unwrap()).with_old(full).unwrap();
        assert_ne!(name(&network_key(&moved)), name(&key));
    }
}
