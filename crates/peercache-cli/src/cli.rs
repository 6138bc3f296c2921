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
    ManArgs, PeersArgs, PutArgs, ReportArgs, S3Args, Shell, StatsArgs, StorachaArgs,
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
    /// Print what a running `peercache serve` did as Markdown, for the summary of a CI job
    Report(ReportArgs),
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
    /// Print a manual page, or write all of them into a folder
    Man(ManArgs),
    /// A GitHub-like origin for tests and the demo
    #[cfg(feature = "demo")]
    #[command(hide = true)]
    Fakehub(FakeHubArgs),
}

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
