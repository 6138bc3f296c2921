//! Credentials as the official command line prints them, for tests and fuzzers.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use ed25519_dalek::SigningKey;
use ipld_core::ipld::Ipld;

use super::car::{CAR, Car, varint};
use super::delegation::{Capability, Delegation};
use super::did::Did;
use super::map;
use super::signature::key_to_text;

/// The key and the proof of an agent for a space.
pub(crate) fn printed(abilities: &[&str], expiration: Option<u64>) -> (String, String) {
    let (space, agent) = (SigningKey::from_bytes(&[1; 32]), SigningKey::from_bytes(&[2; 32]));
    let with = Did::of(&space.verifying_key()).to_string();
    let mut car = Car::default();
    let delegation = Delegation {
        issuer: Did::of(&space.verifying_key()),
        audience: Did::of(&agent.verifying_key()),
        capabilities: abilities
            .iter()
            .map(|can| Capability { can: (*can).into(), with: with.clone(), nb: None })
            .collect(),
        expiration,
        not_before: None,
        proofs: Vec::new(),
        facts: Vec::new(),
        nonce: None,
        signature: Vec::new(),
    };
    let encodes = "a delegation of plain text can be encoded";
    let Ok(cid) = delegation.issue(&space, &mut car) else { panic!("{encodes}") };
    let Ok(root) = car.add(&map([("ucan@0.9.1", Ipld::Link(cid))])) else { panic!("{encodes}") };
    car.roots = vec![root];
    let Ok(archive) = car.encode() else { panic!("{encodes}") };
    (key_to_text(&agent).to_string(), proof_text(&archive))
}

/// An archive of a delegation as `--base64` prints it.
pub(crate) fn proof_text(archive: &[u8]) -> String {
    let mut bytes = vec![1];
    varint(&mut bytes, CAR);
    varint(&mut bytes, 0);
    varint(&mut bytes, archive.len() as u64);
    bytes.extend_from_slice(archive);
    format!("m{}", STANDARD_NO_PAD.encode(bytes))
}
