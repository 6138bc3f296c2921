//! The socket below Noise: moves more bytes with each system call.
//!
//! Yamux flushes after each of its frames, and Noise's codec reads 8 KiB at a time, so that a value
//! of 1 MiB would take about 65 writes and 130 reads. Here a flush only marks what was written as
//! due. It leaves when the owner comes to read, which the owner of a connection does before it
//! sleeps, when there is [`FULL`] of it, or at the close.

use std::cell::Cell;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use futures_util::io::{AsyncRead, AsyncWrite};

/// How much is gathered before it leaves without a read, in bytes.
const FULL: usize = 128 * 1024;
/// How much is read with one call, in bytes.
const READ_AT_ONCE: usize = 64 * 1024;
/// A buffer of what is to be sent that has more room than this is given up once it is empty, so
/// that a silent connection costs little memory, in bytes.
const KEPT: usize = 4 * 1024;

thread_local! {
    /// A connection has a buffer for reading while there is something in it; this one is the
    /// next's.
    static SPARE: Cell<Option<Box<[u8]>>> = const { Cell::new(None) };
}

/// A socket that gathers what is written, and reads ahead.
///
/// **Its owner must read whenever it has written and before it waits**, as Yamux, Noise's handshake
/// and multistream-select do; otherwise bytes stay here. It holds at most two times [`FULL`] of
/// what is to be sent and [`READ_AT_ONCE`] of what was received. Dropped without a close, it loses
/// what has not left.
#[derive(Debug)]
pub(crate) struct Gathering<S> {
    socket: S,
    outgoing: Outgoing,
    incoming: Option<Incoming>,
}

/// Bytes of which the first `sent` have left.
#[derive(Debug, Default)]
struct Outgoing {
    bytes: Vec<u8>,
    sent: usize,
}

/// What was read ahead: `bytes[from..to]`, never empty.
#[derive(Debug)]
struct Incoming {
    bytes: Box<[u8]>,
    from: usize,
    to: usize,
}

impl Outgoing {
    fn rest(&self) -> &[u8] {
        &self.bytes[self.sent..]
    }

    fn advance(&mut self, sent: usize) {
        self.sent += sent;
        if self.sent < self.bytes.len() {
            return;
        }
        self.sent = 0;
        self.bytes.clear();
        if self.bytes.capacity() > KEPT {
            self.bytes = Vec::new();
        }
    }
}

impl Incoming {
    /// Moves some of it to `buf`, and tells how much.
    fn take(&mut self, buf: &mut [u8]) -> usize {
        let rest = &self.bytes[self.from..self.to];
        let now = rest.len().min(buf.len());
        buf[..now].copy_from_slice(&rest[..now]);
        self.from += now;
        now
    }
}

impl<S> Gathering<S> {
    pub(crate) fn new(socket: S) -> Self {
        Self { socket, outgoing: Outgoing::default(), incoming: None }
    }
}

impl<S: AsyncWrite + Unpin> Gathering<S> {
    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.outgoing.rest().is_empty() {
            match ready!(Pin::new(&mut self.socket).poll_write(cx, self.outgoing.rest()))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                sent => self.outgoing.advance(sent),
            }
        }
        Pin::new(&mut self.socket).poll_flush(cx)
    }
}

impl<S: AsyncRead + Unpin> Gathering<S> {
    /// Reads as much as the system has, up to [`READ_AT_ONCE`].
    fn poll_fetch(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Option<Incoming>>> {
        let mut bytes = SPARE.take().unwrap_or_else(|| vec![0; READ_AT_ONCE].into_boxed_slice());
        match Pin::new(&mut self.socket).poll_read(cx, &mut bytes) {
            Poll::Ready(Ok(to @ 1..)) => Poll::Ready(Ok(Some(Incoming { bytes, from: 0, to }))),
            other => {
                SPARE.set(Some(bytes));
                other.map_ok(|_| None)
            }
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for Gathering<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        // The system's buffer may be full; its waker is set then, and reading goes on meanwhile.
        if let Poll::Ready(Err(error)) = self.poll_send(cx) {
            return Poll::Ready(Err(error));
        }
        let mut incoming = match self.incoming.take() {
            Some(incoming) => incoming,
            None => match ready!(self.poll_fetch(cx))? {
                Some(incoming) => incoming,
                None => return Poll::Ready(Ok(0)),
            },
        };
        let read = incoming.take(buf);
        if incoming.from < incoming.to {
            self.incoming = Some(incoming);
        } else {
            SPARE.set(Some(incoming.bytes));
        }
        Poll::Ready(Ok(read))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Gathering<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        if self.outgoing.rest().len() >= FULL {
            ready!(self.poll_send(cx))?;
        }
        let now = buf.len().min(FULL);
        self.outgoing.bytes.extend_from_slice(&buf[..now]);
        Poll::Ready(Ok(now))
    }

    /// Ready at once: what was written is due, and leaves with the next read.
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_send(cx))?;
        Pin::new(&mut self.socket).poll_close(cx)
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use futures_util::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::io::{DuplexStream, duplex};
    use tokio_util::compat::{Compat, TokioAsyncReadCompatExt};

    use super::*;

    type Socket = Gathering<Compat<DuplexStream>>;

    /// A socket, and its other end.
    fn pair(room: usize) -> (Socket, Compat<DuplexStream>) {
        let (ours, theirs) = duplex(room);
        (Gathering::new(ours.compat()), theirs.compat())
    }

    /// Reads once, without waiting.
    async fn try_read(socket: &mut (impl AsyncRead + Unpin), buf: &mut [u8]) -> Option<usize> {
        poll_fn(|cx| match Pin::new(&mut *socket).poll_read(cx, buf) {
            Poll::Ready(read) => Poll::Ready(Some(read.unwrap())),
            Poll::Pending => Poll::Ready(None),
        })
        .await
    }

    #[tokio::test]
    async fn what_was_written_leaves_together_when_the_owner_reads() {
        let (mut socket, mut other) = pair(1 << 20);
        let mut got = [0; 64];
        for _ in 0..3 {
            socket.write_all(b"frame").await.unwrap();
            socket.flush().await.unwrap();
        }
        assert_eq!(try_read(&mut other, &mut got).await, None, "nothing leaves before");
        assert_eq!(try_read(&mut socket, &mut [0; 8]).await, None);
        assert_eq!(try_read(&mut other, &mut got).await, Some(15));
        assert_eq!(&got[..15], b"frameframeframe");
    }

    #[tokio::test]
    async fn much_leaves_without_a_read_and_no_more_is_held_than_the_bound() {
        let (mut socket, _other) = pair(1024);
        let written = poll_fn(|cx| {
            let mut written = 0;
            while let Poll::Ready(taken) = Pin::new(&mut socket).poll_write(cx, &[7; 3 * FULL]) {
                written += taken.unwrap();
            }
            Poll::Ready(written)
        })
        .await;
        assert!(socket.outgoing.rest().len() <= 2 * FULL);
        assert_eq!(written, socket.outgoing.rest().len() + 1024, "what the other end has room for has left");
    }

    #[tokio::test]
    async fn bytes_pass_whole_both_ways_through_a_narrow_pipe() {
        let (mut socket, mut other) = pair(1000);
        let sent: Vec<u8> = (0..300_000_u32).map(|at| (at % 251) as u8).collect();
        let echo = async {
            let mut all = vec![0; sent.len()];
            other.read_exact(&mut all).await.unwrap();
            other.write_all(&all).await.unwrap();
            other.close().await.unwrap();
        };
        let ours = async {
            socket.write_all(&sent).await.unwrap();
            let mut back = Vec::new();
            socket.read_to_end(&mut back).await.unwrap();
            assert!(back == sent);
        };
        tokio::join!(echo, ours);
    }

    #[tokio::test]
    async fn what_was_read_ahead_is_handed_out_before_the_end() {
        let (mut socket, mut other) = pair(1 << 20);
        other.write_all(b"0123456789").await.unwrap();
        other.close().await.unwrap();
        let mut got = [0; 4];
        let mut reads = Vec::new();
        while let Some(read @ 1..) = try_read(&mut socket, &mut got).await {
            reads.push(got[..read].to_vec());
        }
        assert_eq!(reads, [&b"0123"[..], b"4567", b"89"]);
        assert_eq!(try_read(&mut socket, &mut got).await, Some(0), "the end stays the end");
    }

    #[tokio::test]
    async fn a_close_sends_what_waits() {
        let (mut socket, mut other) = pair(1 << 20);
        socket.write_all(b"farewell").await.unwrap();
        socket.close().await.unwrap();
        let mut got = Vec::new();
        other.read_to_end(&mut got).await.unwrap();
        assert_eq!(got, b"farewell");
    }

    #[tokio::test]
    async fn a_broken_socket_is_an_error_for_the_reader_too() {
        let (mut socket, other) = pair(1 << 20);
        drop(other);
        socket.write_all(b"nobody").await.unwrap();
        let error = socket.read(&mut [0; 8]).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
    }

    #[tokio::test]
    async fn an_idle_socket_keeps_no_large_buffer() {
        let (mut socket, mut other) = pair(1 << 20);
        socket.write_all(&[1; 50_000]).await.unwrap();
        other.write_all(&[2; 50_000]).await.unwrap();
        socket.read_exact(&mut vec![0; 50_000]).await.unwrap();
        assert!(socket.outgoing.bytes.capacity() <= KEPT);
        assert!(socket.incoming.is_none());
    }
}
