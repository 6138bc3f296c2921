//! The jobs: pushes, the workflows that each starts, and the tokens.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::model::{FOREIGN_BUCKET, Grant, Job, Options, Step};
use super::steps::{Script, Use};
use super::world::{Repository, World};
use crate::access::TokenKind;
use crate::random::Random;

/// Workflows that a push starts.
const WORKFLOWS: u64 = 2;
/// Jobs of one run start within this time.
const START_WITHIN_MILLIS: u64 = 4000;
/// An autoscaler looks this often.
const POLL_MILLIS: u64 = 10_000;
/// Core requests per hour of a `GITHUB_TOKEN`, for all jobs of its repository.
const JOB_LIMIT: u64 = 1000;
const OTHER_LIMIT: u64 = 5000;
/// How often a foreign token asks.
const FOREIGN_MILLIS: u64 = 400;

/// A token as GitHub makes them for jobs since 2026: `ghs_`, then a JWT; about 520 characters.
fn job_token(random: &mut Random) -> String {
    let mut part = |bytes: usize| {
        let bytes: Vec<u8> = (0..bytes).map(|_| random.next().to_be_bytes()[0]).collect();
        URL_SAFE_NO_PAD.encode(bytes)
    };
    // As long as a header, claims and an RS256 signature of GitHub's are.
    format!("ghs_{}.{}.{}", part(54), part(76), part(256))
}

fn plain_token(prefix: &str, random: &mut Random) -> String {
    format!("{prefix}{:016x}{:016x}{:04x}", random.next(), random.next(), random.next() >> 48)
}

/// All jobs, by start, and their tokens.
pub(super) fn jobs(options: &Options, world: &World) -> (Vec<Job>, Vec<Grant>) {
    let mut random = Random::of(options.seed, "jobs");
    let everything: Vec<String> = world.own.iter().map(Repository::full_name).collect();
    let poller_token = plain_token("ghs_", &mut random);
    let mut grants = vec![Grant {
        token: poller_token.clone(),
        kind: TokenKind::App,
        bucket: ("installation-1".to_owned(), OTHER_LIMIT),
        repositories: everything.clone(),
    }];
    let shared = match options.tokens {
        TokenKind::Job => None,
        TokenKind::App => Some(poller_token.clone()),
        TokenKind::Personal => {
            let token = plain_token("github_pat_", &mut random);
            grants.push(Grant {
                token: token.clone(),
                kind: TokenKind::Personal,
                bucket: ("user-1".to_owned(), OTHER_LIMIT),
                repositories: everything.clone(),
            });
            Some(token)
        }
    };
    let millis = u64::try_from(options.duration.as_millis()).unwrap_or(u64::MAX);
    // The last job shall have time to end.
    let pushes_within = millis * 6 / 10;
    let pause = (millis / 60).max(20);
    let mut jobs = Vec::new();
    let mut run = 0;
    while jobs.len() < options.jobs as usize {
        let pushed_at = random.below(pushes_within);
        let Some(own) = random.pick(&world.own) else { break };
        for workflow in 0..WORKFLOWS {
            let uses = workflow_of(options, world, own, workflow);
            run += 1;
            for _ in 0..options.matrix.max(1) {
                if jobs.len() >= options.jobs as usize {
                    break;
                }
                let token = shared.clone().unwrap_or_else(|| {
                    let token = job_token(&mut random);
                    grants.push(Grant {
                        token: token.clone(),
                        kind: TokenKind::Job,
                        bucket: (own.full_name(), JOB_LIMIT),
                        repositories: vec![own.full_name()],
                    });
                    token
                });
                let start = Duration::from_millis(pushed_at + random.below(START_WITHIN_MILLIS));
                let own_random = Random::new(random.next());
                let mut script = Script::new(world, own, run, own_random, pause);
                for step in &uses {
                    script.run(step);
                }
                if random.chance(0.05) {
                    nightly(&mut script, world, &mut random);
                }
                jobs.push(Job {
                    start,
                    token,
                    steps: script.into_steps(),
                    foreign: false,
                    gzip: options.gzip,
                });
            }
        }
    }
    jobs.extend(foreign(options, world, &jobs, &mut grants));
    jobs.push(poller(options, world, poller_token, millis, &mut random));
    jobs.sort_by_key(|job| job.start);
    (jobs, grants)
}

/// The steps of a workflow: the same for each of its jobs and at each push.
fn workflow_of(options: &Options, world: &World, own: &Repository, workflow: u64) -> Vec<Use> {
    let mut random = Random::of(options.seed ^ own.place.id, if workflow == 0 { "test" } else { "release" });
    let mut uses = Vec::new();
    let tool = |random: &mut Random| zipf(random, world.tools.len(), options.zipf);
    if random.chance(0.8) {
        uses.push(Use::Setup(zipf(&mut random, world.versions.len(), 1.0)));
    }
    if random.chance(0.25) {
        uses.push(Use::Setup(zipf(&mut random, world.versions.len(), 1.0)));
    }
    for _ in 0..1 + random.below(3) {
        let install = Use::Install { tool: tool(&mut random), asset: random.chance(0.4) };
        // An action that is used twice in a job installs twice.
        if random.chance(0.15) {
            uses.push(install.clone());
        }
        uses.push(install);
    }
    let optional: [(f64, Use); 11] = [
        (0.25, Use::GhRelease(tool(&mut random))),
        (0.5, Use::PathsFilter),
        (0.35, Use::Labeler),
        (0.6, Use::Script),
        (0.25, Use::StickyComment),
        (0.35, Use::RunView),
        (0.15, Use::Watch { polls: 3 }),
        (0.2, Use::Checks { polls: 2 }),
        (0.3, Use::Status { read: random.chance(0.5) }),
        (0.3, Use::Changelog),
        (0.3, Use::Issues),
    ];
    for (share, step) in optional {
        if random.chance(share) {
            if matches!(step, Use::Script) && random.chance(0.25) {
                uses.push(step.clone());
            }
            uses.push(step);
        }
    }
    if random.chance(0.5) {
        uses.push(Use::Recorded { first: random.below(64), count: 3 + random.below(5) });
    }
    let is_read = |step: &&Use| {
        !matches!(
            step,
            Use::StickyComment
                | Use::Status { .. }
                | Use::Watch { .. }
                | Use::Checks { .. }
                | Use::GhRelease(_)
        )
    };
    let again: Vec<Use> =
        uses.iter().filter(is_read).filter(|_| random.chance(options.repeats)).cloned().collect();
    uses.extend(again);
    uses
}

/// Reads that come once a night and by nobody else.
fn nightly(script: &mut Script<'_>, world: &World, random: &mut Random) {
    const RARE: [&str; 6] =
        ["/languages", "/contributors", "/branches", "/assignees", "/labels", "/releases"];
    for repository in &world.tools {
        if random.chance(0.5)
            && let Some(rest) = random.pick(&RARE)
        {
            script.rare(repository, rest);
        }
    }
}

/// An autoscaler: the queued runs of every repository, over and over.
fn poller(options: &Options, world: &World, token: String, millis: u64, random: &mut Random) -> Job {
    let mut steps: Vec<Step> = Vec::new();
    for round in 0..millis / POLL_MILLIS {
        for (own, first) in world.own.iter().zip([true].into_iter().chain(std::iter::repeat(false))) {
            let pause = if first && round > 0 { POLL_MILLIS } else { 20 };
            let mut script = Script::new(world, own, 0, Random::new(random.next()), 1);
            script.poll(pause);
            steps.extend(script.into_steps());
        }
    }
    let start = Duration::from_millis(random.below(POLL_MILLIS));
    Job { start, token, steps, foreign: false, gzip: options.gzip }
}

/// Job tokens of a repository of somebody else's. Each reads something public, so that it is a
/// token that works, and in between what the jobs of private repositories read, in the same form
/// and spelled as they do.
fn foreign(options: &Options, world: &World, jobs: &[Job], grants: &mut Vec<Grant>) -> Vec<Job> {
    let mut random = Random::of(options.seed, "foreign");
    let secret: Vec<String> = world
        .own
        .iter()
        .take(options.private as usize)
        .flat_map(|own| [own.place.api(""), format!("/repositories/{}", own.place.id)])
        .collect();
    let is_secret = |step: &&Step| {
        step.method == "GET" && secret.iter().any(|root| step.target.starts_with(root.as_str()))
    };
    let wanted: Vec<&Step> = jobs.iter().flat_map(|job| &job.steps).filter(is_secret).collect();
    let mut made = Vec::new();
    for _ in 0..options.foreign {
        let token = job_token(&mut random);
        grants.push(Grant {
            token: token.clone(),
            kind: TokenKind::Job,
            bucket: (FOREIGN_BUCKET.to_owned(), OTHER_LIMIT),
            repositories: Vec::new(),
        });
        let mut steps = Vec::new();
        let mut spent = 0;
        while spent < u64::try_from(options.duration.as_millis()).unwrap_or(u64::MAX)
            && let Some(step) = random.pick(&wanted)
        {
            let pause = random.interval(FOREIGN_MILLIS);
            spent += pause;
            let mut step = Step { pause: Duration::from_millis(pause), ..(*step).clone() };
            if steps.len() % 4 == 0
                && let Some(tool) = random.pick(&world.tools)
            {
                step.target = tool.place.api("/releases/latest");
            }
            steps.push(step);
        }
        made.push(Job { start: Duration::ZERO, token, steps, foreign: true, gzip: options.gzip });
    }
    made
}

/// A number below `count`, the first the most likely, by Zipf's law with this exponent.
fn zipf(random: &mut Random, count: usize, exponent: f64) -> usize {
    let weight = |rank: usize| {
        #[allow(clippy::cast_precision_loss, reason = "ranks of a few hundred tools")]
        let rank = (rank + 1) as f64;
        rank.powf(-exponent)
    };
    let total: f64 = (0..count).map(weight).sum();
    let mut left = random.unit() * total;
    for rank in 0..count {
        left -= weight(rank);
        if left <= 0.0 {
            return rank;
        }
    }
    count.saturating_sub(1)
}

/// Many jobs with a token each that ask for one manifest, in waves of `parallel`.
pub(super) fn one_manifest(options: &Options, world: &World, parallel: u32) -> (Vec<Job>, Vec<Grant>) {
    let mut random = Random::of(options.seed, "one manifest");
    let mut jobs = Vec::new();
    let mut grants = Vec::new();
    let (Some(own), Some((place, blob))) = (world.own.first(), world.versions.first()) else {
        return (jobs, grants);
    };
    for number in 0..options.jobs {
        let token = job_token(&mut random);
        grants.push(Grant {
            token: token.clone(),
            kind: TokenKind::Job,
            bucket: (own.full_name(), JOB_LIMIT),
            repositories: vec![own.full_name()],
        });
        let step = Step {
            pause: Duration::ZERO,
            method: "GET",
            target: place.api(&format!("/git/blobs/{blob}")),
            accept: super::world::RAW.to_owned(),
            body: String::new(),
            scheme: "token",
        };
        let start = Duration::from_millis(u64::from(number / parallel.max(1)) * 250);
        jobs.push(Job { start, token, steps: vec![step], foreign: false, gzip: options.gzip });
    }
    (jobs, grants)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_token_has_the_form_and_length_of_githubs() {
        let token = job_token(&mut Random::new(1));
        assert!((500..540).contains(&token.len()), "{}", token.len());
        assert_eq!(token.split('.').count(), 3);
        assert!(token.starts_with("ghs_"));
    }

    #[test]
    fn jobs_of_one_matrix_ask_for_the_same_with_tokens_of_their_own() {
        let options = Options { jobs: 8, foreign: 0, ..Options::default() };
        let workload = super::super::Workload::new(&options);
        let jobs = workload.jobs();
        let tokens: std::collections::HashSet<_> = jobs.iter().map(|job| &job.token).collect();
        assert_eq!((jobs.len(), tokens.len()), (9, 9));
        let targets = |job: &Job| job.steps.iter().map(|step| step.target.clone()).collect::<Vec<_>>();
        let same = jobs.iter().filter(|job| targets(job) == targets(&jobs[1])).count();
        assert!(same >= 3, "{same}");
        let again = super::super::Workload::new(&options);
        assert_eq!(targets(&again.jobs()[5]), targets(&jobs[5]), "the seed decides everything");
    }

    #[test]
    fn foreign_tokens_ask_for_what_is_private_all_the_time_and_see_none_of_it() {
        let options = Options::default();
        let world = World::new(&options);
        let (jobs, grants) = jobs(&options, &world);
        let private = world.private(&options);
        let foreign: Vec<_> = jobs.iter().filter(|job| job.foreign).collect();
        assert_eq!(foreign.len(), 3);
        for job in foreign {
            let grant = grants.iter().find(|grant| grant.token == job.token).unwrap();
            assert!(grant.repositories.is_empty() && grant.bucket.0 == FOREIGN_BUCKET);
            let secret = |step: &&Step| private.iter().any(|name| step.target.contains(name.as_str()));
            assert!(job.steps.iter().filter(secret).count() > 30, "{}", job.steps.len());
            assert!(job.steps.iter().any(|step| step.target.ends_with("/releases/latest")));
        }
    }

    #[test]
    fn the_first_tool_is_chosen_most_often() {
        let mut random = Random::new(3);
        let mut counts = [0; 10];
        (0..10_000).for_each(|_| counts[zipf(&mut random, 10, 1.0)] += 1);
        assert!(counts[0] > 3000 && counts[9] > 200 && counts[9] < 500, "{counts:?}");
    }
}
