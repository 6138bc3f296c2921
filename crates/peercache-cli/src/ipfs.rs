//! `peercache ipfs`: what the node needs beyond entries.

use peercache::{CacheBackend, Config};
use serde_json::json;

use crate::args::{IpfsArgs, IpfsCommand};
use crate::exit::{Exit, Failure};
use crate::output;

/// Runs one of its commands.
pub(crate) async fn run(args: &IpfsArgs, json: bool) -> Result<Exit, Failure> {
    match args.command {
        IpfsCommand::Gc => gc(json).await,
    }
}

/// Sweeps the tier's own files, then collects the node's garbage.
async fn gc(json: bool) -> Result<Exit, Failure> {
    let config = Config::from_env("peercache")?;
    for warning in config.warnings() {
        tracing::warn!("{warning}");
    }
    let node = config.ipfs()?;
    let swept = node.sweep().await.map_err(Failure::failed)?;
    let collected = node.collect_garbage().await.map_err(Failure::failed)?;
    node.close().await.map_err(Failure::failed)?;
    if json {
        output::json(&json!({
            "files": swept.files,
            "expired": swept.expired,
            "evicted": swept.evicted,
            "blocks_collected": collected.blocks,
            "repository_bytes_before": collected.bytes_before,
            "repository_bytes": collected.bytes_now,
            "storage_max": collected.storage_max,
        }))?;
    } else {
        output::line(format_args!(
            "{} expired and {} evicted, {} entries' files stay; {} blocks collected, repository {} -> {} bytes of {}",
            swept.expired,
            swept.evicted,
            swept.files,
            collected.blocks,
            collected.bytes_before,
            collected.bytes_now,
            collected.storage_max
        ))?;
    }
    Ok(Exit::Ok)
}
