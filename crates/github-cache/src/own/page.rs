//! The status page: one document without outside assets, whose numbers need no script.

use std::fmt::{self, Display, Write as _};
use std::sync::LazyLock;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use crate::history::Sample;
use crate::ledger::Booked;
use crate::report::StatsReport;

pub(super) const MEDIA: &str = "text/html; charset=utf-8";

const STYLE: &str = include_str!("page.css");
const SCRIPT: &str = include_str!("page.js");
/// The most peers that are drawn; all are in the report.
const MAX_PEERS: usize = 24;
/// The most clients, and the most routes, that are listed; all are in the report.
const MAX_ROWS: usize = 20;

/// What the page may load: itself, and its own style and script by their digests.
pub(super) static POLICY: LazyLock<String> = LazyLock::new(|| {
    let digest = |text: &str| BASE64_STANDARD.encode(Sha256::digest(text));
    format!(
        "default-src 'none'; style-src 'sha256-{}'; script-src 'sha256-{}'; connect-src 'self'; img-src data:; \
         base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
        digest(STYLE),
        digest(SCRIPT)
    )
});

/// The page of this report.
pub(super) fn render(report: &StatsReport) -> Result<String, fmt::Error> {
    let mut page = String::with_capacity(16 * 1024);
    write!(
        page,
        "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\
         <title>peercache: saved {} %</title><link rel=\"icon\" href=\"data:,\">\
         <style>{STYLE}</style></head><body><header><h1>peercache</h1>\
         <p class=\"quiet\" id=\"state\">as of this request</p></header><main>",
        report.saved.percent()
    )?;
    page.push_str(&main(report)?);
    write!(page, "</main><script>{SCRIPT}</script></body></html>")?;
    Ok(page)
}

/// What changes: everything in `main`.
pub(super) fn main(report: &StatsReport) -> Result<String, fmt::Error> {
    let mut page = String::with_capacity(8 * 1024);
    let saved = report.saved;
    write!(
        page,
        "<p class=\"saved\">saved {} of {} ({} %)</p>\
         <p class=\"quiet\">calls that no rate limit was charged for, since {}; {} were not sent at all</p>",
        saved.saved,
        saved.asked,
        saved.percent(),
        Escaped(&report.since),
        saved.not_sent
    )?;
    state(&mut page, &report.degraded)?;
    chart(&mut page, &report.history)?;
    requests(&mut page, report)?;
    let clients = report.ledger.clients.iter().map(|row| (row.client.as_str(), row.booked));
    ledger(&mut page, ["Clients", "client", "Who spent it, the dearest first"], clients)?;
    let mut routes: Vec<_> =
        report.ledger.routes.iter().map(|row| (row.route.as_str(), row.booked)).collect();
    routes.sort_by_key(|(_, booked)| std::cmp::Reverse(booked.asked));
    ledger(&mut page, ["Routes", "route", "What was asked, most often first"], routes.into_iter())?;
    tiers(&mut page, report)?;
    if let Some(peers) = report.cache.backends.get("peers") {
        draw_peers(&mut page, peers)?;
    }
    Ok(page)
}

/// A heading, and a table that is wider than a small screen: it is moved by itself, also by
/// keyboard.
fn begin_table(page: &mut String, heading: &str, caption: &str) -> fmt::Result {
    write!(
        page,
        "<h2>{heading}</h2><div class=\"wide\" role=\"region\" tabindex=\"0\" aria-label=\"{heading}\"><table>\
         <caption>{caption}</caption><thead><tr>"
    )
}

/// What was booked to each of the rows, if there is one.
fn ledger<'r>(
    page: &mut String,
    [heading, column, caption]: [&str; 3],
    rows: impl ExactSizeIterator<Item = (&'r str, Booked)>,
) -> fmt::Result {
    let more = rows.len().saturating_sub(MAX_ROWS);
    if rows.len() == 0 {
        return Ok(());
    }
    begin_table(page, heading, caption)?;
    write!(
        page,
        "<th scope=\"col\">{column}</th><th scope=\"col\">asked</th><th scope=\"col\">sent</th>\
         <th scope=\"col\">charged</th><th scope=\"col\">saved</th></tr></thead><tbody>"
    )?;
    for (name, booked) in rows.take(MAX_ROWS) {
        write!(
            page,
            "<tr><th scope=\"row\" class=\"text\">{}</th><td>{}</td><td>{}</td><td>{}</td><td>{}</td></tr>",
            Escaped(name),
            booked.asked,
            booked.sent,
            booked.charged,
            booked.saved
        )?;
    }
    page.write_str("</tbody></table></div>")?;
    if more > 0 {
        write!(page, "<p class=\"quiet\">{more} more are in the report, /-/stats</p>")?;
    }
    Ok(())
}

fn state(page: &mut String, degraded: &[String]) -> fmt::Result {
    if degraded.is_empty() {
        return page.write_str("<p class=\"good\">every tier is asked</p>");
    }
    page.write_str("<h2>Degraded</h2><ul>")?;
    for line in degraded {
        write!(page, "<li class=\"bad\">{}</li>", Escaped(line))?;
    }
    page.write_str("</ul>")
}

/// Asked and charged in each minute.
fn chart(page: &mut String, history: &[Sample]) -> fmt::Result {
    page.write_str("<h2>Over time</h2>")?;
    let minutes: Vec<_> = history
        .windows(2)
        .map(|pair| {
            (pair[1].asked.saturating_sub(pair[0].asked), pair[1].charged.saturating_sub(pair[0].charged))
        })
        .collect();
    let most = minutes.iter().map(|(asked, charged)| *asked.max(charged)).max().unwrap_or_default().max(1);
    if minutes.len() < 2 {
        return page.write_str("<p class=\"quiet\">A line begins with the third minute.</p>");
    }
    let line = |value: fn(&(u64, u64)) -> u64| {
        let points = minutes.iter().enumerate().map(|(index, minute)| {
            let x = 40.0 + 550.0 * index as f64 / (minutes.len() - 1) as f64;
            format!("{x:.1},{:.1}", 110.0 - 100.0 * value(minute) as f64 / most as f64)
        });
        points.collect::<Vec<_>>().join(" ")
    };
    write!(
        page,
        "<svg viewBox=\"0 0 600 140\" role=\"img\" aria-label=\"Requests asked and charged in each minute, at most \
         {most}\"><line class=\"axis\" x1=\"40\" y1=\"110\" x2=\"590\" y2=\"110\"/>\
         <text x=\"0\" y=\"16\">{most}</text><text x=\"0\" y=\"114\">0</text>\
         <polyline class=\"asked\" fill=\"none\" stroke-width=\"2\" stroke-dasharray=\"4 3\" points=\"{}\"/>\
         <polyline class=\"charged\" fill=\"none\" stroke-width=\"2\" points=\"{}\"/>\
         <text x=\"40\" y=\"134\">dashed: asked, solid: charged; {} minutes</text></svg>",
        line(|minute| minute.0),
        line(|minute| minute.1),
        minutes.len()
    )
}

fn requests(page: &mut String, report: &StatsReport) -> fmt::Result {
    let proxy = &report.proxy;
    let rows = [
        ("fresh", "from the store, nothing sent", proxy.fresh),
        ("shared", "fetched for another token from a public repository", proxy.shared),
        ("coalesced", "with another client's request", proxy.coalesced),
        ("revalidated", "stored bytes that a 304 confirmed", proxy.revalidated),
        ("stale", "stored bytes, since the API gave none", proxy.stale),
        ("miss", "fetched", proxy.miss),
        ("bypass", "passed through", proxy.bypass),
        ("error", "refused by the proxy", proxy.error),
    ];
    begin_table(page, "Requests", "How requests were answered")?;
    page.write_str(
        "<th scope=\"col\">result</th><th scope=\"col\">requests</th><th scope=\"col\" class=\"text\">what it means</th>\
         </tr></thead><tbody>",
    )?;
    for (name, meaning, count) in rows {
        write!(
            page,
            "<tr><th scope=\"row\">{name}</th><td>{count}</td><td class=\"text\">{meaning}</td></tr>"
        )?;
    }
    page.write_str("</tbody></table></div>")
}

fn tiers(page: &mut String, report: &StatsReport) -> fmt::Result {
    begin_table(page, "Tiers", "In the order in which they are asked")?;
    page.write_str(
        "<th scope=\"col\">tier</th><th scope=\"col\">hits</th><th scope=\"col\">misses</th>\
         <th scope=\"col\">errors</th><th scope=\"col\">get p50</th><th scope=\"col\">get p99</th>\
         <th scope=\"col\">waiting</th><th scope=\"col\" class=\"text\">state</th></tr></thead><tbody>",
    )?;
    for tier in &report.cache.chain.tiers {
        let waiting = tier.queue.as_ref().map_or(0, |queue| queue.waiting);
        let (class, reason) = match tier.breaker.state {
            "closed" => ("good", String::new()),
            _ => ("bad", tier.breaker.last_cause.clone().unwrap_or_default()),
        };
        write!(
            page,
            "<tr><th scope=\"row\">{}</th><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{waiting}</td>\
             <td class=\"text {class}\">{} {}</td></tr>",
            Escaped(&tier.name),
            tier.hits,
            tier.misses,
            tier.errors + tier.timeouts,
            Micros(tier.get_latency.p50_us),
            Micros(tier.get_latency.p99_us),
            if tier.breaker.state == "closed" { "asked" } else { "not asked:" },
            Escaped(&reason),
        )?;
    }
    page.write_str("</tbody></table></div>")
}

/// This node, the peers around it, and how long each takes to answer.
fn draw_peers(page: &mut String, peers: &Value) -> fmt::Result {
    let members = peers["members"].as_array().map(Vec::as_slice).unwrap_or_default();
    let role = peers["role"].as_str().unwrap_or("node");
    let connected = peers["connected"].as_u64().unwrap_or_default();
    write!(page, "<h2>Peers</h2><p>{} with {connected} connected</p>", Escaped(role))?;
    if members.is_empty() {
        return Ok(());
    }
    write!(
        page,
        "<svg viewBox=\"0 0 600 300\" role=\"img\" aria-label=\"This node and {} peers\">",
        members.len()
    )?;
    let drawn = members.len().min(MAX_PEERS);
    for (index, member) in members.iter().take(drawn).enumerate() {
        let angle = std::f64::consts::TAU * index as f64 / drawn as f64;
        let (x, y) = (300.0 + 220.0 * angle.cos(), 150.0 + 115.0 * angle.sin());
        let name = member["name"].as_str().unwrap_or_default();
        let tail: String = name.chars().skip(name.chars().count().saturating_sub(6)).collect();
        let trip = member["round_trip_us"].as_f64().map_or_else(
            || Escaped(member["state"].as_str().unwrap_or("away")).to_string(),
            |micros| Micros(micros).to_string(),
        );
        let class = if member["connected_s"].is_null() { "node away" } else { "node" };
        write!(
            page,
            "<line class=\"edge\" x1=\"300\" y1=\"150\" x2=\"{x:.0}\" y2=\"{y:.0}\"/>\
             <circle class=\"{class}\" cx=\"{x:.0}\" cy=\"{y:.0}\" r=\"9\"/>\
             <text x=\"{x:.0}\" y=\"{:.0}\" text-anchor=\"middle\">{} {trip}</text>",
            y + 25.0,
            Escaped(&tail),
        )?;
    }
    page.write_str("<circle class=\"node\" cx=\"300\" cy=\"150\" r=\"12\"/></svg>")?;
    if members.len() > drawn {
        write!(page, "<p class=\"quiet\">{} more are in the report</p>", members.len() - drawn)?;
    }
    Ok(())
}

/// Text for HTML, in an element or in a quoted attribute.
struct Escaped<'a>(&'a str);

impl Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for c in self.0.chars() {
            match c {
                '&' => f.write_str("&amp;")?,
                '<' => f.write_str("&lt;")?,
                '>' => f.write_str("&gt;")?,
                '"' => f.write_str("&quot;")?,
                '\'' => f.write_str("&#39;")?,
                c => f.write_char(c)?,
            }
        }
        Ok(())
    }
}

/// Microseconds as a person reads them.
struct Micros(f64);

impl Display for Micros {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            none if none <= 0.0 => f.write_str("-"),
            micros if micros < 1000.0 => write!(f, "{micros:.0} us"),
            micros if micros < 1e6 => write!(f, "{:.1} ms", micros / 1e3),
            micros => write!(f, "{:.1} s", micros / 1e6),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_of_others_cannot_leave_its_place() {
        assert_eq!(Escaped("<a title=\"'&'\">").to_string(), "&lt;a title=&quot;&#39;&amp;&#39;&quot;&gt;");
    }

    #[test]
    fn durations_have_a_unit() {
        let all = [0.0, 11.26, 1_500.0, 2_500_000.0].map(|micros| Micros(micros).to_string());
        assert_eq!(all, ["-", "11 us", "1.5 ms", "2.5 s"]);
    }

    #[test]
    fn policy_names_the_digests_of_style_and_script() {
        assert!(POLICY.starts_with("default-src 'none'; style-src 'sha256-"), "{}", *POLICY);
        assert!(!POLICY.contains("unsafe"), "{}", *POLICY);
    }

    #[test]
    fn peers_are_drawn_with_their_round_trips() {
        let peers = serde_json::json!({ "role": "anchor", "connected": 1, "members": [
            { "name": "12D3KooWabcdef", "state": "connected", "connected_s": 3, "round_trip_us": 1500 },
            { "name": "<x>", "state": "away", "connected_s": null, "round_trip_us": null } ] });
        let mut page = String::new();
        draw_peers(&mut page, &peers).unwrap();
        assert!(page.contains("abcdef 1.5 ms") && page.contains("&lt;x&gt; away"), "{page}");
    }
}
