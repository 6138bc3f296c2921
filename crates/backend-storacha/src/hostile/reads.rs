//! Lookups while the service or the storage node lies.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use ipld_core::cid::Cid;
use ipld_core::ipld::Ipld;
use peercache_api::{CacheBackend as _, Clock as _, Entry, ErrorKind, Key, SystemClock, envelope};
use sha2::{Digest as _, Sha256};

use super::forge::{Signed, at, report, reworked, set};
use super::front::{Asked, Front, Lie, Told};
use super::{FOR_EVER, NODE, World, looked_up, messages, open, receipts, refused, stranger};
use crate::client::multihash;
use crate::layout::shard;
use crate::ucan::car::{Car, DAG_CBOR, cid_of};
use crate::ucan::did::Did;
use crate::ucan::map;
use crate::ucan::receipt::Receipt;
use crate::{Storacha, StorachaCounts};

/// How many places of the messages are altered.
const PLACES: usize = 48;

/// A lie about a lookup.
struct Case {
    what: &'static str,
    lie: Lie,
    /// Whether the tier takes the liar for the service.
    trusted: bool,
    kind: ErrorKind,
    /// What counts it.
    counted: fn(&StorachaCounts) -> u64,
}

fn case(what: &'static str, lie: Lie) -> Case {
    Case { what, lie, trusted: false, kind: ErrorKind::Corrupt, counted: |counts| counts.receipts_refused }
}

fn trusted(what: &'static str, lie: Lie) -> Case {
    Case { trusted: true, counted: |counts| counts.locations_refused, ..case(what, lie) }
}

/// Each lie on its own server and its own tier, side by side: a miss that is counted, and the true
/// value once the lie is over.
async fn are_refused(world: &World, cases: Vec<Case>) {
    let cases = cases.into_iter().map(|case| async move {
        let front = world.front().await;
        front.set(Some(honest_or(world, &case, None)));
        let tier = Arc::new(match case.trusted {
            true => open(world.trusting_tier(&front)),
            false => world.tier(&front),
        });
        front.set(Some(honest_or(world, &case, Some(Arc::clone(&case.lie)))));
        let error = match tier.get(&world.key).await {
            Err(error) => error,
            Ok(found) => panic!("{}: {found:?}", case.what),
        };
        assert_eq!(error.kind(), case.kind, "{}: {error}", case.what);
        let counts = tier.report().counts;
        assert!((case.counted)(&counts) > 0, "{}: {counts:?}", case.what);
        let (found, failed) = looked_up(Arc::clone(&tier), &world.key).await;
        assert!(found.is_none() && failed.is_some(), "{}: {found:?} {failed:?}", case.what);
        front.set(Some(honest_or(world, &case, None)));
        let found = tier.get(&world.key).await;
        assert_eq!(found.unwrap().as_ref(), Some(&world.entry), "after: {}", case.what);
        println!("{}: {error}", case.what);
    });
    futures_util::future::join_all(cases).await;
}

/// What the server does: a trusted one signs everything by itself, before it lies.
fn honest_or(world: &World, case: &Case, lie: Option<Lie>) -> Lie {
    let signed = case.trusted.then(|| world.by_liar());
    Arc::new(move |asked: &Asked, truth: Told| {
        let mut told = truth;
        if let Some(signed) = &signed
            && (asked.method == "POST" || asked.path.starts_with("/receipt/"))
        {
            told = told.map(|body| reworked(&body, signed, &|_| {}));
        }
        match &lie {
            Some(lie) => lie(asked, told),
            None => told,
        }
    })
}

/// Changes every receipt of a message; the signature stays.
fn forged(edit: fn(&mut Ipld)) -> impl Fn(&[u8]) -> Vec<u8> {
    move |body| reworked(body, &Signed::AsBefore, &edit)
}

/// Every receipt signed by a stranger, in the name of this issuer.
fn signed_by_stranger(issuer: String) -> impl Fn(&[u8]) -> Vec<u8> {
    move |body| reworked(body, &Signed::By(Box::new(stranger()), issuer.clone()), &|_| {})
}

/// A changed map of which receipt is of which invocation.
fn with_report(body: &[u8], report: Vec<(String, Ipld)>) -> Vec<u8> {
    let mut car = Car::decode(body).unwrap();
    let report = Ipld::Map(report.into_iter().collect());
    let root = car.add(&map([("ucanto/message@7.0.0", map([("report", report)]))])).unwrap();
    car.roots = vec![root];
    car.encode().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn forged_receipts_are_refused() {
    let Some(world) = World::start().await else { return };
    let service = world.service.did().to_owned();
    let unknown = Did::of(&stranger().verifying_key()).to_string();
    let failed: fn(&mut Ipld) = |value| {
        let failure = map([("name", Ipld::String("UploadNotFound".into()))]);
        set(value, &["ocm", "out"], map([("error", failure)]));
    };
    let none: fn(&mut Ipld) = |value| set(value, &["ocm", "out", "ok", "shards"], Ipld::List(Vec::new()));
    let site: fn(&mut Ipld) = |value| {
        set(value, &["ocm", "out", "ok", "site"], Ipld::Link(cid_of(DAG_CBOR, b"elsewhere")));
    };
    let unsigned: fn(&mut Ipld) = |value| set(value, &["sig"], Ipld::Bytes(Vec::new()));
    are_refused(
        &world,
        vec![
            case("a failure under the signature of a success", messages(forged(failed))),
            case("a list of shards without its shards", messages(forged(none))),
            case("receipts without a signature", messages(forged(unsigned))),
            case("messages signed by a stranger", messages(signed_by_stranger(service.clone()))),
            case("messages issued by a stranger", messages(signed_by_stranger(unknown.clone()))),
            case("another site in the receipt of an upload", receipts(forged(site))),
            case("receipts of uploads signed by a stranger", receipts(signed_by_stranger(service))),
            case("receipts of uploads issued by a stranger", receipts(signed_by_stranger(unknown))),
        ],
    )
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn replayed_and_reordered_receipts_are_refused() {
    let Some(world) = World::start().await else { return };
    let first = Mutex::new(None);
    let replayed = messages(move |body| first.lock().unwrap().get_or_insert_with(|| body.to_vec()).clone());
    // The first answer is recorded, and given to whoever asks the same again.
    let front = world.front().await;
    front.set(Some(replayed));
    let tier = world.tier(&front);
    tier.get(&world.key).await.unwrap_err();
    let before = tier.report().counts.receipts_refused;
    assert!(tier.get(&world.key).await.is_err());
    assert!(tier.report().counts.receipts_refused > before);

    let swapped = |body: &[u8]| {
        let mut all = report(body);
        if let [first, second, ..] = &mut all[..] {
            std::mem::swap(&mut first.1, &mut second.1);
        }
        with_report(body, all)
    };
    let other = Receipt::issue_ok(&stranger(), cid_of(DAG_CBOR, b"another"), &mut Car::default()).unwrap();
    let last = Mutex::new(None);
    are_refused(
        &world,
        vec![
            case("receipts that changed places", messages(swapped)),
            case("a message without a receipt", messages(|body| with_report(body, Vec::new()))),
            case(
                "a receipt that did not come along",
                messages(move |body| {
                    let named = report(body).into_iter().map(|(ran, _)| (ran, Ipld::Link(other)));
                    with_report(body, named.collect())
                }),
            ),
            case(
                "the receipt of another task than the one that was asked for",
                receipts(move |body| {
                    let before = last.lock().unwrap().replace(body.to_vec());
                    before.unwrap_or_else(|| with_report(body, Vec::new()))
                }),
            ),
        ],
    )
    .await;

    // Blocks in another order are the same message.
    let front = world.front().await;
    front.set(Some(messages(|body| {
        let mut car = Car::decode(body).unwrap();
        let nothing = cid_of(DAG_CBOR, b"\xf6");
        car.blocks.insert(nothing, Bytes::from_static(b"\xf6"));
        car.encode().unwrap()
    })));
    assert_eq!(world.tier(&front).get(&world.key).await.unwrap().as_ref(), Some(&world.entry));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn truncated_and_altered_messages_are_refused() {
    let Some(world) = World::start().await else { return };
    // What is cut off at the end of a block is a whole CAR that lacks its root.
    let without_root = |body: &[u8]| {
        let mut car = Car::decode(body).unwrap();
        let root = car.root().unwrap();
        car.blocks.remove(&root);
        car.encode().unwrap()
    };
    are_refused(
        &world,
        vec![
            case("a message that lacks its last bytes", messages(|body| body[..body.len() - 20].to_vec())),
            case("half a message", messages(|body| body[..body.len() / 2].to_vec())),
            case("an empty message", messages(|_| Vec::new())),
            case("a message without its root", messages(without_root)),
            case("no message", messages(|_| b"<html>It works!</html>".to_vec())),
            case("a message of 5 MiB", messages(|_| vec![0; 5 << 20])),
            case("a receipt of an upload that is cut off", receipts(|body| body[..body.len() - 9].to_vec())),
            case("a receipt of an upload of 5 MiB", receipts(|_| vec![0; 5 << 20])),
        ],
    )
    .await;

    // Any byte of any message: an error that is counted, or the true value, and never another one.
    let front = world.front().await;
    let (mut errors, mut whole) = (0, 0);
    for place in 0..PLACES {
        front.set(Some(Arc::new(move |asked: &Asked, truth: Told| {
            // Messages of the service one time, those with receipts of uploads the next.
            let altered = match place % 2 {
                0 => asked.method == "POST",
                _ => asked.path.starts_with("/receipt/"),
            };
            truth.map(|mut body| {
                if altered && !body.is_empty() {
                    let at = place * body.len() / PLACES;
                    body[at] ^= 1 << (place % 8);
                }
                body
            })
        })));
        let tier = world.tier(&front);
        match tier.get(&world.key).await {
            Ok(found) => {
                assert_eq!(found.as_ref(), Some(&world.entry), "place {place}");
                whole += 1;
            }
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::Corrupt, "place {place}: {error}");
                assert!(refused(&tier.report().counts) > 0, "place {place}: {error}");
                errors += 1;
            }
        }
    }
    println!("altered messages: {errors} refused, {whole} without harm");
    assert!(errors > PLACES / 2, "{errors} of {PLACES}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn lying_locations_are_refused() {
    let Some(world) = World::start().await else { return };
    let elsewhere = Front::start(world.service.address()).await;
    let at_node = |path: &str| {
        let node = Front::start(world.service.address());
        let path = format!("{NODE}{path}");
        async move {
            let node = node.await;
            let url = format!("{}{path}", node.url());
            (node, url)
        }
    };
    let mut nodes = Vec::new();
    let mut cases: Vec<_> = [
        ("a plain address elsewhere", "http://storage.example.org/x"),
        ("a plain address in a private network", "http://10.0.0.1/x"),
        ("a file", "file:///etc/passwd"),
        ("no address", "storage"),
    ]
    .into_iter()
    .map(|(what, url)| trusted(what, located(&world, url.to_owned())))
    .collect();
    let other = |value: &mut Ipld| {
        if at(value, &["att", "0", "nb", "location"]).is_some() {
            let digest = map([("digest", Ipld::Bytes(multihash([9; 32])))]);
            set(value, &["att", "0", "nb", "content"], digest);
        }
    };
    let signed = world.by_liar();
    cases.push(trusted("a claim about other bytes", receipts(move |body| reworked(body, &signed, &other))));

    let to = format!("{}{NODE}stolen", elsewhere.url());
    for status in [301, 302, 307, 308] {
        let (node, url) = at_node("moved").await;
        let to = to.clone();
        node.set(Some(Arc::new(move |_, _| Told::redirect(status, &to))));
        cases.push(trusted("a storage node that redirects", located(&world, url)));
        nodes.push(node);
    }
    let corrupt: fn(&StorachaCounts) -> u64 = |counts| counts.corrupt;
    for (what, body) in [
        ("other bytes", b"not what was stored".to_vec()),
        ("no bytes", Vec::new()),
        ("more bytes than an envelope has", vec![7; envelope::MAX_ENVELOPE_BYTES + 1]),
    ] {
        let (node, url) = at_node("bytes").await;
        node.set(Some(Arc::new(move |_, _| Told::body(body.clone()))));
        cases.push(Case { counted: corrupt, ..trusted(what, located(&world, url)) });
        nodes.push(node);
    }
    are_refused(&world, cases).await;
    assert!(elsewhere.take_asked().is_empty(), "a redirect was followed");
}

/// A receipt whose claim names this address.
fn located(world: &World, url: String) -> Lie {
    let signed = world.by_liar();
    receipts(move |body| {
        reworked(body, &signed, &|value| {
            set(value, &["att", "0", "nb", "location", "0"], Ipld::String(url.clone()));
        })
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn storage_node_that_is_away_or_breaks_off_is_a_miss() {
    let Some(world) = World::start().await else { return };
    let gone = Front::start(world.service.address()).await;
    let away = format!("{}{NODE}bytes", gone.url());
    drop(gone);
    let node = Front::start(world.service.address()).await;
    node.set(Some(Arc::new(|_, _| Told::Cut { body: vec![7; 4096], at: 100 })));
    let cut = format!("{}{NODE}bytes", node.url());
    let failing = Front::start(world.service.address()).await;
    failing.set(Some(Arc::new(|_, _| Told::status(503))));
    let fails = format!("{}{NODE}bytes", failing.url());
    // Nothing is wrong with what is said, so nothing is counted as refused.
    let unavailable = |what, url| Case {
        kind: ErrorKind::Unavailable,
        counted: |counts| u64::from(refused(counts) == 0),
        ..trusted(what, located(&world, url))
    };
    are_refused(
        &world,
        vec![
            unavailable("a storage node that is away", away),
            unavailable("a storage node that breaks off", cut),
            unavailable("a storage node that fails", fails),
        ],
    )
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn service_that_redirects_or_never_answers_is_a_miss() {
    let Some(world) = World::start().await else { return };
    let elsewhere = Front::start(world.service.address()).await;
    let to = elsewhere.url();
    let front = world.front().await;
    front.set(Some(Arc::new(move |asked: &Asked, truth: Told| match asked.method.as_str() {
        "POST" => Told::redirect(307, &to),
        _ => truth,
    })));
    let error = world.tier(&front).get(&world.key).await.unwrap_err();
    assert!(error.to_string().contains("status=307"), "{error}");
    assert!(elsewhere.take_asked().is_empty(), "an invocation was sent to another host");

    let within = |front: &Front| {
        let token = world.token(front.url(), world.service.did().to_owned());
        let tier = Storacha::builder(token).allow_private(true);
        tier.request_timeout(Duration::from_secs(4)).open().unwrap()
    };
    let silent: Lie = Arc::new(|asked: &Asked, truth: Told| match asked.method.as_str() {
        "POST" => Told::Silence,
        _ => truth,
    });
    front.set(Some(silent));
    let tier = within(&front);
    assert_eq!(tier.get(&world.key).await.unwrap_err().kind(), ErrorKind::Timeout);
    assert_eq!(tier.report().counts.timeouts, 1);

    // The receipt of an upload never comes.
    front.set(Some(Arc::new(|asked: &Asked, truth: Told| match asked.path.starts_with("/receipt/") {
        true => Told::status(404),
        false => truth,
    })));
    let tier = within(&front);
    let error = tier.get(&world.key).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout, "{error}");
    assert!(error.to_string().contains("receipt"), "{error}");
    assert_eq!(tier.report().counts.timeouts, 1, "a receipt that never comes is counted");
}

/// A service that signs what is wrong: entries of other keys, and writes that are none.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn entries_of_another_key_are_refused() {
    let Some(world) = World::start().await else { return };
    let other = Key::new("other").unwrap();
    let tier = world.tier(&world.front().await);
    let entry = world.newer("of another key");
    let front = world.front().await;
    let stored: [u8; 32] = Sha256::digest(envelope::encode(&other, &entry)).into();
    open(Storacha::builder(world.token(front.url(), world.service.did().to_owned())))
        .put(&other, entry)
        .await
        .unwrap();
    drop(tier);
    let shards = move |digest: [u8; 32], signed: Signed| {
        messages(move |body| {
            let link: Cid = shard(digest);
            reworked(body, &signed, &|value| {
                let only = Ipld::List(vec![Ipld::Link(link)]);
                set(value, &["ocm", "out", "ok", "shards"], only);
            })
        })
    };
    let corrupt: fn(&StorachaCounts) -> u64 = |counts| counts.corrupt;
    are_refused(
        &world,
        vec![Case {
            counted: corrupt,
            ..trusted("the entry of another key", shards(stored, world.by_liar()))
        }],
    )
    .await;
}

/// A tier that has seen the true value at a storage node of the test's own, and the two servers.
async fn tier_that_has_read(world: &World) -> (Storacha, Front, Front) {
    let (front, node) = (world.front().await, Front::start(world.service.address()).await);
    let bytes = envelope::encode(&world.key, &world.entry).to_vec();
    node.set(Some(Arc::new(move |_, _| Told::body(bytes.clone()))));
    let case = trusted("at the node", located(world, format!("{}{NODE}bytes", node.url())));
    front.set(Some(honest_or(world, &case, Some(Arc::clone(&case.lie)))));
    let tier = open(world.trusting_tier(&front));
    assert_eq!(tier.get(&world.key).await.unwrap().as_ref(), Some(&world.entry));
    assert!(node.take_asked().iter().any(|asked| asked.path.starts_with(NODE)), "read elsewhere");
    front.set(Some(honest_or(world, &case, None)));
    (tier, front, node)
}

/// The service does not answer before the storage node has been asked.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn value_seen_before_is_fetched_while_the_service_is_asked() {
    let Some(world) = World::start().await else { return };
    let (tier, front, node) = tier_that_has_read(&world).await;
    let (asked, hears) = std::sync::mpsc::sync_channel(64);
    let (asked, hears) = (Mutex::new(asked), Mutex::new(hears));
    let bytes = envelope::encode(&world.key, &world.entry).to_vec();
    node.set(Some(Arc::new(move |_, _| {
        asked.lock().unwrap().send(()).unwrap();
        Told::body(bytes.clone())
    })));
    let honest = honest_or(&world, &trusted("nothing", Arc::new(|_, truth| truth)), None);
    front.set(Some(Arc::new(move |asked: &Asked, truth: Told| {
        if asked.method == "POST" {
            let wait = || hears.lock().unwrap().recv_timeout(FOR_EVER / 2);
            tokio::task::block_in_place(wait).expect("the storage node is not asked meanwhile");
        }
        honest(asked, truth)
    })));
    let before = tier.report().counts;
    assert_eq!(tier.get(&world.key).await.unwrap().as_ref(), Some(&world.entry));
    let after = tier.report().counts;
    assert_eq!((after.messages - before.messages, after.requests - before.requests), (1, 1));
}

/// The storage node never answers for the older write, which nobody waits for.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn value_that_another_replaced_is_read_anew_and_the_old_one_is_not_waited_for() {
    let Some(world) = World::start().await else { return };
    let (tier, _front, node) = tier_that_has_read(&world).await;
    let newer = world.newer("newer");
    let other = open(Storacha::builder(world.token(world.service.url(), world.service.did().to_owned())));
    other.put(&world.key, newer.clone()).await.unwrap();
    node.set(Some(Arc::new(|_, _| Told::Silence)));
    assert_eq!(tier.get(&world.key).await.unwrap(), Some(newer));
    assert_eq!(node.take_asked().len(), 1, "the older one was asked for");
    let tombstone = Entry::tombstone(world.versions.next(SystemClock::new().now()), SystemClock::new().now());
    other.put(&world.key, tombstone.clone()).await.unwrap();
    for _ in 0..2 {
        let found = tier.get(&world.key).await.unwrap();
        assert_eq!(found.map(|entry| entry.version()), Some(tombstone.version()));
    }
}

/// The node that had the bytes is away; another one has them by now.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn value_whose_storage_node_is_away_is_located_again() {
    let Some(world) = World::start().await else { return };
    let (tier, _front, node) = tier_that_has_read(&world).await;
    node.set(Some(Arc::new(|_, _| Told::status(404))));
    assert_eq!(tier.get(&world.key).await.unwrap().as_ref(), Some(&world.entry));
    node.take_asked();
    assert_eq!(tier.get(&world.key).await.unwrap().as_ref(), Some(&world.entry));
    assert!(node.take_asked().is_empty(), "its new address is remembered");
}
