//! Every command of `docs/how-to/redis.md`, in its order, over a real server.
#![cfg(unix)]
#![allow(clippy::unwrap_used, reason = "in a test, a failed unwrap is a failed test")]

#[path = "shared/page.rs"]
mod page;

use std::fmt::Write as _;

use peercache_testkit::servers::RedisServer;

#[tokio::test]
async fn page_goes_from_nothing_to_a_hit_and_to_users_of_their_own() {
    let Some(server) = RedisServer::start().await.unwrap() else { return };
    let dir = tempfile::tempdir().unwrap();
    let bin = page::programs(dir.path());
    // The page's `redis-cli` asks the default port of this machine. Here it asks the test's server.
    let client = server.client();
    let mut wrapper = "#!/bin/sh\n".to_owned();
    for (name, value) in client.get_envs() {
        let value = value.unwrap_or_default().to_str().unwrap();
        writeln!(wrapper, "export {}='{value}'", name.to_str().unwrap()).unwrap();
    }
    let program = client.get_program().to_str().unwrap();
    writeln!(wrapper, "exec '{program}' -e -p {} \"$@\"", server.address().port()).unwrap();
    let file = bin.join("redis-cli");
    std::fs::write(&file, wrapper).unwrap();
    std::fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();

    let mut script = "set -eux\n".to_owned();
    for block in page::blocks(&page::page("how-to/redis.md")) {
        script.push_str(&block.replace("cache.example:6379", &server.address().to_string()));
    }
    for needed in ["peercache get hello", "ACL SETUSER ci", "ACL SETUSER reader", "maxmemory-policy"] {
        assert!(script.contains(needed), "{needed} is gone from the page: {script}");
    }
    let output = page::run(&script, dir.path(), &bin);
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{out}\n{err}");
    let found: Vec<_> = out.lines().filter(|line| ["world", "again"].contains(line)).collect();
    // Without a user, as one that writes, as one that reads.
    assert_eq!(found, ["world", "again", "again"], "{out}\n{err}");
    let users = server.command(&["ACL", "LIST"]).unwrap();
    assert!(users.contains("user ci on") && users.contains("user reader on"), "{users}");
}
