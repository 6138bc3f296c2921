//! The server: sockets, header names, draining.

use std::time::Duration;

use peercache_github::{ServeError, Server};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::oneshot;

use crate::support::hub;

const GET: &[u8] = b"GET /x HTTP/1.1\r\nHost: proxy.test\r\nConnection: close\r\n\r\n";

async fn ask(mut stream: impl AsyncReadExt + AsyncWriteExt + Unpin) -> String {
    stream.write_all(GET).await.unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).await.unwrap();
    text
}

#[tokio::test]
async fn tcp_and_unix_socket_with_header_names_as_people_write_them() {
    let (_, _, rig) = hub().await;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("proxy.sock");
    let mut server = Server::new(rig.proxy.clone());
    let address = server.listen_tcp(([127, 0, 0, 1], 0).into()).await.unwrap();
    server.listen_unix(&path, 0o600).unwrap();
    let (stop, stopped) = oneshot::channel::<()>();
    let serving = tokio::spawn(server.serve(async { drop(stopped.await) }));
    let miss = ask(TcpStream::connect(address).await.unwrap()).await;
    assert!(miss.starts_with("HTTP/1.1 200 OK\r\n"), "{miss}");
    assert!(miss.contains("\r\nCache-Status: peercache; fwd=uri-miss; fwd-status=200; stored\r\n"), "{miss}");
    let hit = ask(UnixStream::connect(&path).await.unwrap()).await;
    assert!(hit.contains("\r\nCache-Status: peercache; hit; ttl=60; detail=memory\r\n"), "{hit}");
    assert!(hit.ends_with("{\"path\":\"/x\",\"version\":0}"), "{hit}");
    stop.send(()).unwrap();
    assert_eq!(serving.await.unwrap().unwrap().aborted, 0);
    assert!(!path.exists());
}

#[tokio::test]
async fn stopping_refuses_new_connections_and_lets_running_requests_end() {
    let (_, origin, rig) = hub().await;
    let mut server = Server::new(rig.proxy.clone());
    let address = server.listen_tcp(([127, 0, 0, 1], 0).into()).await.unwrap();
    let (stop, stopped) = oneshot::channel::<()>();
    let serving = tokio::spawn(server.serve(async { drop(stopped.await) }));
    origin.hold();
    let running = tokio::spawn(async move { ask(TcpStream::connect(address).await.unwrap()).await });
    let idle = TcpStream::connect(address).await.unwrap();
    origin.arrived(1).await;
    stop.send(()).unwrap();
    while TcpStream::connect(address).await.is_ok() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert!(!serving.is_finished(), "a request is running");
    origin.release();
    assert!(running.await.unwrap().starts_with("HTTP/1.1 200 OK\r\n"));
    assert_eq!(serving.await.unwrap().unwrap().aborted, 0);
    drop(idle);
}

#[tokio::test]
async fn requests_that_take_too_long_are_cut_off() {
    let (_, origin, rig) = hub().await;
    let mut server = Server::new(rig.proxy.clone()).drain_timeout(Duration::from_millis(50));
    let address = server.listen_tcp(([127, 0, 0, 1], 0).into()).await.unwrap();
    let (stop, stopped) = oneshot::channel::<()>();
    let serving = tokio::spawn(server.serve(async { drop(stopped.await) }));
    origin.hold();
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(GET).await.unwrap();
    origin.arrived(1).await;
    stop.send(()).unwrap();
    assert_eq!(serving.await.unwrap().unwrap().aborted, 1);
}

#[tokio::test]
async fn a_head_that_never_ends_is_given_up_and_a_huge_one_refused() {
    let (_, _, rig) = hub().await;
    let mut server =
        Server::new(rig.proxy.clone()).head_timeout(Duration::from_millis(50)).max_connections(1);
    let address = server.listen_tcp(([127, 0, 0, 1], 0).into()).await.unwrap();
    let serving = tokio::spawn(server.serve(std::future::pending()));
    let mut slow = TcpStream::connect(address).await.unwrap();
    slow.write_all(b"GET / HTTP/1.1\r\nX-Slow:").await.unwrap();
    let mut rest = Vec::new();
    // It holds the only place; when it is given up, the next one is served.
    slow.read_to_end(&mut rest).await.ok();
    assert!(!rest.starts_with(b"HTTP/1.1 200"));
    let mut huge = TcpStream::connect(address).await.unwrap();
    let head = format!("GET / HTTP/1.1\r\nX-Huge: {}\r\n\r\n", "x".repeat(200 * 1024));
    huge.write_all(head.as_bytes()).await.ok();
    let mut answer = Vec::new();
    huge.read_to_end(&mut answer).await.ok();
    assert!(!answer.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&answer));
    serving.abort();
}

#[tokio::test]
async fn a_server_without_a_listener_and_a_busy_port_are_errors() {
    let (_, origin, rig) = hub().await;
    let nothing = Server::new(rig.proxy.clone()).serve(std::future::pending()).await;
    assert!(matches!(nothing, Err(ServeError::NoListener)));
    let busy = Server::new(rig.proxy.clone()).listen_tcp(origin.address).await.unwrap_err();
    assert!(busy.to_string().contains(&origin.address.to_string()), "{busy}");
}
