//! `peercache serve`, and what clients are started with.

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// A server process; killed when dropped.
#[derive(Debug)]
pub(crate) struct Server {
    child: Child,
    pub(crate) url: String,
}

impl Server {
    /// Starts one on a free port, with the cache directory `dir`.
    pub(crate) fn start(dir: &Path, upstream: &str) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_peercache"))
            .args(["serve", "--listen", "127.0.0.1:0", "--upstream", upstream])
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("CACHE_CONFIG", "none")
            .env("CACHE_DIR", dir)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let url = loop {
            let line = lines.next().expect("the server ended before it listened").unwrap();
            if let Some(url) = line.split_whitespace().find(|word| word.starts_with("http://")) {
                break url.to_owned();
            }
        };
        std::thread::spawn(move || lines.for_each(drop));
        Self { child, url }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A part that the test needs, from its variable or the search path.
pub(crate) fn part(variable: &str, program: Option<&str>, name: &str) -> Option<PathBuf> {
    let on_path = |program: &str| {
        let path = std::env::var_os("PATH")?;
        std::env::split_paths(&path).map(|dir| dir.join(program)).find(|file| file.is_file())
    };
    let found = std::env::var_os(variable).map(PathBuf::from).or_else(|| program.and_then(on_path));
    if found.is_none() {
        crate::part::missing(&format!("{variable} is not set"), &format!("run `cargo xtask prepare {name}`"));
    }
    found
}
