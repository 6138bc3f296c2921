//! Several secrets: rotation, former secrets that only read, and finding out that secrets differ.

use std::sync::Arc;
use std::time::Duration;

use peercache_api::{CacheBackend, CacheBackendExt, Clock, Entry, ErrorKind, NodeId, VersionClock};
use peercache_seal::{CANARY_LIFETIME, Canary, Keyring, Sealed, Secret};
use peercache_testkit::ManualClock;

use crate::support::{Map, NOW, entry, key, version, with_value};

const KEY: &str = "repos/acme/rocket";

fn secret() -> Secret {
    Secret::generate().unwrap()
}

fn seal(map: &Arc<Map>, keyring: impl Into<Keyring>) -> Sealed<Arc<Map>> {
    Sealed::builder(keyring, Arc::clone(map)).clock(Arc::new(ManualClock::new(NOW))).build()
}

/// A process before the rotation, one in the middle of it, and one after it, on one store.
fn fleet(old_on_the_ring: impl Fn(&Secret) -> Secret) -> (Arc<Map>, [Sealed<Arc<Map>>; 3]) {
    let (old, new) = (secret(), secret());
    let map = Map::shared();
    let ring = Keyring::new(new.clone()).with_old(old_on_the_ring(&old)).unwrap();
    let fleet = [seal(&map, old), seal(&map, ring), seal(&map, new)];
    (map, fleet)
}

async fn value(sealed: &Sealed<Arc<Map>>) -> Option<String> {
    let found = sealed.get(&key(KEY)).await.unwrap()?;
    (!found.is_tombstone()).then(|| String::from_utf8(found.value().to_vec()).unwrap())
}

fn text(value: &str) -> Option<String> {
    Some(value.to_owned())
}

#[tokio::test]
async fn entries_of_before_a_rotation_are_read_until_they_are_replaced() {
    for with_old in [Secret::clone, Secret::read_only] {
        let (_, [before, during, after]) = fleet(with_old);
        before.put(&key(KEY), entry("one", 1)).await.unwrap();
        assert_eq!(value(&during).await, text("one"));
        assert_eq!(value(&after).await, None);

        during.put(&key(KEY), entry("two", 2)).await.unwrap();
        assert_eq!(value(&during).await, text("two"));
        assert_eq!(value(&after).await, text("two"));
        assert_eq!(value(&before).await, text("one"), "it cannot know");

        before.put(&key(KEY), entry("three", 3)).await.unwrap();
        assert_eq!(value(&during).await, text("three"), "the newest write wins, whoever wrote it");
        during.put(&key(KEY), entry("late", 2)).await.unwrap();
        assert_eq!(value(&during).await, text("three"));
    }
}

#[tokio::test]
async fn a_removal_buries_under_every_secret_that_can_write() {
    let (_, [before, during, after]) = fleet(Secret::clone);
    before.put(&key(KEY), entry("one", 1)).await.unwrap();
    during.remove(&key(KEY), version(2), NOW).await.unwrap();
    for process in [&before, &during, &after] {
        let found = process.get(&key(KEY)).await.unwrap().unwrap();
        assert!(found.is_tombstone() && found.version() == version(2));
    }
    before.put(&key(KEY), entry("one again", 1)).await.unwrap();
    assert_eq!((value(&before).await, value(&during).await), (None, None));
    during.put(&key(KEY), entry("two", 3)).await.unwrap();
    assert_eq!(value(&during).await, text("two"));
}

#[tokio::test]
async fn a_removal_hides_what_a_read_only_former_secret_finds() {
    let (map, [before, during, _]) = fleet(Secret::read_only);
    before.put(&key(KEY), entry("one", 1)).await.unwrap();
    during.remove(&key(KEY), version(2), NOW).await.unwrap();
    assert_eq!(map.dump().len(), 2, "one tombstone, and the old entry that nobody here may touch");
    assert!(during.get(&key(KEY)).await.unwrap().unwrap().is_tombstone());
    before.put(&key(KEY), entry("newer", 3)).await.unwrap();
    assert_eq!(value(&during).await, text("newer"));
}

#[tokio::test]
async fn a_read_only_current_secret_writes_under_no_secret_at_all() {
    let (map, [before, ..]) = fleet(Secret::clone);
    before.put(&key(KEY), entry("one", 1)).await.unwrap();
    let mixed = seal(&map, Keyring::new(secret().read_only()).with_old(secret()).unwrap());
    assert_eq!(mixed.remove(&key(KEY), version(2), NOW).await.unwrap_err().kind(), ErrorKind::Denied);
    assert_eq!(map.dump().len(), 1);
}

#[tokio::test]
async fn a_failing_lookup_is_never_taken_for_absence() {
    let (map, [before, during, after]) = fleet(Secret::clone);
    before.put(&key(KEY), entry("old", 1)).await.unwrap();
    let (old_name, old) = map.only();
    after.put(&key(KEY), entry("new", 2)).await.unwrap();
    let (new_name, new) = map.dump().into_iter().find(|(name, _)| *name != old_name).unwrap();
    let kind = |found: Result<Option<Entry>, peercache_api::Error>| found.map_err(|error| error.kind());

    // Damage under the current secret could have been a removal, so the older entry is not served.
    map.plant(&new_name, with_value(&new, "damaged"));
    assert_eq!(kind(during.get(&key(KEY)).await), Err(ErrorKind::Corrupt));
    // Damage under a former one loses against what is whole.
    map.plant(&new_name, new);
    map.plant(&old_name, with_value(&old, "damaged"));
    assert_eq!(value(&during).await, text("new"));
    // A store that fails under one name fails.
    map.fail(&old_name, ErrorKind::Timeout);
    assert_eq!(kind(during.get(&key(KEY)).await), Err(ErrorKind::Timeout));
    map.fail(&new_name, ErrorKind::Unavailable);
    assert_eq!(kind(during.get(&key(KEY)).await), Err(ErrorKind::Unavailable));
}

#[tokio::test]
async fn damage_under_a_former_secret_alone_is_reported() {
    let (map, [before, during, _]) = fleet(Secret::clone);
    before.put(&key(KEY), entry("old", 1)).await.unwrap();
    let (name, old) = map.only();
    map.plant(&name, with_value(&old, "damaged"));
    assert_eq!(during.get(&key(KEY)).await.unwrap_err().kind(), ErrorKind::Corrupt);
}

#[tokio::test]
async fn two_fleets_share_a_store_without_seeing_each_other() {
    let map = Map::shared();
    let (ours, theirs) = (seal(&map, secret()), seal(&map, secret()));
    ours.put(&key(KEY), entry("ours", 1)).await.unwrap();
    theirs.put(&key(KEY), entry("theirs", 2)).await.unwrap();
    assert_eq!(value(&ours).await, text("ours"));
    assert_eq!(value(&theirs).await, text("theirs"));
    ours.remove(&key(KEY), version(9), NOW).await.unwrap();
    assert_eq!(value(&theirs).await, text("theirs"));
}

/// What every process of a test shares.
struct Canaries {
    map: Arc<Map>,
    clock: Arc<ManualClock>,
}

impl Canaries {
    fn new() -> Self {
        let clock = Arc::new(ManualClock::new(NOW));
        let map = Arc::new(Map::new(Arc::clone(&clock) as _, peercache_api::MAX_VALUE_BYTES));
        Self { map, clock }
    }

    async fn check(&self, keyring: impl Into<Keyring>) -> Result<Canary, ErrorKind> {
        self.full(keyring).await.map_err(|error| error.kind())
    }

    async fn full(&self, keyring: impl Into<Keyring>) -> Result<Canary, peercache_api::Error> {
        let sealed =
            Sealed::builder(keyring, Arc::clone(&self.map)).clock(Arc::clone(&self.clock) as _).build();
        sealed.verify_canary("project", &VersionClock::new(NodeId::from_u64(9))).await
    }
}

#[tokio::test]
async fn another_secret_is_noticed_at_the_start() {
    let canaries = Canaries::new();
    let (ours, theirs) = (secret(), secret());
    assert_eq!(canaries.check(ours.read_only()).await, Ok(Canary::Absent));
    assert_eq!(canaries.check(ours.clone()).await, Ok(Canary::Planted));
    assert_eq!(canaries.check(ours.clone()).await, Ok(Canary::Ours));
    assert_eq!(canaries.check(ours.read_only()).await, Ok(Canary::Ours));
    let error = canaries.full(theirs.clone()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
    let shown =
        error.to_string().replace(&ours.id().to_string(), "OTHER").replace(&theirs.id().to_string(), "MINE");
    insta::assert_snapshot!(shown, @"sealed(map): open failed (configuration): another secret is in use here: what the others store cannot be read, nor can they read what this process stores [ours=MINE, theirs=OTHER]; give every process the same CACHE_SECRET; during a rotation list the former one in CACHE_SECRET_OLD; a fleet of its own takes a CACHE_NAMESPACE of its own");
    assert_eq!(canaries.check(ours).await, Ok(Canary::Ours), "the stranger has not replaced it");
}

#[tokio::test]
async fn a_rotation_moves_the_mark() {
    let canaries = Canaries::new();
    let (old, new) = (secret(), secret());
    let ring = Keyring::new(new.clone()).with_old(old.clone()).unwrap();
    assert_eq!(canaries.check(old.clone()).await, Ok(Canary::Planted));
    assert_eq!(canaries.check(ring.clone()).await, Ok(Canary::Planted));
    assert_eq!(canaries.check(ring).await, Ok(Canary::Ours));
    assert_eq!(canaries.check(new).await, Ok(Canary::Ours));
    assert_eq!(canaries.check(old).await, Err(ErrorKind::Config));
}

#[tokio::test]
async fn marks_are_renewed_seldom_and_end_with_those_who_left_them() {
    let canaries = Canaries::new();
    let (ours, theirs) = (secret(), secret());
    assert_eq!(canaries.check(ours.clone()).await, Ok(Canary::Planted));
    canaries.clock.advance(CANARY_LIFETIME / 8);
    assert_eq!(canaries.check(ours.clone()).await, Ok(Canary::Ours));
    canaries.clock.advance(CANARY_LIFETIME / 4);
    assert_eq!(canaries.check(ours).await, Ok(Canary::Planted));
    canaries.clock.advance(CANARY_LIFETIME - Duration::from_millis(1));
    assert_eq!(canaries.check(theirs.clone()).await, Err(ErrorKind::Config));
    canaries.clock.advance(Duration::from_millis(1));
    assert_eq!(canaries.check(theirs).await, Ok(Canary::Planted));
}

#[tokio::test]
async fn a_damaged_mark_is_corrupt_and_tells_no_namespace() {
    let canaries = Canaries::new();
    let ours = secret();
    canaries.check(ours.clone()).await.unwrap();
    let (name, mark) = canaries.map.only();
    assert!(
        !name.contains("project") && mark.freshness(canaries.clock.now()) == peercache_api::Freshness::Fresh
    );
    let mut bytes = mark.value().to_vec();
    *bytes.last_mut().unwrap() ^= 1;
    canaries.map.plant(&name, with_value(&mark, bytes));
    assert_eq!(canaries.check(ours.clone()).await, Err(ErrorKind::Corrupt));
    canaries.map.plant(&name, with_value(&mark, "no mark at all"));
    assert_eq!(canaries.check(ours).await, Err(ErrorKind::Corrupt));
}
