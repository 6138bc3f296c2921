//! `peercache stats`: what a running server saved, or what the disk tier holds.

use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;

use peercache::{Config, Disk};
use serde_json::{Value, json};

use crate::cli::StatsArgs;
use crate::exit::{Exit, Failure};
use crate::{http, output};

const DEFAULT_URL: &str = "http://127.0.0.1:9180";
const PATH: &str = "/-/peercache/stats";
const WITHIN: Duration = Duration::from_secs(10);
/// The most that a stats answer may have, in bytes. A real one has a few KiB.
const MAX_ANSWER_BYTES: usize = 4 << 20;

/// Prints the statistics.
pub(crate) async fn run(args: StatsArgs, json: bool) -> Result<Exit, Failure> {
    let stats = if args.disk {
        disk().await?
    } else if let Some(socket) = &args.socket {
        ask(None, Some(socket)).await?
    } else {
        ask(args.url.as_deref(), None).await?
    };
    if json {
        output::json(&stats)?;
    } else {
        output::write(render(&stats).as_bytes())?;
    }
    Ok(Exit::Ok)
}

async fn disk() -> Result<Value, Failure> {
    let config = Config::from_env()?;
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

async fn ask(url: Option<&str>, socket: Option<&Path>) -> Result<Value, Failure> {
    let base = url.unwrap_or(DEFAULT_URL).trim_end_matches('/');
    if !base.starts_with("http://") {
        return Err(Failure::config(format!("--url {base}: give a URL such as {DEFAULT_URL}")));
    }
    let asked = socket.map_or_else(|| base.to_owned(), |path| path.display().to_string());
    let client = http::client(|client| match socket {
        Some(path) => client.timeout(WITHIN).unix_socket(path),
        None => client.timeout(WITHIN),
    })?;
    // Over a socket the host only has to be none of GitHub's.
    let url = if socket.is_some() { format!("http://peercache{PATH}") } else { format!("{base}{PATH}") };
    let response = client.get(url).send().await.map_err(|error| {
        if error.is_builder() {
            return Failure::config(format!("--url {base}: this is not a URL; give one such as {DEFAULT_URL}"));
        }
        Failure::failed(format!(
            "no peercache answers at {asked}; start one with `peercache serve`, or name another with --url or --socket, \
             or look at the disk tier with --disk"
        ))
    })?;
    if !response.status().is_success() {
        return Err(Failure::failed(format!(
            "{asked} answered {}; is that a peercache?",
            response.status().as_u16()
        )));
    }
    let body = bounded(response).await.ok_or_else(|| {
        Failure::failed(format!("{asked} did not give a whole answer of at most {MAX_ANSWER_BYTES} bytes"))
    })?;
    serde_json::from_slice(&body).map_err(|error| {
        Failure::failed(format!("{asked} did not answer with JSON ({error}); is that a peercache?"))
    })
}

async fn bounded(mut response: reqwest::Response) -> Option<Vec<u8>> {
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.ok()? {
        if body.len() + chunk.len() > MAX_ANSWER_BYTES {
            return None;
        }
        body.extend_from_slice(&chunk);
    }
    Some(body)
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
    fn numbers_are_listed_under_their_headings() {
        let stats =
            json!({ "hits": 3, "tiers": [{ "name": "memory", "bytes_read": 20480, "last_error": null }] });
        assert_eq!(
            render(&stats),
            "hits: 3\ntiers\n  name: memory\n  bytes read: 20 KiB\n  last error: -\n\n"
        );
    }
}
