//! `get`, `put` and `invalidate`: the cache from a script.

use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD as BASE64;
use futures_util::StreamExt as _;
use peercache::chain::{Outcome, Skip, TierPut};
use peercache::config::COMMAND;
use peercache::stream::{LargeError, LargeValue, MAX_WHOLE_BYTES, PutStreamError, StreamOptions};
use peercache::{Cache, Config, Key, Lookup, PutOutcome, Ttl};
use serde_json::{Value, json};
use tokio::io::AsyncRead;

use crate::args::{GetArgs, InvalidateArgs, PutArgs};
use crate::exit::{Exit, Failure};
use crate::output::{self, Reader};
use crate::{ask, github};

/// Opens the cache of the environment for a command that does one thing and ends, beside the server
/// of the same machine: without taking its port or its identity.
pub(crate) async fn open() -> Result<Cache, Failure> {
    Ok(Config::from_env(COMMAND)?.one_shot().open().await?)
}

/// Ends what [`open`] began.
pub(crate) async fn close(cache: &Cache) -> Result<(), Failure> {
    cache.close().await.map_err(|error| Failure::failed(format!("the cache did not close cleanly: {error}")))
}

/// Prints the fresh value under the key. A miss prints nothing to standard output and exits with 1.
pub(crate) async fn get(args: GetArgs, json: bool) -> Result<Exit, Failure> {
    let key = parse_key(args.key)?;
    let cache = open().await?;
    let lookup = cache.lookup(&key).await;
    let mut answer = lookup_json(&lookup);
    for skipped in &lookup.trace {
        if let Some(why) = unanswered(&skipped.skip) {
            tracing::warn!("{} was not read: {why}", skipped.tier);
        }
    }
    let value = match lookup.hit() {
        Some(entry) => cache.open_entry(entry).await,
        None => None,
    };
    let found = value.is_some();
    if let Some(value) = value {
        answer["content_type"] = json!(value.content_type());
        answer["bytes"] = json!(value.len());
        match &args.output {
            Some(path) => save(value, path).await?,
            None if json => inline(&mut answer, value).await?,
            None => print(value).await?,
        }
    } else if answer["outcome"] == "hit" {
        // A part of a large value is gone: without it there is no value.
        answer["outcome"] = json!("miss");
    }
    if json {
        output::json(&answer)?;
    }
    close(&cache).await?;
    Ok(if found { Exit::Ok } else { Exit::Miss })
}

async fn print(value: LargeValue) -> Result<(), Failure> {
    let mut parts = value.into_stream();
    while let Some(part) = parts.next().await {
        if output::write(&part.map_err(incomplete)?)? == Reader::HasGone {
            break;
        }
    }
    Ok(())
}

/// Why a tier did not say whether it has the value: a miss is not the same as no answer.
fn unanswered(skip: &Skip) -> Option<String> {
    let advice = "CACHE_READ_TIMEOUT and CACHE_READ_BUDGET give it longer";
    match skip {
        Skip::Failed(error) => Some(error.to_string()),
        Skip::TimedOut(_) | Skip::TooSlow | Skip::Overtaken => Some(format!("{skip}; {advice}")),
        Skip::Open => Some(skip.to_string()),
        _ => None,
    }
}

/// Writes the value to what `path` names. A regular file is replaced as a whole, so that a part of
/// a value never stands there, and keeps its mode; a device or a pipe is written to; a symbolic
/// link stays, and what it points to is written.
async fn save(value: LargeValue, path: &Path) -> Result<(), Failure> {
    let failed = |error: io::Error| match error.kind() {
        io::ErrorKind::IsADirectory | io::ErrorKind::NotFound | io::ErrorKind::PermissionDenied => {
            Failure::config(format!("cannot write {}: {error}", path.display()))
        }
        _ => Failure::failed(format!("cannot write {}: {error}", path.display())),
    };
    match Target::of(path).map_err(failed)? {
        Target::Existing(mut file) => copy(value, &mut file, failed).await,
        Target::Replaced(target, mode) => {
            let dir = target.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
            let builder = || {
                let mut builder = tempfile::Builder::new();
                // What the user's umask takes away is taken away, as it is from every new file.
                builder.permissions(fs::Permissions::from_mode(0o666)).prefix(".peercache-");
                builder.tempfile_in(dir)
            };
            let mut draft = match builder() {
                // The directory may be another user's, and the file this one's.
                Err(error) if error.kind() == io::ErrorKind::PermissionDenied && mode.is_some() => {
                    let mut file =
                        fs::File::options().write(true).truncate(true).open(&target).map_err(failed)?;
                    return copy(value, &mut file, failed).await;
                }
                draft => draft.map_err(failed)?,
            };
            copy(value, draft.as_file_mut(), failed).await?;
            if let Some(mode) = mode {
                draft.as_file().set_permissions(fs::Permissions::from_mode(mode)).map_err(failed)?;
            }
            draft.persist(&target).map(drop).map_err(|error| failed(error.error))
        }
    }
}

/// What a path names.
enum Target {
    /// Something that is no regular file, opened for writing.
    Existing(fs::File),
    /// A regular file, at the end of every symbolic link, and its mode if there is one.
    Replaced(PathBuf, Option<u32>),
}

impl Target {
    fn of(path: &Path) -> io::Result<Self> {
        /// The most links that Linux follows.
        const MOST_LINKS: usize = 40;
        let mut target = path.to_owned();
        for _ in 0..MOST_LINKS {
            let metadata = match fs::symlink_metadata(&target) {
                Ok(metadata) => metadata,
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    return Ok(Self::Replaced(target, None));
                }
                Err(error) => return Err(error),
            };
            if metadata.is_symlink() {
                let link = fs::read_link(&target)?;
                // An absolute link takes the place of the whole path.
                target = target.parent().unwrap_or(Path::new("")).join(link);
                continue;
            }
            if metadata.is_file() {
                return Ok(Self::Replaced(target, Some(metadata.permissions().mode() & 0o7777)));
            }
            if metadata.is_dir() {
                return Err(io::ErrorKind::IsADirectory.into());
            }
            return fs::File::options().write(true).open(&target).map(Self::Existing);
        }
        // The system has words for it.
        fs::metadata(path).map(|_| Self::Replaced(target, None))
    }
}

async fn copy(
    value: LargeValue,
    file: &mut fs::File,
    failed: impl Fn(io::Error) -> Failure,
) -> Result<(), Failure> {
    let mut parts = value.into_stream();
    while let Some(part) = parts.next().await {
        match file.write_all(&part.map_err(incomplete)?) {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(()),
            written => written.map_err(&failed)?,
        }
    }
    Ok(())
}

/// Puts the value into the JSON answer: as text where it is text, else in base64.
async fn inline(answer: &mut Value, value: LargeValue) -> Result<(), Failure> {
    if value.len() > MAX_WHOLE_BYTES as u64 {
        return Err(Failure::config(format!(
            "the value has {} bytes, JSON carries at most {MAX_WHOLE_BYTES}; write it to a file with --output",
            value.len()
        )));
    }
    let mut bytes = Vec::new();
    let mut parts = value.into_stream();
    while let Some(part) = parts.next().await {
        bytes.extend_from_slice(&part.map_err(incomplete)?);
    }
    match String::from_utf8(bytes) {
        Ok(text) => answer["value"] = json!(text),
        Err(binary) => answer["value_base64"] = json!(BASE64.encode(binary.as_bytes())),
    }
    Ok(())
}

fn incomplete(error: LargeError) -> Failure {
    Failure::failed(format!("the value broke off: {error}"))
}

/// Stores a value. Exits with 0 only when a tier that outlives this process has it.
pub(crate) async fn put(args: PutArgs, json: bool) -> Result<Exit, Failure> {
    let key = parse_key(args.key)?;
    let cannot_read = |error| Failure::config(format!("cannot read {}: {error}", args.file.display()));
    let mut expected_len = 0;
    let source: Box<dyn AsyncRead + Send + Unpin> = if args.file == Path::new("-") {
        Box::new(tokio::io::stdin())
    } else {
        let file = tokio::fs::File::open(&args.file).await.map_err(cannot_read)?;
        // A pipe or a device says 0: not known.
        expected_len = file.metadata().await.map_err(cannot_read)?.len();
        Box::new(file)
    };
    let cache = open().await?;
    let mut options =
        StreamOptions::from(args.ttl.map_or_else(Ttl::default, Ttl::new)).expected_len(expected_len);
    if let Some(content_type) = args.content_type {
        options = options.content_type(content_type);
    }
    let stored = cache.put_reader(&key, source, options).await.map_err(|error| match error {
        PutStreamError::Source(error) => {
            Failure::config(format!("cannot read {}: {error}", args.file.display()))
        }
        error => Failure::config(error),
    })?;
    close(&cache).await?;
    require_durable(&stored.outcome)?;
    if !stored.stored {
        return Err(Failure::failed("not stored: a part of the value was taken by no tier"));
    }
    if json {
        let tiers = outcome_json(&stored.outcome);
        output::json(
            &json!({ "stored": true, "bytes": stored.len, "chunks": stored.chunks, "tiers": tiers }),
        )?;
    }
    Ok(Exit::Ok)
}

/// Removes values. Exits with 0 only when every removal is in a tier that outlives this process.
pub(crate) async fn invalidate(args: InvalidateArgs, json: bool) -> Result<Exit, Failure> {
    if !args.github.is_empty() {
        return invalidate_repositories(&args, json).await;
    }
    let keys = args.keys.into_iter().map(parse_key).collect::<Result<Vec<_>, _>>()?;
    let cache = open().await?;
    for key in &keys {
        let outcome = cache.remove(key).await;
        require_durable(&outcome)?;
    }
    if args.all {
        require_durable(&cache.invalidate(peercache::By::All).await.map_err(Failure::config)?)?;
    }
    close(&cache).await?;
    if json {
        let what = if args.all { json!("all") } else { json!(keys.len()) };
        output::json(&json!({ "invalidated": what }))?;
    }
    Ok(Exit::Ok)
}

/// Lets the running server do it, which then asks GitHub at once; without one it is noted in the
/// store.
async fn invalidate_repositories(args: &InvalidateArgs, json: bool) -> Result<Exit, Failure> {
    let wrong = |name: &str| {
        Failure::config(format!(
            "--github {name}: name a repository as OWNER/REPO, octocat/hello-world for example"
        ))
    };
    let mut by = None;
    for name in &args.github {
        // What no repository is called must not become part of an address.
        if !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_./".contains(&byte)) {
            return Err(wrong(name));
        }
        let path = format!("/-/invalidate?repository={name}");
        let (asked, answer) = ask::post(&args.server, &path).await?;
        match answer {
            Ok(()) => by = Some(asked),
            Err(ask::Unanswered::Nobody) if args.server.url.is_some() || args.server.socket.is_some() => {
                return Err(Failure::failed(format!(
                    "no server answers at {asked}; nothing was invalidated"
                )));
            }
            Err(ask::Unanswered::Nobody) => break,
            Err(ask::Unanswered::Other(what)) if what.contains("400") => return Err(wrong(name)),
            Err(ask::Unanswered::Other(what)) => {
                return Err(Failure::failed(format!("{asked} {what}; nothing was invalidated there")));
            }
        }
    }
    if by.is_none() {
        let config = Config::from_env(COMMAND)?;
        let upstream = config.server().upstream;
        let cache = config.one_shot().open().await?;
        let proxy = github::builder(&cache, &Config::from_env(COMMAND)?).await?.upstream(upstream);
        let proxy = proxy.build().map_err(Failure::config)?;
        for name in &args.github {
            if !proxy.invalidate_repository(name).await {
                return Err(wrong(name));
            }
        }
        close(&cache).await?;
        tracing::warn!(
            "no server runs at the usual place, so it is noted in the store alone: one that runs elsewhere may \
             serve what it has until that is no longer fresh"
        );
    }
    if json {
        output::json(&json!({ "invalidated": args.github, "server": by }))?;
    }
    Ok(Exit::Ok)
}

fn parse_key(text: String) -> Result<Key, Failure> {
    Key::new(text).map_err(Failure::config)
}

fn require_durable(outcome: &PutOutcome) -> Result<(), Failure> {
    if outcome.is_durable() {
        for error in outcome.errors() {
            tracing::warn!("stored, though not everywhere: {error}");
        }
        return Ok(());
    }
    let errors: Vec<_> = outcome.errors().map(ToString::to_string).collect();
    Err(if !errors.is_empty() {
        Failure::failed(format!("not stored: {}", errors.join("; ")))
    } else if outcome.tiers.iter().any(|tier| matches!(tier.put, TierPut::Mode)) {
        Failure::config(
            "not stored: what outlives this process is read-only here; a read-only CACHE_SECRET opens entries and \
             cannot make them",
        )
    } else if let Some(tier) =
        outcome.tiers.iter().find(|tier| tier.durable && matches!(tier.put, TierPut::TooLarge))
    {
        Failure::failed(format!(
            "not stored: the value is larger than the tier {} takes, which for one value is at most three \
             quarters of its size; make it larger (CACHE_DISK_BYTES for disk) or store the value in parts",
            tier.tier
        ))
    } else if outcome.is_queued() {
        Failure::failed("not stored: the breaker of the tier that outlives this process is open")
    } else {
        Failure::config(
            "not stored: no tier of this chain outlives this process; add `disk` to CACHE_BACKEND".to_owned(),
        )
    })
}

fn lookup_json(lookup: &Lookup) -> Value {
    let outcome = match lookup.outcome {
        Outcome::Hit => "hit",
        Outcome::Stale => "stale",
        Outcome::Miss => "miss",
    };
    let skipped: Vec<_> = lookup
        .trace
        .iter()
        .map(|tier| json!({ "tier": tier.tier, "reason": tier.skip.to_string() }))
        .collect();
    json!({
        "outcome": outcome,
        "tier": lookup.tier,
        "age_seconds": lookup.age.as_secs(),
        "skipped": skipped,
    })
}

fn outcome_json(outcome: &PutOutcome) -> Value {
    outcome.tiers.iter().map(|tier| json!({ "tier": tier.tier, "put": tier.put.to_string() })).collect()
}
