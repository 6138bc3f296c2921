//! fakehub over a real loopback connection: what was recorded comes back, what GitHub decides is
//! decided as GitHub does, and the log tells the truth about it.
mod support;

use std::io::Read as _;
use std::sync::Arc;
use std::time::Duration;

use flate2::read::GzDecoder;
use peercache_fakehub::{Corpus, EtagMode, FakeHub, LogRecord};
use peercache_testkit::ManualClock;
use reqwest::Method;
use sha2::{Digest, Sha256};
use support::{NOT_FOUND, REPO, client, corpus, get, header, hex, rate, send, send_with};

#[tokio::test]
async fn a_recording_comes_back_as_it_was_recorded() {
    let hub = FakeHub::builder(corpus()).start().await.unwrap();
    let answer = get(&hub, "/repos/octo/one", &[("accept", "application/json")]).await;

    assert_eq!((answer.status, answer.text()), (200, REPO));
    let (date, etag) = (header(&answer, "date").unwrap(), header(&answer, "etag").unwrap());
    assert_ne!(date, "Tue, 19 Jul 2022 04:37:49 GMT");
    assert_ne!(etag, "\"old\"");
    let length = REPO.len().to_string();
    // In the recorded order, duplicates kept; what is live stands where it was recorded.
    let fixed: Vec<(&str, &str)> = answer
        .headers
        .iter()
        .filter(|(name, _)| !name.starts_with("x-ratelimit"))
        .map(|(name, value)| (name.as_str(), value.as_str()))
        .collect();
    assert_eq!(
        fixed,
        [
            ("server", "GitHub.com"),
            ("date", date),
            ("content-type", "application/json; charset=utf-8"),
            ("vary", "Accept, Authorization, Cookie, X-GitHub-OTP"),
            ("vary", "Accept-Encoding, Accept, X-Requested-With"),
            ("etag", etag),
            ("last-modified", "Tue, 19 Sep 2017 15:57:54 GMT"),
            ("link", "<https://api.github.com/repositories/7?page=2>; rel=\"next\""),
            ("x-github-request-id", "AB:CD"),
            ("set-cookie", "a=1"),
            ("set-cookie", "b=2"),
            ("content-length", length.as_str()),
        ]
    );

    let head = send(&hub, Method::HEAD, "/repos/octo/one", &[], None).await;
    assert_eq!((head.status, head.text(), header(&head, "content-length")), (200, "", Some(length.as_str())));
    assert_eq!(get(&hub, "/api/v3/repos/octo/one", &[]).await.text(), REPO);
    let download = get(&hub, "/octo/one/tar.gz", &[("host", "codeload.github.com")]).await;
    assert_eq!(download.body, [0x1f, 0x8b, 0, 255]);
    assert_eq!(header(&download, "etag"), Some("W/\"recorded\""));
    assert_eq!(header(&download, "x-ratelimit-limit"), None);
}

#[tokio::test]
async fn a_304_is_free_for_a_token_and_charged_without_one() {
    let hub = FakeHub::builder(corpus()).bucket("t", "shared", Some(1000)).start().await.unwrap();
    let auth = ("authorization", "token t");
    let first = get(&hub, "/repos/octo/one", &[auth]).await;
    assert_eq!(rate(&first), (1000, 1, 999));
    let etag = header(&first, "etag").unwrap();

    let list = format!("\"x\", W/{etag}");
    let second = get(&hub, "/repos/octo/one", &[auth, ("if-none-match", &list)]).await;
    assert_eq!((second.status, second.text(), rate(&second)), (304, "", (1000, 1, 999)));
    for absent in ["link", "content-type", "content-length", "content-encoding"] {
        assert_eq!(header(&second, absent), None, "{absent}");
    }
    assert_eq!(header(&second, "etag"), Some(etag));
    assert_eq!(get(&hub, "/repos/octo/one", &[auth, ("if-none-match", "*")]).await.status, 304);

    let date = ("if-modified-since", "Wed, 20 Sep 2017 00:00:00 GMT");
    assert_eq!(get(&hub, "/repos/octo/one", &[auth, date]).await.status, 304);
    let both = get(&hub, "/repos/octo/one", &[auth, date, ("if-none-match", "\"other\"")]).await;
    assert_eq!(both.status, 200, "a date is ignored beside a tag (RFC 9110, 13.1.3)");

    let anonymous = get(&hub, "/repos/octo/one", &[]).await;
    let own = ("if-none-match", header(&anonymous, "etag").unwrap());
    let unchanged = get(&hub, "/repos/octo/one", &[own]).await;
    assert_eq!((unchanged.status, rate(&unchanged)), (304, (60, 2, 58)));
    assert_eq!(hub.summary().charged, 4);
}

#[tokio::test]
async fn observed_tags_are_bound_to_the_token_and_can_be_computed() {
    let hub = FakeHub::builder(corpus()).etag(EtagMode::Observed).start().await.unwrap();
    let accept = ("accept", "*/*");
    let one = get(&hub, "/repos/octo/one", &[accept, ("authorization", "token a")]).await;
    let two = get(&hub, "/repos/octo/one", &[accept, ("authorization", "Bearer b")]).await;
    let rule = |authorization: &str| {
        format!("\"{}\"", hex(&Sha256::digest(format!("*/*:{authorization}:{REPO}").as_bytes())))
    };
    assert_eq!(header(&one, "etag"), Some(rule("token a").as_str()));
    assert_eq!(header(&two, "etag"), Some(rule("Bearer b").as_str()));
    let foreign = ("if-none-match", header(&one, "etag").unwrap());
    let answer = get(&hub, "/repos/octo/one", &[accept, ("authorization", "Bearer b"), foreign]).await;
    assert_eq!(answer.status, 200);
}

#[tokio::test]
async fn opaque_tags_cannot_be_computed_and_still_validate() {
    let hub = FakeHub::builder(corpus()).etag(EtagMode::Opaque).start().await.unwrap();
    let (accept, auth) = (("accept", "*/*"), ("authorization", "token a"));
    let answer = get(&hub, "/repos/octo/one", &[accept, auth]).await;
    let etag = header(&answer, "etag").unwrap();
    let guess = format!("\"{}\"", hex(&Sha256::digest(format!("*/*:token a:{REPO}").as_bytes())));
    assert_ne!(etag, guess);
    let with =
        async |tag: &str| get(&hub, "/repos/octo/one", &[accept, auth, ("if-none-match", tag)]).await.status;
    assert_eq!((with(etag).await, with(&guess).await), (304, 200));
}

#[tokio::test]
async fn gzip_makes_a_tag_weak_and_keeps_the_body() {
    let hub = FakeHub::builder(corpus()).start().await.unwrap();
    let plain = get(&hub, "/repos/octo/one/issues", &[]).await;
    let packed = get(&hub, "/repos/octo/one/issues", &[("accept-encoding", "gzip")]).await;
    // The recorded coding is not repeated: the recorded body is decoded.
    assert_eq!(
        (header(&plain, "content-encoding"), header(&packed, "content-encoding")),
        (None, Some("gzip"))
    );
    assert_eq!(header(&packed, "etag").unwrap(), format!("W/{}", header(&plain, "etag").unwrap()));
    let mut body = Vec::new();
    GzDecoder::new(packed.body.as_slice()).read_to_end(&mut body).unwrap();
    assert_eq!(body, plain.body);
    assert!(packed.body.len() < plain.body.len());
    let small = get(&hub, "/repos/octo/one", &[("accept-encoding", "gzip")]).await;
    assert_eq!((header(&small, "content-encoding"), small.text()), (None, REPO));
}

#[tokio::test]
async fn tokens_share_a_bucket_until_it_is_empty_and_it_resets() {
    let clock = Arc::new(ManualClock::default());
    let builder = FakeHub::builder(corpus()).clock(clock.clone());
    let hub = builder.bucket("a", "octo/one", Some(2)).bucket("b", "octo/one", None).start().await.unwrap();
    let (a, b) = (("authorization", "token a"), ("authorization", "Bearer b"));
    assert_eq!(rate(&get(&hub, "/repos/octo/one", &[a]).await), (2, 1, 1));
    assert_eq!(rate(&get(&hub, "/repos/octo/one", &[b]).await), (2, 2, 0));
    let refused = get(&hub, "/repos/octo/one", &[a]).await;
    assert_eq!((refused.status, rate(&refused)), (403, (2, 2, 0)));
    assert!(refused.text().starts_with("{\"message\":\"API rate limit exceeded for octo/one.\""));
    assert_eq!(get(&hub, "/repos/octo/one", &[("authorization", "token c")]).await.status, 200);

    // Another resource of the same bucket has a window of its own.
    let search = get(&hub, "/search/issues?q=x", &[a]).await;
    assert_eq!((search.status, rate(&search)), (200, (30, 1, 29)));
    assert_eq!((header(&search, "x-ratelimit-resource"), header(&search, "etag")), (Some("search"), None));

    let report = get(&hub, "/rate_limit", &[b]).await;
    assert_eq!((header(&report, "cache-control"), header(&report, "etag")), (Some("no-cache"), None));
    let report: serde_json::Value = serde_json::from_slice(&report.body).unwrap();
    assert_eq!((&report["resources"]["core"]["remaining"], &report["rate"]["limit"]), (&0.into(), &2.into()));
    assert_eq!(report["resources"]["search"]["used"], 1);

    clock.advance(Duration::from_secs(3600));
    assert_eq!(rate(&get(&hub, "/repos/octo/one", &[a]).await), (2, 1, 1));
}

#[tokio::test]
async fn a_private_repository_looks_like_none() {
    let builder = FakeHub::builder(corpus()).private("Octo/One", ["yes"]).deny("bad");
    let hub = builder.start().await.unwrap();
    let unrecorded = get(&hub, "/nowhere", &[]).await;
    assert_eq!((unrecorded.status, unrecorded.text()), (404, NOT_FOUND));
    let names =
        |reply: &support::Reply| reply.headers.iter().map(|(name, _)| name.clone()).collect::<Vec<_>>();
    for path in ["/repos/octo/one", "/repos/OCTO/one/issues", "/repositories/7", "/repositories/7?page=2"] {
        let hidden = get(&hub, path, &[("authorization", "token no")]).await;
        assert_eq!((hidden.status, hidden.text()), (404, NOT_FOUND), "{path}");
        assert_eq!(names(&hidden), names(&unrecorded), "{path}");
    }
    let member = ("authorization", "token yes");
    assert_eq!(get(&hub, "/repos/octo/one", &[member]).await.status, 200);
    assert_eq!(get(&hub, "/repositories/7?page=2", &[member]).await.status, 200);
    let denied = get(&hub, "/repos/octo/one", &[("authorization", "token bad")]).await;
    assert!(denied.status == 401 && denied.text().contains("Bad credentials"));
    assert_eq!(rate(&get(&hub, "/nowhere", &[]).await).1, 3, "404 and 401 are charged");
}

#[tokio::test]
async fn a_scenario_advances_with_its_writes() {
    let hub = FakeHub::builder(corpus()).start().await.unwrap();
    let labels = "/repos/octo/one/labels";
    let read = async || get(&hub, labels, &[]).await.text().to_owned();
    assert_eq!((read().await.as_str(), read().await.as_str()), ("[]", "[]"));
    let made = send(&hub, Method::POST, labels, &[], Some("{\"name\":\"new\"}")).await;
    assert_eq!((made.status, made.text()), (201, r#"{"name":"new"}"#));
    assert_eq!(read().await, r#"[{"name":"new"}]"#);
    assert_eq!(read().await, r#"[{"name":"new"}]"#);
}

#[tokio::test]
async fn a_recorded_304_answers_only_its_own_validators() {
    let line = r#"{"method":"GET","url":"https://api.github.com/x","request_headers":{"If-None-Match":"\"v\""},"status":304,"headers":{"ETag":"\"v\""}}"#;
    let hub = FakeHub::builder(Corpus::parse(line.as_bytes()).unwrap()).start().await.unwrap();
    assert_eq!(get(&hub, "/x", &[]).await.status, 404);
    assert_eq!(get(&hub, "/x", &[("if-none-match", "\"w\"")]).await.status, 404);
    let unchanged = get(&hub, "/x", &[("if-none-match", "\"v\"")]).await;
    assert_eq!((unchanged.status, header(&unchanged, "etag")), (304, Some("\"v\"")));
}

#[tokio::test]
async fn faults_come_when_they_are_ordered_and_end() {
    let hub = FakeHub::builder(corpus()).control(true).start().await.unwrap();
    let order = async |what: &str, body: &str| {
        send(&hub, Method::POST, &format!("/_fakehub/{what}"), &[], Some(body)).await
    };
    assert_eq!(order("fail", r#"{"status":429,"count":2,"retry_after":30}"#).await.status, 200);
    for _ in 0..2 {
        let failed = get(&hub, "/repos/octo/one", &[]).await;
        assert_eq!((failed.status, header(&failed, "retry-after")), (429, Some("30")));
    }
    let before = get(&hub, "/repos/octo/one", &[]).await;
    assert_eq!(before.status, 200);

    assert_eq!(order("touch", r#"{"url":"https://api.github.com/repos/octo/one"}"#).await.status, 200);
    let old = ("if-none-match", header(&before, "etag").unwrap());
    let after = get(&hub, "/repos/octo/one", &[old]).await;
    let expected = format!("{},\"fakehub_revision\":1}}", REPO.strip_suffix('}').unwrap());
    assert_eq!((after.status, after.text()), (200, expected.as_str()));
    assert_ne!(header(&after, "last-modified"), header(&before, "last-modified"));

    assert_eq!(order("truncate", r#"{"count":1}"#).await.status, 200);
    let broken = client().get(format!("{}/repos/octo/one", hub.url())).send().await.unwrap();
    assert_eq!(broken.content_length(), Some(expected.len() as u64));
    assert!(broken.bytes().await.is_err());
    assert_eq!(get(&hub, "/repos/octo/one", &[]).await.text(), expected);

    assert_eq!(order("delay", r#"{"millis":1,"count":1}"#).await.status, 200);
    assert_eq!(get(&hub, "/repos/octo/one", &[]).await.status, 200);
    let wrong = order("fail", r#"{"status":99,"count":1}"#).await;
    let text = r#"{"error":"\"status\" is 99; a whole number from 200 to 599 is expected"}"#;
    assert_eq!((wrong.status, wrong.text()), (400, text));
    assert_eq!(order("reset_log", "").await.status, 200);
    assert_eq!(hub.summary().requests, 0);

    let closed = FakeHub::builder(corpus()).start().await.unwrap();
    let refused = send(&closed, Method::POST, "/_fakehub/reset_log", &[], None).await;
    assert_eq!(refused.status, 404, "the control endpoint is off by default");
}

#[tokio::test]
async fn the_log_tells_the_truth() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("log.jsonl");
    let builder = FakeHub::builder(corpus()).bucket("secret-token", "octo/one", None);
    let hub = builder.log_file(&file).start().await.unwrap();
    let auth = ("authorization", "token secret-token");
    let first = get(&hub, "/repos/octo/one", &[auth]).await;
    get(&hub, "/repos/octo/one", &[auth, ("if-none-match", header(&first, "etag").unwrap())]).await;
    get(&hub, "/repos/octo/one?access_token=hidden", &[]).await;
    let packed = get(&hub, "/repos/octo/one/issues", &[auth, ("accept-encoding", "gzip")]).await;
    get(&hub, "/octo/one/tar.gz", &[("host", "codeload.github.com")]).await;

    let log = hub.log();
    let text = std::fs::read_to_string(&file).unwrap();
    let written: Vec<LogRecord> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(written, log);
    assert!(!text.contains("secret-token") && !text.contains("hidden"));

    let rows: Vec<_> = log.iter().map(|r| (r.n, r.status, r.charged, r.conditional, r.bytes)).collect();
    assert_eq!(
        rows,
        [
            (1, 200, true, false, REPO.len() as u64),
            (2, 304, false, true, 0),
            (3, 404, true, false, NOT_FOUND.len() as u64),
            (4, 200, true, false, packed.body.len() as u64),
            (5, 200, false, false, 4),
        ]
    );
    let identity = hex(&Sha256::digest(REPO.as_bytes()));
    assert_eq!((&log[0].sha256, &log[1].sha256), (&identity, &identity));
    assert_eq!((log[0].bucket.as_str(), log[0].resource.as_str()), ("octo/one", "core"));
    assert_eq!((log[2].bucket.as_str(), log[2].token.as_str()), ("anonymous", "anonymous"));
    assert_eq!((log[4].host.as_str(), log[4].bucket.as_str()), ("codeload.github.com", ""));
    assert_eq!(log[0].token, log[3].token);
    let summary = hub.summary();
    assert_eq!((summary.requests, summary.charged, summary.log_errors), (5, 3, 0));
    assert_eq!(summary.by_status.into_iter().collect::<Vec<_>>(), [(200, 3), (304, 1), (404, 1)]);
    hub.reset_log().unwrap();
    assert_eq!((hub.log(), std::fs::read_to_string(&file).unwrap().as_str()), (Vec::new(), ""));
    hub.shutdown().await;
}

#[tokio::test]
async fn settings_that_make_no_sense_are_refused() {
    let error = FakeHub::builder(corpus()).private("octo", ["t"]).start().await.unwrap_err();
    assert_eq!(error.to_string(), "private repository \"octo\": OWNER/REPO is expected, as octo-org-1/api");
}

#[tokio::test]
async fn generated_traffic_is_served_byte_for_byte() {
    let corpus = Corpus::generated(11);
    let hub = FakeHub::builder(corpus.clone()).bucket("t", "b", Some(1_000_000)).start().await.unwrap();
    let client = client();
    // In corpus order, every exchange is the current one when its turn comes.
    for exchange in corpus.exchanges() {
        let headers = [("authorization", "token t"), ("accept", exchange.request_header("accept").unwrap())];
        let sent = exchange.request_body.as_ref().map(|body| std::str::from_utf8(body).unwrap());
        let method = exchange.method.parse().unwrap();
        let answer = send_with(&client, &hub, method, &exchange.target, &headers, sent).await;
        assert_eq!((answer.status, &answer.body[..]), (exchange.status, &exchange.body[..]), "{exchange:?}");
    }
    assert_eq!(hub.summary().charged, corpus.exchanges().len() as u64);
}
