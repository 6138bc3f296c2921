//! The settings of a [`GitHubCache`].

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use peercache::Cache;

use crate::body_rewrite::RewriteBodies;
use crate::build_cache::BuildCache;
use crate::error::BuildError;
use crate::hosts::{Hosts, PUBLIC_API};
use crate::proxy::GitHubCache;
use crate::shared::Shared;
use crate::stats::Stats;
use crate::token::TokenHasher;
use crate::upstream::{Limits, Upstream};

/// Builds a [`GitHubCache`].
#[must_use = "a proxy is made by `build`"]
pub struct GitHubCacheBuilder {
    cache: Cache,
    upstreams: Vec<String>,
    install_key: Option<[u8; 32]>,
    routes: Vec<(String, String)>,
    names: Vec<String>,
    trusted: Vec<String>,
    bodies: RewriteBodies,
    build_cache: BuildCache,
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
            upstreams: Vec::new(),
            names: Vec::new(),
            trusted: Vec::new(),
            bodies: RewriteBodies::default(),
            install_key: None,
            routes: Vec::new(),
            build_cache: BuildCache::default(),
            limits: Limits::default(),
            system_proxy: true,
        }
    }

    /// An API's URL: `https://api.github.com` (the default if none is given), `https://HOST/api/v3` for
    /// GitHub Enterprise Server, `https://api.TENANT.ghe.com` for a tenant. Several may be given: a request
    /// for the host of one goes there, and base URLs stand for the first.
    pub fn upstream(mut self, url: impl Into<String>) -> Self {
        self.upstreams.push(url.into());
        self
    }

    /// A name by which clients call this proxy, beside its listening addresses and loopback names. A
    /// request for any other host that is not GitHub's is answered 421.
    pub fn host(mut self, name: impl Into<String>) -> Self {
        self.names.push(name.into());
        self
    }

    /// An address or network, `10.0.0.0/8` for example, of proxies in front whose `X-Forwarded-Proto`,
    /// `X-Forwarded-Host`, `X-Forwarded-Prefix` and `Forwarded` headers are believed.
    pub fn trusted_proxy(mut self, network: impl Into<String>) -> Self {
        self.trusted.push(network.into());
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

    /// For which clients of a base URL the API's URLs in JSON bodies are turned to it. Default:
    /// [`RewriteBodies::Auto`].
    pub fn rewrite_bodies(mut self, bodies: RewriteBodies) -> Self {
        self.bodies = bodies;
        self
    }

    /// The largest value, in bytes, that `/-/cache/KEY` takes for build tools. Default: 1 GiB.
    pub fn build_cache_value_bytes(mut self, most: u64) -> Self {
        self.build_cache.most = most;
        self
    }

    /// For how long a value of `/-/cache/KEY` is kept. Default: 7 days.
    pub fn build_cache_ttl(mut self, ttl: Duration) -> Self {
        self.build_cache.ttl = ttl;
        self
    }

    /// What clients of other machines have to show at `/-/cache/KEY`; without one they are refused.
    pub fn client_token(mut self, token: impl Into<String>) -> Self {
        self.build_cache.token = Some(token.into());
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

    /// The proxy.
    ///
    /// # Errors
    /// A URL or host that cannot be used, no install key, or an HTTP client that cannot be made.
    pub fn build(mut self) -> Result<GitHubCache, BuildError> {
        if self.upstreams.is_empty() {
            self.upstreams.push(format!("https://{PUBLIC_API}"));
        }
        let hosts =
            Hosts::new(&self.upstreams, self.routes, self.names, &self.trusted)?.rewrite_bodies(self.bodies);
        let hasher = TokenHasher::new(self.install_key.ok_or(BuildError::NoInstallKey)?);
        let stats = Arc::new(Stats::default());
        let upstream = Upstream::new(self.limits, self.system_proxy, Arc::clone(&stats))?;
        Ok(GitHubCache {
            shared: Arc::new(Shared::new(self.cache, hosts, hasher, upstream, stats, self.build_cache)),
        })
    }
}
