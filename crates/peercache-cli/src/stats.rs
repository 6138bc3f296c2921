//! `peercache stats`: what a running server saved, or what the disk tier holds.

use std::fmt::Write as _;

use peercache::config::COMMAND;
use peercache::{Config, Disk};
use serde_json::{Value, json};

use crate::args::StatsArgs;
use crate::ask;
use crate::exit::{Exit, Failure};
use crate::ledger;
use crate::output;
use crate::plain::on_one_line;

/// Prints the statistics.
pub(crate) async fn run(args: StatsArgs, json: bool) -> Result<Exit, Failure> {
    let stats = if args.disk { disk().await? } else { ask::server(&args.server).await? };
    match (args.by, json) {
        (None, true) => output::json(&stats)?,
        (Some(by), true) => output::json(&stats.pointer(by.pointer()))?,
        (Some(by), false) => {
            let text = format!("{}\n{}", saved(&stats), ledger::table(&stats, by));
            output::write(text.as_bytes())?;
        }
        (None, false) => {
            let mut stats = stats;
            // A point for each minute is for the status page, and the ledger has tables of its own.
            if let Some(fields) = stats.as_object_mut() {
                fields.shift_remove("history");
                fields.shift_remove("ledger");
            }
            let text = if args.disk || args.all { render(&stats) } else { summary(&stats) };
            output::write(text.as_bytes())?;
        }
    }
    Ok(Exit::Ok)
}

/// The first line: what was saved, of how much, since when.
fn saved(stats: &Value) -> String {
    let number = |name: &str| stats["saved"][name].as_u64().unwrap_or_default();
    let (asked, saved) = (number("asked"), number("saved"));
    let percent = (saved * 100).checked_div(asked).unwrap_or_default();
    let since = match stats["since"].as_str() {
        Some(since) => on_one_line(since),
        None => "the server started".to_owned(),
    };
    format!("saved {saved} of {asked} ({percent} %) since {since}\n")
}

/// How it goes, in a few lines: what was saved, what is wrong, and each tier's hits.
fn summary(stats: &Value) -> String {
    let count = |name: &str| stats["proxy"][name].as_u64().unwrap_or_default();
    let mut text = saved(stats);
    for line in stats["degraded"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "degraded: {}", on_one_line(line));
    }
    let classes = [
        ("not sent", count("fresh") + count("shared") + count("coalesced")),
        ("confirmed by a 304", count("revalidated")),
        ("stale", count("stale")),
        ("fetched", count("miss")),
        ("passed through", count("bypass")),
        ("failed", count("error")),
    ];
    let all: u64 = classes.iter().map(|(_, count)| count).sum();
    let parts: Vec<_> = classes.iter().map(|(name, count)| format!("{name} {count}")).collect();
    let asked = stats["saved"]["asked"].as_u64().unwrap_or_default();
    // Downloads, requests for other hosts and those that the server refused cost nothing, and are
    // no part of what was asked of the API.
    let beside = match all.checked_sub(asked) {
        Some(1..) => format!(", {} of them no calls to the API", all - asked),
        _ => String::new(),
    };
    let _ = writeln!(text, "requests {all}{beside}: {}", parts.join(", "));
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
    text + "\nwho spent it: peercache stats --by client; every counter: peercache stats --all\n"
}

fn list<'a>(stats: &'a Value, pointer: &str) -> impl Iterator<Item = &'a Value> {
    stats.pointer(pointer).and_then(Value::as_array).into_iter().flatten()
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
    fn summary_begins_with_what_was_saved() {
        let stats = json!({
            "since": "2026-11-30T12:00:00Z",
            "degraded": ["s3 is not asked (breaker open): no route"],
            "saved": { "asked": 100, "not_sent": 65, "charged": 20, "saved": 80 },
            "proxy": { "requests": 105, "local": 5, "fresh": 60, "coalesced": 5, "revalidated": 15, "miss": 18,
                       "bypass": 2, "error": 0, "upstream_requests": 35, "upstream_not_modified": 15 },
            "cache": { "tiers": [{ "name": "memory", "hits": 60, "misses": 40, "errors": 0,
                                   "breaker": { "state": "closed" } }] },
        });
        insta::assert_snapshot!(summary(&stats), @r"
        saved 80 of 100 (80 %) since 2026-11-30T12:00:00Z
        degraded: s3 is not asked (breaker open): no route
        requests 100: not sent 65, confirmed by a 304 15, stale 0, fetched 18, passed through 2, failed 0

        TIER    HITS  MISSES  ERRORS  BREAKER
        memory  60    40      0       closed

        who spent it: peercache stats --by client; every counter: peercache stats --all
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
