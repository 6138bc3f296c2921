//! `/-/cache` with a real sccache.

use std::path::Path;
use std::process::{Command, Output};

use crate::server::{Server, part};

/// sccache's server on one machine; stopped when dropped.
struct Machine<'a> {
    sccache: &'a Path,
    home: &'a Path,
    storage: String,
}

impl Machine<'_> {
    fn run(&self, args: &[&str]) -> Output {
        let mut command = Command::new(self.sccache);
        command
            .args(args)
            .current_dir(self.home.parent().unwrap())
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("HOME", self.home)
            .env("SCCACHE_SERVER_UDS", self.home.join("socket"))
            .env("SCCACHE_IDLE_TIMEOUT", "120")
            .env("SCCACHE_WEBDAV_ENDPOINT", &self.storage)
            .env("SCCACHE_WEBDAV_KEY_PREFIX", "sccache");
        command.output().unwrap()
    }

    #[track_caller]
    fn compile(&self, args: &[&str]) {
        let output = self.run(args);
        let text = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{args:?}: {text}");
    }

    /// Hits, misses and failed writes of this machine.
    fn counts(&self) -> (u64, u64, u64) {
        let output = self.run(&["--show-stats", "--stats-format", "json"]);
        let stats: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        let sum = |name: &str| {
            let counts = stats["stats"][name]["counts"].as_object().unwrap();
            counts.values().map(|count| count.as_u64().unwrap()).sum()
        };
        let location = stats["cache_location"].as_str().unwrap();
        assert!(location.starts_with("webdav"), "{location}");
        (sum("cache_hits"), sum("cache_misses"), stats["stats"]["cache_write_errors"].as_u64().unwrap())
    }
}

impl Drop for Machine<'_> {
    fn drop(&mut self) {
        // It prints its statistics; what it says is of no account here.
        drop(self.run(&["--stop-server"]));
    }
}

#[test]
fn sccache_on_a_second_machine_hits_what_the_first_stored() {
    let Some(sccache) = part("PEERCACHE_TEST_SCCACHE", Some("sccache"), "sccache") else { return };
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(&dir.path().join("cache"), "http://127.0.0.1:1");
    std::fs::write(dir.path().join("a.c"), "int answer(void) { return 42; }\n").unwrap();
    let object = |home: &str| dir.path().join(home).join("a.o");
    let build = |name: &str| {
        let home = dir.path().join(name);
        std::fs::create_dir(&home).unwrap();
        let storage = format!("{}/-/cache", server.url);
        let machine = Machine { sccache: &sccache, home: &home, storage };
        machine.compile(&["cc", "-c", "a.c", "-o", object(name).to_str().unwrap()]);
        // The end of the server waits for what is still being stored.
        let counts = machine.counts();
        drop(machine);
        counts
    };
    let first = build("one");
    assert_eq!((first.0, first.1), (0, 1));
    assert_eq!(build("two"), (1, 0, 0));
    assert_eq!(std::fs::read(object("one")).unwrap(), std::fs::read(object("two")).unwrap());
}
