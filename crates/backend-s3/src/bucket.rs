//! Requests to the bucket: sent, counted, tried once more, held back when the store asks for it.

use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use aws_sdk_s3::Client;
use aws_sdk_s3::primitives::ByteStream;
use bytes::{Bytes, BytesMut};
use peercache_api::{Clock, Error, Operation};
use peercache_blob::{Blob, BlobStore, BlobStoreInfo, Condition, Revision, Written};

use crate::credentials::Loader;
use crate::report::{Counters, Request, add};
use crate::request_error::{Extent, RequestError, Target};
use crate::throttle::{AFTER_REFUSAL, Throttle};

/// A store that has just failed is given this long before it is asked once more.
const BEFORE_RETRY: Duration = Duration::from_millis(50);

/// An object as it was read.
#[derive(Debug)]
pub(crate) struct Object {
    etag: Option<String>,
    body: Bytes,
}

/// The bucket.
pub(crate) struct Bucket {
    info: BlobStoreInfo,
    pub(crate) client: Client,
    pub(crate) target: Target,
    /// The name of the object that a probe asks for.
    probe: String,
    clock: Arc<dyn Clock>,
    pub(crate) counters: Counters,
    throttle: Throttle,
    pub(crate) loader: Arc<Loader>,
}

impl fmt::Debug for Bucket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Bucket").field("target", &self.target).finish_non_exhaustive()
    }
}

impl Bucket {
    pub(crate) fn new(
        client: Client,
        target: Target,
        prefix: &str,
        clock: Arc<dyn Clock>,
        loader: Arc<Loader>,
    ) -> Self {
        let prefix = prefix.trim_matches('/');
        let slash = if prefix.is_empty() { "" } else { "/" };
        Self {
            info: BlobStoreInfo::shared("s3").with_conditions(peercache_blob::Conditions::Detect),
            client,
            target,
            probe: format!("{prefix}{slash}peercache-probe"),
            clock,
            counters: Counters::default(),
            throttle: Throttle::default(),
            loader,
        }
    }

    /// The object of this name, whole, or `None`.
    async fn get(&self, name: &str, operation: Operation) -> Result<Option<Object>, RequestError> {
        let read = || async {
            let answer = self.client.get_object().bucket(&self.target.bucket).key(name).send();
            let answer = answer.await.map_err(RequestError::of)?;
            let declared = answer.content_length.and_then(|length| u64::try_from(length).ok());
            match self.collect(answer.body, declared).await? {
                Some(body) => Ok(Object { etag: answer.e_tag, body }),
                None => {
                    Err(RequestError::TooLong(declared.unwrap_or(Blob::MAX_BYTES as u64 + 1), answer.e_tag))
                }
            }
        };
        match self.send(Request::Get, operation, read).await {
            Ok(object) => Ok(Some(object)),
            Err(error) if error.is_no_such_object() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The whole body, or `None` when it is longer than any envelope.
    async fn collect(
        &self,
        mut body: ByteStream,
        declared: Option<u64>,
    ) -> Result<Option<Bytes>, RequestError> {
        let most = Blob::MAX_BYTES as u64;
        if declared.is_some_and(|length| length > most) {
            return Ok(None);
        }
        let mut whole = BytesMut::new();
        while let Some(part) = body.next().await {
            let part = part.map_err(|error| RequestError::NoAnswer(crate::credentials::innermost(&error)))?;
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
    async fn put(&self, name: &str, body: Bytes, condition: &Condition) -> Result<Written, RequestError> {
        let write = || async {
            add(&self.counters.bytes_out, body.len() as u64);
            let request = self
                .client
                .put_object()
                .bucket(&self.target.bucket)
                .key(name)
                .content_type("application/octet-stream")
                .body(ByteStream::from(body.clone()));
            let request = match condition {
                Condition::IfAbsent => request.if_none_match("*"),
                Condition::IfRevision(etag) => request.if_match(etag.as_str()),
                _ => request,
            };
            request.send().await.map_err(RequestError::of)
        };
        let conditional = *condition != Condition::Always;
        match self.send(Request::Put, Operation::Put, write).await {
            Ok(answer) => Ok(Written::Stored(answer.e_tag.map(Revision::new))),
            Err(error) if conditional && error.is_conflict() => Ok(Written::Conflict),
            Err(error) if conditional && error.is_unsupported_condition() => Ok(Written::Unsupported),
            Err(error) => Err(error),
        }
    }

    /// Sends a request, and once more if it met an accident. The SDK's own retries are off: they
    /// would run beyond our deadline, and again when the store has just asked for fewer requests.
    pub(crate) async fn send<T, F>(
        &self,
        kind: Request,
        operation: Operation,
        request: impl Fn() -> F,
    ) -> Result<T, RequestError>
    where
        F: Future<Output = Result<T, RequestError>>,
    {
        if let Some(why) = self.throttle.closed(&*self.clock, operation == Operation::Probe) {
            add(&self.counters.held_back, 1);
            return Err(RequestError::HeldBack(why));
        }
        self.counters.sent(kind);
        let first = request().await;
        let answer = match first {
            Err(error) if error.is_worth_a_retry() => {
                tokio::time::sleep(BEFORE_RETRY).await;
                add(&self.counters.retries, 1);
                self.counters.sent(kind);
                request().await
            }
            other => other,
        };
        if answer.is_ok() {
            self.throttle.open();
        }
        answer
    }

    /// The error for a caller; holds requests back where the cause concerns all of them.
    pub(crate) fn fail(&self, error: RequestError, operation: Operation) -> Error {
        let (error, extent) = error.explain(operation, &self.target, self.clock.now());
        match extent {
            Extent::Request => {}
            Extent::All => self.throttle.close(&*self.clock, AFTER_REFUSAL, error.clone(), false),
            Extent::Credentials => {
                self.loader.refused();
                self.throttle.close(&*self.clock, AFTER_REFUSAL, error.clone(), false);
            }
            Extent::Throttled(wait) => {
                add(&self.counters.throttled, 1);
                if let Some(wait) = wait {
                    self.throttle.close(&*self.clock, wait, error.clone(), true);
                }
            }
        }
        error
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl BlobStore for Bucket {
    fn info(&self) -> &BlobStoreInfo {
        &self.info
    }

    async fn read(&self, name: &str) -> Result<Option<Blob>, Error> {
        match self.get(name, Operation::Get).await {
            Ok(Some(object)) => {
                Ok(Some(Blob::new(object.body).with_revision(object.etag.map(Revision::new))))
            }
            Ok(None) => Ok(None),
            Err(RequestError::TooLong(bytes, etag)) => {
                Ok(Some(Blob::too_large(bytes).with_revision(etag.map(Revision::new))))
            }
            Err(error) => Err(self.fail(error, Operation::Get)),
        }
    }

    async fn write(
        &self,
        name: &str,
        bytes: Bytes,
        condition: Condition,
        _ttl: Option<Duration>,
    ) -> Result<Written, Error> {
        if matches!(condition, Condition::IfNewer(_)) {
            return Ok(Written::Unsupported);
        }
        match self.put(name, bytes, &condition).await {
            Ok(written) => Ok(written),
            Err(error) if error.is_access_denied() => Ok(Written::ReadOnly(self.fail(error, Operation::Put))),
            Err(error) => Err(self.fail(error, Operation::Put)),
        }
    }

    async fn probe(&self) -> Result<(), Error> {
        match self.get(&self.probe, Operation::Probe).await {
            // Whether it is there or not: the store knows the bucket and accepts our signature.
            Ok(_) | Err(RequestError::TooLong(..)) => Ok(()),
            Err(error) => Err(self.fail(error, Operation::Probe)),
        }
    }

    async fn close(&self) -> Result<(), Error> {
        // The SDK closes its connections when the client is dropped.
        Ok(())
    }
}
