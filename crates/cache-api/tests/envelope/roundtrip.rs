//! What is written is what is read, for every entry that can be built.

use peercache_api::{Bytes, Key, envelope};
use proptest::prelude::*;

use crate::samples;

proptest! {
    #[test]
    fn every_entry_comes_back(entry in samples::entries(), name in ".{1,40}") {
        let key = Key::new(name.as_str()).unwrap();
        let stored = envelope::encode(&key, &entry);
        prop_assert!(stored.len() <= envelope::MAX_ENVELOPE_BYTES);
        prop_assert_eq!(envelope::peek_version(&stored).unwrap(), entry.version());
        prop_assert_eq!(envelope::decode(&key, stored).unwrap(), entry);
    }

    #[test]
    fn the_head_and_the_value_are_the_envelope(entry in samples::entries()) {
        let key = samples::key();
        let mut parts = envelope::encode_head(&key, &entry).to_vec();
        prop_assert!(parts.len() <= envelope::HEADER_BYTES + envelope::MAX_METADATA_BYTES);
        parts.extend_from_slice(entry.value());
        prop_assert_eq!(Bytes::from(parts), envelope::encode(&key, &entry));
    }
}

#[test]
fn the_value_is_not_copied_on_the_way_in() {
    let key = samples::key();
    let stored = envelope::encode(&key, &samples::full());
    let value = envelope::decode(&key, stored.clone()).unwrap().into_value();
    assert_eq!(value.as_ptr(), stored[stored.len() - value.len()..].as_ptr());
}
