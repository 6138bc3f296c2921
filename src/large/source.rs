//! A value on its way in: cut into chunks of one length, whatever pieces it arrives in.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;

use bytes::{Bytes, BytesMut};
use futures_util::{Stream, StreamExt as _, stream};
use tokio::io::{AsyncRead, ReadBuf};

/// How much is asked of a reader at once.
const READ_BYTES: usize = 64 * 1024;

/// The pieces of `source`, put together to chunks of exactly `chunk_bytes`; only the last is
/// shorter, none is empty. Ends at the first error.
///
/// Every chunk owns its memory alone: one that were a slice of a larger buffer would keep that
/// alive for as long as a memory tier holds it. Holds one chunk and one piece at a time.
pub(super) fn chunks<S, E>(source: S, chunk_bytes: usize) -> impl Stream<Item = Result<Bytes, E>>
where
    S: Stream<Item = Result<Bytes, E>>,
{
    struct State<S> {
        source: Pin<Box<S>>,
        piece: Bytes,
        ended: bool,
    }
    let state = State { source: Box::pin(source), piece: Bytes::new(), ended: false };
    stream::unfold(state, move |mut state| async move {
        let mut chunk = BytesMut::new();
        while !state.ended && chunk.len() < chunk_bytes {
            if state.piece.is_empty() {
                match state.source.next().await {
                    Some(Ok(piece)) => state.piece = piece,
                    Some(Err(error)) => {
                        state.ended = true;
                        return Some((Err(error), state));
                    }
                    None => state.ended = true,
                }
                continue;
            }
            if chunk.is_empty() {
                chunk.reserve(chunk_bytes);
            }
            let take = state.piece.len().min(chunk_bytes - chunk.len());
            chunk.extend_from_slice(&state.piece.split_to(take));
        }
        if chunk.is_empty() {
            return None;
        }
        // The last one: a tier charges it by its length, so it must not occupy more.
        let chunk = if chunk.len() < chunk_bytes { Bytes::copy_from_slice(&chunk) } else { chunk.freeze() };
        Some((Ok(chunk), state))
    })
}

/// What `reader` gives, in pieces of at most 64 KiB.
pub(crate) fn pieces(reader: impl AsyncRead) -> impl Stream<Item = io::Result<Bytes>> {
    stream::unfold(Some(Box::pin(reader)), async |reader| {
        let mut reader = reader?;
        let mut piece = BytesMut::zeroed(READ_BYTES);
        let mut buffer = ReadBuf::new(&mut piece);
        if let Err(error) = poll_fn(|context| reader.as_mut().poll_read(context, &mut buffer)).await {
            return Some((Err(error), None));
        }
        let read = buffer.filled().len();
        piece.truncate(read);
        (read > 0).then(|| (Ok(piece.freeze()), Some(reader)))
    })
}

#[cfg(test)]
mod tests {
    use super::super::CHUNK_BYTES;
    use super::*;
    use std::convert::Infallible;

    async fn cut(pieces: &[usize]) -> Vec<usize> {
        let pieces: Vec<_> =
            pieces.iter().map(|len| Ok::<_, Infallible>(Bytes::from(vec![7; *len]))).collect();
        let chunks: Vec<_> = chunks(stream::iter(pieces), CHUNK_BYTES).collect().await;
        chunks.into_iter().map(|Ok(chunk)| chunk.len()).collect()
    }

    #[tokio::test]
    async fn chunks_have_one_length_whatever_the_pieces() {
        assert_eq!(cut(&[]).await, [0; 0]);
        assert_eq!(cut(&[0, 0]).await, [0; 0]);
        assert_eq!(cut(&[1, 0, 2]).await, [3]);
        assert_eq!(cut(&[CHUNK_BYTES]).await, [CHUNK_BYTES]);
        assert_eq!(cut(&[CHUNK_BYTES - 1, 2]).await, [CHUNK_BYTES, 1]);
        assert_eq!(
            cut(&[2 * CHUNK_BYTES + 5, CHUNK_BYTES]).await,
            [CHUNK_BYTES, CHUNK_BYTES, CHUNK_BYTES, 5]
        );
    }

    #[tokio::test]
    async fn the_first_error_is_the_end() {
        let source = stream::iter([Ok(Bytes::from_static(b"a")), Err("gone"), Ok(Bytes::from_static(b"b"))]);
        let chunks: Vec<_> = chunks(source, CHUNK_BYTES).collect().await;
        assert_eq!(chunks, [Err("gone")]);
    }

    #[tokio::test]
    async fn a_reader_gives_its_bytes_and_ends() {
        let data: Vec<u8> = (0..200_000_u32).map(|n| n.to_be_bytes()[3]).collect();
        let pieces: Vec<_> = pieces(&data[..]).collect().await;
        let read: Vec<u8> = pieces.into_iter().flat_map(|piece| piece.unwrap().to_vec()).collect();
        assert_eq!(read, data);
    }
}
