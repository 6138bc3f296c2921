//! UCAN 0.9.1 as the upload service speaks it: principals, delegations, invocations, receipts, and
//! the CAR messages that carry them. A later version of UCAN is a change in this folder.
//!
//! Sources: the specifications of UCAN 0.9.1 (<https://github.com/ucan-wg/spec/tree/v0.9>), of its IPLD form
//! (<https://github.com/ucan-wg/ucan-ipld>), of UCAN invocations and receipts
//! (<https://github.com/storacha/specs>), and CARv1 (<https://ipld.io/specs/transport/car/carv1/>).

pub(crate) mod car;
pub(crate) mod delegation;
pub(crate) mod did;
pub(crate) mod message;
pub(crate) mod receipt;
#[cfg(any(test, fuzzing))]
pub(crate) mod sample;
pub(crate) mod signature;
#[cfg(test)]
mod vectors;

use std::collections::BTreeMap;
use std::fmt;

use ipld_core::cid::Cid;
use ipld_core::ipld::Ipld;

/// Why something that was received is not believed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Malformed(pub(crate) &'static str);

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl std::error::Error for Malformed {}

/// A map of DAG-CBOR from its fields.
pub(crate) fn map<const N: usize>(fields: [(&str, Ipld); N]) -> Ipld {
    Ipld::Map(fields.into_iter().map(|(name, value)| (name.to_owned(), value)).collect())
}

/// The fields of `value`, which has to be a map.
pub(crate) fn fields(value: &Ipld) -> Result<&BTreeMap<String, Ipld>, Malformed> {
    match value {
        Ipld::Map(fields) => Ok(fields),
        _ => Err(Malformed("a map is missing")),
    }
}

pub(crate) fn text<'a>(fields: &'a BTreeMap<String, Ipld>, name: &str) -> Option<&'a str> {
    match fields.get(name) {
        Some(Ipld::String(text)) => Some(text),
        _ => None,
    }
}

pub(crate) fn bytes<'a>(fields: &'a BTreeMap<String, Ipld>, name: &str) -> Option<&'a [u8]> {
    match fields.get(name) {
        Some(Ipld::Bytes(bytes)) => Some(bytes),
        _ => None,
    }
}

pub(crate) fn link(fields: &BTreeMap<String, Ipld>, name: &str) -> Option<Cid> {
    match fields.get(name) {
        Some(Ipld::Link(cid)) => Some(*cid),
        _ => None,
    }
}

pub(crate) fn list<'a>(fields: &'a BTreeMap<String, Ipld>, name: &str) -> &'a [Ipld] {
    match fields.get(name) {
        Some(Ipld::List(items)) => items,
        _ => &[],
    }
}
