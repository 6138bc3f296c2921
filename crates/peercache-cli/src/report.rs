//! `peercache report`: what a running server did, as Markdown for the end of a job.

use std::fmt::Write as _;
use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::PathBuf;

use serde_json::Value;

use crate::args::ReportArgs;
use crate::ask;
use crate::exit::{Exit, Failure};
use crate::ledger::{self, By};
use crate::output;
use crate::plain::on_one_line;

/// Names the file that GitHub Actions shows on the page of the job.
const SUMMARY: &str = "GITHUB_STEP_SUMMARY";

/// Prints the report, or appends it to the summary of the job.
pub(crate) async fn run(args: ReportArgs, json: bool) -> Result<Exit, Failure> {
    let summary = match args.github_step_summary {
        true => Some(PathBuf::from(std::env::var_os(SUMMARY).filter(|path| !path.is_empty()).ok_or_else(
            || Failure::config(format!("{SUMMARY} is not set; it is in steps of GitHub Actions alone")),
        )?)),
        false => None,
    };
    let stats = ask::server(&args.server).await?;
    if json {
        output::json(&stats)?;
    }
    let text = markdown(&stats);
    match summary {
        Some(path) => OpenOptions::new()
            .append(true)
            .create(true)
            .open(&path)
            .and_then(|mut file| file.write_all(text.as_bytes()))
            .map_err(|error| Failure::failed(format!("cannot write {}: {error}", path.display())))?,
        None if !json => {
            output::write(text.as_bytes())?;
        }
        None => {}
    }
    Ok(Exit::Ok)
}

/// The report of a server in Markdown.
fn markdown(stats: &Value) -> String {
    let number = |pointer: &str| stats.pointer(pointer).and_then(Value::as_u64).unwrap_or_default();
    let (asked, saved) = (number("/saved/asked"), number("/saved/saved"));
    let percent = (saved * 100).checked_div(asked).unwrap_or_default();
    let mut text = format!("### peercache saved {saved} of {asked} calls ({percent} %)\n\n");
    let _ = writeln!(
        text,
        "| asked | not sent | confirmed by a 304 | charged | stale answers | failed |\n\
         |---:|---:|---:|---:|---:|---:|\n| {asked} | {} | {} | {} | {} | {} |\n",
        number("/saved/not_sent"),
        number("/proxy/upstream_not_modified"),
        number("/saved/charged"),
        number("/proxy/stale"),
        number("/proxy/error"),
    );
    let clients = ledger::rows(stats, By::Client);
    if !clients.is_empty() {
        text += "| client | asked | sent | charged | saved |\n|---|---:|---:|---:|---:|\n";
        for row in clients {
            let [asked, sent, charged, saved] = row.counts;
            let _ = writeln!(text, "| {} | {asked} | {sent} | {charged} | {saved} |", cell(&row.name));
        }
        text.push('\n');
    }
    text += "| tier | hits | misses | errors | writes given up | state |\n|---|---:|---:|---:|---:|---|\n";
    for tier in stats.pointer("/cache/tiers").and_then(Value::as_array).into_iter().flatten() {
        let count = |name: &str| tier[name].as_u64().unwrap_or_default();
        let dropped = tier.pointer("/queue/dropped").and_then(Value::as_object).into_iter().flatten();
        let dropped: u64 = dropped.filter_map(|(_, count)| count.as_u64()).sum();
        let breaker = &tier["breaker"];
        let openings = breaker["openings"].as_u64().unwrap_or_default();
        let state = match (breaker["state"].as_str(), openings) {
            (Some("closed"), 0) => "asked".to_owned(),
            (Some("closed"), _) => format!("asked; left out {openings} times, last: {}", cause(breaker)),
            _ => format!("not asked: {}", cause(breaker)),
        };
        let _ = writeln!(
            text,
            "| {} | {} | {} | {} | {dropped} | {} |",
            cell(tier["name"].as_str().unwrap_or("?")),
            count("hits"),
            count("misses"),
            count("errors") + count("timeouts"),
            cell(&state),
        );
    }
    for line in stats["degraded"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        let _ = writeln!(text, "\n**Degraded:** {}", cell(line));
    }
    text
}

fn cause(breaker: &Value) -> String {
    breaker["last_cause"].as_str().unwrap_or("no cause is known").to_owned()
}

/// Text of a server in a table of Markdown: on one line, and nothing in it is markup.
fn cell(text: &str) -> String {
    let mut cell = String::with_capacity(text.len());
    for c in on_one_line(text).chars() {
        match c {
            '&' => cell += "&amp;",
            '<' => cell += "&lt;",
            '|' | '\\' | '`' | '*' | '_' | '[' | ']' | '#' | '!' => {
                cell.push('\\');
                cell.push(c);
            }
            c => cell.push(c),
        }
    }
    cell
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn report_says_what_was_saved_and_what_broke() {
        let stats = json!({
            "saved": { "asked": 100, "not_sent": 65, "charged": 20, "saved": 80 },
            "degraded": ["s3 is not asked (breaker open): no <route> | none"],
            "proxy": { "upstream_not_modified": 15, "stale": 1, "error": 0 },
            "ledger": { "clients": [
                { "client": "CI | build", "asked": 90, "sent": 30, "charged": 15, "saved": 75 },
                { "client": "anonymous", "asked": 10, "sent": 5, "charged": 5, "saved": 5 } ] },
            "cache": { "tiers": [
                { "name": "memory", "hits": 60, "misses": 40, "errors": 0, "timeouts": 0, "queue": null,
                  "breaker": { "state": "closed", "openings": 0, "last_cause": null } },
                { "name": "s3", "hits": 0, "misses": 1, "errors": 2, "timeouts": 1,
                  "queue": { "dropped": { "queue_full": 3, "too_old": 1, "refused": 0, "shutdown": 0 } },
                  "breaker": { "state": "open", "openings": 1, "last_cause": "no <route> | none" } } ] },
        });
        insta::assert_snapshot!(markdown(&stats), @r"
        ### peercache saved 80 of 100 calls (80 %)

        | asked | not sent | confirmed by a 304 | charged | stale answers | failed |
        |---:|---:|---:|---:|---:|---:|
        | 100 | 65 | 15 | 20 | 1 | 0 |

        | client | asked | sent | charged | saved |
        |---|---:|---:|---:|---:|
        | CI \| build | 90 | 30 | 15 | 75 |
        | anonymous | 10 | 5 | 5 | 5 |

        | tier | hits | misses | errors | writes given up | state |
        |---|---:|---:|---:|---:|---|
        | memory | 60 | 40 | 0 | 0 | asked |
        | s3 | 0 | 1 | 3 | 4 | not asked: no &lt;route> \| none |

        **Degraded:** s3 is not asked (breaker open): no &lt;route> \| none
        ");
    }
}
