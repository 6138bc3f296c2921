//! The origin: whether it can be reached, what is left of the quota, and whether the clocks agree.

use std::env;
use std::error::Error as StdError;
use std::time::{Duration, SystemTime};

use http_body_util::{BodyExt as _, Empty};
use peercache::Clock as _;
use peercache::backend::SystemClock;
use peercache::{Cache, Config};
use peercache_github::GitHubCache;
use serde_json::Value;
use tokio::time::timeout;

use super::finding::Finding;

/// How long the origin may take to answer.
const WITHIN: Duration = Duration::from_secs(10);
/// The difference of clocks at which lifetimes and signatures go wrong.
const SKEW: Duration = Duration::from_secs(60);
const CHECK: &str = "origin";

pub(super) async fn check(config: &Config, findings: &mut Vec<Finding>) {
    let upstream = config.server().upstream;
    let (response, body) = match ask(&upstream).await {
        Ok(answer) => answer,
        Err(finding) => {
            findings.push(finding);
            return;
        }
    };
    let status = response.status.as_u16();
    let message = body["message"].as_str().unwrap_or_default().to_owned();
    let distrusted = match status {
        502 | 504 => distrust(&upstream).await,
        _ => None,
    };
    findings.push(match status {
        200 => quota(&upstream, &body),
        // Enterprise servers without limits say so, and only they.
        404 if message.contains("Rate limiting is not enabled") => {
            Finding::ok(CHECK, format!("{upstream} answers; it has no limit on requests"))
        }
        401 => Finding::failed(
            CHECK,
            format!("{upstream} refuses the token in {}", response.token.unwrap_or("the request")),
            "give a token that is valid, or none",
        ),
        404 => no_api(&upstream, "it answers 404 where the API says what is left of its limits"),
        403 | 429 => {
            Finding::failed(CHECK, format!("{upstream} refuses requests: {message}"), "wait, and make fewer")
        }
        502 | 504 if distrusted.is_some() => Finding::failed(
            CHECK,
            format!("{upstream} shows a certificate that this machine does not trust"),
            "let SSL_CERT_FILE name a file with the authority that signed it, or add that authority to the \
             certificates of the system",
        )
        .because(distrusted.unwrap_or_default()),
        502 | 504 => Finding::failed(
            CHECK,
            format!("{upstream} cannot be reached"),
            "look at the network and the proxy settings of this machine, or correct CACHE_UPSTREAM",
        )
        .because(message)
        .outside(is_elsewhere(&upstream)),
        other => {
            Finding::failed(CHECK, format!("{upstream} answers {other}: {message}"), "correct CACHE_UPSTREAM")
        }
    });
    // Without a date there is nothing to compare with, so the check is left out.
    let Some(apart) = response.date.and_then(apart) else { return };
    findings.push(match apart > SKEW {
        true => Finding::failed(
            "clock",
            format!("this machine's clock differs by {} s from the origin's", apart.as_secs()),
            "set the clock, and keep it by NTP: entries expire early or late, and peers distrust each other's",
        ),
        false => Finding::ok("clock", format!("it is within {} s of the origin's", apart.as_secs())),
    });
}

struct Answer {
    status: http::StatusCode,
    date: Option<SystemTime>,
    /// The variable that the token came from.
    token: Option<&'static str>,
}

/// The key that tokens are named with in the store. This cache has no tier, so nothing is named.
const NAMES_NO_TOKEN: [u8; 32] = [0; 32];

/// What the origin says about its limits, which costs none of them, asked through the proxy's own
/// client.
async fn ask(upstream: &str) -> Result<(Answer, Value), Finding> {
    let broken = |found: String| Finding::failed(CHECK, found, "correct CACHE_UPSTREAM");
    let cache = Cache::builder().build().map_err(|error| broken(error.to_string()))?;
    let proxy = GitHubCache::builder(cache).upstream(upstream).install_key(NAMES_NO_TOKEN).build();
    let proxy = proxy.map_err(|error| broken(error.to_string()))?;
    let mut request = http::Request::get("/rate_limit").header("host", "127.0.0.1");
    let token = token(upstream);
    if let Some((_, token)) = &token {
        request = request.header("authorization", format!("Bearer {token}"));
    }
    let request =
        request.body(Empty::<peercache::Bytes>::new()).map_err(|error| broken(error.to_string()))?;
    let Ok(response) = timeout(WITHIN, proxy.handle(request)).await else {
        return Err(Finding::failed(
            CHECK,
            format!("{upstream} does not answer within {} s", WITHIN.as_secs()),
            "look at the network and the proxy settings of this machine",
        )
        .outside(is_elsewhere(upstream)));
    };
    let date = response.headers().get("date").and_then(|date| date.to_str().ok());
    let answer = Answer {
        status: response.status(),
        date: date.and_then(|date| httpdate::parse_http_date(date).ok()),
        token: token.map(|(name, _)| name),
    };
    let body = timeout(WITHIN, response.into_body().collect()).await;
    let body = body.ok().and_then(Result::ok).map(|body| body.to_bytes()).unwrap_or_default();
    Ok((answer, serde_json::from_slice(&body).unwrap_or_default()))
}

/// The token that clients use for this origin, and the variable that it is in. One of github.com
/// goes nowhere else.
fn token(upstream: &str) -> Option<(&'static str, String)> {
    let is_github = upstream.trim_end_matches('/') == "https://api.github.com";
    let names = match is_github {
        true => ["GH_TOKEN", "GITHUB_TOKEN"],
        false => ["GH_ENTERPRISE_TOKEN", "GITHUB_ENTERPRISE_TOKEN"],
    };
    names.into_iter().find_map(|name| Some((name, env::var(name).ok().filter(|token| !token.is_empty())?)))
}

fn quota(upstream: &str, body: &Value) -> Finding {
    let core = &body["resources"]["core"];
    let (Some(left), Some(limit)) = (core["remaining"].as_u64(), core["limit"].as_u64()) else {
        return no_api(upstream, "it answers 200 and nothing of what is left of its limits");
    };
    let spent = |name: &str| {
        let bucket = &body["resources"][name];
        bucket["remaining"] == 0 && bucket["limit"].as_u64().unwrap_or_default() > 0
    };
    match ["core", "graphql", "search"].into_iter().find(|name| spent(name)) {
        Some(bucket) => Finding::failed(
            CHECK,
            format!("the quota of {bucket} at {upstream} is spent"),
            "wait until it is filled again, or use a token of another user; answers that are stored are still given",
        )
        .because(match body["resources"][bucket]["reset"].as_u64() {
            Some(reset) => format!("it is filled again at {}", at(reset)),
            None => "it does not say until when".to_owned(),
        }),
        None => Finding::ok(CHECK, format!("{upstream} answers; {left} of {limit} requests are left")),
    }
}

/// Why the certificate of `upstream` is refused, if that is why nothing comes back.
async fn distrust(upstream: &str) -> Option<String> {
    let client = reqwest::Client::builder().timeout(WITHIN).build().ok()?;
    let error = client.get(format!("{upstream}/rate_limit")).send().await.err()?;
    let mut cause: Option<&(dyn StdError + 'static)> = Some(&error);
    while let Some(at) = cause {
        if let Some(rustls::Error::InvalidCertificate(why)) = at.downcast_ref() {
            return Some(format!("{why:?}"));
        }
        // The source of such an error is that of the one within, which is passed over.
        let within = at.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
        cause = within.map(|within| within as &(dyn StdError + 'static)).or_else(|| at.source());
    }
    None
}

/// Something answers, and not with what GitHub's API says at that place.
fn no_api(upstream: &str, why: &str) -> Finding {
    Finding::failed(
        CHECK,
        format!("what answers at {upstream} is no API of GitHub's"),
        "let CACHE_UPSTREAM name the base URL of one, such as https://api.github.com or https://HOST/api/v3",
    )
    .because(why)
}

/// Whether the host of `url` is not this machine by its address.
fn is_elsewhere(url: &str) -> bool {
    let Ok(url) = reqwest::Url::parse(url) else { return false };
    let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']).to_owned();
    host != "localhost" && !host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

fn at(reset: u64) -> String {
    let time = SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(reset));
    time.map(httpdate::fmt_http_date).unwrap_or_default()
}

/// How far the clocks are apart.
fn apart(theirs: SystemTime) -> Option<Duration> {
    let since_epoch = Duration::from_millis(SystemClock::new().now().as_millis());
    let now = SystemTime::UNIX_EPOCH.checked_add(since_epoch)?;
    now.duration_since(theirs).or_else(|_| theirs.duration_since(now)).ok()
}
