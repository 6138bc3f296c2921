//! One member of a fleet: a `peercache serve` that keeps running, and job steps beside it.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::rc::Rc;
use std::time::Duration;

use crate::command::{Daemon, LIMIT, Output, run_within};
use crate::engine::Container;
use crate::namespace::Namespace;

/// Settings of a process: names and values of its environment.
pub(crate) type Settings = Vec<(String, String)>;

/// What tests do with a member, wherever it runs.
pub(crate) trait Node: std::fmt::Debug {
    fn name(&self) -> &str;
    /// Runs `peercache ARGS` beside the serving process, as a job's step does. Past `limit` the
    /// test fails.
    fn step_within(&self, args: &[&str], input: &[u8], limit: Duration) -> Output;
    /// What the serving process wrote.
    fn logs(&self) -> String;
    /// Ends the serving process with SIGKILL.
    fn kill(&mut self);

    fn step(&self, args: &[&str], input: &[u8]) -> Output {
        self.step_within(args, input, LIMIT)
    }
}

impl Node for Container {
    fn name(&self) -> &str {
        Self::name(self)
    }

    fn step_within(&self, args: &[&str], input: &[u8], limit: Duration) -> Output {
        self.exec_within(args, input, limit)
    }

    fn logs(&self) -> String {
        Self::logs(self)
    }

    fn kill(&mut self) {
        Self::kill(self);
    }
}

/// A member whose processes run in a network namespace.
#[derive(Debug)]
pub(crate) struct Process {
    name: String,
    place: Place,
    serve: Daemon,
}

/// Where processes run: in which network, which binary, with which settings.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    pub(crate) namespace: Rc<Namespace>,
    pub(crate) binary: PathBuf,
    pub(crate) settings: Settings,
}

impl Place {
    fn command(&self, args: &[&str]) -> Command {
        let mut command = self.namespace.command(&self.binary);
        command.args(args).envs(self.settings.iter().cloned());
        command
    }

    /// Runs `peercache ARGS` there, which is expected to end soon.
    pub(crate) fn step(&self, args: &[&str], input: &[u8]) -> Output {
        self.step_within(args, input, LIMIT)
    }

    /// Runs `peercache ARGS` there. Past `limit` the test fails.
    pub(crate) fn step_within(&self, args: &[&str], input: &[u8], limit: Duration) -> Output {
        run_within(self.command(args), input, limit)
    }
}

impl Process {
    /// Starts `peercache ARGS`, with settings that its steps do not have; `dir` is for its log.
    pub(crate) fn start(name: &str, place: Place, only_serve: Settings, args: &[&str], dir: &Path) -> Self {
        let mut command = place.command(args);
        command.envs(only_serve);
        let serve = Daemon::start(&command, &dir.join(format!("{name}.log")));
        Self { name: name.to_owned(), place, serve }
    }
}

impl Node for Process {
    fn name(&self) -> &str {
        &self.name
    }

    fn step_within(&self, args: &[&str], input: &[u8], limit: Duration) -> Output {
        self.place.step_within(args, input, limit)
    }

    fn logs(&self) -> String {
        self.serve.log()
    }

    fn kill(&mut self) {
        self.serve.kill();
    }
}
