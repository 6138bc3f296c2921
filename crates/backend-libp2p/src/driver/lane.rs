//! One lane: reads and writes one stream in one task, so that an answer leaves without another task
//! being woken, and reading never waits for writing.

use std::cell::RefCell;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::io::{AsyncRead, AsyncWrite};
use tokio::time::Sleep;

use super::incoming::{Broken, Incoming};
use super::outgoing::{Out, Outgoing, SMALL_BYTES};
use super::queue::Queue;
use crate::wire::Message;

/// A peer that in this time neither finishes a frame that it has begun nor takes [`SMALL_BYTES`] of
/// what waits for it is too slow to be of use, and is dropped.
pub(crate) const PROGRESS_LIMIT: Duration = Duration::from_secs(10);

/// How much is read before it is handed over, in bytes.
const READ_AT_ONCE: usize = 256 * 1024;
/// How often a lane goes on before it lets others run.
const ROUNDS: usize = 8;

thread_local! {
    /// Bytes are read here first: no connection has a buffer of its own while it is silent.
    static SCRATCH: RefCell<Box<[u8]>> = RefCell::new(vec![0; 64 * 1024].into_boxed_slice());
}

/// Why a lane ended.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LaneEnd {
    /// The other side closed it, or the connection is gone.
    #[error("the connection ended")]
    Closed,
    /// It moved too little for [`PROGRESS_LIMIT`].
    #[error("it was too slow")]
    Stalled,
    #[error("{0}")]
    Broken(Broken),
}

/// What was moved, in bytes, over both lanes, and how much goes on beside.
#[derive(Debug, Default)]
pub(crate) struct Traffic {
    /// Whether several of this node's own operations are under way.
    pub(crate) crowded: Arc<AtomicBool>,
    pub(crate) read: AtomicU64,
    pub(crate) written: AtomicU64,
}

/// A lane at work. It ends when the stream does.
pub(crate) struct Lane<S, I, O, F> {
    stream: S,
    incoming: I,
    outgoing: O,
    out: Out,
    unflushed: bool,
    /// Whether others were let run before what waits was written.
    deferred: bool,
    queue: Arc<Queue>,
    traffic: Arc<Traffic>,
    messages: Vec<Message>,
    deliver: F,
    watch: Watch,
}

/// Notices when nothing moves although something should.
#[derive(Default)]
struct Watch {
    alarm: Option<Pin<Box<Sleep>>>,
    at_last: Mark,
    written: u64,
    drained: u64,
}

#[derive(Clone, Copy, Default)]
struct Mark {
    /// Frames read to their end, if one was begun.
    reading: Option<u64>,
    /// Bytes written and how often there was nothing left to write, if there was.
    writing: Option<(u64, u64)>,
}

impl<S, I, O, F> Lane<S, I, O, F>
where
    S: AsyncRead + AsyncWrite + Unpin,
    I: Incoming,
    O: Outgoing,
    F: FnMut(&mut Vec<Message>) + Unpin,
{
    /// Messages that come together are given to `deliver` together, which takes them all.
    pub(crate) fn new(
        stream: S,
        incoming: I,
        outgoing: O,
        queue: Arc<Queue>,
        traffic: Arc<Traffic>,
        deliver: F,
    ) -> Self {
        Self {
            stream,
            incoming,
            outgoing,
            out: Out::default(),
            unflushed: false,
            deferred: false,
            queue,
            traffic,
            messages: Vec::new(),
            deliver,
            watch: Watch::default(),
        }
    }

    /// Writes `bytes` before everything else.
    pub(crate) fn beginning_with(mut self, bytes: &[u8]) -> Self {
        self.out.put(bytes);
        self
    }

    /// Reads what is there, up to a bound, and hands over what is whole; whether there was
    /// anything.
    fn read(&mut self, cx: &mut Context<'_>) -> Result<bool, LaneEnd> {
        let mut total = 0;
        let end = SCRATCH.with_borrow_mut(|scratch| {
            while total < READ_AT_ONCE {
                match Pin::new(&mut self.stream).poll_read(cx, scratch) {
                    Poll::Pending => break,
                    Poll::Ready(Ok(0) | Err(_)) => return Err(LaneEnd::Closed),
                    Poll::Ready(Ok(read)) => {
                        total += read;
                        self.incoming.take(&scratch[..read], &mut self.messages).map_err(LaneEnd::Broken)?;
                    }
                }
            }
            Ok(())
        });
        self.traffic.read.fetch_add(total as u64, Ordering::Relaxed);
        if !self.messages.is_empty() {
            // What is answered at once leaves with this poll.
            self.queue.hush();
            (self.deliver)(&mut self.messages);
            self.messages.clear();
        }
        end.map(|()| total > 0)
    }

    /// Writes what waits until there is nothing left or no room.
    fn write(&mut self, cx: &mut Context<'_>) -> Result<(), LaneEnd> {
        self.queue.register(cx.waker());
        loop {
            self.outgoing.fill(&self.queue, &mut self.out);
            if self.out.len() == 0 {
                self.watch.drained += 1;
                break;
            }
            match self.out.poll_write(&mut self.stream, cx) {
                Poll::Pending => break,
                Poll::Ready(Err(_)) => return Err(LaneEnd::Closed),
                Poll::Ready(Ok(written)) => {
                    self.unflushed = true;
                    self.watch.written += written as u64;
                    self.traffic.written.fetch_add(written as u64, Ordering::Relaxed);
                }
            }
        }
        if self.unflushed {
            match Pin::new(&mut self.stream).poll_flush(cx) {
                Poll::Pending => {}
                Poll::Ready(Err(_)) => return Err(LaneEnd::Closed),
                Poll::Ready(Ok(())) => self.unflushed = false,
            }
        }
        Ok(())
    }

    /// Called when nothing more can be done now.
    fn watch(&mut self, cx: &mut Context<'_>) -> Result<(), LaneEnd> {
        let writing = self.out.len() > 0 || !self.outgoing.is_empty();
        let now = Mark {
            reading: self.incoming.unfinished().then_some(self.incoming.finished()),
            writing: writing.then_some((self.watch.written, self.watch.drained)),
        };
        loop {
            let Some(alarm) = &mut self.watch.alarm else {
                if now.reading.is_none() && now.writing.is_none() {
                    return Ok(());
                }
                self.watch.at_last = now;
                self.watch.alarm = Some(Box::pin(tokio::time::sleep(PROGRESS_LIMIT)));
                continue;
            };
            if alarm.as_mut().poll(cx).is_pending() {
                return Ok(());
            }
            self.watch.alarm = None;
            if now.stuck_since(self.watch.at_last) {
                return Err(LaneEnd::Stalled);
            }
        }
    }
}

impl Mark {
    /// Whether both marks are of the same frame, or of the same heap of bytes of which too few
    /// went.
    fn stuck_since(self, before: Self) -> bool {
        let reading = self.reading.is_some() && self.reading == before.reading;
        let writing = match (before.writing, self.writing) {
            (Some((before, drained)), Some((now, still))) => {
                drained == still && now - before < SMALL_BYTES as u64
            }
            _ => false,
        };
        reading || writing
    }
}

impl<S, I, O, F> Future for Lane<S, I, O, F>
where
    S: AsyncRead + AsyncWrite + Unpin,
    I: Incoming,
    O: Outgoing,
    F: FnMut(&mut Vec<Message>) + Unpin,
{
    type Output = LaneEnd;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<LaneEnd> {
        let lane = self.get_mut();
        for _ in 0..ROUNDS {
            let more = match lane.read(cx) {
                Ok(more) => more,
                Err(end) => return Poll::Ready(end),
            };
            // Whoever else is about to ask does so first, and all that is asked leaves in one
            // write.
            let crowded = lane.traffic.crowded.load(Ordering::Relaxed);
            if crowded && !more && !lane.deferred && lane.out.len() == 0 && !lane.queue.is_empty() {
                lane.deferred = true;
                break;
            }
            lane.deferred = false;
            if let Err(end) = lane.write(cx) {
                return Poll::Ready(end);
            }
            if !more {
                return match lane.watch(cx) {
                    Ok(()) => Poll::Pending,
                    Err(end) => Poll::Ready(end),
                };
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

#[cfg(test)]
mod tests;
