//! `/-/cache` with a real ccache.

use std::path::Path;
use std::process::Command;

use crate::support::{Server, part, run, stderr};

#[test]
fn ccache_on_a_second_machine_hits_what_the_first_stored() {
    let on_path = || {
        let path = std::env::var_os("PATH")?;
        std::env::split_paths(&path).map(|dir| dir.join("ccache")).find(|file| file.is_file())
    };
    let Some(ccache) = part("PEERCACHE_TEST_CCACHE", on_path, "install ccache, from Debian for example")
    else {
        return;
    };
    // Where a prepared one has its libraries; of no account for one of the system.
    let libraries = ccache.ancestors().nth(2).unwrap().join("lib/x86_64-linux-gnu");
    let dir = tempfile::tempdir().unwrap();
    let server = Server::serve(dir.path(), "http://127.0.0.1:1", &[]);
    std::fs::write(dir.path().join("a.c"), "int answer(void) { return 42; }\n").unwrap();
    let compile = |home: &Path| {
        std::fs::create_dir_all(home).unwrap();
        let mut command = Command::new(&ccache);
        let storage = format!("{}/-/cache/ccache", server.url);
        command
            .args(["cc", "-c", "a.c", "-o"])
            .arg(home.join("a.o"))
            .current_dir(dir.path())
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("LD_LIBRARY_PATH", &libraries)
            .env("CCACHE_DIR", home)
            .env("CCACHE_REMOTE_STORAGE", &storage)
            .env("CCACHE_SECONDARY_STORAGE", &storage)
            .env("CCACHE_NOHASHDIR", "1")
            .env("CCACHE_LOGFILE", home.join("log"));
        let output = run(command, b"");
        assert!(output.status.success(), "{}", stderr(&output));
        std::fs::read_to_string(home.join("log")).unwrap()
    };
    let (first, second) = (compile(&dir.path().join("one")), compile(&dir.path().join("two")));
    assert!(first.contains("cache_miss"), "{first}");
    // Names of the counters in 4.x: secondary storage became remote storage.
    let hit = ["remote_storage_hit", "secondary_storage_hit"].iter().any(|name| second.contains(name));
    assert!(hit && second.contains("cache_hit"), "{second}");
    let object = |home: &str| std::fs::read(dir.path().join(home).join("a.o")).unwrap();
    assert_eq!(object("one"), object("two"));
}
