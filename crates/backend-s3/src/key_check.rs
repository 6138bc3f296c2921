//! Keys that cannot be right are refused before the SDK sees them: it panics over some.

use peercache_api::{Error, ErrorKind, Operation};

/// Refuses keys that cannot be right: set and empty, which is what a secret looks like that a job
/// does not get, unless another source is set as well; or with a character that no request can
/// carry, such as the line break of a file. `variable` reads the environment.
pub(crate) fn check_keys(variable: impl Fn(&str) -> Option<String>) -> Result<(), Error> {
    for name in KEYS {
        if let Some(value) = variable(name).filter(|value| !value.trim().is_empty())
            && let Some(flaw) = flaw_of_key(&value)
        {
            return Err(Error::new(ErrorKind::Config, Operation::Open, format!("a credential {flaw}"))
                .with_backend("s3")
                .with_context("variable", name)
                .with_help("set it to the key alone: no quotes, no spaces, no line break at its end"));
        }
    }
    const OTHERS: [&str; 4] = [
        "AWS_PROFILE",
        "AWS_WEB_IDENTITY_TOKEN_FILE",
        "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
        "AWS_CONTAINER_CREDENTIALS_FULL_URI",
    ];
    let filled = |name: &str| variable(name).is_some_and(|value| !value.trim().is_empty());
    if OTHERS.iter().any(|name| filled(name)) {
        return Ok(());
    }
    for name in &KEYS[..2] {
        if variable(name).is_some_and(|value| value.trim().is_empty()) {
            return Err(empty(name));
        }
    }
    Ok(())
}

/// The variables of keys.
const KEYS: [&str; 3] = ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"];

/// Why this cannot be a key, in words that do not repeat it. The SDK panics over some of these.
pub(crate) fn flaw_of_key(key: &str) -> Option<&'static str> {
    if key.chars().any(char::is_control) {
        return Some("has a line break or another control character in it");
    }
    if key.chars().any(|c| !c.is_ascii_graphic()) {
        return Some("has a space or a character beyond ASCII in it");
    }
    if key.starts_with(['"', '\'']) {
        return Some("begins with a quotation mark");
    }
    None
}

/// The error for a credential that is set and empty.
fn empty(name: &'static str) -> Error {
    Error::new(ErrorKind::Config, Operation::Open, "a credential is set and empty")
        .with_backend("s3")
        .with_context("variable", name)
        .with_help(
            "give it a value, or unset it to use another source; in GitHub Actions, jobs of forks get no secrets",
        )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn empty_key_is_refused_unless_there_is_another_source() {
        let with = |set: &[(&str, &str)]| {
            check_keys(|name| {
                set.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
            })
        };
        assert!(with(&[]).is_ok());
        assert!(with(&[("AWS_ACCESS_KEY_ID", "AK"), ("AWS_SECRET_ACCESS_KEY", "s")]).is_ok());
        assert!(with(&[("AWS_ACCESS_KEY_ID", ""), ("AWS_PROFILE", "ci")]).is_ok());
        let error = with(&[("AWS_ACCESS_KEY_ID", "AK"), ("AWS_SECRET_ACCESS_KEY", " ")]).unwrap_err();
        insta::assert_snapshot!(error, @"s3: open failed (configuration): a credential is set and empty [variable=AWS_SECRET_ACCESS_KEY]; give it a value, or unset it to use another source; in GitHub Actions, jobs of forks get no secrets");
    }

    #[test]
    fn malformed_key_is_refused_by_name_and_not_repeated() {
        let with = |name: &'static str, value: &'static str| {
            check_keys(|known| match known {
                _ if known == name => Some(value.to_owned()),
                "AWS_ACCESS_KEY_ID" => Some("AK".to_owned()),
                "AWS_SECRET_ACCESS_KEY" => Some("aws+/secret=".to_owned()),
                _ => None,
            })
        };
        for name in KEYS {
            for value in ["hush\r", "hush\n", " hush", "hush\u{a0}", "\"hush\"", "'hush'", "hü"] {
                let error = with(name, value).unwrap_err();
                assert_eq!(error.context("variable"), Some(name), "{value:?}");
                assert!(!error.to_string().contains("hush"), "{error}");
            }
            assert!(with(name, "aws+/secret=").is_ok());
        }
        insta::assert_snapshot!(with("AWS_ACCESS_KEY_ID", "hush\r").unwrap_err(), @"s3: open failed (configuration): a credential has a line break or another control character in it [variable=AWS_ACCESS_KEY_ID]; set it to the key alone: no quotes, no spaces, no line break at its end");
    }
}
