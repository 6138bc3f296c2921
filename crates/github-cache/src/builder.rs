//! The settings of a [`GitHubCache`].

use std::fmt;
use std::sync::Arc;

use peercache::Cache;

use crate::error::BuildError;
use crate::proxy::GitHubCache;
use crate::route::Hosts;
use crate::shared::Shared;
use crate::stats::Stats;
use crate::token::TokenHasher;
use crate::upstream::{Limits, Upstream};

/// Builds a [`GitHubCache`].
#[must_use = "a proxy is made by `build`"]
pub struct GitHubCacheBuilder {
    cache: Cache,
    upstream: String,
    install_key: Option<[u8; 32]>,
    routes: Vec<(String, String)>,
    limits: Limits,
    system_proxy: bool,
}

impl fmt::Debug for GitHubCacheBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GitHubCacheBuilder").field("limits", &self.limits).finish_non_exhaustive()
    }
}

impl GitHubCache {
    /// Starts a proxy that stores in `cache`.
    pub fn builder(cache: Cache) -> GitHubCacheBuilder {
        GitHubCacheBuilder::new(cache)
    }
}

impl GitHubCacheBuilder {
    fn new(cache: Cache) -> Self {
        Self {
            cache,
            upstream: "https://api.github.com".to_owned(),
            install_key: None,
            routes: Vec::new(),
            limits: Limits::default(),
            system_proxy: true,
        }
    }

    /// The API's URL: `https://api.github.com` (the default), or `https://HOST/api/v3` for GitHub
    /// Enterprise Server.
    pub fn upstream(mut self, url: impl Into<String>) -> Self {
        self.upstream = url.into();
        self
    }

    /// The key that names tokens in the store: 32 random bytes, kept like a password, the same for
    /// everyone who shares the store. See [`TokenHasher`].
    pub fn install_key(mut self, key: [u8; 32]) -> Self {
        self.install_key = Some(key);
        self
    }

    /// Sends requests for another host, `uploads.github.com` for example, to this URL instead.
    pub fn route(mut self, host: impl Into<String>, url: impl Into<String>) -> Self {
        self.routes.push((host.into(), url.into()));
        self
    }

    /// How patient it is with upstream, and how much it asks at a time.
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// Whether `HTTPS_PROXY` and the like are obeyed. Default: yes.
    pub fn system_proxy(mut self, obey: bool) -> Self {
        self.system_proxy = obey;
        self
    }

    /// The proxy. Installs ring as the process's provider for TLS if there is none.
    ///
    /// # Errors
    /// A URL or host that cannot be used, no install key, or an HTTP client that cannot be made.
    pub fn build(self) -> Result<GitHubCache, BuildError> {
        let hosts = Hosts::new(&self.upstream, self.routes)?;
        let hasher = TokenHasher::new(self.install_key.ok_or(BuildError::NoInstallKey)?);
        let stats = Arc::new(Stats::default());
        let upstream = Upstream::new(self.limits, self.system_proxy, Arc::clone(&stats))?;
        Ok(GitHubCache { shared: Arc::new(Shared::new(self.cache, hosts, hasher, upstream, stats)) })
    }
}
