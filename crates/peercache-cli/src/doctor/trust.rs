//! The forward proxy that clients use for HTTPS, and which of them trust the authority with which
//! it answers for the API: the programs themselves make a TLS connection through it.

use std::env;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpStream;
use std::net::ToSocketAddrs as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use peercache::Config;
use tokio::process::Command;
use tokio::time::timeout;

use super::finding::Finding;
use crate::ca;

pub(super) const CHECK: &str = "certificates";
/// The host whose TLS a forward proxy of this project ends.
const API: &str = "api.github.com";
/// How long a connection through the proxy may take.
const WITHIN: Duration = Duration::from_secs(10);

/// A client's way of making TLS connections.
struct Client {
    /// The program that has to be installed.
    program: &'static str,
    /// What it stands for.
    name: &'static str,
    arguments: fn(proxy: &Proxy) -> Vec<String>,
}

/// Each ends with 0 when the connection was made and the certificate was trusted, with 3 where this
/// client is not there, and with anything else when it failed.
const CLIENTS: [Client; 4] = [
    Client {
        program: "openssl",
        name: "OpenSSL (curl, git, Ruby)",
        arguments: |proxy| {
            let (proxy, target) = (proxy.authority(), format!("{API}:443"));
            let fixed = ["s_client", "-verify_return_error", "-verify_hostname", API, "-servername", API];
            let fixed = fixed.into_iter().map(str::to_owned);
            fixed.chain(["-proxy".to_owned(), proxy, "-connect".to_owned(), target]).collect()
        },
    },
    Client { program: "python3", name: "Python", arguments: |proxy| python(proxy, "own") },
    Client { program: "python3", name: "Python requests", arguments: |proxy| python(proxy, "requests") },
    Client {
        program: "node",
        name: "Node",
        arguments: |proxy| {
            vec!["-e".to_owned(), NODE.to_owned(), proxy.host.clone(), proxy.port.to_string(), API.to_owned()]
        },
    },
];

/// What `urllib` and `requests` do for a connection, without a request.
const PYTHON: &str = "
import os, socket, ssl, sys
how, host, port, api = sys.argv[1:5]
bundle = None
if how == 'requests':
    try:
        import certifi, requests
    except ImportError:
        sys.exit(3)
    named = os.environ.get('REQUESTS_CA_BUNDLE') or os.environ.get('CURL_CA_BUNDLE')
    bundle = named or certifi.where()
proxy = socket.create_connection((host, int(port)), timeout=10)
proxy.sendall(f'CONNECT {api}:443 HTTP/1.1\\r\\nHost: {api}:443\\r\\n\\r\\n'.encode())
answer = b''
while not answer.endswith(b'\\r\\n\\r\\n'):
    byte = proxy.recv(1)
    if not byte:
        sys.exit(4)
    answer += byte
ssl.create_default_context(cafile=bundle).wrap_socket(proxy, server_hostname=api).close()
";

/// What `https` does for a connection, without a request.
const NODE: &str = "
const [host, port, api] = process.argv.slice(1);
const request = require('http').request({host, port, method: 'CONNECT', path: api + ':443', agent: false});
request.on('error', () => process.exit(4));
request.on('connect', (answer, socket) => {
  const made = require('tls').connect({socket, servername: api}, () => process.exit(0));
  made.on('error', (error) => { console.error(error.message); process.exit(1); });
});
request.end();
";

fn python(proxy: &Proxy, how: &str) -> Vec<String> {
    let (port, how) = (proxy.port.to_string(), how.to_owned());
    vec!["-c".to_owned(), PYTHON.to_owned(), how, proxy.host.clone(), port, API.to_owned()]
}

/// The proxy that clients use for HTTPS.
#[derive(Clone)]
struct Proxy {
    variable: &'static str,
    host: String,
    port: u16,
}

impl Proxy {
    fn authority(&self) -> String {
        match self.host.contains(':') {
            true => format!("[{}]:{}", self.host, self.port),
            false => format!("{}:{}", self.host, self.port),
        }
    }
}

/// How the proxy answers a `CONNECT`.
enum Tunnel {
    Open,
    Refused(String),
    Nobody(String),
}

pub(super) async fn check(config: &Config, findings: &mut Vec<Finding>) {
    let Some(proxy) = proxy() else { return };
    let asked = proxy.clone();
    let tunnel = tokio::task::spawn_blocking(move || tunnel(&asked)).await;
    let tunnel = tunnel.unwrap_or_else(|error| Tunnel::Nobody(error.to_string()));
    let place = format!("{} names the proxy {}", proxy.variable, proxy.authority());
    match tunnel {
        Tunnel::Open => {}
        Tunnel::Refused(status) => {
            findings.push(
                Finding::failed(
                    "proxy",
                    format!("{place}, which makes no connection to {API}"),
                    "start that server with `--forward-proxy`, or name another proxy",
                )
                .because(format!("it answers CONNECT with {status}")),
            );
            return;
        }
        Tunnel::Nobody(why) => {
            findings.push(
                Finding::failed(
                    "proxy",
                    format!("{place}, where nobody answers"),
                    "start `peercache serve --forward-proxy` there, or take the variable back",
                )
                .because(why)
                .by(format!("unset {}", proxy.variable)),
            );
            return;
        }
    }
    let mut trusted = Vec::new();
    let mut distrust = Vec::new();
    for client in CLIENTS {
        match run(&client, &proxy).await {
            Some(true) => trusted.push(client.name),
            Some(false) => distrust.push(client.name),
            None => {}
        }
    }
    findings.push(match (trusted.is_empty(), distrust.is_empty()) {
        (true, true) => Finding::skipped(CHECK, "no openssl, python3 or node is there to try the proxy with"),
        (false, true) => {
            Finding::ok(CHECK, format!("{} trust what the proxy shows for {API}", trusted.join(", ")))
        }
        (_, false) => untrusted(config, &distrust),
    });
}

/// Some clients do not trust the authority of the proxy.
fn untrusted(config: &Config, clients: &[&str]) -> Finding {
    let finding = Finding::failed(
        CHECK,
        format!(
            "{} {} not trust the certificate that the proxy shows for {API}",
            clients.join(", "),
            if clients.len() == 1 { "does" } else { "do" }
        ),
        "let the variables of these clients name the authority of `peercache ca`, or use `peercache exec`, \
         which sets them",
    );
    let dir = ca::dir_of(None, config.dir()).ok();
    let Some(authority) = dir.map(|dir| dir.join(ca::CERTIFICATE)).filter(|file| file.is_file()) else {
        return finding;
    };
    finding.by(command(&authority, system_bundle().as_deref()))
}

/// The lines that make each client trust `authority`, beside what the system trusts.
fn command(authority: &Path, system: Option<&Path>) -> String {
    let bundle = authority.with_file_name("bundle.pem");
    let (authority, bundle) = (quoted(authority), quoted(&bundle));
    let system = system.map(|file| format!("{} ", quoted(file))).unwrap_or_default();
    let mut lines = format!("cat {system}{authority} > {bundle}");
    for name in ["SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "GIT_SSL_CAINFO"] {
        lines += &format!("\nexport {name}={bundle}");
    }
    lines + &format!("\nexport NODE_EXTRA_CA_CERTS={authority}")
}

/// What the system trusts, in one file.
fn system_bundle() -> Option<PathBuf> {
    crate::exec::SYSTEM_BUNDLES.iter().map(PathBuf::from).find(|file| file.is_file())
}

/// A path as one word of a shell.
fn quoted(path: &Path) -> String {
    format!("'{}'", path.display().to_string().replace('\'', r"'\''"))
}

/// The proxy of `HTTPS_PROXY` whose connections can be tried: one without credentials, since a
/// program's arguments are seen by every user.
fn proxy() -> Option<Proxy> {
    let (variable, url) = ["https_proxy", "HTTPS_PROXY"].into_iter().find_map(|name| {
        let value = env::var(name).ok().filter(|value| !value.trim().is_empty())?;
        Some((name, value))
    })?;
    let url = if url.contains("://") { url } else { format!("http://{url}") };
    let url = reqwest::Url::parse(&url).ok().filter(|url| url.scheme() == "http")?;
    let host = url.host_str()?.trim_matches(['[', ']']).to_owned();
    let open = url.username().is_empty() && url.password().is_none();
    open.then(|| Proxy { variable, host, port: url.port_or_known_default().unwrap_or(80) })
}

fn tunnel(proxy: &Proxy) -> Tunnel {
    let nobody = |error: std::io::Error| Tunnel::Nobody(error.to_string());
    let addresses = match (proxy.host.as_str(), proxy.port).to_socket_addrs() {
        Ok(addresses) => addresses,
        Err(error) => return nobody(error),
    };
    let mut why = Tunnel::Nobody("its name has no address".to_owned());
    for address in addresses {
        let stream = TcpStream::connect_timeout(&address, WITHIN)
            .and_then(|stream| stream.set_read_timeout(Some(WITHIN)).map(|()| stream));
        match stream {
            Ok(mut stream) => {
                let request = format!("CONNECT {API}:443 HTTP/1.1\r\nHost: {API}:443\r\n\r\n");
                let mut line = String::new();
                return match stream
                    .write_all(request.as_bytes())
                    .and_then(|()| BufReader::new(stream).read_line(&mut line))
                {
                    Ok(_) if line.split_whitespace().nth(1) == Some("200") => Tunnel::Open,
                    Ok(_) => Tunnel::Refused(line.trim().chars().take(80).collect()),
                    Err(error) => Tunnel::Refused(error.to_string()),
                };
            }
            Err(error) => why = nobody(error),
        }
    }
    why
}

/// Whether the client trusts what the proxy shows; `None` where the client is not there.
async fn run(client: &Client, proxy: &Proxy) -> Option<bool> {
    let mut command = Command::new(client.program);
    command.args((client.arguments)(proxy)).kill_on_drop(true);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let ended = timeout(WITHIN, command.status()).await;
    match ended {
        Ok(Ok(status)) if status.code() == Some(3) => None,
        Ok(Ok(status)) => Some(status.success()),
        // It is not installed.
        Ok(Err(_)) => None,
        Err(_) => Some(false),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn command_adds_the_authority_to_what_the_system_trusts() {
        let lines = command(Path::new("/c/ca/it's.pem"), Some(Path::new("/etc/all.pem")));
        assert!(lines.starts_with(r"cat '/etc/all.pem' '/c/ca/it'\''s.pem' > '/c/ca/bundle.pem'"), "{lines}");
        assert!(lines.contains("\nexport SSL_CERT_FILE='/c/ca/bundle.pem'\n"), "{lines}");
        assert!(lines.ends_with(r"export NODE_EXTRA_CA_CERTS='/c/ca/it'\''s.pem'"), "{lines}");
    }
}
