//! The table that the demo prints.

use std::fmt::Write as _;

use super::results::{Results, Side};

/// One column for each way to run the jobs, and below it what that saved.
pub(super) fn render(results: &Results) -> String {
    let sides = [&results.without, &results.per_token, &results.with];
    let mut text = format!(
        "{} jobs with a token each, {} repositories of which {} are private, seed {}; with peercache each job on a\n\
         runner of its own that starts empty, and one host as the anchor\n\n{:<36}{:>12}{:>22}{:>12}\n",
        results.jobs,
        results.repositories,
        results.private_repositories,
        results.seed,
        "",
        "without",
        "nginx-like, per token",
        "peercache"
    );
    let mut row = |name: &str, cell: &dyn Fn(&Side) -> String| {
        let [without, per_token, with] = sides.map(cell);
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{name:<36}{without:>12}{per_token:>22}{with:>12}");
    };
    row("requests by the jobs", &|side| side.requests.to_string());
    row("calls made to the origin", &|side| side.calls.to_string());
    row("  answered 304, free of charge", &|side| side.not_modified.to_string());
    row("calls charged", &|side| side.charged.to_string());
    row("charged calls saved", &|side| percent(side.charged_saved));
    row("requests not sent at all", &|side| percent(side.not_sent));
    row("leaks, counted by the origin", &|side| side.leaks.to_string());
    row("older than their rule allows", &|side| side.too_old.to_string());
    row("wrong or missing answers", &|side| side.wrong.to_string());
    row("p50 of all answers", &|side| micros(side.p50_us));
    row("p99 of all answers", &|side| micros(side.p99_us));
    let _ = write!(
        text,
        "\n{} of {} runners were connected with peers; {} answers came from other machines.\n\
         A leak is a body that the origin would not have given that token. Calls, charges and leaks are the origin's\n\
         own count; times are against an origin on this machine: what a call to GitHub takes is not in them.",
        results.connected_runners, results.runners, results.peer_hits
    );
    text
}

fn percent(share: f64) -> String {
    format!("{:.1} %", 100.0 * share)
}

fn micros(value: f64) -> String {
    if value < 10_000.0 { format!("{value:.0} us") } else { format!("{:.1} ms", value / 1000.0) }
}
