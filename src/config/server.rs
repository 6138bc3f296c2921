//! The settings of `peercache serve`, and of the commands that ask it.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use super::configuration::Config;

/// Where a server listens, what it caches, and where commands find it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ServerSettings {
    /// TCP addresses to listen on; empty where none is given.
    pub http_listen: Vec<SocketAddr>,
    /// The Unix socket to listen on, and to ask.
    pub socket: Option<PathBuf>,
    /// The API that is cached.
    pub upstream: String,
    /// The URL of a running server.
    pub url: Option<String>,
}

/// How answers of GitHub's API are cached.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct GitHubSettings {
    /// Whether answers about public repositories are shared between tokens; `None` where nothing
    /// says so.
    pub share_public: Option<bool>,
    /// For how long after its proof what is fetched from a public repository counts as public.
    pub public_for: Duration,
    /// How old an answer may be that stands in for one that cannot be had.
    pub max_stale: Duration,
    /// The file with freshness by route.
    pub policy: Option<PathBuf>,
    /// How many hundredths of each rate limit are kept for urgent requests.
    pub reserve_percent: u8,
    /// The least time between two requests of one token; zero for none.
    pub pace: Duration,
}

impl Config {
    /// The settings of the server.
    #[must_use]
    pub fn server(&self) -> ServerSettings {
        let values = &self.values;
        ServerSettings {
            http_listen: values.http_listen.list().to_vec(),
            socket: values.socket.value.clone(),
            upstream: values.upstream.value.clone(),
            url: values.server_url.value.clone(),
        }
    }

    /// The settings of the GitHub cache.
    #[must_use]
    pub fn github(&self) -> GitHubSettings {
        let values = &self.values;
        GitHubSettings {
            share_public: values.github_share_public.value,
            public_for: values.github_public_for.value,
            max_stale: values.github_max_stale.value,
            policy: values.github_policy.value.clone(),
            reserve_percent: u8::try_from(values.github_reserve.value).unwrap_or(u8::MAX),
            pace: Duration::from_millis(values.github_pace.value.into()),
        }
    }
}
