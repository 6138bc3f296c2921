//! Network namespaces: hosts of their own on this machine, without names that could collide or be
//! left behind.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::rc::Rc;

use crate::command::{Daemon, LIMIT, Output, eventually, run};
use crate::tools::Tools;

/// A network and mount namespace. It exists as long as its holder, a process that sleeps.
#[derive(Debug)]
pub(crate) struct Namespace {
    holder: Daemon,
    tools: Tools,
}

impl Namespace {
    /// A new one, with nothing in its network but a loopback interface that is up. `dir` is for its
    /// log.
    pub(crate) fn new(tools: &Tools, dir: &Path, name: &str) -> Rc<Self> {
        let mut command = tools.command("unshare");
        command.args([
            "--net",
            "--mount",
            "bash",
            "-c",
            "ip link set lo up && echo ready && exec sleep infinity",
        ]);
        let mut holder = Daemon::start(&command, &dir.join(format!("{name}.namespace.log")));
        eventually("a network namespace", LIMIT, || match holder.ended() {
            Some(status) => panic!("no network namespace can be made: {status}: {}", holder.log()),
            None if holder.log().contains("ready") => Ok(()),
            None => Err(holder.log()),
        });
        Rc::new(Self { holder, tools: tools.clone() })
    }

    /// The process that a command of `ip` names it by.
    pub(crate) fn id(&self) -> String {
        self.holder.id().to_string()
    }

    /// `program` inside, in an environment that holds nothing but the search path.
    pub(crate) fn command(&self, program: impl Into<PathBuf>) -> Command {
        let mut command = self.tools.command("nsenter");
        let id = self.id();
        command.args([format!("--net=/proc/{id}/ns/net"), format!("--mount=/proc/{id}/ns/mnt")]);
        command.arg("--").arg(program.into());
        command
    }

    /// Runs a shell script inside; it must succeed.
    #[track_caller]
    pub(crate) fn script(&self, script: &str) -> Output {
        let mut command = self.command("bash");
        command.args(["-euc", script]);
        run(command, b"").ok(script)
    }
}
