//! The dashboard and the alerts in `deploy/`: each query names metrics that a running server has.

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::Value;

use crate::support::{Server, corpus, get, peercache};

const SECRET: &str = "pc-secret-1-KioqKioqKioqKioqKioqKioqKioqKioqKioqKioqKirrM9Ug";
const DEPLOY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../deploy");

fn file(path: &str) -> String {
    std::fs::read_to_string(Path::new(DEPLOY).join(path)).unwrap()
}

/// What follows `prefix` as far as it is part of a name.
fn names<'t>(text: &'t str, prefix: &str) -> BTreeSet<&'t str> {
    let is_name = |c: char| c.is_ascii_lowercase() || c == '_';
    text.match_indices(prefix)
        .map(|(at, _)| {
            let rest = &text[at..];
            &rest[..rest.find(|c| !is_name(c)).unwrap_or(rest.len())]
        })
        .collect()
}

/// The values that a query compares `label` with; those of the variables of a dashboard are left
/// out.
fn values<'t>(query: &'t str, label: &str) -> BTreeSet<&'t str> {
    ["=\"", "=~\"", "!=\""]
        .iter()
        .flat_map(|operator| {
            let wanted = format!("{label}{operator}");
            query.split(wanted.as_str()).skip(1).collect::<Vec<_>>()
        })
        .filter_map(|rest| rest.split('"').next())
        .flat_map(|value| value.split('|'))
        .collect()
}

/// The names and the samples of a server whose chain has a tier of each kind: one that is shared
/// has a queue, and this one is away.
fn scrape() -> String {
    let scratch = tempfile::tempdir().unwrap();
    let corpus = corpus(scratch.path());
    let (origin, _) = Server::fakehub(&corpus);
    let mut command = peercache(&["serve", "--listen", "127.0.0.1:0", "--upstream", &origin.url]);
    command.env("CACHE_DIR", scratch.path().join("cache"));
    command.env("CACHE_BACKEND", "memory,disk,redis").env("REDIS_URL", "redis://127.0.0.1:9");
    command.env("CACHE_SECRET", SECRET);
    let node = Server::start(command);
    get(&format!("{}/a", node.url), &[]);
    let (status, _, body) = get(&format!("{}/metrics", node.url), &[]);
    assert_eq!(status, 200);
    String::from_utf8(body).unwrap()
}

/// Panics where `query` names a metric or a value of a label that is not in `scraped`.
fn assert_known(query: &str, scraped: &str) {
    let metrics = names(query, "peercache_");
    for metric in &metrics {
        let is_sample =
            |line: &str| line.starts_with(&format!("{metric}{{")) || line.starts_with(&format!("{metric} "));
        assert!(scraped.lines().any(is_sample), "{metric} is no metric of the server: {query}");
    }
    for label in ["result", "answer", "reason", "operation", "quantile", "direction"] {
        for value in values(query, label) {
            let has = |line: &str| {
                metrics.iter().any(|metric| line.starts_with(*metric))
                    && line.contains(&format!("{label}=\"{value}\""))
            };
            assert!(scraped.lines().any(has), "no sample has {label}=\"{value}\": {query}");
        }
    }
}

#[test]
fn queries_of_the_dashboard_and_the_alerts_name_existing_metrics() {
    let scraped = scrape();
    let dashboard: Value = serde_json::from_str(&file("grafana/peercache.json")).unwrap();
    let mut queries = 0;
    for panel in dashboard["panels"].as_array().unwrap() {
        for target in panel["targets"].as_array().unwrap() {
            assert_known(target["expr"].as_str().unwrap(), &scraped);
            queries += 1;
        }
    }
    for variable in dashboard["templating"]["list"].as_array().unwrap() {
        assert_known(variable["definition"].as_str().unwrap_or_default(), &scraped);
    }
    let alerts = file("prometheus/alerts.yaml");
    let expressions: Vec<_> = alerts.split("expr:").skip(1).collect();
    for expression in &expressions {
        assert_known(expression.split("for:").next().unwrap(), &scraped);
    }
    assert!(queries > 10 && expressions.len() > 5, "{queries} queries, {} alerts", expressions.len());
}

#[test]
#[should_panic(expected = "peercache_unknown_total is no metric")]
fn a_metric_that_is_not_there_is_noticed() {
    assert_known("rate(peercache_unknown_total[5m])", "peercache_requests_total{result=\"miss\"} 1.0");
}

#[test]
#[should_panic(expected = "no sample has result=\"other\"")]
fn a_label_value_that_is_not_there_is_noticed() {
    let scraped = "peercache_requests_total{result=\"miss\"} 1.0";
    assert_known("rate(peercache_requests_total{result=~\"miss|other\"}[5m])", scraped);
}
