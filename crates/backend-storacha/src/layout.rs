//! Where the writes of a key are found: at two roots of the upload table, whose names follow from
//! the key.
//!
//! The table maps a root, which nobody has to upload, to a set of shards; `upload/add` adds to the
//! set and `upload/remove` removes the whole of it. Nothing compares and sets, and between a
//! removal and what is added after it the set is empty. So every write is added to both roots, and
//! only one of them is compacted at a time: whoever looks at both always finds the newest write.

use ipld_core::cid::Cid;
use peercache_api::Key;
use sha2::{Digest as _, Sha256};

use crate::ucan::car::{CAR, RAW, cid_of_digest};

/// The two roots of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Roots(pub(crate) [Cid; 2]);

impl Roots {
    pub(crate) fn of(prefix: &str, key: &Key) -> Self {
        let root = |which: u8| {
            let name = Sha256::new()
                .chain_update(b"peercache storacha 1\0")
                .chain_update(prefix)
                .chain_update([0, which])
                .chain_update(key.digest())
                .finalize();
            cid_of_digest(RAW, name.into())
        };
        Self([root(0), root(1)])
    }
}

/// The shard of an envelope with this SHA-256, as the upload table names it.
pub(crate) fn shard(digest: [u8; 32]) -> Cid {
    cid_of_digest(CAR, digest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn roots_differ_by_key_prefix_and_place_and_never_change() {
        let of = |prefix, key| Roots::of(prefix, &Key::new(key).unwrap()).0;
        let [one, two] = of("peercache", "k");
        assert_ne!(one, two);
        assert_ne!(of("peercache", "l")[0], one);
        assert_ne!(of("other", "k")[0], one);
        insta::assert_snapshot!(one, @"bafkreiejw7kymrxu3yxfveo4vq3qomkcws3z7pwpldxkwzatgl2am6tvbq");
    }
}
