//! The programs that should ask the cache: what they are told, and whether that leads anywhere.

use std::env;
use std::net::{TcpStream, ToSocketAddrs as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use peercache::Config;

use super::finding::Finding;

/// How long a local server may take to accept a connection.
const CONNECT: Duration = Duration::from_secs(2);

pub(super) fn check(config: &Config, server_runs: bool, findings: &mut Vec<Finding>) {
    // Where no server runs, that is what has to be mended first.
    gh(config.server().socket.as_deref().filter(|_| server_runs), findings);
    api_url(findings);
    proxies(server_runs, findings);
    authorities(findings);
}

/// The socket of GitHub's command line.
fn gh(socket: Option<&Path>, findings: &mut Vec<Finding>) {
    let told = gh_socket();
    match (told, socket) {
        (Some(told), _) if UnixStream::connect(&told).is_err() => findings.push(
            Finding::failed(
                "gh",
                format!("gh sends every request to {}, and nothing listens there", told.display()),
                "start `peercache serve --socket` with that path, or take the setting back",
            )
            .by("gh config set http_unix_socket ''"),
        ),
        (Some(told), _) => findings.push(Finding::ok("gh", format!("it asks by {}", told.display()))),
        (None, Some(socket)) if is_installed("gh") => findings.push(
            Finding::warning(
                "gh",
                format!("gh does not ask by {}, it goes to GitHub directly", socket.display()),
                "tell it the socket",
            )
            .by(format!("gh config set http_unix_socket {}", socket.display())),
        ),
        (None, _) => {}
    }
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
fn api_url(findings: &mut Vec<Finding>) {
    let Some(url) = env::var("GITHUB_API_URL").ok().filter(|url| !url.trim().is_empty()) else { return };
    let Ok(parsed) = reqwest::Url::parse(&url) else {
        findings.push(Finding::failed(
            "GITHUB_API_URL",
            format!("{url} is not a URL"),
            "set it to where the server listens, such as http://127.0.0.1:9180",
        ));
        return;
    };
    let host = parsed.host_str().unwrap_or_default().trim_matches(['[', ']']).to_owned();
    if host == "api.github.com" {
        findings.push(Finding::ok(
            "GITHUB_API_URL",
            "it names GitHub itself: who follows it does not use the cache",
        ));
        return;
    }
    let port = parsed.port_or_known_default().unwrap_or(80);
    let reached = (host.as_str(), port)
        .to_socket_addrs()
        .map(|mut found| found.any(|address| TcpStream::connect_timeout(&address, CONNECT).is_ok()));
    findings.push(match reached {
        Ok(true) => Finding::ok("GITHUB_API_URL", format!("something listens at {url}")),
        _ => Finding::failed(
            "GITHUB_API_URL",
            format!("nothing listens at {url}, so every request of actions and libraries fails"),
            "start `peercache serve` there, or take the variable back",
        )
        .by("unset GITHUB_API_URL"),
    });
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
