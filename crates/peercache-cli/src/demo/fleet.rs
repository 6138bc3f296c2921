//! The simulated CI jobs, run against the origin itself, a per-token cache, or a fleet of runners.

use std::net::SocketAddr;
use std::sync::Arc;

use peercache_fakehub::FakeHubHandle;
use peercache_fakehub::workload::{Answered, PerTokenCache, Tally, Workload, run, run_job};
use serde_json::Value;
use tokio::task::JoinSet;

use super::runners::Runners;
use crate::args::ServerArgs;
use crate::ask;
use crate::exit::Failure;

/// One run of all jobs.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) tally: Tally,
    pub(crate) nodes: Nodes,
}

/// The runners of a run.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Nodes {
    /// How many there were.
    pub(crate) started: usize,
    /// Of those, the ones that were connected with a peer when their job was done.
    pub(crate) connected: usize,
    /// Answers that were made of what another machine had put.
    pub(crate) from_peers: usize,
}

async fn origin(workload: &Workload) -> Result<Arc<FakeHubHandle>, Failure> {
    workload.origin().start().await.map(Arc::new).map_err(Failure::failed)
}

/// The jobs ask the origin themselves.
pub(crate) async fn without(workload: &Workload) -> Result<Run, Failure> {
    let hub = origin(workload).await?;
    Ok(Run { tally: run(workload, &hub, hub.addr()).await, nodes: Nodes::default() })
}

/// The jobs ask one proxy that keeps each answer for the token that asked.
pub(crate) async fn per_token(workload: &Workload) -> Result<Run, Failure> {
    let hub = origin(workload).await?;
    let failed = |error| Failure::failed(format!("the per-token cache cannot listen: {error}"));
    let proxy = PerTokenCache::start(hub.addr()).await.map_err(failed)?;
    Ok(Run { tally: run(workload, &hub, proxy.address()).await, nodes: Nodes::default() })
}

/// Each job asks a runner of its own, which starts with it, empty, and goes with it.
pub(crate) async fn with_peercache(workload: &Workload, dir: &std::path::Path) -> Result<Run, Failure> {
    let hub = origin(workload).await?;
    let (runners, anchor) = Runners::with_anchor(&hub.url(), dir).await?;
    let runners = Arc::new(runners);
    let begun = tokio::time::Instant::now();
    let mut jobs = JoinSet::new();
    for (number, job) in (0_u32..).zip(workload.jobs().iter().cloned()) {
        let (hub, runners) = (hub.clone(), runners.clone());
        jobs.spawn(async move {
            tokio::time::sleep_until(begun + job.start).await;
            let node = runners.start(number).await?;
            let address: SocketAddr = node.url().trim_start_matches("http://").parse().map_err(|_| {
                Failure::failed(format!("a runner listens on {}, which is no address", node.url()))
            })?;
            let answers = run_job(&job, &hub, address).await;
            let stats = ask::server(&ServerArgs { url: Some(node.url().to_owned()), socket: None }).await?;
            let connected = stats.pointer("/cache/backends/peers/connected").and_then(Value::as_u64);
            node.stop().await?;
            Ok::<_, Failure>((answers, connected.is_some_and(|count| count > 0)))
        });
    }
    let mut tally = Tally::default();
    let mut nodes = Nodes::default();
    while let Some(job) = jobs.join_next().await {
        let job = job.map_err(|error| Failure::failed(format!("a job of the demo broke: {error}")))?;
        let (answers, connected): (Vec<Answered>, bool) = job?;
        nodes.started += 1;
        nodes.connected += usize::from(connected);
        for answered in answers {
            let from_peers = answered.cache_status.as_deref().is_some_and(|status| status.contains("peers)"));
            nodes.from_peers += usize::from(from_peers);
            tally.add(answered);
        }
    }
    tally.close(&hub);
    anchor.stop().await?;
    Ok(Run { tally, nodes })
}
