//! The load: connections that ask for the same thing over and over, one request at a time each.

use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

/// The largest head of an answer.
const MAX_HEAD_BYTES: usize = 16 * 1024;
/// A turn that is over, but whose answers do not come, ends after this.
const ENDS_WITHIN: Duration = Duration::from_secs(30);

/// A server, and the body that every answer has to have.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    pub(crate) address: SocketAddr,
    pub(crate) body: Bytes,
}

/// What a turn came to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Outcome {
    pub(crate) per_second: f64,
    pub(crate) p50_micros: f64,
    pub(crate) p99_micros: f64,
}

/// Asks over this many connections for this long.
pub(crate) async fn turn(target: &Target, connections: usize, length: Duration) -> io::Result<Outcome> {
    let mut clients = JoinSet::new();
    let begun = Instant::now();
    for _ in 0..connections {
        clients.spawn(client(target.clone(), begun + length));
    }
    let mut took: Vec<u32> = Vec::new();
    let all = async {
        while let Some(client) = clients.join_next().await {
            took.extend(client.map_err(io::Error::other)??);
        }
        Ok::<_, io::Error>(())
    };
    tokio::time::timeout(length + ENDS_WITHIN, all).await.map_err(io::Error::other)??;
    let seconds = begun.elapsed().as_secs_f64();
    took.sort_unstable();
    let at =
        |percent: usize| took.get(took.len() * percent / 100).map_or(f64::NAN, |micros| f64::from(*micros));
    let count = u32::try_from(took.len()).map_err(io::Error::other)?;
    Ok(Outcome { per_second: f64::from(count) / seconds, p50_micros: at(50), p99_micros: at(99) })
}

/// Asks over one connection until then. Gives the microseconds that each answer took.
async fn client(target: Target, until: Instant) -> io::Result<Vec<u32>> {
    let mut stream = TcpStream::connect(target.address).await?;
    stream.set_nodelay(true)?;
    let request = format!(
        "GET /repos/octo-org/octo-repo/contents/package.json HTTP/1.1\r\nHost: {}\r\n\
         Authorization: token ghs_16C7e42F292c6912E7710c838347Ae178B4a\r\n\
         Accept: application/vnd.github+json\r\nUser-Agent: bench\r\n\r\n",
        target.address
    );
    let mut took = Vec::new();
    let mut buffer = vec![0; MAX_HEAD_BYTES + target.body.len()];
    while Instant::now() < until {
        let begun = Instant::now();
        stream.write_all(request.as_bytes()).await?;
        answer(&mut stream, &mut buffer, &target.body).await?;
        took.push(u32::try_from(begun.elapsed().as_micros()).unwrap_or(u32::MAX));
    }
    Ok(took)
}

/// Reads one answer, and checks it.
async fn answer(stream: &mut TcpStream, buffer: &mut [u8], body: &[u8]) -> io::Result<()> {
    let mut filled = 0;
    loop {
        let head = buffer.get(..filled).and_then(|read| read.windows(4).position(|end| end == b"\r\n\r\n"));
        if let Some(head) = head {
            let (head, rest) = buffer.split_at(head + 4);
            let length = length_of(head)?;
            if length != body.len() {
                return Err(wrong(&format!("an answer has {length} bytes, {} were expected", body.len())));
            }
            if filled >= head.len() + length {
                let same = filled == head.len() + length && rest.get(..length) == Some(body);
                return if same { Ok(()) } else { Err(wrong("an answer has another body")) };
            }
        }
        let read = match buffer.get_mut(filled..) {
            Some(free) if !free.is_empty() => stream.read(free).await?,
            _ => return Err(wrong("an answer is too long")),
        };
        if read == 0 {
            return Err(wrong("a connection was closed"));
        }
        filled += read;
    }
}

fn length_of(head: &[u8]) -> io::Result<usize> {
    let text = std::str::from_utf8(head).map_err(io::Error::other)?;
    if !text.starts_with("HTTP/1.1 200 ") {
        return Err(wrong(text.lines().next().unwrap_or_default()));
    }
    let length = text.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse().ok())?
    });
    length.ok_or_else(|| wrong("an answer has no Content-Length"))
}

fn wrong(what: &str) -> io::Error {
    io::Error::other(what.to_owned())
}
