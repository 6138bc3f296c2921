//! Delegations, and invocations, which are delegations to whoever carries them out.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use ed25519_dalek::SigningKey;
use ipld_core::cid::Cid;
use ipld_core::ipld::Ipld;

use super::car::{CAR, Car};
use super::did::Did;
use super::{Malformed, bytes, fields, list, map, signature, text};

const VERSION: &str = "0.9.1";
/// The longest chain of proofs that is read.
const MAX_PROOFS: usize = 32;

/// What one principal lets another do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Capability {
    pub(crate) can: String,
    /// On what: the DID of a space.
    pub(crate) with: String,
    /// Parameters. None and an empty map are different in what is signed.
    pub(crate) nb: Option<Ipld>,
}

impl Capability {
    /// Its parameters, which have to be a map.
    pub(crate) fn parameters(&self) -> Result<&BTreeMap<String, Ipld>, Malformed> {
        fields(self.nb.as_ref().ok_or(Malformed("a capability has no parameters"))?)
    }
}

/// A delegation or an invocation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Delegation {
    pub(crate) issuer: Did,
    pub(crate) audience: Did,
    pub(crate) capabilities: Vec<Capability>,
    /// Seconds since 1970; `None`: it never expires.
    pub(crate) expiration: Option<u64>,
    pub(crate) not_before: Option<u64>,
    pub(crate) proofs: Vec<Cid>,
    pub(crate) facts: Vec<Ipld>,
    pub(crate) nonce: Option<String>,
    pub(crate) signature: Vec<u8>,
}

impl Delegation {
    /// Signs it, and adds it to `car`.
    pub(crate) fn issue(mut self, key: &SigningKey, car: &mut Car) -> Result<Cid, Malformed> {
        self.signature = signature::sign(key, self.statement()?.as_bytes());
        car.add(&self.to_ipld())
    }

    /// The one in the block `cid`. Nothing is verified but its form.
    pub(crate) fn read(car: &Car, cid: Cid) -> Result<Self, Malformed> {
        let value = car.value(&cid)?;
        let value = fields(&value)?;
        if text(value, "v") != Some(VERSION) {
            return Err(Malformed("a delegation has an unknown version of UCAN"));
        }
        let principal = |name| bytes(value, name).ok_or(Malformed("a delegation names no principal"));
        let seconds = |name| match value.get(name) {
            None | Some(Ipld::Null) => Ok(None),
            Some(Ipld::Integer(seconds)) => {
                u64::try_from(*seconds).map(Some).map_err(|_| Malformed("a time is negative"))
            }
            Some(_) => Err(Malformed("a time is no number")),
        };
        let capabilities = list(value, "att").iter().map(|capability| {
            let capability = fields(capability)?;
            let part = |name| text(capability, name).ok_or(Malformed("a capability is incomplete"));
            Ok(Capability {
                can: part("can")?.to_owned(),
                with: part("with")?.to_owned(),
                nb: capability.get("nb").cloned(),
            })
        });
        let proofs = list(value, "prf").iter().map(|proof| match proof {
            Ipld::Link(cid) => Ok(*cid),
            _ => Err(Malformed("a proof is no link")),
        });
        Ok(Self {
            issuer: Did::from_bytes(principal("iss")?)?,
            audience: Did::from_bytes(principal("aud")?)?,
            capabilities: capabilities.collect::<Result<_, _>>()?,
            expiration: seconds("exp")?,
            not_before: seconds("nbf")?,
            proofs: proofs.collect::<Result<_, _>>()?,
            facts: list(value, "fct").to_vec(),
            nonce: text(value, "nnc").map(str::to_owned),
            signature: bytes(value, "s").ok_or(Malformed("a delegation has no signature"))?.to_vec(),
        })
    }

    /// Whether its issuer, who has to be a key, signed it.
    pub(crate) fn verify(&self) -> Result<(), Malformed> {
        let key = self.issuer.key().ok_or(Malformed("the issuer's key is not known"))?;
        signature::verify(&key, self.statement()?.as_bytes(), &self.signature)
    }

    /// What is signed: the header and the payload of the same UCAN as a JWT.
    pub(super) fn statement(&self) -> Result<String, Malformed> {
        let header = map([
            ("alg", Ipld::String("EdDSA".into())),
            ("typ", Ipld::String("JWT".into())),
            ("ucv", Ipld::String(VERSION.into())),
        ]);
        let mut payload = vec![
            ("iss", Ipld::String(self.issuer.to_string())),
            ("aud", Ipld::String(self.audience.to_string())),
            ("att", self.attenuations()),
            ("exp", self.expiration.map_or(Ipld::Null, |at| Ipld::Integer(at.into()))),
            ("prf", Ipld::List(self.proofs.iter().map(|cid| Ipld::String(cid.to_string())).collect())),
        ];
        payload.extend(self.optional());
        // The JavaScript implementation has an empty nonce in the block, and does not sign it.
        payload.retain(|(name, value)| *name != "nnc" || *value != Ipld::String(String::new()));
        let payload = Ipld::Map(payload.into_iter().map(|(name, value)| (name.to_owned(), value)).collect());
        let part = |value: &Ipld| {
            let json = serde_ipld_dagjson::to_vec(value).map_err(|_| Malformed("a value is no DAG-JSON"))?;
            Ok(URL_SAFE_NO_PAD.encode(json))
        };
        Ok(format!("{}.{}", part(&header)?, part(&payload)?))
    }

    fn to_ipld(&self) -> Ipld {
        let mut value = vec![
            ("v", Ipld::String(VERSION.into())),
            ("iss", Ipld::Bytes(self.issuer.to_bytes())),
            ("aud", Ipld::Bytes(self.audience.to_bytes())),
            ("att", self.attenuations()),
            ("exp", self.expiration.map_or(Ipld::Null, |at| Ipld::Integer(at.into()))),
            ("prf", Ipld::List(self.proofs.iter().copied().map(Ipld::Link).collect())),
            ("s", Ipld::Bytes(self.signature.clone())),
        ];
        value.extend(self.optional());
        Ipld::Map(value.into_iter().map(|(name, value)| (name.to_owned(), value)).collect())
    }

    fn attenuations(&self) -> Ipld {
        let one = |capability: &Capability| {
            let mut value = vec![
                ("can", Ipld::String(capability.can.clone())),
                ("with", Ipld::String(capability.with.clone())),
            ];
            if let Some(nb) = &capability.nb {
                value.push(("nb", nb.clone()));
            }
            Ipld::Map(value.into_iter().map(|(name, value)| (name.to_owned(), value)).collect())
        };
        Ipld::List(self.capabilities.iter().map(one).collect())
    }

    fn optional(&self) -> Vec<(&'static str, Ipld)> {
        let mut optional = Vec::new();
        if !self.facts.is_empty() {
            optional.push(("fct", Ipld::List(self.facts.clone())));
        }
        if let Some(nonce) = &self.nonce {
            optional.push(("nnc", Ipld::String(nonce.clone())));
        }
        if let Some(at) = self.not_before {
            optional.push(("nbf", Ipld::Integer(at.into())));
        }
        optional
    }
}

/// A delegation with the blocks of its own proofs: what the official command line prints with
/// `--base64`.
#[derive(Clone, Debug)]
pub(crate) struct Proof {
    pub(crate) cid: Cid,
    pub(crate) delegation: Delegation,
    pub(crate) blocks: Car,
}

impl Proof {
    /// From multibase base64 of an identifier with identity hash of a CAR, or of the CAR itself.
    pub(crate) fn from_text(text: &str) -> Result<Self, Malformed> {
        let digits = match text.split_at_checked(1) {
            Some(("m", digits)) => STANDARD_NO_PAD.decode(digits),
            Some(("u", digits)) => URL_SAFE_NO_PAD.decode(digits),
            _ => {
                return Err(Malformed(
                    "the proof does not begin with `m` or `u`, as base64 of multibase does",
                ));
            }
        };
        let bytes = digits.map_err(|_| Malformed("the proof is no base64"))?;
        let car = match bytes.first() {
            // A CID of version 1 with the archive itself in the place of a hash. Longer than the
            // type takes.
            Some(1) => {
                let mut rest = &bytes[1..];
                let codec = super::car::take_varint(&mut rest)?;
                let hash = super::car::take_varint(&mut rest)?;
                let length = usize::try_from(super::car::take_varint(&mut rest)?).unwrap_or(usize::MAX);
                if (codec, hash) != (CAR, 0) || rest.len() != length {
                    return Err(Malformed("the proof is no archive of a delegation"));
                }
                Car::decode(rest)?
            }
            _ => Car::decode(&bytes)?,
        };
        let cid = car.root_link("ucan@0.9.1")?;
        let delegation = Delegation::read(&car, cid)?;
        Ok(Self { cid, delegation, blocks: car })
    }

    /// Every delegation of the chain, this one first.
    pub(crate) fn chain(&self) -> Result<Vec<Delegation>, Malformed> {
        let mut chain = Vec::new();
        let mut open = vec![self.cid];
        while let Some(cid) = open.pop() {
            if chain.len() == MAX_PROOFS {
                return Err(Malformed("the proof has more than 32 delegations"));
            }
            let delegation = Delegation::read(&self.blocks, cid)?;
            open.extend(delegation.proofs.iter().filter(|proof| self.blocks.blocks.contains_key(*proof)));
            chain.push(delegation);
        }
        Ok(chain)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> (SigningKey, Delegation) {
        let key = SigningKey::from_bytes(&[3; 32]);
        let delegation = Delegation {
            issuer: Did::of(&key.verifying_key()),
            audience: "did:web:up.example.org".parse().unwrap(),
            capabilities: vec![Capability {
                can: "upload/get".into(),
                with: "did:key:z6Mkexample".into(),
                nb: Some(map([("root", Ipld::Link(super::super::car::cid_of(0x55, b"x")))])),
            }],
            expiration: Some(1_800_000_000),
            not_before: None,
            proofs: Vec::new(),
            facts: Vec::new(),
            nonce: Some("1".into()),
            signature: Vec::new(),
        };
        (key, delegation)
    }

    #[test]
    fn an_issued_delegation_is_read_and_verifies_and_a_changed_one_does_not() {
        let (key, delegation) = sample();
        let mut car = Car::default();
        let cid = delegation.issue(&key, &mut car).unwrap();
        let read = Delegation::read(&car, cid).unwrap();
        assert_eq!(read.verify(), Ok(()));
        let changed: [fn(&mut Delegation); 5] = [
            |d| d.expiration = None,
            |d| d.capabilities[0].can = "upload/remove".into(),
            |d| d.audience = "did:web:other".parse().unwrap(),
            |d| d.nonce = Some("2".into()),
            |d| d.facts.push(Ipld::Bool(true)),
        ];
        for change in changed {
            let mut changed = read.clone();
            change(&mut changed);
            assert!(changed.verify().is_err(), "{changed:?}");
        }
    }
}
