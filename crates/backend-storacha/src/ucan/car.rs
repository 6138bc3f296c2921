//! CARv1: a sequence of blocks, each under the identifier of its content. Every block that is read
//! is compared with its identifier, so nothing can be put in the place of what was asked for.

use std::collections::HashMap;

use bytes::Bytes;
use ipld_core::cid::Cid;
use ipld_core::cid::multihash::Multihash;
use ipld_core::ipld::Ipld;
use sha2::{Digest as _, Sha256};

use super::{Malformed, link, list, map};

/// Multicodec `raw`.
pub(crate) const RAW: u64 = 0x55;
/// Multicodec `dag-cbor`.
pub(crate) const DAG_CBOR: u64 = 0x71;
/// Multicodec `car`.
pub(crate) const CAR: u64 = 0x0202;
/// Multihash `sha2-256`.
pub(crate) const SHA2_256: u64 = 0x12;
/// Multihash `identity`.
const IDENTITY: u64 = 0x00;

/// The longest CAR that is read, in bytes. Messages of the service have a few kilobytes.
pub(crate) const MAX_CAR_BYTES: usize = 4 * 1024 * 1024;
/// The longest block that is decoded, in bytes. A decoded value takes up to fifty times its bytes.
pub(crate) const MAX_VALUE_BYTES: usize = 256 * 1024;
/// The most blocks that are read.
const MAX_BLOCKS: usize = 4096;

/// Blocks, and those that they are about.
#[derive(Clone, Debug, Default)]
pub(crate) struct Car {
    pub(crate) roots: Vec<Cid>,
    pub(crate) blocks: HashMap<Cid, Bytes>,
}

/// The identifier of `bytes` in this codec.
pub(crate) fn cid_of(codec: u64, bytes: &[u8]) -> Cid {
    cid_of_digest(codec, Sha256::digest(bytes).into())
}

/// The identifier of what has this SHA-256.
pub(crate) fn cid_of_digest(codec: u64, digest: [u8; 32]) -> Cid {
    match Multihash::wrap(SHA2_256, &digest) {
        Ok(hash) => Cid::new_v1(codec, hash),
        Err(_) => unreachable!("32 bytes fit into a multihash of 64"),
    }
}

/// The SHA-256 that `cid` names; `None` for another hash.
pub(crate) fn digest_of(cid: &Cid) -> Option<[u8; 32]> {
    (cid.hash().code() == SHA2_256).then(|| cid.hash().digest().try_into().ok()).flatten()
}

impl Car {
    /// Adds a value as a block of DAG-CBOR, and gives its identifier.
    pub(crate) fn add(&mut self, value: &Ipld) -> Result<Cid, Malformed> {
        let bytes = encode(value)?;
        let cid = cid_of(DAG_CBOR, &bytes);
        self.blocks.insert(cid, bytes.into());
        Ok(cid)
    }

    /// The value in the block `cid`.
    pub(crate) fn value(&self, cid: &Cid) -> Result<Ipld, Malformed> {
        decode(self.blocks.get(cid).ok_or(Malformed("a block is missing"))?)
    }

    /// As bytes. Blocks are in the order of their identifiers, roots last.
    pub(crate) fn encode(&self) -> Result<Vec<u8>, Malformed> {
        let header = encode(&map([
            ("roots", Ipld::List(self.roots.iter().copied().map(Ipld::Link).collect())),
            ("version", Ipld::Integer(1)),
        ]))?;
        let mut out = Vec::with_capacity(
            header.len() + 16 + self.blocks.values().map(|block| block.len() + 48).sum::<usize>(),
        );
        varint(&mut out, header.len() as u64);
        out.extend_from_slice(&header);
        let mut cids: Vec<_> = self.blocks.keys().collect();
        cids.sort_by_key(|cid| (self.roots.contains(cid), **cid));
        for cid in cids {
            let (name, block) = (cid.to_bytes(), &self.blocks[cid]);
            varint(&mut out, (name.len() + block.len()) as u64);
            out.extend_from_slice(&name);
            out.extend_from_slice(block);
        }
        Ok(out)
    }

    /// From bytes; every block is checked.
    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        if bytes.len() > MAX_CAR_BYTES {
            return Err(Malformed("the CAR is longer than 4 MiB"));
        }
        let mut rest = bytes;
        let header = decode(section(&mut rest)?)?;
        let header = super::fields(&header)?;
        if header.get("version") != Some(&Ipld::Integer(1)) {
            return Err(Malformed("the CAR has an unknown version"));
        }
        let mut car = Self::default();
        for (index, root) in list(header, "roots").iter().enumerate() {
            match root {
                Ipld::Link(cid) if index < MAX_BLOCKS => car.roots.push(*cid),
                _ => return Err(Malformed("the roots of the CAR are no links")),
            }
        }
        while !rest.is_empty() {
            let mut block = section(&mut rest)?;
            let cid = Cid::read_bytes(&mut block).map_err(|_| Malformed("a block has no identifier"))?;
            let intact = match cid.hash().code() {
                SHA2_256 => digest_of(&cid) == Some(Sha256::digest(block).into()),
                IDENTITY => cid.hash().digest() == block,
                _ => return Err(Malformed("a block has a hash of an unknown kind")),
            };
            if !intact {
                return Err(Malformed("a block is not what its identifier says"));
            }
            if car.blocks.len() == MAX_BLOCKS {
                return Err(Malformed("the CAR has more than 4096 blocks"));
            }
            car.blocks.insert(cid, Bytes::copy_from_slice(block));
        }
        Ok(car)
    }

    /// The one root.
    pub(crate) fn root(&self) -> Result<Cid, Malformed> {
        match self.roots[..] {
            [root] => Ok(root),
            _ => Err(Malformed("the CAR has not exactly one root")),
        }
    }

    /// What the root says under its only field `name`, a link or a map.
    pub(crate) fn root_field(&self, name: &str) -> Result<Ipld, Malformed> {
        let root = self.value(&self.root()?)?;
        super::fields(&root)?.get(name).cloned().ok_or(Malformed("the root of the CAR is of another kind"))
    }

    /// The link that the root says under its field `name`.
    pub(crate) fn root_link(&self, name: &str) -> Result<Cid, Malformed> {
        let root = self.value(&self.root()?)?;
        link(super::fields(&root)?, name).ok_or(Malformed("the root of the CAR is of another kind"))
    }
}

pub(crate) fn encode(value: &Ipld) -> Result<Vec<u8>, Malformed> {
    serde_ipld_dagcbor::to_vec(value).map_err(|_| Malformed("a value cannot be encoded"))
}

pub(crate) fn decode(bytes: &[u8]) -> Result<Ipld, Malformed> {
    if bytes.len() > MAX_VALUE_BYTES {
        return Err(Malformed("a block is longer than 256 KiB"));
    }
    serde_ipld_dagcbor::from_slice(bytes).map_err(|_| Malformed("a block is no DAG-CBOR"))
}

/// LEB128, as multiformats use it.
pub(crate) fn varint(out: &mut Vec<u8>, mut value: u64) {
    while value > 0x7f {
        out.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Takes a varint of at most nine bytes.
pub(crate) fn take_varint(rest: &mut &[u8]) -> Result<u64, Malformed> {
    let mut value = 0;
    for shift in 0..9 {
        let (&byte, after) = rest.split_first().ok_or(Malformed("a length is cut off"))?;
        *rest = after;
        value |= u64::from(byte & 0x7f) << (7 * shift);
        if byte & 0x80 == 0 {
            return Ok(value);
        }
    }
    Err(Malformed("a length is too long"))
}

/// Takes a length and as many bytes.
fn section<'a>(rest: &mut &'a [u8]) -> Result<&'a [u8], Malformed> {
    let length = usize::try_from(take_varint(rest)?).unwrap_or(usize::MAX);
    if length == 0 || length > rest.len() {
        return Err(Malformed("the CAR is cut off"));
    }
    let (section, after) = rest.split_at(length);
    *rest = after;
    Ok(section)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Car {
        let mut car = Car::default();
        let one = car.add(&Ipld::String("one".into())).unwrap();
        let two = car.add(&map([("one", Ipld::Link(one))])).unwrap();
        car.roots.push(two);
        car
    }

    #[test]
    fn a_car_survives_its_bytes() {
        let car = sample();
        let read = Car::decode(&car.encode().unwrap()).unwrap();
        assert_eq!(read.roots, car.roots);
        assert_eq!(read.blocks, car.blocks);
        assert!(read.root_link("one").is_ok());
        assert!(read.root_link("two").is_err());
    }

    #[test]
    fn every_changed_byte_and_every_truncation_is_refused_or_harmless() {
        let car = sample();
        let bytes = car.encode().unwrap();
        for at in 0..bytes.len() {
            let mut changed = bytes.clone();
            changed[at] ^= 1;
            if let Ok(read) = Car::decode(&changed) {
                for (cid, block) in read.blocks {
                    assert_eq!(digest_of(&cid), Some(Sha256::digest(&block).into()), "byte {at}");
                }
            }
        }
        let ends = bytes.len();
        assert!((1..ends).filter(|&end| Car::decode(&bytes[..end]).is_ok()).count() <= 2, "block ends only");
    }

    #[test]
    fn varints_survive() {
        for value in [0, 1, 127, 128, 300, u64::from(u32::MAX), (1 << 63) - 1] {
            let mut bytes = Vec::new();
            varint(&mut bytes, value);
            assert_eq!(take_varint(&mut &bytes[..]), Ok(value));
        }
        assert!(take_varint(&mut &[0x80; 10][..]).is_err());
    }
}
