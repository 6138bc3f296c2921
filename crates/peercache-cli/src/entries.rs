//! `get`, `put` and `invalidate`: the cache from a script.

use std::io::Read as _;
use std::path::Path;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD as BASE64;
use peercache::{Cache, Entry, Key, Lookup, MAX_VALUE_BYTES, Outcome, PutOutcome, Skip, TierPut};
use serde_json::{Value, json};

use crate::cli::{GetArgs, InvalidateArgs, PutArgs};
use crate::exit::{Exit, Failure};
use crate::output;

/// Prints the fresh value under the key. A miss prints nothing to standard output and exits with 1.
pub(crate) async fn get(args: GetArgs, json: bool) -> Result<Exit, Failure> {
    let key = parse_key(args.key)?;
    let cache = Cache::from_env().await?;
    let lookup = cache.lookup(&key).await;
    let answer = lookup_json(&lookup);
    let hit = lookup.is_hit();
    for skipped in &lookup.trace {
        if let Skip::Failed(error) = &skipped.skip {
            tracing::warn!("{error}");
        }
    }
    let value = lookup.hit().map(Entry::into_value);
    if let (Some(value), Some(path)) = (&value, &args.output) {
        tokio::fs::write(path, value)
            .await
            .map_err(|error| Failure::failed(format!("cannot write {}: {error}", path.display())))?;
    }
    if json {
        let text =
            value.as_ref().filter(|_| args.output.is_none()).map(|value| match std::str::from_utf8(value) {
                Ok(text) => json!({ "value": text }),
                Err(_) => json!({ "value_base64": BASE64.encode(value) }),
            });
        output::json(&merged(answer, text))?;
    } else if let Some(value) = value.filter(|_| args.output.is_none()) {
        output::write(&value)?;
    }
    close(&cache).await?;
    Ok(if hit { Exit::Ok } else { Exit::Miss })
}

/// Stores a value. Exits with 0 only when a tier that outlives this process has it.
pub(crate) async fn put(args: PutArgs, json: bool) -> Result<Exit, Failure> {
    let key = parse_key(args.key)?;
    let value = read_value(&args.file)?;
    let cache = Cache::from_env().await?;
    let mut entry = cache.entry(value).fresh_for(args.ttl.unwrap_or(cache.default_ttl()));
    if let Some(content_type) = args.content_type {
        entry = entry.content_type(content_type);
    }
    let entry = entry.build().map_err(Failure::config)?;
    let bytes = entry.value().len();
    let outcome = cache.put_entry(&key, entry).await;
    close(&cache).await?;
    require_durable(&outcome)?;
    if json {
        output::json(&json!({ "stored": true, "bytes": bytes, "tiers": outcome_json(&outcome) }))?;
    }
    Ok(Exit::Ok)
}

/// Removes values. Exits with 0 only when every removal is in a tier that outlives this process.
pub(crate) async fn invalidate(args: InvalidateArgs, json: bool) -> Result<Exit, Failure> {
    let keys = args.keys.into_iter().map(parse_key).collect::<Result<Vec<_>, _>>()?;
    let cache = Cache::from_env().await?;
    for key in &keys {
        let outcome = cache.remove(key).await;
        require_durable(&outcome)?;
    }
    close(&cache).await?;
    if json {
        output::json(&json!({ "invalidated": keys.len() }))?;
    }
    Ok(Exit::Ok)
}

fn parse_key(text: String) -> Result<Key, Failure> {
    Key::new(text).map_err(Failure::config)
}

/// Reads at most one byte more than an entry takes, so that a wrong file cannot fill the memory.
fn read_value(path: &Path) -> Result<Vec<u8>, Failure> {
    let most = MAX_VALUE_BYTES as u64 + 1;
    let mut value = Vec::new();
    let read = if path == Path::new("-") {
        std::io::stdin().lock().take(most).read_to_end(&mut value)
    } else {
        std::fs::File::open(path).and_then(|file| file.take(most).read_to_end(&mut value))
    };
    read.map_err(|error| Failure::config(format!("cannot read {}: {error}", path.display())))?;
    if value.len() > MAX_VALUE_BYTES {
        return Err(Failure::config(format!(
            "{} is larger than {MAX_VALUE_BYTES} bytes, the most that one entry holds; store it in parts",
            path.display()
        )));
    }
    Ok(value)
}

fn require_durable(outcome: &PutOutcome) -> Result<(), Failure> {
    if outcome.is_durable() {
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
    } else {
        Failure::config(
            "not stored: no tier of this chain outlives this process; add `disk` to CACHE_BACKEND".to_owned(),
        )
    })
}

async fn close(cache: &Cache) -> Result<(), Failure> {
    cache.close().await.map_err(|error| Failure::failed(format!("the cache did not close cleanly: {error}")))
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
        .map(|tier| json!({ "tier": tier.tier, "reason": skip_text(&tier.skip) }))
        .collect();
    let content_type = lookup.entry.as_ref().and_then(|entry| entry.metadata().content_type.as_deref());
    json!({
        "outcome": outcome,
        "tier": lookup.tier,
        "age_seconds": lookup.age.as_secs(),
        "content_type": content_type,
        "skipped": skipped,
    })
}

fn skip_text(skip: &Skip) -> String {
    match skip {
        Skip::Absent => "absent".to_owned(),
        Skip::Expired => "expired".to_owned(),
        Skip::Stale => "stale".to_owned(),
        Skip::Removed => "removed".to_owned(),
        Skip::Superseded => "superseded".to_owned(),
        Skip::FromFuture => "from the future".to_owned(),
        Skip::Failed(error) => error.to_string(),
        Skip::TimedOut(deadline) => format!("no answer within {} ms", deadline.as_millis()),
        Skip::Mode => "write-only".to_owned(),
        _ => "unknown".to_owned(),
    }
}

fn outcome_json(outcome: &PutOutcome) -> Value {
    let tiers = outcome.tiers.iter().map(|tier| {
        let put = match &tier.put {
            TierPut::Stored => "stored".to_owned(),
            TierPut::Mode => "read-only".to_owned(),
            TierPut::TooLarge => "too large".to_owned(),
            TierPut::Failed(error) => error.to_string(),
            _ => "unknown".to_owned(),
        };
        json!({ "tier": tier.tier, "put": put })
    });
    tiers.collect()
}

fn merged(mut base: Value, extra: Option<Value>) -> Value {
    if let (Some(base), Some(Value::Object(extra))) = (base.as_object_mut(), extra) {
        base.extend(extra);
    }
    base
}
