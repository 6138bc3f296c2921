//! Every command of `docs/how-to/storacha.md`, in its order, over the real upload service.
#![cfg(unix)]
#![allow(clippy::unwrap_used, reason = "in a test, a failed unwrap is a failed test")]

use std::fmt::Write as _;
use std::net::TcpListener;
use std::path::Path;
use std::process::Command;

use peercache_testkit::servers::StorachaService;

/// The blocks of shell commands of a page.
fn blocks(page: &str) -> Vec<String> {
    let mut blocks = Vec::new();
    let mut block: Option<String> = None;
    for line in page.lines() {
        match (&mut block, line) {
            (None, "```sh") => block = Some(String::new()),
            (Some(_), "```") => blocks.extend(block.take()),
            (Some(text), line) => writeln!(text, "{line}").unwrap(),
            (None, _) => {}
        }
    }
    blocks
}

#[tokio::test]
async fn page_goes_from_nothing_to_a_hit() {
    // It also says whether the packages are there, and skips as every test does.
    let Some(service) = StorachaService::start().await.unwrap() else { return };
    let packages = service.packages().to_owned();
    drop(service);

    let root = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).unwrap();
    let page = std::fs::read_to_string(root.join("docs/how-to/storacha.md")).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let bin = dir.path().join("bin");
    std::fs::create_dir(&bin).unwrap();
    std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_peercache"), bin.join("peercache")).unwrap();
    let service = dir.path().join("service");
    std::fs::create_dir(&service).unwrap();
    for file in ["package.json", "package-lock.json", "server.mjs"] {
        std::fs::copy(root.join("xtask/storacha").join(file), service.join(file)).unwrap();
    }
    // Tests ask no registry: what `npm ci` installs was installed before.
    let npm = bin.join("npm");
    let installed = packages.join("node_modules");
    let script = format!(
        "#!/bin/sh\nset -eu\n[ \"$*\" = 'ci --ignore-scripts' ]\ncmp package-lock.json '{}'\nln -s '{}' .\n",
        packages.join("package-lock.json").display(),
        installed.display()
    );
    std::fs::write(&npm, script).unwrap();
    std::fs::set_permissions(&npm, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();

    // Its port may be taken here, so it is another one; nothing else of the page is changed.
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port().to_string();
    let mut script = "set -eux\n".to_owned();
    for block in blocks(&page) {
        let block = block.replace("8787", &port);
        if block.contains("node service/server.mjs") {
            // In the background, ended by its id with the script.
            writeln!(script, "{} > server.log 2>&1 &", block.trim()).unwrap();
            writeln!(script, "server=$!\ntrap 'kill $server; wait $server || true' EXIT").unwrap();
            writeln!(script, "until grep -q '\"url\"' server.log; do kill -0 $server; sleep 0.1; done")
                .unwrap();
        } else {
            script.push_str(&block);
        }
    }
    assert!(script.contains("peercache get greeting") && script.contains("storacha show"), "{script}");
    let mut path = vec![bin];
    path.extend(std::env::split_paths(&std::env::var_os("PATH").unwrap()));
    let output = Command::new("sh")
        .args(["-c", &script])
        .current_dir(dir.path())
        .env_clear()
        .env("PATH", std::env::join_paths(path).unwrap())
        .env("HOME", dir.path())
        // The command line looks for newer versions of itself unless it runs in CI.
        .env("NO_UPDATE_NOTIFIER", "1")
        .output()
        .unwrap();
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{out}\n{err}");
    assert!(out.lines().any(|line| line == "hello"), "{out}\n{err}");
    let key = std::fs::read_to_string(dir.path().join("agent.txt")).unwrap();
    let key = key.lines().find(|line| line.starts_with("Mg")).unwrap();
    assert!(!out.contains(key) && !err.contains(key), "the key is shown");
    assert!(out.contains("space      did:key:") && !out.contains("missing"), "{out}");
}
