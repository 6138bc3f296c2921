//! The bucket, from a script: two machines that share nothing but its name and the secret.

use std::path::Path;
use std::process::{Command, Output};

use peercache_testkit::servers::SeaweedFs;
use serde_json::Value;

use crate::support::{peercache, run, stderr};

struct Machine<'a> {
    server: &'a SeaweedFs,
    dir: &'a Path,
    secret: &'a str,
}

impl Machine<'_> {
    fn command(&self, args: &[&str]) -> Command {
        let mut command = peercache(args);
        let keys = self.server.credentials();
        command.env("CACHE_DIR", self.dir).env("CACHE_SECRET", self.secret);
        command.env("AWS_S3_BUCKET", self.server.bucket()).env("S3_PREFIX", "ci");
        command.env("AWS_ENDPOINT_URL_S3", self.server.endpoint());
        command.env("AWS_ACCESS_KEY_ID", keys.id).env("AWS_SECRET_ACCESS_KEY", keys.secret);
        command
    }

    fn run(&self, args: &[&str], input: &[u8]) -> Output {
        let output = run(self.command(args), input);
        assert!(output.status.code().is_some_and(|code| code < 2), "{args:?}: {}", stderr(&output));
        output
    }

    fn json(&self, args: &[&str]) -> Value {
        serde_json::from_slice(&self.run(args, b"").stdout).unwrap()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_machines_share_a_bucket() {
    let Some(server) = SeaweedFs::start().await.unwrap() else { return };
    let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let secret = String::from_utf8(run(peercache(&["keygen"]), b"").stdout).unwrap();
    let secret = secret.trim();
    let one = Machine { server: &server, dir: one.path(), secret };
    let two = Machine { server: &server, dir: two.path(), secret };

    let large: Vec<u8> = (0..9 << 20_u32).map(|n: u32| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    one.run(&["put", "small", "--ttl", "600"], b"of one");
    one.run(&["put", "large", "--ttl", "600"], &large);
    let small = two.json(&["--json", "get", "small"]);
    assert_eq!((&small["value"], &small["tier"]), (&"of one".into(), &"sealed(s3)".into()));
    assert_eq!(two.run(&["get", "large"], b"").stdout, large, "in chunks");

    two.run(&["invalidate", "small"], b"");
    let third = tempfile::tempdir().unwrap();
    let third = Machine { server: &server, dir: third.path(), secret };
    assert_eq!(third.run(&["get", "small"], b"").status.code(), Some(1), "the removal is in the bucket");

    let stranger = tempfile::tempdir().unwrap();
    let other = String::from_utf8(run(peercache(&["keygen"]), b"").stdout).unwrap();
    let stranger = Machine { server: &server, dir: stranger.path(), secret: other.trim() };
    assert_eq!(stranger.run(&["get", "large"], b"").status.code(), Some(1), "another secret reads nothing");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_rule_of_the_sweeper_is_printed_and_set() {
    let Some(server) = SeaweedFs::start().await.unwrap() else { return };
    let dir = tempfile::tempdir().unwrap();
    let machine = Machine { server: &server, dir: dir.path(), secret: "" };
    let rule = machine.json(&["s3", "lifecycle", "--days", "40"]);
    assert_eq!(rule["Rules"][0]["Filter"]["Prefix"], "ci/");
    assert_eq!(rule["Rules"][0]["Expiration"]["Days"], 40);
    let done = String::from_utf8(machine.run(&["s3", "lifecycle", "--apply"], b"").stdout).unwrap();
    assert_eq!(done, "peercache-test: objects below ci/ are removed 31 days after they were written\n");
    let none = run(peercache(&["s3", "lifecycle"]), b"");
    assert_eq!(none.status.code(), Some(2));
    assert_eq!(stderr(&none), "peercache: AWS_S3_BUCKET: no bucket is named; set it to the name of a bucket");
}

/// What the AWS SDK reads, and this process cannot be told otherwise.
#[test]
fn a_setting_of_the_sdk_that_is_wrong_is_named() {
    let told = |variables: &[(&str, &str)]| {
        let mut command = peercache(&["s3", "lifecycle"]);
        command.env("AWS_S3_BUCKET", "team-cache").env("AWS_REGION", "eu-central-1");
        command.envs(variables.iter().copied());
        let output = run(command, b"");
        assert_eq!(output.status.code(), Some(2));
        stderr(&output)
    };
    assert_eq!(
        told(&[("AWS_ACCESS_KEY_ID", "AK"), ("AWS_SECRET_ACCESS_KEY", "")]),
        "peercache: AWS_SECRET_ACCESS_KEY: a credential is set and empty; give it a value, or unset it to use \
         another source; in GitHub Actions, jobs of forks get no secrets"
    );
    assert_eq!(
        told(&[("AWS_ENDPOINT_URL", "store:9000")]),
        "peercache: AWS_ENDPOINT_URL: the endpoint is not a URL of a store; it begins with http:// or https:// and \
         has a host, and no user, password or query"
    );
}
