//! A service with a space, an agent that may use it, and entries.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use peercache_api::{Clock as _, Entry, Key, NodeId, SystemClock, VersionClock};
use peercache_storacha::{Storacha, StorachaBuilder, Token};
use peercache_testkit::servers::{StorachaService, StorachaSpace};

/// What never happens on a machine however busy, so that a test that waits in vain ends.
pub(crate) const FOR_EVER: Duration = Duration::from_secs(120);

/// A space of a service, with the credentials of an agent.
pub(crate) struct Space {
    pub(crate) service: StorachaService,
    pub(crate) printed: StorachaSpace,
}

impl Space {
    /// A service of its own with a provisioned space; `None` where it is missing.
    pub(crate) async fn start() -> Option<Self> {
        let space = Self::without_provider().await?;
        space.service.provision(&space.printed.did).await.unwrap();
        Some(space)
    }

    pub(crate) async fn without_provider() -> Option<Self> {
        let service = StorachaService::start().await.unwrap()?;
        let printed = service.space_without_provider().unwrap();
        Some(Self { service, printed })
    }

    pub(crate) fn token(&self) -> Token {
        let StorachaSpace { key, proof, .. } = &self.printed;
        Token::new(key, proof, Some(self.service.url()), Some(self.service.did().to_owned())).unwrap()
    }

    /// A tier that takes everything.
    pub(crate) fn tier(&self) -> StorachaBuilder {
        Storacha::builder(self.token()).allow_private(true).request_timeout(FOR_EVER)
    }
}

/// Runs a script of this folder with the official packages; gives what it prints.
pub(crate) fn official(service: &StorachaService, script: &str, args: &[&str]) -> String {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/storacha");
    official_text(service, &std::fs::read_to_string(folder.join(script)).unwrap(), args)
}

/// As [`official`], for the text of a script.
pub(crate) fn official_text(service: &StorachaService, source: &str, args: &[&str]) -> String {
    // Packages are found from the working folder on, for a script that comes through standard
    // input.
    let mut child = Command::new("node")
        .args(["--input-type=module", "-"])
        .args(args)
        .current_dir(service.packages())
        .env("SERVICE_URL", service.url())
        .env("SERVICE_DID", service.did())
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    std::io::Write::write_all(&mut child.stdin.take().unwrap(), source.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

pub(crate) fn key(text: &str) -> Key {
    Key::new(text).unwrap()
}

/// Makes entries with versions of its own.
pub(crate) struct Writer {
    versions: VersionClock,
    clock: SystemClock,
}

impl Writer {
    pub(crate) fn new(node: u64) -> Self {
        Self { versions: VersionClock::new(NodeId::from_u64(node)), clock: SystemClock::new() }
    }

    pub(crate) fn entry(&self, value: impl Into<Vec<u8>>) -> Entry {
        let now = self.clock.now();
        let entry = Entry::builder(value.into(), self.versions.next(now), now);
        entry.fresh_for(Duration::from_secs(3600)).build().unwrap()
    }
}
