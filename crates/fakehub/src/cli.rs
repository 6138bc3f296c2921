//! The command line: `fakehub`, and the same command inside another binary.

use std::fmt;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;

use clap::{Args, ValueEnum};

use crate::corpus::Corpus;
use crate::error::FakeHubError;
use crate::etag::EtagMode;
use crate::handle::{FakeHub, FakeHubBuilder};

/// [`EtagMode`] as an option's value.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum EtagArg {
    /// SHA-256 as GitHub was observed to compute it.
    #[default]
    Observed,
    /// HMAC with a secret of this process.
    Opaque,
}

impl From<EtagArg> for EtagMode {
    fn from(arg: EtagArg) -> Self {
        match arg {
            EtagArg::Observed => Self::Observed,
            EtagArg::Opaque => Self::Opaque,
        }
    }
}

/// An option's value that holds a token: it is never printed.
#[derive(Clone)]
pub struct TokenArg(String);

impl FromStr for TokenArg {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Debug for TokenArg {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TokenArg(not shown)")
    }
}

/// Serves recorded GitHub exchanges on a loopback port, with live validators, rate limits and a
/// log.
#[derive(Args, Clone, Debug)]
pub struct FakeHubArgs {
    /// Recorded exchanges: a file of JSON lines. Repeat it to serve several files
    #[arg(long, value_name = "FILE")]
    pub corpus: Vec<PathBuf>,
    /// Serve the fixtures of an unpacked @octokit/fixtures package
    #[arg(long, value_name = "DIR")]
    pub octokit_fixtures: Option<PathBuf>,
    /// Serve invented traffic of the same shapes and sizes, the same for the same number
    #[arg(long, value_name = "SEED")]
    pub generated: Option<u64>,
    /// How entity tags are made
    #[arg(long, value_enum, default_value_t)]
    pub etag: EtagArg,
    /// Write one JSON line per request into this file, which is emptied first
    #[arg(long, value_name = "FILE")]
    pub log: Option<PathBuf>,
    /// The address to listen on; port 0 picks a free one
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:0")]
    pub listen: SocketAddr,
    /// Put a token into a named rate-limit bucket that tokens share. Repeatable
    #[arg(long, value_name = "TOKEN=NAME[:LIMIT]")]
    pub bucket: Vec<TokenArg>,
    /// Count and charge, but refuse nobody when a rate limit is reached
    #[arg(long)]
    pub unlimited: bool,
    /// Show a repository to these tokens only. Repeatable
    #[arg(long, value_name = "OWNER/REPO=TOKEN[,TOKEN]")]
    pub private: Vec<TokenArg>,
    /// Answer this token with 401 Bad credentials. Repeatable
    #[arg(long, value_name = "TOKEN")]
    pub deny: Vec<TokenArg>,
    /// Enable POST /_fakehub/{fail,delay,truncate,touch,reset_log}, for tests
    #[arg(long)]
    pub control: bool,
    /// Write the corpus as JSON lines into this file, and exit
    #[arg(long, value_name = "FILE")]
    pub write_corpus: Option<PathBuf>,
}

/// Serves until SIGTERM or SIGINT. Prints `fakehub listening on http://ADDR` as its only line.
///
/// # Errors
/// [`FakeHubError`] when an argument is wrong, the corpus cannot be read, a file not written or the
/// address not listened on.
pub async fn run_cli(args: FakeHubArgs) -> Result<(), FakeHubError> {
    let corpus = corpus(&args)?;
    if let Some(path) = args.write_corpus {
        let written = File::create(&path).and_then(|file| corpus.write(BufWriter::new(file)));
        return written.map_err(|source| FakeHubError::Output { path, source });
    }
    let stopped = stop_signal()?;
    let hub = settings(corpus, &args)?.start().await?;
    let mut stdout = io::stdout();
    writeln!(stdout, "fakehub listening on {}", hub.url())
        .and_then(|()| stdout.flush())
        .map_err(|source| FakeHubError::System { what: "cannot write to standard output", source })?;
    stopped.await;
    hub.shutdown().await;
    Ok(())
}

fn corpus(args: &FakeHubArgs) -> Result<Corpus, FakeHubError> {
    if args.corpus.is_empty() && args.octokit_fixtures.is_none() && args.generated.is_none() {
        return Err(FakeHubError::Config(
            "nothing to serve: give --corpus FILE, --octokit-fixtures DIR or --generated SEED".to_owned(),
        ));
    }
    let mut corpus = Corpus::default();
    for path in &args.corpus {
        corpus.extend(Corpus::load(path)?);
    }
    if let Some(dir) = &args.octokit_fixtures {
        corpus.extend(Corpus::from_octokit_fixtures(dir)?);
    }
    if let Some(seed) = args.generated {
        corpus.extend(Corpus::generated(seed));
    }
    Ok(corpus)
}

fn settings(corpus: Corpus, args: &FakeHubArgs) -> Result<FakeHubBuilder, FakeHubError> {
    let mut builder =
        FakeHub::builder(corpus).etag(args.etag.into()).listen(args.listen).control(args.control);
    builder = builder.unlimited(args.unlimited);
    for TokenArg(value) in &args.bucket {
        let (token, name, limit) = bucket(value)?;
        builder = builder.bucket(token, name, limit);
    }
    for TokenArg(value) in &args.private {
        let (repository, tokens) = value.split_once('=').ok_or_else(|| {
            FakeHubError::Config(
                "--private: OWNER/REPO=TOKEN[,TOKEN] is expected; the value has no `=`".to_owned(),
            )
        })?;
        builder = builder.private(repository, tokens.split(',').filter(|token| !token.is_empty()));
    }
    for TokenArg(token) in &args.deny {
        builder = builder.deny(token);
    }
    Ok(match &args.log {
        Some(path) => builder.log_file(path),
        None => builder,
    })
}

/// Splits `TOKEN=NAME[:LIMIT]`. Errors show what follows the last `=` only.
fn bucket(value: &str) -> Result<(&str, &str, Option<u64>), FakeHubError> {
    let error =
        |what: String| FakeHubError::Config(format!("--bucket: TOKEN=NAME[:LIMIT] is expected; {what}"));
    let (token, rest) = value.rsplit_once('=').ok_or_else(|| error("the value has no `=`".to_owned()))?;
    let (name, limit) = match rest.rsplit_once(':') {
        None => (rest, None),
        Some((name, limit)) => match limit.parse() {
            Ok(limit) => (name, Some(limit)),
            Err(_) => return Err(error(format!("the limit {limit:?} is not a whole number"))),
        },
    };
    if token.is_empty() || name.is_empty() {
        return Err(error(format!("in \"…={rest}\" the token or the name is empty")));
    }
    Ok((token, name, limit))
}

/// Resolves at the first SIGTERM or SIGINT. The handlers are in place when this returns.
#[cfg(unix)]
fn stop_signal() -> Result<impl Future<Output = ()>, FakeHubError> {
    use tokio::signal::unix::{SignalKind, signal};
    let fail = |source| FakeHubError::System { what: "cannot wait for signals", source };
    let mut terminate = signal(SignalKind::terminate()).map_err(fail)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(fail)?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
}

/// Resolves at Ctrl-C.
#[cfg(not(unix))]
fn stop_signal() -> Result<impl Future<Output = ()>, FakeHubError> {
    Ok(async {
        if let Err(error) = tokio::signal::ctrl_c().await {
            eprintln!("fakehub: cannot wait for Ctrl-C, stopping: {error}");
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bucket_errors_do_not_show_the_token() {
        assert_eq!(bucket("a=b=repo:10").unwrap(), ("a=b", "repo", Some(10)));
        assert_eq!(bucket("t=repo").unwrap(), ("t", "repo", None));
        let text = |value| bucket(value).unwrap_err().to_string();
        let start = "--bucket: TOKEN=NAME[:LIMIT] is expected;";
        assert_eq!(text("secret"), format!("{start} the value has no `=`"));
        assert_eq!(text("secret=x:many"), format!("{start} the limit \"many\" is not a whole number"));
        assert_eq!(text("secret="), format!("{start} in \"…=\" the token or the name is empty"));
        assert_eq!(format!("{:?}", TokenArg("secret".to_owned())), "TokenArg(not shown)");
    }
}
