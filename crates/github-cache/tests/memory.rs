//! What the process has in memory while clients do not read. A process of its own: memory is
//! counted for all that runs in it.

#![allow(clippy::unwrap_used, reason = "in a test, what cannot be unwrapped is a failure")]

#[path = "hostile/support.rs"]
#[allow(dead_code, reason = "the other tests use the rest")]
mod support;

use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::sync::Mutex;

use crate::support::{Origin, Proxy, get, large, small, status};

/// Memory is the process's, so one test at a time looks at it.
static ALONE: Mutex<()> = Mutex::const_new(());

fn resident_mib() -> u64 {
    peercache_testkit::memory::resident_kib(std::process::id()).unwrap() / 1024
}

/// Waits until the process's memory does not grow any more.
async fn settled_mib() -> u64 {
    let mut before = 0;
    loop {
        let now = resident_mib();
        if now <= before {
            return now;
        }
        before = now;
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn stalled_reader_of_a_large_download_holds_little_memory() {
    let _alone = ALONE.lock().await;
    let origin = Origin::start(|mut connection| async move {
        connection.head().await;
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", 400 << 20);
        connection.stream.write_all(head.as_bytes()).await.unwrap();
        let piece = vec![b'z'; 65536];
        for _ in 0..6400 {
            if connection.stream.write_all(&piece).await.is_err() {
                return;
            }
        }
    })
    .await;
    let proxy = Proxy::start(&origin.url).await;
    let before = resident_mib();
    let mut stream = small(&proxy).await;
    stream.write_all(get("/stream", &proxy).as_bytes()).await.unwrap();
    tokio::time::sleep(Duration::from_secs(1)).await;
    let after = settled_mib().await;
    assert!(after < before + 16, "{before} MiB before, {after} after");
}

#[tokio::test(flavor = "multi_thread")]
async fn stalled_readers_of_one_stored_body_share_it() {
    let _alone = ALONE.lock().await;
    let origin = Origin::fixed(large(3_000_000, true)).await;
    let proxy = Proxy::start(&origin.url).await;
    assert_eq!(status(proxy.ask("GET /big", "").await.as_bytes()), 200);
    let before = resident_mib();
    let mut stalled = Vec::new();
    for _ in 0..200 {
        let mut stream = small(&proxy).await;
        stream.write_all(get("/big", &proxy).as_bytes()).await.unwrap();
        stalled.push(stream);
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    let after = settled_mib().await;
    assert!(after < before + 50, "200 connections of 256 KiB: {before} MiB before, {after} after");
}
