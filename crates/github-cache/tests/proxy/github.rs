//! A repository on fakehub, with a proxy before it whose time is the origin's.

use std::sync::Arc;

use peercache_fakehub::{
    Corpus, EtagMode, FakeHub, FakeHubBuilder, FakeHubHandle, Observation, TokenKind, Verdict,
};
use peercache_github::GitHubCacheBuilder;
use peercache_testkit::ManualClock;

use crate::support::{Got, Rig};

/// Two tokens of jobs that may read the repository when it is private, and two that may not.
pub(crate) const A: &str = "ghs_a";
pub(crate) const B: &str = "ghs_b";
pub(crate) const C: &str = "ghs_c";
pub(crate) const D: &str = "ghs_d";

/// An origin and a proxy.
pub(crate) struct GitHub {
    pub(crate) hub: FakeHubHandle,
    pub(crate) rig: Rig,
    /// `OWNER/REPO`, the one that tests make private.
    pub(crate) name: String,
    /// Another one, which stays public.
    pub(crate) other: String,
    /// Its number.
    pub(crate) id: u64,
    /// The path of a tree by its SHA.
    pub(crate) tree: String,
}

impl GitHub {
    pub(crate) async fn start(private: bool) -> Self {
        Self::with(EtagMode::Observed, |hub| hub, |proxy| proxy.share_public(true), private).await
    }

    pub(crate) async fn with(
        etag: EtagMode,
        origin: impl FnOnce(FakeHubBuilder) -> FakeHubBuilder,
        proxy: impl FnOnce(GitHubCacheBuilder) -> GitHubCacheBuilder,
        private: bool,
    ) -> Self {
        let corpus = Corpus::generated(7);
        let mut names = Vec::new();
        let mut id = 0;
        let mut tree = String::new();
        for one in corpus.exchanges() {
            let parts: Vec<_> = one.target.split('/').collect();
            if one.method == "GET" && parts.get(1) == Some(&"repos") && parts.len() == 4 {
                if names.is_empty() {
                    let body: serde_json::Value = serde_json::from_slice(&one.body).unwrap();
                    id = body["id"].as_u64().unwrap();
                }
                names.push(format!("{}/{}", parts[2], parts[3]));
            }
            if tree.is_empty() && one.target.contains("/git/trees/") {
                tree.clone_from(&one.target);
            }
        }
        let (name, other) = (names[0].clone(), names[1].clone());
        let clock = Arc::new(ManualClock::default());
        let mut hub = FakeHub::builder(corpus).etag(etag).unlimited(true).clock(clock.clone());
        for token in [A, B] {
            hub = hub.token(token, TokenKind::Job, [name.clone()]);
        }
        for token in [C, D] {
            hub = hub.token(token, TokenKind::Job, [""; 0]);
        }
        let hub = origin(hub).start().await.unwrap();
        if private {
            hub.set_private(&name, true).unwrap();
            clock.advance(std::time::Duration::from_millis(1));
        }
        let rig = Rig::at(clock, &hub.url(), proxy);
        Self { hub, rig, name, other, id, tree }
    }

    pub(crate) fn path(&self, rest: &str) -> String {
        format!("/repos/{}{rest}", self.name)
    }

    /// A request with this token; an empty one is anonymous.
    pub(crate) async fn get(&self, token: &str, path: &str) -> Got {
        self.get_with(token, path, &[]).await
    }

    pub(crate) async fn get_with(&self, token: &str, path: &str, headers: &[(&str, &str)]) -> Got {
        let authorization = format!("token {token}");
        let mut all = headers.to_vec();
        if !token.is_empty() {
            all.push(("authorization", &authorization));
        }
        self.rig.get(path, &all).await
    }

    /// Lets a token have a successful answer about the other repository.
    pub(crate) async fn introduce(&self, tokens: &[&str]) {
        for token in tokens {
            let got = self.get(token, &format!("/repos/{}/languages", self.other)).await;
            assert_eq!(got.status, 200, "{got:?}");
        }
    }

    /// What the origin says about an answer.
    pub(crate) fn judge(&self, token: &str, path: &str, got: &Got, sent_at: u64) -> Verdict {
        self.hub.judge(&Observation {
            method: "GET",
            target: path,
            accept: Some("application/vnd.github+json"),
            request_body: b"",
            token: (!token.is_empty()).then_some(token),
            status: got.status.as_u16(),
            body: &got.body,
            sent_at,
            received_at: self.hub.now(),
        })
    }
}

impl GitHub {
    /// As [`Self::introduce`], where the token may have been revoked, or the origin be gone.
    pub(crate) async fn introduce_quietly(&self, token: &str) {
        self.get(token, &format!("/repos/{}/languages", self.other)).await;
    }
}

impl GitHub {
    /// Two tokens are answered about the repository, so that it is proven public if it is.
    pub(crate) async fn prove(&self) {
        for token in ["ghs_first", "ghs_second"] {
            self.get(token, &self.path("/tags")).await;
            self.get(token, &self.path("/branches")).await;
        }
        self.rig.proxy.settle().await;
    }
}
