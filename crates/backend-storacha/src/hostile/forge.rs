//! Changed messages of receipts: under the old signatures, or signed anew.

use ed25519_dalek::SigningKey;
use ipld_core::cid::Cid;
use ipld_core::ipld::Ipld;

use crate::ucan::car::{Car, DAG_CBOR, encode};
use crate::ucan::{fields, signature};

/// Whose signatures a changed message has.
#[derive(Clone)]
pub(super) enum Signed {
    /// Those that were there.
    AsBefore,
    /// Every receipt is signed with this key, in the name of the service.
    By(Box<SigningKey>, String),
}

/// The message with every value in it changed by `edit`, innermost first, and everything that names
/// a changed block naming the new one.
pub(super) fn reworked(body: &[u8], signed: &Signed, edit: &dyn Fn(&mut Ipld)) -> Vec<u8> {
    let Ok(old) = Car::decode(body) else { return body.to_vec() };
    let mut car = old.clone();
    car.roots = vec![rework(&mut car, old.root().unwrap(), signed, edit)];
    car.encode().unwrap()
}

fn rework(car: &mut Car, cid: Cid, signed: &Signed, edit: &dyn Fn(&mut Ipld)) -> Cid {
    let Ok(mut value) = car.value(&cid) else { return cid };
    if cid.codec() != DAG_CBOR {
        return cid;
    }
    links(&mut value, &mut |link| {
        if car.blocks.contains_key(link) {
            *link = rework(car, *link, signed, edit);
        }
    });
    edit(&mut value);
    if let (Signed::By(key, issuer), Ipld::Map(receipt)) = (signed, &mut value)
        && let Some(Ipld::Map(outcome)) = receipt.get_mut("ocm")
    {
        outcome.insert("iss".into(), Ipld::String(issuer.clone()));
        let outcome = encode(&receipt["ocm"]).unwrap();
        receipt.insert("sig".into(), Ipld::Bytes(signature::sign(key, &outcome)));
    }
    car.add(&value).unwrap()
}

/// Shows every link within `value` to `change`.
fn links(value: &mut Ipld, change: &mut dyn FnMut(&mut Cid)) {
    match value {
        Ipld::Link(cid) => change(cid),
        Ipld::List(items) => items.iter_mut().for_each(|item| links(item, change)),
        Ipld::Map(fields) => fields.values_mut().for_each(|item| links(item, change)),
        _ => {}
    }
}

/// The value below these fields, if there is one.
pub(super) fn at<'a>(value: &'a mut Ipld, path: &[&str]) -> Option<&'a mut Ipld> {
    path.iter().try_fold(value, |value, name| match value {
        Ipld::Map(fields) => fields.get_mut(*name),
        Ipld::List(items) => items.get_mut(name.parse::<usize>().ok()?),
        _ => None,
    })
}

/// Sets the value below these fields, where there is one.
pub(super) fn set(value: &mut Ipld, path: &[&str], to: Ipld) {
    if let Some(place) = at(value, path) {
        *place = to;
    }
}

/// Which receipts a message has for which invocations.
pub(super) fn report(body: &[u8]) -> Vec<(String, Ipld)> {
    let car = Car::decode(body).unwrap();
    let message = car.root_field("ucanto/message@7.0.0").unwrap();
    let Some(report) = fields(&message).unwrap().get("report") else { return Vec::new() };
    fields(report).unwrap().iter().map(|(ran, receipt)| (ran.clone(), receipt.clone())).collect()
}
