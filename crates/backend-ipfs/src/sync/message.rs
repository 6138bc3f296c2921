//! What nodes tell each other, as text: a line for each thing.

use std::fmt::Write as _;

use crate::layout::{Name, is_raw_block};

/// The first line. A reader of another version ignores the message.
const HEAD: &str = "peercache-ipfs 1";
/// The most lines that are read.
const MAX_LINES: usize = 64;
/// Links of one message: about 4 KiB.
pub(super) const LINKS: usize = 16;
/// The most addresses of a node.
pub(super) const ADDRESSES: usize = 4;
/// The longest address, in bytes.
const ADDRESS_BYTES: usize = 256;

/// A block and the path, below the root, under which a node has linked it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Link {
    pub(super) path: String,
    pub(super) cid: String,
}

impl Link {
    /// The name of the file, and the whole digest of its key in hexadecimal. `None`: it is not a
    /// path of an entry, or not the CID of a single raw block.
    pub(super) fn parse(&self) -> Option<(Name, String)> {
        let mut parts = self.path.split('/');
        let (outer, inner, name) = (parts.next()?, parts.next()?, parts.next()?);
        let digits =
            |part: &str| part.len() == 2 && part.bytes().all(|c| matches!(c, b'0'..=b'9' | b'a'..=b'f'));
        let name = Name::parse(name)?;
        let key = format!("{outer}{inner}{}", name.key);
        let valid = parts.next().is_none() && digits(outer) && digits(inner) && is_raw_block(&self.cid);
        valid.then_some((name, key))
    }
}

/// A message.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Message {
    /// What was linked since the last one.
    pub(super) links: Vec<Link>,
    /// The CID of the root.
    pub(super) root: Option<String>,
    /// Where the node is reached.
    pub(super) addresses: Vec<String>,
    /// Whether the others should publish their roots now: the node has just come.
    pub(super) asks: bool,
}

impl Message {
    pub(super) fn encode(&self) -> String {
        let mut text = format!("{HEAD}\n");
        for Link { path, cid } in &self.links {
            // Writing to a String cannot fail.
            let _ = writeln!(text, "L {path} {cid}");
        }
        if let Some(root) = &self.root {
            let _ = writeln!(text, "R {root}");
        }
        for address in &self.addresses {
            let _ = writeln!(text, "A {address}");
        }
        if self.asks {
            text.push_str("Q\n");
        }
        text
    }

    /// `None`: it is of another version. Lines that are not understood are left out.
    pub(super) fn decode(text: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(text).ok()?;
        let mut lines = text.lines();
        if lines.next() != Some(HEAD) {
            return None;
        }
        let mut message = Self::default();
        for line in lines.take(MAX_LINES) {
            let mut words = line.split(' ');
            match (words.next(), words.next(), words.next(), words.next()) {
                (Some("L"), Some(path), Some(cid), None) if message.links.len() < LINKS => {
                    message.links.push(Link { path: path.to_owned(), cid: cid.to_owned() });
                }
                (Some("Q"), None, None, None) => message.asks = true,
                (Some("R"), Some(root), None, None) if is_cid(root) => message.root = Some(root.to_owned()),
                (Some("A"), Some(address), None, None)
                    if is_address(address) && message.addresses.len() < ADDRESSES =>
                {
                    message.addresses.push(address.to_owned());
                }
                _ => {}
            }
        }
        Some(message)
    }
}

/// Whether a text can be the CID of a folder, and nothing that changes a path.
pub(super) fn is_cid(text: &str) -> bool {
    (46..=64).contains(&text.len()) && text.bytes().all(|c| c.is_ascii_alphanumeric())
}

/// Whether a text is a multiaddress that names a node.
pub(super) fn is_address(text: &str) -> bool {
    text.len() <= ADDRESS_BYTES
        && text.starts_with('/')
        && text.contains("/p2p/")
        && text.bytes().all(|c| c.is_ascii_alphanumeric() || b"/.-_:".contains(&c))
}

#[cfg(test)]
mod tests {
    use super::*;

    const CID: &str = "bafkreibzz4ab3iv32pudo4jdasx4ad5gwkfhefcph5dder25c5drtvfbky";
    const PATH: &str = "ca/97/8112ca1bbdcafac231b39a23dc4da786eff8147c4e72b9807785afee48bb.\
                        000001a3185c500000000007ffffffffffffffff.01a3186577c0.0123456789abcdef.0001";

    fn link(path: &str, cid: &str) -> Link {
        Link { path: path.to_owned(), cid: cid.to_owned() }
    }

    #[test]
    fn message_survives() {
        let message = Message {
            links: vec![link(PATH, CID); LINKS],
            root: Some(CID.to_owned()),
            addresses: vec!["/ip4/127.0.0.1/tcp/4001/p2p/12D3KooW".to_owned()],
            asks: true,
        };
        assert_eq!(Message::decode(message.encode().as_bytes()), Some(message.clone()));
        assert!(message.encode().len() < 8 * 1024);
    }

    #[test]
    fn message_of_a_liar_is_bounded_and_ignored() {
        assert_eq!(Message::decode(b"peercache-ipfs 2\nR x\n"), None);
        assert_eq!(Message::decode(b"\xff"), None);
        let many = format!("{HEAD}\n{}", format!("L {PATH} {CID}\n").repeat(1000));
        assert_eq!(Message::decode(many.as_bytes()).unwrap().links.len(), LINKS);
        let bad = format!("{HEAD}\nR ../../etc\nA not-an-address\nA /ip4/1.1.1.1/tcp/1\nX y\nL a b c\n");
        assert_eq!(Message::decode(bad.as_bytes()), Some(Message::default()));
    }

    #[test]
    fn link_names_an_entry_and_a_single_block() {
        let (name, key) = link(PATH, CID).parse().unwrap();
        assert_eq!(name.to_string(), PATH[6..]);
        assert!(key.starts_with("ca978112") && key.len() == 64);
        for (path, cid) in [
            ("", CID),
            (&PATH[3..], CID),
            (&format!("x/{PATH}"), CID),
            (&PATH.replacen("ca", "..", 1), CID),
            (PATH, "bafybeihdwdcefgh4dqkjv67uzcmw7ojee6xedzdetojuzjevtenxquvyku"),
        ] {
            assert_eq!(link(path, cid).parse(), None, "{path} {cid}");
        }
    }
}
