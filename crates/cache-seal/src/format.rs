//! One sealed entry, to the byte. `docs/reference/sealed-format.md` describes it, golden files hold
//! it.
//!
//! An entry becomes another entry: under a blinded key, with the same version and lifetime, and
//! with a value that says nothing to who lacks the secret. Everything that a store could change is
//! in the associated data, and a writer's signature covers that and the ciphertext.

use bytes::{Bytes, BytesMut};
use peercache_api::{Class, Entry, EntryKind, Error, ErrorKind, Key, MAX_PROOF_BYTES, Operation, envelope};
use sha2::{Digest, Sha256};

use crate::compress;
use crate::keys::{Keys, Place};
use crate::secret::{KeyId, random};
use crate::stats::Rejection;
use crate::xaes::{NONCE_BYTES, TAG_BYTES};

/// The first bytes of a sealed value. The first is not ASCII, as in an envelope.
pub(crate) const MAGIC: [u8; 4] = [0x89, b'P', b'C', b'S'];
/// The format of values.
pub(crate) const FORMAT_VERSION: u8 = 1;
/// The format of tombstones: they name their place, so that who is only told that one was stored
/// can open it and learn which key was removed.
pub(crate) const REMOVAL_VERSION: u8 = 2;

const KEY_ID_AT: usize = 5;
const NONCE_AT: usize = KEY_ID_AT + 8;
const SIGNATURE_AT: usize = NONCE_AT + NONCE_BYTES;
pub(crate) const HEADER_BYTES: usize = SIGNATURE_AT + SIGNATURE_BYTES;
const SIGNATURE_BYTES: usize = 64;
/// The place's name, behind the header of a tombstone.
const NAME_BYTES: usize = 32;
/// Before the envelope in the plaintext: how it is compressed, and its length.
const PREFIX_BYTES: usize = 8;
const STORED: u8 = 0;
const ZSTD: u8 = 1;

/// The most bytes by which a sealed value is longer than the value in it: header, signature,
/// metadata and tag. Most entries need a few hundred, and many shrink.
pub const MAX_OVERHEAD_BYTES: usize =
    HEADER_BYTES + PREFIX_BYTES + envelope::HEADER_BYTES + envelope::MAX_METADATA_BYTES + TAG_BYTES;

/// Says what is signed, so that no signature of ours can be taken for one of another kind.
const DOMAIN: &[u8; 25] = b"peercache sealed entry 1\n";
const ASSOCIATED_BYTES: usize = 91;
const STATEMENT_BYTES: usize = DOMAIN.len() + ASSOCIATED_BYTES + NONCE_BYTES + 32;

/// A sealed entry, and whether it was compressed.
#[derive(Debug)]
pub(crate) struct Sealing {
    pub(crate) entry: Entry,
    pub(crate) compressed: bool,
}

/// Seals `entry`, which belongs to `key`, for `place`.
pub(crate) fn seal(
    keys: &Keys,
    key: &Key,
    place: &Place,
    entry: &Entry,
    compress: bool,
) -> Result<Sealing, Error> {
    let mut nonce = [0; NONCE_BYTES];
    random(&mut nonce)?;
    seal_with_nonce(keys, key, place, entry, compress, &nonce)
}

/// As [`seal`]; the nonce must be a fresh random one outside of tests.
pub(crate) fn seal_with_nonce(
    keys: &Keys,
    key: &Key,
    place: &Place,
    entry: &Entry,
    compress: bool,
    nonce: &[u8; NONCE_BYTES],
) -> Result<Sealing, Error> {
    let (format, body_at) = layout(entry.metadata().kind);
    let (mut sealed, compressed) = plaintext_after(body_at, key, entry, compress);
    let associated = associated_data(format, keys.id(), place, entry);
    // Only a writer comes here, and it has both keys.
    let denied = || Error::new(ErrorKind::Denied, Operation::Encode, "a read-only secret cannot seal");
    let cipher = keys.cipher(entry.class()).ok_or_else(denied)?;
    let tag = cipher.encrypt(nonce, &associated, &mut sealed[body_at..]).map_err(|_| {
        Error::new(ErrorKind::TooLarge, Operation::Encode, "the entry is longer than AES-GCM takes")
    })?;
    sealed.extend_from_slice(&tag);
    let statement = statement(&associated, nonce, &sealed[body_at..]);
    let Some(signature) = keys.sign(&statement) else {
        return Err(denied());
    };
    sealed[..4].copy_from_slice(&MAGIC);
    sealed[4] = format;
    sealed[KEY_ID_AT..NONCE_AT].copy_from_slice(keys.id().as_bytes());
    sealed[NONCE_AT..SIGNATURE_AT].copy_from_slice(nonce);
    sealed[SIGNATURE_AT..HEADER_BYTES].copy_from_slice(&signature);
    sealed[HEADER_BYTES..body_at].copy_from_slice(&place.name[..body_at - HEADER_BYTES]);
    Ok(Sealing { entry: outer_entry(entry, sealed)?, compressed })
}

/// Which secret sealed what `outer` holds, by its own word; `None` for what is not sealed.
pub(crate) fn sealed_by(outer: &Entry) -> Option<KeyId> {
    Header::read(outer.value()).ok().map(|header| header.key_id)
}

/// Opens what was found at `place`, where an entry of `key` is expected.
pub(crate) fn open(keys: &Keys, key: &Key, place: &Place, outer: Entry) -> Result<Entry, Rejection> {
    open_with(keys, place, outer, |envelope| envelope::decode(key, envelope))
}

/// Opens a tombstone of which only the digest of its place's key is known. Gives the digest of the
/// key that was removed.
pub(crate) fn open_removal(
    keys: &Keys,
    stored_under: &[u8; 32],
    outer: Entry,
) -> Result<([u8; 32], Entry), Rejection> {
    let header = Header::read(outer.value())?;
    let place = header.name.and_then(Place::named).ok_or(Rejection::UnknownFormat)?;
    if place.key.digest() != stored_under {
        return Err(Rejection::Forged);
    }
    let mut removed = None;
    let tombstone = open_with(keys, &place, outer, |envelope| {
        let (key, entry) = envelope::decode_unkeyed(envelope)?;
        removed = Some(key);
        Ok(entry)
    })?;
    // The writer's word, and one that is easily checked.
    let named = |key: &[u8; 32]| keys.place(&Key::from_digest(*key)).is_ok_and(|own| own.name == place.name);
    removed.filter(named).map(|key| (key, tombstone)).ok_or(Rejection::Malformed)
}

fn open_with(
    keys: &Keys,
    place: &Place,
    outer: Entry,
    decode: impl FnOnce(Bytes) -> Result<Entry, Error>,
) -> Result<Entry, Rejection> {
    let header = Header::read(outer.value())?;
    if header.key_id != keys.id() {
        return Err(Rejection::Foreign);
    }
    if header.name.is_some_and(|name| name != place.name) {
        return Err(Rejection::Forged);
    }
    if header.name.is_some() != outer.is_tombstone() {
        return Err(Rejection::UnknownFormat);
    }
    let (format, body_at) = (header.format, header.body_at());
    let associated = associated_data(format, keys.id(), place, &outer);
    // The writer before the bytes: nothing that a stranger made is ever decrypted.
    if !keys.verifies(&statement(&associated, &header.nonce, &outer.value()[body_at..]), &header.signature) {
        return Err(Rejection::Forged);
    }
    let class = outer.class();
    let Some(cipher) = keys.cipher(class) else {
        return Err(Rejection::Private);
    };
    let (kind, version, created) = (outer.metadata().kind, outer.version(), outer.metadata().created);
    let lifetime = (outer.metadata().fresh_for, outer.metadata().stale_for);
    // In place when nobody else holds these bytes, which is so for what came from a disk or a
    // network.
    let sealed = outer.into_value();
    let mut sealed = sealed.try_into_mut().unwrap_or_else(|shared| BytesMut::from(&shared[..]));
    let body = sealed.len() - TAG_BYTES;
    let mut tag = [0; TAG_BYTES];
    tag.copy_from_slice(&sealed[body..]);
    cipher
        .decrypt(&header.nonce, &associated, &mut sealed[body_at..body], &tag)
        .map_err(|_| Rejection::Undecryptable)?;
    let envelope = unpack(&sealed.freeze().slice(body_at..body))?;
    let entry = decode(envelope).map_err(|_| Rejection::Malformed)?;
    let meta = entry.metadata();
    let same_life = kind == EntryKind::Tombstone || (meta.fresh_for, meta.stale_for) == lifetime;
    if meta.kind == kind
        && meta.version == version
        && meta.created == created
        && entry.class() == class
        && same_life
    {
        Ok(entry)
    } else {
        Err(Rejection::Malformed)
    }
}

/// The format of what this build writes, and where the ciphertext begins.
fn layout(kind: EntryKind) -> (u8, usize) {
    match kind {
        EntryKind::Value => (FORMAT_VERSION, HEADER_BYTES),
        EntryKind::Tombstone => (REMOVAL_VERSION, HEADER_BYTES + NAME_BYTES),
    }
}

/// Which secret something at `place` was sealed with, according to itself; nothing is verified.
pub(crate) fn peek_key_id(outer: &Entry) -> Result<KeyId, Rejection> {
    Header::read(outer.value()).map(|header| header.key_id)
}

struct Header {
    format: u8,
    key_id: KeyId,
    nonce: [u8; NONCE_BYTES],
    signature: [u8; SIGNATURE_BYTES],
    /// Of a tombstone: which place it is for, according to itself.
    name: Option<[u8; NAME_BYTES]>,
}

impl Header {
    fn read(sealed: &[u8]) -> Result<Self, Rejection> {
        if sealed.len() <= MAGIC.len() || sealed[..MAGIC.len()] != MAGIC {
            return Err(Rejection::NotSealed);
        }
        let named = match sealed[4] {
            FORMAT_VERSION => 0,
            REMOVAL_VERSION => NAME_BYTES,
            _ => return Err(Rejection::UnknownFormat),
        };
        if sealed.len() < HEADER_BYTES + named + PREFIX_BYTES + TAG_BYTES {
            return Err(Rejection::Truncated);
        }
        Ok(Self {
            format: sealed[4],
            key_id: KeyId::from_bytes(field(sealed, KEY_ID_AT)),
            nonce: field(sealed, NONCE_AT),
            signature: field(sealed, SIGNATURE_AT),
            name: (named > 0).then(|| field(sealed, HEADER_BYTES)),
        })
    }

    /// Where the ciphertext begins.
    const fn body_at(&self) -> usize {
        HEADER_BYTES + if self.name.is_some() { NAME_BYTES } else { 0 }
    }
}

/// `N` bytes from `at` on; the caller has checked the length.
fn field<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    let mut field = [0; N];
    field.copy_from_slice(&bytes[at..at + N]);
    field
}

/// Room for the header, then the plaintext, with room for the tag behind it. Says whether it
/// shrank.
fn plaintext_after(header: usize, key: &Key, entry: &Entry, compress: bool) -> (Vec<u8>, bool) {
    let head = envelope::encode_head(key, entry);
    let value = entry.value();
    let whole = head.len() + value.len();
    let frame =
        (compress && value.len() > compress::MIN_BYTES).then(|| compress::shrink(&head, value)).flatten();
    let parts = match &frame {
        Some(frame) => [&frame[..], &[]],
        None => [&head[..], &value[..]],
    };
    let body: usize = parts.iter().map(|part| part.len()).sum();
    let mut buffer = Vec::with_capacity(header + PREFIX_BYTES + body + TAG_BYTES);
    buffer.resize(header, 0);
    buffer.extend_from_slice(&[if frame.is_some() { ZSTD } else { STORED }, 0, 0, 0]);
    // Fits: an envelope is bounded far below 4 GiB.
    buffer.extend_from_slice(&u32::try_from(whole).unwrap_or(u32::MAX).to_be_bytes());
    parts.iter().for_each(|part| buffer.extend_from_slice(part));
    (buffer, frame.is_some())
}

/// The envelope in a plaintext.
fn unpack(plaintext: &Bytes) -> Result<Bytes, Rejection> {
    let prefix: [u8; PREFIX_BYTES] = field(plaintext, 0);
    let length = u32::from_be_bytes(field(&prefix, 4)) as usize;
    let body = plaintext.slice(PREFIX_BYTES..);
    if length > envelope::MAX_ENVELOPE_BYTES || prefix[1..4] != [0; 3] {
        return Err(Rejection::Malformed);
    }
    match prefix[0] {
        STORED if body.len() == length => Ok(body),
        ZSTD => compress::expand(&body, length).map(Bytes::from).ok_or(Rejection::Malformed),
        _ => Err(Rejection::Malformed),
    }
}

/// What the store keeps beside the bytes, and could change: it takes part in encryption and
/// signature.
fn associated_data(format: u8, id: KeyId, place: &Place, entry: &Entry) -> [u8; ASSOCIATED_BYTES] {
    let meta = entry.metadata();
    let millis = |duration: std::time::Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    let kind = match meta.kind {
        EntryKind::Value => 0,
        EntryKind::Tombstone => 1,
    };
    joined(&[
        &MAGIC,
        &[format],
        id.as_bytes(),
        &place.name,
        &[kind],
        &[match entry.class() {
            Class::Public => 1,
            _ => 0,
        }],
        &meta.version.wall.as_millis().to_be_bytes(),
        &meta.version.node.as_u64().to_be_bytes(),
        &meta.version.counter.to_be_bytes(),
        &meta.created.as_millis().to_be_bytes(),
        &millis(meta.fresh_for).to_be_bytes(),
        &millis(meta.stale_for).to_be_bytes(),
    ])
}

/// What is signed. The ciphertext enters as its SHA-256: Ed25519 would hash it twice, with a slower
/// hash. The tag alone would not do: a reader knows the key and can make two texts with one tag.
fn statement(
    associated: &[u8; ASSOCIATED_BYTES],
    nonce: &[u8; NONCE_BYTES],
    ciphertext: &[u8],
) -> [u8; STATEMENT_BYTES] {
    joined(&[DOMAIN, associated, nonce, &Sha256::digest(ciphertext)])
}

/// The parts one after the other. They have fixed lengths that add up to `N`.
fn joined<const N: usize>(parts: &[&[u8]]) -> [u8; N] {
    let mut whole = [0; N];
    let mut rest = &mut whole[..];
    for part in parts {
        let (place, after) = rest.split_at_mut(part.len());
        place.copy_from_slice(part);
        rest = after;
    }
    debug_assert!(rest.is_empty());
    whole
}

/// The entry that the store sees.
fn outer_entry(entry: &Entry, sealed: Vec<u8>) -> Result<Entry, Error> {
    let meta = entry.metadata();
    if meta.kind == EntryKind::Value {
        return Entry::builder(sealed, meta.version, meta.created)
            .fresh_for(meta.fresh_for)
            .stale_for(meta.stale_for)
            .class(meta.class)
            .build();
    }
    if sealed.len() > MAX_PROOF_BYTES {
        return Err(Error::new(
            ErrorKind::TooLarge,
            Operation::Encode,
            format!("the tombstone's own proof leaves no room to seal it within {MAX_PROOF_BYTES} bytes"),
        )
        .with_help("seal once: one Sealed around all shared tiers, not one in another"));
    }
    Entry::tombstone_with_proof(meta.version, meta.created, sealed)
}

#[cfg(fuzzing)]
pub mod fuzzing;
#[cfg(test)]
mod tests;
