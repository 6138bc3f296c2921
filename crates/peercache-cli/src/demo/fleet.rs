//! The simulated CI jobs: each reads the recorded resources, one after another, several jobs at once.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use reqwest::header::{ACCEPT, AUTHORIZATION, HeaderValue};
use serde::Deserialize;
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use tokio::sync::Semaphore;

use super::corpus::{Read, Traffic};
use super::runners::Runners;
use crate::ask;
use crate::cli::ServerArgs;
use crate::exit::Failure;

/// The token that all jobs share; it only ever reaches the demo's own origin.
const TOKEN: &str = "token demo-token-of-one-fleet";

/// All jobs of the demo.
#[derive(Debug)]
pub(crate) struct Fleet {
    client: reqwest::Client,
    reads: Arc<[Read]>,
    jobs: u32,
    parallel: u32,
}

/// One answer, as a job saw it.
#[derive(Debug)]
pub(crate) struct Answer {
    read: usize,
    status: u16,
    body: [u8; 32],
    took: Duration,
    /// Whether it came from the cache without asking the origin, by its own word.
    pub(crate) hit: bool,
    /// Whether what it was made of came from another machine, by its own word.
    pub(crate) from_peers: bool,
}

/// What the origin's log says about a run.
#[derive(Debug, Default)]
pub(crate) struct Origin {
    pub(crate) calls: usize,
    pub(crate) charged: usize,
    pub(crate) not_modified: usize,
}

/// All answers of a run, and the origin's side of it.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) answers: Vec<Answer>,
    pub(crate) origin: Origin,
    pub(crate) nodes: Nodes,
}

/// The runners of a run.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Nodes {
    /// How many there were.
    pub(crate) started: usize,
    /// Of those, the ones that were connected with a peer when their job was done.
    pub(crate) connected: usize,
}

/// Where the jobs send their requests.
#[derive(Clone, Debug)]
pub(crate) enum Place {
    /// All to this one.
    Origin(String),
    /// Each to a runner of its own.
    Runners(Arc<Runners>),
}

impl Fleet {
    pub(crate) fn new(traffic: &Traffic, jobs: u32, parallel: u32) -> Result<Self, Failure> {
        let client = ask::client(|client| {
            client
                .redirect(reqwest::redirect::Policy::none())
                .timeout(Duration::from_secs(30))
                .user_agent("peercache-demo")
        })?;
        Ok(Self { client, reads: traffic.reads.clone().into(), jobs, parallel })
    }

    pub(crate) fn requests_per_job(&self) -> usize {
        self.reads.len()
    }

    /// Runs every job.
    pub(crate) async fn run(&self, place: &Place) -> Result<(Vec<Answer>, Nodes), Failure> {
        let slots = Arc::new(Semaphore::new(self.parallel as usize));
        let mut jobs = tokio::task::JoinSet::new();
        for job in 0..self.jobs {
            let (client, reads) = (self.client.clone(), Arc::clone(&self.reads));
            let (place, slots) = (place.clone(), Arc::clone(&slots));
            jobs.spawn(async move {
                let _slot = slots.acquire_owned().await;
                match place {
                    Place::Origin(base) => Ok((run_job(&client, &base, &reads).await?, None)),
                    Place::Runners(runners) => run_on_its_own(&client, &runners, job, &reads).await,
                }
            });
        }
        let mut nodes = Nodes::default();
        let mut answers = Vec::with_capacity(self.jobs as usize * self.reads.len());
        while let Some(job) = jobs.join_next().await {
            let job = job.map_err(|error| Failure::failed(format!("a job of the demo broke: {error}")))?;
            let (of_job, connected) = job?;
            answers.extend(of_job);
            nodes.started += usize::from(connected.is_some());
            nodes.connected += usize::from(connected == Some(true));
        }
        Ok((answers, nodes))
    }
}

/// Runs a job on a runner that is started for it and ended after it; also whether that had a peer.
async fn run_on_its_own(
    client: &reqwest::Client,
    runners: &Runners,
    job: u32,
    reads: &[Read],
) -> Result<(Vec<Answer>, Option<bool>), Failure> {
    let node = runners.start(job).await?;
    let answers = run_job(client, node.url(), reads).await?;
    let stats = ask::server(&ServerArgs { url: Some(node.url().to_owned()), socket: None }).await?;
    let connected = stats.pointer("/cache/backends/peers/connected").and_then(Value::as_u64);
    node.stop().await?;
    Ok((answers, Some(connected.is_some_and(|count| count > 0))))
}

async fn run_job(client: &reqwest::Client, base: &str, reads: &[Read]) -> Result<Vec<Answer>, Failure> {
    let mut answers = Vec::with_capacity(reads.len());
    for (index, read) in reads.iter().enumerate() {
        let broken =
            |error: reqwest::Error| Failure::failed(format!("a request of the demo failed: {error}"));
        let mut request = client
            .get(format!("{base}{}", read.target))
            .header(AUTHORIZATION, HeaderValue::from_static(TOKEN));
        if let Some(accept) = &read.accept {
            request = request.header(ACCEPT, accept);
        }
        let started = Instant::now();
        let response = request.send().await.map_err(broken)?;
        let status = response.status().as_u16();
        let status_line = response
            .headers()
            .get("cache-status")
            .map(|status| String::from_utf8_lossy(status.as_bytes()).into_owned())
            .unwrap_or_default();
        let hit = status_line.starts_with("peercache; hit");
        let from_peers = hit && status_line.contains("peers)");
        let body = response.bytes().await.map_err(broken)?;
        let took = started.elapsed();
        answers.push(Answer {
            read: index,
            status,
            body: Sha256::digest(&body).into(),
            took,
            hit,
            from_peers,
        });
    }
    Ok(answers)
}

impl Run {
    /// Joins the jobs' answers with the origin's log.
    pub(crate) fn new((answers, nodes): (Vec<Answer>, Nodes), log: &Path) -> Result<Self, Failure> {
        #[derive(Deserialize)]
        struct Line {
            status: u16,
            charged: bool,
        }
        let text = std::fs::read_to_string(log)
            .map_err(|error| Failure::failed(format!("cannot read the origin's log: {error}")))?;
        let mut origin = Origin::default();
        for line in text.lines() {
            let line: Line = serde_json::from_str(line)
                .map_err(|error| Failure::failed(format!("cannot read the origin's log: {error}")))?;
            origin.calls += 1;
            origin.charged += usize::from(line.charged);
            origin.not_modified += usize::from(line.status == 304);
        }
        Ok(Self { answers, origin, nodes })
    }

    /// The times of the answers that `which` picks, in ascending order.
    pub(crate) fn latencies(&self, which: impl Fn(&Answer) -> bool) -> Vec<Duration> {
        let mut times: Vec<_> =
            self.answers.iter().filter(|answer| which(answer)).map(|answer| answer.took).collect();
        times.sort_unstable();
        times
    }
}

/// The value below which `percent` of the ascending `times` lie, in microseconds; 0 without any.
pub(crate) fn percentile(times: &[Duration], percent: usize) -> f64 {
    let last = times.len().saturating_sub(1);
    times.get(last * percent / 100).map_or(0.0, |time| time.as_secs_f64() * 1e6)
}

/// How many answers of `with` have another status or body than `without` gave for the same read.
pub(crate) fn differing(without: &[Answer], with: &[Answer]) -> usize {
    let direct: HashMap<_, _> =
        without.iter().map(|answer| (answer.read, (answer.status, answer.body))).collect();
    with.iter().filter(|answer| direct.get(&answer.read) != Some(&(answer.status, answer.body))).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_values_that_were_measured() {
        let times: Vec<_> = (1..=100).map(Duration::from_micros).collect();
        assert!((percentile(&times, 50) - 50.0).abs() < 0.01);
        assert!((percentile(&times, 99) - 99.0).abs() < 0.01);
        assert!((percentile(&[], 99)).abs() < 0.01);
    }
}
