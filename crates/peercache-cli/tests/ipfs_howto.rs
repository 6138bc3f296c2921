//! Every command of `docs/how-to/ipfs.md`, in its order, over a real node.
#![cfg(unix)]
#![allow(clippy::unwrap_used, reason = "in a test, a failed unwrap is a failed test")]

#[path = "shared/page.rs"]
mod page;

use std::fmt::Write as _;
use std::net::TcpListener;

use peercache_testkit::servers::{Kubo, KuboOptions};

#[tokio::test]
async fn page_goes_from_nothing_to_a_hit() {
    // It also says whether the program is there, and skips as every test does.
    let Some(node) = Kubo::start(KuboOptions::default()).await.unwrap() else { return };
    let program = node.program().to_owned();
    drop(node);

    let commands = page::blocks(&page::page("how-to/ipfs.md"));
    let dir = tempfile::tempdir().unwrap();
    let bin = page::programs(dir.path());
    std::os::unix::fs::symlink(program, bin.join("ipfs")).unwrap();

    // Its port may be taken here, so it is another one; nothing else of the page is changed.
    let ports: Vec<u16> =
        (0..2).map(|_| TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()).collect();
    let mut script = "set -eux\n".to_owned();
    for block in &commands {
        if block.starts_with("ipfs daemon") {
            writeln!(script, "ipfs config Addresses.API /ip4/127.0.0.1/tcp/{}", ports[0]).unwrap();
            writeln!(script, "ipfs config Addresses.Gateway /ip4/127.0.0.1/tcp/{}", ports[1]).unwrap();
            // In the background, ended by its id with the script.
            writeln!(script, "{} > daemon.log 2>&1 &", block.trim()).unwrap();
            writeln!(script, "daemon=$!\ntrap 'kill $daemon; wait $daemon || true' EXIT").unwrap();
            writeln!(
                script,
                "until grep -q 'Daemon is ready' daemon.log; do kill -0 $daemon; sleep 0.1; done"
            )
            .unwrap();
        } else {
            script.push_str(&block.replace("/tcp/5001", &format!("/tcp/{}", ports[0])));
        }
    }
    assert!(script.contains("peercache get greeting") && script.contains("peercache ipfs gc"), "{script}");
    let output = page::run(&script, dir.path(), &bin);
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{out}\n{err}");
    assert!(out.lines().any(|line| line == "hello"), "{out}\n{err}");
    assert!(out.contains("blocks collected"), "{out}\n{err}");
}
