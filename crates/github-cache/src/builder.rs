//! The settings of a [`GitHubCache`].

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use peercache::Cache;

use crate::areas::Areas;
use crate::body_rewrite::RewriteBodies;
use crate::build_cache::BuildCache;
use crate::client_label::ClientLabel;
use crate::error::BuildError;
use crate::hosts::{Hosts, PUBLIC_API};
use crate::proxy::GitHubCache;
use crate::public::{PROOF_LIFETIME, REACH};
use crate::route_table::RouteTable;
use crate::shared::{Semantics, Shared};
use crate::stats::Stats;
use crate::token::TokenHasher;
use crate::upstream::{Limits, Upstream};
use crate::webhook::Webhook;

/// For how long an answer may be served when GitHub gives none.
const MAX_STALE: Duration = Duration::from_secs(3600);

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
    share_public: Option<bool>,
    max_stale: Duration,
    public_for: Duration,
    policy: Option<PathBuf>,
    webhook_secret: Option<String>,
    client: Option<String>,
    reserve: u8,
    pace: Duration,
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
            share_public: None,
            max_stale: MAX_STALE,
            public_for: REACH,
            policy: None,
            webhook_secret: None,
            client: None,
            reserve: 0,
            pace: Duration::ZERO,
        }
    }

    /// An API's URL: `https://api.github.com` (the default if none is given), `https://HOST/api/v3`
    /// for GitHub Enterprise Server, `https://api.TENANT.ghe.com` for a tenant. Several may be
    /// given: a request for the host of one goes there, and base URLs stand for the first.
    pub fn upstream(mut self, url: impl Into<String>) -> Self {
        self.upstreams.push(url.into());
        self
    }

    /// A name by which clients call this proxy, beside its listening addresses and loopback names.
    /// A request for any other host that is not GitHub's is answered 421.
    pub fn host(mut self, name: impl Into<String>) -> Self {
        self.names.push(name.into());
        self
    }

    /// An address or network, `10.0.0.0/8` for example, of proxies in front whose
    /// `X-Forwarded-Proto`, `X-Forwarded-Host`, `X-Forwarded-Prefix` and `Forwarded` headers are
    /// believed.
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

    /// Whether stored answers about public repositories are given to tokens that did not fetch
    /// them, under the conditions that `docs/reference/proxy.md` lists. Default: only where the
    /// upstream is api.github.com.
    pub fn share_public(mut self, share: bool) -> Self {
        self.share_public = Some(share);
        self
    }

    /// For how long after GitHub said that a repository is public, what is fetched from it counts
    /// as public, at most 10 min. Default: 60 s, for which GitHub calls that answer fresh. A
    /// repository that is made private meanwhile may show what is new in it to others for that
    /// long. With zero, a request for a proof follows each new answer that is shared.
    pub fn public_for(mut self, time: Duration) -> Self {
        self.public_for = time;
        self
    }

    /// For how long after GitHub confirmed an answer for a token it may still be served to that
    /// token when GitHub gives none. Default: 1 h; zero turns it off.
    pub fn max_stale(mut self, most: Duration) -> Self {
        self.max_stale = most;
        self
    }

    /// A TOML file with rules about routes, which come before those of this build.
    pub fn policy_file(mut self, path: impl Into<PathBuf>) -> Self {
        self.policy = Some(path.into());
        self
    }

    /// The secret of GitHub's webhooks, which are delivered to `/-/webhook`. Without one they are
    /// refused.
    pub fn webhook_secret(mut self, secret: impl Into<String>) -> Self {
        self.webhook_secret = Some(secret.into());
        self
    }

    /// How many hundredths of each rate limit are kept for requests that say `Priority: u=0`; 100
    /// at most. Default: 0.
    pub fn reserve_percent(mut self, percent: u8) -> Self {
        self.reserve = percent.min(100);
        self
    }

    /// The least time between two requests upstream of one token, urgent ones left out. With one, a
    /// token that meets a secondary limit also pauses: for `Retry-After`, or a minute. Default:
    /// zero, none.
    pub fn pace(mut self, least: Duration) -> Self {
        self.pace = least;
        self
    }

    /// The label to which calls are booked that give none by `X-Peercache-Client`; without it, the
    /// short id of their token. What a label cannot have becomes `_`, and what is longer than 100
    /// bytes is cut.
    pub fn default_client(mut self, label: impl Into<String>) -> Self {
        self.client = Some(label.into());
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
        let areas =
            Areas::built_in().map_err(|problem| BuildError::Policy { path: "areas.toml".into(), problem })?;
        let semantics = Semantics {
            routes: RouteTable::load(self.policy.as_deref())?,
            areas: Arc::new(areas),
            max_stale: self.max_stale,
            public_for: self.public_for.min(PROOF_LIFETIME),
            share_public: self.share_public.unwrap_or_else(|| hosts.is_public_api()),
            webhook: Webhook::new(self.webhook_secret.as_deref()),
            reserve: self.reserve,
            pace: self.pace,
            default_client: self.client.as_deref().and_then(ClientLabel::clean),
        };
        let stats = Arc::new(Stats::default());
        let upstream = Upstream::new(self.limits, self.system_proxy, Arc::clone(&stats))?;
        Ok(GitHubCache {
            shared: Arc::new(Shared::new(
                self.cache,
                hosts,
                hasher,
                upstream,
                semantics,
                stats,
                self.build_cache,
            )),
        })
    }
}
