//! `peercache keygen`: secrets, full, read-only and public.

use std::io::{self, IsTerminal as _, Read};
use std::path::Path;

use peercache::Config;
use peercache::config::COMMAND;
use peercache::seal::Secret;
use serde_json::json;

use crate::args::KeygenArgs;
use crate::exit::{Exit, Failure};
use crate::output;

/// The most of a secret's text that is read, in bytes: one more than any has.
const MAX_TEXT_BYTES: u64 = 4097;

/// Prints a secret to standard output and nothing else, so that it can be piped to where it is
/// kept.
pub(crate) async fn run(args: KeygenArgs, json: bool) -> Result<Exit, Failure> {
    if args.from.is_some() && !args.read_only && !args.public {
        return Err(Failure::config(
            "--from goes with --read-only or --public: a new secret is made of nothing",
        ));
    }
    let secret = if args.read_only || args.public {
        // A passphrase takes a while.
        let known = tokio::task::spawn_blocking(move || known_secret(args.from.as_deref()))
            .await
            .map_err(|error| Failure::failed(format!("reading the secret was interrupted: {error}")))??;
        if args.public { known.public() } else { known.read_only() }
    } else {
        Secret::generate().map_err(Failure::failed)?
    };
    let text = secret.to_text();
    if json {
        output::json(&json!({
            "secret": *text,
            "key_id": secret.id().to_string(),
            "rights": secret.rights().to_string(),
        }))?;
    } else {
        output::line(&*text)?;
    }
    Ok(Exit::Ok)
}

fn known_secret(from: Option<&Path>) -> Result<Secret, Failure> {
    if from.is_none()
        && let Some(keyring) = Config::from_env(COMMAND)?.keyring()?
    {
        return Ok(keyring.current().clone());
    }
    let read = match from.filter(|path| *path != Path::new("-")) {
        Some(path) => std::fs::File::open(path).and_then(text),
        None if io::stdin().is_terminal() => {
            return Err(Failure::config(
                "there is no secret to derive from; set CACHE_SECRET, or pipe it to standard input",
            ));
        }
        None => text(io::stdin().lock()),
    };
    let place = from.map_or_else(|| "standard input".to_owned(), |path| path.display().to_string());
    let text = read.map_err(|error| Failure::config(format!("cannot read {place}: {error}")))?;
    // What it complains about is never the text itself.
    Secret::parse(&text).map_err(|error| {
        let help = error.help().unwrap_or("give one as `peercache keygen` prints it");
        Failure::config(format!("{place}: {}; {help}", error.message()))
    })
}

fn text(source: impl Read) -> io::Result<String> {
    let mut text = String::new();
    source.take(MAX_TEXT_BYTES).read_to_string(&mut text)?;
    Ok(text)
}
