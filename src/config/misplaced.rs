//! Values that are not what their author meant: still in quotes, a placeholder that nothing filled
//! in, a mask, or a secret in a setting that is shown.

use super::error::{ConfigError, secret_in};
use super::value::{Given, Origin, Raw};

/// Refuses such a value. What code gives may begin as it likes.
pub(super) fn check(raw: &Raw) -> Result<(), ConfigError> {
    let texts: Vec<&str> = match &raw.given {
        Given::Text(text) => vec![text],
        Given::List(texts) => texts.iter().map(String::as_str).collect(),
        Given::Number(_) | Given::Path(_) => return Ok(()),
    };
    for text in texts.into_iter().map(str::trim) {
        if !matches!(raw.origin, Origin::Code) {
            not_meant(raw, text)?;
        }
        if !raw.name.is_secret() && secret_in(text) {
            return Err(ConfigError::of(
                raw,
                "this is a secret, and the setting is one that is shown",
                "give a secret as CACHE_SECRET; if this value was logged, make a new one with `peercache keygen`",
            ));
        }
    }
    Ok(())
}

fn not_meant(raw: &Raw, text: &str) -> Result<(), ConfigError> {
    let (problem, remedy) = if text.starts_with(['"', '\'']) {
        (
            "the value begins with a quotation mark",
            "leave the quotation marks out: `docker run --env-file` and others take them for a part of the value",
        )
    } else if text.starts_with('$') {
        (
            "the value is a placeholder that nothing has filled in",
            "check the spelling where it is set: `env:` of a workflow, `docker -e` and systemd expand no $NAME; a \
             workflow writes ${{ secrets.NAME }}",
        )
    } else if text.len() > 2 && text.bytes().all(|byte| byte == b'*') {
        ("the value is a mask", "copy the value itself, not what a log shows in its place")
    } else if raw.name.is_secret() && secret_in(text) && !text.starts_with("pc-") {
        (
            "there is something before the secret",
            "give the secret alone, as `peercache keygen` printed it: no NAME=, no quotation marks",
        )
    } else {
        return Ok(());
    };
    Err(ConfigError::of(raw, problem, remedy))
}
