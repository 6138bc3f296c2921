//! `peercache peers`: the members that a running server knows.

use std::fmt::Write as _;

use serde_json::Value;

use crate::ask;
use crate::cli::ServerArgs;
use crate::exit::{Exit, Failure};
use crate::output;

/// Prints the node's own line, its members, and the addresses that it dials.
pub(crate) async fn run(args: ServerArgs, json: bool) -> Result<Exit, Failure> {
    let stats = ask::server(&args).await?;
    let Some(report) = stats.pointer("/cache/backends/peers") else {
        return Err(Failure::config(
            "that server has no peers in its chain; set CACHE_BOOTSTRAP_PEERS or CACHE_LISTEN_PORT (see docs/settings.md) \
             and start it again",
        ));
    };
    if json {
        output::json(report)?;
    } else {
        output::write(render(report).as_bytes())?;
    }
    Ok(Exit::Ok)
}

fn render(report: &Value) -> String {
    let mut text = own(report);
    let members = rows(report, "members", |member| {
        let state = match (text_of(member, "state"), text_of(member, "trouble")) {
            (state, "") => state.to_owned(),
            (state, trouble) => format!("{state} ({trouble})"),
        };
        let micros = member["round_trip_us"].as_u64();
        vec![
            text_of(member, "name").to_owned(),
            dash(text_of(member, "role")),
            micros.map_or_else(|| "-".to_owned(), |micros| format!("{micros} us")),
            output::bytes(member["bytes_in"].as_u64().unwrap_or_default()),
            output::bytes(member["bytes_out"].as_u64().unwrap_or_default()),
            state,
            dash(text_of(member, "remote")),
        ]
    });
    let head = ["PEER", "ROLE", "ROUND TRIP", "RECEIVED", "SENT", "STATE", "WHERE"];
    text.push_str(&table(&head, &members, "no other member is known yet"));
    let bootstrap = rows(report, "bootstrap", |target| {
        let state = match (target["connected"] == true, text_of(target, "trouble")) {
            (true, _) => "connected".to_owned(),
            (false, "") => "being dialled".to_owned(),
            (false, trouble) => format!("not connected: {trouble}"),
        };
        let found = if target["found"] == true { " (found by multicast DNS)" } else { "" };
        vec![text_of(target, "address").to_owned(), state + found]
    });
    if !bootstrap.is_empty() {
        text.push('\n');
        text.push_str(&table(&["BOOTSTRAP", "STATE"], &bootstrap, ""));
    }
    text
}

/// What the node says of itself.
fn own(report: &Value) -> String {
    let count = |name: &str| report[name].as_u64().unwrap_or_default();
    let mut text = format!(
        "this node is the {} {}\nconnected with {}, {} in the ring, {} held ({})\n",
        text_of(report, "role"),
        text_of(report, "name"),
        counted(count("connected"), "peer"),
        counted(count("anchors"), "anchor"),
        if count("entries") == 1 { "1 entry".to_owned() } else { format!("{} entries", count("entries")) },
        output::bytes(count("bytes")),
    );
    if report["writer"] == false {
        text.push_str("it may not write: its secret is read-only\n");
    }
    let addresses: Vec<_> =
        report["addresses"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    if !addresses.is_empty() {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "others find it with CACHE_BOOTSTRAP_PEERS={}", addresses.join(","));
    }
    text.push('\n');
    text
}

pub(crate) fn counted(count: u64, what: &str) -> String {
    if count == 1 { format!("1 {what}") } else { format!("{count} {what}s") }
}

fn text_of<'a>(value: &'a Value, field: &str) -> &'a str {
    value[field].as_str().unwrap_or_default()
}

fn dash(text: &str) -> String {
    if text.is_empty() { "-".to_owned() } else { text.to_owned() }
}

fn rows(report: &Value, list: &str, row: impl Fn(&Value) -> Vec<String>) -> Vec<Vec<String>> {
    report[list].as_array().into_iter().flatten().map(row).collect()
}

/// Columns under a head, the last one as wide as it likes.
fn table(head: &[&str], rows: &[Vec<String>], empty: &str) -> String {
    if rows.is_empty() {
        return format!("{empty}\n");
    }
    let all: Vec<Vec<&str>> = std::iter::once(head.to_vec())
        .chain(rows.iter().map(|row| row.iter().map(String::as_str).collect()))
        .collect();
    let width = |column: usize| all.iter().map(|row| row[column].chars().count()).max().unwrap_or_default();
    let widths: Vec<_> = (0..head.len()).map(width).collect();
    let line = |row: &Vec<&str>| {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}"));
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned() + "\n"
    };
    all.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn members_and_addresses_are_tables() {
        let report = json!({
            "name": "12D3KooWself", "role": "anchor", "writer": true, "connected": 1, "anchors": 2, "entries": 1,
            "bytes": 20480, "addresses": ["/ip4/10.0.0.1/tcp/9100/p2p/12D3KooWself"],
            "members": [
                { "name": "12D3KooWone", "role": "leaf", "state": "connected", "round_trip_us": 212,
                  "bytes_in": 5, "bytes_out": 20480, "remote": "/ip4/10.0.0.2/tcp/50000", "trouble": null },
                { "name": "12D3KooWanother", "role": null, "state": "away", "round_trip_us": null,
                  "bytes_in": 0, "bytes_out": 0, "remote": null, "trouble": "it did not answer" },
            ],
            "bootstrap": [
                { "address": "/dns4/a/tcp/9100", "connected": true, "trouble": null },
                { "address": "/dns4/b/tcp/9100", "connected": false, "trouble": "no such host" },
                { "address": "/ip4/10.0.0.7/tcp/9100", "found": true, "connected": true, "trouble": null },
            ],
        });
        insta::assert_snapshot!(render(&report), @r"
    this node is the anchor 12D3KooWself
    connected with 1 peer, 2 anchors in the ring, 1 entry held (20 KiB)
    others find it with CACHE_BOOTSTRAP_PEERS=/ip4/10.0.0.1/tcp/9100/p2p/12D3KooWself
    
    PEER             ROLE  ROUND TRIP  RECEIVED  SENT    STATE                     WHERE
    12D3KooWone      leaf  212 us      5 B       20 KiB  connected                 /ip4/10.0.0.2/tcp/50000
    12D3KooWanother  -     -           0 B       0 B     away (it did not answer)  -
    
    BOOTSTRAP               STATE
    /dns4/a/tcp/9100        connected
    /dns4/b/tcp/9100        not connected: no such host
    /ip4/10.0.0.7/tcp/9100  connected (found by multicast DNS)
    ");
        let alone = json!({ "name": "12D3KooWself", "role": "leaf", "writer": false, "members": [] });
        insta::assert_snapshot!(render(&alone), @r"
    this node is the leaf 12D3KooWself
    connected with 0 peers, 0 anchors in the ring, 0 entries held (0 B)
    it may not write: its secret is read-only
    
    no other member is known yet
    ");
    }
}
