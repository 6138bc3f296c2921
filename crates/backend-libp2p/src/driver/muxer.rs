//! Yamux with settings of ours: libp2p's own upgrade lets nothing be set but the number of streams.
//!
//! A chunk of the bulk lane is one frame here, not four, and what a connection grants its peer is
//! bounded.

use std::collections::VecDeque;
use std::future::{Ready, ready};
use std::io;
use std::iter::{Once, once};
use std::pin::Pin;
use std::task::{Context, Poll, Waker, ready};

use futures_util::io::{AsyncRead, AsyncWrite};
use libp2p::core::UpgradeInfo;
use libp2p::core::muxing::{StreamMuxer, StreamMuxerEvent};
use libp2p::core::upgrade::{InboundConnectionUpgrade, OutboundConnectionUpgrade};
use yamux::{Connection, ConnectionError, Mode};

/// More streams than the two lanes are nobody's business.
const MAX_STREAMS: usize = 8;
/// The longest frame sent, in bytes: a chunk of the bulk lane is one.
const FRAME_BYTES: usize = super::outgoing::SMALL_BYTES;
/// How much a peer may send before this node has read it, over all streams of a connection, in
/// bytes. Yamux grants each stream 256 KiB; one of them may grow by 512 KiB more, enough for a
/// gigabit over 6 ms. What small messages wait behind grows with it: with 4 MiB in all, a read of 1
/// KiB beside large ones took four times as long at the 99th percentile as with no growth at all.
const WINDOW_BYTES: usize = MAX_STREAMS * 256 * 1024 + 512 * 1024;

/// The upgrade that makes streams of a secured connection.
#[derive(Clone, Debug)]
pub(crate) struct Muxing(yamux::Config);

impl Muxing {
    pub(crate) fn new() -> Self {
        let mut config = yamux::Config::default();
        config.set_max_num_streams(MAX_STREAMS);
        config.set_max_connection_receive_window(Some(WINDOW_BYTES));
        config.set_split_send_size(FRAME_BYTES);
        Self(config)
    }
}

impl UpgradeInfo for Muxing {
    type Info = &'static str;
    type InfoIter = Once<&'static str>;

    fn protocol_info(&self) -> Self::InfoIter {
        once("/yamux/1.0.0")
    }
}

impl<C: AsyncRead + AsyncWrite + Unpin> InboundConnectionUpgrade<C> for Muxing {
    type Output = Muxer<C>;
    type Error = io::Error;
    type Future = Ready<Result<Muxer<C>, io::Error>>;

    fn upgrade_inbound(self, connection: C, _: &'static str) -> Self::Future {
        ready(Ok(Muxer::new(connection, self.0, Mode::Server)))
    }
}

impl<C: AsyncRead + AsyncWrite + Unpin> OutboundConnectionUpgrade<C> for Muxing {
    type Output = Muxer<C>;
    type Error = io::Error;
    type Future = Ready<Result<Muxer<C>, io::Error>>;

    fn upgrade_outbound(self, connection: C, _: &'static str) -> Self::Future {
        ready(Ok(Muxer::new(connection, self.0, Mode::Client)))
    }
}

/// A connection that carries streams.
#[derive(Debug)]
pub(crate) struct Muxer<C> {
    connection: Connection<C>,
    /// Streams of the peer's that nobody has fetched yet; Yamux moves all streams on with the one
    /// call that also yields new ones. At most [`MAX_STREAMS`], since Yamux refuses more.
    opened: VecDeque<yamux::Stream>,
    /// Who waits for one.
    waiting: Option<Waker>,
}

impl<C: AsyncRead + AsyncWrite + Unpin> Muxer<C> {
    fn new(connection: C, config: yamux::Config, mode: Mode) -> Self {
        Self { connection: Connection::new(connection, config, mode), opened: VecDeque::new(), waiting: None }
    }

    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Result<yamux::Stream, ConnectionError>> {
        self.connection.poll_next_inbound(cx).map(|next| next.unwrap_or(Err(ConnectionError::Closed)))
    }
}

impl<C: AsyncRead + AsyncWrite + Unpin> StreamMuxer for Muxer<C> {
    type Substream = yamux::Stream;
    type Error = ConnectionError;

    fn poll_inbound(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<yamux::Stream, ConnectionError>> {
        // `poll` moves the connection on, and wakes who waits here.
        match self.opened.pop_front() {
            Some(stream) => Poll::Ready(Ok(stream)),
            None => {
                self.waiting = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }

    fn poll_outbound(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<yamux::Stream, ConnectionError>> {
        self.connection.poll_new_outbound(cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), ConnectionError>> {
        self.connection.poll_close(cx)
    }

    fn poll(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<StreamMuxerEvent, ConnectionError>> {
        loop {
            let stream = ready!(self.poll_next(cx))?;
            self.opened.push_back(stream);
            if let Some(waiting) = self.waiting.take() {
                waiting.wake();
            }
        }
    }
}
