//! A connection whose first bytes were looked at and are read again.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};

/// Holds bytes that were read and not used; reading gives them first.
#[derive(Debug)]
pub(crate) struct Rewound<S> {
    held: BytesMut,
    stream: S,
}

impl<S: AsyncRead + Unpin> Rewound<S> {
    pub(crate) fn new(stream: S) -> Self {
        Self { held: BytesMut::new(), stream }
    }

    /// What is held.
    pub(crate) fn held(&self) -> &[u8] {
        &self.held
    }

    /// Reads more and holds it. `false` at the end. Cancel-safe.
    pub(crate) async fn hold_more(&mut self) -> io::Result<bool> {
        Ok(self.stream.read_buf(&mut self.held).await? > 0)
    }

    /// Takes the first bytes of what is held.
    pub(crate) fn take(&mut self, bytes: usize) -> Bytes {
        self.held.split_to(bytes.min(self.held.len())).freeze()
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Rewound<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.held.is_empty() {
            return Pin::new(&mut this.stream).poll_read(context, buffer);
        }
        let step = this.held.len().min(buffer.remaining());
        buffer.put_slice(&this.held[..step]);
        this.held.advance(step);
        if this.held.is_empty() {
            this.held = BytesMut::new();
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Rewound<S> {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write_vectored(context, bytes)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(context)
    }
}
