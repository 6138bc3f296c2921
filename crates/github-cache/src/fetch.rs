//! Asking upstream for the store: a conditional request if something is known, and a body that goes to
//! the client and into the store at once.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use http::header::{
    ACCEPT_ENCODING, AGE, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_LENGTH, ETAG, HeaderMap, HeaderValue,
    IF_MODIFIED_SINCE, IF_NONE_MATCH,
};
use http::{Method, Response, StatusCode, Uri};
use peercache::{Lease, PutOutcome};
use tokio::sync::oneshot;
use tokio::time::timeout;

use crate::body::{PIPE_BYTES, PipeWriter, ResponseBody, pipe};
use crate::cache_control::list_items;
use crate::coalesce::{Landing, Leader};
use crate::conditional::weakly_equal;
use crate::gunzip::{Gunzip, STEP_BYTES};
use crate::policy::{Keep, content_length, judge, judge_length, revokes};
use crate::representation::MAX_REPRESENTATION_BYTES;
use crate::shared::Shared;
use crate::shares::ClientAddress;
use crate::stats::NotStored;
use crate::store::{Found, Place, Sent};
use crate::upstream::{Answer, Lane, Outgoing, UpstreamError, cacheable, end_to_end};

/// How large a decoded piece grows before it is passed on.
const PIECE_BYTES: usize = 32 * 1024;

/// One request for the store.
pub(crate) struct Fetch {
    pub(crate) shared: Arc<Shared>,
    pub(crate) place: Place,
    /// Whose share of the places it takes.
    pub(crate) client: ClientAddress,
    pub(crate) url: Uri,
    /// The client's headers.
    pub(crate) request: HeaderMap,
    pub(crate) known: Option<Found>,
    /// Whether the path has a mark already.
    pub(crate) marked: bool,
    /// Set when others may wait for this one.
    pub(crate) leader: Option<Leader>,
    /// Set when other machines may wait for this one. Given back when it is dropped.
    pub(crate) lease: Option<Lease>,
}

/// What came of it.
pub(crate) enum Fetched {
    /// Upstream confirmed what is known.
    Confirmed(Found),
    /// Upstream's answer, its body still arriving.
    Passed {
        response: Response<ResponseBody>,
        /// Whether it goes into the store if it arrives whole.
        stored: bool,
    },
}

type Reply = oneshot::Sender<Result<Fetched, UpstreamError>>;

impl Fetch {
    /// Runs to the end, whether or not anybody waits for the reply.
    pub(crate) async fn run(mut self, reply: Reply) {
        let (answer, sent) = match self.ask().await {
            Ok(answered) => answered,
            Err(error) => {
                let _client_gone = reply.send(Err(error));
                return;
            }
        };
        self.shared.rate_limits.note(&self.place.token, answer.headers());
        if answer.status() == StatusCode::NOT_MODIFIED
            && let Some(known) = &self.known
        {
            let headers = end_to_end(answer.headers());
            // The connection is free for others before anything is stored.
            drop(answer);
            let (found, stored) =
                self.shared.store.extend(&self.place, &sent, known, &headers, &self.request).await;
            match stored {
                Ok(outcome) => self.land_stored(&outcome),
                Err(reason) => {
                    self.shared.stats.count_not_stored(reason);
                    self.shared.store.revoke(&self.place, &sent).await;
                }
            }
            let _client_gone = reply.send(Ok(Fetched::Confirmed(found)));
            return;
        }
        self.take(answer, sent, reply).await;
    }

    /// Tells those who wait that it is stored, here and on other machines.
    fn land_stored(&mut self, outcome: &PutOutcome) {
        if let Some(lease) = self.lease.take() {
            lease.resolve(outcome);
        }
        self.land(Landing::Stored);
    }

    fn land(&mut self, landing: Landing) {
        // What was not stored is for nobody else.
        drop(self.lease.take());
        if let Some(leader) = self.leader.take() {
            leader.land(landing);
        }
    }

    /// Sends the request, conditional if something is known.
    async fn ask(&mut self) -> Result<(Answer, Sent), UpstreamError> {
        let mut headers = cacheable(&self.request);
        let validator = self.known.as_ref().and_then(Found::validator);
        if self.known.is_some() {
            headers.remove(IF_NONE_MATCH);
            headers.remove(IF_MODIFIED_SINCE);
        }
        let mut conditional = headers.clone();
        if let Some((name, value)) = validator {
            conditional.insert(name, value);
        }
        let (answer, sent) = self.send(conditional).await?;
        if answer.status() != StatusCode::NOT_MODIFIED {
            if !must_not_decode(answer.headers()) {
                return Ok((answer, sent));
            }
            // It is coded because this proxy asked for that, and nobody may undo it for the client.
            drop(answer);
            headers.remove(ACCEPT_ENCODING);
            headers.extend(self.request.get(ACCEPT_ENCODING).map(|value| (ACCEPT_ENCODING, value.clone())));
            return self.send(headers).await;
        }
        // A 304 that names another entity tag than the one sent confirms something else.
        let expected = self.known.as_ref().and_then(Found::etag).map(HeaderValue::as_bytes);
        let named = answer.headers().get(ETAG).map(HeaderValue::as_bytes);
        match expected.zip(named) {
            Some((expected, named)) if !weakly_equal(expected, named) => {
                drop(answer);
                self.known = None;
                self.send(headers).await
            }
            _ => Ok((answer, sent)),
        }
    }

    async fn send(&mut self, headers: HeaderMap) -> Result<(Answer, Sent), UpstreamError> {
        let shared = Arc::clone(&self.shared);
        let permit = shared.upstream.place(Lane::Api, self.client, false).await?;
        let sent = shared.store.sending();
        let outgoing = Outgoing {
            lane: Lane::Api,
            client: self.client,
            method: Method::GET,
            url: self.url.clone(),
            headers,
            body: None,
        };
        let begin = async {
            if !self.marked {
                shared.store.begin(&self.place, &sent).await;
            }
        };
        let (answer, ()) = tokio::join!(shared.upstream.send(outgoing, permit), begin);
        self.marked = true;
        Ok((answer?, sent))
    }

    /// Passes an answer on, and stores it if it may be.
    async fn take(mut self, answer: Answer, sent: Sent, reply: Reply) {
        let status = answer.status();
        let mut headers = end_to_end(answer.headers());
        let coding = match must_not_decode(&headers) {
            true => Coding::Unknown,
            false => Coding::of(&headers),
        };
        let keep = judge(status, answer.headers(), &self.request, sent.at)
            .and_then(|keep| coding.judge(answer.headers()).map(|()| keep));
        let keep = match keep {
            Ok(keep) => Some(keep),
            Err(reason) => {
                self.shared.stats.count_not_stored(reason);
                if self.known.is_some() && revokes(status, answer.headers()) {
                    self.shared.store.revoke(&self.place, &sent).await;
                }
                self.land(Landing::Nothing);
                None
            }
        };
        if coding == Coding::Gzip {
            headers.remove(CONTENT_ENCODING);
            headers.remove(CONTENT_LENGTH);
            weaken_tag(&mut headers);
        }
        let (writer, reader) = pipe();
        let mut response = Response::new(ResponseBody::pipe(reader));
        *response.status_mut() = status;
        *response.headers_mut() = headers.clone();
        let stored = keep.is_some();
        if stored {
            // An answer that aged on its way says so in its grant; clients are told by `Age` as it came.
            headers.remove(AGE);
        }
        let _client_gone = reply.send(Ok(Fetched::Passed { response, stored }));
        let source = Source::new(answer, coding);
        self.pump(source, Client(Some(writer)), keep.map(|keep| (keep, headers)), sent).await;
    }

    async fn pump(
        mut self,
        mut source: Source,
        mut client: Client,
        mut keep: Option<(Keep, HeaderMap)>,
        sent: Sent,
    ) {
        let idle = self.shared.upstream.limits().idle;
        let mut parts = Vec::new();
        let mut bytes = 0;
        // While collecting, the last piece waits for the store: who has the whole answer and asks again
        // finds it there.
        let mut last = Bytes::new();
        loop {
            let piece = match source.next().await {
                Ok(Some(piece)) => piece,
                Ok(None) => break,
                Err(reason) => {
                    if keep.is_some() {
                        self.shared.stats.count_not_stored(reason);
                    }
                    client.give(last, idle, usize::MAX).await;
                    // Dropping the writer breaks the client's body off, too, and ends the flight.
                    return;
                }
            };
            bytes += piece.len();
            if keep.is_some() && bytes > MAX_REPRESENTATION_BYTES {
                self.shared.stats.count_not_stored(NotStored::TooLarge);
                keep = None;
                parts = Vec::new();
                client.give(std::mem::take(&mut last), idle, PIPE_BYTES).await;
                if self.known.is_some() {
                    self.shared.store.revoke(&self.place, &sent).await;
                }
                self.land(Landing::Nothing);
            }
            if keep.is_some() {
                parts.push(piece.clone());
                client.give(std::mem::replace(&mut last, piece), idle, usize::MAX).await;
            } else {
                client.give(piece, idle, PIPE_BYTES).await;
                if client.0.is_none() {
                    return;
                }
            }
        }
        drop(source);
        if let Some((keep, headers)) = keep {
            let awaited = self.lease.is_some();
            match self.shared.store.save(&self.place, &sent, keep, &headers, &parts, awaited).await {
                Ok(outcome) => self.land_stored(&outcome),
                Err(reason) => {
                    self.shared.stats.count_not_stored(reason);
                    self.land(Landing::Nothing);
                }
            }
        }
        client.give(last, idle, usize::MAX).await;
        client.finish();
    }
}

/// Whether a coded body has to reach the client as it is (RFC 9111, section 5.2.2.6).
fn must_not_decode(headers: &HeaderMap) -> bool {
    let says_so = headers
        .get_all(CACHE_CONTROL)
        .iter()
        .any(|value| list_items(value.as_bytes()).any(|item| item.eq_ignore_ascii_case(b"no-transform")));
    says_so && Coding::of(headers) == Coding::Gzip
}

/// A strong tag is for the bytes that were sent, and these are others now (RFC 9110, section 8.8.3.3).
fn weaken_tag(headers: &mut HeaderMap) {
    let Some(tag) = headers.get(ETAG).filter(|tag| !tag.as_bytes().starts_with(b"W/")) else { return };
    match HeaderValue::from_bytes(&[b"W/", tag.as_bytes()].concat()) {
        Ok(weak) => headers.insert(ETAG, weak),
        Err(_) => headers.remove(ETAG),
    };
}

/// The client's end of the pipe, while there is a client.
pub(crate) struct Client(pub(crate) Option<PipeWriter>);

impl Client {
    /// Passes a piece on. A client that went away, or that takes nothing for `idle`, is given up.
    pub(crate) async fn give(&mut self, piece: Bytes, idle: std::time::Duration, most: usize) {
        let Some(writer) = &self.0 else { return };
        if !matches!(timeout(idle, writer.push(piece, most)).await, Ok(Ok(()))) {
            self.0 = None;
        }
    }

    pub(crate) fn finish(self) {
        if let Some(writer) = self.0 {
            writer.finish();
        }
    }
}

/// How the body is coded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Coding {
    Identity,
    Gzip,
    Unknown,
}

impl Coding {
    fn of(headers: &HeaderMap) -> Self {
        let mut values = headers.get_all(CONTENT_ENCODING).iter().map(HeaderValue::as_bytes);
        match (values.next(), values.next()) {
            (None, _) => Self::Identity,
            (Some(value), None) => match value.trim_ascii().to_ascii_lowercase().as_slice() {
                b"" | b"identity" => Self::Identity,
                b"gzip" | b"x-gzip" => Self::Gzip,
                _ => Self::Unknown,
            },
            (Some(_), Some(_)) => Self::Unknown,
        }
    }

    /// Whether a body in this coding can be stored. A gzip stream tells its own end.
    fn judge(self, headers: &HeaderMap) -> Result<(), NotStored> {
        match self {
            Self::Identity => judge_length(headers),
            Self::Gzip if content_length(headers) > Some(MAX_REPRESENTATION_BYTES as u64) => {
                Err(NotStored::TooLarge)
            }
            Self::Gzip => Ok(()),
            Self::Unknown => Err(NotStored::Encoding),
        }
    }
}

/// The body as the client and the store get it.
struct Source {
    answer: Answer,
    gunzip: Option<Gunzip>,
    compressed: Bytes,
}

impl Source {
    fn new(answer: Answer, coding: Coding) -> Self {
        let gunzip = (coding == Coding::Gzip).then(Gunzip::new);
        Self { answer, gunzip, compressed: Bytes::new() }
    }

    async fn next(&mut self) -> Result<Option<Bytes>, NotStored> {
        let Some(gunzip) = &mut self.gunzip else {
            return self.answer.chunk().await.map_err(|_| NotStored::Incomplete);
        };
        let mut out = BytesMut::new();
        while out.len() < PIECE_BYTES {
            if self.compressed.is_empty() {
                if !out.is_empty() {
                    break;
                }
                match self.answer.chunk().await.map_err(|_| NotStored::Incomplete)? {
                    Some(chunk) => self.compressed = chunk,
                    None => {
                        let finished = self.gunzip.take().map(Gunzip::finish).transpose();
                        let rest = finished.map_err(|_| NotStored::Encoding)?;
                        return Ok(rest.filter(|rest| !rest.is_empty()));
                    }
                }
            }
            let step = self.compressed.split_to(self.compressed.len().min(STEP_BYTES));
            out.extend_from_slice(&gunzip.step(&step).map_err(|_| NotStored::Encoding)?);
        }
        Ok(Some(out.freeze()))
    }
}
