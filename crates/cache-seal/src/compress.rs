//! Compression before sealing, and decompression that cannot be made to exceed what was declared.

use std::cell::RefCell;

use zstd::bulk::{Compressor, Decompressor};

/// Values up to this many bytes are not worth a try.
pub(crate) const MIN_BYTES: usize = 1024;
/// From this many bytes on, the beginning is tried first: most of what is large is compressed
/// already.
const LARGE_BYTES: usize = 256 * 1024;
/// How much of it.
const SAMPLE_BYTES: usize = 64 * 1024;
/// The fastest of zstd's usual levels: JSON shrinks to a quarter at some 350 MB/s.
const LEVEL: i32 = 1;

thread_local! {
    // A context costs more to make than a small value costs to compress. One of each per thread
    // that seals, which is as many as the runtime has.
    static COMPRESSOR: RefCell<Option<Compressor<'static>>> = const { RefCell::new(None) };
    static DECOMPRESSOR: RefCell<Option<Decompressor<'static>>> = const { RefCell::new(None) };
}

/// The zstd frame of `head` and `value` one after the other, if it saves more than a tenth, and
/// where they are large also more than a tenth of their beginning.
pub(crate) fn shrink(head: &[u8], value: &[u8]) -> Option<Vec<u8>> {
    if value.len() >= LARGE_BYTES {
        frame(&value[..SAMPLE_BYTES])?;
    }
    frame(&[head, value].concat())
}

fn frame(bytes: &[u8]) -> Option<Vec<u8>> {
    let most = bytes.len() - bytes.len() / 10;
    // A buffer of the size that would still be a gain: zstd gives up as soon as it is full.
    let mut frame = vec![0; most];
    let written = COMPRESSOR.with_borrow_mut(|slot| {
        if slot.is_none() {
            *slot = Compressor::new(LEVEL).ok();
        }
        slot.as_mut()?.compress_to_buffer(bytes, &mut frame[..]).ok()
    })?;
    frame.truncate(written);
    (written < most).then_some(frame)
}

/// What is in a zstd frame, if that is exactly `length` bytes. The caller has bounded `length`.
///
/// The frame's own word on its size is not asked: no more than `length` bytes are ever allocated.
pub(crate) fn expand(frame: &[u8], length: usize) -> Option<Vec<u8>> {
    let mut bytes = vec![0; length];
    let written = DECOMPRESSOR.with_borrow_mut(|slot| {
        if slot.is_none() {
            *slot = Decompressor::new().ok();
        }
        slot.as_mut()?.decompress_to_buffer(frame, &mut bytes[..]).ok()
    })?;
    (written == length).then_some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn noise(bytes: usize) -> Vec<u8> {
        let mut state = 1_u64;
        std::iter::repeat_with(|| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 56) as u8
        })
        .take(bytes)
        .collect()
    }

    #[test]
    fn only_what_helps_is_taken() {
        assert_eq!(shrink(b"head", &noise(100_000)), None);
        assert_eq!(shrink(b"", b""), None);
        let json = "{\"name\":\"value\",\"n\":1}".repeat(100);
        assert!(shrink(b"", json.as_bytes()).unwrap().len() < json.len() / 5);
        // Eight parts noise, one part text: less than a tenth to gain.
        let mixed = [noise(19_000), vec![b'a'; 1000]].concat();
        assert_eq!(shrink(b"", &mixed), None);
    }

    #[test]
    fn what_is_large_is_judged_by_its_beginning() {
        let text = vec![b'a'; 2 * LARGE_BYTES];
        let frame = shrink(b"head", &text).unwrap();
        assert_eq!(expand(&frame, 4 + text.len()), Some([b"head", &text[..]].concat()));
        let noise = noise(SAMPLE_BYTES);
        assert_eq!(shrink(b"head", &[&noise[..], &text].concat()), None, "its end is not looked at");
        let less = &text[..LARGE_BYTES - noise.len() - 1];
        assert!(shrink(b"head", &[&noise[..], less].concat()).is_some(), "below that it is");
        assert_eq!(shrink(b"head", &[&text[..], &noise, &noise, &noise].concat()).map(|_| ()), Some(()));
    }

    #[test]
    fn a_frame_that_holds_more_or_less_than_declared_is_refused() {
        // 32 MiB of zeros in about a kilobyte, declared as 1000 bytes: refused, not expanded.
        let bomb = zstd::bulk::compress(&vec![0; 32 << 20], 19).unwrap();
        assert!(bomb.len() < 4096);
        assert_eq!(expand(&bomb, 1000), None);
        let frame = shrink(b"", &[7; 5000]).unwrap();
        assert_eq!(expand(&frame, 5000).unwrap(), [7; 5000]);
        assert_eq!(expand(&frame, 4999), None);
        assert_eq!(expand(&frame, 5001), None);
        assert_eq!(expand(&frame[..frame.len() - 1], 5000), None);
        assert_eq!(expand(b"", 0).unwrap_or_default(), Vec::<u8>::new());
        // The context that saw damage still works.
        assert_eq!(expand(&frame, 5000).unwrap(), [7; 5000]);
    }

    proptest! {
        #[test]
        fn damaged_frames_never_panic_or_grow(bytes in prop::collection::vec(any::<u8>(), 0..300), length in 0_usize..2000) {
            if let Some(out) = expand(&bytes, length) {
                prop_assert_eq!(out.len(), length);
            }
        }

        #[test]
        fn what_shrinks_expands(byte in any::<u8>(), length in 50_usize..5000, tail in prop::collection::vec(any::<u8>(), 0..20)) {
            let bytes = [vec![byte; length], tail].concat();
            if let Some(frame) = shrink(b"", &bytes) {
                prop_assert!(frame.len() < bytes.len());
                prop_assert_eq!(expand(&frame, bytes.len()), Some(bytes));
            }
        }
    }
}
