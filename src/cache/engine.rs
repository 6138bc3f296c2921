//! The one load engine: looks, serves what is stale, or runs one loader for everyone who waits.

use std::fmt::Display;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use peercache_api::{Entry, ErrorKind, Key, Version};
use peercache_chain::{Flight, Lease, Leased, Lookup, Outcome};

use super::Cache;
use super::context::{LoadContext, LoadReason, Said};
use super::fetch_error::{FetchError, LoadFailure};
use super::fetch_options::{Policy, Refresh, check_tags};
use super::fetched::{Fetched, FetchedFrom};
use super::form::{Form, Stored};
use super::loads::{Broken, add_one};
use super::nested::Circle;
use crate::large::{Found, Loaded, StreamOptions};

/// What is to be loaded, and how its value is kept. Its bounds are checked.
#[derive(Clone, Debug)]
pub(super) struct Job {
    pub(super) key: Key,
    /// The key as it is stored.
    scoped: Key,
    policy: Policy,
    refresh: Refresh,
}

/// What the lookup before a load has shown.
#[derive(Clone, Debug)]
struct Seen {
    reason: LoadReason,
    /// What is to be replaced, for the loader to look at, and to serve when it fails.
    stale: Option<Stale>,
    /// Whether other machines are asked who loads.
    lease: bool,
    /// Only a value above this one is of use.
    newest: Option<Version>,
}

#[derive(Clone, Debug)]
struct Stale {
    found: Found,
    age: Duration,
    tier: Option<std::borrow::Cow<'static, str>>,
}

/// What the cache had to say.
enum Looked<T> {
    /// This is to be served.
    Serve(Fetched<T>),
    /// This is to be served, and refreshed in the background.
    ServeAndRefresh(Fetched<T>, Seen),
    /// The loader is to be asked.
    Load(Seen),
}

impl Job {
    pub(super) fn new(
        cache: &Cache,
        key: Key,
        policy: Policy,
        refresh: Refresh,
    ) -> Result<Self, peercache_api::Error> {
        policy.check(cache.default_ttl())?;
        let scoped = cache.entries().scope(&key);
        Ok(Self { key, scoped, policy, refresh })
    }
}

impl Cache {
    /// Serves from the cache or loads. Where `background` is set, it starts the refresh that it is
    /// given for a value that is served stale; where it is not, such a value is loaded while the
    /// caller waits.
    pub(super) async fn serve_or_load<F, E, L, Fut>(
        &self,
        job: Job,
        form: F,
        load: L,
        background: Option<fn(&Cache, Background<F, L>)>,
    ) -> Result<Fetched<F::Value>, FetchError<E>>
    where
        F: Form,
        E: Display + Send + Sync + 'static,
        L: FnOnce(LoadContext<F::Value>) -> Fut,
        Fut: Future<Output = Result<F::Value, E>>,
    {
        let seen = match self.look(&job, &form, background.is_some()).await {
            Looked::Serve(fetched) => return Ok(fetched),
            Looked::ServeAndRefresh(fetched, seen) => {
                if let Some(start) = background {
                    start(self, Background { job, form, seen, load });
                }
                return Ok(fetched);
            }
            Looked::Load(seen) => seen,
        };
        if job.refresh == Refresh::CacheOnly {
            return Err(FetchError::NotCached);
        }
        // Boxed, so that a hit does not carry the room for a load about.
        Box::pin(self.load_or_stale(&job, &form, seen, load)).await
    }

    /// Looks into the cache, and says what is to be done.
    async fn look<F: Form>(&self, job: &Job, form: &F, background: bool) -> Looked<F::Value> {
        let lookup = self.lookup(&job.key).await;
        let lease = self.coordinates_after(&lookup);
        let Lookup { outcome, entry, tier, age, newest, .. } = lookup;
        let nothing = Seen { reason: LoadReason::Miss, stale: None, lease, newest };
        let Some(entry) = entry else { return Looked::Load(Seen { reason: reason(job, false), ..nothing }) };
        let fresh_for = entry.metadata().fresh_for;
        let Some(found) = self.large().found(entry).await else {
            return Looked::Load(Seen { reason: reason(job, false), ..nothing });
        };
        let policy = &job.policy;
        let from = match (job.refresh, outcome) {
            (Refresh::Force, _) => None,
            (_, Outcome::Hit) => Some(FetchedFrom::Cache),
            (Refresh::CacheOnly, _) => Some(FetchedFrom::Stale),
            (Refresh::Normal, _) if background && policy.serves_stale_while_refreshing() => {
                Some(FetchedFrom::StaleWhileRefreshing)
            }
            _ => None,
        };
        let served = from.and_then(|from| {
            let value = self.decoded(form, &found)?;
            Some(Fetched { value, from, age, tier: tier.clone() })
        });
        let refreshes = |fetched: &Fetched<F::Value>| match fetched.from {
            FetchedFrom::StaleWhileRefreshing => true,
            FetchedFrom::Cache => {
                background && job.refresh == Refresh::Normal && policy.is_early(age, fresh_for)
            }
            _ => false,
        };
        match served {
            Some(fetched) if refreshes(&fetched) => {
                if fetched.is_stale() {
                    add_one(&self.loads().stale_while_refreshing);
                }
                let stale = Some(Stale { found, age, tier });
                Looked::ServeAndRefresh(fetched, Seen { reason: LoadReason::Stale, stale, ..nothing })
            }
            Some(fetched) => Looked::Serve(fetched),
            None => {
                let reason = reason(job, outcome == Outcome::Stale);
                let stale = Some(Stale { found, age, tier });
                Looked::Load(Seen { reason, stale, ..nothing })
            }
        }
    }

    /// Runs the loader, and gives the stale value if it fails and the policy says so.
    async fn load_or_stale<F, E, L, Fut>(
        &self,
        job: &Job,
        form: &F,
        seen: Seen,
        load: L,
    ) -> Result<Fetched<F::Value>, FetchError<E>>
    where
        F: Form,
        E: Display + Send + Sync + 'static,
        L: FnOnce(LoadContext<F::Value>) -> Fut,
        Fut: Future<Output = Result<F::Value, E>>,
    {
        let forced = job.refresh == Refresh::Force;
        let fallback = seen.stale.clone().filter(|_| !forced && job.policy.serves_stale_if_error());
        let ended = match self.pausing(job).filter(|_| !forced) {
            Some(failure) => {
                add_one(&self.loads().backed_off);
                Err(failure)
            }
            None => match self.load(job, form, seen, load).await? {
                Ok(fetched) => return Ok(fetched),
                Err(failure) => Err::<Fetched<F::Value>, _>(failure),
            },
        };
        let Err(failure) = ended else { return Err(FetchError::NotCached) };
        if let Some(Stale { found, age, tier }) = fallback
            && let Some(value) = self.decoded(form, &found)
        {
            add_one(&self.loads().stale_on_error);
            return Ok(Fetched { value, from: FetchedFrom::StaleOnError(failure), age, tier });
        }
        Err(failure.into_error())
    }

    /// The failure because of which the key is not to be loaded now.
    fn pausing(&self, job: &Job) -> Option<LoadFailure> {
        if job.policy.backoff().is_zero() {
            return None;
        }
        self.loads().failures.find(&job.scoped, self.chain().clock().monotonic())
    }

    /// Runs `load`, or waits for the loader of this key that runs already. A failure of the loader
    /// is in the inner result.
    async fn load<F, E, L, Fut>(
        &self,
        job: &Job,
        form: &F,
        seen: Seen,
        load: L,
    ) -> Result<Result<Fetched<F::Value>, LoadFailure>, FetchError<E>>
    where
        F: Form,
        E: Display + Send + Sync + 'static,
        L: FnOnce(LoadContext<F::Value>) -> Fut,
        Fut: Future<Output = Result<F::Value, E>>,
    {
        let loads = self.loads();
        let _waiting = loads.waits.enter(&job.scoped).map_err(|Circle| FetchError::Recursive)?;
        let mut own = None;
        let (result, flight) = match job.refresh {
            Refresh::Force => {
                let flights = &loads.flights;
                let lead = || async {
                    // A loader that runs already began before this call.
                    flights.running.forget(&job.scoped);
                    flights.running.run(&job.scoped, || self.lead(job, form, seen, load, &mut own)).await.0
                };
                flights.forced.run(&job.scoped, lead).await
            }
            _ => {
                let lead = || self.lead(job, form, seen, load, &mut own);
                loads.flights.running.run(&job.scoped, lead).await
            }
        };
        if flight == Flight::Joined {
            add_one(&loads.joined);
        }
        match (own, result) {
            // Also where it cannot be encoded: the value is there, and only others have to do
            // without.
            (Some((value, from)), _) => Ok(Ok(Fetched::loaded(value, from))),
            (None, Ok(loaded)) => match form.decode(Stored::loaded(&loaded)) {
                Ok(value) => Ok(Ok(Fetched::loaded(value, FetchedFrom::Joined))),
                Err(error) => Err(FetchError::Decode(error)),
            },
            (None, Err(Broken::Load(failure))) => Ok(Err(failure)),
            (None, Err(Broken::Encode(error))) => Err(FetchError::Encode(error)),
        }
    }

    /// What the caller does whose loader runs: a last look, a lease, the load itself, and storing.
    /// The value goes to `own`, its bytes to those who wait.
    async fn lead<F, E, L, Fut>(
        &self,
        job: &Job,
        form: &F,
        seen: Seen,
        load: L,
        own: &mut Option<(F::Value, FetchedFrom)>,
    ) -> Result<Loaded, Broken>
    where
        F: Form,
        E: Display + Send + Sync + 'static,
        L: FnOnce(LoadContext<F::Value>) -> Fut,
        Fut: Future<Output = Result<F::Value, E>>,
    {
        let loads = self.loads();
        let Seen { reason, stale, lease, newest } = seen;
        let replaced = stale.as_ref().map(|stale| stale.found.entry.version());
        // A flight may have landed between this caller's lookup and its own start.
        if reason != LoadReason::Forced
            && let Some(entry) = self.chain().peek_local(&job.scoped).await
            && replaced.is_none_or(|replaced| entry.version() > replaced)
            && let Some(found) = self.large().found(entry).await
            && let Ok(value) = form.decode(Stored::found(&found))
        {
            *own = Some((value, FetchedFrom::Cache));
            return Ok(Loaded::of(found));
        }
        let leased = match lease {
            // Boxed, so that a load that nobody coordinates does not carry the room for it.
            true => Box::pin(self.lease(&job.key, newest)).await,
            false => Leased::Alone,
        };
        let lease = match leased {
            Leased::Granted(lease) => Some(lease),
            Leased::Alone => None,
            Leased::Found(entry) => {
                if let Some(found) = self.large().found(entry).await
                    && let Ok(value) = form.decode(Stored::found(&found))
                {
                    form.remember(&value, &found);
                    *own = Some((value, FetchedFrom::Joined));
                    return Ok(Loaded::of(found));
                }
                None
            }
        };
        // As of now: what is removed while the loader runs stays removed.
        let version = self.next_version();
        let decoder = form.clone();
        let decode = move |found: &Found| decoder.decode(Stored::found(found)).ok();
        let (context, said) = LoadContext::new(reason, stale.map(|stale| stale.found), decode);
        let value = loads.waits.inside(&job.scoped, load(context)).await;
        add_one(&loads.ended);
        let value = match value {
            Ok(value) => value,
            Err(error) => {
                add_one(&loads.errors);
                let failure = LoadFailure::new(error);
                let now = self.chain().clock().monotonic();
                loads.failures.note(&job.scoped, now, job.policy.backoff(), &failure);
                return Err(Broken::Load(failure));
            }
        };
        loads.failures.forget(&job.scoped);
        let encoded = form.encode(&value);
        // Before the first wait, so that a value need not be `Sync`.
        *own = Some((value, FetchedFrom::Loaded));
        match encoded {
            Ok(loaded) => {
                self.store_loaded(job, &loaded, &said, version, lease).await;
                Ok(loaded)
            }
            Err(error) => {
                add_one(&loads.errors);
                self.note_not_kept(job, &error);
                Err(Broken::Encode(error))
            }
        }
    }

    /// Stores a value that a loader gave. One that cannot be kept is given to the callers all the
    /// same; one that is too large for that also ends what it replaces.
    ///
    /// Ends the lease, with the value if it is for other machines too.
    async fn store_loaded(
        &self,
        job: &Job,
        loaded: &Loaded,
        said: &Mutex<Said>,
        version: Version,
        lease: Option<Lease>,
    ) {
        let said = std::mem::take(&mut *said.lock().unwrap_or_else(PoisonError::into_inner));
        if said.not_kept {
            return;
        }
        let policy = match said.ttl {
            Some(ttl) => &job.policy.with_ttl(ttl),
            None => &job.policy,
        };
        // A loader that says how long there is none means it.
        let absent = loaded.absent && said.ttl.is_none();
        let ttl = policy.lifetime(absent, self.default_ttl(), &job.key, version);
        let tags = policy.all_tags().chain(said.tags.iter().map(String::as_str));
        let mut options = tags.fold(StreamOptions::new(ttl), StreamOptions::tag);
        options.content_type = loaded.content_type.clone().or(said.content_type);
        options.etag = said.etag;
        options.last_modified = said.last_modified;
        options.decoded.clone_from(&loaded.decoded);
        let checked = check_tags(options.tags.iter().map(String::as_str));
        let stored = match checked {
            Ok(()) => self.store_own(&job.key, loaded.bytes.clone(), options, version, loaded.absent).await,
            Err(error) => Err(error),
        };
        match stored {
            Ok(outcome) => {
                if let Some(lease) = lease {
                    lease.resolve(&outcome);
                }
            }
            Err(error) => {
                self.note_not_kept(job, &error);
                if error.kind() == ErrorKind::TooLarge {
                    drop(self.put_entry(&job.key, Entry::tombstone(version, self.now())).await);
                }
            }
        }
    }

    fn note_not_kept(&self, job: &Job, error: &peercache_api::Error) {
        add_one(&self.loads().not_kept);
        let key = job.key.fingerprint();
        tracing::warn!(key, %error, "a loaded value is given to its callers and not kept");
    }
}

fn reason(job: &Job, stale: bool) -> LoadReason {
    match job.refresh {
        Refresh::Force => LoadReason::Forced,
        _ if stale => LoadReason::Stale,
        _ => LoadReason::Miss,
    }
}

/// A refresh that is to be started.
pub(super) struct Background<F, L> {
    job: Job,
    form: F,
    seen: Seen,
    load: L,
}

/// Starts a refresh in the background, unless the last load has failed just now.
pub(super) fn refresh<F, E, L, Fut>(cache: &Cache, background: Background<F, L>)
where
    F: Form,
    F::Value: Send + 'static,
    E: Display + Send + Sync + 'static,
    L: FnOnce(LoadContext<F::Value>) -> Fut + Send + 'static,
    Fut: Future<Output = Result<F::Value, E>> + Send + 'static,
{
    if cache.pausing(&background.job).is_some() {
        return add_one(&cache.loads().backed_off);
    }
    let scoped = background.job.scoped.clone();
    let handle = cache.clone();
    cache.loads().refresh(&scoped, async move {
        let Background { job, form, seen, load } = background;
        match handle.load(&job, &form, seen, load).await {
            Ok(Ok(_)) => true,
            Ok(Err(failure)) => {
                tracing::debug!(error = %failure, "a value could not be refreshed");
                false
            }
            Err(error) => {
                tracing::debug!(%error, "a value could not be refreshed");
                false
            }
        }
    });
}
