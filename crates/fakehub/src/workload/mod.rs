//! Traffic of a fleet of CI jobs: what each job asks for and when, which tokens there are, and how
//! the world changes meanwhile. Everything depends on the seed alone.
//!
//! No public trace of what runners ask of the API is known, so the model is made of parts that are:
//! the calls that published actions and `gh` make (read from their sources), bodies in recorded
//! shapes and sizes, recorded exchanges where a corpus of them is given, and rates of change as
//! measured on polled resources. Vary [`Options`] to see how much an outcome depends on the model;
//! one number proves little.
//!
//! - Pushes come at random; each starts workflows, each a matrix of jobs, and jobs of a matrix ask
//!   for the same.
//! - A job's steps are those of `setup-*`, tool installers, `gh release download`, `paths-filter`,
//!   `labeler`, `github-script`, sticky comments, `gh run view` and `watch`, `gh pr checks
//!   --watch`, changelog makers.
//! - Third-party repositories are chosen by Zipf's law.
//! - An autoscaler polls every repository, and one nightly job in twenty reads a long tail once.
//! - Foreign tokens, good ones that may not see any private repository, ask for what the jobs of
//!   private repositories ask for, all the time: an answer that a cache gives to the wrong token is
//!   seen. Their requests are judged like all others, and are not counted among those that a cache
//!   may save.

mod answered;
mod client;
mod jobs;
mod model;
mod per_token;
mod run;
mod steps;
mod tally;
mod world;

pub use self::answered::Answered;
pub use self::client::ClientError;
use self::model::{Change, Grant};
pub use self::model::{Job, Options, Step};
pub use self::per_token::PerTokenCache;
pub use self::run::{run, run_job};
pub use self::tally::{RouteCount, Rule, Tally};
use crate::corpus::Corpus;
use crate::handle::{FakeHub, FakeHubBuilder};

/// A fleet's traffic and the world that it runs in.
#[derive(Clone)]
pub struct Workload {
    corpus: Corpus,
    grants: Vec<Grant>,
    private: Vec<String>,
    changes: Vec<Change>,
    jobs: Vec<Job>,
}

impl Workload {
    /// The workload of these options.
    #[must_use]
    pub fn new(options: &Options) -> Self {
        let world = world::World::new(options);
        let (jobs, grants) = jobs::jobs(options, &world);
        let changes = world.changes(options);
        Self { grants, private: world.private(options), changes, jobs, corpus: world.into_corpus() }
    }

    /// `jobs` jobs with a token each, at most `parallel` at a time, that all ask for one manifest
    /// of a public repository, as a large matrix of `setup-node` does.
    #[must_use]
    pub fn one_manifest(seed: u64, jobs: u32, parallel: u32) -> Self {
        let options = Options { seed, jobs, ..Options::default() };
        let world = world::World::new(&options);
        let (jobs, grants) = jobs::one_manifest(&options, &world, parallel);
        Self {
            grants,
            private: world.private(&options),
            changes: Vec::new(),
            jobs,
            corpus: world.into_corpus(),
        }
    }

    /// The jobs and the foreign tokens, by start.
    #[must_use]
    pub fn jobs(&self) -> &[Job] {
        &self.jobs
    }

    /// How many requests all jobs make, those of foreign tokens left out.
    #[must_use]
    pub fn requests(&self) -> usize {
        self.jobs.iter().filter(|job| !job.foreign).map(|job| job.steps.len()).sum()
    }

    /// The private repositories, as `OWNER/REPO`.
    #[must_use]
    pub fn private(&self) -> &[String] {
        &self.private
    }

    /// An origin for this workload: its world, tokens and changes. Limits are counted and not
    /// enforced, so that answers do not depend on how many calls a cache makes.
    #[must_use]
    pub fn origin(&self) -> FakeHubBuilder {
        let mut builder = FakeHub::builder(self.corpus.clone()).unlimited(true);
        for repository in &self.private {
            builder = builder.private(repository, Vec::<String>::new());
        }
        for grant in &self.grants {
            let (bucket, limit) = &grant.bucket;
            builder = builder.bucket(&grant.token, bucket, Some(*limit)).token(
                &grant.token,
                grant.kind,
                grant.repositories.iter().cloned(),
            );
        }
        for change in &self.changes {
            builder = builder.changes(&change.url, change.seed, change.mean);
        }
        builder
    }
}

impl std::fmt::Debug for Workload {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Workload")
            .field("jobs", &self.jobs.len())
            .field("requests", &self.requests())
            .field("private", &self.private)
            .finish_non_exhaustive()
    }
}
