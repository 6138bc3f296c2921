//! Loading values of any size: the loader's stream is stored as it comes, and read from the cache.

use std::borrow::Cow;
use std::fmt::Display;
use std::sync::PoisonError;
use std::time::Duration;

use bytes::Bytes;
use futures_util::Stream;
use peercache_api::{Entry, Error, ErrorKind, Operation, Version};
use peercache_chain::{Flight, Leased, Lookup, Outcome};

use super::Cache;
use super::context::{LoadContext, LoadReason};
use super::engine::{Job, reason};
use super::fetch_error::{FetchError, LoadFailure};
use super::fetch_options::Refresh;
use super::fetched::{Fetched, FetchedFrom};
use super::loads::{Broken, add_one};
use super::nested::Circle;
use crate::large::{Failure, Found, LargeValue};

/// What the lookup before a load has shown.
struct Seen {
    reason: LoadReason,
    /// What is to be replaced, for the loader to look at, and to serve when it fails.
    stale: Option<Stale>,
    /// Whether other machines are asked who loads.
    lease: bool,
    /// Only a value above this one is of use.
    newest: Option<Version>,
}

#[derive(Clone)]
struct Stale {
    entry: Entry,
    value: LargeValue,
    age: Duration,
    tier: Option<Cow<'static, str>>,
}

impl Stale {
    fn served(self, from: FetchedFrom) -> Fetched<LargeValue> {
        Fetched { value: self.value, from, age: self.age, tier: self.tier }
    }
}

impl Cache {
    /// Serves from the cache, or loads a stream.
    pub(super) async fn serve_or_load_stream<S, E, L, Fut>(
        &self,
        job: Job,
        load: L,
    ) -> Result<Fetched<LargeValue>, FetchError<E>>
    where
        S: Stream<Item = Result<Bytes, E>> + Send + 'static,
        E: Display + Send + Sync + 'static,
        L: FnOnce(LoadContext<LargeValue>) -> Fut + Send + 'static,
        Fut: Future<Output = Result<S, E>> + Send + 'static,
    {
        let lookup = self.lookup(&job.key).await;
        let lease = self.coordinates_after(&lookup);
        let Lookup { outcome, entry, tier, age, newest, .. } = lookup;
        let mut seen = Seen { reason: reason(&job, false), stale: None, lease, newest };
        if let Some(entry) = entry
            && let Some(value) = self.large().open(entry.clone()).await
        {
            let fresh_for = entry.metadata().fresh_for;
            let found = Stale { entry, value, age, tier };
            match job.served_from(outcome, true) {
                Some(FetchedFrom::Cache)
                    if job.refresh == Refresh::Normal && job.policy.is_early(age, fresh_for) =>
                {
                    return Ok(self.serve_and_refresh(job, found, FetchedFrom::Cache, seen, load));
                }
                Some(from @ FetchedFrom::StaleWhileRefreshing) => {
                    add_one(&self.loads().stale_while_refreshing);
                    return Ok(self.serve_and_refresh(job, found, from, seen, load));
                }
                Some(from) => return Ok(found.served(from)),
                None => {
                    seen.reason = reason(&job, outcome == Outcome::Stale);
                    seen.stale = Some(found);
                }
            }
        }
        if job.refresh == Refresh::CacheOnly {
            return Err(FetchError::NotCached);
        }
        // Boxed, so that a hit does not carry the room for a load about.
        Box::pin(self.stream_or_stale(&job, seen, load)).await
    }

    /// Gives what was found, and refreshes it in the background.
    fn serve_and_refresh<S, E, L, Fut>(
        &self,
        job: Job,
        found: Stale,
        from: FetchedFrom,
        seen: Seen,
        load: L,
    ) -> Fetched<LargeValue>
    where
        S: Stream<Item = Result<Bytes, E>> + Send + 'static,
        E: Display + Send + Sync + 'static,
        L: FnOnce(LoadContext<LargeValue>) -> Fut + Send + 'static,
        Fut: Future<Output = Result<S, E>> + Send + 'static,
    {
        let served = found.clone().served(from);
        if self.pausing(&job).is_some() {
            add_one(&self.loads().backed_off);
            return served;
        }
        let seen = Seen { reason: LoadReason::Stale, stale: Some(found), ..seen };
        let (handle, scoped) = (self.clone(), job.scoped.clone());
        self.loads().refresh(&scoped, async move {
            let why = match handle.load_stream(&job, seen, load).await {
                Ok(Ok(_)) => return true,
                Ok(Err(failure)) => failure.to_string(),
                Err(error) => error.to_string(),
            };
            tracing::debug!(error = why, "a value could not be refreshed");
            false
        });
        served
    }

    /// Runs the loader, and gives the stale value if it fails and the policy says so.
    async fn stream_or_stale<S, E, L, Fut>(
        &self,
        job: &Job,
        seen: Seen,
        load: L,
    ) -> Result<Fetched<LargeValue>, FetchError<E>>
    where
        S: Stream<Item = Result<Bytes, E>>,
        E: Display + Send + Sync + 'static,
        L: FnOnce(LoadContext<LargeValue>) -> Fut,
        Fut: Future<Output = Result<S, E>>,
    {
        let forced = job.refresh == Refresh::Force;
        let fallback = seen.stale.clone().filter(|_| !forced && job.policy.serves_stale_if_error());
        let failure = match self.pausing(job).filter(|_| !forced) {
            Some(failure) => {
                add_one(&self.loads().backed_off);
                failure
            }
            None => match self.load_stream(job, seen, load).await? {
                Ok(fetched) => return Ok(fetched),
                Err(failure) => failure,
            },
        };
        match fallback {
            Some(stale) => {
                add_one(&self.loads().stale_on_error);
                Ok(stale.served(FetchedFrom::StaleOnError(failure)))
            }
            None => Err(failure.into_error()),
        }
    }

    /// Runs `load`, or waits for the loader of this key that runs already. A failure of the loader
    /// is in the inner result.
    async fn load_stream<S, E, L, Fut>(
        &self,
        job: &Job,
        seen: Seen,
        load: L,
    ) -> Result<Result<Fetched<LargeValue>, LoadFailure>, FetchError<E>>
    where
        S: Stream<Item = Result<Bytes, E>>,
        E: Display + Send + Sync + 'static,
        L: FnOnce(LoadContext<LargeValue>) -> Fut,
        Fut: Future<Output = Result<S, E>>,
    {
        let loads = self.loads();
        let _waiting = loads.waits.enter(&job.scoped).map_err(|Circle| FetchError::Recursive)?;
        let mut from = FetchedFrom::Joined;
        let lead = || self.lead_stream(job, seen, load, &mut from);
        let force = job.refresh == Refresh::Force;
        let (result, flight) = loads.flights.streams.run(&job.scoped, force, lead).await;
        if flight == Flight::Joined {
            add_one(&loads.joined);
        }
        match result {
            Ok(value) => Ok(Ok(Fetched::loaded(value, from))),
            Err(Broken::Load(failure)) => Ok(Err(failure)),
            Err(Broken::Encode(error)) => Err(FetchError::Encode(error)),
        }
    }

    /// What the caller does whose loader runs: a last look, a lease, the load itself, and storing.
    /// How it came by the value goes to `from`.
    async fn lead_stream<S, E, L, Fut>(
        &self,
        job: &Job,
        seen: Seen,
        load: L,
        from: &mut FetchedFrom,
    ) -> Result<LargeValue, Broken>
    where
        S: Stream<Item = Result<Bytes, E>>,
        E: Display + Send + Sync + 'static,
        L: FnOnce(LoadContext<LargeValue>) -> Fut,
        Fut: Future<Output = Result<S, E>>,
    {
        let loads = self.loads();
        let Seen { reason, stale, lease, newest } = seen;
        let replaced = stale.as_ref().map(|stale| stale.entry.version());
        // A flight may have landed between this caller's lookup and its own start.
        if reason != LoadReason::Forced
            && let Some(entry) = self.chain().peek_local(&job.scoped).await
            && replaced.is_none_or(|replaced| entry.version() > replaced)
            && let Some(value) = self.large().open(entry).await
        {
            *from = FetchedFrom::Cache;
            return Ok(value);
        }
        let leased = match lease {
            true => self.lease(&job.key, newest).await,
            false => Leased::Alone,
        };
        let lease = match leased {
            Leased::Granted(lease) => Some(lease),
            Leased::Alone => None,
            Leased::Found(entry) => {
                if let Some(value) = self.large().open(entry).await {
                    return Ok(value);
                }
                None
            }
        };
        // As of now: what is removed while the loader runs stays removed.
        let moment = self.large().moment();
        let found = stale.as_ref().map(|stale| Found::plain(stale.entry.clone()));
        let decode = move |_: &Found| stale.as_ref().map(|stale| stale.value.clone());
        let (context, said) = LoadContext::new(reason, found, decode);
        let loaded = async {
            let source = load(context).await.map_err(Failure::Source)?;
            let said = std::mem::take(&mut *said.lock().unwrap_or_else(PoisonError::into_inner));
            let keep = !said.not_kept;
            let options = job.options(said, false, self.default_ttl(), moment.version)?;
            self.large().store_and_open(&job.key, source, options, moment, keep).await
        };
        let loaded = loads.waits.inside(&job.scoped, loaded).await;
        add_one(&loads.ended);
        *from = FetchedFrom::Loaded;
        let error = match loaded {
            Err(Failure::Source(error)) => return Err(self.failed(job, error)),
            Err(Failure::Entry(error)) => error,
            Ok((stored, value)) => {
                loads.failures.forget(&job.scoped);
                if stored.stored
                    && let Some(lease) = lease
                {
                    lease.resolve(&stored.outcome);
                }
                match value {
                    Some(value) => return Ok(value),
                    None => no_room(stored.len),
                }
            }
        };
        add_one(&loads.errors);
        self.note_not_kept(job, &error);
        Err(Broken::Encode(error))
    }
}

fn no_room(len: u64) -> Error {
    let what = format!("no tier holds the value that was streamed, of which {len} bytes were read");
    Error::new(ErrorKind::TooLarge, Operation::Put, what)
        .with_help("give the cache a tier that is larger than the value, or read it from its origin")
}
