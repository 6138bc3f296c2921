//! Texts and URLs.

use super::kind::{AnyKind, Kind, refused};
use crate::config::env::Env;
use crate::config::error::{ConfigError, redacted};
use crate::config::value::{Given, Raw};

/// A text.
pub(in crate::config) struct Text {
    /// What it is, with its article.
    pub(in crate::config) what: &'static str,
    /// The most bytes that it has.
    pub(in crate::config) most: usize,
}

impl Text {
    /// A short text of any content.
    pub(in crate::config) const SHORT: Self = Self { what: "a text of at most 1024 bytes", most: 1024 };

    pub(in crate::config) fn given(text: impl Into<String>) -> Given {
        Given::Text(text.into())
    }
}

impl AnyKind for Text {
    fn accepted(&self, _: Option<&str>) -> String {
        format!("give {}", self.what)
    }

    fn described(&self) -> String {
        format!("text, at most {} bytes", self.most)
    }
}

impl Kind for Text {
    type Value = String;

    fn parse(&self, raw: &Raw, _: &Env<'_>) -> Result<String, ConfigError> {
        let text = raw.given.text().trim().to_owned();
        if text.len() > self.most {
            let problem = format!("it has {} bytes, the most is {}", text.len(), self.most);
            return Err(ConfigError::of(raw, problem, "choose a shorter one"));
        }
        Ok(text)
    }

    fn show(&self, text: &String) -> Option<String> {
        Some(redacted(text)).filter(|text| !text.is_empty())
    }
}

/// A URL.
pub(in crate::config) struct Url {
    /// The schemes that are accepted, without `://`.
    pub(in crate::config) schemes: &'static [&'static str],
    pub(in crate::config) example: &'static str,
    /// Whether it may hold a user and a password. They are never shown.
    pub(in crate::config) with_user: bool,
}

impl Url {
    pub(in crate::config) fn given(url: impl Into<String>) -> Given {
        Given::Text(url.into())
    }
}

impl AnyKind for Url {
    fn accepted(&self, _: Option<&str>) -> String {
        format!("give a URL such as {}", self.example)
    }

    fn described(&self) -> String {
        let schemes: Vec<_> = self.schemes.iter().map(|scheme| format!("`{scheme}://`")).collect();
        format!("URL, {}", schemes.join(" or "))
    }
}

impl Kind for Url {
    type Value = String;

    fn parse(&self, raw: &Raw, _: &Env<'_>) -> Result<String, ConfigError> {
        let text = raw.given.text().trim().to_owned();
        let Some((scheme, rest)) = text.split_once("://") else {
            return refused(self, raw, "this is not a URL");
        };
        if !self.schemes.iter().any(|accepted| scheme.eq_ignore_ascii_case(accepted)) {
            let schemes = self.schemes.join(", ");
            return refused(self, raw, format!("the URL begins with another scheme than {schemes}"));
        }
        let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
        let has_host = scheme.eq_ignore_ascii_case("unix") || !authority.trim_matches(['@', ':']).is_empty();
        if !has_host || text.chars().any(|c| c.is_whitespace() || c.is_control()) {
            return refused(self, raw, "this is not a URL");
        }
        if !self.with_user && authority.contains('@') {
            return refused(self, raw, "the URL holds a user or a password, and this setting is shown");
        }
        Ok(text)
    }

    fn show(&self, url: &String) -> Option<String> {
        // The query of a socket's URL may hold a password.
        let shown = match url.split_once('?') {
            Some((start, _)) if self.with_user => format!("{}?…", redacted(start)),
            _ => redacted(url),
        };
        Some(shown).filter(|url| !url.is_empty())
    }
}
