//! The real `gh`, unmodified, over `http_unix_socket`.

use std::io::Write as _;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use peercache_fakehub::{Corpus, Exchange};

use crate::support::{Server, corpus, part, read_log, run, stderr};

fn gh_program() -> Option<PathBuf> {
    let on_path = || {
        let path = std::env::var_os("PATH")?;
        std::env::split_paths(&path).map(|dir| dir.join("gh")).find(|file| file.is_file())
    };
    part("PEERCACHE_TEST_GH", on_path, "run `cargo xtask prepare gh`")
}

/// A `gh` that talks to `socket`, set up as its users do.
struct Gh {
    program: PathBuf,
    home: tempfile::TempDir,
}

impl Gh {
    fn new(program: &Path, socket: &Path) -> Self {
        let gh = Self { program: program.to_owned(), home: tempfile::tempdir().unwrap() };
        let set = gh.run(&["config", "set", "http_unix_socket", socket.to_str().unwrap()], b"");
        assert!(set.status.success(), "{}", stderr(&set));
        gh
    }

    fn run(&self, args: &[&str], input: &[u8]) -> Output {
        run(self.command(args), input)
    }

    /// Lets a command that watches run for a while, then ends it.
    fn watch(&self, args: &[&str], time: Duration) {
        let mut child = self.command(args).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        std::thread::sleep(time);
        assert!(child.try_wait().unwrap().is_none(), "{args:?} ended by itself");
        child.kill().unwrap();
        child.wait().unwrap();
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command
            .args(args)
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("HOME", self.home.path())
            .env("GH_CONFIG_DIR", self.home.path())
            .env("GH_TOKEN", "gho_test_token_of_one_job")
            .env("GH_NO_UPDATE_NOTIFIER", "1")
            .env("NO_COLOR", "1");
        command
    }

    /// `gh api` for one recorded exchange.
    fn api(&self, exchange: &Exchange) -> Output {
        let address =
            if exchange.host == "api.github.com" { exchange.target.clone() } else { exchange.url() };
        let mut args = vec!["api", "-X", &exchange.method, &address];
        let accept = exchange.request_header("accept").map(|accept| format!("Accept: {accept}"));
        if let Some(accept) = &accept {
            args.extend(["-H", accept]);
        }
        let body = exchange.request_body.clone().unwrap_or_default();
        if !body.is_empty() {
            args.extend(["--input", "-"]);
        }
        self.run(&args, &body)
    }
}

/// Forwards connections on a new unix socket to `url`: how `gh` reaches the origin without
/// peercache.
fn forwarder(dir: &Path, url: &str) -> PathBuf {
    let path = dir.join("direct.sock");
    let listener = UnixListener::bind(&path).unwrap();
    let address = url.strip_prefix("http://").unwrap().to_owned();
    std::thread::spawn(move || {
        for client in listener.incoming() {
            let (Ok(mut client), Ok(mut server)) = (client, std::net::TcpStream::connect(&address)) else {
                return;
            };
            let (mut client_up, mut server_up) = (client.try_clone().unwrap(), server.try_clone().unwrap());
            std::thread::spawn(move || {
                // Either side may close first; the copy just ends.
                let _ = std::io::copy(&mut client_up, &mut server_up);
                let _ = server_up.shutdown(std::net::Shutdown::Write);
            });
            std::thread::spawn(move || {
                let _ = std::io::copy(&mut server, &mut client);
                let _ = client.shutdown(std::net::Shutdown::Both);
            });
        }
    });
    path
}

struct Both {
    scratch: tempfile::TempDir,
    direct: Gh,
    through: Gh,
    log: PathBuf,
    _servers: [Server; 3],
}

/// `gh` twice on the same corpus: straight to an origin, and through peercache to another like it.
fn both(program: &Path, corpus: &Path) -> Both {
    let scratch = tempfile::tempdir().unwrap();
    let (plain, _) = Server::fakehub(corpus);
    let (origin, log) = Server::fakehub(corpus);
    let socket = scratch.path().join("peercache.sock");
    let routes: Vec<String> = other_hosts(corpus)
        .iter()
        .map(|host| format!("{host}={}/_fakehub/host/{host}", origin.url))
        .collect();
    let mut more: Vec<&dyn AsRef<std::ffi::OsStr>> = vec![&"--socket", &socket];
    for route in &routes {
        more.extend([&"--route" as &dyn AsRef<std::ffi::OsStr>, route]);
    }
    let node = Server::serve(&scratch.path().join("cache"), &origin.url, &more);
    let direct = Gh::new(program, &forwarder(scratch.path(), &plain.url));
    let through = Gh::new(program, &socket);
    Both { scratch, direct, through, log, _servers: [plain, origin, node] }
}

fn other_hosts(corpus: &Path) -> Vec<String> {
    let corpus = Corpus::load(corpus).unwrap();
    let mut hosts: Vec<_> = corpus.exchanges().iter().map(|exchange| exchange.host.clone()).collect();
    hosts.retain(|host| host != "api.github.com");
    hosts.sort();
    hosts.dedup();
    hosts
}

fn assert_same(what: &str, direct: &Output, through: &Output) {
    assert_eq!(direct.status.code(), through.status.code(), "{what}: {}", stderr(through));
    assert!(direct.stdout == through.stdout, "{what}: the answers differ");
    assert_eq!(stderr(direct), stderr(through), "{what}");
}

#[test]
fn every_recorded_exchange_is_the_same_through_peercache() {
    let Some(program) = gh_program() else { return };
    let scratch = tempfile::tempdir().unwrap();
    let corpus_file = corpus(scratch.path());
    let both = both(&program, &corpus_file);
    for (number, exchange) in Corpus::load(&corpus_file).unwrap().exchanges().iter().enumerate() {
        let what = format!("exchange {number}, {} {}", exchange.method, exchange.target);
        assert_same(&what, &both.direct.api(exchange), &both.through.api(exchange));
    }
}

/// Whether the origin was asked for this target, by whatever prefix its host has here.
fn is_of(url: &str, target: &str) -> bool {
    url == target || (target != "/" && url.ends_with(target))
}

/// Parts of the targets of routes that are always confirmed: see `routes.toml` of the proxy.
const CONFIRMED: [&str; 8] =
    ["/statuses", "/status", "/git/ref", "/actions/runs", "/check-", "/events", "/deployments", "/branches"];

#[test]
fn the_second_run_is_served_from_the_cache() {
    let Some(program) = gh_program() else { return };
    let scratch = tempfile::tempdir().unwrap();
    let corpus_file = corpus(scratch.path());
    let both = both(&program, &corpus_file);
    let corpus = Corpus::load(&corpus_file).unwrap();
    let reads: Vec<_> = corpus
        .exchanges()
        .iter()
        .filter(|exchange| exchange.method == "GET" && exchange.host == "api.github.com")
        .collect();
    let first: Vec<_> = reads.iter().map(|read| both.through.api(read)).collect();
    let asked = read_log(&both.log);
    for (read, first) in reads.iter().zip(&first) {
        assert_same(&read.target, first, &both.through.api(read));
    }
    // What the origin lets nobody store is asked for again, and so is what changes while it is
    // looked at, which is confirmed without a charge; all the rest must not be.
    let log = read_log(&both.log);
    let again = &log[asked.len()..];
    let mut served = 0;
    for read in &reads {
        let kept = read.status == 200
            && read.header("cache-control").is_some_and(|value| value.contains("max-age=60"))
            && !CONFIRMED.iter().any(|part| read.target.contains(part));
        if kept {
            served += 1;
            let repeats = again.iter().filter(|line| is_of(&line.url, &read.target)).count();
            assert_eq!(repeats, 0, "{} was asked for again", read.target);
        }
    }
    assert!(served >= 10, "only {served} of the recorded reads may be stored");
    assert!(
        again.len() < reads.len() / 2,
        "{} of {} reads reached the origin again",
        again.len(),
        reads.len()
    );
}

#[test]
fn pagination_follows_links_on_the_socket() {
    let Some(program) = gh_program() else { return };
    let scratch = tempfile::tempdir().unwrap();
    let corpus_file = corpus(scratch.path());
    let both = both(&program, &corpus_file);
    let corpus = Corpus::load(&corpus_file).unwrap();
    let first = corpus
        .exchanges()
        .iter()
        .find(|exchange| {
            exchange.method == "GET"
                && exchange.header("link").is_some_and(|link| link.contains("rel=\"next\""))
                && !exchange.header("link").is_some_and(|link| link.contains("rel=\"prev\""))
        })
        .expect("the corpus has a list of several pages");
    let accept = format!("Accept: {}", first.request_header("accept").unwrap_or("*/*"));
    let paginate = |gh: &Gh| gh.run(&["api", "--paginate", "-H", &accept, &first.target], b"");
    let (direct, through) = (paginate(&both.direct), paginate(&both.through));
    assert_same("gh api --paginate", &direct, &through);
    let pages = read_log(&both.log).len();
    assert!(pages >= 2, "pagination asked for {pages} page");
    assert_same("gh api --paginate, again", &direct, &paginate(&both.through));
    assert_eq!(read_log(&both.log).len(), pages, "the second run came from the cache");
}

/// Exchanges for `gh repo view` and `gh api graphql`, which no public recording has.
const GRAPHQL: &str = r##"{"method":"POST","url":"https://api.github.com/graphql","request_headers":{},"request_body":"{\"query\":\"query { viewer { login } }\"}","status":200,"headers":{"content-type":"application/json; charset=utf-8"},"body":{"data":{"viewer":{"login":"octo-peer"}}}}
{"method":"POST","url":"https://api.github.com/graphql","request_headers":{},"status":200,"headers":{"content-type":"application/json; charset=utf-8"},"body":{"data":{"repository":{"id":"R_1","name":"hello","owner":{"id":"O_1","login":"octo-peer"},"description":"A greeting","hasIssuesEnabled":true,"hasWikiEnabled":false,"viewerPermission":"READ","defaultBranchRef":{"name":"main"},"parent":null,"mergeCommitAllowed":true,"rebaseMergeAllowed":true,"squashMergeAllowed":true,"url":"https://github.com/octo-peer/hello"}}}}
{"method":"GET","url":"https://api.github.com/repos/octo-peer/hello/readme","request_headers":{},"status":200,"headers":{"content-type":"application/json; charset=utf-8","cache-control":"private, max-age=60, s-maxage=60","etag":"\"recorded\"","vary":"Accept, Authorization, Cookie, X-GitHub-OTP"},"body":{"name":"README.md","path":"README.md","content":"IyBIZWxsbwo=","encoding":"base64","html_url":"https://github.com/octo-peer/hello/blob/main/README.md"}}
"##;

#[test]
fn repo_view_and_graphql_are_the_same_through_peercache() {
    let Some(program) = gh_program() else { return };
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(GRAPHQL.as_bytes()).unwrap();
    let both = both(&program, file.path());
    assert!(both.scratch.path().exists());
    let query = ["api", "graphql", "-f", "query=query { viewer { login } }"];
    let direct = both.direct.run(&query, b"");
    assert!(direct.status.success(), "{}", stderr(&direct));
    assert!(String::from_utf8_lossy(&direct.stdout).contains("octo-peer"));
    assert_same("gh api graphql", &direct, &both.through.run(&query, b""));

    let view = ["repo", "view", "octo-peer/hello"];
    let direct = both.direct.run(&view, b"");
    assert!(direct.status.success(), "{}", stderr(&direct));
    assert!(String::from_utf8_lossy(&direct.stdout).contains("A greeting"));
    assert_same("gh repo view", &direct, &both.through.run(&view, b""));
    let before = read_log(&both.log).len();
    assert_same("gh repo view, again", &direct, &both.through.run(&view, b""));
    let log = read_log(&both.log);
    let again: Vec<_> = log[before..].iter().map(|line| line.method.as_str()).collect();
    // A query is asked again after five seconds.
    assert!(again.iter().all(|method| *method == "POST"), "the readme came from the cache: {again:?}");
}

/// A pull request whose check runs on and on, and the run of its workflow.
const CHECKS: &str = r##"{"method":"POST","url":"https://api.github.com/graphql","request_headers":{},"request_body":{"query":"query PullRequestList { x }"},"status":200,"headers":{"content-type":"application/json; charset=utf-8"},"body":{"data":{"repository":{"pullRequests":{"totalCount":1,"nodes":[{"number":1,"title":"A change","state":"OPEN","url":"https://github.com/octo-peer/hello/pull/1","headRefName":"change","headRepositoryOwner":{"id":"O_1","login":"octo-peer"},"isCrossRepository":false,"isDraft":false,"createdAt":"2026-11-30T12:00:00Z"}],"pageInfo":{"hasNextPage":false,"endCursor":""}}}}}}
{"method":"POST","url":"https://api.github.com/graphql","request_headers":{},"request_body":{"query":"query PullRequestByNumber { x }"},"status":200,"headers":{"content-type":"application/json; charset=utf-8"},"body":{"data":{"repository":{"pullRequest":{"id":"PR_1","number":1,"headRefName":"change"}}}}}
{"method":"POST","url":"https://api.github.com/graphql","request_headers":{},"request_body":{"query":"query PullRequestStatusChecks { x }"},"status":200,"headers":{"content-type":"application/json; charset=utf-8"},"body":{"data":{"node":{"statusCheckRollup":{"nodes":[{"commit":{"oid":"0123456789012345678901234567890123456789","statusCheckRollup":{"contexts":{"nodes":[{"__typename":"CheckRun","name":"build","status":"IN_PROGRESS","conclusion":"","startedAt":"2026-11-30T12:00:00Z","completedAt":"0001-01-01T00:00:00Z","detailsUrl":"https://github.com/octo-peer/hello/runs/7","checkSuite":{"workflowRun":{"workflow":{"name":"ci"}}},"isRequired":false}],"pageInfo":{"hasNextPage":false,"endCursor":"x"}}}}}]}}}}}
{"method":"GET","url":"https://api.github.com/repos/octo-peer/hello/actions/runs/7?exclude_pull_requests=true","request_headers":{},"status":200,"headers":{"content-type":"application/json; charset=utf-8","cache-control":"private, max-age=60, s-maxage=60","etag":"\"recorded\"","vary":"Accept, Authorization, Cookie, X-GitHub-OTP"},"body":{"id":7,"name":"ci","workflow_id":5,"head_branch":"change","head_sha":"0123456789012345678901234567890123456789","event":"push","status":"in_progress","conclusion":null,"jobs_url":"https://api.github.com/repos/octo-peer/hello/actions/runs/7/jobs","created_at":"2026-11-30T12:00:00Z","updated_at":"2026-11-30T12:00:00Z","run_started_at":"2026-11-30T12:00:00Z","url":"https://api.github.com/repos/octo-peer/hello/actions/runs/7","html_url":"https://github.com/octo-peer/hello/actions/runs/7"}}
{"method":"GET","url":"https://api.github.com/repos/octo-peer/hello/actions/workflows/5","request_headers":{},"status":200,"headers":{"content-type":"application/json; charset=utf-8","cache-control":"private, max-age=60, s-maxage=60","etag":"\"recorded\"","vary":"Accept, Authorization, Cookie, X-GitHub-OTP"},"body":{"id":5,"name":"ci","state":"active"}}
{"method":"GET","url":"https://api.github.com/repos/octo-peer/hello/actions/runs/7/jobs","request_headers":{},"status":200,"headers":{"content-type":"application/json; charset=utf-8","cache-control":"private, max-age=60, s-maxage=60","etag":"\"recorded\"","vary":"Accept, Authorization, Cookie, X-GitHub-OTP"},"body":{"total_count":1,"jobs":[{"id":9,"status":"in_progress","conclusion":null,"name":"build","started_at":"2026-11-30T12:00:00Z","steps":[]}]}}
{"method":"GET","url":"https://api.github.com/repos/octo-peer/hello/check-runs/9/annotations","request_headers":{},"status":200,"headers":{"content-type":"application/json; charset=utf-8","cache-control":"private, max-age=60, s-maxage=60","etag":"\"recorded\"","vary":"Accept, Authorization, Cookie, X-GitHub-OTP"},"body":[]}
"##;

#[test]
fn pr_list_checks_and_watch_ask_once_in_five_seconds() {
    let Some(program) = gh_program() else { return };
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(CHECKS.as_bytes()).unwrap();
    let both = both(&program, file.path());
    let posts = || read_log(&both.log).iter().filter(|line| line.method == "POST").count();
    let repository = ["-R", "octo-peer/hello"];

    let list = ["pr", "list", repository[0], repository[1]];
    let direct = both.direct.run(&list, b"");
    assert!(direct.status.success(), "{}", stderr(&direct));
    assert!(String::from_utf8_lossy(&direct.stdout).contains("A change"));
    assert_same("gh pr list", &direct, &both.through.run(&list, b""));

    let checks = ["pr", "checks", "1", repository[0], repository[1]];
    let direct = both.direct.run(&checks, b"");
    assert!(String::from_utf8_lossy(&direct.stdout).contains("build"), "{}", stderr(&direct));
    let (before, start) = (posts(), Instant::now());
    for _ in 0..20 {
        assert_same("gh pr checks", &direct, &both.through.run(&checks, b""));
    }
    // Two operations each time; every five seconds one of each may be asked again.
    let most = 2 * (1 + start.elapsed().as_secs() as usize / 5);
    let asked = posts() - before;
    assert!(asked <= most, "{asked} of 40 queries were sent in {:?}", start.elapsed());

    let (before, start) = (posts(), Instant::now());
    let watch = ["pr", "checks", "1", "--watch", "-i", "1", repository[0], repository[1]];
    both.through.watch(&watch, Duration::from_secs(8));
    let most = 2 + start.elapsed().as_secs() as usize / 5;
    let asked = posts() - before;
    assert!(asked <= most, "{asked} queries were sent in {:?}", start.elapsed());
}

#[test]
fn run_watch_is_charged_once_for_each_thing_that_it_watches() {
    let Some(program) = gh_program() else { return };
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(CHECKS.as_bytes()).unwrap();
    let both = both(&program, file.path());
    let watch = ["run", "watch", "7", "-i", "1", "-R", "octo-peer/hello"];
    both.through.watch(&watch, Duration::from_secs(8));
    let log = read_log(&both.log);
    let runs: Vec<_> = log.iter().filter(|line| line.url.contains("/actions/runs/7?")).collect();
    assert!(runs.len() >= 3, "it was watched: {log:?}");
    assert!(runs[1..].iter().all(|line| line.status == 304 && !line.charged), "{runs:?}");
    let charged: Vec<_> = log.iter().filter(|line| line.charged).map(|line| &line.url).collect();
    assert!(charged.len() <= 5, "{charged:?}");
}
