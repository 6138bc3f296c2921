//! The bytes that every tier stores: a fixed header, CBOR metadata, the value as it is.
//!
//! `docs/reference/format.md` describes version 1 to the byte. An envelope is bound to its key, so
//! a store that answers with another key's bytes is caught, and it carries a checksum against
//! accidental damage. The checksum is no defence against an attacker; sealing is.

use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use minicbor::data::Type;
use minicbor::{Decoder, Encoder};
use xxhash_rust::xxh3::Xxh3Default;

use crate::entry::{Class, Entry, EntryKind, MAX_VALUE_BYTES, Metadata, Validators};
use crate::error::{Error, ErrorKind, Operation};
use crate::key::Key;
use crate::time::{Timestamp, whole_millis};
use crate::version::{NodeId, Version};

/// The first four bytes of every envelope. The first is not ASCII, so no text file begins like
/// this.
pub const MAGIC: [u8; 4] = [0x89, b'P', b'C', b'E'];
/// The format version that this build writes.
pub const FORMAT_VERSION: u8 = 1;
/// Length of the fixed header, in bytes.
pub const HEADER_BYTES: usize = 104;
/// The longest metadata section, in bytes.
pub const MAX_METADATA_BYTES: usize = 16 * 1024;
/// The longest envelope, in bytes.
pub const MAX_ENVELOPE_BYTES: usize = HEADER_BYTES + MAX_METADATA_BYTES + MAX_VALUE_BYTES;

const CHECKSUM_AT: usize = 96;
/// The flag of a value that is [`Class::Public`].
const FLAG_PUBLIC: u16 = 1;

/// Optional metadata. Fields are numbered; a reader skips numbers that it does not know.
#[derive(Default)]
struct Optional {
    content_type: Option<String>,
    etag: Option<String>,
    last_modified: Option<String>,
    tags: Option<Vec<String>>,
}

const CONTENT_TYPE: i64 = 0;
const ETAG: i64 = 1;
const LAST_MODIFIED: i64 = 2;
const TAGS: i64 = 3;

/// The header and metadata of `entry` under `key`, without the value: together with
/// [`Entry::value`] that is the whole envelope, and the value need not be copied.
#[must_use]
pub fn encode_head(key: &Key, entry: &Entry) -> Bytes {
    head_with_room(key, entry, 0).freeze()
}

/// The head, and room for `more` bytes behind it.
fn head_with_room(key: &Key, entry: &Entry, more: usize) -> BytesMut {
    let meta = entry.metadata();
    let optional = optional_section(meta);
    let mut head = BytesMut::with_capacity(HEADER_BYTES + optional.len() + more);
    head.put_slice(&MAGIC);
    head.put_u8(FORMAT_VERSION);
    head.put_u8(match meta.kind {
        EntryKind::Value => 0,
        EntryKind::Tombstone => 1,
    });
    head.put_u16(match meta.class {
        Class::Public if meta.kind == EntryKind::Value => FLAG_PUBLIC,
        Class::Public | Class::Private => 0,
    });
    // Both fit: an Entry is checked against its bounds when it is made.
    head.put_u32(u32::try_from(optional.len()).unwrap_or(u32::MAX));
    head.put_u32(u32::try_from(entry.value().len()).unwrap_or(u32::MAX));
    head.put_u64(meta.created.as_millis());
    head.put_u64(whole_millis(meta.fresh_for));
    head.put_u64(whole_millis(meta.stale_for));
    head.put_u64(meta.version.wall.as_millis());
    head.put_u64(meta.version.node.as_u64());
    head.put_u32(meta.version.counter);
    head.put_u32(0);
    head.put_slice(key.digest());
    let checksum = checksum(&head, &optional, entry.value());
    head.put_u64(checksum);
    head.put_slice(&optional);
    head
}

/// The whole envelope of `entry` under `key`. Copies the value once.
#[must_use]
pub fn encode(key: &Key, entry: &Entry) -> Bytes {
    let mut envelope = head_with_room(key, entry, entry.value().len());
    envelope.put_slice(entry.value());
    envelope.freeze()
}

/// The entry in an envelope that was stored under `key`. The value is a slice of `envelope`.
///
/// # Errors
/// - [`ErrorKind::Unsupported`] for a format version or flag that this build does not know. Readers
///   treat it as a miss: a newer build wrote it, and it is not damaged.
/// - [`ErrorKind::Corrupt`] for anything else that is not exactly an envelope of this key: lengths
///   that do not add up, a wrong checksum, metadata out of bounds.
///
/// Lengths are checked against their bounds before anything is allocated.
pub fn decode(key: &Key, envelope: Bytes) -> Result<Entry, Error> {
    let header = Header::read(&envelope)?;
    if header.key != *key.digest() {
        return Err(corrupt("the envelope belongs to another key"));
    }
    read_body(header, envelope)
}

/// The entry in an envelope, and the digest of the key that it is bound to: for a store that keeps
/// what others wrote and knows keys by their digests alone.
///
/// # Errors
/// As [`decode`], except that there is no key to compare with.
pub fn decode_unkeyed(envelope: Bytes) -> Result<([u8; 32], Entry), Error> {
    let header = Header::read(&envelope)?;
    let key = header.key;
    read_body(header, envelope).map(|entry| (key, entry))
}

fn read_body(header: Header, envelope: Bytes) -> Result<Entry, Error> {
    let whole = HEADER_BYTES + header.meta_len + header.value_len;
    if envelope.len() != whole {
        return Err(corrupt("the envelope is not as long as its header says")
            .with_context("bytes", envelope.len())
            .with_context("expected", whole));
    }
    let optional = &envelope[HEADER_BYTES..HEADER_BYTES + header.meta_len];
    let value = envelope.slice(HEADER_BYTES + header.meta_len..);
    if checksum(&envelope[..CHECKSUM_AT], optional, &value) != header.checksum {
        return Err(corrupt("the checksum does not match"));
    }
    let optional = read_optional(optional)?;
    let meta = Metadata {
        kind: header.kind,
        version: header.version,
        created: header.created,
        fresh_for: header.fresh_for,
        stale_for: header.stale_for,
        content_type: optional.content_type,
        validators: Validators { etag: optional.etag, last_modified: optional.last_modified },
        tags: optional.tags.unwrap_or_default(),
        class: header.class,
    };
    Entry::checked(meta, value).map_err(|error| corrupt("the metadata is out of bounds").with_source(error))
}

/// The version of the entry in an envelope, read from its header alone. Nothing is verified but the
/// header's own form: use it to decide what to fetch or replace, never to serve.
///
/// # Errors
/// As [`decode`], for the header.
pub fn peek_version(envelope: &[u8]) -> Result<Version, Error> {
    Header::read(envelope).map(|header| header.version)
}

struct Header {
    kind: EntryKind,
    class: Class,
    meta_len: usize,
    value_len: usize,
    created: Timestamp,
    fresh_for: Duration,
    stale_for: Duration,
    version: Version,
    key: [u8; 32],
    checksum: u64,
}

impl Header {
    fn read(bytes: &[u8]) -> Result<Self, Error> {
        // Magic and version come before the length check: a later version may have a shorter
        // header.
        if bytes.len() < MAGIC.len() + 1 || bytes[..MAGIC.len()] != MAGIC {
            return Err(corrupt("this is not a peercache envelope"));
        }
        if bytes[4] != FORMAT_VERSION {
            return Err(unsupported("the envelope has a format version that this build does not read")
                .with_context("version", bytes[4])
                .with_context("known", FORMAT_VERSION));
        }
        let Some(header) = bytes.first_chunk::<HEADER_BYTES>() else {
            return Err(corrupt("the envelope ends within its header").with_context("bytes", bytes.len()));
        };
        let unknown = || unsupported("the envelope uses a feature that this build does not know");
        if take::<4>(header, 60) != [0; 4] {
            return Err(unknown());
        }
        let kind = match header[5] {
            0 => EntryKind::Value,
            1 => EntryKind::Tombstone,
            _ => return Err(unsupported("the envelope holds a kind of entry that this build does not know")),
        };
        let class = match (u16::from_be_bytes(take(header, 6)), kind) {
            (0, _) => Class::Private,
            (FLAG_PUBLIC, EntryKind::Value) => Class::Public,
            _ => return Err(unknown()),
        };
        let meta_len = u32::from_be_bytes(take(header, 8)) as usize;
        let value_len = u32::from_be_bytes(take(header, 12)) as usize;
        if meta_len > MAX_METADATA_BYTES || value_len > MAX_VALUE_BYTES {
            return Err(corrupt("the envelope declares a length beyond its bound")
                .with_context("metadata", meta_len)
                .with_context("value", value_len));
        }
        let long = |at| u64::from_be_bytes(take(header, at));
        Ok(Self {
            kind,
            class,
            meta_len,
            value_len,
            created: Timestamp::from_millis(long(16)),
            fresh_for: Duration::from_millis(long(24)),
            stale_for: Duration::from_millis(long(32)),
            version: Version {
                wall: Timestamp::from_millis(long(40)),
                node: NodeId::from_u64(long(48)),
                counter: u32::from_be_bytes(take(header, 56)),
            },
            key: take(header, 64),
            checksum: long(CHECKSUM_AT),
        })
    }
}

/// `N` bytes of the header from `at` on; both are constants of this module and lie within it.
fn take<const N: usize>(header: &[u8; HEADER_BYTES], at: usize) -> [u8; N] {
    let mut field = [0; N];
    field.copy_from_slice(&header[at..at + N]);
    field
}

fn checksum(header: &[u8], optional: &[u8], value: &[u8]) -> u64 {
    let mut hash = Xxh3Default::new();
    hash.update(header);
    hash.update(optional);
    hash.update(value);
    hash.digest()
}

/// Empty when there is nothing to say, which is common and costs no CBOR at all.
fn optional_section(meta: &Metadata) -> Vec<u8> {
    let Validators { etag, last_modified } = &meta.validators;
    if meta.content_type.is_none() && etag.is_none() && last_modified.is_none() && meta.tags.is_empty() {
        return Vec::new();
    }
    let mut bytes = Vec::new();
    // Writing to a Vec cannot fail: its error type is uninhabited.
    match write_optional(meta, &mut Encoder::new(&mut bytes)) {
        Ok(()) => bytes,
        Err(_) => Vec::new(),
    }
}

fn write_optional(
    meta: &Metadata,
    to: &mut Encoder<&mut Vec<u8>>,
) -> Result<(), minicbor::encode::Error<std::convert::Infallible>> {
    let texts = [
        (CONTENT_TYPE, &meta.content_type),
        (ETAG, &meta.validators.etag),
        (LAST_MODIFIED, &meta.validators.last_modified),
    ];
    let present = || texts.iter().filter_map(|(number, text)| Some((*number, text.as_deref()?)));
    to.map(present().count() as u64 + u64::from(!meta.tags.is_empty()))?;
    for (number, text) in present() {
        to.i64(number)?.str(text)?;
    }
    if !meta.tags.is_empty() {
        to.i64(TAGS)?.array(meta.tags.len() as u64)?;
        for tag in &meta.tags {
            to.str(tag)?;
        }
    }
    Ok(())
}

fn decode_optional(from: &mut Decoder<'_>) -> Result<Optional, minicbor::decode::Error> {
    let mut optional = Optional::default();
    let mut left = from.map()?;
    while left != Some(0) {
        if left.is_none() && from.datatype()? == Type::Break {
            from.skip()?;
            break;
        }
        match from.i64()? {
            CONTENT_TYPE => optional.content_type = decode_text(from)?,
            ETAG => optional.etag = decode_text(from)?,
            LAST_MODIFIED => optional.last_modified = decode_text(from)?,
            TAGS if is_null(from)? => optional.tags = None,
            TAGS => optional.tags = Some(from.array_iter::<String>()?.collect::<Result<_, _>>()?),
            _ => from.skip()?,
        }
        left = left.map(|left| left - 1);
    }
    Ok(optional)
}

fn decode_text(from: &mut Decoder<'_>) -> Result<Option<String>, minicbor::decode::Error> {
    if is_null(from)? { Ok(None) } else { Ok(Some(from.str()?.to_owned())) }
}

/// Whether a null comes next, which is then read.
fn is_null(from: &mut Decoder<'_>) -> Result<bool, minicbor::decode::Error> {
    let null = from.datatype()? == Type::Null;
    if null {
        from.null()?;
    }
    Ok(null)
}

fn read_optional(bytes: &[u8]) -> Result<Optional, Error> {
    if bytes.is_empty() {
        return Ok(Optional::default());
    }
    let mut decoder = Decoder::new(bytes);
    let optional = decode_optional(&mut decoder)
        .map_err(|error| corrupt("the metadata is not valid CBOR").with_source(error))?;
    if decoder.position() != bytes.len() {
        return Err(corrupt("there are bytes after the metadata"));
    }
    Ok(optional)
}

fn corrupt(message: &'static str) -> Error {
    Error::new(ErrorKind::Corrupt, Operation::Decode, message)
}

fn unsupported(message: &'static str) -> Error {
    Error::new(ErrorKind::Unsupported, Operation::Decode, message)
}
