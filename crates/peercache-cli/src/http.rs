//! The HTTP client for talking to our own processes.

use crate::exit::Failure;

/// A client for plain HTTP that no proxy setting diverts. It trusts no certificate authority, so that it
/// starts on an image that has none.
pub(crate) fn client(
    settings: impl FnOnce(reqwest::ClientBuilder) -> reqwest::ClientBuilder,
) -> Result<reqwest::Client, Failure> {
    let builder = reqwest::Client::builder().no_proxy().tls_certs_only([]);
    settings(builder)
        .build()
        .map_err(|error| Failure::failed(format!("the HTTP client cannot start: {error}")))
}
