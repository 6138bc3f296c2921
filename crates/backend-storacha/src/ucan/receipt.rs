//! Receipts: what came of an invocation, signed by whoever carried it out.

use std::collections::BTreeMap;

use ed25519_dalek::{SigningKey, VerifyingKey};
use ipld_core::cid::Cid;
use ipld_core::ipld::Ipld;

use super::car::{Car, encode};
use super::did::Did;
use super::{Malformed, bytes, fields, link, list, map, signature, text};

/// What came of an invocation.
#[derive(Clone, Debug)]
pub(crate) struct Receipt {
    /// The invocation.
    pub(crate) ran: Cid,
    pub(crate) issuer: Did,
    pub(crate) result: Result<Ipld, Failure>,
    /// Invocations that follow from it.
    pub(crate) forks: Vec<Cid>,
    outcome: Ipld,
    signature: Vec<u8>,
}

/// Why an invocation was not carried out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Failure {
    pub(crate) name: String,
    pub(crate) message: String,
}

impl Receipt {
    /// The one in the block `cid`. Nothing is verified but its form.
    pub(crate) fn read(car: &Car, cid: Cid) -> Result<Self, Malformed> {
        let value = car.value(&cid)?;
        let value = fields(&value)?;
        let outcome = value.get("ocm").ok_or(Malformed("a receipt has no outcome"))?.clone();
        let signature = bytes(value, "sig").ok_or(Malformed("a receipt has no signature"))?.to_vec();
        let parts = fields(&outcome)?;
        let out = fields(parts.get("out").ok_or(Malformed("a receipt has no result"))?)?;
        let result = match (out.get("ok"), out.get("error")) {
            (Some(ok), None) => Ok(ok.clone()),
            (None, Some(error)) => Err(failure(error)),
            _ => return Err(Malformed("a receipt has not exactly one result")),
        };
        let effects = match parts.get("fx") {
            Some(Ipld::Map(effects)) => effects.clone(),
            _ => BTreeMap::new(),
        };
        let forks = list(&effects, "fork").iter().filter_map(|fork| match fork {
            Ipld::Link(cid) => Some(*cid),
            _ => None,
        });
        Ok(Self {
            ran: link(parts, "ran").ok_or(Malformed("a receipt does not say what was carried out"))?,
            issuer: text(parts, "iss").ok_or(Malformed("a receipt has no issuer"))?.parse()?,
            result,
            forks: forks.collect(),
            signature,
            outcome,
        })
    }

    /// Whether the holder of `key` signed it.
    pub(crate) fn verify(&self, key: &VerifyingKey) -> Result<(), Malformed> {
        signature::verify(key, &encode(&self.outcome)?, &self.signature)
    }

    /// The receipt of an invocation that succeeded and says nothing; added to `car`.
    pub(crate) fn issue_ok(key: &SigningKey, ran: Cid, car: &mut Car) -> Result<Cid, Malformed> {
        let outcome = map([
            ("ran", Ipld::Link(ran)),
            ("out", map([("ok", map([]))])),
            ("fx", map([("fork", Ipld::List(Vec::new()))])),
            ("meta", map([])),
            ("iss", Ipld::String(Did::of(&key.verifying_key()).to_string())),
            ("prf", Ipld::List(Vec::new())),
        ]);
        let signature = signature::sign(key, &encode(&outcome)?);
        car.add(&map([("ocm", outcome), ("sig", Ipld::Bytes(signature))]))
    }
}

fn failure(error: &Ipld) -> Failure {
    let part = |name| match error {
        Ipld::Map(fields) => text(fields, name).unwrap_or_default(),
        _ => "",
    };
    Failure { name: part("name").to_owned(), message: part("message").to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ucan::car::{RAW, cid_of};

    #[test]
    fn an_issued_receipt_is_read_and_verifies_for_its_issuer_alone() {
        let key = SigningKey::from_bytes(&[5; 32]);
        let ran = cid_of(RAW, b"task");
        let mut car = Car::default();
        let cid = Receipt::issue_ok(&key, ran, &mut car).unwrap();
        let receipt = Receipt::read(&car, cid).unwrap();
        assert_eq!((receipt.ran, receipt.forks.len()), (ran, 0));
        assert_eq!(receipt.verify(&key.verifying_key()), Ok(()));
        let other = SigningKey::from_bytes(&[6; 32]).verifying_key();
        assert!(receipt.verify(&other).is_err());
    }
}
