//! The programs that should ask the cache: what they are told, and whether that leads anywhere.

use std::env;
use std::path::{Path, PathBuf};
use std::time::Duration;

use peercache::Config;
use serde_json::Value;

use super::finding::Finding;
use crate::args::ServerArgs;
use crate::ask::{self, Unanswered};

/// How long what a client is pointed at may take to answer.
const WITHIN: Duration = Duration::from_secs(10);

pub(super) async fn check(config: &Config, server_runs: bool, findings: &mut Vec<Finding>) {
    // Where no server runs, that is what has to be mended first.
    gh(config.server().socket.as_deref().filter(|_| server_runs), findings).await;
    api_url(findings).await;
    proxies(server_runs, findings);
    authorities(findings);
}

/// The socket of GitHub's command line.
async fn gh(socket: Option<&Path>, findings: &mut Vec<Finding>) {
    let Some(told) = gh_socket() else {
        if let Some(socket) = socket.filter(|_| is_installed("gh")) {
            findings.push(
                Finding::warning(
                    "gh",
                    format!("gh does not ask by {}, it goes to GitHub directly", socket.display()),
                    "tell it the socket",
                )
                .by(format!("gh config set http_unix_socket {}", socket.display())),
            );
        }
        return;
    };
    let place = told.display().to_string();
    let remedy = "start `peercache serve --socket` with that path, or take the setting back";
    let broken = |found: String| Finding::failed("gh", found, remedy).by("gh config set http_unix_socket ''");
    findings.push(match ask::look(&ServerArgs { url: None, socket: Some(told) }).await {
        Ok((_, Ok(_))) => Finding::ok("gh", format!("it asks the peercache at {place}")),
        Ok((_, Err(Unanswered::Nobody))) => {
            broken(format!("gh sends every request to {place}, and nothing listens there"))
        }
        Ok((_, Err(Unanswered::Other(what)))) => {
            broken(format!("gh sends every request to {place}, and that is no peercache")).because(what)
        }
        Err(failure) => broken(failure.to_string()),
    });
}

/// The socket in gh's configuration.
fn gh_socket() -> Option<PathBuf> {
    let dir = env::var_os("GH_CONFIG_DIR").map(PathBuf::from).or_else(|| {
        let base = env::var_os("XDG_CONFIG_HOME").filter(|base| !base.is_empty()).map(PathBuf::from);
        let base = base.or_else(|| env::var_os("HOME").map(|home| Path::new(&home).join(".config")))?;
        Some(base.join("gh"))
    })?;
    let text = std::fs::read_to_string(dir.join("config.yml")).ok()?;
    let value = text.lines().find_map(|line| line.strip_prefix("http_unix_socket:"))?;
    let value = value.split(" #").next().unwrap_or_default().trim().trim_matches(['"', '\'']);
    (!value.is_empty()).then(|| PathBuf::from(value))
}

fn is_installed(program: &str) -> bool {
    env::var_os("PATH").is_some_and(|path| env::split_paths(&path).any(|dir| dir.join(program).is_file()))
}

/// The base URL that actions and libraries take from the environment.
async fn api_url(findings: &mut Vec<Finding>) {
    let Some(url) = env::var("GITHUB_API_URL").ok().filter(|url| !url.trim().is_empty()) else { return };
    let Ok(parsed) = reqwest::Url::parse(&url) else {
        findings.push(Finding::failed(
            "GITHUB_API_URL",
            format!("{url} is not a URL"),
            "set it to where the server listens, such as http://127.0.0.1:9180",
        ));
        return;
    };
    if parsed.host_str() == Some("api.github.com") {
        findings.push(Finding::ok(
            "GITHUB_API_URL",
            "it names GitHub itself: who follows it does not use the cache",
        ));
        return;
    }
    let base = url.trim_end_matches('/');
    findings.push(match what_answers(base).await {
        Some(Answers::Peercache) => Finding::ok("GITHUB_API_URL", format!("a peercache answers at {url}")),
        Some(Answers::Api) => Finding::ok(
            "GITHUB_API_URL",
            format!("{url} is an API itself: who follows it does not use the cache"),
        ),
        Some(Answers::Other) => Finding::failed(
            "GITHUB_API_URL",
            format!("what answers at {url} is neither a peercache nor an API of GitHub's"),
            "correct the variable, or take it back",
        )
        .by("unset GITHUB_API_URL"),
        None => Finding::failed(
            "GITHUB_API_URL",
            format!("nothing answers at {url}, so every request of actions and libraries fails"),
            "start `peercache serve` there, or take the variable back",
        )
        .by("unset GITHUB_API_URL"),
    });
}

/// What a base URL leads to.
enum Answers {
    Peercache,
    Api,
    Other,
}

async fn what_answers(base: &str) -> Option<Answers> {
    // It trusts what the system trusts: the server may be one of an enterprise.
    let client = reqwest::Client::builder().timeout(WITHIN).build().ok()?;
    let get = async |path: &str| {
        let response = client.get(format!("{base}{path}")).send().await.ok()?;
        let status = response.status().as_u16();
        let body = ask::bounded(response).await.unwrap_or_default();
        Some((status, serde_json::from_slice::<Value>(&body).unwrap_or_default()))
    };
    let (_, stats) = get("/-/stats").await?;
    if stats.pointer("/cache/tiers").is_some() {
        return Some(Answers::Peercache);
    }
    let (status, limits) = get("/rate_limit").await?;
    // Whom it refuses, and who has no limits, gets an object with a message.
    let is_api = limits.get("resources").is_some()
        || (matches!(status, 401 | 403 | 404 | 429) && limits["message"].is_string());
    Some(if is_api { Answers::Api } else { Answers::Other })
}

/// Proxies that clients use on their way to a server of this machine.
fn proxies(server_runs: bool, findings: &mut Vec<Finding>) {
    let set = |names: &[&'static str]| {
        names.iter().copied().find(|name| env::var_os(name).is_some_and(|value| !value.is_empty()))
    };
    let Some(proxy) = set(&["http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"]).filter(|_| server_runs)
    else {
        return;
    };
    let spared = set(&["no_proxy", "NO_PROXY"]).and_then(|name| env::var(name).ok()).unwrap_or_default();
    let covers = |entry: &str| matches!(entry.trim(), "*" | "127.0.0.1" | "localhost" | "127.0.0.0/8");
    if !spared.split(',').any(covers) {
        findings.push(
            Finding::warning(
                "proxy",
                format!("{proxy} is set, and NO_PROXY does not spare 127.0.0.1: clients ask that proxy for this server"),
                "add 127.0.0.1 and localhost to NO_PROXY",
            )
            .by("export NO_PROXY=127.0.0.1,localhost${NO_PROXY:+,$NO_PROXY}"),
        );
    }
}

/// Files with certificate authorities that clients trust by a variable.
fn authorities(findings: &mut Vec<Finding>) {
    const VARIABLES: [&str; 6] = [
        "SSL_CERT_FILE",
        "CURL_CA_BUNDLE",
        "REQUESTS_CA_BUNDLE",
        "NODE_EXTRA_CA_CERTS",
        "AWS_CA_BUNDLE",
        "GIT_SSL_CAINFO",
    ];
    for name in VARIABLES {
        let Some(path) = env::var_os(name).filter(|path| !path.is_empty()) else { continue };
        let path = Path::new(&path);
        let problem = match std::fs::read_to_string(path) {
            Ok(text) if text.contains("-----BEGIN ") => continue,
            Ok(_) => "holds no certificate in PEM form".to_owned(),
            Err(error) => format!("cannot be read: {error}"),
        };
        findings.push(
            Finding::failed(
                "certificates",
                format!("{name} names {}, which {problem}", path.display()),
                "name a file with certificates in PEM form, or take the variable back",
            )
            .by(format!("unset {name}")),
        );
    }
}
