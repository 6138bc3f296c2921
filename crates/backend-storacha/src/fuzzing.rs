//! What the fuzzers assert about everything here that decodes bytes of others; in no other build.
//!
//! Most inputs that a fuzzer invents end at a hash or a signature. So each function looks at its
//! input several ways: as it is, with hashes made right, and as a change to something honest.

use std::sync::LazyLock;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ed25519_dalek::SigningKey;
use ipld_core::cid::Cid;
use ipld_core::ipld::Ipld;
use sha2::{Digest as _, Sha256};

use crate::token::{Grant, Token};
use crate::ucan::car::{self, Car, DAG_CBOR, RAW, cid_of, digest_of};
use crate::ucan::delegation::{Delegation, Proof};
use crate::ucan::map;
use crate::ucan::message;
use crate::ucan::receipt::Receipt;
use crate::ucan::sample::{printed, proof_text};

/// Any bytes as a CAR, and as the content of an honest one that is then changed.
pub fn car(data: &[u8]) {
    whole(data);
    let Some((&recipe, content)) = data.split_first() else { return };
    let mut honest = Car::default();
    for piece in content.chunks(usize::from(recipe).max(content.len() / 64).max(1)) {
        let cid = cid_of(RAW, piece);
        honest.blocks.insert(cid, piece.to_vec().into());
        honest.roots = vec![cid];
    }
    let Ok(mut bytes) = honest.encode() else { panic!("an honest CAR is encoded") };
    let read = Car::decode(&bytes).ok();
    assert!(read.is_some_and(|read| read.blocks == honest.blocks && read.roots == honest.roots));
    change(&mut bytes, data);
    whole(&bytes);
}

/// Every block that a CAR gives is what its identifier says.
fn whole(bytes: &[u8]) {
    let Ok(car) = Car::decode(bytes) else { return };
    for (cid, block) in &car.blocks {
        let named = digest_of(cid).is_some_and(|digest| digest == Sha256::digest(block)[..]);
        assert!(named || cid.hash().digest() == &block[..], "a block is not what it is named");
    }
    let Ok(written) = car.encode() else { panic!("what was read is written") };
    let again = Car::decode(&written).ok();
    assert!(again.is_some_and(|again| again.blocks == car.blocks && again.roots == car.roots));
}

/// Any bytes as DAG-CBOR: of one value, of a delegation, of a receipt.
pub fn dag_cbor(data: &[u8]) {
    if let Ok(value) = car::decode(data) {
        let Ok(written) = car::encode(&value) else { panic!("what was read is written") };
        let again = car::decode(&written).and_then(|value| car::encode(&value));
        assert!(again.is_ok_and(|again| again == written), "a value has one form");
    }
    let (block, cid) = (data.to_vec(), cid_of(DAG_CBOR, data));
    let car = Car { roots: vec![cid], blocks: [(cid, block.into())].into() };
    if let Ok(delegation) = Delegation::read(&car, cid) {
        drop(delegation.verify());
    }
    drop(Receipt::read(&car, cid));
    let Ok(written) = car.encode() else { panic!("an honest CAR is encoded") };
    drop(message::receipts(&written));
    drop(Proof::from_text(&proof_text(&written)).and_then(|proof| proof.chain()));
}

static HONEST: LazyLock<(String, String, String, Grant)> = LazyLock::new(|| {
    let (key, proof) = printed(&["space/blob/*", "upload/*"], Some(4_000_000_000));
    let service = Some("https://up.example.org".to_owned());
    let Ok(token) = Token::new(&key, &proof, service, Some("did:web:up.example.org".into())) else {
        panic!("the token is honest")
    };
    let text = token.to_text(&proof).to_string();
    (key, proof, text, token.grant())
});

/// Any bytes as a token, as a part of one, and as a change to an honest one.
pub fn token(data: &[u8]) {
    let (key, proof, honest, grant) = &*HONEST;
    if let Ok(text) = std::str::from_utf8(data) {
        parsed(text);
        parsed(&format!("{key};{text}"));
        parsed(&format!("{text};{proof}"));
    }
    parsed(&format!("storacha1:{}", URL_SAFE_NO_PAD.encode(data)));
    parsed(&format!("{key};{}", proof_text(data)));

    let mut changed = honest.clone().into_bytes();
    change(&mut changed, data);
    if let Ok(text) = String::from_utf8(changed)
        && let Some(read) = parsed(&text)
    {
        assert_eq!(read.agent, grant.agent, "another agent than the proof names");
        assert_eq!(read.expires, grant.expires);
        assert!(read.abilities.iter().all(|can| grant.abilities.contains(can)), "{read:?}");
    }
}

/// What a text grants, if it is a token; an error is one line and shows no key.
fn parsed(text: &str) -> Option<Grant> {
    match Token::parse(text) {
        Ok(token) => {
            let _ = format!("{token:?}");
            Some(token.grant())
        }
        Err(error) => {
            let shown = format!("{error} {error:?}");
            assert!(!error.to_string().contains('\n') && !shown.contains(&HONEST.0[8..40]));
            None
        }
    }
}

/// Any bytes as a message of receipts, and as a change to an honest receipt.
pub fn receipt(data: &[u8]) {
    if let Ok(answer) = message::receipts(data) {
        for cid in answer.car.blocks.keys() {
            drop(answer.receipt(cid));
        }
    }
    let key = SigningKey::from_bytes(&[5; 32]);
    let (ran, other) = (cid_of(RAW, b"asked"), cid_of(RAW, b"asked before"));
    let mut car = Car::default();
    let Ok(issued) = Receipt::issue_ok(&key, ran, &mut car) else { panic!("it is issued") };
    let verified = |bytes: &[u8], asked: &Cid| {
        let receipt = message::receipts(bytes).ok()?.receipt(asked).ok()?;
        receipt.verify(&key.verifying_key()).ok().map(|()| receipt)
    };
    assert!(verified(&message_with(&car, &ran, issued), &ran).is_some(), "an honest receipt");
    assert!(verified(&message_with(&car, &other, issued), &other).is_none(), "one of another invocation");
    assert!(verified(&message_with(&car, &ran, issued), &other).is_none(), "one that was not asked for");

    // Whoever changes a receipt can name it anew and cannot sign it.
    let mut bytes = car.blocks[&issued].to_vec();
    change(&mut bytes, data);
    let renamed = cid_of(DAG_CBOR, &bytes);
    let forged = Car { roots: Vec::new(), blocks: [(renamed, bytes.into())].into() };
    if let Some(read) = verified(&message_with(&forged, &ran, renamed), &ran) {
        let said = (read.ran, read.result, read.forks.len(), read.issuer.key());
        let honest = (ran, Ok(map([])), 0, Some(key.verifying_key()));
        assert_eq!(said, honest, "a forgery is believed");
    }
}

/// A message that gives `receipt` for `ran`.
fn message_with(car: &Car, ran: &Cid, receipt: Cid) -> Vec<u8> {
    let mut car = car.clone();
    let report = Ipld::Map([(ran.to_string(), Ipld::Link(receipt))].into());
    let Ok(root) = car.add(&map([("ucanto/message@7.0.0", map([("report", report)]))])) else {
        panic!("a message is encoded")
    };
    car.roots = vec![root];
    let Ok(message) = car.encode() else { panic!("a message is encoded") };
    message
}

/// Up to eight changed, removed or inserted bytes, as `recipe` has it.
fn change(bytes: &mut Vec<u8>, recipe: &[u8]) {
    for step in recipe.chunks_exact(4).take(8) {
        if bytes.is_empty() {
            return;
        }
        let at = usize::from(u16::from_be_bytes([step[0], step[1]])) % bytes.len();
        match step[2] % 4 {
            0 => bytes.truncate(at),
            1 => bytes.insert(at, step[3]),
            2 => drop(bytes.remove(at)),
            _ => bytes[at] ^= step[3],
        }
    }
}
