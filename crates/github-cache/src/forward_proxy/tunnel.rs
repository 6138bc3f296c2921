//! Bytes both ways, until one side ends or nothing has moved for long.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf, copy_bidirectional_with_sizes};

/// What a tunnel holds in memory in each direction, in bytes.
const BUFFER_BYTES: usize = 16 * 1024;

/// Connects the two, for as long as bytes move at least once in `idle`.
pub(crate) async fn tunnel<A, B>(client: A, server: B, idle: Duration) -> io::Result<()>
where
    A: AsyncRead + AsyncWrite + Unpin,
    B: AsyncRead + AsyncWrite + Unpin,
{
    let moved = Arc::new(AtomicU64::new(0));
    let mut client = Counted { stream: client, moved: Arc::clone(&moved) };
    let mut server = Counted { stream: server, moved: Arc::clone(&moved) };
    let copy = copy_bidirectional_with_sizes(&mut client, &mut server, BUFFER_BYTES, BUFFER_BYTES);
    let mut copy = std::pin::pin!(copy);
    loop {
        let before = moved.load(Ordering::Relaxed);
        match tokio::time::timeout(idle, &mut copy).await {
            Ok(ended) => return ended.map(|_| ()),
            Err(_) if moved.load(Ordering::Relaxed) != before => {}
            Err(_) => return Err(io::Error::new(io::ErrorKind::TimedOut, "nothing moved in the tunnel")),
        }
    }
}

/// Counts what is read.
struct Counted<S> {
    stream: S,
    moved: Arc<AtomicU64>,
}

impl<S: AsyncRead + Unpin> AsyncRead for Counted<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buffer.filled().len();
        let read = Pin::new(&mut this.stream).poll_read(context, buffer);
        this.moved.fetch_add((buffer.filled().len() - before) as u64, Ordering::Relaxed);
        read
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Counted<S> {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write(context, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    #[tokio::test(start_paused = true)]
    async fn tunnel_ends_when_nothing_moves_and_not_before() {
        let (mut client, near) = tokio::io::duplex(1000);
        let (far, mut server) = tokio::io::duplex(1000);
        let running = tokio::spawn(tunnel(near, far, Duration::from_secs(60)));
        for _ in 0..10 {
            client.write_all(b"ping").await.unwrap();
            let mut buffer = [0; 4];
            server.read_exact(&mut buffer).await.unwrap();
            tokio::time::sleep(Duration::from_secs(50)).await;
        }
        assert!(!running.is_finished());
        tokio::time::sleep(Duration::from_secs(130)).await;
        assert_eq!(running.await.unwrap().unwrap_err().kind(), io::ErrorKind::TimedOut);
    }
}
