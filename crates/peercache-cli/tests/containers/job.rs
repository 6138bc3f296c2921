//! A job that uses the library in its own process, for as long as a test talks with it.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use peercache::chain::Outcome;
use peercache::{Cache, Key, Ttl};
use serde_json::{Value, json};

use crate::command::leashed;
use crate::namespace::Namespace;
use crate::node::Settings;

const MARK: &str = "answer: ";
const VARIABLE: &str = "PEERCACHE_TEST_IS_A_JOB";

/// The other end of a job.
#[derive(Debug)]
pub(crate) struct Job {
    child: Child,
    questions: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Job {
    /// Starts one in `namespace`, its cache as `settings` say.
    pub(crate) fn start(namespace: &Namespace, settings: &Settings) -> Self {
        let mut command: Command = namespace.command(std::env::current_exe().unwrap());
        command.args(["--ignored", "--exact", "--nocapture", "job::a_job_of_its_own"]);
        command.envs(settings.iter().cloned()).env(VARIABLE, "true");
        let mut child = leashed(&command).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let (questions, answers) =
            (child.stdin.take().unwrap(), BufReader::new(child.stdout.take().unwrap()));
        let mut job = Self { child, questions, answers };
        job.answer();
        job
    }

    /// Asks, and waits for the answer.
    fn ask(&mut self, question: &Value) -> Value {
        writeln!(self.questions, "{question}").unwrap();
        self.answer()
    }

    fn answer(&mut self) -> Value {
        let mut line = String::new();
        loop {
            line.clear();
            assert_ne!(self.answers.read_line(&mut line).unwrap(), 0, "the job ended");
            // The test harness may have begun the line.
            if let Some((_, answer)) = line.split_once(MARK) {
                return serde_json::from_str(answer).unwrap();
            }
        }
    }

    /// Puts `count` values under `PREFIX-0`, `PREFIX-1` and so on; how many were stored.
    pub(crate) fn put(&mut self, prefix: &str, count: u64) -> u64 {
        self.ask(&json!({ "put": prefix, "count": count }))["stored"].as_u64().unwrap()
    }

    /// Reads what [`Job::put`] puts; how many hits there were, and whether each had its own value.
    pub(crate) fn hits(&mut self, prefix: &str, count: u64) -> u64 {
        let answer = self.ask(&json!({ "get": prefix, "count": count }));
        assert_eq!(answer["wrong"], 0, "{answer}");
        answer["hits"].as_u64().unwrap()
    }

    /// Looks up one key: outcome, tier, why tiers were skipped, and how long it took.
    pub(crate) fn lookup(&mut self, key: &str) -> (Value, Duration) {
        let answer = self.ask(&json!({ "lookup": key }));
        let took = Duration::from_micros(answer["micros"].as_u64().unwrap());
        (answer, took)
    }

    /// The cache's report.
    pub(crate) fn report(&mut self) -> Value {
        self.ask(&json!({ "report": true }))
    }

    /// Sends SIGKILL and waits.
    pub(crate) fn kill(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Job {
    fn drop(&mut self) {
        self.kill();
    }
}

fn value(prefix: &str, number: u64) -> String {
    format!("{prefix}, value {number}; ").repeat(40)
}

fn key(prefix: &str, number: u64) -> Key {
    Key::new(format!("{prefix}-{number}")).unwrap()
}

#[test]
#[ignore = "not a test: other tests start it as a process of its own"]
fn a_job_of_its_own() {
    if std::env::var_os(VARIABLE).is_none() {
        return;
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let cache = runtime.block_on(Cache::from_env("peercache")).unwrap();
    println!("{MARK}{}", json!({ "ready": true }));
    for line in std::io::stdin().lines() {
        let question: Value = serde_json::from_str(&line.unwrap()).unwrap();
        println!("{MARK}{}", runtime.block_on(answer(&cache, &question)));
    }
    runtime.block_on(cache.close()).unwrap();
}

async fn answer(cache: &Cache, question: &Value) -> Value {
    let count = question["count"].as_u64().unwrap_or(0);
    if let Some(prefix) = question["put"].as_str() {
        let mut stored = 0;
        for number in 0..count {
            let put = cache.put_bytes(&key(prefix, number), value(prefix, number), Ttl::from_secs(600)).await;
            stored += u64::from(put.unwrap().is_stored());
        }
        json!({ "stored": stored })
    } else if let Some(prefix) = question["get"].as_str() {
        let (mut hits, mut wrong) = (0, 0);
        for number in 0..count {
            match cache.get_bytes(&key(prefix, number)).await {
                Some(found) if found == value(prefix, number).as_bytes() => hits += 1,
                Some(_) => wrong += 1,
                None => {}
            }
        }
        json!({ "hits": hits, "wrong": wrong })
    } else if let Some(text) = question["lookup"].as_str() {
        let key = Key::new(text).unwrap();
        let started = Instant::now();
        let lookup = cache.lookup(&key).await;
        let micros = u64::try_from(started.elapsed().as_micros()).unwrap();
        let outcome = match lookup.outcome {
            Outcome::Hit => "hit",
            Outcome::Stale => "stale",
            Outcome::Miss => "miss",
        };
        let skipped: Vec<_> =
            lookup.trace.iter().map(|t| json!({ "tier": t.tier, "reason": t.skip.to_string() })).collect();
        json!({ "outcome": outcome, "tier": lookup.tier, "skipped": skipped, "micros": micros })
    } else {
        serde_json::to_value(cache.report()).unwrap()
    }
}
