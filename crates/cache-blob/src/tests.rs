//! The backend over a store in memory that supports as much as a test asks for.

mod memory;

use std::sync::Arc;
use std::time::Duration;

use peercache_api::{
    CacheBackend, CacheBackendExt, Clock, Entry, Error, ErrorKind, Key, NodeId, Operation, Version, envelope,
};
use peercache_testkit::ManualClock;
use peercache_testkit::conformance::{self, Time};

use crate::{BlobBackend, Conditions, Finding};
use memory::{Next, Store};

struct Setup {
    store: Store,
    clock: Arc<ManualClock>,
}

impl Setup {
    fn new(conditions: Conditions) -> Self {
        Self { store: Store::new(conditions), clock: Arc::default() }
    }

    /// Another process on the same store.
    fn backend(&self) -> BlobBackend<Store> {
        let clock = Arc::clone(&self.clock) as Arc<dyn Clock>;
        BlobBackend::builder(self.store.clone()).prefix("p").clock(clock).build().unwrap()
    }

    fn entry(&self, value: &'static str, counter: u32) -> Entry {
        let now = self.clock.now();
        let version = Version { wall: now, counter, node: NodeId::from_u64(1) };
        Entry::builder(value, version, now).fresh_for(Duration::from_secs(3600)).build().unwrap()
    }
}

fn key(text: &str) -> Key {
    Key::new(text).unwrap()
}

const ALL: [Conditions; 4] =
    [Conditions::None, Conditions::Revisions, Conditions::Versions, Conditions::Detect];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn backend_conforms_over_every_kind_of_store() {
    for (declared, honoured) in [
        (Conditions::None, Conditions::None),
        (Conditions::Revisions, Conditions::Revisions),
        (Conditions::Versions, Conditions::Versions),
        (Conditions::Detect, Conditions::None),
    ] {
        let setup = Setup::new(declared);
        setup.store.state().honoured = honoured;
        let clock = Arc::clone(&setup.clock);
        let harness = conformance::from_fn(Time::Manual(clock), move || {
            let backend = setup.backend();
            async move { Ok(Arc::new(backend) as Arc<dyn CacheBackend>) }
        });
        conformance::assert_conforms(harness).await;
    }
}

#[tokio::test]
async fn get_is_one_read_and_usual_put_is_one_write() {
    let setup = Setup::new(Conditions::Revisions);
    let backend = setup.backend();
    let k = key("k");
    backend.put(&k, setup.entry("first", 1)).await.unwrap();
    backend.put(&k, setup.entry("second", 2)).await.unwrap();
    backend.get(&k).await.unwrap().unwrap();
    assert_eq!(setup.store.take_log(), "write(absent) stored, write(revision) stored, read");
    backend.put(&k, setup.entry("older", 1)).await.unwrap();
    assert_eq!(setup.store.take_log(), "", "an older write is known to lose");
    let other = setup.backend();
    other.put(&k, setup.entry("third", 3)).await.unwrap();
    assert_eq!(setup.store.take_log(), "write(absent) conflict, read, write(revision) stored");
    assert_eq!((other.report().reads, other.report().writes, other.report().conflicts), (1, 2, 1));
}

#[tokio::test]
async fn put_over_a_store_that_compares_versions_is_one_write_whatever_others_wrote() {
    let setup = Setup::new(Conditions::Versions);
    let (one, other) = (setup.backend(), setup.backend());
    let k = key("k");
    one.put(&k, setup.entry("first", 1)).await.unwrap();
    other.put(&k, setup.entry("second", 2)).await.unwrap();
    one.put(&k, setup.entry("third", 3)).await.unwrap();
    assert_eq!(setup.store.take_log(), "write(newer) stored, write(newer) stored, write(newer) stored");
    // What the store takes for newer is verified before a write gives way to it.
    other.put(&k, setup.entry("older", 2)).await.unwrap();
    assert_eq!(setup.store.take_log(), "write(newer) conflict, read");
    // A blob that the store has lost is written again: nothing is remembered.
    setup.store.state().blobs.clear();
    one.put(&k, setup.entry("third", 3)).await.unwrap();
    assert_eq!(setup.store.take_log(), "write(newer) stored");
    assert_eq!(one.get(&k).await.unwrap().unwrap().value(), "third");
}

#[tokio::test]
async fn damaged_blob_is_corrupt_until_the_next_put_replaces_it() {
    for conditions in ALL {
        let setup = Setup::new(conditions);
        let k = key("k");
        let name = setup.backend().blob_name(&k);
        let mut damaged = envelope::encode(&k, &setup.entry("v", 9)).to_vec();
        *damaged.last_mut().unwrap() ^= 1;
        let foreign = envelope::encode(&key("other"), &setup.entry("theirs", 9)).to_vec();
        let too_large = vec![0; 9 * 1024 * 1024];
        for bytes in [damaged, foreign, b"a file".to_vec(), Vec::new(), too_large] {
            for read_first in [true, false] {
                let backend = setup.backend();
                setup.store.state().blobs.insert(name.clone(), bytes.clone().into());
                if read_first {
                    let error = backend.get(&k).await.unwrap_err();
                    assert_eq!((error.kind(), error.backend()), (ErrorKind::Corrupt, Some("memory")));
                    assert_eq!(backend.report().corrupt, 1);
                }
                backend.put(&k, setup.entry("good", 1)).await.unwrap();
                assert_eq!(backend.get(&k).await.unwrap().unwrap().value(), "good", "{conditions:?}");
            }
        }
        let mut newer = envelope::encode(&k, &setup.entry("v", 9)).to_vec();
        newer[4] = 200;
        setup.store.state().blobs.insert(name, newer.into());
        let backend = setup.backend();
        assert_eq!(backend.get(&k).await.unwrap(), None, "a newer build's format is a miss");
        backend.put(&k, setup.entry("good", 1)).await.unwrap();
        assert_eq!(backend.get(&k).await.unwrap().unwrap().value(), "good");
    }
}

#[tokio::test]
async fn removal_holds_against_a_process_that_does_not_know_it() {
    for conditions in ALL {
        let setup = Setup::new(conditions);
        let (one, other) = (setup.backend(), setup.backend());
        let k = key("k");
        one.put(&k, setup.entry("alive", 1)).await.unwrap();
        one.remove(&k, setup.entry("", 2).version(), setup.clock.now()).await.unwrap();
        other.put(&k, setup.entry("late", 1)).await.unwrap();
        assert!(other.get(&k).await.unwrap().unwrap().is_tombstone(), "{conditions:?}");
    }
}

#[tokio::test]
async fn store_that_refuses_writes_makes_the_backend_read_only_for_ten_minutes() {
    let setup = Setup::new(Conditions::Revisions);
    let backend = setup.backend();
    let k = key("k");
    backend.put(&k, setup.entry("v", 1)).await.unwrap();
    setup.store.take_log();
    setup.store.next(Next::ReadOnly);
    for _ in 0..2 {
        let error = backend.put(&k, setup.entry("v", 2)).await.unwrap_err();
        assert_eq!((error.kind(), error.message()), (ErrorKind::Denied, "this user may not write"));
    }
    assert_eq!(setup.store.take_log(), "write(revision) read-only", "the second put is refused here");
    assert_eq!(backend.report().writable, Finding::No);
    assert_eq!(backend.get(&k).await.unwrap().unwrap().value(), "v", "reads go on");
    setup.clock.advance(Duration::from_secs(600));
    backend.put(&k, setup.entry("w", 3)).await.unwrap();
    assert_eq!(backend.report().writable, Finding::Yes);
}

#[tokio::test]
async fn value_that_is_too_large_is_refused_before_anything_is_sent() {
    let setup = Setup::new(Conditions::Revisions);
    let store = setup.store.clone().with_max_value_bytes(4);
    let backend = BlobBackend::new(store);
    let error = backend.put(&key("k"), setup.entry("12345", 1)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TooLarge);
    assert_eq!(
        error.to_string(),
        "memory: put failed (too large): the value is larger than the store takes [bytes=5, most=4]"
    );
    assert_eq!(setup.store.take_log(), "");
}

#[tokio::test(start_paused = true)]
async fn call_ends_at_the_deadline_and_the_store_is_asked_again() {
    let setup = Setup::new(Conditions::Revisions);
    let backend = BlobBackend::builder(setup.store.clone())
        .request_timeout(Duration::from_millis(200))
        .build()
        .unwrap();
    setup.store.next(Next::Hang);
    let error = backend.get(&key("k")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout);
    assert_eq!(error.context("milliseconds"), Some("200"));
    assert_eq!(backend.get(&key("k")).await.unwrap(), None);
    assert_eq!(backend.report().timeouts, 1);
}

#[tokio::test]
async fn error_of_the_store_names_the_backend() {
    let setup = Setup::new(Conditions::Revisions);
    let error = Error::new(ErrorKind::Unavailable, Operation::Get, "gone");
    setup.store.next(Next::Fail(error));
    assert_eq!(setup.backend().get(&key("k")).await.unwrap_err().backend(), Some("memory"));
}

#[tokio::test]
async fn mistake_in_the_settings_is_an_error_at_once() {
    let setup = Setup::new(Conditions::None);
    let build = |prefix: &str, timeout| {
        let built = BlobBackend::builder(setup.store.clone()).prefix(prefix).request_timeout(timeout).build();
        built.map(|_| ()).map_err(|error| error.to_string())
    };
    assert_eq!(build("ci", Duration::from_millis(1)), Ok(()));
    assert_eq!(
        build("a b", Duration::from_millis(1)).unwrap_err(),
        "memory: open failed (configuration): the prefix has a character that is not safe in names of \
         objects; choose a prefix of letters, digits, `-`, `_`, `.` and `/`"
    );
    assert_eq!(
        build("", Duration::ZERO).unwrap_err(),
        "memory: open failed (configuration): the request timeout is zero; the least is 1 ms"
    );
}

#[tokio::test]
async fn store_learns_how_long_a_blob_is_of_use() {
    let setup = Setup::new(Conditions::Versions);
    let backend = setup.backend();
    backend.put(&key("k"), setup.entry("v", 1)).await.unwrap();
    assert_eq!(setup.store.state().last_ttl, Some(Duration::from_secs(3600)));
    let created = setup.clock.now().saturating_sub(Duration::from_secs(60));
    let expired = Entry::builder("v", setup.entry("", 2).version(), created).build().unwrap();
    backend.put(&key("k"), expired).await.unwrap();
    assert_eq!(setup.store.state().last_ttl, Some(Duration::from_secs(1)), "it still hides the older one");
    assert_eq!(backend.get(&key("k")).await.unwrap(), None);
}
