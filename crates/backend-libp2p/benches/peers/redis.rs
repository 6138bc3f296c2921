//! A real Redis over TLS, and a client that keeps many questions in flight on one connection.

use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::{mpsc, oneshot};
use tokio_rustls::TlsConnector;

/// Names the program. Without it, the one of the search path is taken.
const VARIABLE: &str = "PEERCACHE_TEST_REDIS";
const GET: &[u8] = b"*2\r\n$3\r\nGET\r\n$1\r\nk\r\n";
/// Questions that wait to be written.
const QUEUE: usize = 1024;

pub(crate) struct Redis {
    child: Child,
    port: u16,
    dir: tempfile::TempDir,
}

impl Drop for Redis {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// Starts a server with a certificate of its own.
pub(crate) fn start() -> Result<Redis, String> {
    let program = std::env::var_os(VARIABLE).map_or_else(|| PathBuf::from("redis-server"), PathBuf::from);
    let dir = tempfile::tempdir().map_err(|error| error.to_string())?;
    let made = Command::new("openssl")
        .args([
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
            "-nodes",
            "-days",
            "2",
        ])
        .args(["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"])
        .args(["-addext", "basicConstraints=critical,CA:FALSE"])
        .args(["-keyout", "key.pem", "-out", "cert.pem"])
        .current_dir(dir.path())
        .stderr(Stdio::null())
        .status();
    if !made.is_ok_and(|status| status.success()) {
        return Err("openssl could not make a certificate; install openssl".to_owned());
    }
    let port =
        TcpListener::bind("127.0.0.1:0").and_then(|it| it.local_addr()).map_err(|it| it.to_string())?.port();
    let mut command = Command::new(&program);
    // The one that xtask unpacks has its libraries beside it; for one of a Debian these are the
    // same as without.
    if let Some(usr) = program.ancestors().nth(2) {
        command.env("LD_LIBRARY_PATH", usr.join("lib").join("x86_64-linux-gnu"));
    }
    let child = command
        .args([
            "--port",
            "0",
            "--bind",
            "127.0.0.1",
            "--save",
            "",
            "--appendonly",
            "no",
            "--tls-auth-clients",
            "no",
        ])
        .args(["--tls-port", &port.to_string(), "--tls-cert-file", "cert.pem", "--tls-key-file", "key.pem"])
        .args(["--tls-ca-cert-file", "cert.pem"])
        .current_dir(dir.path())
        .stdout(Stdio::null())
        .spawn()
        .map_err(|error| {
            format!("{}: {error}; run `cargo xtask prepare redis` or set {VARIABLE}", program.display())
        })?;
    Ok(Redis { child, port, dir })
}

impl Redis {
    pub(crate) async fn connect(&self, bytes: usize) -> Client {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(self.dir.path().join("cert.pem")).unwrap()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let began = Instant::now();
        let stream = loop {
            match TcpStream::connect(("127.0.0.1", self.port)).await {
                Ok(stream) => break stream,
                Err(error) => {
                    assert!(began.elapsed() < Duration::from_secs(10), "redis does not listen: {error}")
                }
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        };
        stream.set_nodelay(true).unwrap();
        let name = ServerName::try_from("localhost").unwrap();
        let mut stream = TlsConnector::from(Arc::new(config)).connect(name, stream).await.unwrap();
        stream.write_all(format!("*3\r\n$3\r\nSET\r\n$1\r\nk\r\n${bytes}\r\n").as_bytes()).await.unwrap();
        stream.write_all(&vec![7; bytes]).await.unwrap();
        stream.write_all(b"\r\n").await.unwrap();
        let mut ok = [0; 5];
        stream.read_exact(&mut ok).await.unwrap();
        assert_eq!(&ok, b"+OK\r\n");
        let (questions, waiting) = mpsc::channel(QUEUE);
        tokio::spawn(pump(stream, waiting, bytes));
        Client { questions }
    }
}

pub(crate) struct Client {
    questions: mpsc::Sender<oneshot::Sender<()>>,
}

impl Client {
    pub(crate) async fn get(&self) {
        let (sender, answer) = oneshot::channel();
        self.questions.send(sender).await.unwrap();
        answer.await.unwrap();
    }
}

/// Writes what waits with one write, reads what comes, and answers in order.
async fn pump(
    stream: tokio_rustls::client::TlsStream<TcpStream>,
    mut waiting: mpsc::Receiver<oneshot::Sender<()>>,
    bytes: usize,
) {
    let (mut reader, mut writer) = tokio::io::split(stream);
    let (asked, mut answers) = mpsc::channel::<oneshot::Sender<()>>(QUEUE);
    let whole = format!("${bytes}\r\n").len() + bytes + 2;
    tokio::spawn(async move {
        let (mut buffer, mut filled) = (vec![0; 64 * whole.max(1024)], 0);
        loop {
            match reader.read(&mut buffer[filled..]).await {
                Ok(read @ 1..) => filled += read,
                _ => return,
            }
            let complete = filled / whole;
            for answer in buffer[..complete * whole].chunks_exact(whole) {
                assert_eq!(answer[0], b'$');
                answers.recv().await.unwrap().send(()).ok();
            }
            buffer.copy_within(complete * whole..filled, 0);
            filled -= complete * whole;
        }
    });
    let (mut batch, mut out) = (Vec::new(), Vec::new());
    while waiting.recv_many(&mut batch, QUEUE).await > 0 {
        for sender in batch.drain(..) {
            out.extend_from_slice(GET);
            asked.send(sender).await.unwrap();
        }
        writer.write_all(&out).await.unwrap();
        writer.flush().await.unwrap();
        out.clear();
    }
}
