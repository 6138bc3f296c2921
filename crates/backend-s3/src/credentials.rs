//! Loads credentials once for all who ask, and keeps them.
//!
//! The SDK loads within the request that needs them. A chain gives a lookup half a second; the
//! first load may take longer (a token is exchanged, a metadata service asked), would be dropped
//! with the lookup and begun anew by the next one, for ever. So it runs in a task of its own here.
//! And the SDK never asks again for credentials that the store has refused, while files and
//! metadata services do get new ones.

use std::error::Error as StdError;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, UNIX_EPOCH};

use async_trait::async_trait;
use aws_credential_types::Credentials;
use aws_credential_types::provider::error::CredentialsError;
use aws_credential_types::provider::future::ProvideCredentials as Providing;
use aws_credential_types::provider::{ProvideCredentials, SharedCredentialsProvider};
use futures_util::FutureExt;
use futures_util::future::{BoxFuture, Shared};
use peercache_api::Clock;

/// A load that takes longer than this is warned of: lookups wait for it meanwhile.
const SLOW_LOAD: Duration = Duration::from_secs(1);
/// The longest that one load may take.
const LOAD_TIMEOUT: Duration = Duration::from_secs(20);
/// Credentials are renewed this long before they expire.
const BEFORE_EXPIRY: Duration = Duration::from_secs(60);
/// After a load that failed, or whose result the store refused, the next one waits for this long.
const BETWEEN_LOADS: Duration = Duration::from_secs(5);

/// Makes a provider that has remembered nothing: the SDK's own read files once.
#[async_trait]
pub(crate) trait Origin: fmt::Debug + Send + Sync {
    async fn provider(&self) -> SharedCredentialsProvider;
}

/// Why there are no credentials, in words without secrets.
#[derive(Clone, Debug)]
struct Failure {
    what: What,
    text: Arc<str>,
}

#[derive(Clone, Copy, Debug)]
enum What {
    Missing,
    Invalid,
    Unavailable,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl StdError for Failure {}

impl Failure {
    fn of(error: &CredentialsError) -> Self {
        let what = match error {
            CredentialsError::CredentialsNotLoaded(_) => What::Missing,
            CredentialsError::InvalidConfiguration(_) => What::Invalid,
            _ => What::Unavailable,
        };
        Self { what, text: innermost(error).into() }
    }

    fn into_error(self) -> CredentialsError {
        match self.what {
            What::Missing => CredentialsError::not_loaded(self),
            What::Invalid => CredentialsError::invalid_configuration(self),
            What::Unavailable => CredentialsError::provider_error(self),
        }
    }
}

/// What the last error of the chain says, on one line and not endless.
pub(crate) fn innermost(error: &(dyn StdError + 'static)) -> String {
    let mut last = error;
    while let Some(source) = last.source() {
        last = source;
    }
    last.to_string().split_whitespace().collect::<Vec<_>>().join(" ").chars().take(300).collect()
}

type Load = Shared<BoxFuture<'static, Result<Credentials, Failure>>>;

#[derive(Default)]
struct State {
    /// What the last load gave, and when it ended.
    last: Option<(Result<Credentials, Failure>, Duration)>,
    refused: bool,
    running: Option<Load>,
}

/// The provider that requests are signed with.
pub(crate) struct Loader {
    origin: Arc<dyn Origin>,
    clock: Arc<dyn Clock>,
    state: Mutex<State>,
}

impl fmt::Debug for Loader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Loader").finish_non_exhaustive()
    }
}

impl Loader {
    pub(crate) fn new(origin: Arc<dyn Origin>, clock: Arc<dyn Clock>) -> Arc<Self> {
        Arc::new(Self { origin, clock, state: Mutex::default() })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether requests wait for credentials at the moment.
    pub(crate) fn is_loading(&self) -> bool {
        self.state().running.is_some()
    }

    /// The store does not take these credentials: the next request loads them anew.
    pub(crate) fn refused(&self) {
        self.state().refused = true;
    }

    /// What is at hand, or the load that is under way, or a new one.
    fn current(self: &Arc<Self>) -> Result<Result<Credentials, Failure>, Load> {
        let mut state = self.state();
        if let Some(load) = &state.running {
            return Err(load.clone());
        }
        if let Some((last, ended)) = &state.last {
            let rested = self.clock.monotonic().saturating_sub(*ended) >= BETWEEN_LOADS;
            let usable = last.as_ref().is_ok_and(|credentials| !state.refused && self.lasts(credentials));
            if usable || !rested {
                return Ok(last.clone());
            }
        }
        let this = Arc::clone(self);
        let task = tokio::spawn(async move { this.load().await });
        let load: Load = async move {
            task.await.unwrap_or_else(|broken| {
                Err(Failure { what: What::Unavailable, text: broken.to_string().into() })
            })
        }
        .boxed()
        .shared();
        state.running = Some(load.clone());
        Err(load)
    }

    fn lasts(&self, credentials: &Credentials) -> bool {
        let Some(expiry) = credentials.expiry() else { return true };
        let now = UNIX_EPOCH + Duration::from_millis(self.clock.now().as_millis());
        expiry.duration_since(now).is_ok_and(|left| left > BEFORE_EXPIRY)
    }

    async fn load(&self) -> Result<Credentials, Failure> {
        let loading = async { self.origin.provider().await.provide_credentials().await };
        let mut loading = std::pin::pin!(tokio::time::timeout(LOAD_TIMEOUT, loading));
        let answer = match tokio::time::timeout(SLOW_LOAD, &mut loading).await {
            Ok(answer) => answer,
            Err(_) => {
                tracing::warn!(
                    "the credentials for the bucket are not loaded after {} s; what is asked of the bucket \
                     waits for them: see AWS_PROFILE and what it runs, or the metadata service of the machine",
                    SLOW_LOAD.as_secs()
                );
                loading.await
            }
        };
        let loaded = match answer {
            Ok(Ok(credentials)) => checked(credentials),
            Ok(Err(error)) => Err(Failure::of(&error)),
            Err(_) => Err(Failure {
                what: What::Unavailable,
                text: "no source of credentials answered within 20 s".into(),
            }),
        };
        let mut state = self.state();
        state.running = None;
        state.refused = false;
        state.last = Some((loaded.clone(), self.clock.monotonic()));
        loaded
    }
}

/// Why this cannot be a key, in words that do not repeat it. The SDK panics over some of these.
pub(crate) fn flaw_of_key(key: &str) -> Option<&'static str> {
    if key.chars().any(char::is_control) {
        return Some("has a line break or another control character in it");
    }
    if key.chars().any(|c| !c.is_ascii_graphic()) {
        return Some("has a space or a character beyond ASCII in it");
    }
    if key.starts_with(['"', '\'']) {
        return Some("begins with a quotation mark");
    }
    None
}

/// Takes the white space around keys away, as a file's line break. Refuses credentials that no
/// request can carry: the SDK panics over them.
fn checked(credentials: Credentials) -> Result<Credentials, Failure> {
    let mut trimmed = Credentials::builder()
        .access_key_id(credentials.access_key_id().trim())
        .secret_access_key(credentials.secret_access_key().trim())
        .provider_name("peercache");
    trimmed.set_session_token(credentials.session_token().map(|token| token.trim().to_owned()));
    trimmed.set_expiry(credentials.expiry());
    trimmed.set_account_id(credentials.account_id().cloned());
    let credentials = trimmed.build();
    let parts = [
        ("access key id", Some(credentials.access_key_id())),
        ("secret access key", Some(credentials.secret_access_key())),
        ("session token", credentials.session_token()),
    ];
    for (part, key) in parts {
        if let Some(flaw) = key.and_then(flaw_of_key) {
            return Err(Failure { what: What::Invalid, text: format!("the {part} {flaw}").into() });
        }
    }
    Ok(credentials)
}

/// A [`Loader`] as the SDK wants it.
#[derive(Clone, Debug)]
pub(crate) struct Provider(pub(crate) Arc<Loader>);

impl ProvideCredentials for Provider {
    fn provide_credentials<'a>(&'a self) -> Providing<'a>
    where
        Self: 'a,
    {
        Providing::new(async move {
            let loaded = match self.0.current() {
                Ok(loaded) => loaded,
                Err(load) => load.await,
            };
            loaded.map_err(Failure::into_error)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use peercache_testkit::ManualClock;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use tokio::sync::Semaphore;

    #[derive(Debug)]
    struct Slow {
        loads: AtomicUsize,
        go: Arc<Semaphore>,
        fails: bool,
    }

    #[derive(Debug)]
    struct Once(Arc<Semaphore>, bool, String);

    impl ProvideCredentials for Once {
        fn provide_credentials<'a>(&'a self) -> Providing<'a>
        where
            Self: 'a,
        {
            Providing::new(async move {
                self.0.acquire().await.unwrap().forget();
                if self.1 {
                    return Err(CredentialsError::not_loaded("nothing is set"));
                }
                Ok(Credentials::new(self.2.clone(), "hush", None, None, "test"))
            })
        }
    }

    #[async_trait]
    impl Origin for Slow {
        async fn provider(&self) -> SharedCredentialsProvider {
            let load = self.loads.fetch_add(1, Ordering::SeqCst);
            SharedCredentialsProvider::new(Once(Arc::clone(&self.go), self.fails, format!("AK{load}")))
        }
    }

    fn loader(fails: bool) -> (Provider, Arc<Slow>, Arc<ManualClock>) {
        let clock = Arc::new(ManualClock::default());
        let origin = Arc::new(Slow { loads: AtomicUsize::new(0), go: Arc::new(Semaphore::new(0)), fails });
        let loader =
            Loader::new(Arc::clone(&origin) as Arc<dyn Origin>, Arc::clone(&clock) as Arc<dyn Clock>);
        (Provider(loader), origin, clock)
    }

    #[tokio::test]
    async fn a_load_outlives_who_asked_for_it_and_is_shared() {
        let (provider, origin, _) = loader(false);
        let mut asked = Box::pin(async { provider.provide_credentials().await });
        assert!(futures_util::poll!(&mut asked).is_pending());
        drop(asked);
        origin.go.add_permits(1);
        let (one, other) = tokio::join!(provider.provide_credentials(), provider.provide_credentials());
        assert_eq!((one.unwrap().access_key_id(), other.unwrap().access_key_id()), ("AK0", "AK0"));
        assert_eq!(origin.loads.load(Ordering::SeqCst), 1);
    }

    #[tokio::test]
    async fn refused_credentials_are_loaded_anew_but_not_at_once() {
        let (provider, origin, clock) = loader(false);
        origin.go.add_permits(10);
        provider.provide_credentials().await.unwrap();
        provider.0.refused();
        assert_eq!(provider.provide_credentials().await.unwrap().access_key_id(), "AK0");
        clock.advance(BETWEEN_LOADS);
        assert_eq!(provider.provide_credentials().await.unwrap().access_key_id(), "AK1");
        clock.advance(BETWEEN_LOADS);
        assert_eq!(provider.provide_credentials().await.unwrap().access_key_id(), "AK1", "not refused");
    }

    #[test]
    fn loaded_key_with_a_line_break_is_an_error_and_not_repeated() {
        let with = |id: &str, token: &str| {
            checked(Credentials::new(id, "secret", Some(token.to_owned()), None, "test"))
        };
        assert!(with("AK", "token").is_ok());
        let trimmed = with("AK\r\n", " token\n").unwrap();
        assert_eq!((trimmed.access_key_id(), trimmed.session_token()), ("AK", Some("token")));
        let failure = with("hu\rsh", "token").unwrap_err();
        assert_eq!(&*failure.text, "the access key id has a line break or another control character in it");
        assert!(matches!(with("AK", "hu\nsh").unwrap_err().what, What::Invalid));
    }

    #[tokio::test]
    async fn a_failure_is_remembered_for_a_while() {
        let (provider, origin, clock) = loader(true);
        origin.go.add_permits(10);
        for _ in 0..3 {
            let error = provider.provide_credentials().await.unwrap_err();
            assert!(matches!(error, CredentialsError::CredentialsNotLoaded(_)), "{error:?}");
        }
        assert_eq!(origin.loads.load(Ordering::SeqCst), 1);
        clock.advance(BETWEEN_LOADS);
        provider.provide_credentials().await.unwrap_err();
        assert_eq!(origin.loads.load(Ordering::SeqCst), 2);
    }
}
