//! A body that passes at a given rate.

use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::{self, StreamExt as _};
use http_body_util::{BodyExt as _, BodyStream, StreamBody, combinators::UnsyncBoxBody};
use hyper::body::{Body, Frame};

/// Bodies as the proxy passes them on.
pub(super) type Passed = UnsyncBoxBody<Bytes, hyper::Error>;

/// Pieces in a second: so few bytes at once that a reader sees a trickle, not bursts.
const PIECES: u32 = 10;

/// `body` at `rate` bytes a second, at least one piece of a byte every tenth of a second.
pub(super) fn slowed<B>(body: B, rate: u32) -> Passed
where
    B: Body<Data = Bytes, Error = hyper::Error> + Send + Unpin + 'static,
{
    let piece = usize::try_from(rate / PIECES).unwrap_or(usize::MAX).max(1);
    let state = (BodyStream::new(body), Bytes::new());
    let frames = stream::unfold(state, move |(mut body, mut rest)| async move {
        if rest.is_empty() {
            match body.next().await? {
                Ok(frame) => match frame.into_data() {
                    Ok(data) => rest = data,
                    Err(trailers) => return Some((Ok(trailers), (body, rest))),
                },
                Err(error) => return Some((Err(error), (body, rest))),
            }
        }
        tokio::time::sleep(Duration::from_secs(1) / PIECES).await;
        let head = rest.split_to(piece.min(rest.len()));
        Some((Ok(Frame::data(head)), (body, rest)))
    });
    StreamBody::new(frames).boxed_unsync()
}
