//! Both ways with the official client: it lists and reads what this tier stored, and this tier
//! reads what it stored.

use peercache_api::{CacheBackend as _, envelope};
use peercache_testkit::servers::StorachaService;

use crate::support::{Space, Writer, key, official, official_text};

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_official_client_lists_and_reads_what_the_tier_stored() {
    let Some(space) = Space::start().await else { return };
    let tier = space.tier().open().unwrap();
    let entry = Writer::new(1).entry("shown to the other client");
    tier.put(&key("shared"), entry.clone()).await.unwrap();
    let read = official(&space.service, "read.mjs", &[&space.printed.key, &space.printed.proof]);
    let stored: String =
        envelope::encode(&key("shared"), &entry).iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(read, stored, "the bytes of the only blob");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_tier_reads_what_the_official_client_stored_under_its_root() {
    let Some(space) = Space::start().await else { return };
    let tier = space.tier().open().unwrap();
    let first = Writer::new(1).entry("by the tier");
    tier.put(&key("shared"), first).await.unwrap();
    let newer = Writer::new(2).entry("by the official client");
    let bytes: String =
        envelope::encode(&key("shared"), &newer).iter().map(|byte| format!("{byte:02x}")).collect();
    // It finds the roots in its own list.
    official(&space.service, "store.mjs", &[&space.printed.key, &space.printed.proof, &bytes]);
    assert_eq!(tier.get(&key("shared")).await.unwrap(), Some(newer.clone()));
    let other = space.tier().open().unwrap();
    assert_eq!(other.get(&key("shared")).await.unwrap(), Some(newer));
}

/// The vectors that the unit tests compare with are what the official packages make today.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn golden_vectors_are_what_the_official_packages_make() {
    let Some(service) = StorachaService::start().await.unwrap() else { return };
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let script = root.join("../../xtask/storacha/vectors.mjs");
    let made = official_text(&service, &std::fs::read_to_string(script).unwrap(), &[]);
    let golden = std::fs::read_to_string(root.join("tests/golden/ucan.json")).unwrap();
    assert!(made == golden.trim(), "make them again: xtask/storacha/vectors.mjs says how\n{made}");
}
