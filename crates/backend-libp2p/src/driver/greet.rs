//! The handshake on the small lane: HELLO, then proofs. Nothing else is read before.

use std::io;
use std::time::Duration;

use futures_util::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::Instant;

use super::hello::{Greeting, MAX_HELLO_BYTES, PROOF_BYTES, Party, Refused, Side, Transcript};
use crate::network_key::NetworkKey;
use crate::wire::PeerKey;

/// How long both sides have for it.
pub(crate) const HELLO_LIMIT: Duration = Duration::from_secs(2);

/// Who greets whom.
pub(crate) struct Meeting<'a> {
    pub(crate) key: &'a NetworkKey,
    pub(crate) side: Side,
    pub(crate) me: PeerKey,
    /// As Noise has proved it.
    pub(crate) peer: PeerKey,
}

/// Greets the peer: its HELLO, and whether it proved that it may write. Both HELLOs cross, then
/// both proofs. Not to be cancelled and tried again on the same stream.
pub(crate) async fn greet<S: AsyncRead + AsyncWrite + Unpin>(
    stream: &mut S,
    meeting: &Meeting<'_>,
    mine: &Greeting,
) -> Result<(Greeting, bool), Refused> {
    let whole = exchange(stream, meeting, mine);
    tokio::time::timeout(HELLO_LIMIT, whole).await.map_err(|_| Refused::TooSlow)?
}

async fn exchange<S: AsyncRead + AsyncWrite + Unpin>(
    stream: &mut S,
    meeting: &Meeting<'_>,
    mine: &Greeting,
) -> Result<(Greeting, bool), Refused> {
    let (unheard, gone) = (|_: io::Error| Refused::Unheard, |_: io::Error| Refused::Gone);
    let hello = mine.encode();
    let length = u16::try_from(hello.len()).map_err(|_| Refused::Malformed)?;
    let framed = [&length.to_be_bytes(), hello.as_slice()].concat();
    let sent = Instant::now();
    stream.write_all(&framed).await.map_err(unheard)?;
    stream.flush().await.map_err(unheard)?;

    let mut length = [0; 2];
    stream.read_exact(&mut length).await.map_err(unheard)?;
    let length = usize::from(u16::from_be_bytes(length));
    if length > MAX_HELLO_BYTES {
        return Err(Refused::Malformed);
    }
    let mut answer = vec![0; length];
    stream.read_exact(&mut answer).await.map_err(gone)?;
    let mut theirs = Greeting::decode(&answer)?;
    let received = Instant::now();

    let me = Party { peer: meeting.me, hello: &hello };
    let them = Party { peer: meeting.peer, hello: &answer };
    let (dialler, listener, keys) = match meeting.side {
        Side::Dialler => (&me, &them, (&*mine.keys, &*theirs.keys)),
        Side::Listener => (&them, &me, (&*theirs.keys, &*mine.keys)),
    };
    let transcript = Transcript::new(meeting.key, dialler, listener, keys).ok_or(Refused::Key)?;
    stream.write_all(&transcript.proof(meeting.side)).await.map_err(gone)?;
    stream.flush().await.map_err(gone)?;
    let mut proof = [0; PROOF_BYTES];
    stream.read_exact(&mut proof).await.map_err(gone)?;
    let writer = transcript.verify(meeting.side, &proof)?;
    // The listener reads its clock once the dialler's first bytes are there.
    let on_its_way = match meeting.side {
        Side::Dialler => received.duration_since(sent) / 2,
        Side::Listener => Duration::ZERO,
    };
    theirs.clock.machine = theirs.clock.machine.saturating_add(on_its_way + received.elapsed());
    Ok((theirs, writer))
}

#[cfg(test)]
mod tests;
