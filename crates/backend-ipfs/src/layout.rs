//! How entries are named among the node's own files (MFS).
//!
//! A name is never written twice. It carries everything that decides which of several writes
//! counts, so readers, cleaners and sweeps open no file to find out:
//!
//! ```text
//! /PREFIX/entries/ab/cd/<60 digits of the key>.<version>.<expiry>.<tag>.<block><blocks>
//! ```

use std::fmt::Write as _;

use bytes::Bytes;
use peercache_api::{Entry, Error, ErrorKind, Key, NodeId, Operation, Timestamp, Version};
use sha2::{Digest as _, Sha256};

/// The largest block, in bytes. Kubo takes 2 MiB, and recommends 1 MiB to other implementations.
pub(crate) const BLOCK_BYTES: usize = 1024 * 1024;
/// The most blocks of one envelope; 9 hold the largest.
pub(crate) const MAX_BLOCKS: usize = 16;
/// The longest prefix, in bytes.
const MAX_PREFIX_BYTES: usize = 128;
/// Digits of the key in a name; the first four name its folders.
const KEY_DIGITS: usize = 60;

/// Which of several writes under a key counts: the greatest. Two nodes order the same writes alike,
/// since the tag breaks ties between two seals of one write.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Write {
    pub(crate) version: Version,
    pub(crate) expires: Timestamp,
    /// The start of the SHA-256 of the envelope.
    pub(crate) tag: u64,
}

impl Write {
    pub(crate) fn of(entry: &Entry, envelope: &[u8]) -> Self {
        let digest = Sha256::digest(envelope);
        let mut tag = [0; 8];
        tag.copy_from_slice(&digest[..8]);
        Self { version: entry.version(), expires: entry.expires(), tag: u64::from_be_bytes(tag) }
    }
}

/// The name of one block of one write.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Name {
    /// The key's digest in hexadecimal, without the first four digits.
    pub(crate) key: String,
    pub(crate) write: Write,
    /// Which block of the envelope this is.
    pub(crate) block: u8,
    /// How many there are.
    pub(crate) blocks: u8,
}

impl Name {
    /// The name as the node lists it. `None`: it is none of ours.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split('.');
        let mut hex = |digits: usize| {
            let part = parts.next().filter(|part| part.len() == digits)?;
            part.bytes().all(|c| matches!(c, b'0'..=b'9' | b'a'..=b'f')).then_some(part)
        };
        let (key, version, expires, tag, block) = (hex(KEY_DIGITS)?, hex(40)?, hex(12)?, hex(16)?, hex(4)?);
        let number = |text: &str| u64::from_str_radix(text, 16).ok();
        let version = Version {
            wall: Timestamp::from_millis(number(&version[..16])?),
            counter: u32::try_from(number(&version[16..24])?).ok()?,
            node: NodeId::from_u64(number(&version[24..])?),
        };
        let expires = Timestamp::from_millis(number(expires)?);
        let (block, blocks) = (number(&block[..2])?, number(&block[2..])?);
        let valid = parts.next().is_none() && block < blocks && blocks <= MAX_BLOCKS as u64;
        valid.then_some(Self {
            key: key.to_owned(),
            write: Write { version, expires, tag: number(tag)? },
            block: block as u8,
            blocks: blocks as u8,
        })
    }
}

impl std::fmt::Display for Name {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Write { version, expires, tag } = self.write;
        // Twelve digits of milliseconds last until the year 10889.
        let expires = expires.as_millis().min(0xffff_ffff_ffff);
        write!(
            f,
            "{}.{:016x}{:08x}{:016x}.{expires:012x}.{tag:016x}.{:02x}{:02x}",
            self.key,
            version.wall.as_millis(),
            version.counter,
            version.node.as_u64(),
            self.block,
            self.blocks,
        )
    }
}

/// Where the tier's files lie.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Layout {
    prefix: String,
}

impl Layout {
    /// A layout below `prefix`; slashes at both ends are ignored.
    pub(crate) fn new(prefix: &str) -> Result<Self, Error> {
        let trimmed = prefix.trim_matches('/');
        let plain = |c: char| c.is_ascii_alphanumeric() || "-_./=+@".contains(c);
        let complaint = if trimmed.is_empty() {
            "the prefix is empty"
        } else if trimmed.len() > MAX_PREFIX_BYTES {
            "the prefix is longer than 128 bytes"
        } else if !trimmed.chars().all(plain) {
            "the prefix has a character that is not safe in a path"
        } else if trimmed.split('/').any(|part| matches!(part, "" | "." | "..")) {
            "the prefix has an empty part, `.` or `..`"
        } else {
            return Ok(Self { prefix: trimmed.to_owned() });
        };
        Err(Error::new(ErrorKind::Config, Operation::Open, complaint)
            .with_backend("ipfs")
            .with_context("variable", "IPFS_PREFIX")
            .with_help("choose a prefix of letters, digits, `-`, `_`, `.` and `/`"))
    }

    pub(crate) fn prefix(&self) -> &str {
        &self.prefix
    }

    /// The folder that holds every entry.
    pub(crate) fn root(&self) -> String {
        format!("/{}/entries", self.prefix)
    }

    /// The folder of one sweep: whoever makes it does the sweep.
    pub(crate) fn sweeps(&self) -> String {
        format!("/{}/sweeps", self.prefix)
    }

    /// The folder of a key and the key's part of every name in it.
    pub(crate) fn place(&self, key: &Key) -> Place {
        let mut digits = String::with_capacity(64);
        for byte in key.digest() {
            // Writing to a String cannot fail.
            let _ = write!(digits, "{byte:02x}");
        }
        let rest = digits.split_off(4);
        Place { folder: format!("{}/{}/{}", self.root(), &digits[..2], &digits[2..]), key: rest }
    }
}

/// Where the writes of a key lie.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Place {
    pub(crate) folder: String,
    pub(crate) key: String,
}

impl Place {
    /// The names of the blocks of a write.
    pub(crate) fn names(&self, write: Write, blocks: usize) -> impl Iterator<Item = Name> + '_ {
        (0..blocks).map(move |block| Name {
            key: self.key.clone(),
            write,
            block: block as u8,
            blocks: blocks as u8,
        })
    }
}

/// Cuts an envelope into blocks, without copying.
pub(crate) fn blocks(envelope: &Bytes) -> Vec<Bytes> {
    (0..envelope.len())
        .step_by(BLOCK_BYTES)
        .map(|start| envelope.slice(start..envelope.len().min(start + BLOCK_BYTES)))
        .collect()
}

/// Whether a text is the CID of a single raw block by SHA-256: version 1, base32. Nothing else is
/// ever linked: a folder whose children are on another node would hold the whole of MFS when that
/// node is gone.
pub(crate) fn is_raw_block(cid: &str) -> bool {
    cid.len() == 59
        && cid.starts_with("bafkrei")
        && cid.bytes().all(|c| matches!(c, b'a'..=b'z' | b'2'..=b'7'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use peercache_api::envelope::MAX_ENVELOPE_BYTES;

    fn write() -> Write {
        Write {
            version: Version {
                wall: Timestamp::from_millis(1_800_000_000_000),
                counter: 7,
                node: NodeId::from_u64(u64::MAX),
            },
            expires: Timestamp::from_millis(1_800_000_600_000),
            tag: 0x0123_4567_89ab_cdef,
        }
    }

    #[test]
    fn name_survives_and_lies_in_two_levels() {
        let place = Layout::new("/team/").unwrap().place(&Key::new("a").unwrap());
        assert_eq!(place.folder, "/team/entries/ca/97");
        let names: Vec<_> = place.names(write(), 2).map(|name| name.to_string()).collect();
        assert_eq!(
            names[1],
            "8112ca1bbdcafac231b39a23dc4da786eff8147c4e72b9807785afee48bb.\
             000001a3185c500000000007ffffffffffffffff.01a3186577c0.0123456789abcdef.0102"
        );
        for (index, name) in place.names(write(), 2).enumerate() {
            assert_eq!(Name::parse(&name.to_string()), Some(name), "{index}");
        }
        assert!(names[0].len() < 255, "MFS takes no longer ones");
    }

    #[test]
    fn name_of_something_else_is_none() {
        let place = Layout::new("p").unwrap().place(&Key::new("a").unwrap());
        let good = place.names(write(), 1).next().unwrap().to_string();
        assert!(Name::parse(&good).is_some());
        for bad in ["", "x", &good[1..], &good.to_uppercase(), &format!("{good}.x"), &good.replace('.', "/")]
        {
            assert_eq!(Name::parse(bad), None, "{bad}");
        }
        assert_eq!(Name::parse(&good.replace(".0001", ".0101")), None, "block 1 of 1");
        assert_eq!(Name::parse(&good.replace(".0001", ".00ff")), None, "too many blocks");
    }

    #[test]
    fn greater_version_is_the_greater_write_whatever_its_tag() {
        let mut newer = write();
        newer.version.counter += 1;
        newer.tag = 0;
        assert!(newer > write());
    }

    #[test]
    fn largest_envelope_fits() {
        let whole = Bytes::from(vec![7; MAX_ENVELOPE_BYTES]);
        let cut = blocks(&whole);
        assert!(cut.len() <= MAX_BLOCKS);
        assert!(cut.iter().all(|block| block.len() <= BLOCK_BYTES));
        assert_eq!(cut.concat(), whole);
    }

    #[test]
    fn prefix_that_would_be_read_differently_is_refused() {
        for prefix in ["", "/", "a//b", "../a", "a b", "ä", "a?b", &"x".repeat(129)] {
            let error = Layout::new(prefix).unwrap_err();
            assert_eq!(error.context("variable"), Some("IPFS_PREFIX"), "{prefix}");
        }
    }

    #[test]
    fn only_single_raw_blocks_are_recognised() {
        assert!(is_raw_block("bafkreibzz4ab3iv32pudo4jdasx4ad5gwkfhefcph5dder25c5drtvfbky"));
        for other in [
            "bafybeihdwdcefgh4dqkjv67uzcmw7ojee6xedzdetojuzjevtenxquvyku",
            "QmYwAPJzv5CZsnA625s3Xf2nemtYgPpHdWEz79ojWKPbdG",
            "bafkreibzz4ab3iv32pudo4jdasx4ad5gwkfhefcph5dder25c5drtvfb/y",
            "",
        ] {
            assert!(!is_raw_block(other), "{other}");
        }
    }
}
