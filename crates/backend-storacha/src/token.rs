//! The credentials: the agent's key and the proof of what it may do in which space.

use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ed25519_dalek::SigningKey;
use peercache_api::{Error, ErrorKind, Operation};
use serde::{Deserialize, Serialize};
use zeroize::{Zeroize as _, Zeroizing};

use crate::ucan::Malformed;
use crate::ucan::delegation::Proof;
use crate::ucan::did::Did;
use crate::ucan::signature::{key_from_text, key_to_text};

const PREFIX: &str = "storacha1:";
/// The longest token that is read, in bytes.
const MAX_TOKEN_BYTES: usize = 256 * 1024;
/// What the tier does in the space.
pub(crate) const NEEDED: [&str; 6] = [
    "space/blob/add",
    "space/blob/get/0/1",
    "space/blob/remove",
    "upload/add",
    "upload/get",
    "upload/remove",
];

/// What `WEB3_STORAGE_TOKEN` holds: `storacha1:` and base64url of JSON.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Fields {
    key: String,
    proof: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    space: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    service: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    did: Option<String>,
}

impl Drop for Fields {
    fn drop(&mut self) {
        self.key.zeroize();
    }
}

/// Credentials for a space: an agent's private key, and a delegation that says what it may do.
///
/// `Debug` shows the space and the agent, never the key.
#[derive(Clone)]
pub struct Token {
    pub(crate) key: SigningKey,
    pub(crate) proof: Proof,
    pub(crate) space: Did,
    pub(crate) service: Option<String>,
    pub(crate) did: Option<String>,
}

/// What a token lets its holder do.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Grant {
    /// The agent that holds the key: `did:key:…`.
    pub agent: String,
    /// The space.
    pub space: String,
    /// The abilities, such as `upload/*`.
    pub abilities: Vec<String>,
    /// When the first delegation of the proof expires; `None`: never.
    pub expires: Option<SystemTime>,
    /// The abilities that the tier needs and the proof does not grant.
    pub missing: Vec<&'static str>,
    /// The service's URL, where the token names it.
    pub service: Option<String>,
    /// The service's DID, where the token names it.
    pub did: Option<String>,
}

impl Token {
    /// From its text: `storacha1:…`, or `KEY;PROOF` with the key and the proof as the official
    /// command line prints them (`storacha key create`, `storacha delegation create … --base64`).
    ///
    /// # Errors
    /// [`ErrorKind::Config`], which never repeats the text: a token of the closed service of
    /// web3.storage, damage, or a proof that was made for another agent.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let text = text.trim();
        if text.is_empty() {
            return Err(refused("the token is empty"));
        }
        if text.len() > MAX_TOKEN_BYTES {
            return Err(refused("the token is longer than 256 KiB"));
        }
        if text.starts_with("eyJ") && text.split('.').count() == 3 {
            return Err(Error::new(
                ErrorKind::Config,
                Operation::Configure,
                "this is a token of the web3.storage API, which was closed in 2024",
            )
            .with_backend("storacha")
            .with_help(
                "self-host the upload service or choose one that runs, make a key and a delegation with the \
                 `storacha` command line, and build a token with `peercache storacha token`",
            ));
        }
        let fields = if let Some(encoded) = text.strip_prefix(PREFIX) {
            let json = Zeroizing::new(
                URL_SAFE_NO_PAD
                    .decode(encoded.trim_end_matches('='))
                    .map_err(|_| refused("the token is no base64url behind `storacha1:`"))?,
            );
            serde_json::from_slice(&json).map_err(|_| {
                refused("the token holds no JSON with the fields `key`, `proof`, and maybe `space`, `service`, `did`")
            })?
        } else if let Some((key, proof)) = text.split_once(';') {
            Fields {
                key: key.trim().into(),
                proof: proof.trim().into(),
                space: None,
                service: None,
                did: None,
            }
        } else {
            return Err(refused("the token is neither `storacha1:…` nor `KEY;PROOF`"));
        };
        Self::assemble(&fields)
    }

    /// From the outputs of the official command line, and where the service is.
    ///
    /// # Errors
    /// As [`Token::parse`].
    pub fn new(key: &str, proof: &str, service: Option<String>, did: Option<String>) -> Result<Self, Error> {
        // The command line prints the DID before the key, as a comment.
        let written = |line: &&str| !line.is_empty() && !line.starts_with('#');
        let key = key.lines().map(str::trim).find(written).unwrap_or_default().to_owned();
        let proof = proof.trim().to_owned();
        Self::assemble(&Fields { key, proof, space: None, service, did })
    }

    fn assemble(fields: &Fields) -> Result<Self, Error> {
        let at = |part: &'static str| {
            move |why: Malformed| {
                refused("a part of the token cannot be read")
                    .with_context("part", part)
                    .with_context("reason", why)
            }
        };
        let key = key_from_text(&fields.key).map_err(at("key"))?;
        let proof = Proof::from_text(&fields.proof).map_err(at("proof"))?;
        for delegation in proof.chain().map_err(at("proof"))? {
            // An account is no key: only the service can verify what it signed.
            if delegation.issuer.key().is_some() {
                delegation.verify().map_err(at("proof"))?;
            }
        }
        let agent = Did::of(&key.verifying_key());
        if proof.delegation.audience != agent {
            return Err(refused("the proof was made for another agent than the key's")
                .with_context("agent", &agent)
                .with_context("audience", &proof.delegation.audience)
                .with_help("make the delegation for the agent's DID, or give the key of the other agent"));
        }
        let granted = proof.delegation.capabilities.first();
        let space = match (&fields.space, granted) {
            (Some(space), _) => space.parse().map_err(at("space"))?,
            (None, Some(capability)) => capability.with.parse().map_err(at("proof"))?,
            (None, None) => return Err(refused("the proof grants nothing")),
        };
        if let Some(did) = &fields.did {
            did.split_once('=').map_or(did.as_str(), |(did, _)| did).parse::<Did>().map_err(at("did"))?;
        }
        Ok(Self { key, proof, space, service: fields.service.clone(), did: fields.did.clone() })
    }

    /// The text that [`Token::parse`] reads. Whoever sees it may do what the proof grants.
    #[must_use]
    pub fn to_text(&self, proof: &str) -> Zeroizing<String> {
        let fields = Fields {
            key: key_to_text(&self.key).to_string(),
            proof: proof.trim().to_owned(),
            space: Some(self.space.to_string()),
            service: self.service.clone(),
            did: self.did.clone(),
        };
        // Text and optional text only: it cannot fail.
        let json = Zeroizing::new(serde_json::to_vec(&fields).unwrap_or_default());
        Zeroizing::new(format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(&*json)))
    }

    /// What it grants.
    #[must_use]
    pub fn grant(&self) -> Grant {
        let chain = self.proof.chain().unwrap_or_default();
        let space = self.space.to_string();
        let abilities: Vec<_> = self
            .proof
            .delegation
            .capabilities
            .iter()
            .filter(|capability| covers_space(&capability.with, &space))
            .map(|capability| capability.can.clone())
            .collect();
        let missing =
            NEEDED.into_iter().filter(|needed| !abilities.iter().any(|granted| covers(granted, needed)));
        Grant {
            agent: Did::of(&self.key.verifying_key()).to_string(),
            missing: missing.collect(),
            space,
            abilities,
            expires: chain
                .iter()
                .filter_map(|delegation| delegation.expiration)
                .min()
                .map(|at| UNIX_EPOCH + Duration::from_secs(at.min(u64::from(u32::MAX) * 16))),
            service: self.service.clone(),
            did: self.did.clone(),
        }
    }
}

/// Whether the ability `granted` includes `needed`: the same, or a prefix and `*`.
fn covers(granted: &str, needed: &str) -> bool {
    granted == needed
        || granted == "*"
        || granted
            .strip_suffix("/*")
            .is_some_and(|start| needed.strip_prefix(start).is_some_and(|rest| rest.starts_with('/')))
}

fn covers_space(with: &str, space: &str) -> bool {
    with == space || with == "ucan:*"
}

fn refused(message: &'static str) -> Error {
    Error::new(ErrorKind::Config, Operation::Configure, message).with_backend("storacha").with_help(
        "build WEB3_STORAGE_TOKEN with `peercache storacha token` from a key (`storacha key create`) and a \
         delegation (`storacha delegation create AGENT --can 'space/blob/*' --can 'upload/*' --base64`)",
    )
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Token")
            .field("agent", &Did::of(&self.key.verifying_key()))
            .field("space", &self.space)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ucan::sample::printed;

    #[test]
    fn a_token_survives_its_text_and_says_what_it_grants() {
        let (key, proof) = printed(&["space/blob/*", "upload/*"], Some(4_000_000_000));
        let token = Token::new(&key, &proof, Some("https://up.example.org".into()), None).unwrap();
        let text = token.to_text(&proof);
        let again = Token::parse(&text).unwrap();
        assert_eq!(again.grant(), token.grant());
        let grant = again.grant();
        assert!(grant.missing.is_empty(), "{grant:?}");
        assert_eq!(grant.abilities, ["space/blob/*", "upload/*"]);
        assert_eq!(grant.expires, Some(UNIX_EPOCH + Duration::from_secs(4_000_000_000)));
        let shown = format!("{again:?} {grant:?}");
        assert!(!shown.contains(&key[4..20]), "{shown}");
        assert_eq!(Token::parse(&format!("{key};{proof}")).unwrap().grant().space, grant.space);
        let commented = format!("# {}\n{key}\n", grant.agent);
        assert_eq!(Token::new(&commented, &proof, None, None).unwrap().grant().agent, grant.agent);
    }

    #[test]
    fn what_is_missing_is_named() {
        let (key, proof) = printed(&["upload/*"], None);
        let grant = Token::new(&key, &proof, None, None).unwrap().grant();
        assert_eq!(grant.missing, ["space/blob/add", "space/blob/get/0/1", "space/blob/remove"]);
    }

    #[test]
    fn each_wrong_token_has_a_complaint_of_its_own_that_does_not_repeat_it() {
        let (key, proof) = printed(&["upload/*"], None);
        let other = key_to_text(&SigningKey::from_bytes(&[8; 32]));
        for (text, expected) in [
            (String::new(), "empty"),
            ("eyJhbGciOiJIUzI1NiJ9.eyJpc3MiOiJ3ZWIzLXN0b3JhZ2UifQ.c2ln".into(), "closed in 2024"),
            ("hello".into(), "neither"),
            ("storacha1:%%".into(), "no base64url"),
            ("storacha1:e30".into(), "no JSON with"),
            (format!("{};{proof}", &key[..30]), "part=key"),
            (format!("{key};{}", &proof[..50]), "part=proof"),
            (format!("{};{proof}", *other), "another agent"),
        ] {
            let error = Token::parse(&text).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Config);
            let shown = format!("{error} {error:?}");
            assert!(shown.contains(expected), "{shown}");
            assert!(text.len() < 10 || !shown.contains(&text[..text.len().min(24)]), "{shown}");
        }
    }
}
