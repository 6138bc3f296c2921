//! Secrets.

use std::fmt;
use std::sync::Arc;

use sha2::{Digest as _, Sha256};

use super::kind::{AnyKind, Kind, texts};
use crate::config::env::Env;
use crate::config::error::ConfigError;
use crate::config::value::{Given, Raw};

/// A secret's text: wiped when dropped where this build can seal, never shown.
#[derive(Clone)]
pub(in crate::config) struct SecretText(Arc<Wiped>);

#[cfg(feature = "seal")]
type Wiped = zeroize::Zeroizing<String>;
#[cfg(not(feature = "seal"))]
type Wiped = String;

impl SecretText {
    fn new(text: &str) -> Self {
        Self(Arc::new(Wiped::from(text.trim().to_owned())))
    }

    /// The text itself. Whoever takes it must not show it.
    #[cfg_attr(not(feature = "seal"), allow(dead_code, reason = "without sealing a secret is a mistake"))]
    pub(in crate::config) fn expose(&self) -> &str {
        self.0.as_str()
    }
}

impl fmt::Debug for SecretText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a secret")
    }
}

/// By digest, so that the time it takes tells nothing about the text.
impl PartialEq for SecretText {
    fn eq(&self, other: &Self) -> bool {
        Sha256::digest(self.0.as_bytes()) == Sha256::digest(other.0.as_bytes())
    }
}

impl Eq for SecretText {}

/// A secret.
pub(in crate::config) struct Secret {
    pub(in crate::config) accepted: &'static str,
}

impl Secret {
    pub(in crate::config) fn given(secret: impl Into<String>) -> Given {
        Given::Text(secret.into())
    }
}

impl AnyKind for Secret {
    fn accepted(&self, _: Option<&str>) -> String {
        self.accepted.to_owned()
    }

    fn described(&self) -> String {
        "secret; never shown".to_owned()
    }
}

impl Kind for Secret {
    type Value = SecretText;

    fn parse(&self, raw: &Raw, _: &Env<'_>) -> Result<SecretText, ConfigError> {
        Ok(SecretText::new(&raw.given.text()))
    }

    fn show(&self, _: &SecretText) -> Option<String> {
        Some("set".to_owned())
    }

    fn blank_is_unset(&self) -> bool {
        false
    }
}

/// Secrets.
pub(in crate::config) struct Secrets {
    pub(in crate::config) most: usize,
}

impl Secrets {
    pub(in crate::config) fn given<S: Into<String>>(secrets: impl IntoIterator<Item = S>) -> Given {
        texts(secrets)
    }
}

impl AnyKind for Secrets {
    fn accepted(&self, _: Option<&str>) -> String {
        "give the former secrets as a list of texts, or one text with commas".to_owned()
    }

    fn described(&self) -> String {
        format!("list of at most {} secrets; never shown", self.most)
    }

    fn takes_list(&self) -> bool {
        true
    }
}

impl Kind for Secrets {
    type Value = Vec<SecretText>;

    fn parse(&self, raw: &Raw, _: &Env<'_>) -> Result<Vec<SecretText>, ConfigError> {
        let secrets: Vec<_> = raw.given.parts().iter().map(|text| SecretText::new(text)).collect();
        if secrets.len() > self.most {
            return Err(ConfigError::of(
                raw,
                format!("there are {} former secrets, the most is {}", secrets.len(), self.most),
                "leave out the oldest: entries live for 30 days at most",
            ));
        }
        Ok(secrets)
    }

    fn show(&self, secrets: &Vec<SecretText>) -> Option<String> {
        (!secrets.is_empty()).then(|| "set".to_owned())
    }
}
