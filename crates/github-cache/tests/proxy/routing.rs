//! Base URLs, transparent hosts, links.

use std::collections::BTreeSet;

use crate::support::{HIT, Origin, Rig, STORED, hub};

const NEXT: &str = "/repositories/1/x?page=2>; rel=\"next\"";

#[tokio::test]
async fn links_lead_back_to_where_the_client_came_from() {
    let (_, origin, rig) = hub().await;
    for (host, target, expected) in [
        ("proxy.test:8080", "/x", format!("<http://proxy.test:8080{NEXT}")),
        ("proxy.test:8080", "/api/v3/x", format!("<http://proxy.test:8080/api/v3{NEXT}")),
        ("localhost", "/x", format!("<http://localhost{NEXT}")),
        ("api.github.com", "/x", format!("<https://api.github.com{NEXT}")),
        ("api.github.com", "http://api.github.com/x", format!("<https://api.github.com{NEXT}")),
    ] {
        let got = rig.get(target, &[("host", host)]).await;
        assert_eq!(got.header("link"), Some(expected.as_str()), "{host} {target}");
    }
    assert_eq!(origin.count(), 1, "all of these are one request");
}

#[tokio::test]
async fn a_client_can_follow_pages_through_a_base_url() {
    let origin = Origin::start(|seen| {
        let page: u32 = seen.target.rsplit('=').next().unwrap().parse().unwrap_or(1);
        let mut response = http::Response::builder().header("cache-control", "max-age=60");
        if page < 3 {
            let next =
                format!("<https://api.github.com/repositories/1/issues?page={}>; rel=\"next\"", page + 1);
            response = response.header("link", next);
        }
        response.body(bytes::Bytes::from(format!("page {page}"))).unwrap()
    })
    .await;
    let rig = Rig::new(&origin.url());
    for expected in [STORED, HIT] {
        let mut target = "/api/v3/repos/o/r/issues".to_owned();
        let mut pages = Vec::new();
        loop {
            let got = rig.get(&target, &[]).await;
            got.expect(200, expected);
            pages.push(String::from_utf8(got.body.to_vec()).unwrap());
            let Some(link) = got.header("link") else { break };
            let next = link.trim_start_matches('<').split('>').next().unwrap();
            target = next.strip_prefix("http://proxy.test:8080").unwrap().to_owned();
        }
        assert_eq!(pages, ["page 1", "page 2", "page 3"]);
    }
    assert_eq!(origin.seen()[1].target, "/repositories/1/issues?page=2");
}

#[tokio::test]
async fn location_is_rewritten_on_redirects_within_the_api_only() {
    for (location, expected) in [
        ("https://api.github.com/repositories/7", "http://proxy.test:8080/api/v3/repositories/7"),
        ("https://codeload.github.com/o/r/zip", "https://codeload.github.com/o/r/zip"),
    ] {
        let origin = Origin::start(move |_| {
            http::Response::builder()
                .status(302)
                .header("location", location)
                .body(bytes::Bytes::new())
                .unwrap()
        })
        .await;
        let rig = Rig::new(&origin.url());
        let got = rig.get("/api/v3/repos/o/r", &[]).await;
        assert_eq!(got.header("location"), Some(expected));
        let transparent = rig.get("/repos/o/r", &[("host", "api.github.com")]).await;
        assert_eq!(transparent.header("location"), Some(location));
    }
}

#[tokio::test]
async fn other_hosts_are_streamed_and_never_stored() {
    let (_, api, _) = hub().await;
    let other = Origin::start(|_| {
        http::Response::builder()
            .header("cache-control", "max-age=60")
            .body(bytes::Bytes::from_static(b"zip"))
            .unwrap()
    })
    .await;
    let rig = Rig::with(&api.url(), |builder| {
        builder.route("codeload.github.com", other.url()).route("uploads.github.com", other.url())
    });
    for _ in 0..2 {
        let got = rig.get("/o/r/zip/../x?token=1", &[("host", "codeload.github.com")]).await;
        got.expect(200, "peercache; fwd=bypass; fwd-status=200; detail=other-host");
        assert_eq!(got.body, "zip");
    }
    let upload = rig.send("POST", "/api/uploads/repos/o/r/releases/1/assets?name=a", &[], "bytes").await;
    upload.expect(200, "peercache; fwd=bypass; fwd-status=200; detail=other-host");
    assert_eq!(
        (other.last().target.as_str(), &other.last().body[..]),
        ("/repos/o/r/releases/1/assets?name=a", &b"bytes"[..])
    );
    assert_eq!((other.count(), api.count()), (3, 0));
}

#[tokio::test]
async fn an_upstream_below_a_path() {
    let (_, origin, _) = hub().await;
    let rig = Rig::new(&format!("{}/api/v3", origin.url()));
    rig.get("/repos/o/r", &[]).await.expect(200, STORED);
    assert_eq!(origin.last().target, "/api/v3/repos/o/r");
    rig.get("/api/v3/repos/o/r", &[]).await.expect(200, HIT);
    let host = origin.address.to_string();
    rig.get("/api/v3/repos/o/r", &[("host", &host)]).await.expect(200, HIT);
    rig.send("POST", "/graphql", &[], "{}").await;
    assert_eq!(origin.last().target, "/api/graphql");
}

#[tokio::test]
async fn own_endpoints_tell_how_it_is() {
    let (_, origin, rig) = hub().await;
    rig.get("/x", &[]).await;
    rig.get("/x", &[]).await;
    let early = rig.get("/-/peercache/health", &[]).await;
    assert_eq!(early.body, rig.get("/-/health/live", &[]).await.body, "the name of early builds");
    let health = rig.get("/-/health/live", &[]).await;
    health.expect(200, "peercache; detail=local");
    let stats = rig.get("/-/stats", &[]).await;
    let json: serde_json::Value = serde_json::from_slice(&stats.body).unwrap();
    assert_eq!((&json["proxy"]["fresh"], &json["proxy"]["miss"]), (&1.into(), &1.into()));
    assert!(json["cache"]["lookups"].as_u64().unwrap() > 0);
    assert_eq!(json["saved"], serde_json::json!({ "asked": 2, "not_sent": 1, "charged": 1, "saved": 1 }));
    let ready = rig.get("/-/health/ready", &[]).await;
    assert_eq!(String::from_utf8_lossy(&ready.body), r#"{"status":"ready","degraded":[]}"#);
    let page = rig.get("/-/", &[]).await;
    page.expect(200, "peercache; detail=local");
    let page = String::from_utf8_lossy(&page.body).into_owned();
    assert!(page.contains("saved 1 of 2 (50 %)") && page.contains(">memory</th>"), "{page}");
    assert!(!page.contains("src=") && !page.contains("http://"), "no outside asset: {page}");
    rig.get("/-/nothing", &[]).await.expect(404, "peercache; detail=local");
    assert_eq!(origin.count(), 1);
    let read = rig.stats();
    let classes =
        read.fresh + read.coalesced + read.revalidated + read.miss + read.bypass + read.error + read.local;
    assert_eq!(read.requests, classes, "every request is in one class");
}

/// The lines of the exposition, checked by the rules of OpenMetrics 1.0.0 that a scraper relies on.
#[tokio::test]
async fn metrics_are_in_the_openmetrics_format_and_equal_the_report() {
    let (_, _, rig) = hub().await;
    rig.get("/x", &[]).await;
    rig.get("/x", &[]).await;
    let answer = rig.get("/-/metrics", &[]).await;
    let text = String::from_utf8(answer.body.to_vec()).unwrap();
    assert_eq!(rig.get("/metrics", &[]).await.status, 200, "under its usual name too");
    let mut lines: Vec<_> = text.lines().collect();
    assert_eq!(lines.pop(), Some("# EOF"));
    let (mut family, mut kind, mut seen) = (String::new(), String::new(), BTreeSet::new());
    let mut families = BTreeSet::new();
    for line in lines {
        if let Some(help) = line.strip_prefix("# HELP ") {
            family = help.split(' ').next().unwrap().to_owned();
            assert!(families.insert(family.clone()), "a family is in one piece: {line}");
        } else if let Some(rest) = line.strip_prefix("# TYPE ") {
            kind = rest.rsplit(' ').next().unwrap().to_owned();
        } else if let Some(unit) = line.strip_prefix("# UNIT ") {
            assert!(family.ends_with(unit.rsplit(' ').next().unwrap()), "{line}");
        } else {
            let (series, value) = line.rsplit_once(' ').unwrap();
            let name = series.split('{').next().unwrap();
            let expected = if kind == "counter" { format!("{family}_total") } else { family.clone() };
            assert_eq!(name, expected, "{line}");
            assert!(value.parse::<f64>().unwrap() >= 0.0, "{line}");
            assert!(seen.insert(series.to_owned()), "a series has one value: {line}");
        }
    }
    for line in [
        "peercache_requests_total{result=\"fresh\"} 1.0",
        "peercache_requests_total{result=\"miss\"} 1.0",
        "peercache_saved_requests_total 1.0",
        "peercache_tier_up{place=\"1\",tier=\"memory\"} 1.0",
    ] {
        assert!(text.lines().any(|have| have == line), "{line} is missing in:\n{text}");
    }
}
