//! `peercache exec` with the clients that jobs use, and `peercache ca`.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Output;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use crate::support::{Server, part, peercache, run, run_in, stderr};

/// An origin that counts what it is asked.
struct Origin {
    url: String,
    count: Arc<AtomicUsize>,
    last: Arc<Mutex<String>>,
}

impl Origin {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let (count, last) = (Arc::<AtomicUsize>::default(), Arc::<Mutex<String>>::default());
        let (counter, heads) = (Arc::clone(&count), Arc::clone(&last));
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (counter, heads) = (Arc::clone(&counter), Arc::clone(&heads));
                std::thread::spawn(move || answer(stream, &counter, &heads));
            }
        });
        Self { url, count, last }
    }

    fn count(&self) -> usize {
        self.count.load(Ordering::SeqCst)
    }
}

fn answer(mut stream: TcpStream, counter: &AtomicUsize, heads: &Mutex<String>) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        if stream.read(&mut byte).unwrap_or(0) == 0 {
            return;
        }
        head.push(byte[0]);
    }
    counter.fetch_add(1, Ordering::SeqCst);
    *heads.lock().unwrap() = String::from_utf8_lossy(&head).into_owned();
    let body = r#"{"full_name":"o/r","url":"https://api.github.com/repos/o/r"}"#;
    let answer = format!(
        "HTTP/1.1 200 OK\r\nETag: \"e\"\r\nCache-Control: private, max-age=60\r\nConnection: close\r\n\
         Content-Type: application/json; charset=utf-8\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    // A client that is gone is its own matter.
    let _ = stream.write_all(answer.as_bytes());
}

fn exec(dir: &Path, origin: &Origin, command: &[&str]) -> Output {
    let mut peercache = peercache(&["exec", "--upstream", &origin.url, "--"]);
    peercache.args(command).env("CACHE_DIR", dir).env("HOME", dir);
    run(peercache, b"")
}

fn on_path(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|dir| dir.join(program)).find(|file| file.is_file())
}

/// Runs the same script in two jobs, each a process of its own, on one cache directory.
#[track_caller]
fn second_job_is_served_from_the_first(command: &[&str]) {
    let (dir, origin) = (tempfile::tempdir().unwrap(), Origin::start());
    for job in ["first", "second"] {
        let output = exec(dir.path(), &origin, command);
        let (out, err) = (String::from_utf8_lossy(&output.stdout), stderr(&output));
        assert!(output.status.success(), "{job}: {out} {err}");
        assert!(out.contains("o/r"), "{job}: {out} {err}");
        assert_eq!(origin.count(), 1, "{job}: {err}");
        let saved = if job == "first" { "saved 0 of 1 (0 %)" } else { "saved 1 of 1 (100 %)" };
        assert!(err.contains(saved), "{job}: {err}");
        assert!(err.ends_with("  /repos/{owner}/{repo}"), "by route: {err}");
    }
    let head = origin.last.lock().unwrap().to_ascii_lowercase();
    assert!(head.contains("authorization: ") && head.contains(" secret"), "{head}");
}

#[test]
fn upstream_of_the_settings_is_the_upstream_of_the_command() {
    let (scratch, origin) = (tempfile::tempdir().unwrap(), Origin::start());
    let mut command = peercache(&["exec", "--", "sh", "-c", "curl -sS $GITHUB_API_URL/repos/o/r"]);
    command.env("CACHE_DIR", scratch.path()).env("CACHE_UPSTREAM", &origin.url);
    let ended = run(command, b"");
    assert!(ended.status.success(), "{}", stderr(&ended));
    assert_eq!(origin.count(), 1);
}

#[test]
fn curl_through_exec_is_answered_from_the_cache() {
    if part("PEERCACHE_TEST_CURL", || on_path("curl"), "install curl").is_some() {
        second_job_is_served_from_the_first(&[
            "curl",
            "-sSf",
            "-H",
            "Authorization: token secret",
            "https://api.github.com/repos/o/r",
        ]);
    }
}

#[test]
fn python_through_exec_is_answered_from_the_cache() {
    let script = "import urllib.request as u\n\
        r = u.Request('https://api.github.com/repos/o/r', headers={'Authorization': 'token secret'})\n\
        print(u.urlopen(r).read().decode())";
    if part("PEERCACHE_TEST_PYTHON", || on_path("python3"), "install python3").is_some() {
        second_job_is_served_from_the_first(&["python3", "-c", script]);
    }
}

#[test]
fn node_with_the_variables_of_actions_is_answered_from_the_cache() {
    let script = "fetch(process.env.GITHUB_API_URL + '/repos/o/r', {headers: {authorization: 'token secret'}})\
        .then(r => r.text()).then(console.log)";
    if part("PEERCACHE_TEST_NODE", || on_path("node"), "install node").is_some() {
        second_job_is_served_from_the_first(&["node", "-e", script]);
    }
}

#[test]
fn gh_through_exec_is_answered_from_the_cache() {
    if part("PEERCACHE_TEST_GH", || on_path("gh"), "run `cargo xtask prepare gh`").is_some() {
        second_job_is_served_from_the_first(&["env", "GH_TOKEN=secret", "gh", "api", "repos/o/r"]);
    }
}

#[test]
fn exit_code_and_streams_of_the_command_are_passed_on() {
    let (dir, origin) = (tempfile::tempdir().unwrap(), Origin::start());
    let failed = exec(dir.path(), &origin, &["sh", "-c", "echo out; echo err >&2; exit 7"]);
    assert_eq!(failed.status.code(), Some(7));
    assert_eq!(String::from_utf8_lossy(&failed.stdout), "out\n");
    assert!(stderr(&failed).starts_with("err\n"), "{}", stderr(&failed));
    let killed = exec(dir.path(), &origin, &["sh", "-c", "kill -9 $$"]);
    assert_eq!(killed.status.code(), Some(137));
    let missing = exec(dir.path(), &origin, &["no-such-command-here"]);
    assert_eq!(missing.status.code(), Some(2));
    assert!(stderr(&missing).contains("cannot start no-such-command-here"), "{}", stderr(&missing));
}

#[test]
fn authority_is_made_once_and_named() {
    let dir = tempfile::tempdir().unwrap();
    let ca = |args: &[&str]| {
        let mut command = peercache(&["--json", "ca"]);
        command.args(args).env("CACHE_DIR", dir.path());
        run(command, b"")
    };
    let made = ca(&["--name", "ghe.example.com"]);
    assert!(made.status.success(), "{}", stderr(&made));
    let report: serde_json::Value = serde_json::from_slice(&made.stdout).unwrap();
    let names = ["api.github.com", "localhost", "127.0.0.1", "::1", "ghe.example.com"];
    assert_eq!(report["names"], serde_json::json!(names));
    let read = || std::fs::read(report["certificate"].as_str().unwrap()).unwrap();
    let before = read();
    assert!(ca(&[]).status.success());
    assert_eq!(read(), before, "the same one");
    let other = ca(&["--name", "other.example"]);
    assert_eq!(other.status.code(), Some(2));
    assert!(stderr(&other).contains("--renew"), "{}", stderr(&other));
    assert!(ca(&["--renew"]).status.success());
    assert_ne!(read(), before);
}

#[test]
fn curl_through_the_forward_proxy_is_answered_from_the_cache() {
    if part("PEERCACHE_TEST_CURL", || on_path("curl"), "install curl").is_none() {
        return;
    }
    let (dir, origin) = (tempfile::tempdir().unwrap(), Origin::start());
    assert!(run_in(dir.path(), &["ca"], b"").status.success());
    let server = Server::serve(dir.path(), &origin.url, &[&"--forward-proxy"]);
    let curl = |more: &[&str]| {
        let mut command = std::process::Command::new("curl");
        command
            .args(["-sS", "--proxy", &server.url])
            .arg("--cacert")
            .arg(dir.path().join("ca/ca.pem"))
            .args(more)
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default());
        run(command, b"")
    };
    for _ in ["miss", "hit"] {
        let output = curl(&["-f", "https://api.github.com/repos/o/r"]);
        assert!(output.status.success(), "{}", stderr(&output));
        assert!(String::from_utf8_lossy(&output.stdout).contains("\"full_name\":\"o/r\""));
    }
    assert_eq!(origin.count(), 1);
    // A host that is none of GitHub's, in the form for a proxy.
    let foreign = curl(&["-o", "/dev/null", "-w", "%{http_code}", "http://internal.corp.example/"]);
    assert_eq!(String::from_utf8_lossy(&foreign.stdout), "421");
    assert_eq!(origin.count(), 1);
}

#[test]
fn pygithub_follows_urls_of_bodies_through_the_base_url() {
    let install = "run `cargo xtask prepare pygithub`";
    let Some(package) = part("PEERCACHE_TEST_PYGITHUB", || None, install) else { return };
    let packages = package.ancestors().nth(2).unwrap();
    let (dir, origin) = (tempfile::tempdir().unwrap(), Origin::start());
    let server = Server::serve(dir.path(), &origin.url, &[]);
    let script = "import sys\nfrom github import Github, Auth\n\
        g = Github(base_url=sys.argv[1], auth=Auth.Token('t'), retry=0, seconds_between_requests=0)\n\
        r = g.get_repo('o/r')\nr.update()\nprint(r.full_name, r.url)";
    for suffix in ["/api/v3", ""] {
        let base = format!("{}{suffix}", server.url);
        let mut command = std::process::Command::new("python3");
        command.args(["-c", script, &base]).env("PYTHONPATH", packages);
        let output = run(command, b"");
        assert!(output.status.success(), "{}", stderr(&output));
        let expected = format!("o/r {base}/repos/o/r\n");
        assert_eq!(String::from_utf8_lossy(&output.stdout), expected);
    }
}

#[test]
fn access_log_has_a_line_without_secrets_for_each_request() {
    use std::io::{BufRead as _, BufReader};
    let (dir, origin) = (tempfile::tempdir().unwrap(), Origin::start());
    let mut command =
        peercache(&["serve", "--listen", "127.0.0.1:0", "--access-log", "--upstream", &origin.url]);
    command.env("CACHE_DIR", dir.path()).stdout(std::process::Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
    let url = lines.find_map(|line| line.strip_prefix("peercache listening on ").map(str::to_owned)).unwrap();
    crate::support::get(
        &format!("{url}/repos/o/r?access_token=SECRET"),
        &[("Authorization", "token SECRET")],
    );
    let line = lines.next().unwrap();
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(line.starts_with("127.0.0.1 GET /repos/o/r 200 "), "{line}");
    assert!(line.contains("fwd=uri-miss; fwd-status=200") && !line.contains("SECRET"), "{line}");
}
