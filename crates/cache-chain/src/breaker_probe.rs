//! The background side of a breaker: waits, probes, and closes it when the tier answers.
//!
//! It exists only while the breaker is open. It keeps no tier alive while it waits, and whatever ends
//! it early (a runtime that shuts down, a backend that panics) closes the breaker, so that no tier is
//! ever left out for good.

use std::sync::{Arc, Weak};
use std::time::Duration;

use peercache_api::{Error, ErrorKind, Key, Operation};
use tokio::time::{Instant, sleep, timeout};

use crate::breaker::{Breaker, Patient, says_unwell};

/// What a probe reads: no caller's key, so it is usually absent, which is an answer.
const PROBE_KEY: &str = "peercache breaker probe";

/// Probes until the tier is well or the breaker is gone; one probe at a time.
pub(crate) async fn recover(mut watch: Watch, first: Duration) {
    let mut wait = first;
    loop {
        sleep(wait).await;
        let Some(breaker) = watch.0.upgrade() else { return };
        if !breaker.half_open() {
            return;
        }
        let started = Instant::now();
        match breaker.patient.examine().await {
            Ok(()) => {
                // Before it closes, since it may be open again, with another task, right after.
                watch.0 = Weak::new();
                breaker.close();
                return;
            }
            Err(cause) => {
                tracing::debug!(tier = breaker.name(), %cause, "tier is still unwell");
                // From beginning to beginning, so that a probe that hangs adds nothing to the wait.
                wait = breaker.reopen(&cause).saturating_sub(started.elapsed());
            }
        }
    }
}

/// Closes the breaker when the task that looks after it ends without having done so, even before it
/// began.
#[derive(Debug)]
pub(crate) struct Watch(Weak<Breaker>);

impl Watch {
    pub(crate) fn over(breaker: &Arc<Breaker>) -> Self {
        Self(Arc::downgrade(breaker))
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        if let Some(breaker) = self.0.upgrade() {
            breaker.close();
        }
    }
}

impl Patient {
    /// The backend's own probe, then one real read: a store may accept connections and serve nothing.
    async fn examine(&self) -> Result<(), Error> {
        self.answer(Operation::Probe, self.backend.probe()).await?;
        match Key::new(Arc::<str>::from(PROBE_KEY)) {
            Ok(key) if self.reads => self.answer(Operation::Get, self.backend.get(&key)).await,
            _ => Ok(()),
        }
    }

    async fn answer<T>(
        &self,
        operation: Operation,
        call: impl Future<Output = Result<T, Error>>,
    ) -> Result<(), Error> {
        match timeout(self.deadline, call).await {
            Ok(Err(error)) if says_unwell(&error) => Err(error),
            Ok(_) => Ok(()),
            Err(_) => Err(no_answer(self.backend.info().name.clone(), operation, self.deadline)),
        }
    }
}

/// The error that stands for a call that took longer than its deadline.
pub(crate) fn no_answer(
    backend: std::borrow::Cow<'static, str>,
    operation: Operation,
    deadline: Duration,
) -> Error {
    Error::new(ErrorKind::Timeout, operation, format!("no answer within {} ms", deadline.as_millis()))
        .with_backend(backend)
}
