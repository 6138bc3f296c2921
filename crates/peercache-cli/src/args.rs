//! The arguments of the commands, and how they are parsed.

use std::path::PathBuf;
use std::time::Duration;

use clap::builder::{PossibleValue, PossibleValuesParser};
use clap::{Args, Subcommand, ValueEnum};
use peercache::config::known_settings;

use crate::exit::Failure;
use crate::ledger::By;

#[cfg(feature = "demo")]
#[derive(Args, Debug)]
pub(crate) struct DemoArgs {
    /// Recorded exchanges whose reads are mixed in, one in JSON a line [default: @octokit/fixtures
    /// from npm]
    #[arg(long, value_name = "FILE")]
    pub(crate) corpus: Option<PathBuf>,

    /// Simulated CI jobs, each with a token of its own
    #[arg(long, default_value = "20", value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub(crate) jobs: u32,

    /// Seconds that the fleet runs
    #[arg(long, default_value = "30", value_parser = clap::value_parser!(u64).range(5..=3600))]
    pub(crate) seconds: u64,

    /// Decides everything that is random
    #[arg(long, default_value = "2026")]
    pub(crate) seed: u64,
}

#[derive(Args, Debug)]
pub(crate) struct IpfsArgs {
    #[command(subcommand)]
    pub(crate) command: IpfsCommand,
}

#[derive(Subcommand, Debug)]
pub(crate) enum IpfsCommand {
    /// Remove what has expired or is too much, then let the node drop every block that nothing
    /// links and nothing pins, also those of others
    Gc,
}

#[derive(Args, Debug)]
pub(crate) struct StorachaArgs {
    #[command(subcommand)]
    pub(crate) command: StorachaCommand,
}

#[derive(Subcommand, Debug)]
pub(crate) enum StorachaCommand {
    /// Print a WEB3_STORAGE_TOKEN, from what the official command line prints; what it grants goes
    /// to standard error
    Token(StorachaTokenArgs),
    /// Show what WEB3_STORAGE_TOKEN grants, never the key
    Show,
}

#[derive(Args, Debug)]
pub(crate) struct StorachaTokenArgs {
    /// The file with the agent's key (`storacha key create`); `-` is standard input
    #[arg(long, value_name = "FILE")]
    pub(crate) key: PathBuf,

    /// The file with the delegation to the agent (`storacha delegation create AGENT --can ...
    /// --base64`)
    #[arg(long, value_name = "FILE")]
    pub(crate) proof: PathBuf,

    /// The URL of the upload service, to keep in the token
    #[arg(long, value_name = "URL")]
    pub(crate) service: Option<String>,

    /// The DID of the upload service, to keep in the token
    #[arg(long, value_name = "DID")]
    pub(crate) did: Option<String>,
}

#[derive(Args, Debug)]
pub(crate) struct S3Args {
    #[command(subcommand)]
    pub(crate) command: S3Command,
}

#[derive(Subcommand, Debug)]
pub(crate) enum S3Command {
    /// Print the rule by which the bucket itself removes what has expired, or set it
    Lifecycle(LifecycleArgs),
}

#[derive(Args, Debug)]
pub(crate) struct LifecycleArgs {
    /// Days after which an object goes; below 31, what was removed can come back from a machine
    /// that was away
    #[arg(long, default_value_t = peercache::S3::DEFAULT_SWEEP_DAYS, value_parser = clap::value_parser!(u16).range(1..=3650))]
    pub(crate) days: u16,

    /// Add the rule to the bucket's; others stay
    #[arg(long)]
    pub(crate) apply: bool,
}

#[derive(Args, Debug)]
pub(crate) struct GetArgs {
    /// The key
    pub(crate) key: String,

    /// Write the value to this file instead of standard output
    #[arg(short, long, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,
}

#[derive(Args, Debug)]
pub(crate) struct PutArgs {
    /// The key
    pub(crate) key: String,

    /// The file to store; `-` is standard input
    #[arg(default_value = "-")]
    pub(crate) file: PathBuf,

    /// Seconds that the value is fresh, 1 to 2592000 (30 days) [default: CACHE_DEFAULT_TTL]
    #[arg(long, value_name = "SECONDS", value_parser = parse_ttl)]
    pub(crate) ttl: Option<Duration>,

    /// The media type of the value
    #[arg(long, value_name = "TYPE")]
    pub(crate) content_type: Option<String>,
}

#[derive(Args, Debug)]
pub(crate) struct InvalidateArgs {
    /// The keys
    #[arg(required_unless_present_any = ["all", "github"])]
    pub(crate) keys: Vec<String>,

    /// Everything in CACHE_NAMESPACE that was written before now
    #[arg(long, conflicts_with = "keys")]
    pub(crate) all: bool,

    /// What is known of a repository on GitHub: it is asked for again before it is served;
    /// repeatable
    #[arg(long, value_name = "OWNER/REPO", conflicts_with_all = ["keys", "all"])]
    pub(crate) github: Vec<String>,

    #[command(flatten)]
    pub(crate) server: ServerArgs,
}

#[derive(Args, Debug, Default)]
pub(crate) struct ServerArgs {
    /// The running `peercache serve` to ask [default: CACHE_SERVER_URL, else http://127.0.0.1:9180]
    #[arg(long, value_name = "URL")]
    pub(crate) url: Option<String>,

    /// The Unix socket of the running `peercache serve` to ask [default: CACHE_SOCKET]
    #[arg(long, value_name = "PATH", conflicts_with = "url")]
    pub(crate) socket: Option<PathBuf>,
}

#[derive(Args, Debug)]
pub(crate) struct PeersArgs {
    #[command(flatten)]
    pub(crate) server: ServerArgs,

    /// Show members that have left too, and ids in full
    #[arg(long)]
    pub(crate) all: bool,
}

#[derive(Args, Debug)]
pub(crate) struct StatsArgs {
    #[command(flatten)]
    pub(crate) server: ServerArgs,

    /// Show every counter instead of the few that say how it goes
    #[arg(long)]
    pub(crate) all: bool,

    /// Show who asked, and what was sent, charged and saved
    #[arg(long, value_name = "WHAT", conflicts_with_all = ["all", "disk"])]
    pub(crate) by: Option<By>,

    /// Look at the disk tier of CACHE_DIR instead of asking a server
    #[arg(long, conflicts_with_all = ["url", "socket"])]
    pub(crate) disk: bool,
}

#[derive(Args, Debug)]
pub(crate) struct ReportArgs {
    #[command(flatten)]
    pub(crate) server: ServerArgs,

    /// Append it to the summary of the GitHub Actions job instead of printing it
    #[arg(long)]
    pub(crate) github_step_summary: bool,
}

#[derive(Args, Debug)]
pub(crate) struct ExplainArgs {
    /// The key
    #[arg(required_unless_present = "url", conflicts_with = "url")]
    pub(crate) key: Option<String>,

    /// A URL or path of GitHub's API instead: why it is a hit or a miss now for the token in
    /// GH_TOKEN or GITHUB_TOKEN
    #[arg(long, value_name = "URL")]
    pub(crate) url: Option<String>,

    /// The file that holds the token; `-` is standard input. With --url
    #[arg(long, value_name = "FILE", requires = "url")]
    pub(crate) token_file: Option<PathBuf>,

    /// The Accept header of the request. With --url
    #[arg(long, value_name = "TYPE", requires = "url")]
    pub(crate) accept: Option<String>,

    /// The running `peercache serve` to ask, on this machine [default: CACHE_SERVER_URL, else
    /// http://127.0.0.1:9180]
    #[arg(long, value_name = "URL", requires = "url")]
    pub(crate) server: Option<String>,

    /// The Unix socket of the running `peercache serve` to ask [default: CACHE_SOCKET]
    #[arg(long, value_name = "PATH", requires = "url", conflicts_with = "server")]
    pub(crate) socket: Option<PathBuf>,
}

#[derive(Args, Debug)]
pub(crate) struct DoctorArgs {
    /// Print what mends each fault as a shell script, and do nothing
    #[arg(long, conflicts_with = "json")]
    pub(crate) fix: bool,
}

#[derive(Args, Debug)]
pub(crate) struct ConfigArgs {
    /// Show these settings only, by their key in the file
    #[arg(value_name = "KEY", value_parser = keys())]
    pub(crate) keys: Vec<String>,

    /// Show what there is to set, with kinds and defaults, instead of what is set
    #[arg(long)]
    pub(crate) list: bool,
}

#[derive(Args, Debug)]
pub(crate) struct KeygenArgs {
    /// Print the read-only form of a secret: it opens and verifies entries, and cannot make one
    #[arg(long)]
    pub(crate) read_only: bool,

    /// Print the public form of a secret: it opens public entries alone. For jobs of untrusted code
    #[arg(long, conflicts_with = "read_only")]
    pub(crate) public: bool,

    /// The file that holds the known secret; `-` is standard input [default: CACHE_SECRET, else
    /// standard input]
    #[arg(long, value_name = "FILE")]
    pub(crate) from: Option<PathBuf>,
}

#[derive(Args, Debug)]
pub(crate) struct CompletionsArgs {
    /// The shell to complete for
    pub(crate) shell: Shell,
}

#[derive(Args, Debug)]
pub(crate) struct ManArgs {
    /// The command whose page is printed, such as `s3 lifecycle` [default: peercache itself]
    pub(crate) command: Vec<String>,

    /// Write the page of every command into this folder instead
    #[arg(long, value_name = "DIR", conflicts_with = "command")]
    pub(crate) dir: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Shell {
    Bash,
    Elvish,
    Fish,
    Powershell,
    Zsh,
}

/// The keys of every setting, and `config` for the file itself.
fn keys() -> PossibleValuesParser {
    let known =
        known_settings().into_iter().map(|setting| PossibleValue::new(setting.key).help(setting.help));
    PossibleValuesParser::new(std::iter::once(PossibleValue::new("config")).chain(known))
}

pub(crate) fn parse_seconds(text: &str) -> Result<Duration, String> {
    text.parse().map(Duration::from_secs).map_err(|_| "give whole seconds".to_owned())
}

/// As [`parse_seconds`], within what an entry can have.
fn parse_ttl(text: &str) -> Result<Duration, String> {
    let most = peercache::backend::MAX_LIFETIME.as_secs();
    let in_range = |ttl: &Duration| (1..=most).contains(&ttl.as_secs());
    parse_seconds(text).ok().filter(in_range).ok_or_else(|| format!("give whole seconds, 1 to {most}"))
}

pub(crate) fn parse_mode(text: &str) -> Result<u32, String> {
    u32::from_str_radix(text, 8)
        .ok()
        .filter(|mode| *mode <= 0o777)
        .ok_or_else(|| "give an octal file mode such as 600 or 666".to_owned())
}

/// Host and URL of a route. What does not parse is not repeated: it may hold a password.
pub(crate) fn parse_route(text: &str) -> Result<(&str, &str), Failure> {
    text.split_once('=').filter(|(host, url)| !host.is_empty() && !url.is_empty()).ok_or_else(|| {
        Failure::config("--route: give HOST=URL, such as codeload.github.com=http://127.0.0.1:8080")
    })
}
