//! A tier of the chain, exercised alone: a value is put, found by another opening, and removed.

use peercache::chain::{Outcome, Skip, TierPut};
use peercache::config::BackendName;
use peercache::{Cache, Config, ConfigError, ErrorKind, Key, PutOutcome, Ttl};

use super::finding::Finding;
use super::settings;

/// Its subject works.
pub(super) struct Worked {
    /// Nothing was written, because this process may not.
    pub(super) read_only: bool,
}

/// Why it does not.
pub(super) enum Broken {
    /// It could not be opened.
    Mistake(ConfigError),
    /// It did not do what it should.
    Failed { found: String, remedy: String },
}

impl From<ConfigError> for Broken {
    fn from(error: ConfigError) -> Self {
        Self::Mistake(error)
    }
}

pub(super) async fn check(config: &Config, name: BackendName, findings: &mut Vec<Finding>) {
    findings.push(match exercise(config, name).await {
        Ok(Worked { read_only: true }) => {
            Finding::ok(name.as_str(), "it answers; this process may not write it")
        }
        Ok(Worked { read_only: false }) => {
            Finding::ok(name.as_str(), "a value was stored, found by another opening, and removed")
        }
        Err(Broken::Mistake(error)) => settings::mistake(&error),
        Err(Broken::Failed { found, remedy }) => Finding::failed(name.as_str(), found, remedy),
    });
}

/// Puts, gets and removes a value in the tier called `name`, with nothing before it.
pub(super) async fn exercise(config: &Config, name: BackendName) -> Result<Worked, Broken> {
    let alone = config.only(name);
    let (key, value) = canary()?;
    let written = alone.open().await?;
    let outcome = written.put_bytes(&key, value.clone(), Ttl::from_secs(60)).await.map_err(failed)?;
    if is_refused_by_mode(&outcome) {
        let lookup = written.lookup(&key).await;
        close(&written).await?;
        return match lookup.trace.iter().find_map(|tier| unanswered(&tier.skip)) {
            Some(broken) => Err(broken),
            None => Ok(Worked { read_only: true }),
        };
    }
    let stored = taken(&outcome, name);
    let closed = close(&written).await;
    // Why it was not stored says more than that it waits in vain.
    stored?;
    closed?;
    sharing(&written, name)?;

    let read = alone.open().await?;
    let lookup = read.lookup(&key).await;
    let why = lookup.trace.iter().find_map(|tier| unanswered(&tier.skip));
    let is_hit = lookup.outcome == Outcome::Hit;
    let found = match lookup.hit() {
        Some(entry) if is_hit => Some(entry.value().clone()),
        _ => None,
    };
    let removed = taken(&read.remove(&key).await, name);
    let closed = close(&read).await;
    match found {
        Some(found) if found == value => removed.and(closed).map(|()| Worked { read_only: false }),
        Some(_) => Err(Broken::Failed {
            found: format!("{name} gave another value than the one that was stored"),
            remedy: "do not use this store: it does not keep what it is given".to_owned(),
        }),
        None => Err(why.unwrap_or_else(|| Broken::Failed {
            found: format!("{name} acknowledged a value, and another opening did not find it"),
            remedy: format!("leave `{name}` out of CACHE_BACKEND until its store keeps what it is given"),
        })),
    }
}

/// Whether nodes that share what they hold do.
fn sharing(cache: &Cache, name: BackendName) -> Result<(), Broken> {
    let report = cache.report();
    let trouble = report.backends.get(name.as_str()).and_then(|backend| backend["sync_error"].as_str());
    let Some(trouble) = trouble else { return Ok(()) };
    let usual = "look at the node's log, or unset IPFS_SYNC";
    let (found, remedy) = trouble.rsplit_once("; ").unwrap_or((trouble, usual));
    Err(Broken::Failed {
        found: format!("values are stored and not shared with other nodes: {found}"),
        remedy: remedy.to_owned(),
    })
}

/// A key and a value that nobody else has.
fn canary() -> Result<(Key, Vec<u8>), Broken> {
    let mut random = [0; 16];
    getrandom::fill(&mut random).map_err(|error| Broken::Failed {
        found: format!("the operating system gave no random bytes: {error}"),
        remedy: "look at the machine: every program needs them".to_owned(),
    })?;
    let name: String = random.iter().map(|byte| format!("{byte:02x}")).collect();
    let key = Key::new(format!("peercache doctor {name}")).map_err(failed)?;
    Ok((key, name.into_bytes()))
}

fn is_refused_by_mode(outcome: &PutOutcome) -> bool {
    outcome.tiers.iter().all(|tier| matches!(tier.put, TierPut::Mode))
}

/// Whether the tier has it.
fn taken(outcome: &PutOutcome, name: BackendName) -> Result<(), Broken> {
    if let Some(error) = outcome.errors().next() {
        return Err(failed(error.clone()));
    }
    if outcome.is_durable() {
        return Ok(());
    }
    Err(Broken::Failed {
        found: format!("{name} did not acknowledge a value within its deadline"),
        remedy: "look at the store's health and at the network between; CACHE_WRITE_TIMEOUT gives it longer"
            .to_owned(),
    })
}

/// Why the tier did not say whether it has the value.
fn unanswered(skip: &Skip) -> Option<Broken> {
    match skip {
        Skip::Failed(error) => Some(failed(error.clone())),
        Skip::TimedOut(_) | Skip::TooSlow | Skip::Overtaken | Skip::Open => Some(Broken::Failed {
            found: skip.to_string(),
            remedy:
                "look at the store's health and at the network between; CACHE_READ_TIMEOUT gives it longer"
                    .to_owned(),
        }),
        _ => None,
    }
}

fn failed(error: peercache::Error) -> Broken {
    let usual = match error.kind() {
        ErrorKind::Config => "change the setting that it names",
        _ => "look at the store's health and at the network between",
    };
    let remedy = error.help().unwrap_or(usual).to_owned();
    let text = error.to_string();
    let found = text.strip_suffix(&format!("; {remedy}")).unwrap_or(&text).to_owned();
    Broken::Failed { found, remedy }
}

async fn close(cache: &Cache) -> Result<(), Broken> {
    cache.close().await.map_err(failed)
}
