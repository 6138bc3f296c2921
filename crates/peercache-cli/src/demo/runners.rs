//! The demo's machines: a host that is the anchor, and for each job a runner of its own, which only
//! dials out, starts with an empty directory and goes when its job is done.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use peercache::seal::Secret;
use serde_json::Value;

use super::process::Process;
use crate::exit::Failure;

/// What every machine of the fleet has in common.
#[derive(Debug)]
pub(crate) struct Runners {
    upstream: String,
    secret: String,
    /// Where the anchor is found.
    bootstrap: String,
    dir: PathBuf,
}

impl Runners {
    /// Starts the anchor, and knows from then on how runners find it.
    pub(crate) async fn with_anchor(upstream: &str, dir: &Path) -> Result<(Self, Process), Failure> {
        let secret = Secret::generate().map_err(Failure::failed)?.to_text().to_string();
        let mut runners =
            Self { upstream: upstream.to_owned(), secret, bootstrap: String::new(), dir: dir.to_owned() };
        // Any port: the usual one may be that of a real anchor on this machine.
        let anchor = runners.serve("anchor", &[("CACHE_ROLE", "anchor"), ("CACHE_LISTEN_PORT", "0")]).await?;
        runners.bootstrap = on_loopback(anchor.said()).ok_or_else(|| {
            Failure::failed(format!("the demo's anchor did not say where it listens, but: {}", anchor.said()))
        })?;
        Ok((runners, anchor))
    }

    /// Starts the runner of one job.
    pub(crate) async fn start(&self, job: u32) -> Result<Process, Failure> {
        self.serve(&format!("runner-{job}"), &[("CACHE_BOOTSTRAP_PEERS", &self.bootstrap)]).await
    }

    async fn serve(&self, name: &str, env: &[(&str, &str)]) -> Result<Process, Failure> {
        let dir = self.dir.join(name).into_os_string();
        let own = [
            ("CACHE_DIR", dir),
            ("CACHE_BACKEND", "memory,disk,libp2p".into()),
            ("CACHE_SECRET", OsString::from(&self.secret)),
        ];
        let env: Vec<_> = own
            .iter()
            .map(|(name, value)| (*name, value.as_os_str()))
            .chain(env.iter().map(|(name, value)| (*name, value.as_ref())))
            .collect();
        Process::start(&["--json", "serve", "--listen", "127.0.0.1:0", "--upstream", &self.upstream], &env)
            .await
    }
}

/// The address on this machine of the node that printed `said`: machines without a network have no
/// other.
fn on_loopback(said: &str) -> Option<String> {
    let said: Value = serde_json::from_str(said).ok()?;
    let address = said["peers"]["addresses"].get(0)?.as_str()?;
    let (_, port_and_name) = address.split_once("/tcp/")?;
    Some(format!("/ip4/127.0.0.1/tcp/{port_and_name}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_anchor_is_found_on_this_machine() {
        let said = r#"{"listening":{"url":"http://127.0.0.1:1"},"peers":{"addresses":["/ip6/fd00::7/tcp/4001/p2p/12D3KooWa"]}}"#;
        assert_eq!(on_loopback(said).as_deref(), Some("/ip4/127.0.0.1/tcp/4001/p2p/12D3KooWa"));
        assert_eq!(on_loopback(r#"{"peers":{"addresses":[]}}"#), None);
    }
}
