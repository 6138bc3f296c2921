//! A client's connection: the slowest that it may read, and request lines that parsers accept.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Buf, Bytes};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};

use crate::rate::{MinimumRate, RateGuard};
use crate::server::request_line::RequestLines;

/// How long a connection that has ended is read on, so that what was answered is not lost.
const LINGER: Duration = Duration::from_secs(2);
/// How much of what a client still sends is thrown away meanwhile, in bytes.
const MAX_LINGER_BYTES: usize = 8 * 1024 * 1024;

/// One client's connection, as the HTTP library gets it.
#[derive(Debug)]
pub(crate) struct ClientStream<S> {
    stream: S,
    /// Bytes that were read and not handed on yet.
    ready: Bytes,
    lines: RequestLines,
    sending: RateGuard,
}

impl<S: AsyncRead + AsyncWrite + Unpin> ClientStream<S> {
    pub(crate) fn new(stream: S, rate: MinimumRate) -> Self {
        Self { stream, ready: Bytes::new(), lines: RequestLines::new(), sending: RateGuard::new(rate) }
    }

    /// Ends the connection so that the last answer arrives: a socket that is closed while the
    /// client still sends is reset, and a reset throws away what the client has not read yet (RFC
    /// 9112, section 9.6).
    pub(crate) async fn linger(mut self) {
        let drain = async {
            self.stream.shutdown().await?;
            let mut rest = [0; 4096];
            let mut bytes = 0;
            while bytes < MAX_LINGER_BYTES {
                match self.stream.read(&mut rest).await? {
                    0 => break,
                    read => bytes += read,
                }
            }
            io::Result::Ok(())
        };
        // Whatever goes wrong here, the connection is over.
        let _over = tokio::time::timeout(LINGER, drain).await;
    }

    fn poll_sent(
        &mut self,
        context: &mut Context<'_>,
        sent: Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        match sent {
            Poll::Ready(Ok(bytes)) => {
                self.sending.moved(bytes);
                Poll::Ready(Ok(bytes))
            }
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Pending => self.sending.poll_waiting(context).map(|_| Err(too_slow())),
        }
    }
}

fn too_slow() -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, "the client reads more slowly than the minimum rate")
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for ClientStream<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.ready.is_empty() {
            let before = buffer.filled().len();
            match Pin::new(&mut this.stream).poll_read(context, buffer) {
                Poll::Ready(Ok(())) => {}
                other => return other,
            }
            let Some(encoded) = this.lines.encode(&buffer.filled()[before..]) else {
                return Poll::Ready(Ok(()));
            };
            buffer.set_filled(before);
            this.ready = encoded.into();
        }
        let step = this.ready.len().min(buffer.remaining());
        buffer.put_slice(&this.ready[..step]);
        this.ready.advance(step);
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for ClientStream<S> {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let sent = Pin::new(&mut this.stream).poll_write(context, bytes);
        this.poll_sent(context, sent)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let sent = Pin::new(&mut this.stream).poll_write_vectored(context, bytes);
        this.poll_sent(context, sent)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        match Pin::new(&mut this.stream).poll_flush(context) {
            // A TLS stream sends what it holds only now.
            Poll::Pending => this.sending.poll_waiting(context).map(|_| Err(too_slow())),
            ready => ready,
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RATE: MinimumRate = MinimumRate { window: Duration::from_secs(30), bytes: 8192 };

    #[tokio::test(start_paused = true)]
    async fn write_to_a_client_that_does_not_read_fails_after_the_window() {
        let (near, _far) = tokio::io::duplex(1000);
        let mut stream = ClientStream::new(near, RATE);
        let begun = tokio::time::Instant::now();
        let error = stream.write_all(&[0; 100_000]).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert!(begun.elapsed() <= Duration::from_secs(31), "{:?}", begun.elapsed());
    }

    #[tokio::test]
    async fn read_in_small_pieces_gives_the_whole_encoded_request() {
        let (near, mut far) = tokio::io::duplex(1000);
        let mut stream = ClientStream::new(near, RATE);
        far.write_all(b"GET /<<<<<<<<>>>> HTTP/1.1\r\n\r\n").await.unwrap();
        drop(far);
        let mut got = Vec::new();
        let mut piece = [0; 3];
        loop {
            let read = stream.read(&mut piece).await.unwrap();
            if read == 0 {
                break;
            }
            got.extend_from_slice(&piece[..read]);
        }
        let expected = format!("GET /{}{} HTTP/1.1\r\n\r\n", "%3C".repeat(8), "%3E".repeat(4));
        assert_eq!(String::from_utf8(got).unwrap(), expected);
    }
}
