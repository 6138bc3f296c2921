//! What a wrong setting says: where it stands, its value, what is wrong, what to do.

use std::fmt;

use peercache_api::Error;

use super::value::{Given, Origin, Raw};

/// A setting that cannot be used, or a store that cannot be opened with it.
///
/// `Display` is one line: where the setting was made (the variable, or file and line), its value,
/// what is wrong, what to do. The value of a secret is never part of it.
#[derive(Clone, thiserror::Error)]
#[error("{place}: {problem}; {remedy}")]
pub struct ConfigError {
    variable: &'static str,
    place: String,
    problem: String,
    remedy: String,
    #[source]
    source: Option<Error>,
}

impl fmt::Debug for ConfigError {
    /// The same line: this is what a reader sees when `main` returns the error.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl ConfigError {
    /// Of a value that was given.
    pub(super) fn of(raw: &Raw, problem: impl Into<String>, remedy: impl Into<String>) -> Self {
        let (variable, place) = place(raw);
        Self { variable, place, problem: problem.into(), remedy: remedy.into(), source: None }
    }

    /// Of a variable whose value is missing or cannot be shown.
    pub(super) fn of_variable(
        variable: &'static str,
        problem: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        Self::at(variable, variable, problem, remedy)
    }

    /// Of something else: `place` says where it stands.
    pub(super) fn at(
        variable: &'static str,
        place: impl Into<String>,
        problem: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        let (place, problem, remedy) = (place.into(), problem.into(), remedy.into());
        Self { variable, place, problem, remedy, source: None }
    }

    pub(super) fn with_source(self, source: Error) -> Self {
        Self { source: Some(source), ..self }
    }

    /// Where the setting stands, its value, and what is wrong with it. The value of a secret is no
    /// part of it.
    #[must_use]
    pub fn problem(&self) -> String {
        format!("{}: {}", self.place, self.problem)
    }

    /// What to do about it.
    #[must_use]
    pub fn remedy(&self) -> &str {
        &self.remedy
    }

    /// The environment variable that is wrong; for a value given elsewhere, the one that would set
    /// it.
    #[must_use]
    pub fn variable(&self) -> &str {
        self.variable
    }
}

/// The variable of a setting, and where it was made, with its value.
pub(super) fn place(raw: &Raw) -> (&'static str, String) {
    let (key, first) = (raw.name.key(), raw.name.variables()[0]);
    let value = (!raw.name.is_secret()).then(|| shown(&raw.given));
    let (variable, setting) = match (&raw.origin, value) {
        (Origin::Environment { variable }, Some(value)) => (*variable, format!("{variable}={value}")),
        (Origin::Environment { variable }, None) => (*variable, (*variable).to_owned()),
        (_, Some(value)) => (first, format!("{key} = {value}")),
        (_, None) => (first, key.to_owned()),
    };
    match &raw.origin {
        // As compilers say it, so that editors jump there.
        Origin::File { path, line } => (variable, format!("{path}:{line}: {setting}")),
        Origin::Code => (variable, format!("{setting}, set in code")),
        Origin::Contents { path, variable } => (variable, format!("{variable}={path:?}")),
        Origin::Environment { .. } | Origin::Default => (variable, setting),
    }
}

/// What went wrong, where the setting at fault has its own advice.
pub(super) fn without_help(error: &Error) -> String {
    let text = error.to_string();
    let advice = error.help().map(|help| format!("; {help}")).unwrap_or_default();
    text.strip_suffix(&advice).unwrap_or(&text).to_owned()
}

/// The line of `Cargo.toml` that switches `feature` on.
pub(super) fn cargo_line(version: &str, feature: &str) -> String {
    format!("peercache = {{ version = \"{version}\", features = [\"{feature}\"] }}")
}

/// Enough of a value to recognise it by: an error is one line.
pub(super) fn shortened(value: &str) -> String {
    const MOST: usize = 80;
    match value.char_indices().nth(MOST) {
        Some((end, _)) => format!("{}…", &value[..end]),
        None => value.to_owned(),
    }
}

/// What is shown without quotes, on one line.
pub(super) fn on_one_line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

fn shown(given: &Given) -> String {
    match given {
        Given::Number(number) => on_one_line(&shortened(number)),
        given => format!("{:?}", shortened(&redacted(&given.text()))),
    }
}

/// What a secret, a token or a key begins with.
const SECRETS: [&str; 12] = [
    "pc-secret-",
    "pc-readonly-",
    "pc-public-",
    "ghp_",
    "gho_",
    "ghu_",
    "ghs_",
    "ghr_",
    "github_pat_",
    "storacha1:",
    "AKIA",
    "ASIA",
];
/// Names of parts of a query, or of a form, whose values are never shown.
const PARAMETERS: [&str; 9] = [
    "access_token",
    "token",
    "password",
    "passwd",
    "secret",
    "client_secret",
    "api_key",
    "sig",
    "x-amz-signature",
];
/// The shortest that is taken for a secret, in bytes behind its beginning.
const SHORTEST: usize = 8;

/// Whether one of this cache's secrets is in `text`.
pub(super) fn secret_in(text: &str) -> bool {
    SECRETS[..3].iter().any(|start| {
        text.match_indices(start).any(|(place, _)| {
            let rest = &text.as_bytes()[place + start.len()..];
            rest.iter().take_while(|byte| is_part_of_token(**byte)).count() >= SHORTEST
        })
    })
}

/// `text` without what must not be in a message: secrets, tokens of GitHub, the user and
/// password of a URL, and the values of parameters such as `access_token`. Each is replaced with
/// `…`.
///
/// ```
/// use peercache::config::redacted;
///
/// assert_eq!(redacted("https://me:word@host/x?access_token=abc&page=2"), "https://…@host/x?access_token=…&page=2");
/// assert_eq!(redacted("Bearer ghs_0123456789abcdef"), "Bearer ghs_…");
/// ```
#[must_use]
pub fn redacted(text: &str) -> String {
    let separates = |c: char| c.is_whitespace() || matches!(c, ',' | '"' | '\'' | '`' | '<' | '>');
    let words = text.split_inclusive(separates);
    words
        .map(|word| {
            let body = word.trim_end_matches(separates);
            without_tokens(&without_parameters(&without_user(body))) + &word[body.len()..]
        })
        .collect()
}

/// Without what stands before the last `@` of an address: it may hold a password, also where a name
/// is expected.
fn without_user(word: &str) -> String {
    let (scheme, rest) = match word.split_once("://") {
        Some((scheme, rest)) => (format!("{scheme}://"), rest),
        None => (String::new(), word),
    };
    match rest.rsplit_once('@') {
        // What a remedy shows the form with is no credential.
        Some(("USER:PASSWORD" | ":PASSWORD", _)) => word.to_owned(),
        Some((user, host)) if !scheme.is_empty() || user.contains(':') => format!("{scheme}…@{host}"),
        _ => word.to_owned(),
    }
}

fn without_parameters(word: &str) -> String {
    let parts = word.split_inclusive(['?', '&', ';', '#']);
    parts
        .map(|part| {
            let end = part.len() - part.trim_end_matches(['?', '&', ';', '#']).len();
            let (body, end) = part.split_at(part.len() - end);
            match body.split_once('=') {
                Some((name, value)) if !value.is_empty() && is_secret_parameter(name) => {
                    format!("{name}=…{end}")
                }
                _ => part.to_owned(),
            }
        })
        .collect()
}

fn is_secret_parameter(name: &str) -> bool {
    let name = name.rsplit(['/', '?']).next().unwrap_or(name);
    PARAMETERS.iter().any(|known| name.eq_ignore_ascii_case(known))
}

fn without_tokens(word: &str) -> String {
    let mut rest = word;
    let mut text = String::new();
    let starts = |rest: &str| {
        let found = SECRETS.iter().filter_map(|start| Some((rest.find(start)?, start.len())));
        found.min()
    };
    while let Some((place, length)) = starts(rest) {
        let behind = &rest[place + length..];
        let token = behind.bytes().take_while(|byte| is_part_of_token(*byte)).count();
        text.push_str(&rest[..place + length]);
        if token >= SHORTEST {
            text.push('…');
            rest = &behind[token..];
        } else {
            rest = behind;
        }
    }
    text + rest
}

/// Tokens of GitHub's are JSON Web Tokens too, which have dots.
const fn is_part_of_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'+' | b'=')
}

#[cfg(test)]
mod tests {
    use super::redacted;

    #[test]
    fn redacted_text_has_no_credentials() {
        for (text, shown) in [
            ("https://s3.example.net/a", "https://s3.example.net/a"),
            ("http://user:word@s3.example.net:1/x", "http://…@s3.example.net:1/x"),
            ("http://user:w/rd@s3.example.net", "http://…@s3.example.net"),
            ("user:word@team-cache", "…@team-cache"),
            ("me@example.net", "me@example.net"),
            ("redis://USER:PASSWORD@HOST", "redis://USER:PASSWORD@HOST"),
            ("redis://USER:PASSWORd@HOST", "redis://…@HOST"),
            ("pc-secret-1-KioqKioqKioqKioq", "pc-secret-…"),
            ("pc-secret-", "pc-secret-"),
            ("x-access-token:ghs_abcdefghij.klmno_p-q.rs=", "x-access-token:ghs_…"),
            ("a=ghp_abcdefghij,b=ghp_abcdefghij", "a=ghp_…,b=ghp_…"),
            ("/r?token=abc&page=2&password=", "/r?token=…&page=2&password="),
            ("access_token=abc#token=x", "access_token=…#token=…"),
            ("pc-secret-a pc-secret-1-KioqKioqKioqKioq", "pc-secret-a pc-secret-…"),
            ("größe=ü", "größe=ü"),
        ] {
            assert_eq!(redacted(text), shown);
        }
    }
}
