//! Runs a workload against a server, and has its origin judge every answer.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use tokio::task::JoinSet;

use super::Workload;
use super::answered::Answered;
use super::client::Client;
use super::model::Job;
use super::tally::Tally;
use crate::handle::FakeHubHandle;
use crate::judge::{Observation, Verdict};

/// Runs all jobs against the server at `address`, whose origin is `hub`: each starts at its time
/// and asks one request after another, as its script says. Returns when the last has ended.
///
/// Dropping the future ends all jobs.
pub async fn run(workload: &Workload, hub: &Arc<FakeHubHandle>, address: SocketAddr) -> Tally {
    let mut jobs = JoinSet::new();
    let started = tokio::time::Instant::now();
    for job in workload.jobs().iter().cloned() {
        let hub = hub.clone();
        jobs.spawn(async move {
            tokio::time::sleep_until(started + job.start).await;
            run_job(&job, &hub, address).await
        });
    }
    let mut tally = Tally::default();
    while let Some(ended) = jobs.join_next().await {
        match ended {
            Ok(answers) => answers.into_iter().for_each(|answered| tally.add(answered)),
            Err(error) => tally.broken_job(&error.to_string()),
        }
    }
    tally.close(hub);
    tally
}

/// Runs one job against the server at `address`, from its first request on.
pub async fn run_job(job: &Job, hub: &FakeHubHandle, address: SocketAddr) -> Vec<Answered> {
    let mut client = Client::new(address, job.token.clone(), job.gzip);
    let mut answers = Vec::with_capacity(job.steps.len());
    for step in &job.steps {
        tokio::time::sleep(step.pause).await;
        let (sent_at, begun) = (hub.now(), Instant::now());
        let answer = client.send(step).await;
        let (took, received_at) = (begun.elapsed(), hub.now());
        let (status, error, verdict, cache_status) = match answer {
            Err(error) => (None, Some(error), Verdict::Other, None),
            Ok(answer) => {
                let seen = Observation {
                    method: step.method,
                    target: &step.target,
                    accept: Some(&step.accept),
                    request_body: step.body.as_bytes(),
                    token: Some(&job.token),
                    status: answer.status,
                    body: &answer.body,
                    sent_at,
                    received_at,
                };
                let reads = step.method == "GET" || step.target == "/graphql";
                let verdict = if reads { hub.judge(&seen) } else { Verdict::Other };
                (Some(answer.status), None, verdict, answer.cache_status)
            }
        };
        answers.push(Answered {
            step: step.clone(),
            status,
            error,
            verdict,
            took,
            cache_status,
            foreign: job.foreign,
        });
    }
    answers
}
