//! Connections and places, under clients that do not read or hardly send.

use std::sync::Arc;
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::support::{OK, Origin, Proxy, get, large, quick, small, status};

#[tokio::test(flavor = "multi_thread")]
async fn stalled_readers_are_disconnected_and_others_served() {
    let origin = Origin::fixed(large(3_000_000, true)).await;
    let window = Duration::from_millis(500);
    let proxy = Proxy::with(
        &origin.url,
        |builder| builder,
        |server| server.max_connections(4).max_connections_per_address(4).send_window(window),
    )
    .await;
    let mut stalled = Vec::new();
    for _ in 0..4 {
        let mut stream = small(&proxy).await;
        stream.write_all(get("/big", &proxy).as_bytes()).await.unwrap();
        stalled.push(stream);
    }
    // This one waits in the system's queue until one of them is gone.
    let answer = proxy.ask("HEAD /big", "").await;
    assert_eq!(status(answer.as_bytes()), 200, "{answer}");
}

#[tokio::test]
async fn connections_of_one_address_are_bounded_with_an_answer() {
    let origin = Origin::fixed(OK).await;
    let proxy = Proxy::with(
        &origin.url,
        |builder| builder,
        |server| server.max_connections(10).max_connections_per_address(2),
    )
    .await;
    let held = [proxy.connect().await, proxy.connect().await];
    let refused = loop {
        // The first two have to be accepted before the third.
        let answer = String::from_utf8(proxy.raw(b"").await).unwrap();
        if !answer.is_empty() {
            break answer;
        }
    };
    assert!(refused.starts_with("HTTP/1.1 503 "), "{refused}");
    assert!(refused.contains("Retry-After: 5\r\n"), "{refused}");
    let body = refused.split("\r\n\r\n").nth(1).unwrap();
    assert!(refused.contains(&format!("Content-Length: {}\r\n", body.len())), "{refused}");
    assert!(serde_json::from_str::<serde_json::Value>(body).unwrap()["message"].is_string());
    drop(held);
    let served = loop {
        let answer = proxy.ask("GET /x", "").await;
        if !answer.starts_with("HTTP/1.1 503 ") {
            break answer;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    assert!(served.starts_with("HTTP/1.1 200 "), "{served}");
}

#[tokio::test]
async fn uploads_that_hardly_send_are_given_up_and_leave_places_for_reads() {
    let origin = Origin::fixed(OK).await;
    let limits = {
        let mut limits = quick(Duration::from_secs(1));
        limits.concurrency = 3;
        limits
    };
    let proxy = Proxy::with(&origin.url, |builder| builder.limits(limits), |server| server).await;
    let address = proxy.address;
    let dripping: Vec<_> = (0..6)
        .map(|_| {
            tokio::spawn(async move {
                let mut stream = TcpStream::connect(address).await.unwrap();
                let head = format!(
                    "POST /repos/a/b/x HTTP/1.1\r\nHost: {address}\r\nContent-Length: 100000\r\n\r\n"
                );
                stream.write_all(head.as_bytes()).await.unwrap();
                while stream.write_all(b"x").await.is_ok() {
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            })
        })
        .collect();
    tokio::time::sleep(Duration::from_millis(300)).await;
    let answer = proxy.ask("GET /repos/a/b", "").await;
    assert_eq!(status(answer.as_bytes()), 200, "{answer}");
    for upload in dripping {
        tokio::time::timeout(Duration::from_secs(20), upload).await.expect("it is disconnected").unwrap();
    }
}

#[tokio::test]
async fn upstream_that_hardly_sends_is_given_up() {
    let origin = Origin::start(|mut connection| async move {
        while connection.head().await.is_some() {
            let head = "HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n";
            connection.stream.write_all(head.as_bytes()).await.unwrap();
            while connection.stream.write_all(b"x").await.is_ok() {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    })
    .await;
    let limits = quick(Duration::from_millis(500));
    let proxy = Proxy::with(&origin.url, |builder| builder.limits(limits), |server| server).await;
    let begun = std::time::Instant::now();
    let answer = proxy.ask("GET /x", "").await;
    assert_eq!(status(answer.as_bytes()), 200, "{answer}");
    assert!(answer.len() < 5000, "it was cut");
    assert!(begun.elapsed() < Duration::from_secs(30));
}

#[tokio::test]
async fn clients_of_the_same_address_share_its_upstream_places() {
    let gate = Arc::new(tokio::sync::Semaphore::new(0));
    let waiting = Arc::clone(&gate);
    let origin = Origin::start(move |mut connection| {
        let gate = Arc::clone(&waiting);
        async move {
            while connection.head().await.is_some() {
                gate.acquire().await.unwrap().forget();
                connection.stream.write_all(OK.as_bytes()).await.unwrap();
            }
        }
    })
    .await;
    let mut limits = peercache_github::Limits::default();
    limits.concurrency = 3;
    let proxy = Proxy::with(&origin.url, |builder| builder.limits(limits), |server| server).await;
    let asking: Vec<_> = (0..5)
        .map(|n| {
            let (address, head) = (proxy.address, get(&format!("/x/{n}"), &proxy));
            tokio::spawn(async move {
                let mut stream = TcpStream::connect(address).await.unwrap();
                stream.write_all(head.as_bytes()).await.unwrap();
                crate::support::all(&mut stream, Duration::from_secs(2)).await
            })
        })
        .collect();
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(origin.heads().len(), 2, "two thirds of three places");
    gate.add_permits(5);
    for one in asking {
        assert_eq!(status(&one.await.unwrap()), 200);
    }
}
