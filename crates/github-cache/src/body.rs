//! Bodies of responses: bytes from the store, or a pipe that is filled while upstream is read.

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use tokio::sync::Notify;

use crate::body_rewrite::JsonRewriter;

/// How many bytes a pipe holds before whoever fills it has to wait: 128 KiB. With one more piece,
/// and what the HTTP library and its own buffer hold, a connection has at most 256 KiB that its
/// client did not read.
pub(crate) const PIPE_BYTES: usize = 128 * 1024;
/// The largest piece that is handed to a connection at once: 32 KiB. The library takes whole
/// pieces.
const PIECE_BYTES: usize = 32 * 1024;

/// The body of a response of the proxy.
#[derive(Debug)]
pub struct ResponseBody(Kind);

#[derive(Debug)]
enum Kind {
    Full(Option<Bytes>),
    Pipe(PipeReader),
    Rewritten(Box<Rewritten>),
}

impl ResponseBody {
    /// No bytes.
    pub(crate) const fn empty() -> Self {
        Self(Kind::Full(None))
    }

    /// These bytes.
    pub(crate) fn full(bytes: Bytes) -> Self {
        Self(Kind::Full(Some(bytes).filter(|bytes| !bytes.is_empty())))
    }

    /// This body with the API's URLs turned.
    pub(crate) fn rewritten(self, rewriter: JsonRewriter) -> Self {
        match self.0 {
            Kind::Full(None) => self,
            _ => Self(Kind::Rewritten(Box::new(Rewritten { body: self, rewriter, ended: false }))),
        }
    }

    /// What comes through a pipe.
    pub(crate) const fn pipe(reader: PipeReader) -> Self {
        Self(Kind::Pipe(reader))
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        match &mut self.get_mut().0 {
            Kind::Full(rest) => Poll::Ready(rest.take().map(|mut bytes| {
                let piece = next_piece(&mut bytes);
                *rest = Some(bytes).filter(|bytes| !bytes.is_empty());
                Ok(Frame::data(piece))
            })),
            Kind::Pipe(reader) => reader.poll(context),
            Kind::Rewritten(rewritten) => rewritten.poll(context),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.0 {
            Kind::Full(bytes) => bytes.is_none(),
            Kind::Pipe(reader) => reader.is_at_end(),
            Kind::Rewritten(rewritten) => rewritten.ended,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            Kind::Full(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64)),
            Kind::Pipe(_) | Kind::Rewritten(_) => SizeHint::default(),
        }
    }
}

/// A body whose URLs are turned while it passes.
#[derive(Debug)]
struct Rewritten {
    body: ResponseBody,
    rewriter: JsonRewriter,
    ended: bool,
}

impl Rewritten {
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        while !self.ended {
            let piece = match Pin::new(&mut self.body).poll_frame(context) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Some(Err(error))) => return Poll::Ready(Some(Err(error))),
                Poll::Ready(Some(Ok(frame))) => match frame.into_data() {
                    Ok(bytes) => self.rewriter.piece(&bytes),
                    Err(_) => continue,
                },
                Poll::Ready(None) => {
                    self.ended = true;
                    self.rewriter.end()
                }
            };
            if !piece.is_empty() {
                return Poll::Ready(Some(Ok(Frame::data(piece.into()))));
            }
        }
        Poll::Ready(None)
    }
}

fn next_piece(bytes: &mut Bytes) -> Bytes {
    bytes.split_to(bytes.len().min(PIECE_BYTES))
}

#[derive(Default)]
struct State {
    queue: VecDeque<Bytes>,
    bytes: usize,
    /// Set when nothing more will come: whole, or broken off.
    end: Option<Result<(), ()>>,
    reader_gone: bool,
    waker: Option<Waker>,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    space: Notify,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pipe").field("bytes", &self.lock().bytes).finish_non_exhaustive()
    }
}

/// A pipe between the task that reads upstream and the client's connection, bounded in bytes.
pub(crate) fn pipe() -> (PipeWriter, PipeReader) {
    let shared = Arc::new(Shared::default());
    (PipeWriter(Arc::clone(&shared)), PipeReader(shared))
}

/// The reader went away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Closed;

/// Fills a pipe. Dropped without [`PipeWriter::finish`], the reader gets an error instead of an
/// end, so a body that was cut is never taken for a whole one.
#[derive(Debug)]
pub(crate) struct PipeWriter(Arc<Shared>);

impl PipeWriter {
    /// Adds bytes, after waiting until fewer than `most` are on the way. Cancel-safe: cancelled, it
    /// has added nothing.
    pub(crate) async fn push(&self, bytes: Bytes, most: usize) -> Result<(), Closed> {
        if bytes.is_empty() {
            return Ok(());
        }
        loop {
            let space = self.0.space.notified();
            {
                let mut state = self.0.lock();
                if state.reader_gone {
                    return Err(Closed);
                }
                if state.bytes < most {
                    state.bytes += bytes.len();
                    state.queue.push_back(bytes);
                    wake(state);
                    return Ok(());
                }
            }
            space.await;
        }
    }

    /// Says that this was the whole body.
    pub(crate) fn finish(self) {
        let mut state = self.0.lock();
        state.end.get_or_insert(Ok(()));
        wake(state);
    }
}

impl Drop for PipeWriter {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        state.end.get_or_insert(Err(()));
        wake(state);
    }
}

fn wake(mut state: MutexGuard<'_, State>) {
    let waker = state.waker.take();
    drop(state);
    if let Some(waker) = waker {
        waker.wake();
    }
}

/// Reads a pipe.
#[derive(Debug)]
pub(crate) struct PipeReader(Arc<Shared>);

impl PipeReader {
    fn poll(&self, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        let mut state = self.0.lock();
        if let Some(bytes) = state.queue.front_mut() {
            let bytes = next_piece(bytes);
            if state.queue.front().is_some_and(Bytes::is_empty) {
                state.queue.pop_front();
            }
            state.bytes -= bytes.len();
            drop(state);
            self.0.space.notify_one();
            return Poll::Ready(Some(Ok(Frame::data(bytes))));
        }
        match state.end {
            Some(Ok(())) => Poll::Ready(None),
            Some(Err(())) => Poll::Ready(Some(Err(io::Error::new(
                io::ErrorKind::UnexpectedEof,
                "the upstream server broke off in the middle of the body",
            )))),
            None => {
                state.waker = Some(context.waker().clone());
                Poll::Pending
            }
        }
    }

    fn is_at_end(&self) -> bool {
        let state = self.0.lock();
        state.queue.is_empty() && state.end == Some(Ok(()))
    }
}

impl Drop for PipeReader {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        state.reader_gone = true;
        state.queue.clear();
        state.bytes = 0;
        drop(state);
        self.0.space.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::BodyExt;

    #[tokio::test]
    async fn what_is_pushed_is_read_in_order() {
        let (writer, reader) = pipe();
        writer.push(Bytes::from_static(b"ab"), 10).await.unwrap();
        writer.push(Bytes::from_static(b"c"), 10).await.unwrap();
        writer.finish();
        let body = ResponseBody::pipe(reader).collect().await.unwrap().to_bytes();
        assert_eq!(&body[..], b"abc");
    }

    #[tokio::test]
    async fn large_bodies_are_handed_on_in_pieces() {
        let whole = Bytes::from(vec![7; 3 * PIECE_BYTES + 1]);
        let (writer, reader) = pipe();
        writer.push(whole.clone(), usize::MAX).await.unwrap();
        writer.finish();
        for mut body in [ResponseBody::full(whole.clone()), ResponseBody::pipe(reader)] {
            let mut sizes = Vec::new();
            while let Some(frame) = body.frame().await {
                assert!(!body.is_end_stream() || sizes.len() == 3);
                sizes.push(frame.unwrap().into_data().unwrap().len());
            }
            assert_eq!(sizes, [PIECE_BYTES, PIECE_BYTES, PIECE_BYTES, 1]);
        }
    }

    #[tokio::test]
    async fn a_writer_that_goes_away_is_an_error_and_not_an_end() {
        let (writer, reader) = pipe();
        writer.push(Bytes::from_static(b"ab"), 10).await.unwrap();
        drop(writer);
        let error = ResponseBody::pipe(reader).collect().await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
    }

    #[tokio::test]
    async fn a_full_pipe_makes_the_writer_wait_until_it_is_read_or_dropped() {
        let (writer, reader) = pipe();
        let chunk = Bytes::from_static(&[0; 8]);
        writer.push(chunk.clone(), 8).await.unwrap();
        let mut second = Box::pin(writer.push(chunk.clone(), 8));
        assert!(futures_util::poll!(&mut second).is_pending());
        let mut body = ResponseBody::pipe(reader);
        body.frame().await.unwrap().unwrap();
        second.await.unwrap();
        let mut third = Box::pin(writer.push(chunk, 8));
        assert!(futures_util::poll!(&mut third).is_pending());
        drop(body);
        assert_eq!(third.await, Err(Closed));
    }
}
