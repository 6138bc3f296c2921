//! Redis: one server, a cluster of three, and a primary with a replica that Sentinel watches.

use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use super::ServerError;
use super::part::Program;
use super::process::{Process, free_ports, loopback, persistently};

const PROGRAM: Program = Program {
    name: "redis-server",
    variable: "PEERCACHE_TEST_REDIS",
    install: "install redis-server, or run `cargo xtask prepare redis`",
};
/// The longest that a command of a fixture may take.
const COMMAND_TIMEOUT: Duration = Duration::from_secs(10);
/// The longest that servers may take to find each other.
const FORMING: Duration = Duration::from_secs(60);

/// What a server is started with beyond the defaults: a TCP port, a Unix socket, nothing saved.
#[derive(Clone, Debug, Default)]
struct Options {
    tls: bool,
    more: Vec<String>,
}

/// One server of a test's own, on a loopback port and a Unix socket. It keeps its data in memory
/// alone, so that one which is killed and started again is empty.
#[derive(Debug)]
pub struct RedisServer {
    process: Process,
    program: PathBuf,
    port: u16,
    tls_port: Option<u16>,
    options: Options,
}

impl RedisServer {
    /// Starts it. `None`: the program is missing, which was said, and the test may skip.
    ///
    /// # Errors
    ///
    /// [`ServerError::Missing`] where skipping is forbidden, [`ServerError::Start`] with the end of
    /// its log when it does not answer, and what the machine denies: files, ports, processes.
    pub async fn start() -> Result<Option<Self>, ServerError> {
        Self::start_with(Options::default()).await
    }

    /// As [`RedisServer::start`], with a TLS port beside the plain one: [`RedisServer::tls_url`]
    /// and [`RedisServer::root_certificate`]. Needs the program `openssl`.
    ///
    /// # Errors
    ///
    /// As [`RedisServer::start`].
    pub async fn start_with_tls() -> Result<Option<Self>, ServerError> {
        Self::start_with(Options { tls: true, ..Options::default() }).await
    }

    async fn start_with(options: Options) -> Result<Option<Self>, ServerError> {
        let Some(program) = PROGRAM.find()? else { return Ok(None) };
        persistently(|| Self::start_once(&program, &options)).await.map(Some)
    }

    async fn start_once(program: &Path, options: &Options) -> Result<Self, ServerError> {
        let dir = tempfile::tempdir().map_err(ServerError::io("no temporary folder"))?;
        let [port, tls_port] = free_ports()?;
        if options.tls {
            make_certificate(dir.path())?;
        }
        let tls_port = options.tls.then_some(tls_port);
        let command = command(program, dir.path(), port, tls_port, options);
        let process = Process::start("redis-server", command, dir)?;
        let mut server =
            Self { process, program: program.to_owned(), port, tls_port, options: options.clone() };
        server.wait_until_it_answers().await?;
        Ok(server)
    }

    async fn wait_until_it_answers(&mut self) -> Result<(), ServerError> {
        let address = loopback(self.port);
        self.process
            .wait(|| async move {
                // An error of the server is an answer: it may ask for a password.
                ask(address, &["PING"]).map(drop).map_err(ServerError::io("the server does not answer"))
            })
            .await
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        loopback(self.port)
    }

    /// Its URL.
    #[must_use]
    pub fn url(&self) -> String {
        format!("redis://{}", self.address())
    }

    /// A command that runs `redis-cli` of the same version where it lies beside the server's
    /// program, or the one of the search path.
    #[must_use]
    pub fn client(&self) -> Command {
        let beside = self.program.with_file_name("redis-cli");
        let mut command = Command::new(if beside.is_file() { beside } else { PathBuf::from("redis-cli") });
        libraries(&mut command, &self.program);
        command
    }

    /// The URL with this login.
    #[must_use]
    pub fn url_with_login(&self, user: &str, password: &str) -> String {
        format!("redis://{user}:{password}@{}", self.address())
    }

    /// The URL of its Unix socket.
    #[must_use]
    pub fn socket_url(&self) -> String {
        format!("unix://{}", socket(self.process.dir()).display())
    }

    /// The URL of its TLS port.
    ///
    /// # Panics
    ///
    /// When it was not started with one.
    #[must_use]
    pub fn tls_url(&self) -> String {
        let port = self.tls_port.unwrap_or_else(|| panic!("the server was started without TLS"));
        format!("rediss://localhost:{port}")
    }

    /// The certificate of the authority that has signed its own, in PEM.
    ///
    /// # Errors
    ///
    /// [`ServerError::Io`] when it was not started with TLS.
    pub fn root_certificate(&self) -> Result<Vec<u8>, ServerError> {
        std::fs::read(self.process.dir().join("cert.pem"))
            .map_err(ServerError::io("the server has no certificate"))
    }

    /// Sends a command and returns the answer as text; an array's parts stand on lines of their
    /// own.
    ///
    /// # Errors
    ///
    /// [`ServerError::Io`] when it cannot be asked, or answers with an error.
    pub fn command(&self, words: &[&str]) -> Result<String, ServerError> {
        ask(self.address(), words).map_err(ServerError::io("the server refused a command"))
    }

    /// Sends a command after logging in as the default user.
    ///
    /// # Errors
    ///
    /// As [`RedisServer::command`].
    pub fn command_with_password(&self, password: &str, words: &[&str]) -> Result<String, ServerError> {
        let ask = || {
            let mut connection = Connection::open(self.address())?;
            connection.ask(&["AUTH", password])?;
            connection.ask(words)
        };
        ask().map_err(ServerError::io("the server refused a command"))
    }

    /// Ends it as a crash does. What it held is lost.
    pub fn kill(&mut self) {
        self.process.kill();
    }

    /// Starts it again where it was, empty.
    ///
    /// # Errors
    ///
    /// As [`RedisServer::start`].
    pub async fn restart(&mut self) -> Result<(), ServerError> {
        let command = command(&self.program, self.process.dir(), self.port, self.tls_port, &self.options);
        self.process.restart(command)?;
        self.wait_until_it_answers().await
    }

    /// Stops it without ending it (`SIGSTOP`): connections stay and nothing answers.
    ///
    /// # Errors
    ///
    /// [`ServerError::Io`] when no signal can be sent.
    pub fn pause(&self) -> Result<(), ServerError> {
        self.signal("-STOP")
    }

    /// Lets it go on (`SIGCONT`).
    ///
    /// # Errors
    ///
    /// As [`RedisServer::pause`].
    pub fn resume(&self) -> Result<(), ServerError> {
        self.signal("-CONT")
    }

    fn signal(&self, signal: &str) -> Result<(), ServerError> {
        let sent = Command::new("kill").arg(signal).arg(self.process.id().to_string()).status();
        match sent {
            Ok(status) if status.success() => Ok(()),
            Ok(_) => Err(ServerError::io("the process takes no signal")(io::ErrorKind::NotFound.into())),
            Err(error) => Err(ServerError::io("kill")(error)),
        }
    }
}

/// A cluster of three primaries on loopback ports.
#[derive(Debug)]
pub struct RedisCluster {
    nodes: Vec<RedisServer>,
}

impl RedisCluster {
    /// Starts the nodes and shares the slots among them. `None`: the program is missing, which was
    /// said, and the test may skip.
    ///
    /// # Errors
    ///
    /// As [`RedisServer::start`], and [`ServerError::Start`] when the nodes do not find each other.
    pub async fn start() -> Result<Option<Self>, ServerError> {
        let mut nodes = Vec::new();
        for _ in 0..3 {
            // The default port of the cluster's bus, 10000 above, would not be free for every port.
            let [bus] = free_ports()?;
            let more = ["--cluster-enabled", "yes", "--cluster-node-timeout", "2000", "--cluster-port"];
            let more = more.iter().map(ToString::to_string).chain([bus.to_string()]).collect();
            let Some(node) = RedisServer::start_with(Options { tls: false, more }).await? else {
                return Ok(None);
            };
            nodes.push((node, bus));
        }
        let ranges = [("0", "5460"), ("5461", "10922"), ("10923", "16383")];
        for ((node, _), (first, last)) in nodes.iter().zip(ranges) {
            node.command(&["CLUSTER", "ADDSLOTSRANGE", first, last])?;
        }
        for (node, bus) in &nodes[1..] {
            let (port, bus) = (node.port.to_string(), bus.to_string());
            nodes[0].0.command(&["CLUSTER", "MEET", "127.0.0.1", &port, &bus])?;
        }
        let nodes: Vec<_> = nodes.into_iter().map(|(node, _)| node).collect();
        for node in &nodes {
            formed("the nodes do not form a cluster", || {
                let state = node.command(&["CLUSTER", "INFO"])?;
                Ok(state.contains("cluster_state:ok") && state.contains("cluster_known_nodes:3"))
            })
            .await?;
        }
        Ok(Some(Self { nodes }))
    }

    /// The URL that names every node.
    #[must_use]
    pub fn url(&self) -> String {
        let nodes: Vec<_> = self.nodes.iter().map(|node| node.address().to_string()).collect();
        format!("redis://{}", nodes.join(","))
    }

    /// The nodes.
    #[must_use]
    pub fn nodes(&mut self) -> &mut [RedisServer] {
        &mut self.nodes
    }
}

/// A primary, its replica, and a Sentinel that promotes the replica when the primary is gone.
#[derive(Debug)]
pub struct RedisSentinel {
    servers: [RedisServer; 2],
    // Held for its end.
    _sentinel: Process,
    port: u16,
}

/// The name that Sentinel knows the primary by.
const PRIMARY: &str = "peercache-test";

impl RedisSentinel {
    /// Starts all three. `None`: the program is missing, which was said, and the test may skip.
    ///
    /// # Errors
    ///
    /// As [`RedisCluster::start`].
    pub async fn start() -> Result<Option<Self>, ServerError> {
        let Some(primary) = RedisServer::start().await? else { return Ok(None) };
        let primary_port = primary.port.to_string();
        let more = vec!["--replicaof".to_owned(), "127.0.0.1".to_owned(), primary_port.clone()];
        let Some(replica) = RedisServer::start_with(Options { tls: false, more }).await? else {
            return Ok(None);
        };
        formed("the replica does not follow", || {
            Ok(replica.command(&["INFO", "replication"])?.contains("master_link_status:up"))
        })
        .await?;
        let dir = tempfile::tempdir().map_err(ServerError::io("no temporary folder"))?;
        let [port] = free_ports()?;
        let config = dir.path().join("sentinel.conf");
        let text = format!(
            "port {port}\nbind 127.0.0.1\n\
             sentinel monitor {PRIMARY} 127.0.0.1 {primary_port} 1\n\
             sentinel down-after-milliseconds {PRIMARY} 500\n\
             sentinel failover-timeout {PRIMARY} 3000\n"
        );
        std::fs::write(&config, text).map_err(ServerError::io("sentinel.conf"))?;
        let mut command = Command::new(&primary.program);
        libraries(&mut command, &primary.program);
        command.arg(&config).arg("--sentinel");
        let mut sentinel = Process::start("redis-server --sentinel", command, dir)?;
        sentinel
            .wait(|| async move {
                ask(loopback(port), &["PING"]).map(drop).map_err(ServerError::io("Sentinel does not answer"))
            })
            .await?;
        formed("Sentinel does not see the replica", || {
            let seen = ask(loopback(port), &["SENTINEL", "replicas", PRIMARY]);
            Ok(seen.map_err(ServerError::io("Sentinel"))?.contains(&replica.port.to_string()))
        })
        .await?;
        Ok(Some(Self { servers: [primary, replica], _sentinel: sentinel, port }))
    }

    /// The URL of the primary, whichever it is.
    #[must_use]
    pub fn url(&self) -> String {
        format!("redis+sentinel://{}/{PRIMARY}", loopback(self.port))
    }

    /// The server that was the primary at first.
    pub fn first_primary(&mut self) -> &mut RedisServer {
        &mut self.servers[0]
    }

    /// The server that was the replica at first.
    #[must_use]
    pub fn first_replica(&self) -> &RedisServer {
        &self.servers[1]
    }
}

fn socket(dir: &Path) -> PathBuf {
    dir.join("redis.sock")
}

/// The one that xtask unpacks has its libraries beside it; for one of a Debian these are the same
/// as without.
fn libraries(command: &mut Command, program: &Path) {
    if let Some(usr) = program.ancestors().nth(2) {
        command.env("LD_LIBRARY_PATH", usr.join("lib").join("x86_64-linux-gnu"));
    }
}

fn command(program: &Path, dir: &Path, port: u16, tls_port: Option<u16>, options: &Options) -> Command {
    let mut command = Command::new(program);
    libraries(&mut command, program);
    command.args(["--port", &port.to_string(), "--bind", "127.0.0.1"]);
    command.args(["--save", "", "--appendonly", "no", "--daemonize", "no"]);
    command.arg("--unixsocket").arg(socket(dir)).arg("--dir").arg(dir);
    if let Some(tls_port) = tls_port {
        command.args(["--tls-port", &tls_port.to_string(), "--tls-auth-clients", "no"]);
        command.arg("--tls-cert-file").arg(dir.join("cert.pem"));
        command.arg("--tls-key-file").arg(dir.join("key.pem"));
        command.arg("--tls-ca-cert-file").arg(dir.join("cert.pem"));
    }
    command.args(&options.more);
    command
}

fn make_certificate(dir: &Path) -> Result<(), ServerError> {
    let made = Command::new("openssl")
        .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"])
        .args(["-days", "2", "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"])
        .args(["-addext", "basicConstraints=critical,CA:FALSE"])
        .args(["-keyout", "key.pem", "-out", "cert.pem"])
        .current_dir(dir)
        .stderr(Stdio::null())
        .status();
    match made {
        Ok(status) if status.success() => Ok(()),
        Ok(_) => Err(ServerError::io("openssl made no certificate")(io::ErrorKind::Other.into())),
        Err(error) => Err(ServerError::io("openssl, which makes the certificate; install it")(error)),
    }
}

/// Waits until `done` holds.
async fn formed(
    what: &'static str,
    mut done: impl FnMut() -> Result<bool, ServerError>,
) -> Result<(), ServerError> {
    let began = Instant::now();
    while !done()? {
        if began.elapsed() > FORMING {
            return Err(ServerError::Start {
                program: "redis-server",
                why: format!("{what} within {} s", FORMING.as_secs()),
                log: String::new(),
            });
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    Ok(())
}

fn ask(address: SocketAddr, words: &[&str]) -> io::Result<String> {
    Connection::open(address)?.ask(words)
}

/// A connection of a fixture, in the protocol's older form.
struct Connection(BufReader<TcpStream>);

impl Connection {
    fn open(address: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect_timeout(&address, COMMAND_TIMEOUT)?;
        stream.set_read_timeout(Some(COMMAND_TIMEOUT))?;
        Ok(Self(BufReader::new(stream)))
    }

    fn ask(&mut self, words: &[&str]) -> io::Result<String> {
        let mut command = format!("*{}\r\n", words.len());
        for word in words {
            command.push_str(&format!("${}\r\n{word}\r\n", word.len()));
        }
        self.0.get_mut().write_all(command.as_bytes())?;
        self.read()
    }

    fn read(&mut self) -> io::Result<String> {
        let mut line = String::new();
        if self.0.read_line(&mut line)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let line = line.trim_end();
        let (kind, rest) = line.split_at(line.len().min(1));
        let number =
            || rest.parse::<i64>().map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error));
        match kind {
            "+" | ":" => Ok(rest.to_owned()),
            "-" => Err(io::Error::other(rest.to_owned())),
            "$" => {
                let Ok(length) = usize::try_from(number()?) else { return Ok(String::new()) };
                let mut bytes = vec![0; length + 2];
                self.0.read_exact(&mut bytes)?;
                bytes.truncate(length);
                Ok(String::from_utf8_lossy(&bytes).into_owned())
            }
            "*" => {
                let parts: io::Result<Vec<_>> = (0..number()?.max(0)).map(|_| self.read()).collect();
                Ok(parts?.join("\n"))
            }
            _ => Err(io::Error::new(io::ErrorKind::InvalidData, format!("no answer of Redis: {line}"))),
        }
    }
}
