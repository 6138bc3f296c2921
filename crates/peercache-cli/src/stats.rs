//! `peercache stats`: what a running server saved, or what the disk tier holds.

use std::fmt::Write as _;

use peercache::{Config, Disk};
use serde_json::{Value, json};

use crate::cli::StatsArgs;
use crate::exit::{Exit, Failure};
use crate::{ask, output};

/// Prints the statistics.
pub(crate) async fn run(args: StatsArgs, json: bool) -> Result<Exit, Failure> {
    let stats = if args.disk {
        disk().await?
    } else {
        let mut stats = ask::server(&args.server).await?;
        let degraded = degraded(&stats);
        if let Some(fields) = stats.as_object_mut().filter(|_| !degraded.is_empty()) {
            fields.shift_insert(0, "degraded".to_owned(), json!(degraded));
        }
        stats
    };
    if json {
        output::json(&stats)?;
    } else {
        output::write(render(&stats).as_bytes())?;
    }
    Ok(Exit::Ok)
}

/// What does not work as it should, and why: a line for each tier that is left alone, and for each address
/// of a peer that nobody answers at while no peer is connected.
fn degraded(stats: &Value) -> Vec<String> {
    let list = |pointer: &str| stats.pointer(pointer).and_then(Value::as_array).into_iter().flatten();
    let tiers = list("/cache/tiers").filter(|tier| tier["breaker"]["state"] != "closed").map(|tier| {
        let text = |value: &Value| value.as_str().unwrap_or("unknown").to_owned();
        let state = text(&tier["breaker"]["state"]);
        format!(
            "{} is left alone (breaker {state}): {}",
            text(&tier["name"]),
            text(&tier["breaker"]["last_cause"])
        )
    });
    let alone = stats.pointer("/cache/backends/peers/connected").is_some_and(|count| *count == 0);
    let peers = list("/cache/backends/peers/bootstrap").filter(|_| alone).map(|target| {
        let address = target["address"].as_str().unwrap_or("?");
        format!("no peer at {address}: {}", target["trouble"].as_str().unwrap_or("being dialled"))
    });
    tiers.chain(peers).collect()
}

async fn disk() -> Result<Value, Failure> {
    let config = Config::from_env("peercache")?;
    let Some(dir) = config.dir() else {
        return Err(Failure::config(
            "this chain has no disk tier; add `disk` to CACHE_BACKEND or set CACHE_DIR",
        ));
    };
    let disk = Disk::builder(dir).capacity(config.disk_bytes()).open().map_err(Failure::config)?;
    let stats = disk.stats().await.map_err(Failure::failed)?;
    peercache::CacheBackend::close(&disk).await.map_err(Failure::failed)?;
    Ok(json!({ "disk": stats_json(&stats) }))
}

fn stats_json(stats: &peercache::local::DiskStats) -> Value {
    json!({
        "entries": stats.entries,
        "bytes": stats.bytes,
        "capacity_bytes": stats.capacity,
        "evicted": stats.evicted,
        "corrupt_dropped": stats.corrupt_dropped,
        "healed": stats.healed,
        "orphans_removed": stats.orphans_removed,
    })
}

/// The numbers as an indented list: an object is a heading, everything else a line.
fn render(stats: &Value) -> String {
    let mut text = String::new();
    render_into(&mut text, stats, 0);
    text
}

fn render_into(text: &mut String, value: &Value, depth: usize) {
    // Writing to a String cannot fail.
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                let name = name.replace('_', " ");
                let _ = write!(text, "{:1$}{name}", "", 2 * depth);
                match value {
                    Value::Object(_) | Value::Array(_) => {
                        text.push('\n');
                        render_into(text, value, depth + 1);
                    }
                    leaf => {
                        let _ = writeln!(text, ": {}", leaf_text(&name, leaf));
                    }
                }
            }
        }
        Value::Array(items) => {
            for item in items {
                render_into(text, item, depth);
                text.push('\n');
            }
        }
        leaf => {
            let _ = writeln!(text, "{:1$}{2}", "", 2 * depth, leaf_text("", leaf));
        }
    }
}

fn leaf_text(name: &str, leaf: &Value) -> String {
    match (leaf, leaf.as_u64()) {
        (Value::Null, _) => "-".to_owned(),
        (Value::String(text), _) => text.clone(),
        (_, Some(count)) if name.contains("bytes") => output::bytes(count),
        _ => leaf.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_degraded_says_why() {
        let breaker = |state: &str, cause| json!({ "state": state, "last_cause": cause });
        let stats = json!({ "cache": {
            "tiers": [
                { "name": "memory", "breaker": breaker("closed", None) },
                { "name": "sealed(peers)", "breaker": breaker("open", Some("peers: get failed")) },
            ],
            "backends": { "peers": { "connected": 0, "bootstrap": [
                { "address": "/dns4/a/tcp/1", "trouble": "no such host" },
                { "address": "/dns4/b/tcp/1", "trouble": null },
            ] } },
        } });
        let expected = [
            "sealed(peers) is left alone (breaker open): peers: get failed",
            "no peer at /dns4/a/tcp/1: no such host",
            "no peer at /dns4/b/tcp/1: being dialled",
        ];
        assert_eq!(degraded(&stats), expected);
        assert_eq!(degraded(&json!({ "cache": { "tiers": [] } })), [""; 0]);
    }

    #[test]
    fn numbers_are_listed_under_their_headings() {
        let stats =
            json!({ "hits": 3, "tiers": [{ "name": "memory", "bytes_read": 20480, "last_error": null }] });
        assert_eq!(
            render(&stats),
            "hits: 3\ntiers\n  name: memory\n  bytes read: 20 KiB\n  last error: -\n\n"
        );
    }
}
