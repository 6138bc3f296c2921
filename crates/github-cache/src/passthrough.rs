//! Passing a request through: raw bytes both ways, nothing stored, and writes noted.

use std::sync::Arc;

use bytes::Bytes;
use http::header::{CONTENT_ENCODING, CONTENT_LOCATION, HeaderMap, LOCATION};
use http::{Response, Uri};
use tokio::sync::oneshot;

use crate::body::{PIPE_BYTES, ResponseBody, pipe};
use crate::budget::{Reservation, Spender};
use crate::cache_status::CacheStatus;
use crate::charge::Charge;
use crate::fetch::Client;
use crate::gunzip::{Gunzip, STEP_BYTES};
use crate::hosts::{ApiHost, ApiRoute};
use crate::refusal::{MAX_MESSAGE_BYTES, classify, needs_message};
use crate::shared::Shared;
use crate::token::TokenId;
use crate::upstream::{Answer, Outgoing, UpstreamError, end_to_end};

/// A write to the API, to be noted once it may have happened.
pub(crate) struct Written {
    pub(crate) token: TokenId,
    pub(crate) api: Arc<ApiHost>,
    /// The target's path, normalised.
    pub(crate) path: String,
}

/// One request to be passed through.
pub(crate) struct Passing {
    pub(crate) outgoing: Outgoing,
    pub(crate) status: CacheStatus,
    /// Whose limits the answer tells; set for the API.
    pub(crate) token: Option<TokenId>,
    pub(crate) written: Option<Written>,
    /// The token of a GraphQL request that may change something.
    pub(crate) mutation: Option<TokenId>,
    /// Whose limit it takes of; set for the API.
    pub(crate) spender: Option<Spender>,
    /// What the client asked for, of the API.
    pub(crate) api: Option<ApiRoute>,
}

/// Upstream's answer.
pub(crate) struct Passed(pub(crate) Response<ResponseBody>);

impl Passing {
    /// Runs until the body is delivered or nobody wants it.
    pub(crate) async fn run(
        self,
        shared: Arc<Shared>,
        mut reply: oneshot::Sender<Result<Passed, UpstreamError>>,
    ) {
        let target = self.outgoing.url.clone();
        let call = self.outgoing.call.clone();
        let mut reservation = None;
        let sent = send(self.outgoing, &shared, self.spender.as_ref(), &mut reservation);
        let answer = if self.written.is_some() || self.mutation.is_some() {
            sent.await
        } else {
            // Nothing depends on a read that nobody waits for.
            tokio::select! {
                answer = sent => answer,
                () = reply.closed() => return,
            }
        };
        if may_have_happened(answer.as_ref().map(Answer::status)) {
            if let Some(written) = &self.written {
                note(&shared, written, &target, answer.as_ref().ok().map(Answer::headers)).await;
            }
            let writer = self.written.as_ref().map(|written| &written.token).or(self.mutation.as_ref());
            if let Some(token) = writer {
                shared.graphql.note_write(token);
            }
        }
        let mut answer = match answer {
            Ok(answer) => answer,
            Err(error) => {
                let _client_gone = reply.send(Err(error));
                return;
            }
        };
        let begun = begin(&mut answer).await;
        if let Some(call) = call {
            let headers = answer.headers();
            let refusal = classify(answer.status(), headers, &message(headers, &begun));
            let charge = call.answered(answer.status(), headers, refusal);
            if charge == Charge::Uncounted {
                call.unserved();
            }
            if let Some(reservation) = reservation {
                shared.settle_spending(reservation, headers, charge, refusal);
            }
        }
        if let Some(token) = &self.token {
            shared.rate_limits.note(token, answer.headers());
            if answer.status().is_success() {
                shared.store.public.note_valid(token, shared.store.now());
            }
        }
        let (writer, reader) = pipe();
        let mut response = Response::new(ResponseBody::pipe(reader));
        *response.status_mut() = answer.status();
        *response.headers_mut() = end_to_end(answer.headers());
        if reply.send(Ok(Passed(response))).is_err() {
            return;
        }
        let idle = shared.upstream.limits().idle;
        let mut client = Client(Some(writer));
        for piece in begun {
            client.give(piece, idle, PIPE_BYTES).await;
        }
        while let Ok(piece) = answer.chunk().await {
            let Some(piece) = piece else {
                client.finish();
                return;
            };
            client.give(piece, idle, PIPE_BYTES).await;
            if client.0.is_none() {
                return;
            }
        }
    }
}

/// The first pieces of a refusal, which say what it means. A body that breaks off does so again for
/// whoever reads on.
async fn begin(answer: &mut Answer) -> Vec<Bytes> {
    let (mut pieces, mut bytes) = (Vec::new(), 0);
    while needs_message(answer.status())
        && bytes < MAX_MESSAGE_BYTES
        && let Ok(Some(piece)) = answer.chunk().await
    {
        bytes += piece.len();
        pieces.push(piece);
    }
    pieces
}

/// What these pieces say, decoded if they are in gzip, as clients usually ask for.
fn message(headers: &HeaderMap, pieces: &[Bytes]) -> Vec<u8> {
    let bytes = pieces.concat();
    if !headers.get(CONTENT_ENCODING).is_some_and(|coding| coding.as_bytes().eq_ignore_ascii_case(b"gzip")) {
        return bytes;
    }
    let (mut gunzip, mut text) = (Gunzip::new(), Vec::new());
    for step in bytes.chunks(STEP_BYTES) {
        match gunzip.step(step) {
            Ok(more) if text.len() < MAX_MESSAGE_BYTES => text.extend_from_slice(&more),
            _ => break,
        }
    }
    text
}

async fn send(
    outgoing: Outgoing,
    shared: &Arc<Shared>,
    spender: Option<&Spender>,
    reservation: &mut Option<Reservation>,
) -> Result<Answer, UpstreamError> {
    if let Some(spender) = spender {
        *reservation = Some(shared.begin_spending(spender).await?);
    }
    let permit = shared.upstream.place(outgoing.lane, outgoing.client, outgoing.body.is_some()).await?;
    shared.upstream.send(outgoing, permit).await
}

/// Whether a write may have been done: not after a refusal (4xx), nor without a place to send it.
/// After an error of the server or of the network it may have been.
fn may_have_happened(answer: Result<http::StatusCode, &UpstreamError>) -> bool {
    match answer {
        Ok(status) => !status.is_client_error(),
        Err(UpstreamError::Busy | UpstreamError::NoConnection | UpstreamError::Spent(_)) => false,
        Err(UpstreamError::Timeout | UpstreamError::Unreachable) => true,
    }
}

/// Notes a write that may have happened, before its client hears of it.
async fn note(shared: &Shared, written: &Written, target: &Uri, headers: Option<&HeaderMap>) {
    let mentioned: Vec<String> = [LOCATION, CONTENT_LOCATION]
        .iter()
        .filter_map(|name| headers?.get(name)?.to_str().ok())
        .filter_map(|url| written.api.path_of(target, url))
        .collect();
    let mentioned = mentioned.iter().map(String::as_str);
    let (token, authority) = (&written.token, written.api.authority());
    shared.store.invalidate(token, authority, &written.path, mentioned).await;
}
