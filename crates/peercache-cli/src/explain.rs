//! `peercache explain`: what a read of a key would do, or a request for a URL.

use std::fmt::Write as _;
use std::io::Read as _;
use std::path::Path;

use peercache::config::COMMAND;
use peercache::{Config, Key};
use reqwest::header::{ACCEPT, AUTHORIZATION, HeaderMap, HeaderValue};
use serde_json::Value;

use crate::args::{ExplainArgs, ServerArgs};
use crate::exit::{Exit, Failure};
use crate::plain::on_one_line;
use crate::{ask, entries, output};

/// The longest token, in bytes: those in the form of a JWT have about 520.
const MAX_TOKEN_BYTES: u64 = 8 * 1024;

/// Prints a line for each tier and one for the outcome, or what a server says about a URL. A miss
/// is an answer too: exit code 0.
pub(crate) async fn run(args: ExplainArgs, json: bool) -> Result<Exit, Failure> {
    let ExplainArgs { key, url, token_file, accept, server, socket } = args;
    if let Some(url) = url {
        let headers = headers(token_file.as_deref(), accept.as_deref())?;
        let explained = ask::local(&ServerArgs { url: server, socket }, &target(&url), headers).await?;
        match json {
            true => output::json(&explained)?,
            false => drop(output::write(text(&explained).as_bytes())?),
        }
        return Ok(Exit::Ok);
    }
    let key = Key::new(key.unwrap_or_default()).map_err(Failure::config)?;
    // Nothing makes room for a command that only looks.
    let cache = Config::from_env(COMMAND)?.one_shot().look_only().open().await?;
    let explanation = cache.explain(&key).await;
    if json {
        output::json(&explanation)?;
    } else {
        output::line(&explanation)?;
    }
    entries::close(&cache).await?;
    Ok(Exit::Ok)
}

/// The path of the server's endpoint for a URL.
fn target(url: &str) -> String {
    let mut target = "/-/explain?url=".to_owned();
    for byte in url.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~/:".contains(&byte) {
            target.push(char::from(byte));
        } else {
            // Writing to a String cannot fail.
            let _ = write!(target, "%{byte:02X}");
        }
    }
    target
}

/// The headers of the request that is explained. The token is in no message.
fn headers(token_file: Option<&Path>, accept: Option<&str>) -> Result<HeaderMap, Failure> {
    let mut headers = HeaderMap::new();
    if let Some(accept) = accept {
        let value = HeaderValue::from_str(accept).map_err(|_| {
            Failure::config("--accept: give a media type such as application/vnd.github.raw+json")
        })?;
        headers.insert(ACCEPT, value);
    }
    let from_environment = || {
        ["GH_TOKEN", "GITHUB_TOKEN"].iter().find_map(|name| {
            let token = std::env::var(name).ok().filter(|token| !token.trim().is_empty())?;
            Some((token, *name))
        })
    };
    let token = match token_file {
        Some(path) => Some((read_token(path)?, "--token-file")),
        None => from_environment(),
    };
    if let Some((token, from)) = token {
        let bad =
            || Failure::config(format!("{from}: what is there is no token; give one alone, on one line"));
        let token = token.trim();
        if token.is_empty() || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(bad());
        }
        let mut value = HeaderValue::from_str(&format!("token {token}")).map_err(|_| bad())?;
        value.set_sensitive(true);
        headers.insert(AUTHORIZATION, value);
    }
    Ok(headers)
}

fn read_token(path: &Path) -> Result<String, Failure> {
    let mut token = String::new();
    let read = match path.to_str() {
        Some("-") => std::io::stdin().take(MAX_TOKEN_BYTES).read_to_string(&mut token),
        _ => std::fs::File::open(path).and_then(|file| file.take(MAX_TOKEN_BYTES).read_to_string(&mut token)),
    };
    read.map_err(|error| Failure::config(format!("--token-file: cannot read {}: {error}", path.display())))?;
    Ok(token)
}

/// An explanation in lines.
fn text(explained: &Value) -> String {
    let word = |name: &str| on_one_line(explained[name].as_str().unwrap_or("-"));
    let number = |value: &Value| value.as_u64().map_or_else(|| "-".to_owned(), |number| number.to_string());
    let grant = match &explained["grant"] {
        grant if grant.is_object() => format!(
            "status {}, {} s old, fresh for {} s, in {}, {}",
            number(&grant["status"]),
            number(&grant["age_seconds"]),
            number(&grant["fresh_for_seconds"]),
            on_one_line(grant["tier"].as_str().unwrap_or("no tier")),
            if grant["believed"] == true { "nothing written since" } else { "may be outdated by a write" },
        ),
        _ => "none".to_owned(),
    };
    let seconds =
        |value: &Value| value.as_u64().map_or_else(|| "none".to_owned(), |number| format!("{number} s ago"));
    let mark = &explained["write_mark"];
    let proof = match &explained["public_proof"] {
        proof if proof.is_object() => format!(
            "{} s old, good for {} s",
            number(&proof["age_seconds"]),
            number(&proof["good_for_seconds"])
        ),
        _ => "none".to_owned(),
    };
    let candidates = explained["candidates"].as_u64();
    let candidates =
        candidates.map_or_else(|| "not for this token to know".to_owned(), |count| count.to_string());
    let budget = match &explained["budget"] {
        budget if budget.is_object() => format!(
            "{} of {} used of {}, {} under way",
            number(&budget["used"]),
            number(&budget["limit"]),
            on_one_line(budget["resource"].as_str().unwrap_or("-")),
            number(&budget["in_flight"]),
        ),
        _ => "not known".to_owned(),
    };
    let stored = if explained["stored"] == true { "" } else { ", never stored" };
    format!(
        "{}: {}\nwould send: {}\n\n\
         key           {} on {}, Accept: {}\n\
         route         {}{stored}\n\
         lifetime      {}\n\
         shared        {}\n\
         token         {} ({})\n\
         grant         {grant}\n\
         write mark    here {}, of this token {}\n\
         public proof  {proof}\n\
         candidates    {candidates}\n\
         rate limit    {budget}\n",
        word("verdict"),
        word("why"),
        word("sends"),
        word("url"),
        word("host"),
        word("accept"),
        word("route"),
        word("lifetime"),
        word("share"),
        word("token"),
        word("token_kind"),
        seconds(&mark["scope_seconds"]),
        seconds(&mark["token_seconds"]),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn url_is_one_parameter_of_the_query() {
        assert_eq!(target("/repos/o/r?a=1&b=\u{e4}"), "/-/explain?url=/repos/o/r%3Fa%3D1%26b%3D%C3%A4");
    }

    #[test]
    fn explanation_begins_with_the_verdict() {
        let explained = json!({
            "verdict": "revalidated", "why": "this token's grant is 70 s old and no longer fresh",
            "sends": "a conditional request", "url": "/repos/o/r/tags", "host": "api.github.com",
            "accept": "application/vnd.github+json", "route": "/repos/{owner}/{repo}/tags",
            "lifetime": "as GitHub says", "share": "each token its own", "stored": true, "token": "0123456789ab",
            "token_kind": "ghs",
            "grant": { "tier": "memory", "status": 200, "age_seconds": 70, "fresh_for_seconds": 0, "believed": true },
            "write_mark": { "scope_seconds": 90, "token_seconds": null }, "public_proof": null, "candidates": 1,
            "budget": { "resource": "core", "used": 90, "limit": 1000, "in_flight": 2 },
        });
        insta::assert_snapshot!(text(&explained), @r"
        revalidated: this token's grant is 70 s old and no longer fresh
        would send: a conditional request

        key           /repos/o/r/tags on api.github.com, Accept: application/vnd.github+json
        route         /repos/{owner}/{repo}/tags
        lifetime      as GitHub says
        shared        each token its own
        token         0123456789ab (ghs)
        grant         status 200, 70 s old, fresh for 0 s, in memory, nothing written since
        write mark    here 90 s ago, of this token none
        public proof  none
        candidates    1
        rate limit    90 of 1000 used of core, 2 under way
        ");
    }
}
