//! Servers that answer before an upload is whole, or close a connection that was kept open.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::support::{OK, Origin, Proxy, status};

const TOO_LARGE: &str = "HTTP/1.1 413 Payload Too Large\r\nContent-Type: application/json\r\n\
    Connection: close\r\nContent-Length: 23\r\n\r\n{\"message\":\"too large\"}";

/// Sends a large body and looks for the answer meanwhile, as curl and Go do.
async fn upload(proxy: &Proxy, bytes: usize) -> Vec<u8> {
    let stream = proxy.connect().await;
    let (mut reading, mut writing) = stream.into_split();
    let head = format!("POST /u HTTP/1.1\r\nHost: {}\r\nContent-Length: {bytes}\r\n\r\n", proxy.address);
    let sending = tokio::spawn(async move {
        writing.write_all(head.as_bytes()).await.ok();
        let piece = vec![b'z'; 65536];
        let mut left = bytes;
        while left > 0 && writing.write_all(&piece[..left.min(65536)]).await.is_ok() {
            left -= left.min(65536);
        }
        writing
    });
    let mut answer = Vec::new();
    let mut buffer = [0; 4096];
    while !answer.ends_with(b"}") {
        match tokio::time::timeout(Duration::from_secs(10), reading.read(&mut buffer)).await {
            Ok(Ok(read)) if read > 0 => answer.extend_from_slice(&buffer[..read]),
            _ => break,
        }
    }
    sending.abort();
    answer
}

#[tokio::test(flavor = "multi_thread")]
async fn early_answer_to_an_upload_reaches_the_client() {
    for ending in ["reads on", "closes its side", "closes with unread data"] {
        let origin = Origin::start(move |mut connection| async move {
            connection.head().await;
            let mut buffer = vec![0; 200_000];
            connection.stream.read_exact(&mut buffer).await.ok();
            connection.stream.write_all(TOO_LARGE.as_bytes()).await.ok();
            match ending {
                "closes with unread data" => return,
                "closes its side" => connection.stream.shutdown().await.unwrap(),
                _ => {}
            }
            while connection.stream.read(&mut buffer).await.is_ok_and(|read| read > 0) {}
        })
        .await;
        let proxy = Proxy::start(&origin.url).await;
        for attempt in 0..10 {
            let answer = upload(&proxy, 8_000_000).await;
            let text = String::from_utf8_lossy(&answer).into_owned();
            assert_eq!(status(&answer), 413, "{ending}, attempt {attempt}: {text}");
        }
    }
}

#[tokio::test]
async fn write_does_not_use_a_connection_that_the_server_is_closing() {
    // It keeps each connection for one answer more than it will give.
    let origin = Origin::start(|mut connection| async move {
        let Some(head) = connection.head().await else { return };
        connection.body(&head).await;
        connection.stream.write_all(OK.as_bytes()).await.unwrap();
        connection.head().await;
    })
    .await;
    let proxy = Proxy::start(&origin.url).await;
    for n in 0..10 {
        proxy.ask(&format!("GET /x/{n}"), "").await;
        let answer = proxy.ask("POST /y", "").await;
        assert_eq!(status(answer.as_bytes()), 200, "{answer}");
    }
    let written = origin.heads().iter().filter(|head| head.starts_with("POST ")).count();
    assert_eq!(written, 10, "none was sent twice");
}
