//! `peercache peers`: the members that a running server knows.

use std::fmt::Write as _;

use serde_json::Value;

use crate::args::PeersArgs;
use crate::ask;
use crate::exit::{Exit, Failure};
use crate::id::without_id;
use crate::output;
use crate::plain::on_one_line;

/// Prints the node's own line, its members, and the addresses that it dials.
pub(crate) async fn run(args: PeersArgs, json: bool) -> Result<Exit, Failure> {
    let stats = ask::server(&args.server).await?;
    let Some(report) = stats.pointer("/cache/backends/peers") else {
        return Err(Failure::config(
            "that server has no peers in its chain; set CACHE_BOOTSTRAP_PEERS or CACHE_LISTEN_PORT (see docs/reference/settings.md) \
             and start it again",
        ));
    };
    if json {
        output::json(report)?;
    } else {
        output::write(render(report, args.all).as_bytes())?;
    }
    Ok(Exit::Ok)
}

/// Members that have left, as every command does when it ends, are counted only, unless `all` are
/// asked for.
fn render(report: &Value, all: bool) -> String {
    let mut text = own(report);
    let has_left =
        |member: &&Value| text_of(member, "state") == "away" && text_of(member, "trouble").is_empty();
    let left = list(report, "members").filter(has_left).count() as u64;
    let shown = list(report, "members").filter(|member| all || !has_left(member));
    let members: Vec<_> = shown.map(|member| row(member, all)).collect();
    let head = ["PEER", "NAME", "ROLE", "ROUND TRIP", "RECEIVED", "SENT", "STATE", "WHERE"];
    match members.is_empty() {
        true => text.push_str("no other member is connected\n"),
        false => text.push_str(&output::table(&head, &members)),
    }
    if left > 0 && !all {
        // Writing to a String cannot fail.
        let _ = writeln!(
            text,
            "{} left, --all shows them",
            if left == 1 { "1 has".to_owned() } else { format!("{left} have") }
        );
    }
    let bootstrap = |target: &Value| {
        let state = match (target["connected"] == true, text_of(target, "trouble")) {
            (true, _) => "connected".to_owned(),
            (false, "") => "being dialled".to_owned(),
            (false, trouble) => format!("not connected: {trouble}"),
        };
        let found = if target["found"] == true { " (found by multicast DNS)" } else { "" };
        vec![on_one_line(text_of(target, "address")), on_one_line(&state) + found]
    };
    let bootstrap: Vec<_> = list(report, "bootstrap").map(bootstrap).collect();
    if !bootstrap.is_empty() {
        text.push('\n');
        text.push_str(&output::table(&["BOOTSTRAP", "STATE"], &bootstrap));
    }
    text
}

fn row(member: &Value, all: bool) -> Vec<String> {
    let state = match (text_of(member, "state"), text_of(member, "trouble")) {
        (state, "") => state.to_owned(),
        (state, trouble) => format!("{state} ({trouble})"),
    } + &clock(member);
    let micros = member["round_trip_us"].as_u64();
    let id = text_of(member, "name");
    let cells = [
        if all { id.to_owned() } else { short(id) },
        dash(text_of(member, "node_name")),
        dash(text_of(member, "role")),
        micros.map_or_else(|| "-".to_owned(), |micros| format!("{micros} us")),
        output::bytes(member["bytes_in"].as_u64().unwrap_or_default()),
        output::bytes(member["bytes_out"].as_u64().unwrap_or_default()),
        state,
        dash(text_of(member, "remote")),
    ];
    cells.iter().map(|cell| on_one_line(cell)).collect()
}

/// How far the clock of a member is from this machine's, if that is more than a few seconds.
fn clock(member: &Value) -> String {
    const NAMED_MILLIS: u64 = 5_000;
    match member["clock_ahead_ms"].as_i64() {
        Some(ahead) if ahead.unsigned_abs() >= NAMED_MILLIS => {
            let side = if ahead > 0 { "ahead" } else { "behind" };
            format!(", its clock is {} s {side}", ahead.unsigned_abs() / 1000)
        }
        _ => String::new(),
    }
}

/// The end of an id: its beginning is the same for all.
fn short(id: &str) -> String {
    const SHOWN: usize = 8;
    match id.char_indices().rev().nth(SHOWN - 1) {
        Some((place, _)) if place > 0 => format!("…{}", &id[place..]),
        _ => id.to_owned(),
    }
}

/// What the node says of itself.
fn own(report: &Value) -> String {
    let count = |name: &str| report[name].as_u64().unwrap_or_default();
    let mut text = format!(
        "this node is the {} {}\nconnected with {}, {} in the ring, {} held ({}){}\n",
        text_of(report, "role"),
        text_of(report, "name"),
        counted(count("connected"), "peer"),
        counted(count("anchors"), "anchor"),
        if count("entries") == 1 { "1 entry".to_owned() } else { format!("{} entries", count("entries")) },
        output::bytes(count("bytes")),
        if report["kept"].is_object() { ", also on disk" } else { "" },
    );
    let correction = report["clock_correction_ms"].as_i64().unwrap_or_default();
    if correction != 0 {
        let side = if correction > 0 { "behind" } else { "ahead of" };
        // Writing to a String cannot fail.
        let _ = writeln!(
            text,
            "this machine's clock is {} s {side} the anchors', and corrected; set it, by NTP for example",
            correction.unsigned_abs() / 1000
        );
    }
    let not_kept = report["kept"]["not_kept"].as_u64().unwrap_or_default();
    if not_kept > 0 {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{not_kept} of what it took could not be stored on disk");
    }
    if report["writer"] == false {
        text.push_str("it may not write: its secret is read-only\n");
    }
    let addresses: Vec<_> = list(report, "addresses").filter_map(Value::as_str).map(on_one_line).collect();
    if !addresses.is_empty() {
        // Writing to a String cannot fail.
        let _ =
            writeln!(text, "others find it with CACHE_BOOTSTRAP_PEERS={}", without_id(&addresses).join(","));
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

fn list<'a>(report: &'a Value, name: &str) -> impl Iterator<Item = &'a Value> {
    report[name].as_array().into_iter().flatten()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn members_and_addresses_are_tables() {
        let report = json!({
            "name": "12D3KooWself", "role": "anchor", "writer": true, "connected": 1, "anchors": 2, "entries": 1,
            "bytes": 20480, "kept": { "loaded": true, "waiting_bytes": 0, "not_kept": 2 },
            "addresses": ["/ip4/10.0.0.1/tcp/9100/p2p/12D3KooWself"],
            "members": [
                { "name": "12D3KooWone", "node_name": "runner-7", "role": "leaf", "state": "connected", "round_trip_us": 212,
                  "bytes_in": 5, "bytes_out": 20480, "clock_ahead_ms": -600_300, "remote": "/ip4/10.0.0.2/tcp/50000", "trouble": null },
                { "name": "12D3KooWanother", "role": null, "state": "away", "round_trip_us": null,
                  "bytes_in": 0, "bytes_out": 0, "remote": null, "clock_ahead_ms": 4_000, "trouble": "it did not answer" },
                { "name": "12D3KooWa-command", "role": null, "state": "away", "round_trip_us": null,
                  "bytes_in": 0, "bytes_out": 0, "remote": null, "trouble": null },
            ],
            "bootstrap": [
                { "address": "/dns4/a/tcp/9100", "connected": true, "trouble": null },
                { "address": "/dns4/b/tcp/9100", "connected": false, "trouble": "no such host" },
                { "address": "/ip4/10.0.0.7/tcp/9100", "found": true, "connected": true, "trouble": null },
            ],
        });
        insta::assert_snapshot!(render(&report, false), @r"
    this node is the anchor 12D3KooWself
    connected with 1 peer, 2 anchors in the ring, 1 entry held (20 KiB), also on disk
    2 of what it took could not be stored on disk
    others find it with CACHE_BOOTSTRAP_PEERS=/ip4/10.0.0.1/tcp/9100
    
    PEER       NAME      ROLE  ROUND TRIP  RECEIVED  SENT    STATE                                 WHERE
    …3KooWone  runner-7  leaf  212 us      5 B       20 KiB  connected, its clock is 600 s behind  /ip4/10.0.0.2/tcp/50000
    …Wanother  -         -     -           0 B       0 B     away (it did not answer)              -
    1 has left, --all shows them
    
    BOOTSTRAP               STATE
    /dns4/a/tcp/9100        connected
    /dns4/b/tcp/9100        not connected: no such host
    /ip4/10.0.0.7/tcp/9100  connected (found by multicast DNS)
    ");
        let hostile = json!({ "name": "a", "members": [{ "name": "\u{1b}[2J", "state": "connected", "remote": "\u{7}x" }] });
        assert!(
            !render(&hostile, true).contains(['\u{1b}', '\u{7}']),
            "another member's text moves no cursor"
        );
        let alone = json!({ "name": "12D3KooWself", "role": "leaf", "writer": false, "clock_correction_ms": 600_300, "members": [] });
        insta::assert_snapshot!(render(&alone, false), @r"
    this node is the leaf 12D3KooWself
    connected with 0 peers, 0 anchors in the ring, 0 entries held (0 B)
    this machine's clock is 600 s behind the anchors', and corrected; set it, by NTP for example
    it may not write: its secret is read-only
    
    no other member is connected
    ");
    }
}
