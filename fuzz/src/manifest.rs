//! Manifests: their chunks make up the value exactly, whatever the bytes said.

use arbitrary::{Arbitrary, Unstructured};
use bytes::Bytes;
use peercache::fuzzing::Manifest;
use peercache::stream::{MAX_CHUNK_BYTES, MAX_LARGE_BYTES};

const HEADER: [u8; 5] = [0x89, b'P', b'C', b'M', 1];
const DIGEST_BYTES: usize = 32;
/// Manifests with more chunks are read, and their chunks not walked through.
const MOST_CHUNKS: u64 = 4096;

#[derive(Arbitrary, Debug)]
struct Parts {
    len: u64,
    chunk_bytes: u32,
    keep_minutes: u32,
    content_type: Option<String>,
    digest: [u8; DIGEST_BYTES],
    /// Whether the list of digests is as long as the others ask for; else it has this many bytes.
    odd: Option<u16>,
}

/// Any bytes as a manifest.
pub fn manifest(data: &[u8]) {
    read(&Bytes::copy_from_slice(data));
    read(&[&HEADER, data].concat().into());
    if let Ok(parts) = Parts::arbitrary(&mut Unstructured::new(data)) {
        made(parts);
    }
}

fn read(bytes: &Bytes) {
    let manifest = match Manifest::decode(bytes) {
        Ok(manifest) => manifest,
        Err(error) => return assert!(!error.to_string().contains('\n'), "an error is one line"),
    };
    assert!(manifest.chunks() <= (bytes.len() / DIGEST_BYTES) as u64, "no chunk without its digest");
    let written = sound(&manifest);
    assert!(written.len() <= bytes.len(), "we write the shortest form");
}

/// What holds for every manifest; returns its bytes.
fn sound(manifest: &Manifest) -> Bytes {
    let written = manifest.encode().expect("every manifest can be written");
    assert_eq!(&Manifest::decode(&written).expect("we read what we write"), manifest);
    let (bytes, chunks) = (manifest.value_bytes(), manifest.chunks());
    assert!(bytes > 0 && bytes <= MAX_LARGE_BYTES && chunks > 0);
    assert!(manifest.digest(chunks).is_none() && manifest.digest(u64::MAX).is_none());
    assert_eq!(manifest.chunk_len(chunks), 0, "there is nothing behind the last chunk");
    if chunks <= MOST_CHUNKS {
        let mut sum = 0;
        for index in 0..chunks {
            let len = manifest.chunk_len(index);
            assert!(manifest.digest(index).is_some() && len > 0 && len <= MAX_CHUNK_BYTES);
            sum += len as u64;
        }
        assert_eq!(sum, bytes);
    }
    written
}

fn made(parts: Parts) {
    let Parts { len, chunk_bytes, keep_minutes, content_type, digest, odd } = parts;
    let (chunk_bytes, keep_minutes) = (chunk_bytes as usize % (MAX_CHUNK_BYTES + 2), keep_minutes % 43_202);
    let chunks = len.div_ceil(chunk_bytes.max(1) as u64);
    let len = match chunks > MOST_CHUNKS {
        true => len % (MOST_CHUNKS * chunk_bytes.max(1) as u64),
        false => len,
    };
    let asked = len.div_ceil(chunk_bytes.max(1) as u64) * DIGEST_BYTES as u64;
    let count = odd.map_or(asked, u64::from);
    let digests: Vec<u8> = digest.into_iter().cycle().take(count as usize).collect();
    let long = content_type.as_ref().is_some_and(|text| text.len() > 256);
    let fit = count == asked
        && (1..=MAX_LARGE_BYTES).contains(&len)
        && (1..=MAX_CHUNK_BYTES).contains(&chunk_bytes)
        && (1..=43_200).contains(&keep_minutes)
        && !long;
    let made = Manifest::new(len, chunk_bytes, keep_minutes, content_type, digests.into());
    assert_eq!(made.is_ok(), fit, "{made:?}");
    if let Ok(manifest) = made {
        sound(&manifest);
    }
}
