//! `peercache storacha`: the token of the Storacha tier.

use std::io::{self, Read};
use std::path::Path;
use std::time::UNIX_EPOCH;

use peercache::Config;
use peercache::backend::storacha::{Grant, Token};
use serde_json::json;

use crate::args::{StorachaArgs, StorachaCommand, StorachaTokenArgs};
use crate::exit::{Exit, Failure};
use crate::output;

/// The most of a file that is read, in bytes: delegations have a few kilobytes.
const MAX_FILE_BYTES: u64 = 256 * 1024;

/// Runs one of its commands.
pub(crate) fn run(args: StorachaArgs, json: bool) -> Result<Exit, Failure> {
    match args.command {
        StorachaCommand::Token(args) => token(args, json),
        StorachaCommand::Show => show(json),
    }
}

fn token(args: StorachaTokenArgs, json: bool) -> Result<Exit, Failure> {
    let (key, proof) = (text_of(&args.key)?, text_of(&args.proof)?);
    let token = Token::new(&key, &proof, args.service, args.did).map_err(wrong)?;
    let text = token.to_text(&proof);
    let grant = token.grant();
    if json {
        let mut all = of_grant(&grant);
        all["token"] = (&**text).into();
        output::json(&all)?;
    } else {
        output::line(&*text)?;
        for line in lines(&grant) {
            eprintln!("{line}");
        }
    }
    Ok(Exit::Ok)
}

fn show(json: bool) -> Result<Exit, Failure> {
    let Some(token) = Config::from_env("peercache")?.storacha_token()? else {
        return Err(Failure::config(
            "there is no token; set WEB3_STORAGE_TOKEN, or build one with `peercache storacha token`",
        ));
    };
    let grant = token.grant();
    if json {
        output::json(&of_grant(&grant))?;
    } else {
        for line in lines(&grant) {
            output::line(line)?;
        }
    }
    Ok(if grant.missing.is_empty() { Exit::Ok } else { Exit::Miss })
}

fn wrong(error: peercache::Error) -> Failure {
    let help = error.help().unwrap_or("give the outputs of the official command line as they are");
    let part = error.context("part").map(|part| format!(" ({part})")).unwrap_or_default();
    Failure::config(format!("{}{part}; {help}", error.message()))
}

fn of_grant(grant: &Grant) -> serde_json::Value {
    let expires = grant.expires.and_then(|at| at.duration_since(UNIX_EPOCH).ok()).map(|at| at.as_secs());
    json!({
        "agent": grant.agent,
        "space": grant.space,
        "abilities": grant.abilities,
        "expires": expires,
        "missing": grant.missing,
        "service": grant.service,
        "did": grant.did,
    })
}

fn lines(grant: &Grant) -> Vec<String> {
    let expires = grant.expires.and_then(|at| at.duration_since(UNIX_EPOCH).ok());
    let mut lines = vec![
        format!("space      {}", grant.space),
        format!("agent      {}", grant.agent),
        format!("abilities  {}", grant.abilities.join(", ")),
        match expires {
            Some(at) => format!("expires    {} (seconds since 1970)", at.as_secs()),
            None => "expires    never".to_owned(),
        },
        format!("service    {}", grant.service.as_deref().unwrap_or("not named: set STORACHA_SERVICE_URL")),
        format!("did        {}", grant.did.as_deref().unwrap_or("not named: set STORACHA_SERVICE_DID")),
    ];
    if !grant.missing.is_empty() {
        lines.push(format!("missing    {}: the tier needs them", grant.missing.join(", ")));
    }
    lines
}

fn text_of(path: &Path) -> Result<String, Failure> {
    let mut text = String::new();
    let read = match path {
        path if path == Path::new("-") => io::stdin().lock().take(MAX_FILE_BYTES).read_to_string(&mut text),
        path => {
            std::fs::File::open(path).and_then(|file| file.take(MAX_FILE_BYTES).read_to_string(&mut text))
        }
    };
    read.map_err(|error| Failure::config(format!("cannot read {}: {error}", path.display())))?;
    Ok(text)
}
