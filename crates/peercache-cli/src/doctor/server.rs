//! The running `peercache serve` of this machine, and the port that it takes.

use peercache::Config;
use serde_json::Value;

use super::finding::Finding;
use crate::args::ServerArgs;
use crate::ask::{self, Unanswered};

/// The statistics of the server that the settings name, or of the one at the usual address.
pub(super) async fn check(config: &Config, findings: &mut Vec<Finding>) -> Option<Value> {
    let settings = config.server();
    let expected = settings.url.is_some() || settings.socket.is_some();
    let answered = ask::look(&ServerArgs::default()).await;
    let (finding, stats) = match answered {
        Ok((place, Ok(stats))) => {
            (Finding::ok("server", format!("a peercache answers at {place}")), Some(stats))
        }
        Ok((place, Err(Unanswered::Nobody))) if expected => (
            Finding::failed(
                "server",
                format!("no peercache answers at {place}"),
                "start `peercache serve` with the same settings, or correct CACHE_SERVER_URL or CACHE_SOCKET",
            )
            .by("peercache serve &"),
            None,
        ),
        Ok((place, Err(Unanswered::Nobody))) => {
            (Finding::skipped("server", format!("none runs at {place}; `peercache serve` starts one")), None)
        }
        Ok((place, Err(Unanswered::Other(what)))) => (
            Finding::failed(
                "server",
                format!("something else than a peercache listens at {place}"),
                "stop it, or give peercache another port with CACHE_HTTP_LISTEN, such as 127.0.0.1:9181",
            )
            .because(what)
            .by("export CACHE_HTTP_LISTEN=127.0.0.1:9181"),
            None,
        ),
        Err(failure) => (Finding::failed("server", failure.to_string(), "correct CACHE_SERVER_URL"), None),
    };
    findings.push(finding);
    stats
}
