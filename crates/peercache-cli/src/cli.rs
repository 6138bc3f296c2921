//! The command line: what can be said, and its help.

use std::fmt::Write as _;

use clap::{CommandFactory as _, Parser, Subcommand};
use peercache::config::known_settings;
#[cfg(feature = "demo")]
use peercache_fakehub::FakeHubArgs;

#[cfg(feature = "demo")]
use crate::args::DemoArgs;
use crate::args::{
    CompletionsArgs, ConfigArgs, DoctorArgs, ExplainArgs, GetArgs, InvalidateArgs, IpfsArgs, KeygenArgs,
    PeersArgs, PutArgs, S3Args, Shell, StatsArgs, StorachaArgs,
};
use crate::ca::CaArgs;
use crate::exec::ExecArgs;
use crate::serve::ServeArgs;

const AFTER_HELP: &str = "\
Exit codes:
  0  done
  1  get: there is nothing fresh under this key; doctor: a check failed
  2  an argument or a setting is wrong; the message says which, and what is accepted
  3  it should have worked and did not
  exec ends with the code of its command

Settings come from the environment (CACHE_BACKEND, CACHE_DIR, CACHE_SECRET, ...), then from
the file that CACHE_CONFIG names; `peercache config` shows each and where it came from.
Logs go to standard error; RUST_LOG=debug or -v shows more.";

/// Share GitHub API responses between CI runners through a chain of caches.
#[derive(Debug, Parser)]
#[command(name = "peercache", version, after_help = AFTER_HELP, after_long_help = format!("{AFTER_HELP}\n\n{}", variables()))]
pub(crate) struct Cli {
    /// Print JSON instead of text, errors included
    #[arg(long, global = true)]
    pub(crate) json: bool,

    /// Log more; twice for more still
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub(crate) verbose: u8,

    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Answer GitHub API requests from the cache, for gh, octokit, curl and anything else
    Serve(ServeArgs),
    /// Run a command with a proxy of its own, and say what that saved
    Exec(ExecArgs),
    /// Make the certificate authority of this machine's forward proxy, or show it
    Ca(CaArgs),
    /// Show what the cache saves: 20 CI jobs with a token each, without, with a cache per token,
    /// and with peercache
    #[cfg(feature = "demo")]
    Demo(DemoArgs),
    /// Print the value under a key
    Get(GetArgs),
    /// Store a value under a key
    Put(PutArgs),
    /// Remove the values under keys, or everything
    Invalidate(InvalidateArgs),
    /// Show what a running `peercache serve` saved, or what the disk tier holds
    Stats(StatsArgs),
    /// Show the peers that a running `peercache serve` knows: role, round trip, bytes, state
    Peers(PeersArgs),
    /// Print this node's peer id, and what others put into CACHE_BOOTSTRAP_PEERS to find it
    Id,
    /// Look after the node of the IPFS tier
    Ipfs(IpfsArgs),
    /// Look after the bucket of the S3 tier
    S3(S3Args),
    /// Build and show the token of the Storacha tier
    Storacha(StorachaArgs),
    /// Say tier by tier what a read of a key would do, and why
    Explain(ExplainArgs),
    /// Find what does not work, why, and the line that mends it
    Doctor(DoctorArgs),
    /// Show every setting and where it came from
    Config(ConfigArgs),
    /// Print a new secret for CACHE_SECRET
    Keygen(KeygenArgs),
    /// Print shell completions
    Completions(CompletionsArgs),
    /// A GitHub-like origin for tests and the demo
    #[cfg(feature = "demo")]
    #[command(hide = true)]
    Fakehub(FakeHubArgs),
}

<<<<<<< HEAD
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

    /// Seconds that the value is fresh [default: CACHE_DEFAULT_TTL]
    #[arg(long, value_name = "SECONDS", value_parser = parse_seconds)]
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

    /// Look at the disk tier of CACHE_DIR instead of asking a server
    #[arg(long, conflicts_with_all = ["url", "socket"])]
    pub(crate) disk: bool,
}

#[derive(Args, Debug)]
pub(crate) struct ExplainArgs {
    /// The key
    pub(crate) key: String,
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

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Shell {
    Bash,
    Elvish,
    Fish,
    Powershell,
    Zsh,
}

=======
>>>>>>> main
/// The completions for `shell`.
pub(crate) fn completions(shell: Shell) -> Vec<u8> {
    let shell = match shell {
        Shell::Bash => clap_complete::Shell::Bash,
        Shell::Elvish => clap_complete::Shell::Elvish,
        Shell::Fish => clap_complete::Shell::Fish,
        Shell::Powershell => clap_complete::Shell::PowerShell,
        Shell::Zsh => clap_complete::Shell::Zsh,
    };
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "peercache", &mut script);
    script
}

/// The variables, for the end of `--help`.
fn variables() -> String {
    let mut text = String::from("Settings, by variable (`peercache config --list` says more):\n");
    for setting in known_settings() {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "  {:28} {}", setting.variables[0], setting.kind);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn page_of_commands_names_every_command_and_option() {
        let page = include_str!("../../../docs/reference/commands.md");
        let mut commands = vec![Cli::command()];
        while let Some(command) = commands.pop() {
            let name = command.get_name();
            assert!(page.contains(name), "docs/reference/commands.md does not name {name}");
            for long in command.get_arguments().filter_map(clap::Arg::get_long) {
                let option = format!("--{long}");
                assert!(page.contains(&option), "docs/reference/commands.md does not name {name} {option}");
            }
            commands.extend(command.get_subcommands().filter(|inner| !inner.is_hide_set()).cloned());
        }
    }
}
