//! The GitHub cache that `serve` and `exec` put before their clients, as the settings say.

use peercache::{Cache, Config};
use peercache_github::{GitHubCache, GitHubCacheBuilder};

use crate::exit::Failure;
use crate::install_key;

/// A GitHub cache over `cache` with what `config` says about sharing, stale answers and routes.
pub(crate) async fn builder(cache: &Cache, config: &Config) -> Result<GitHubCacheBuilder, Failure> {
    let settings = config.github();
    let mut builder = GitHubCache::builder(cache.clone())
        .install_key(install_key::of(config).await?)
        .public_for(settings.public_for)
        .max_stale(settings.max_stale)
        .reserve_percent(settings.reserve_percent)
        .pace(settings.pace);
    // Where nothing says so, it depends on the upstream.
    if let Some(share) = settings.share_public {
        builder = builder.share_public(share);
    }
    if let Some(path) = settings.policy {
        builder = builder.policy_file(path);
    }
    Ok(builder)
}
