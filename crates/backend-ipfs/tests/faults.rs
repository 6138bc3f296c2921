//! Each way in which a node fails is an error of its own that says what to do, and the tier is back
//! by itself.
#![allow(clippy::unwrap_used, reason = "in a test, a failed unwrap is a failed test")]

mod support;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use peercache_api::{CacheBackend as _, Error, ErrorKind, envelope};
use peercache_ipfs::{Ipfs, IpfsClientKind};
use peercache_seal::{Sealed, Secret};
use peercache_testkit::servers::{FaultProxy, Kubo, KuboOptions, Mode};
use support::{Writer, builder, key};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

/// What a scripted node does with a call.
#[derive(Clone, Debug)]
enum Reply {
    /// Answers these bytes and ends the connection.
    Raw(Vec<u8>),
    /// Reads the call and answers nothing.
    Stall,
}

fn answer(status: &str, body: &str) -> Reply {
    Reply::Raw(
        format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}", body.len())
            .into_bytes(),
    )
}

fn ok(body: &str) -> Reply {
    answer("200 OK", body)
}

fn node_error(message: &str) -> Reply {
    answer("500 Internal Server Error", &format!(r#"{{"Message":"{message}","Code":0,"Type":"error"}}"#))
}

/// A body in pieces, as Kubo sends them, and what follows the last one.
fn chunked(body: &[u8], end: &str) -> Reply {
    let mut raw =
        b"HTTP/1.1 200 OK\r\nTrailer: X-Stream-Error\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
    raw.extend_from_slice(format!("{:x}\r\n", body.len()).as_bytes());
    raw.extend_from_slice(body);
    raw.extend_from_slice(b"\r\n");
    raw.extend_from_slice(end.as_bytes());
    Reply::Raw(raw)
}

/// A node that answers as it is told.
struct Scripted {
    address: SocketAddr,
    calls: Arc<AtomicUsize>,
    task: JoinHandle<()>,
}

impl Drop for Scripted {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Scripted {
    async fn start(reply: impl Fn(&str) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let calls = Arc::new(AtomicUsize::new(0));
        let (reply, counted) = (Arc::new(reply), Arc::clone(&calls));
        let task = tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let (reply, counted) = (Arc::clone(&reply), Arc::clone(&counted));
                tokio::spawn(async move {
                    let mut head = Vec::new();
                    while !head.windows(4).any(|bytes| bytes == b"\r\n\r\n") {
                        let mut piece = [0; 8192];
                        match stream.read(&mut piece).await {
                            Ok(0) | Err(_) => return,
                            Ok(count) => head.extend_from_slice(&piece[..count]),
                        }
                    }
                    counted.fetch_add(1, Ordering::SeqCst);
                    let text = String::from_utf8_lossy(&head).into_owned();
                    let path = text.split(' ').nth(1).unwrap_or_default();
                    let call = path.strip_prefix("/api/v0/").unwrap_or(path).split('?').next().unwrap();
                    match reply(call) {
                        Reply::Raw(bytes) => {
                            stream.write_all(&bytes).await.ok();
                            stream.shutdown().await.ok();
                            // What was sent is read to its end: a reset would take the answer
                            // along.
                            let mut rest = [0; 8192];
                            while stream.read(&mut rest).await.is_ok_and(|count| count > 0) {}
                        }
                        Reply::Stall => std::future::pending().await,
                    }
                });
            }
        });
        Self { address, calls, task }
    }

    fn tier(&self) -> Ipfs {
        Ipfs::builder(format!("http://{}", self.address)).allow_private(true).open().unwrap()
    }

    fn hasty(&self) -> Ipfs {
        Ipfs::builder(format!("http://{}", self.address))
            .allow_private(true)
            .request_timeout(Duration::from_millis(400))
            .open()
            .unwrap()
    }
}

/// A healthy node, except for one call.
fn except(call: &'static str, reply: Reply) -> impl Fn(&str) -> Reply + Send + Sync + 'static {
    move |asked| match asked {
        asked if asked == call => reply.clone(),
        "version" => ok(r#"{"Version":"0.43.1"}"#),
        "files/mkdir" | "files/cp" | "files/rm" => ok(""),
        "files/ls" => ok(r#"{"Entries":null}"#),
        "block/put" => {
            ok(r#"{"Key":"bafkreibzz4ab3iv32pudo4jdasx4ad5gwkfhefcph5dder25c5drtvfbky","Size":1}"#)
        }
        "files/stat" => ok(r#"{"Hash":"QmX","CumulativeSize":0,"Type":"directory"}"#),
        _ => node_error("not scripted"),
    }
}

async fn get(tier: &Ipfs) -> Error {
    tier.get(&key("k")).await.unwrap_err()
}

async fn put(tier: &Ipfs) -> Error {
    tier.put(&key("k"), Writer::new(1).entry("v")).await.unwrap_err()
}

fn expect(error: &Error, kind: ErrorKind, message: &str, help: &str) {
    let text = error.to_string();
    assert!(error.kind() == kind && text.contains(message) && text.contains(help), "{kind:?}: {text}");
    assert_eq!(error.backend(), Some("ipfs"));
}

#[tokio::test]
async fn node_that_is_missing_is_named_with_what_starts_it() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    for client in [IpfsClientKind::KeepAlive, IpfsClientKind::PerCall] {
        let tier = Ipfs::builder(format!("http://{free}")).client(client).open().unwrap();
        let error = get(&tier).await;
        expect(&error, ErrorKind::Unavailable, "does not answer", "ipfs daemon");
        assert!(error.to_string().contains("refused"), "{error}");
        assert!(error.is_retryable());
    }
}

#[tokio::test]
async fn answers_that_are_not_a_nodes_are_each_an_error_of_their_own() {
    let cases: [(&'static str, Reply, ErrorKind, &str, &str); 9] = [
        ("version", answer("404 Not Found", "404 page not found"), ErrorKind::Config, "not the RPC", "5001"),
        (
            "version",
            answer("405 Method Not Allowed", "405 - Method Not Allowed"),
            ErrorKind::Config,
            "POST into GET",
            "http://",
        ),
        ("version", answer("301 Moved Permanently", ""), ErrorKind::Config, "redirects", "never redirects"),
        (
            "version",
            answer("401 Unauthorized", ""),
            ErrorKind::Denied,
            "asks for credentials",
            "IPFS_API_AUTH",
        ),
        (
            "version",
            answer("403 Forbidden", "403 - Forbidden"),
            ErrorKind::Denied,
            "asks for credentials",
            "IPFS_API_AUTH",
        ),
        ("version", ok(r#"{"Version":"0.39.0"}"#), ErrorKind::Config, "too old", "0.40"),
        ("version", ok(r#"{"Version":"next"}"#), ErrorKind::Unsupported, "name its version", "0.40"),
        ("version", ok("<html>hello</html>"), ErrorKind::Unsupported, "not one of a Kubo node", "proxy"),
        ("version", ok(""), ErrorKind::Unsupported, "200 and nothing else", "proxy"),
    ];
    for (call, reply, kind, message, help) in cases {
        let node = Scripted::start(except(call, reply)).await;
        let tier = node.tier();
        expect(&get(&tier).await, kind, message, help);
        expect(&put(&tier).await, kind, message, help);
        expect(&tier.probe().await.unwrap_err(), kind, message, help);
    }
}

#[tokio::test]
async fn full_disk_is_named_on_a_put_and_reads_go_on() {
    let reply = node_error("put: write /repo/blocks/x: no space left on device");
    let node = Scripted::start(except("block/put", reply)).await;
    let tier = node.tier();
    expect(&put(&tier).await, ErrorKind::Unavailable, "disk is full", "peercache ipfs gc");
    assert_eq!(tier.get(&key("k")).await.unwrap(), None);
}

#[tokio::test]
async fn silent_node_is_told_from_one_whose_writes_wait() {
    let node = Scripted::start(|_| Reply::Stall).await;
    let tier = node.hasty();
    expect(&get(&tier).await, ErrorKind::Timeout, "did not answer in time", "overloaded");
    assert_eq!(tier.report().counts.timeouts, 1);

    let node = Scripted::start(except("block/put", Reply::Stall)).await;
    let error = put(&node.hasty()).await;
    expect(&error, ErrorKind::Timeout, "its writes wait", "repo gc");
}

#[tokio::test]
async fn answer_that_breaks_off_or_fails_at_its_end_is_no_value() {
    let made = Writer::new(1).entry("a value");
    let whole = envelope::encode(&key("k"), &made).to_vec();
    let version = made.version();
    let digits: String = key("k").digest().iter().map(|byte| format!("{byte:02x}")).collect();
    let name = format!(
        "{}.{:016x}{:08x}{:016x}.{:012x}.0000000000000000.0001",
        &digits[4..],
        version.wall.as_millis(),
        version.counter,
        version.node.as_u64(),
        made.expires().as_millis()
    );
    let listed = format!(r#"{{"Entries":[{{"Name":"{name}","Type":0,"Size":9,"Hash":"bafkreix"}}]}}"#);
    let node_with = |reply: Reply| {
        let listed = listed.clone();
        Scripted::start(move |call| match call {
            "block/get" => reply.clone(),
            "files/ls" => ok(&listed),
            other => except("", Reply::Stall)(other),
        })
    };
    let get = async |reply: Reply, client| {
        let node = node_with(reply).await;
        let tier = Ipfs::builder(format!("http://{}", node.address)).client(client).open().unwrap();
        tier.get(&key("k")).await
    };
    for client in [IpfsClientKind::KeepAlive, IpfsClientKind::PerCall] {
        let found = get(chunked(&whole, "0\r\n\r\n"), client).await.unwrap();
        assert_eq!(found.as_ref(), Some(&made), "the script itself is right");
        // Cut within a piece, and after one: the connection ends before the body does.
        let error = get(chunked(&whole[..whole.len() - 3], ""), client).await.unwrap_err();
        expect(&error, ErrorKind::Unavailable, "broke off", "");
        // Whole as HTTP goes, and not what was written.
        let error = get(chunked(&whole[..whole.len() - 3], "0\r\n\r\n"), client).await.unwrap_err();
        expect(&error, ErrorKind::Corrupt, "not what was written", "next put");
        let error = get(chunked(b"", ""), client).await.unwrap_err();
        assert_ne!(error.kind(), ErrorKind::Corrupt, "{error}");
    }
    let trailer = "0\r\nX-Stream-Error: blockstore is on fire\r\n\r\n";
    let error = get(chunked(&whole, trailer), IpfsClientKind::KeepAlive).await.unwrap_err();
    expect(&error, ErrorKind::Unavailable, "began its answer and then failed", "on fire");
    // What Kubo answers to a timeout without a unit.
    let error = get(ok(""), IpfsClientKind::KeepAlive).await.unwrap_err();
    expect(&error, ErrorKind::Unsupported, "200 and nothing else", "");
}

#[tokio::test]
async fn private_entry_is_refused_and_takes_what_it_replaces_along() {
    let node = Scripted::start(except("", Reply::Stall)).await;
    let tier = Ipfs::builder(format!("http://{}", node.address)).open().unwrap();
    let error = put(&tier).await;
    expect(&error, ErrorKind::Denied, "private entries are not stored", "IPFS_ALLOW_PRIVATE=true");
    assert!(!error.is_retryable());
    assert_eq!(tier.report().counts.private_refused, 1);
    assert!(node.calls.load(Ordering::SeqCst) <= 3, "nothing was stored");
    // What is marked public is stored, and a removal, which holds nothing and must reach every
    // place.
    tier.put(&key("k"), Writer::new(1).public_entry("v")).await.unwrap();
    tier.put(&key("k"), Writer::new(1).tombstone()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn private_write_over_a_public_one_leaves_nothing_out_of_date_on_a_real_node() {
    let Some(node) = Kubo::start(KuboOptions::default()).await.unwrap() else { return };
    let tier = Ipfs::builder(node.api()).prefix("class").open().unwrap();
    let sealed = Sealed::new(Secret::generate().unwrap(), Arc::new(tier));
    let writer = Writer::new(1);
    let public = writer.public_entry("for everybody");
    sealed.put(&key("k"), public.clone()).await.unwrap();
    assert_eq!(sealed.get(&key("k")).await.unwrap(), Some(public), "a seal passes the class on");
    let error = sealed.put(&key("k"), writer.entry("not for everybody")).await.unwrap_err();
    expect(&error, ErrorKind::Denied, "private entries are not stored", "IPFS_ALLOW_PRIVATE=true");
    assert_eq!(sealed.get(&key("k")).await.unwrap(), None, "the public value was out of date");
    // One that is older than what is there takes nothing along.
    let old = writer.entry("private, from before");
    let newer = writer.public_entry("newer");
    sealed.put(&key("k"), newer.clone()).await.unwrap();
    sealed.put(&key("k"), old).await.unwrap_err();
    assert_eq!(sealed.get(&key("k")).await.unwrap(), Some(newer));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn wrong_port_and_credentials_of_a_real_node_are_named() {
    let options = KuboOptions::default().authorized_by("basic:team:hush-pass");
    let Some(node) = Kubo::start(options).await.unwrap() else { return };
    let tier = |auth: Option<&str>| {
        let tier = builder(&node, "auth");
        auth.map_or_else(|| tier.clone(), |auth| tier.clone().auth(auth)).open().unwrap()
    };
    let error = get(&tier(None)).await;
    expect(&error, ErrorKind::Denied, "asks for credentials", "IPFS_API_AUTH");
    let error = get(&tier(Some("basic:team:hush-wrong"))).await;
    expect(&error, ErrorKind::Denied, "refuses the credentials", "API.Authorizations");
    assert!(!error.to_string().contains("hush"), "{error}");
    let right = tier(Some("basic:team:hush-pass"));
    right.put(&key("k"), Writer::new(1).entry("v")).await.unwrap();
    assert_eq!(right.get(&key("k")).await.unwrap().unwrap().value()[..], b"v"[..]);
    assert_eq!(right.report().version.as_deref(), Some("0.43.1"));

    let gateway = Ipfs::builder(format!("http://{}", node.gateway())).open().unwrap();
    expect(&get(&gateway).await, ErrorKind::Config, "not the RPC", "8080");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn node_behind_faults_is_an_error_within_the_deadline_and_is_back_by_itself() {
    let Some(node) = Kubo::start(KuboOptions::default()).await.unwrap() else { return };
    let proxy = FaultProxy::start(node.address()).await.unwrap();
    let tier = Ipfs::builder(proxy.endpoint())
        .allow_private(true)
        .request_timeout(Duration::from_secs(1))
        .open()
        .unwrap();
    let writer = Writer::new(1);
    let value = support::noise(1, 64 * 1024);
    for (mode, kind) in [
        (Mode::Refuse, ErrorKind::Unavailable),
        (Mode::Tarpit, ErrorKind::Timeout),
        (Mode::Slow(1_000), ErrorKind::Timeout),
    ] {
        tier.put(&key("k"), writer.entry(value.clone())).await.unwrap();
        proxy.set(mode.clone());
        let began = std::time::Instant::now();
        assert_eq!(get(&tier).await.kind(), kind, "{mode:?}");
        assert!(began.elapsed() < Duration::from_secs(5), "{mode:?}: {:?}", began.elapsed());
        proxy.set(Mode::Pass);
        assert_eq!(tier.get(&key("k")).await.unwrap().unwrap().value()[..], value, "{mode:?}");
    }
}
