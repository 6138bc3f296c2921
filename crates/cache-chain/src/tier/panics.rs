//! A panic in a backend is that backend's error: it ends one call and never reaches a caller.

use std::panic::{AssertUnwindSafe, catch_unwind};

use futures_util::FutureExt;
use peercache_api::{BackendInfo, Error, ErrorKind, Operation};

/// The result of `call`, or an error of kind [`ErrorKind::Internal`] if it panics.
///
/// Asserting unwind safety is sound here: no lock of the chain is held during a call, and the
/// backend's own state is used again only through its methods.
pub(crate) async fn caught<T>(
    info: &BackendInfo,
    operation: Operation,
    call: impl Future<Output = Result<T, Error>>,
) -> Result<T, Error> {
    AssertUnwindSafe(call).catch_unwind().await.unwrap_or_else(|_| Err(panicked(info, operation)))
}

/// As [`caught`], for a call that returns at once.
pub(crate) fn caught_now<T>(
    info: &BackendInfo,
    operation: Operation,
    call: impl FnOnce() -> T,
) -> Result<T, Error> {
    catch_unwind(AssertUnwindSafe(call)).map_err(|_| panicked(info, operation))
}

/// Without the text of the panic, which may hold anything; the panic hook has printed it.
fn panicked(info: &BackendInfo, operation: Operation) -> Error {
    tracing::error!(tier = %info.name, operation = operation.as_str(), "the backend panicked");
    Error::new(ErrorKind::Internal, operation, "the backend panicked")
        .with_backend(info.name.clone())
        .with_help("this is a bug in the backend: report it with the panic message on standard error")
}
