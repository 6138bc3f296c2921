//! GraphQL queries: answered from what the same token was answered a moment ago, or asked once for
//! all who ask the same at the same time.

use std::sync::Arc;

use bytes::Bytes;
use http::header::{AGE, CONTENT_ENCODING, CONTENT_LENGTH, HeaderMap, HeaderValue, SET_COOKIE};
use http::{Method, Response, StatusCode, Uri};
use http_body_util::Full;
use peercache::Key;
use peercache::backend::Timestamp;
use serde::Deserialize;
use serde::de::IgnoredAny;
use tokio::sync::oneshot;
use tokio::time::timeout;

use crate::body::{PIPE_BYTES, ResponseBody, pipe};
use crate::budget::{Reservation, Spender};
use crate::cache_control::CacheControl;
use crate::cache_status::{CacheStatus, Forward};
use crate::charge::Charge;
use crate::coalesce::{Landing, Leader, Seat};
use crate::error::Problem;
use crate::fetch::{Client, Coding, Source};
use crate::freshness::Freshness;
use crate::graphql_answers::{Answered, FRESH_FOR, MAX_ANSWER_BYTES};
use crate::ledger::Call;
use crate::refusal::{MAX_MESSAGE_BYTES, classify};
use crate::shared::Shared;
use crate::shares::ClientAddress;
use crate::token::TokenId;
use crate::upstream::{Answer, Lane, Outgoing, Upload, UpstreamError, end_to_end};

/// A query of a client's.
#[derive(Clone)]
pub(crate) struct Query {
    pub(crate) shared: Arc<Shared>,
    pub(crate) token: TokenId,
    pub(crate) client: ClientAddress,
    pub(crate) call: Call,
    pub(crate) spender: Spender,
    pub(crate) url: Uri,
    /// The headers that are sent.
    pub(crate) headers: HeaderMap,
    /// The body that is sent.
    pub(crate) body: Bytes,
    pub(crate) key: Key,
    pub(crate) directives: CacheControl,
}

/// What came of asking.
enum Outcome {
    /// GitHub gave no answer, or one that is no answer; the latest one is served.
    Stale { answered: Arc<Answered>, status: Option<StatusCode>, detail: &'static str },
    /// GitHub's answer, and whether it is kept.
    Passed { response: Response<ResponseBody>, stored: bool },
}

type Reply = oneshot::Sender<Result<Outcome, UpstreamError>>;

/// How the body of an answer ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Whole,
    TooLarge,
    Broken,
}

/// The parts of an answer that say whether it is one.
#[derive(Deserialize)]
struct Parts {
    data: Option<IgnoredAny>,
    errors: Option<IgnoredAny>,
}

impl Query {
    /// Answers it. Cancel-safe: what was sent is completed, for others who wait for it.
    pub(crate) async fn answer(self) -> Result<Response<ResponseBody>, Problem> {
        if let Some(answered) = self.fresh() {
            self.shared.stats.fresh.add(1);
            let left = freshness(&answered).remaining(self.shared.store.now()).as_secs();
            return Ok(self.serve(&answered, &CacheStatus::hit(left).detail(Some("graphql"))));
        }
        if self.directives.only_if_cached {
            return Err(Problem::only_if_cached());
        }
        if self.directives.insists() {
            return self.fetch(Forward::Request, None).await;
        }
        let why = match self.shared.graphql.get(&self.key, &self.token) {
            Some(_) => Forward::Stale,
            None => Forward::UriMiss,
        };
        match self.shared.flights.join(&self.key) {
            Seat::Lead(leader) => self.fetch(why, Some(leader)).await,
            Seat::Follow(follower) => {
                let landing = timeout(self.shared.upstream.limits().coalesce, follower.landing()).await;
                match self.fresh().filter(|_| landing == Ok(Landing::Stored)) {
                    Some(answered) => {
                        self.shared.stats.coalesced.add(1);
                        Ok(self.serve(&answered, &CacheStatus::forwarded(why).collapsed()))
                    }
                    None => self.fetch(why, None).await,
                }
            }
        }
    }

    /// What this token was answered a moment ago, if it wrote nothing since.
    fn fresh(&self) -> Option<Arc<Answered>> {
        let answered = self.shared.graphql.get(&self.key, &self.token)?;
        freshness(&answered).satisfies(&self.directives, self.shared.store.now()).then_some(answered)
    }

    /// What may be served instead of an answer.
    fn stale(&self) -> Option<Arc<Answered>> {
        let answered = self.shared.graphql.get(&self.key, &self.token)?;
        let is_young = answered.age(self.shared.store.now()) <= self.shared.max_stale;
        (is_young && !self.directives.insists()).then_some(answered)
    }

    fn serve(&self, answered: &Answered, status: &CacheStatus) -> Response<ResponseBody> {
        let mut headers = answered.headers.clone();
        let age = freshness(answered).age_seconds(self.shared.store.now());
        headers.insert(AGE, HeaderValue::from(age));
        self.shared.rate_limits.refresh(&self.token, &mut headers);
        status.append_to(&mut headers);
        self.shared.stats.bytes_from_cache.add(answered.body.len() as u64);
        let mut response = Response::new(ResponseBody::full(answered.body.clone()));
        *response.headers_mut() = headers;
        response
    }

    async fn fetch(self, why: Forward, leader: Option<Leader>) -> Result<Response<ResponseBody>, Problem> {
        let shared = Arc::clone(&self.shared);
        let (reply, outcome) = oneshot::channel();
        shared.tasks.spawn(self.clone().run(leader, reply));
        let outcome = outcome.await.map_err(|_| Problem::internal())?;
        match outcome.map_err(|error| error.into_problem(why))? {
            Outcome::Stale { answered, status, detail } => {
                shared.stats.stale.add(1);
                let mut cache_status = CacheStatus::forwarded(Forward::Stale).detail(Some(detail));
                cache_status.forward_status = status;
                Ok(self.serve(&answered, &cache_status))
            }
            Outcome::Passed { mut response, stored } => {
                shared.stats.miss.add(1);
                let status = CacheStatus::forwarded(why).status(response.status()).stored(stored);
                status.append_to(response.headers_mut());
                Ok(response)
            }
        }
    }

    /// Asks GitHub, to the end, whether or not anybody waits for the reply.
    async fn run(self, leader: Option<Leader>, reply: Reply) {
        let number = self.shared.graphql.sending();
        let at = self.shared.store.now();
        let (answer, reservation) = match self.send().await {
            Ok(sent) => sent,
            Err(error) => {
                let detail = error.detail();
                let result = match self.stale() {
                    Some(answered) => Ok(Outcome::Stale { answered, status: None, detail }),
                    None => Err(error),
                };
                let _client_gone = reply.send(result);
                return;
            }
        };
        self.take(answer, reservation, (number, at), leader, reply).await;
    }

    async fn send(&self) -> Result<(Answer, Reservation), UpstreamError> {
        let shared = &self.shared;
        let reservation = shared.begin_spending(&self.spender).await?;
        let place = shared.upstream.place(Lane::Api, self.client, true).await?;
        let outgoing = Outgoing {
            lane: Lane::Api,
            client: self.client,
            call: Some(self.call.clone()),
            method: Method::POST,
            url: self.url.clone(),
            headers: self.headers.clone(),
            body: Some(Upload::new(Full::new(self.body.clone()), shared.upstream.limits())),
        };
        let answer = shared.upstream.send(outgoing, place).await?;
        Ok((answer, reservation))
    }

    async fn take(
        self,
        answer: Answer,
        reservation: Reservation,
        sent: (u64, Timestamp),
        leader: Option<Leader>,
        reply: Reply,
    ) {
        let shared = &self.shared;
        let status = answer.status();
        let mut headers = end_to_end(answer.headers());
        let coding = Coding::of(&headers);
        let mut source = Source::new(answer, coding);
        let (mut pieces, mut bytes) = (Vec::new(), 0);
        let end = loop {
            match source.next().await {
                Ok(None) => break End::Whole,
                Err(_) => break End::Broken,
                Ok(Some(piece)) => {
                    bytes += piece.len();
                    pieces.push(piece);
                    if bytes > MAX_ANSWER_BYTES {
                        break End::TooLarge;
                    }
                }
            }
        };
        let refusal = match status.is_success() {
            true => None,
            false => {
                let begun: Vec<u8> = pieces.iter().flatten().copied().take(MAX_MESSAGE_BYTES).collect();
                classify(status, &headers, &begun)
            }
        };
        let charge = self.call.answered(status, &headers, refusal);
        shared.settle_spending(reservation, &headers, charge, refusal);
        shared.rate_limits.note(&self.token, &headers);
        if let Some(detail) = shared.stale_detail(refusal)
            && let Some(answered) = self.stale()
        {
            let _client_gone = reply.send(Ok(Outcome::Stale { answered, status: Some(status), detail }));
            return;
        }
        if charge == Charge::Uncounted {
            self.call.unserved();
        }
        if status.is_success() {
            shared.store.public.note_valid(&self.token, shared.store.now());
        }
        if coding == Coding::Gzip {
            headers.remove(CONTENT_ENCODING);
            headers.remove(CONTENT_LENGTH);
        }
        if end == End::Whole {
            let body = Bytes::from(pieces.concat());
            let stored = status == StatusCode::OK && is_kept(&headers, &body);
            if stored {
                headers.insert(CONTENT_LENGTH, HeaderValue::from(body.len()));
                shared.graphql.put(&self.key, sent.0, sent.1, headers.clone(), body.clone());
                shared.stats.stored.add(1);
            }
            if let Some(leader) = leader {
                leader.land(if stored { Landing::Stored } else { Landing::Nothing });
            }
            let mut response = Response::new(ResponseBody::full(body));
            *response.status_mut() = status;
            *response.headers_mut() = headers;
            let _client_gone = reply.send(Ok(Outcome::Passed { response, stored }));
            return;
        }
        // What is not kept is for nobody else.
        drop(leader);
        let (writer, reader) = pipe();
        let mut response = Response::new(ResponseBody::pipe(reader));
        *response.status_mut() = status;
        *response.headers_mut() = headers;
        let _client_gone = reply.send(Ok(Outcome::Passed { response, stored: false }));
        let idle = shared.upstream.limits().idle;
        let mut client = Client(Some(writer));
        for piece in pieces {
            client.give(piece, idle, usize::MAX).await;
        }
        if end == End::Broken {
            // Dropping the writer breaks the client's body off, too.
            return;
        }
        while client.0.is_some() {
            match source.next().await {
                Ok(Some(piece)) => client.give(piece, idle, PIPE_BYTES).await,
                Ok(None) => return client.finish(),
                Err(_) => return,
            }
        }
    }
}

fn freshness(answered: &Answered) -> Freshness {
    Freshness { validated: answered.at, initial_age: std::time::Duration::ZERO, lifetime: FRESH_FOR }
}

/// Whether an answer is kept: it has data and no errors. What is cut off is no JSON.
fn is_kept(headers: &HeaderMap, body: &[u8]) -> bool {
    let parts = serde_json::from_slice::<Parts>(body);
    !headers.contains_key(SET_COOKIE)
        && !CacheControl::of_response(headers).no_store
        && parts.is_ok_and(|parts| parts.data.is_some() && parts.errors.is_none())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_with_errors_or_without_data_are_not_kept() {
        let kept = |body: &str| is_kept(&HeaderMap::new(), body.as_bytes());
        assert!(kept(r#"{"data":{"viewer":{"login":"x"}}}"#));
        assert!(kept(r#"{"data":{"a":null},"extensions":{}}"#));
        for body in [
            r#"{"data":{"a":1},"errors":[]}"#,
            r#"{"data":{"a":1},"errors":[{"message":"x"}]}"#,
            r#"{"data":null}"#,
            r#"{"message":"Bad credentials"}"#,
            r#"{"data":{"a":1}"#,
            "",
        ] {
            assert!(!kept(body), "{body}");
        }
        let mut headers = HeaderMap::new();
        headers.insert(SET_COOKIE, HeaderValue::from_static("a=b"));
        assert!(!is_kept(&headers, br#"{"data":{"a":1}}"#));
    }
}
