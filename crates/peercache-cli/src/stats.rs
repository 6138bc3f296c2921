//! `peercache stats`: what a running server saved, or what the disk tier holds.

use std::fmt::Write as _;

use peercache::config::COMMAND;
use peercache::{Config, Disk};
use serde_json::{Value, json};

use crate::args::StatsArgs;
use crate::ask;
use crate::exit::{Exit, Failure};
use crate::output;
use crate::plain::on_one_line;

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
        let text = if args.disk || args.all { render(&stats) } else { summary(&stats) };
        output::write(text.as_bytes())?;
    }
    Ok(Exit::Ok)
}

/// How it goes, in a few lines: what was saved, what is wrong, and each tier's hits.
fn summary(stats: &Value) -> String {
    let count = |name: &str| stats["proxy"][name].as_u64().unwrap_or_default();
    let asked = count("requests").saturating_sub(count("local"));
    let charged = count("upstream_requests").saturating_sub(count("upstream_not_modified"));
    let saved = asked.saturating_sub(charged);
    let percent = (saved * 100).checked_div(asked).unwrap_or_default();
    let since = match stats["since"].as_str() {
        Some(since) => on_one_line(since),
        None => "the server started".to_owned(),
    };
    let mut text = format!("saved {saved} of {asked} ({percent} %) since {since}\n");
    for line in stats["degraded"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "degraded: {}", on_one_line(line));
    }
    let _ = writeln!(
        text,
        "not sent {}, confirmed by a 304 {}, fetched {}, passed through {}, failed {}",
        count("fresh") + count("shared") + count("coalesced"),
        count("revalidated"),
        count("miss"),
        count("bypass"),
        count("error"),
    );
    let tier = |tier: &Value| {
        let number =
            |name: &str| tier[name].as_u64().map_or_else(|| "-".to_owned(), |count| count.to_string());
        let state = tier["breaker"]["state"].as_str().unwrap_or("-");
        let name = tier["name"].as_str().unwrap_or("-");
        vec![on_one_line(name), number("hits"), number("misses"), number("errors"), on_one_line(state)]
    };
    let tiers: Vec<_> = list(stats, "/cache/tiers").map(tier).collect();
    if !tiers.is_empty() {
        text.push('\n');
        text += &output::table(&["TIER", "HITS", "MISSES", "ERRORS", "BREAKER"], &tiers);
    }
    text + "\nevery counter: peercache stats --all\n"
}

fn list<'a>(stats: &'a Value, pointer: &str) -> impl Iterator<Item = &'a Value> {
    stats.pointer(pointer).and_then(Value::as_array).into_iter().flatten()
}

/// What does not work as it should, and why: a line for each tier that is not asked, and for each
/// address of a peer that nobody answers at while no peer is connected.
fn degraded(stats: &Value) -> Vec<String> {
    let tiers = list(stats, "/cache/tiers").filter(|tier| tier["breaker"]["state"] != "closed").map(|tier| {
        let text = |value: &Value| value.as_str().unwrap_or("unknown").to_owned();
        let state = text(&tier["breaker"]["state"]);
        format!(
            "{} is not asked (breaker {state}): {}",
            text(&tier["name"]),
            text(&tier["breaker"]["last_cause"])
        )
    });
    let alone = stats.pointer("/cache/backends/peers/connected").is_some_and(|count| *count == 0);
    let peers = list(stats, "/cache/backends/peers/bootstrap").filter(|_| alone).map(|target| {
        let address = target["address"].as_str().unwrap_or("?");
        format!("no peer at {address}: {}", target["trouble"].as_str().unwrap_or("being dialled"))
    });
    let disk = stats.pointer("/cache/backends/disk/left_out").and_then(Value::as_str);
    let disk = disk.map(|reason| format!("the disk tier is left out: {reason}"));
    tiers.chain(peers).chain(disk).collect()
}

async fn disk() -> Result<Value, Failure> {
    let config = Config::from_env(COMMAND)?;
    let Some(dir) = config.dir() else {
        return Err(Failure::config(
            "this chain has no disk tier; add `disk` to CACHE_BACKEND or set CACHE_DIR",
        ));
    };
    // A command that only looks makes no room, whatever its limit is.
    let disk = Disk::builder(dir).capacity(u64::MAX).open().map_err(Failure::config)?;
    let stats = disk.stats().await.map_err(Failure::failed)?;
    peercache::CacheBackend::close(&disk).await.map_err(Failure::failed)?;
    Ok(json!({ "disk": stats_json(&stats, config.disk_bytes()) }))
}

fn stats_json(stats: &peercache::backend::local::DiskStats, capacity: u64) -> Value {
    json!({
        "entries": stats.entries,
        "bytes": stats.bytes,
        "capacity_bytes": capacity,
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
        (Value::String(text), _) => on_one_line(text),
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
            "sealed(peers) is not asked (breaker open): peers: get failed",
            "no peer at /dns4/a/tcp/1: no such host",
            "no peer at /dns4/b/tcp/1: being dialled",
        ];
        assert_eq!(degraded(&stats), expected);
        assert_eq!(degraded(&json!({ "cache": { "tiers": [] } })), [""; 0]);
    }

    #[test]
    fn summary_begins_with_what_was_saved() {
        let stats = json!({
            "degraded": ["s3 is not asked (breaker open): no route"],
            "proxy": { "requests": 105, "local": 5, "fresh": 60, "coalesced": 5, "revalidated": 15, "miss": 18,
                       "bypass": 2, "error": 0, "upstream_requests": 35, "upstream_not_modified": 15 },
            "cache": { "tiers": [{ "name": "memory", "hits": 60, "misses": 40, "errors": 0,
                                   "breaker": { "state": "closed" } }] },
        });
        insta::assert_snapshot!(summary(&stats), @r"
        saved 80 of 100 (80 %) since the server started
        degraded: s3 is not asked (breaker open): no route
        not sent 65, confirmed by a 304 15, fetched 18, passed through 2, failed 0

        TIER    HITS  MISSES  ERRORS  BREAKER
        memory  60    40      0       closed

        every counter: peercache stats --all
        ");
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
