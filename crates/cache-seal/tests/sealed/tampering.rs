//! A store that lies: whatever it changes, what comes out is an error or nothing, never a value.

use std::sync::Arc;
use std::time::Duration;

use peercache_api::{CacheBackend, CacheBackendExt, Class, Entry, ErrorKind, NodeId, Version};
use peercache_seal::{Keyring, Rights, Sealed, Secret};
use peercache_testkit::ManualClock;
use proptest::prelude::*;

use crate::support::{Map, NOW, entry, key, version, with_value};

const KEY: &str = "repos/acme/rocket";

fn seal(map: &Arc<Map>, secret: &Secret) -> Sealed<Arc<Map>> {
    Sealed::builder(secret.clone(), Arc::clone(map)).clock(Arc::new(ManualClock::new(NOW))).build()
}

/// A store with one sealed entry in it.
async fn stored(entry: &Entry) -> (Arc<Map>, Sealed<Arc<Map>>, String, Entry) {
    let map = Map::shared();
    let sealed = seal(&map, &Secret::generate().unwrap());
    sealed.put(&key(KEY), entry.clone()).await.unwrap();
    let (name, outer) = map.only();
    (map, sealed, name, outer)
}

async fn read(sealed: &Sealed<Arc<Map>>) -> Result<Option<Entry>, ErrorKind> {
    sealed.get(&key(KEY)).await.map_err(|error| error.kind())
}

#[tokio::test]
async fn every_flipped_bit_is_noticed() {
    // Each bit of a value; of a removal one bit of each byte, for the sake of time.
    for (original, step) in [(entry("{\"id\":1}", 1), 1), (Entry::tombstone(version(1), NOW), 8)] {
        let (map, sealed, name, outer) = stored(&original).await;
        let bytes = outer.value().to_vec();
        let mut foreign = 0;
        for bit in (0..bytes.len() * 8).step_by(step) {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            map.plant(&name, with_value(&outer, flipped));
            match read(&sealed).await {
                Err(ErrorKind::Corrupt) => {}
                // The key id: it reads as another fleet's.
                Ok(None) if (5 * 8..13 * 8).contains(&bit) => foreign += 1,
                other => panic!("bit {bit} of {} flipped: {other:?}", bytes.len()),
            }
        }
        let stats = sealed.stats();
        let each = 8 / step as u64;
        assert_eq!((foreign, stats.foreign), (8 * each, 8 * each));
        assert_eq!((stats.not_sealed, stats.unknown_format), (4 * each, each));
        assert_eq!(stats.corrupt(), (bytes.len() as u64 - 8) * each);
        assert_eq!(stats.opened, 0);
        map.plant(&name, outer);
        assert_eq!(read(&sealed).await, Ok(Some(original)));
        assert_eq!(sealed.stats().opened, 1);
    }
}

#[tokio::test]
async fn every_cut_and_every_addition_is_noticed() {
    let (map, sealed, name, outer) = stored(&entry("{\"id\":1}", 1)).await;
    let bytes = outer.value();
    for length in 0..bytes.len() {
        map.plant(&name, with_value(&outer, bytes.slice(..length)));
        assert_eq!(read(&sealed).await, Err(ErrorKind::Corrupt), "cut to {length} bytes");
    }
    map.plant(&name, with_value(&outer, [&bytes[..], b"x"].concat()));
    assert_eq!(read(&sealed).await, Err(ErrorKind::Corrupt));
    assert!(sealed.stats().truncated > 0);
}

#[tokio::test]
async fn what_was_written_in_clear_is_refused() {
    let (map, sealed, name, _) = stored(&entry("sealed", 1)).await;
    map.plant(&name, entry("in clear", 2));
    let error = sealed.get(&key(KEY)).await.unwrap_err();
    insta::assert_snapshot!(error, @"sealed(map): get failed (corrupt): the stored entry is refused: it is not sealed");
    // A removal that nobody signed removes nothing, and hides nothing silently.
    map.plant(&name, Entry::tombstone(version(3), NOW));
    assert_eq!(read(&sealed).await, Err(ErrorKind::Corrupt));
    // Nor does a whole envelope, as an unsealed tier would store it, pass for a sealed entry.
    let envelope = peercache_api::envelope::encode(&key(KEY), &entry("in clear", 2));
    map.plant(&name, with_value(&entry("", 2), envelope));
    assert_eq!(read(&sealed).await, Err(ErrorKind::Corrupt));
    assert_eq!(sealed.stats().not_sealed, 3);
}

#[tokio::test]
async fn entries_cannot_change_places() {
    let map = Map::shared();
    let sealed = seal(&map, &Secret::generate().unwrap());
    sealed.put(&key(KEY), entry("one", 1)).await.unwrap();
    let (one_name, one) = map.only();
    sealed.put(&key("repos/acme/other"), entry("two", 1)).await.unwrap();
    let (two_name, two) = map.dump().into_iter().find(|(name, _)| *name != one_name).unwrap();
    map.plant(&one_name, two);
    map.plant(&two_name, one);
    assert_eq!(read(&sealed).await, Err(ErrorKind::Corrupt));
    assert!(sealed.get(&key("repos/acme/other")).await.is_err());
    assert_eq!(sealed.stats().forged, 2);
}

#[tokio::test]
async fn metadata_that_a_store_changed_is_noticed() {
    let (map, sealed, name, outer) = stored(&entry("v", 5)).await;
    let (meta, bytes) = (outer.metadata().clone(), outer.value().clone());
    let (fresh, stale, created) = (meta.fresh_for, meta.stale_for, meta.created);
    let second = Duration::from_secs(1);
    let node = |id| Version { node: NodeId::from_u64(id), ..meta.version };
    let changed = [
        ("a greater version", version(6), created, fresh, stale),
        ("a smaller version", version(4), created, fresh, stale),
        ("another writer", node(2), created, fresh, stale),
        (
            "a later time of version",
            Version { wall: NOW.saturating_add(second), ..meta.version },
            created,
            fresh,
            stale,
        ),
        ("born later", meta.version, created.saturating_add(second), fresh, stale),
        ("born earlier", meta.version, created.saturating_sub(second), fresh, stale),
        ("fresh for longer", meta.version, created, fresh + second, stale),
        ("fresh for less", meta.version, created, fresh - second, stale),
        ("stale for longer", meta.version, created, fresh, stale + second),
        ("stale time made fresh", meta.version, created, fresh + stale, Duration::ZERO),
    ];
    let count = changed.len() as u64;
    for (what, version, created, fresh, stale) in changed {
        let lie = Entry::builder(bytes.clone(), version, created)
            .fresh_for(fresh)
            .stale_for(stale)
            .build()
            .unwrap();
        map.plant(&name, lie);
        assert_eq!(read(&sealed).await, Err(ErrorKind::Corrupt), "{what}");
    }
    assert_eq!(sealed.stats().forged, count);

    // A value dressed as a removal, and a removal dressed as a value.
    let dressed = Entry::tombstone_with_proof(meta.version, created, bytes).unwrap();
    map.plant(&name, dressed);
    assert_eq!(read(&sealed).await, Err(ErrorKind::Corrupt));
    let (map, sealed, name, outer) = stored(&Entry::tombstone(version(5), NOW)).await;
    let dressed =
        Entry::builder(outer.value().clone(), version(5), NOW).fresh_for(Duration::from_secs(9)).build();
    map.plant(&name, dressed.unwrap());
    assert_eq!(read(&sealed).await, Err(ErrorKind::Corrupt));
}

#[tokio::test]
async fn metadata_that_a_store_adds_is_dropped() {
    let original = entry("v", 1);
    let (map, sealed, name, outer) = stored(&original).await;
    let meta = outer.metadata();
    let added = Entry::builder(outer.value().clone(), meta.version, meta.created)
        .fresh_for(meta.fresh_for)
        .stale_for(meta.stale_for)
        .content_type("text/html")
        .etag("\"evil\"")
        .tag("evil")
        .build()
        .unwrap();
    map.plant(&name, added);
    assert_eq!(read(&sealed).await, Ok(Some(original)));
}

/// A store can always answer with what it was given before; what it cannot do is make it look
/// newer, or keep it alive.
#[tokio::test]
async fn an_older_write_can_be_replayed_only_as_what_it_is() {
    let map = Map::shared();
    let clock = Arc::new(ManualClock::new(NOW));
    let sealed = Sealed::builder(Secret::generate().unwrap(), Arc::clone(&map)).clock(clock.clone()).build();
    sealed.put(&key(KEY), entry("old", 1)).await.unwrap();
    let (name, old) = map.only();
    sealed.put(&key(KEY), entry("new", 2)).await.unwrap();
    let (_, new) = map.only();

    map.plant(&name, with_value(&new, old.value().clone()));
    assert!(sealed.get(&key(KEY)).await.is_err(), "old bytes under the new version");
    map.plant(&name, old.clone());
    assert_eq!(sealed.get(&key(KEY)).await.unwrap().unwrap().version(), version(1));

    // The clock of this store stands still, so it never expires anything; the lifetime still ends.
    clock.advance(Duration::from_secs(359));
    assert!(sealed.get(&key(KEY)).await.unwrap().is_some());
    clock.advance(Duration::from_secs(1));
    assert_eq!(sealed.get(&key(KEY)).await.unwrap(), None);
}

#[tokio::test]
async fn a_readers_forgery_is_refused_by_everyone() {
    let map = Map::shared();
    let secret = Secret::generate().unwrap();
    let writer = seal(&map, &secret);
    let reader = seal(&map, &secret.read_only());
    let genuine = entry("genuine", 1);
    writer.put(&key(KEY), genuine.clone()).await.unwrap();
    assert_eq!(reader.get(&key(KEY)).await.unwrap(), Some(genuine));

    assert!(!reader.info().capabilities.writable);
    let error = reader.put(&key(KEY), entry("poison", 2)).await.unwrap_err();
    insta::assert_snapshot!(error, @"sealed(map): put failed (denied): this process has a secret that cannot make entries (read-only); to write, set CACHE_SECRET to the full secret (pc-secret-1-…); leave it so for jobs of untrusted pull requests");
    let error = reader.remove(&key(KEY), version(2), NOW).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Denied);

    // It seals with a full secret of its own, and puts in the place of the genuine one what it can:
    // its own key id, or the fleet's.
    let (name, outer) = map.only();
    let elsewhere = Map::shared();
    seal(&elsewhere, &Secret::generate().unwrap()).put(&key(KEY), entry("poison", 2)).await.unwrap();
    let (_, poison) = elsewhere.only();
    map.plant(&name, poison.clone());
    assert_eq!(writer.get(&key(KEY)).await.unwrap(), None, "another fleet's");
    let mut relabelled = poison.value().to_vec();
    relabelled[5..13].copy_from_slice(&outer.value()[5..13]);
    map.plant(&name, with_value(&poison, relabelled));
    for sealed in [&writer, &reader] {
        assert_eq!(sealed.get(&key(KEY)).await.unwrap_err().kind(), ErrorKind::Corrupt);
        assert_eq!(sealed.stats().forged, 1);
    }
}

/// `docs/design/sealing.md` has this table; every cell is tried here.
#[tokio::test]
async fn each_form_of_the_secret_has_the_rights_of_the_table() {
    let full = Secret::generate().unwrap();
    let stranger = Secret::generate().unwrap();
    for (secret, private, public, writes) in [
        (full.clone(), true, true, true),
        (full.read_only(), true, true, false),
        (full.public(), false, true, false),
        (stranger, false, false, false),
    ] {
        let map = Map::shared();
        let writer = seal(&map, &full);
        let shown = Entry::builder("shown", version(1), NOW)
            .fresh_for(Duration::from_secs(300))
            .class(Class::Public)
            .build()
            .unwrap();
        writer.put(&key("private"), entry("hidden", 1)).await.unwrap();
        writer.put(&key("public"), shown.clone()).await.unwrap();
        let member = seal(&map, &secret);
        let what = format!("{secret:?}");
        assert_eq!(member.get(&key("private")).await.unwrap().is_some(), private, "{what}");
        assert_eq!(member.get(&key("public")).await.unwrap().is_some(), public, "{what}");
        assert_eq!(member.stats().private, u64::from(public && !private), "{what}");
        // A stranger writes for itself; the members do not see it.
        let put = member.put(&key("public"), entry("other", 2)).await;
        let removed = member.remove(&key("private"), version(3), NOW).await;
        assert_eq!(put.is_ok() && removed.is_ok(), secret.rights() == Rights::Full, "{what}");
        let seen = writer.get(&key("public")).await.unwrap().unwrap();
        assert_eq!(seen.value() == "other", writes, "{what}");
        let left = writer.get(&key("private")).await.unwrap().unwrap();
        assert_eq!(left.is_tombstone(), writes, "{what}");
    }
}

#[tokio::test]
async fn a_listing_of_the_store_shows_blinded_names_whoever_lists() {
    let map = Map::shared();
    let secret = Secret::generate().unwrap();
    let writer = seal(&map, &secret);
    let names = ["repos/acme/hush", "repos/acme/plans"];
    for (number, name) in (1..).zip(names) {
        writer.put(&key(name), entry("quiet please", number)).await.unwrap();
    }
    let listed = map.dump();
    let (ours, theirs) = (Keyring::new(secret.clone()), Keyring::new(Secret::generate().unwrap()));
    assert!(listed.iter().all(|(_, outer)| ours.has_sealed(outer) && !theirs.has_sealed(outer)));
    assert!(theirs.with_old(secret.public()).unwrap().has_sealed(&listed[0].1), "a former secret");
    assert!(!ours.has_sealed(&entry("in clear", 1)));
    assert_eq!(listed.len(), names.len());
    for (name, outer) in &listed {
        let digests =
            names.map(|name| key(name).digest().iter().map(|b| format!("{b:02x}")).collect::<String>());
        let guessed = names.iter().map(ToString::to_string).chain(digests);
        assert!(guessed.into_iter().all(|guess| !name.contains(&guess)), "{name}");
        assert!(!outer.value().windows(5).any(|part| part == b"quiet"));
    }
    // With another secret the same names are others: two fleets in one bucket do not meet.
    let elsewhere = Map::shared();
    seal(&elsewhere, &Secret::generate().unwrap()).put(&key(names[0]), entry("x", 1)).await.unwrap();
    assert!(listed.iter().all(|(name, _)| *name != elsewhere.only().0));
    for form in [secret.read_only(), secret.public()] {
        let member = seal(&map, &form);
        assert!(member.remove(&key(names[0]), version(9), NOW).await.is_err());
        assert_eq!(map.dump().len(), names.len(), "no form but the full one changes what is listed");
    }
}

#[tokio::test]
async fn nothing_shows_keys_values_or_secrets() {
    let secret = Secret::generate().unwrap();
    let map = Map::shared();
    let sealed = Sealed::new(secret.clone(), Arc::clone(&map));
    sealed.put(&key("repos/acme/hush"), entry("quiet please", 1)).await.unwrap();
    let (name, outer) = map.only();
    map.plant(&name, with_value(&outer, "garbage"));
    let error = sealed.get(&key("repos/acme/hush")).await.unwrap_err();
    let shown = format!("{sealed:?} {error:?} {error} {secret:?} {:?}", sealed.stats());
    let (full, reading) = (secret.to_text(), secret.read_only().to_text());
    for hidden in ["hush", "quiet", &full[12..], &reading[14..], &full[12..24], &reading[14..26]] {
        assert!(!shown.contains(hidden), "{hidden} in {shown}");
    }
    assert!(shown.contains("sealed(map)"));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn any_entry_survives(
        value in prop::collection::vec(any::<u8>(), 0..3000),
        repeated in 0_usize..3000,
        tags in prop::collection::vec("[a-z:/]{1,20}", 0..5),
        etag in prop::option::of("\"[a-z0-9]{0,40}\""),
        fresh in 1_u64..1_000_000,
        stale in 0_u64..1_000_000,
    ) {
        let value = [value, vec![b'r'; repeated]].concat();
        let mut builder = Entry::builder(value, version(1), NOW)
            .fresh_for(Duration::from_millis(fresh))
            .stale_for(Duration::from_millis(stale));
        for tag in tags {
            builder = builder.tag(tag);
        }
        if let Some(etag) = etag {
            builder = builder.etag(etag);
        }
        let original = builder.build().unwrap();
        let found = block_on(async {
            let (_, sealed, _, _) = stored(&original).await;
            read(&sealed).await
        });
        prop_assert_eq!(found, Ok(Some(original)));
    }

    #[test]
    fn noise_is_never_a_value(noise in prop::collection::vec(any::<u8>(), 0..400), keep in 0_usize..140) {
        let found = block_on(async {
            let (map, sealed, name, outer) = stored(&entry("{\"id\":1}", 1)).await;
            // As much of the genuine header as `keep` says, then noise.
            let keep = keep.min(outer.value().len() - 1);
            map.plant(&name, with_value(&outer, [&outer.value()[..keep], &noise].concat()));
            (outer.value()[keep..] == noise, read(&sealed).await)
        });
        prop_assert!(found.0 || !matches!(found.1, Ok(Some(_))));
    }
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future)
}
