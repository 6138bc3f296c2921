//! The cache of a command that does one thing and ends, beside the server of the same machine.

use peercache::{Cache, Config};

use crate::exit::Failure;

/// Opens the cache of the environment without taking the server's port or its identity.
pub(crate) async fn open() -> Result<Cache, Failure> {
    Ok(Config::from_env("peercache")?.one_shot().open().await?)
}

pub(crate) async fn close(cache: &Cache) -> Result<(), Failure> {
    cache.close().await.map_err(|error| Failure::failed(format!("the cache did not close cleanly: {error}")))
}
