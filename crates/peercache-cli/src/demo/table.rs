//! The table that the demo prints.

use std::fmt::Write as _;

use super::Results;

/// `without` beside `with`, and below it what that saved.
pub(crate) fn render(results: &Results) -> String {
    let (without, with) = (&results.without, &results.with);
    let mut text = format!(
        "{} jobs, {} requests each, one token for all of them; with peercache each on a runner of its own that\n\
         starts empty, and one host as the anchor\n\n{:<34}{:>20}{:>20}\n",
        results.jobs, results.requests_per_job, "", "without peercache", "with peercache"
    );
    let mut row = |name: &str, left: String, right: String| {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{name:<34}{left:>20}{right:>20}");
    };
    row("requests by the jobs", without.requests.to_string(), with.requests.to_string());
    row("calls made to the origin", without.calls.to_string(), with.calls.to_string());
    row("  answered 304, free of charge", without.not_modified.to_string(), with.not_modified.to_string());
    row("calls charged", without.charged.to_string(), with.charged.to_string());
    row("hit rate", "-".to_owned(), format!("{:.1} %", 100.0 * results.hit_rate));
    let connected = format!("{} of {}", results.connected_runners, results.runners);
    row("runners connected with peers", "-".to_owned(), connected);
    row("answers from peers", "-".to_owned(), results.peer_hits.to_string());
    row("p50 of all answers", micros(without.p50_us), micros(with.p50_us));
    row("p99 of all answers", micros(without.p99_us), micros(with.p99_us));
    row("p50 of a hit", "-".to_owned(), micros(results.hit_p50_us));
    row("p99 of a hit", "-".to_owned(), micros(results.hit_p99_us));
    row("answers that differ from direct", "-".to_owned(), results.differing_answers.to_string());
    let _ = write!(
        text,
        "\n{:.1} % fewer calls charged. Calls and charges are the origin's own count; times are the jobs' clock,\n\
         against an origin on this machine: what a call to GitHub takes on the network is not in them.",
        100.0 * results.charged_saved
    );
    text
}

fn micros(value: f64) -> String {
    if value < 10_000.0 { format!("{value:.0} us") } else { format!("{:.1} ms", value / 1000.0) }
}
