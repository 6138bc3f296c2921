//! Golden vectors of the official JavaScript implementation: `tests/golden/ucan.json`, which
//! `xtask/storacha/vectors.mjs` makes. Signed here with the same keys, each comes out byte for
//! byte.

use std::collections::{BTreeMap, HashMap};

use ed25519_dalek::SigningKey;
use ipld_core::cid::Cid;
use ipld_core::ipld::Ipld;

use super::car::{Car, DAG_CBOR, cid_of, encode};
use super::delegation::{Capability, Delegation, Proof};
use super::did::Did;
use super::receipt::Receipt;
use super::signature::{key_from_text, key_to_text, sign};
use super::{bytes, fields, link, list, map, text};

const GOLDEN: &str = include_str!("../../tests/golden/ucan.json");

type Fields = BTreeMap<String, Ipld>;

fn golden(name: &str) -> Vec<Fields> {
    let all: Ipld = serde_ipld_dagjson::from_slice(GOLDEN.as_bytes()).unwrap();
    let all = list(fields(&all).unwrap(), name).iter().map(|one| fields(one).unwrap().clone());
    let all: Vec<_> = all.collect();
    assert!(all.len() >= 3, "{name}");
    all
}

fn keys() -> HashMap<String, SigningKey> {
    let key = |one: &Fields| {
        let seed: [u8; 32] = bytes(one, "seed").unwrap().try_into().unwrap();
        (text(one, "name").unwrap().to_owned(), SigningKey::from_bytes(&seed))
    };
    golden("principals").iter().map(key).collect()
}

fn seconds(one: &Fields, name: &str) -> Option<u64> {
    match one.get(name) {
        Some(Ipld::Integer(seconds)) => Some(u64::try_from(*seconds).unwrap()),
        _ => None,
    }
}

fn links(one: &Fields, name: &str) -> Vec<Cid> {
    let link = |link: &Ipld| match link {
        Ipld::Link(cid) => *cid,
        other => panic!("no link: {other:?}"),
    };
    list(one, name).iter().map(link).collect()
}

/// The CAR that has this block alone.
fn holding(cid: Cid, block: &[u8]) -> Car {
    assert_eq!(cid_of(DAG_CBOR, block), cid);
    Car { roots: vec![cid], blocks: [(cid, block.to_vec().into())].into() }
}

#[test]
fn principals_have_the_same_texts() {
    let keys = keys();
    for one in golden("principals") {
        let key = &keys[text(&one, "name").unwrap()];
        let printed = text(&one, "text").unwrap();
        assert_eq!(&*key_to_text(key), printed);
        assert_eq!(&key_from_text(printed).unwrap(), key);
        assert_eq!(Did::of(&key.verifying_key()).to_string(), text(&one, "did").unwrap());
    }
}

#[test]
fn delegations_are_signed_the_same_and_verify_both_ways() {
    let keys = keys();
    for one in golden("delegations") {
        let name = text(&one, "name").unwrap();
        let key = &keys[text(&one, "issuer").unwrap()];
        let capability = |capability: &Ipld| {
            let capability = fields(capability).unwrap();
            Capability {
                can: text(capability, "can").unwrap().into(),
                with: text(capability, "with").unwrap().into(),
                nb: capability.get("nb").cloned(),
            }
        };
        let ours = Delegation {
            issuer: Did::of(&key.verifying_key()),
            audience: text(&one, "audience").unwrap().parse().unwrap(),
            capabilities: list(&one, "capabilities").iter().map(capability).collect(),
            expiration: seconds(&one, "expiration"),
            not_before: seconds(&one, "notBefore"),
            proofs: links(&one, "proofs"),
            facts: list(&one, "facts").to_vec(),
            nonce: text(&one, "nonce").map(str::to_owned),
            signature: Vec::new(),
        };
        assert_eq!(ours.statement().unwrap(), text(&one, "statement").unwrap(), "{name}");
        let (cid, block) = (link(&one, "cid").unwrap(), bytes(&one, "block").unwrap());
        let mut car = Car::default();
        let issued = ours.issue(key, &mut car).unwrap();
        assert_eq!(&car.blocks[&issued][..], block, "{name}");
        assert_eq!(issued, cid, "{name}");
        let theirs = Delegation::read(&holding(cid, block), cid).unwrap();
        assert_eq!(theirs.verify(), Ok(()), "{name}");
    }
}

#[test]
fn receipts_are_signed_the_same_and_verify_both_ways() {
    let keys = keys();
    for one in golden("receipts") {
        let name = text(&one, "name").unwrap();
        let key = &keys[text(&one, "issuer").unwrap()];
        let (cid, block) = (link(&one, "cid").unwrap(), bytes(&one, "block").unwrap());
        let theirs = Receipt::read(&holding(cid, block), cid).unwrap();
        assert_eq!(theirs.verify(&key.verifying_key()), Ok(()), "{name}");
        assert_eq!(theirs.ran, link(&one, "ran").unwrap());
        assert_eq!(theirs.forks, links(&one, "fork"));
        assert_eq!(theirs.issuer, Did::of(&key.verifying_key()));

        let outcome = map([
            ("ran", Ipld::Link(theirs.ran)),
            ("out", one["result"].clone()),
            ("fx", map([("fork", Ipld::List(list(&one, "fork").to_vec()))])),
            ("meta", map([])),
            ("iss", Ipld::String(theirs.issuer.to_string())),
            ("prf", Ipld::List(Vec::new())),
        ]);
        let signature = sign(key, &encode(&outcome).unwrap());
        let ours = encode(&map([("ocm", outcome), ("sig", Ipld::Bytes(signature))])).unwrap();
        assert_eq!(ours, block, "{name}");
        if name == "a success that says nothing" {
            let mut car = Car::default();
            assert_eq!(Receipt::issue_ok(key, theirs.ran, &mut car), Ok(cid));
        }
    }
}

#[test]
fn an_archived_chain_of_delegations_is_read() {
    let all: Ipld = serde_ipld_dagjson::from_slice(GOLDEN.as_bytes()).unwrap();
    let archive = fields(&fields(&all).unwrap()["archive"]).unwrap().clone();
    let proof = Proof::from_text(text(&archive, "proof").unwrap()).unwrap();
    assert_eq!(proof.cid, link(&archive, "cid").unwrap());
    let chain = proof.chain().unwrap();
    assert_eq!(chain.len(), 2);
    assert!(chain.iter().all(|delegation| delegation.verify().is_ok()));
    assert_eq!(chain[0].audience.to_string(), text(&archive, "audience").unwrap());
}
