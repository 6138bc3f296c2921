//! Requests to the bucket: sent, counted, tried once more, bounded in time and in number.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use aws_sdk_s3::Client;
use aws_sdk_s3::primitives::ByteStream;
use bytes::{Bytes, BytesMut};
use peercache_api::envelope::MAX_ENVELOPE_BYTES;
use peercache_api::{Clock, Error, ErrorKind, Operation};
use tokio::sync::Semaphore;

use crate::credentials::Loader;
use crate::gate::{AFTER_REFUSAL, Gate};
use crate::report::{Counters, Request, add};
use crate::trouble::{Extent, Trouble};

/// Operations that run at once. Each holds at most two envelopes.
const MAX_CONCURRENT: usize = 64;
/// A store that has just failed is given this long before it is asked once more.
const BEFORE_RETRY: Duration = Duration::from_millis(50);

/// What a write wants to be true of the object that it replaces.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Condition {
    /// Anything.
    None,
    /// There is none.
    Absent,
    /// It has this entity tag.
    Matches(Arc<str>),
}

/// How a write ended.
#[derive(Debug)]
pub(crate) enum Written {
    /// It is stored, under this entity tag.
    Stored(Option<String>),
    /// The condition does not hold, or another write was under way. Nothing was stored.
    Conflict,
    /// The store knows no conditions. Nothing was stored.
    NoConditions,
}

/// An object as it was read.
#[derive(Debug)]
pub(crate) struct Object {
    pub(crate) etag: Option<String>,
    pub(crate) body: Bytes,
}

/// The bucket.
pub(crate) struct Store {
    pub(crate) client: Client,
    pub(crate) bucket: String,
    pub(crate) deadline: Duration,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) counters: Counters,
    gate: Gate,
    loader: Arc<Loader>,
    room: Semaphore,
}

impl Store {
    pub(crate) fn new(
        client: Client,
        bucket: String,
        deadline: Duration,
        clock: Arc<dyn Clock>,
        loader: Arc<Loader>,
    ) -> Self {
        Self {
            client,
            bucket,
            deadline,
            clock,
            counters: Counters::default(),
            gate: Gate::default(),
            loader,
            room: Semaphore::new(MAX_CONCURRENT),
        }
    }

    /// Runs one operation, with all its requests, within the deadline and the bound on operations.
    pub(crate) async fn within<T>(
        &self,
        operation: Operation,
        work: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, Error> {
        let bounded = async {
            // The semaphore is never closed.
            let _permit = self.room.acquire().await;
            work.await
        };
        tokio::time::timeout(self.deadline, bounded).await.unwrap_or_else(|_| {
            add(&self.counters.timeouts, 1);
            Err(Error::new(ErrorKind::Timeout, operation, "the store did not answer within the deadline")
                .with_backend("s3")
                .with_context("milliseconds", self.deadline.as_millis()))
        })
    }

    /// The object of this name, whole, or `None`.
    pub(crate) async fn get(&self, name: &str, operation: Operation) -> Result<Option<Object>, Trouble> {
        let read = || async {
            let answer = self.client.get_object().bucket(&self.bucket).key(name).send();
            let answer = answer.await.map_err(Trouble::of)?;
            let declared = answer.content_length.and_then(|length| u64::try_from(length).ok());
            match self.collect(answer.body, declared).await? {
                Some(body) => Ok(Object { etag: answer.e_tag, body }),
                None => {
                    Err(Trouble::TooLong(declared.unwrap_or(MAX_ENVELOPE_BYTES as u64 + 1), answer.e_tag))
                }
            }
        };
        match self.send(Request::Get, operation, read).await {
            Ok(object) => Ok(Some(object)),
            Err(trouble) if trouble.is_no_such_object() => Ok(None),
            Err(trouble) => Err(trouble),
        }
    }

    /// The whole body, or `None` when it is longer than any envelope.
    async fn collect(&self, mut body: ByteStream, declared: Option<u64>) -> Result<Option<Bytes>, Trouble> {
        let most = MAX_ENVELOPE_BYTES as u64;
        if declared.is_some_and(|length| length > most) {
            return Ok(None);
        }
        let mut whole = BytesMut::new();
        while let Some(part) = body.next().await {
            let part = part.map_err(|error| Trouble::NoAnswer(crate::credentials::innermost(&error)))?;
            add(&self.counters.bytes_in, part.len() as u64);
            if whole.is_empty() && declared == Some(part.len() as u64) {
                return Ok(Some(part));
            }
            if (whole.len() + part.len()) as u64 > most {
                return Ok(None);
            }
            if whole.is_empty() {
                // Within the bound that was checked above.
                whole.reserve(declared.and_then(|length| usize::try_from(length).ok()).unwrap_or(part.len()));
            }
            whole.extend_from_slice(&part);
        }
        Ok(Some(whole.freeze()))
    }

    /// Writes an object if the condition holds.
    pub(crate) async fn put(
        &self,
        name: &str,
        body: &Bytes,
        condition: &Condition,
        operation: Operation,
    ) -> Result<Written, Trouble> {
        let write = || async {
            add(&self.counters.bytes_out, body.len() as u64);
            let request = self
                .client
                .put_object()
                .bucket(&self.bucket)
                .key(name)
                .content_type("application/octet-stream")
                .body(ByteStream::from(body.clone()));
            let request = match condition {
                Condition::None => request,
                Condition::Absent => request.if_none_match("*"),
                Condition::Matches(etag) => request.if_match(&**etag),
            };
            request.send().await.map_err(Trouble::of)
        };
        match self.send(Request::Put, operation, write).await {
            Ok(answer) => Ok(Written::Stored(answer.e_tag)),
            Err(trouble) if *condition != Condition::None && trouble.is_conflict() => Ok(Written::Conflict),
            Err(trouble) if *condition != Condition::None && trouble.is_not_implemented() => {
                Ok(Written::NoConditions)
            }
            Err(trouble) => Err(trouble),
        }
    }

    /// Sends a request, and once more if it met an accident. The SDK's own retries are off: they would run
    /// beyond our deadline's purpose, and again when the store has just asked for fewer requests.
    pub(crate) async fn send<T, F>(
        &self,
        kind: Request,
        operation: Operation,
        request: impl Fn() -> F,
    ) -> Result<T, Trouble>
    where
        F: Future<Output = Result<T, Trouble>>,
    {
        if let Some(why) = self.gate.closed(&*self.clock, operation == Operation::Probe) {
            add(&self.counters.held_back, 1);
            return Err(Trouble::HeldBack(why));
        }
        self.counters.sent(kind);
        let first = request().await;
        let answer = match first {
            Err(trouble) if trouble.is_worth_a_retry() => {
                tokio::time::sleep(BEFORE_RETRY).await;
                add(&self.counters.retries, 1);
                self.counters.sent(kind);
                request().await
            }
            other => other,
        };
        if answer.is_ok() {
            self.gate.open();
        }
        answer
    }

    /// The error for a caller; closes the gate where the trouble concerns every request.
    pub(crate) fn fail(&self, trouble: Trouble, operation: Operation) -> Error {
        let (error, extent) = trouble.explain(operation, &self.bucket, self.clock.now());
        match extent {
            Extent::Request => {}
            Extent::All => self.gate.close(&*self.clock, AFTER_REFUSAL, error.clone(), false),
            Extent::Credentials => {
                self.loader.refused();
                self.gate.close(&*self.clock, AFTER_REFUSAL, error.clone(), false);
            }
            Extent::Throttled(wait) => {
                add(&self.counters.throttled, 1);
                if let Some(wait) = wait {
                    self.gate.close(&*self.clock, wait, error.clone(), true);
                }
            }
        }
        error
    }
}
