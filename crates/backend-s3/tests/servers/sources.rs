//! Where credentials come from when none are given in code. The SDK reads the environment of its
//! process, so each case runs in a process of its own: this test binary again, with one test
//! selected.

use std::path::Path;
use std::process::{Command, Output};
use std::sync::Arc;
use std::time::Duration;

use aws_sdk_s3::primitives::{DateTime, DateTimeFormat};
use peercache_api::{CacheBackend, Clock, ErrorKind, SystemClock};
use peercache_s3::{S3, S3Builder};
use peercache_testkit::ManualClock;
use peercache_testkit::servers::{Answer, Credentials, FaultProxy, Mode};

use crate::stores::{Store, unique};
use crate::{entry, key, versions};

const CASE: &str = "PEERCACHE_S3_CASE";

/// Runs the case `name` in a process that has these variables and none of AWS's besides.
fn run(store: &Store, name: &str, home: &Path, variables: &[(&str, &str)]) -> Output {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "sources::in_a_process_of_its_own", "--nocapture"]);
    for (variable, _) in std::env::vars() {
        if variable.starts_with("AWS_") || variable.to_ascii_lowercase().ends_with("_proxy") {
            command.env_remove(variable);
        }
    }
    command.env("HOME", home).env("AWS_EC2_METADATA_DISABLED", "true").env(CASE, name);
    command.env("PEERCACHE_S3_BUCKET", store.bucket).env("PEERCACHE_S3_PREFIX", unique());
    command.envs(variables.iter().copied()).output().unwrap()
}

#[track_caller]
fn succeed(output: &Output) {
    let text = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && text.contains("the case was run"), "{text}");
}

#[tokio::test]
async fn in_a_process_of_its_own() {
    let Ok(case) = std::env::var(CASE) else { return };
    let clock = Arc::new(ManualClock::new(SystemClock::new().now()));
    let builder = S3::builder(std::env::var("PEERCACHE_S3_BUCKET").unwrap())
        .prefix(std::env::var("PEERCACHE_S3_PREFIX").unwrap())
        .clock(Arc::clone(&clock) as Arc<dyn Clock>);
    match case.as_str() {
        "works" => works(&builder.open().await.unwrap()).await,
        "empty" => {
            let error = builder.open().await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Config);
            assert!(error.message().contains("set and empty"), "{error}");
        }
        "none" => {
            let tier = builder.open().await.unwrap();
            let error = tier.get(&key("k")).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Config, "{error}");
            assert!(error.message().contains("no credentials"), "{error}");
        }
        "mended" => {
            let file = std::env::var("AWS_SHARED_CREDENTIALS_FILE").unwrap();
            let tier = builder.open().await.unwrap();
            assert_eq!(tier.get(&key("k")).await.unwrap_err().kind(), ErrorKind::Denied);
            std::fs::write(&file, std::env::var("PEERCACHE_S3_MENDED").unwrap()).unwrap();
            assert_eq!(tier.get(&key("k")).await.unwrap_err().kind(), ErrorKind::Denied, "held back");
            clock.advance(Duration::from_secs(5));
            works(&tier).await;
        }
        "renewed" => renewed(builder, &clock).await,
        other => panic!("no case is called {other}"),
    }
    println!("the case was run");
}

async fn works(tier: &S3) {
    tier.put(&key("k"), entry(&versions(1), "v")).await.unwrap();
    assert_eq!(tier.get(&key("k")).await.unwrap().unwrap().value(), "v");
}

/// A program gives the keys, as for a login that lasts for ten minutes. The store lets them expire
/// half way: once before there are new ones, and once when there are.
async fn renewed(builder: S3Builder, clock: &ManualClock) {
    let read = |name: &str| std::env::var(name).unwrap();
    let upstream = read("AWS_ENDPOINT_URL_S3").strip_prefix("http://").unwrap().parse().unwrap();
    let proxy = FaultProxy::start(upstream).await.unwrap();
    let [old, new] = ["PEERCACHE_S3_OLD", "PEERCACHE_S3_NEW"].map(|name| {
        let keys = read(name);
        keys.split_once(' ').map(|(id, secret)| (id.to_owned(), secret.to_owned())).unwrap()
    });
    let give = |(id, secret): &(String, String)| {
        let end = DateTime::from_millis(i64::try_from(clock.now().as_millis()).unwrap() + 600_000);
        let end = end.fmt(DateTimeFormat::DateTime).unwrap();
        let keys = format!(
            r#"{{"Version":1,"AccessKeyId":"{id}","SecretAccessKey":"{secret}","Expiration":"{end}"}}"#
        );
        std::fs::write(read("PEERCACHE_S3_GIVEN"), keys).unwrap();
    };
    give(&old);
    let tier = builder.endpoint(proxy.endpoint()).open().await.unwrap();
    works(&tier).await;

    proxy.set(Mode::AnswerTo(old.0.clone(), Answer::expired_token()));
    let error = tier.put(&key("k"), entry(&versions(1), "late")).await.unwrap_err();
    assert_eq!((error.kind(), error.is_retryable()), (ErrorKind::Denied, true), "{error}");
    give(&new);
    clock.advance(Duration::from_secs(5));
    works(&tier).await;

    proxy.set(Mode::AnswerTo(new.0.clone(), Answer::expired_token()));
    give(&old);
    clock.advance(Duration::from_secs(9 * 60));
    drop(proxy.take_log());
    works(&tier).await;
    let refused = proxy.log().requests.iter().filter(|seen| seen.status != Some(200)).count();
    assert_eq!(refused, 0, "they are renewed before they expire");
}

fn profile(id: &str, secret: &str) -> String {
    format!("[ci]\naws_access_key_id = {id}\naws_secret_access_key = {secret}\n")
}

pub(crate) async fn keys_of_the_environment(store: &Store) {
    let home = tempfile::tempdir().unwrap();
    let endpoint = ("AWS_ENDPOINT_URL_S3", store.endpoint.as_str());
    let keys =
        [("AWS_ACCESS_KEY_ID", store.credentials.id), ("AWS_SECRET_ACCESS_KEY", store.credentials.secret)];
    succeed(&run(store, "works", home.path(), &[endpoint, keys[0], keys[1]]));
    succeed(&run(store, "empty", home.path(), &[endpoint, keys[0], ("AWS_SECRET_ACCESS_KEY", "")]));
    succeed(&run(store, "none", home.path(), &[endpoint]));
}

pub(crate) async fn a_profile_and_one_that_is_mended_while_we_run(store: &Store) {
    let home = tempfile::tempdir().unwrap();
    let file = home.path().join("credentials");
    let (path, good) = (file.display().to_string(), profile(store.credentials.id, store.credentials.secret));
    let variables = [
        ("AWS_ENDPOINT_URL_S3", store.endpoint.as_str()),
        ("AWS_PROFILE", "ci"),
        ("AWS_SHARED_CREDENTIALS_FILE", &path),
        ("PEERCACHE_S3_MENDED", &good),
    ];
    std::fs::write(&file, &good).unwrap();
    succeed(&run(store, "works", home.path(), &variables));
    std::fs::write(&file, profile(store.credentials.id, "of-yesterday")).unwrap();
    succeed(&run(store, "mended", home.path(), &variables));
}

pub(crate) async fn keys_that_expire_half_way(store: &Store, renewed: Credentials) {
    let home = tempfile::tempdir().unwrap();
    let [config, given] = ["config", "given"].map(|name| home.path().join(name).display().to_string());
    std::fs::write(&config, format!("[profile ci]\ncredential_process = cat {given}\n")).unwrap();
    let keys = |keys: Credentials| format!("{} {}", keys.id, keys.secret);
    let (old, new) = (keys(store.credentials), keys(renewed));
    let variables = [
        ("AWS_ENDPOINT_URL_S3", store.endpoint.as_str()),
        ("AWS_PROFILE", "ci"),
        ("AWS_CONFIG_FILE", &config),
        ("PEERCACHE_S3_GIVEN", &given),
        ("PEERCACHE_S3_OLD", &old),
        ("PEERCACHE_S3_NEW", &new),
    ];
    succeed(&run(store, "renewed", home.path(), &variables));
}

/// What GitHub's login by OIDC and roles of Kubernetes are: a token in a file, exchanged at STS.
pub(crate) async fn a_web_identity(store: &Store) {
    let home = tempfile::tempdir().unwrap();
    let token = home.path().join("token");
    std::fs::write(&token, "header.payload.signature").unwrap();
    let path = token.display().to_string();
    let output = run(
        store,
        "works",
        home.path(),
        &[
            ("AWS_ENDPOINT_URL", &store.endpoint),
            ("AWS_REGION", "us-east-1"),
            ("AWS_WEB_IDENTITY_TOKEN_FILE", &path),
            ("AWS_ROLE_ARN", "arn:aws:iam::123456789012:role/cache"),
            ("AWS_ACCESS_KEY_ID", ""),
        ],
    );
    succeed(&output);
}
