//! `peercache exec -- COMMAND`: runs a command whose requests to GitHub go through a proxy of its
//! own, and says at the end what that saved.

use std::ffi::OsString;
use std::fs;
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use peercache::Config;
use peercache_github::{CertificateAuthority, RewriteBodies, Server, StatsReport};
use serde_json::json;
use tokio::process::Command;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;

use crate::exit::{Exit, Failure};
use crate::github;
use crate::ledger::{self, By};
use crate::plain::error_line;

/// For how long the authority of one command is valid: longer than any job runs.
const AUTHORITY_LIFETIME: Duration = Duration::from_secs(30 * 24 * 3600);
/// Where systems keep the certificates that they trust.
pub(crate) const SYSTEM_BUNDLES: [&str; 5] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
];

#[derive(Args, Debug)]
pub(crate) struct ExecArgs {
    /// The API to cache; repeatable, base URLs stand for the first [default: CACHE_UPSTREAM, else
    /// https://api.github.com]
    #[arg(long, value_name = "URL")]
    upstream: Vec<String>,

    /// Send requests for another host of GitHub's to this URL instead of https://HOST; repeatable
    #[arg(long, value_name = "HOST=URL")]
    route: Vec<String>,

    /// Print nothing at the end
    #[arg(short, long)]
    quiet: bool,

    /// The command, and its arguments
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true, value_name = "COMMAND")]
    command: Vec<OsString>,
}

/// Runs the command and ends as it ended.
pub(crate) async fn run(args: ExecArgs, json: bool) -> Result<Exit, Failure> {
    let config = Config::from_env("peercache")?;
    let cache = config.open().await?;
    let mut builder = github::builder(&cache, &config).await?;
    let usual = [config.server().upstream.clone()];
    let upstream = if args.upstream.is_empty() { usual.as_slice() } else { args.upstream.as_slice() };
    for url in upstream {
        builder = builder.upstream(url);
    }
    for route in &args.route {
        let (host, url) = crate::args::parse_route(route)?;
        builder = builder.route(host, url);
    }
    if let Some(label) = label() {
        builder = builder.default_client(label);
    }
    let proxy = builder.rewrite_bodies(RewriteBodies::Auto).build().map_err(Failure::config)?;

    // The key of this authority is never written anywhere, and ends with this process.
    let hosts: Vec<String> = upstream.iter().filter_map(|url| host_of(url)).collect();
    let authority = CertificateAuthority::generate(&hosts, AUTHORITY_LIFETIME).map_err(Failure::failed)?;
    let authority = Arc::new(authority);
    let dir = tempfile::Builder::new()
        .prefix("peercache-exec-")
        .tempdir()
        .map_err(|error| Failure::failed(format!("cannot make a temporary folder: {error}")))?;
    let mut server = Server::new(proxy.clone()).forward_proxy(Some(Arc::clone(&authority)), None);
    let socket = dir.path().join("s");
    server.listen_unix(&socket, 0o600).map_err(Failure::failed)?;
    let address = server.listen_tcp(([127, 0, 0, 1], 0).into()).await.map_err(Failure::failed)?;
    let environment = environment(dir.path(), &authority, &socket, &format!("127.0.0.1:{}", address.port()))?;

    let (stop, stopped) = oneshot::channel::<()>();
    let serving = tokio::spawn(server.serve(async move {
        // Dropped or sent: either way the command is over.
        let _over = stopped.await;
    }));
    let ended = run_command(&args.command, &environment).await;
    // The receiver is gone only if serving has ended already.
    let _ended = stop.send(());
    let served = serving.await;
    let closed = cache.close().await;
    let status = ended?;
    if !args.quiet {
        report(&proxy.stats(), json)?;
    }
    served
        .map_err(|error| Failure::failed(format!("the proxy of the command failed: {error}")))?
        .map_err(Failure::failed)?;
    closed.map_err(|error| Failure::failed(format!("the cache did not close cleanly: {error}")))?;
    Ok(Exit::Code(code_of(status)))
}

/// To whom the calls of the command are booked: the workflow and the job of GitHub Actions.
fn label() -> Option<String> {
    let set = |name: &str| std::env::var(name).ok().filter(|value| !value.trim().is_empty());
    match (set("GITHUB_WORKFLOW"), set("GITHUB_JOB")) {
        (Some(workflow), Some(job)) => Some(format!("{workflow} / {job}")),
        (one, other) => one.or(other),
    }
}

/// The host of an https URL: TLS for it ends in the proxy, too.
fn host_of(url: &str) -> Option<String> {
    let rest = url.strip_prefix("https://")?;
    let authority = rest.split(['/', '?', '#']).next()?;
    let host = authority.rsplit_once(':').map_or(authority, |(host, _)| host);
    (!host.is_empty() && !host.starts_with('[')).then(|| host.to_owned())
}

/// As shells do: 128 and the signal for a command that a signal ended.
fn code_of(status: ExitStatus) -> u8 {
    let code = status.code().or_else(|| status.signal().map(|signal| 128 + signal)).unwrap_or(255);
    u8::try_from(code).unwrap_or(255)
}

async fn run_command(
    command: &[OsString],
    environment: &[(String, OsString)],
) -> Result<ExitStatus, Failure> {
    let failed = |error| Failure::failed(format!("cannot wait for signals: {error}"));
    let (name, arguments) = command.split_first().ok_or_else(|| Failure::config("name a command"))?;
    // The terminal sends these to the command as well: it decides when to end, and this one waits.
    let mut interrupt = signal(SignalKind::interrupt()).map_err(failed)?;
    let mut terminate = signal(SignalKind::terminate()).map_err(failed)?;
    let mut child = Command::new(name)
        .args(arguments)
        .envs(environment.iter().map(|(name, value)| (name, value)))
        .stdin(Stdio::inherit())
        .kill_on_drop(true)
        .spawn()
        .map_err(|error| {
            let name = name.to_string_lossy();
            Failure::config(format!("cannot start {name}: {error}; is it installed and in PATH?"))
        })?;
    let id = child.id();
    loop {
        tokio::select! {
            ended = child.wait() => {
                return ended.map_err(|error| Failure::failed(format!("cannot wait for the command: {error}")));
            }
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {
                let process = id.and_then(|id| rustix::process::Pid::from_raw(i32::try_from(id).ok()?));
                if let Some(process) = process {
                    // It may have ended at this moment.
                    let _ended = rustix::process::kill_process(process, rustix::process::Signal::TERM);
                }
            }
        }
    }
}

/// What points `gh`, octokit, Python, Node, Go, git and curl at the proxy.
fn environment(
    dir: &Path,
    authority: &CertificateAuthority,
    socket: &Path,
    address: &str,
) -> Result<Vec<(String, OsString)>, Failure> {
    let failed = |error| Failure::failed(format!("cannot write into {}: {error}", dir.display()));
    let own = dir.join("ca.pem");
    fs::write(&own, authority.certificate_pem()).map_err(failed)?;
    // Most programs trust one file alone, so what was trusted before has to be in it.
    let before = std::env::var_os("SSL_CERT_FILE").map(std::path::PathBuf::from);
    let known = before.into_iter().chain(SYSTEM_BUNDLES.iter().map(std::path::PathBuf::from));
    let known = known.into_iter().find_map(|path| fs::read_to_string(path).ok()).unwrap_or_default();
    let bundle = dir.join("bundle.pem");
    fs::write(&bundle, format!("{known}\n{}", authority.certificate_pem())).map_err(failed)?;
    let base = format!("http://{address}");
    let near = "localhost,127.0.0.1,::1";
    let no_proxy = match std::env::var("NO_PROXY").or_else(|_| std::env::var("no_proxy")) {
        Ok(before) if !before.is_empty() => format!("{before},{near}"),
        _ => near.to_owned(),
    };
    let mut all: Vec<(String, OsString)> = Vec::new();
    let mut set = |name: &str, value: &dyn AsRef<std::ffi::OsStr>| {
        all.push((name.to_owned(), value.as_ref().to_owned()));
    };
    for name in ["HTTPS_PROXY", "https_proxy"] {
        set(name, &base);
    }
    for name in ["NO_PROXY", "no_proxy"] {
        set(name, &no_proxy);
    }
    for name in [
        "SSL_CERT_FILE",
        "REQUESTS_CA_BUNDLE",
        "CURL_CA_BUNDLE",
        "GIT_SSL_CAINFO",
        "CARGO_HTTP_CAINFO",
        "PIP_CERT",
    ] {
        set(name, &bundle);
    }
    set("NODE_EXTRA_CA_CERTS", &own);
    set("NODE_USE_ENV_PROXY", &"1");
    set("GITHUB_API_URL", &base);
    set("GITHUB_GRAPHQL_URL", &format!("{base}/graphql"));
    set("PEERCACHE_EXEC_URL", &base);
    set("PEERCACHE_EXEC_SOCKET", &socket);
    Ok(all)
}

/// What was asked, what reached GitHub and what was charged, by route, on standard error: standard
/// output is the command's.
fn report(stats: &StatsReport, json: bool) -> Result<(), Failure> {
    let saved = stats.saved;
    if json {
        let report = json!({
            "asked": saved.asked, "not_sent": saved.not_sent, "revalidated": stats.proxy.revalidated,
            "charged": saved.charged, "saved": saved.saved, "clients": stats.ledger.clients,
            "routes": stats.ledger.routes,
        });
        error_line(report);
        return Ok(());
    }
    let percent = (100 * saved.saved).checked_div(saved.asked).unwrap_or(0);
    error_line(format_args!(
        "peercache: {} requests to GitHub: {} not sent, {} confirmed at no charge, {} charged; saved {} of {} \
         ({percent} %)",
        saved.asked, saved.not_sent, stats.proxy.revalidated, saved.charged, saved.saved, saved.asked
    ));
    if saved.asked > 0 {
        let stats = serde_json::to_value(stats)
            .map_err(|error| Failure::failed(format!("the report cannot be made: {error}")))?;
        error_line(ledger::table(&stats, By::Route).trim_end());
    }
    Ok(())
}
