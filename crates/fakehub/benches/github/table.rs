//! The table of one point.

use std::collections::BTreeSet;

use peercache_fakehub::workload::Tally;

use super::contender::{DIRECT, OURS, RIVAL};

/// At least this share of the requests is to stay unsent.
const NOT_SENT: f64 = 0.36;

/// Prints all rows. Returns whether no answer of ours was wrong.
pub(crate) fn print(rows: &[(String, Tally)]) -> bool {
    let direct = rows.iter().find(|(name, _)| name == DIRECT).map(|(_, tally)| tally);
    println!(
        "{:<24} {:>6} {:>8} {:>7} {:>5} {:>8} {:>9} {:>6} {:>7} {:>7} {:>6} {:>6} {:>8} {:>8}",
        "",
        "asked",
        "upstream",
        "charged",
        "304",
        "saved %",
        "unsent %",
        "leaks",
        "stale>r",
        "stale>m",
        "wrong",
        "failed",
        "p50 ms",
        "p99 ms"
    );
    for (name, tally) in rows {
        let saved = direct.map_or(0.0, |direct| 100.0 * tally.charged_saved(direct));
        println!(
            "{name:<24} {:>6} {:>8} {:>7} {:>5} {saved:>8.1} {:>9.1} {:>6} {:>7} {:>7} {:>6} {:>6} {:>8.1} {:>8.1}",
            tally.requests,
            tally.upstream,
            tally.charged,
            tally.not_modified,
            100.0 * tally.not_sent(),
            tally.leaks,
            tally.stale_beyond_rule,
            tally.stale_beyond_minute,
            tally.wrong_errors + tally.corrupt + tally.server_errors,
            tally.failed,
            1000.0 * tally.percentile(50).as_secs_f64(),
            1000.0 * tally.percentile(99).as_secs_f64(),
        );
    }
    let find = |wanted: &str| rows.iter().find(|(name, _)| name == wanted).map(|(_, tally)| tally);
    let (Some(ours), Some(direct)) = (find(OURS), direct) else { return false };
    if let Some(rival) = find(RIVAL) {
        let (our, their) = (ours.charged_saved(direct), rival.charged_saved(direct));
        println!(
            "\ncharged calls saved: {:.1} %, {RIVAL} {:.1} %: {}; requests not sent: {:.1} % of at least {:.0} %: {}",
            100.0 * our,
            100.0 * their,
            met(our >= their),
            100.0 * ours.not_sent(),
            100.0 * NOT_SENT,
            met(ours.not_sent() >= NOT_SENT)
        );
    }
    let right = |tally: &Tally| {
        tally.leaks + tally.stale_beyond_rule + tally.wrong_errors + tally.corrupt + tally.failed == 0
    };
    for (name, tally) in rows.iter().filter(|(name, _)| name == OURS || name == DIRECT) {
        for example in &tally.examples {
            println!("{name}: {example}");
        }
    }
    right(ours) && right(direct)
}

/// Prints the whole sweep: for each point and contender the charged calls saved and the requests
/// not sent, in percent, and the leaks.
pub(crate) fn print_sweep(points: &[(String, Vec<(String, Tally)>)]) {
    println!("\n## The sweep: charged calls saved % / requests not sent % / leaks\n");
    let names: Vec<&String> = points.first().map_or(Vec::new(), |(_, rows)| {
        rows.iter().map(|(name, _)| name).filter(|name| *name != DIRECT).collect()
    });
    let head = names.iter().fold(String::new(), |line, name| format!("{line} {name:>22}"));
    println!("{:<34}{head}", "");
    for (point, rows) in points {
        let direct = rows.iter().find(|(name, _)| name == DIRECT).map(|(_, tally)| tally);
        let cells = rows.iter().filter(|(name, _)| name != DIRECT).map(|(_, tally)| {
            let saved = direct.map_or(0.0, |direct| 100.0 * tally.charged_saved(direct));
            format!("{saved:.1} / {:.1} / {}", 100.0 * tally.not_sent(), tally.leaks)
        });
        println!("{point:<34}{}", cells.fold(String::new(), |line, cell| format!("{line} {cell:>22}")));
    }
}

/// Prints what reached the origin by route: requests, and of those the charged ones.
pub(crate) fn print_routes(rows: &[(String, Tally)]) {
    let routes: BTreeSet<&String> = rows.iter().flat_map(|(_, tally)| tally.routes.keys()).collect();
    println!(
        "\n{:<44}{}",
        "upstream/charged",
        rows.iter().fold(String::new(), |line, (name, _)| { format!("{line} {:>16.16}", name) })
    );
    for route in routes {
        let counts = rows.iter().fold(String::new(), |line, (_, tally)| {
            let count = tally.routes.get(route).copied().unwrap_or_default();
            format!("{line} {:>16}", format!("{}/{}", count.upstream, count.charged))
        });
        println!("{route:<44}{counts}");
    }
}

/// Prints how our answers came about, by route.
pub(crate) fn print_outcomes(rows: &[(String, Tally)]) {
    let Some((_, ours)) = rows.iter().find(|(name, _)| name == OURS) else { return };
    println!("\n{OURS}, by route");
    for ((route, outcome), count) in &ours.outcomes {
        println!("{route:<44} {count:>5}  {outcome}");
    }
}

const fn met(is: bool) -> &'static str {
    if is { "met" } else { "NOT met" }
}
