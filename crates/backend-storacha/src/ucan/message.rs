//! Messages: invocations to the service, and its receipts.

use std::collections::HashMap;

use ipld_core::cid::Cid;
use ipld_core::ipld::Ipld;

use super::car::Car;
use super::receipt::Receipt;
use super::{Malformed, fields, map};

/// The media type of a message, and its only field.
pub(crate) const CONTENT_TYPE: &str = "application/vnd.ipld.car";
const MESSAGE: &str = "ucanto/message@7.0.0";

/// The bytes of a message that asks for `invocations`, whose blocks `car` holds.
pub(crate) fn request(invocations: &[Cid], mut car: Car) -> Result<Vec<u8>, Malformed> {
    let execute = Ipld::List(invocations.iter().copied().map(Ipld::Link).collect());
    let root = car.add(&map([(MESSAGE, map([("execute", execute)]))]))?;
    car.roots = vec![root];
    car.encode()
}

/// What a message of receipts holds.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) car: Car,
    /// By what was carried out.
    receipts: HashMap<Cid, Cid>,
}

/// Reads a message of receipts. Nothing is verified but its form, and every block against its
/// identifier.
pub(crate) fn receipts(bytes: &[u8]) -> Result<Answer, Malformed> {
    let car = Car::decode(bytes)?;
    let message = car.root_field(MESSAGE)?;
    let report = fields(&message)?.get("report").ok_or(Malformed("the message has no receipts"))?.clone();
    let mut receipts = HashMap::new();
    for (ran, receipt) in fields(&report)? {
        let ran = Cid::try_from(ran.as_str()).map_err(|_| Malformed("a receipt is of nothing"))?;
        let Ipld::Link(receipt) = receipt else { return Err(Malformed("a receipt is no link")) };
        receipts.insert(ran, *receipt);
    }
    Ok(Answer { car, receipts })
}

impl Answer {
    /// The receipt of this invocation, which has to say so itself.
    pub(crate) fn receipt(&self, ran: &Cid) -> Result<Receipt, Malformed> {
        let cid = self.receipts.get(ran).ok_or(Malformed("the receipt of the invocation is missing"))?;
        let receipt = Receipt::read(&self.car, *cid)?;
        if receipt.ran != *ran {
            return Err(Malformed("the receipt is of another invocation"));
        }
        Ok(receipt)
    }
}
