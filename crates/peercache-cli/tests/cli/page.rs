//! The status page in a real browser: what it shows is what the report says, by itself and as it
//! changes; it can be read on a small screen, by keyboard and in the dark.

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::machine::until;
use crate::part::missing;
use crate::serve::storable_target;
use crate::support::{Server, corpus, get, part, peercache, run, stderr};

const SECRET: &str = "pc-secret-1-KioqKioqKioqKioqKioqKioqKioqKioqKioqKioqKirrM9Ug";

/// Chromium and the packages that drive it; nothing where the test has to be skipped.
fn browser() -> Option<(PathBuf, PathBuf)> {
    let packages = part("PEERCACHE_TEST_BROWSER", || None, "run `cargo xtask prepare browser`")?;
    let path = std::env::var_os("PATH").unwrap_or_default();
    let names = ["chromium", "chromium-browser", "google-chrome"];
    let found = std::env::split_paths(&path)
        .flat_map(|dir| names.map(|name| dir.join(name)))
        .find(|file| file.is_file());
    if found.is_none() {
        missing("there is no Chromium", "install it, on Debian by `apt-get install chromium`");
    }
    Some((packages, found?))
}

/// What the page shows of a server one of whose tiers is away.
fn look(packages: &Path, chromium: &Path) -> Value {
    let scratch = tempfile::tempdir().unwrap();
    let corpus = corpus(scratch.path());
    let target = storable_target(&corpus);
    let (origin, _log) = Server::fakehub(&corpus);
    let mut command = peercache(&["serve", "--listen", "127.0.0.1:0", "--upstream", &origin.url]);
    command.env("CACHE_DIR", scratch.path().join("cache")).env("CACHE_SECRET", SECRET);
    command.env("CACHE_BACKEND", "memory,disk,redis").env("REDIS_URL", "redis://127.0.0.1:9");
    let server = Server::start(command);
    until("the tier that is away is not asked any more", || {
        get(&format!("{}/-/cache/absent", server.url), &[]);
        let ready = get(&format!("{}/-/health/ready", server.url), &[]).2;
        String::from_utf8_lossy(&ready).contains("redis")
    });
    let screenshots = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let mut node = Command::new("node");
    node.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/cli/page.mjs"));
    node.arg(packages.parent().unwrap()).arg(chromium).args([&server.url, &target]).arg(screenshots);
    let looked = run(node, b"");
    assert!(looked.status.success(), "{}", stderr(&looked));
    eprintln!("screenshots of the status page: {}", screenshots.display());
    // A page that is live does not hold up the end.
    let mut watching = Command::new("curl");
    watching.args(["-sN", &format!("{}/-/events", server.url)]).stdout(Stdio::piped());
    let mut watching = watching.spawn().unwrap();
    let mut events = BufReader::new(watching.stdout.take().unwrap()).lines();
    assert_eq!(events.next().unwrap().unwrap(), "event: main");
    let asked = Instant::now();
    assert_eq!(server.terminate(), Some(0));
    assert!(asked.elapsed() < Duration::from_secs(8), "it waited for a page: {:?}", asked.elapsed());
    assert!(watching.wait().unwrap().success(), "the last event was whole");
    serde_json::from_slice(&looked.stdout).unwrap()
}

#[test]
fn status_page_in_chromium_shows_the_report_live_and_is_accessible() {
    let Some((packages, chromium)) = browser() else { return };
    let found = look(&packages, &chromium);
    assert_eq!(found["errors"], json!([]), "the console is silent");
    let own = |url: &Value| url.as_str().unwrap().starts_with("http://127.0.0.1:");
    assert!(found["requests"].as_array().unwrap().iter().all(own), "{}", found["requests"]);

    // Live, and equal to the report.
    let report = &found["report"];
    let saved = &report["saved"];
    let percent = 100 * saved["saved"].as_u64().unwrap() / saved["asked"].as_u64().unwrap();
    assert_eq!(found["before"], "saved 0 of 0 (0 %)");
    assert_eq!(found["after"], format!("saved {} of {} ({percent} %)", saved["saved"], saved["asked"]));
    assert_eq!(found["without_script"], found["after"], "numbers need no script");
    let class = |name: &str| {
        let rows = found["requests_table"].as_array().unwrap();
        let row = rows.iter().find(|row| row[0] == name).unwrap();
        row[1].as_str().unwrap().parse::<u64>().unwrap()
    };
    for name in ["fresh", "revalidated", "miss", "error"] {
        assert_eq!(class(name), report["proxy"][name].as_u64().unwrap(), "{name}");
    }
    let clients: Vec<Value> = report["ledger"]["clients"]
        .as_array()
        .unwrap()
        .iter()
        .map(|row| {
            let text = |name: &str| row[name].to_string();
            json!([row["client"], text("asked"), text("sent"), text("charged"), text("saved")])
        })
        .collect();
    assert!(!clients.is_empty());
    assert_eq!(found["clients"], Value::from(clients));

    // The tier that is away, and why.
    let degraded = found["degraded"][0].as_str().unwrap();
    assert!(degraded.contains("redis") && degraded.contains("cannot be reached"), "{degraded}");
    assert_eq!(report["degraded"][0], degraded);
    let state = found["state"][0].as_str().unwrap();
    assert!(state.contains("not asked:") && state.contains("cannot be reached"), "{state}");

    // For everybody.
    let wide: Vec<_> = found["widths"].as_object().unwrap().iter().filter(|(_, over)| **over != 0).collect();
    assert!(wide.is_empty(), "it is wider than the screen: {wide:?}");
    assert_eq!(found["widths"].as_object().unwrap().len(), 4);
    assert_eq!(found["focus"], "Requests", "tables that are moved by themselves are reached by keyboard");
    let severe = |violation: &&Value| matches!(violation["impact"].as_str(), Some("serious" | "critical"));
    let violations: Vec<_> = found["violations"].as_array().unwrap().iter().filter(severe).collect();
    assert!(violations.is_empty(), "{violations:#?}");
    eprintln!("axe-core: nothing serious; lesser: {}", found["violations"]);
}
