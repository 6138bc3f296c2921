//! Asking upstream for the store: a conditional request if something is known, and a body that goes
//! to the client and into the store at once.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use http::header::{
    ACCEPT, ACCEPT_ENCODING, AGE, AUTHORIZATION, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_LENGTH, ETAG,
    HeaderMap, HeaderValue, IF_MODIFIED_SINCE, IF_NONE_MATCH,
};
use http::{Method, Response, StatusCode, Uri};
use peercache::PutOutcome;
use peercache::chain::Lease;
use tokio::sync::oneshot;
use tokio::time::timeout;

use crate::accept::DEFAULT;
use crate::body::{PIPE_BYTES, PipeWriter, ResponseBody, pipe};
use crate::budget::{Reservation, Spender};
use crate::cache_control::list_items;
use crate::candidates::Candidate;
use crate::charge::Charge;
use crate::coalesce::{Landing, Leader};
use crate::conditional::weakly_equal;
use crate::gunzip::{Gunzip, STEP_BYTES};
use crate::key::NormalUrl;
use crate::ledger::{Call, RouteClass};
use crate::policy::{Keep, content_length, judge, judge_length};
use crate::quota::Resource;
use crate::refusal::{MAX_MESSAGE_BYTES, Refusal, classify, needs_message};
use crate::representation::MAX_REPRESENTATION_BYTES;
use crate::request_headers::{of_client, to_send};
use crate::route_table::{Rule, Share};
use crate::shared::Shared;
use crate::shares::ClientAddress;
use crate::stats::NotStored;
use crate::store::{Base, Found, Place, Received, Sent, Store};
use crate::token::other_schemes;
use crate::upstream::{Answer, Lane, Outgoing, UpstreamError, end_to_end};
use crate::validator::{derive, is_derived, quoted};

/// How large a decoded piece grows before it is passed on.
const PIECE_BYTES: usize = 32 * 1024;

/// One request for the store.
pub(crate) struct Fetch {
    pub(crate) shared: Arc<Shared>,
    pub(crate) place: Place,
    /// Whose share of the places it takes.
    pub(crate) client: ClientAddress,
    /// To whom it is booked.
    pub(crate) call: Call,
    pub(crate) url: Uri,
    /// The client's headers, as `request_headers::of_client` gives them.
    pub(crate) request: HeaderMap,
    pub(crate) rule: Rule,
    pub(crate) known: Option<Found>,
    /// What other tokens got for the same request.
    pub(crate) candidates: Vec<Candidate>,
    /// Whether the marks are there already.
    pub(crate) marked: bool,
    /// Whether a stale answer may be given when GitHub gives none.
    pub(crate) may_be_stale: bool,
    /// Whether the client's own condition is sent: nothing is known to make one of.
    pub(crate) clients_condition: bool,
    /// The repository itself, where answers may be shared once it is proven public.
    pub(crate) repository: Option<RepositoryRequest>,
    /// Set when others with the same token may wait for this one.
    pub(crate) leader: Option<Leader>,
    /// Set when tokens that may know of it wait for this one.
    pub(crate) variant_leader: Option<Leader>,
    /// Set when other machines may wait for this one. Given back when it is dropped.
    pub(crate) lease: Option<Lease>,
    /// What the latest answer cost.
    pub(crate) charge: Option<Charge>,
    /// Whose limit it takes of.
    pub(crate) spender: Spender,
    /// What it holds of that until the answer is understood.
    pub(crate) reservation: Option<Reservation>,
}

/// The request whose answer says whether a repository is public.
#[derive(Clone, Debug)]
pub(crate) struct RepositoryRequest {
    pub(crate) url: Uri,
    pub(crate) path: NormalUrl,
    pub(crate) rule: Rule,
    pub(crate) class: RouteClass,
}

/// What came of it.
pub(crate) enum Fetched {
    /// Upstream confirmed what is known.
    Confirmed(Found),
    /// Upstream gave no answer, or one that is no answer; what is known is served stale.
    Stale {
        found: Found,
        /// The status of upstream's answer, if there was one.
        status: Option<StatusCode>,
        detail: &'static str,
    },
    /// Upstream's answer, its body still arriving.
    Passed {
        response: Response<ResponseBody>,
        /// Whether it goes into the store if it arrives whole.
        stored: bool,
    },
}

type Reply = oneshot::Sender<Result<Fetched, UpstreamError>>;

/// A tag that is sent as a condition, and what its confirmation means.
struct Guess {
    tag: HeaderValue,
    base: Base,
    /// Whether the tag was received for this token: a 304 without a tag can only mean that one.
    received: bool,
}

/// Upstream's answer to a request with these guesses.
enum Asked {
    Confirmed(Answer, Base),
    Answered(Answer),
}

impl Fetch {
    /// Runs to the end, whether or not anybody waits for the reply.
    pub(crate) async fn run(mut self, reply: Reply) {
        let headers = to_send(&self.request);
        let guesses = self.guesses(&headers).await;
        let (asked, sent) = match self.ask(headers.clone(), guesses).await {
            Ok(answered) => answered,
            Err(error) => {
                let detail = error.detail();
                let result = match self.stale().await {
                    Some(found) => Ok(Fetched::Stale { found, status: None, detail }),
                    None => Err(error),
                };
                let _client_gone = reply.send(result);
                return;
            }
        };
        match asked {
            Asked::Confirmed(answer, base) => self.confirm(answer, base, sent, reply).await,
            Asked::Answered(answer) => self.take(answer, sent, &headers, reply).await,
        }
    }

    async fn confirm(mut self, answer: Answer, base: Base, sent: Sent, reply: Reply) {
        let shared = Arc::clone(&self.shared);
        shared.rate_limits.note(&self.place.token, answer.headers());
        let headers = end_to_end(answer.headers());
        // The connection is free for others before anything is stored.
        drop(answer);
        if base.cross_token {
            shared.stats.confirmed_across_tokens.add(1);
        }
        shared.store.public.note_success(&self.place.token, &self.place.scope, sent.at);
        let (found, stored) =
            shared.store.confirm(&self.place, &sent, base, &headers, &self.request, &self.rule).await;
        let validated = stored.is_ok().then_some(*found.representation());
        match stored {
            Ok(outcome) => self.land_stored(&outcome),
            Err(reason) => {
                shared.stats.count_not_stored(reason);
                shared.store.forget(&self.place, &sent).await;
            }
        }
        let _client_gone = reply.send(Ok(Fetched::Confirmed(found)));
        if let Some(digest) = validated {
            self.prove_if_wanted(&sent, &digest).await;
        }
        self.land(Landing::Stored);
    }

    /// Proves that the repository is public, where other tokens ask for it and there is no proof.
    /// One that is older than this answer is renewed when somebody would be given the answer, not
    /// before. Only a token that was answered does so: who is refused must not notice that others
    /// are not.
    async fn prove_if_wanted(&self, sent: &Sent, validated: &[u8; 32]) {
        let (store, place) = (&self.shared.store, &self.place);
        let Some(repository) = &self.repository else { return };
        let now = store.now();
        if store.public.is_private(&place.scope, now) || store.public_proof(place).await.is_some() {
            return;
        }
        let is_awaited = self.variant_leader.as_ref().is_some_and(Leader::is_awaited);
        if store.public.is_proof_due(&place.token, &place.scope, is_awaited, now) {
            let authorization = self.request.get(AUTHORIZATION);
            Box::pin(prove(&self.shared, repository, place, authorization, self.client, &self.call)).await;
            store.publish(place, validated, sent.version).await;
        }
    }

    /// What is known, if it may be served instead of an answer.
    async fn stale(&self) -> Option<Found> {
        let known = self.known.as_ref().filter(|_| self.may_be_stale)?;
        let may_be = self.shared.store.may_be_stale(&self.place, known, self.shared.max_stale).await;
        may_be.then(|| known.clone())
    }

    /// Tells those who wait with the same token that it is stored, here and on other machines.
    /// Other tokens wait for the proof, too.
    fn land_stored(&mut self, outcome: &PutOutcome) {
        if let Some(lease) = self.lease.take() {
            lease.resolve(outcome);
        }
        if let Some(leader) = self.leader.take() {
            leader.land(Landing::Stored);
        }
    }

    fn land(&mut self, landing: Landing) {
        // What was not stored is for nobody else.
        drop(self.lease.take());
        for leader in [self.leader.take(), self.variant_leader.take()].into_iter().flatten() {
            leader.land(landing);
        }
    }

    /// The tags to send: the one that this token got, then those that GitHub would give this token
    /// for what others got, or for an empty list when nothing is known.
    async fn guesses(&self, headers: &HeaderMap) -> Vec<Guess> {
        let mut guesses = Vec::new();
        if self.known.as_ref().is_some_and(|known| !known.is_confirmable()) || self.clients_condition {
            return guesses;
        }
        if let Some(known) = &self.known
            && let Some(tag) = known.etag()
        {
            guesses.push(Guess { tag: tag.clone(), base: known.base(), received: true });
        }
        if !self.shared.self_check.is_in_use(self.place.kind) {
            return guesses;
        }
        if let Some(known) = &self.known
            && let Some(tag) = known.etag()
            && is_of_another_form(headers, tag, known.body())
        {
            let derived = derive(headers, [&known.body()[..]]);
            let tag = quoted(&derived, tag.as_bytes().starts_with(b"W/"));
            guesses.extend(tag.map(|tag| Guess { tag, base: known.base(), received: false }));
        }
        let own = self.known.as_ref().map(Found::representation);
        for candidate in self.candidates.iter().filter(|one| Some(&one.representation) != own) {
            if candidate.full_page {
                continue;
            }
            let Some(base) = self.shared.store.candidate_base(candidate).await else { continue };
            let tag = quoted(&derive(headers, [&base.body()[..]]), candidate.weak);
            guesses.extend(tag.map(|tag| Guess { tag, base, received: false }));
        }
        if self.known.is_none() && self.candidates.is_empty() && headers.get(ACCEPT) == Some(&DEFAULT) {
            let tag = quoted(&derive(headers, [&b"[]"[..]]), false);
            let base = Store::empty_list_base();
            guesses.extend(tag.zip(base).map(|(tag, base)| Guess { tag, base, received: false }));
        }
        guesses
    }

    /// Sends the request, conditional if something is known.
    async fn ask(
        &mut self,
        headers: HeaderMap,
        mut guesses: Vec<Guess>,
    ) -> Result<(Asked, Sent), UpstreamError> {
        let mut conditional = headers.clone();
        if self.clients_condition {
            for name in [IF_NONE_MATCH, IF_MODIFIED_SINCE] {
                for value in self.request.get_all(&name) {
                    conditional.append(name.clone(), value.clone());
                }
            }
        } else if let Some(tags) = joined(&guesses) {
            conditional.insert(IF_NONE_MATCH, tags);
        } else if let Some(known) = self.known.as_ref().filter(|known| known.is_confirmable())
            && let Some(date) = known.date_validator()
        {
            conditional.insert(IF_MODIFIED_SINCE, date.clone());
        }
        let (answer, sent) = self.send(conditional).await?;
        if answer.status() != StatusCode::NOT_MODIFIED {
            if !must_not_decode(answer.headers()) {
                return Ok((Asked::Answered(answer), sent));
            }
            // It is coded because this proxy asked for that, and nobody may undo it for the client.
            if needs_message(answer.status()) {
                self.settle(answer.status(), answer.headers(), None);
            }
            drop(answer);
            let mut headers = headers;
            headers.remove(ACCEPT_ENCODING);
            headers.extend(self.request.get(ACCEPT_ENCODING).map(|value| (ACCEPT_ENCODING, value.clone())));
            let (answer, sent) = self.send(headers).await?;
            return Ok((Asked::Answered(answer), sent));
        }
        if self.clients_condition {
            return Ok((Asked::Answered(answer), sent));
        }
        let is_by_tag = !guesses.is_empty();
        let named = answer.headers().get(ETAG);
        let confirmed = match named {
            Some(named) => guesses
                .iter()
                .position(|guess| weakly_equal(guess.tag.as_bytes(), named.as_bytes()))
                .map(|at| guesses.swap_remove(at).base),
            // It names none. One that was received is meant, unless another one stands for other
            // bytes.
            None => {
                let base = guesses.iter().find(|guess| guess.received).map(|guess| guess.base.clone());
                base.filter(|base| guesses.iter().all(|guess| guess.base.is_same(base)))
            }
        };
        let by_date = !is_by_tag && confirmed.is_none();
        let confirmed = match &self.known {
            Some(known) if by_date && known.date_validator().is_some() => Some(known.base()),
            _ => confirmed,
        };
        match confirmed {
            Some(base) => {
                let empty = !base.cross_token && self.known.is_none();
                self.shared.stats.confirmed_empty.add(u64::from(empty));
                Ok((Asked::Confirmed(answer, base), sent))
            }
            // A 304 that names another entity tag than one that was sent confirms something else.
            None => {
                drop(answer);
                self.shared.stats.contradicted.add(1);
                self.known = None;
                let (answer, sent) = self.send(headers).await?;
                Ok((Asked::Answered(answer), sent))
            }
        }
    }

    async fn send(&mut self, headers: HeaderMap) -> Result<(Answer, Sent), UpstreamError> {
        let shared = Arc::clone(&self.shared);
        self.reservation = Some(shared.begin_spending(&self.spender).await?);
        let permit = shared.upstream.place(Lane::Api, self.client, false).await?;
        let sent = shared.store.sending();
        let outgoing = Outgoing {
            lane: Lane::Api,
            client: self.client,
            call: Some(self.call.clone()),
            method: Method::GET,
            url: self.url.clone(),
            headers,
            body: None,
        };
        let begin = async {
            if !self.marked {
                shared.store.begin(&self.place).await;
            }
        };
        let (answer, ()) = tokio::join!(shared.upstream.send(outgoing, permit), begin);
        self.marked = true;
        let answer = answer?;
        // What a refusal cost depends on its message, which is read by whoever takes the answer.
        if !needs_message(answer.status()) {
            self.settle(answer.status(), answer.headers(), None);
        }
        Ok((answer, sent))
    }

    /// Books what an answer cost, and gives back what was reserved for it.
    fn settle(&mut self, status: StatusCode, headers: &HeaderMap, refusal: Option<Refusal>) {
        let charge = self.call.answered(status, headers, refusal);
        self.charge = Some(charge);
        if let Some(reservation) = self.reservation.take() {
            self.shared.settle_spending(reservation, headers, charge, refusal);
        }
    }

    /// Passes an answer on, and stores it if it may be.
    async fn take(mut self, answer: Answer, sent: Sent, asked_with: &HeaderMap, reply: Reply) {
        let shared = Arc::clone(&self.shared);
        shared.rate_limits.note(&self.place.token, answer.headers());
        let status = answer.status();
        let mut headers = end_to_end(answer.headers());
        let coding = match must_not_decode(&headers) {
            true => Coding::Unknown,
            false => Coding::of(&headers),
        };
        let keep = judge(status, answer.headers(), &self.request, sent.at, &self.rule)
            .and_then(|keep| coding.judge(answer.headers()).map(|()| keep));
        let mut source = Source::new(answer, coding);
        let begun = if needs_message(status) { source.begin(MAX_MESSAGE_BYTES).await } else { Vec::new() };
        let refusal = classify(status, &headers, &begun.concat());
        if needs_message(status) {
            self.settle(status, &headers, refusal);
        }
        self.note(refusal, &sent, keep.is_ok()).await;
        if let Some(detail) = self.shared.stale_detail(refusal)
            && let Some(found) = self.stale().await
        {
            let _client_gone = reply.send(Ok(Fetched::Stale { found, status: Some(status), detail }));
            return;
        }
        if self.charge == Some(Charge::Uncounted) {
            self.call.unserved();
        }
        let keep = match keep {
            Ok(keep) => Some(keep),
            Err(reason) => {
                shared.stats.count_not_stored(reason);
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
            // An answer that aged on its way says so in its grant; clients are told by `Age` as it
            // came.
            headers.remove(AGE);
        }
        let _client_gone = reply.send(Ok(Fetched::Passed { response, stored }));
        let keep = keep.map(|keep| Kept { status, keep, headers, asked_with: asked_with.clone() });
        self.pump(source, begun, Client(Some(writer)), keep, sent).await;
    }

    /// Notes what an answer says about this token and this repository.
    async fn note(&self, refusal: Option<Refusal>, sent: &Sent, kept: bool) {
        let (store, place) = (&self.shared.store, &self.place);
        match refusal {
            None => store.public.note_success(&place.token, &place.scope, sent.at),
            Some(Refusal::BadToken) => {
                store.public.note_refused(&place.token, None);
                store.forget(place, sent).await;
                store.revoke(&place.token, sent).await;
            }
            Some(Refusal::Revoked) => {
                store.public.note_refused(&place.token, Some(&place.scope));
                store.note_hidden(place, sent).await;
                if self.known.as_ref().is_some_and(|known| known.status() == StatusCode::OK) {
                    store.revoke(&place.token, sent).await;
                } else if place.is_repository_root() {
                    store.note_refused(place, sent).await;
                }
                // What is kept replaces the grant.
                if self.known.is_some() && !kept {
                    store.forget(place, sent).await;
                }
            }
            Some(Refusal::PrimaryLimit | Refusal::SecondaryLimit | Refusal::Trouble) => {}
        }
    }

    async fn pump(
        mut self,
        mut source: Source,
        begun: Vec<Bytes>,
        mut client: Client,
        mut keep: Option<Kept>,
        sent: Sent,
    ) {
        let idle = self.shared.upstream.limits().idle;
        let mut parts = Vec::new();
        let mut bytes = 0;
        // While collecting, the last piece waits for the store: who has the whole answer and asks
        // again finds it there.
        let mut last = Bytes::new();
        let mut begun = begun.into_iter();
        loop {
            let next = match begun.next() {
                Some(piece) => Ok(Some(piece)),
                None => source.next().await,
            };
            let piece = match next {
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
                    self.shared.store.forget(&self.place, &sent).await;
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
        let mut validated = None;
        if let Some(kept) = keep {
            self.check_rule(&kept, &parts);
            let awaited = self.lease.is_some();
            let Kept { status, keep, headers, .. } = kept;
            let everybodys = self.rule.share == Share::Everyone;
            let received = Received { status, keep, headers: &headers, body: &parts, everybodys };
            match self.shared.store.save(&self.place, &sent, received, awaited).await {
                Ok((outcome, digest)) => {
                    validated = (status == StatusCode::OK).then_some(digest);
                    self.land_stored(&outcome);
                }
                Err(reason) => {
                    self.shared.stats.count_not_stored(reason);
                    self.land(Landing::Nothing);
                }
            }
        }
        client.give(last, idle, usize::MAX).await;
        client.finish();
        if let Some(digest) = validated {
            self.prove_if_wanted(&sent, &digest).await;
        }
        self.land(Landing::Stored);
    }
}

impl Fetch {
    /// Compares the tag that was received with the one that the rule gives for the same bytes.
    fn check_rule(&self, kept: &Kept, parts: &[Bytes]) {
        if kept.status == StatusCode::OK
            && let Some(received) = kept.headers.get(ETAG)
        {
            let derived = derive(&kept.asked_with, parts.iter().map(|part| &part[..]));
            self.shared.self_check.note(self.place.kind, is_derived(received, &derived));
        }
    }
}

/// Asks for the repository of what is `asked_for` with its token, for the store. What comes of it
/// is noted where answers are stored.
pub(crate) async fn prove(
    shared: &Arc<Shared>,
    repository: &RepositoryRequest,
    asked_for: &Place,
    authorization: Option<&HeaderValue>,
    client: ClientAddress,
    call: &Call,
) {
    let mut headers = HeaderMap::new();
    headers.extend(authorization.map(|value| (AUTHORIZATION, value.clone())));
    let headers = of_client(&headers);
    let store = &shared.store;
    let Place { token, kind, scope, .. } = asked_for;
    let place = store.place(token.clone(), *kind, asked_for.authority(), &repository.path, &headers).await;
    let read = store.read(&place, &headers).await;
    let candidates = store.candidates(&place, &headers).await;
    shared.stats.proofs.add(1);
    // Nobody waits for a proof so much that the reserve is there for it.
    let spender = Spender {
        token: place.token.clone(),
        authority: place.authority().into(),
        resource: Resource::Core,
        urgent: false,
    };
    let fetch = Fetch {
        shared: Arc::clone(shared),
        spender,
        reservation: None,
        place,
        client,
        call: call.of_proxy(repository.class),
        url: repository.url.clone(),
        request: headers,
        rule: repository.rule,
        known: read.found.filter(|found| found.status() == StatusCode::OK),
        candidates,
        marked: read.marked,
        may_be_stale: false,
        clients_condition: false,
        repository: None,
        leader: None,
        variant_leader: None,
        lease: None,
        charge: None,
    };
    // Nobody reads the answer; it is stored all the same.
    let (reply, _) = oneshot::channel();
    fetch.run(reply).await;
    store.public.note_attempt(scope, store.public_proof(asked_for).await.is_some());
}

/// An answer that goes into the store if it arrives whole.
struct Kept {
    status: StatusCode,
    keep: Keep,
    headers: HeaderMap,
    /// The headers that it was asked for with, on which its tag depends.
    asked_with: HeaderMap,
}

/// Whether a tag was received for the same body and token with another scheme before the token. One
/// that the rule does not explain at all is sent alone.
fn is_of_another_form(headers: &HeaderMap, tag: &HeaderValue, body: &[u8]) -> bool {
    let Some(value) = headers.get(AUTHORIZATION) else { return false };
    if is_derived(tag, &derive(headers, [body])) {
        return false;
    }
    other_schemes(value).any(|other| {
        let mut headers = headers.clone();
        headers.insert(AUTHORIZATION, other);
        is_derived(tag, &derive(&headers, [body]))
    })
}

/// The value of `If-None-Match` for these guesses.
fn joined(guesses: &[Guess]) -> Option<HeaderValue> {
    let tags: Vec<&[u8]> = guesses.iter().map(|guess| guess.tag.as_bytes()).collect();
    (!tags.is_empty()).then(|| HeaderValue::from_bytes(&tags.join(&b", "[..])).ok()).flatten()
}

/// Whether a coded body has to reach the client as it is (RFC 9111, section 5.2.2.6).
fn must_not_decode(headers: &HeaderMap) -> bool {
    let says_so = headers
        .get_all(CACHE_CONTROL)
        .iter()
        .any(|value| list_items(value.as_bytes()).any(|item| item.eq_ignore_ascii_case(b"no-transform")));
    says_so && Coding::of(headers) == Coding::Gzip
}

/// A strong tag is for the bytes that were sent, and these are others now (RFC 9110, section
/// 8.8.3.3).
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
pub(crate) enum Coding {
    Identity,
    Gzip,
    Unknown,
}

impl Coding {
    pub(crate) fn of(headers: &HeaderMap) -> Self {
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
pub(crate) struct Source {
    answer: Answer,
    gunzip: Option<Gunzip>,
    compressed: Bytes,
}

impl Source {
    pub(crate) fn new(answer: Answer, coding: Coding) -> Self {
        let gunzip = (coding == Coding::Gzip).then(Gunzip::new);
        Self { answer, gunzip, compressed: Bytes::new() }
    }

    /// The first pieces, up to about `most` bytes. A body that breaks off ends there; the next
    /// piece tells.
    async fn begin(&mut self, most: usize) -> Vec<Bytes> {
        let (mut pieces, mut bytes) = (Vec::new(), 0);
        while bytes < most
            && let Ok(Some(piece)) = self.next().await
        {
            bytes += piece.len();
            pieces.push(piece);
        }
        pieces
    }

    /// The next piece, or nothing at the end.
    pub(crate) async fn next(&mut self) -> Result<Option<Bytes>, NotStored> {
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
