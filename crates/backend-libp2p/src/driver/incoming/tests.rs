//! Whatever comes is a message or the end, and memory is bounded.

use bytes::Bytes;
use proptest::prelude::*;

use super::*;
use crate::driver::outgoing::{self, Out, Outgoing};
use crate::driver::queue::{Parcel, Queue};

fn hit(req: u64, len: usize) -> Message {
    Message::Hit { req, envelope: vec![req as u8; len].into() }
}

fn budget() -> Arc<Budget> {
    Arc::new(Budget::new(64 << 20))
}

/// The bytes that `outgoing` makes of `messages`.
fn bytes(messages: &[Message], mut outgoing: impl Outgoing) -> Vec<u8> {
    let queue = Queue::new(1 << 30, Arc::new(Budget::new(1 << 30)));
    for message in messages {
        let (head, body) = message.encode();
        assert!(queue.push(Parcel { head, body }));
    }
    let mut all = Vec::new();
    loop {
        let mut out = Out::default();
        outgoing.fill(&queue, &mut out);
        if out.len() == 0 {
            return all;
        }
        all.extend(out.into_bytes());
    }
}

/// Feeds `bytes` in pieces of `size`.
fn read(incoming: &mut impl Incoming, bytes: &[u8], size: usize) -> Result<Vec<Message>, Broken> {
    let mut messages = Vec::new();
    bytes.chunks(size).try_for_each(|piece| incoming.take(piece, &mut messages))?;
    Ok(messages)
}

proptest! {
    // Hundreds of kilobytes each.
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn frames_survive_however_they_are_cut(lens in prop::collection::vec(0usize..3000, 0..20), size in 1usize..5000) {
        let messages: Vec<_> = lens.iter().enumerate().map(|(at, len)| hit(at as u64, *len)).collect();
        let sent = bytes(&messages, outgoing::Frames);
        let mut frames = Frames::default();
        prop_assert_eq!(read(&mut frames, &sent, size), Ok(messages));
        prop_assert!(!frames.unfinished());
        prop_assert_eq!(frames.finished(), lens.len() as u64);
    }

    #[test]
    fn chunks_survive_however_they_are_cut(lens in prop::collection::vec(0usize..200_000, 0..24), size in 100usize..100_000) {
        let messages: Vec<_> = lens.iter().enumerate().map(|(at, len)| hit(at as u64, *len)).collect();
        let sent = bytes(&messages, outgoing::Chunks::default());
        let budget = budget();
        let mut chunks = Chunks::new(Arc::clone(&budget));
        let mut read = read(&mut chunks, &sent, size).unwrap();
        // Short ones overtake long ones.
        read.sort_by_key(|message| if let Message::Hit { req, .. } = message { *req } else { u64::MAX });
        prop_assert_eq!(read, messages);
        prop_assert!(!chunks.unfinished());
        prop_assert_eq!(budget.used(), 0);
    }

    #[test]
    fn any_bytes_are_messages_or_the_end(bytes in prop::collection::vec(any::<u8>(), 0..600), size in 1usize..50) {
        let _ = read(&mut Frames::default(), &bytes, size);
        let budget = budget();
        let mut chunks = Chunks::new(Arc::clone(&budget));
        let _ = read(&mut chunks, &bytes, size);
        prop_assert!(budget.used() <= bytes.len());
        drop(chunks);
        prop_assert_eq!(budget.used(), 0);
    }
}

/// The header of a chunk.
fn header(size: u32, message: u32, length: u32) -> Vec<u8> {
    [size, message, length].iter().flat_map(|field| field.to_be_bytes()).collect()
}

const MIB: u32 = 1 << 20;

#[test]
fn a_length_of_64_mib_is_refused_before_anything_comes() {
    let mut frames = Frames::default();
    assert_eq!(read(&mut frames, &(64 * MIB).to_be_bytes(), 4), Err(Broken::TooLong));
    let long = u32::try_from(SMALL_BYTES).unwrap() + 1;
    assert_eq!(read(&mut Frames::default(), &long.to_be_bytes(), 4), Err(Broken::TooLong));
    for header in
        [header(64 * MIB, 1, 64 * MIB), header(1, 1, 64 * MIB), header(long, 1, MIB), header(0, 1, MIB)]
    {
        let budget = budget();
        assert_eq!(read(&mut Chunks::new(Arc::clone(&budget)), &header, 12), Err(Broken::TooLong));
        assert_eq!(budget.used(), 0);
    }
}

#[test]
fn a_declared_length_takes_no_memory_until_bytes_come() {
    let budget = budget();
    let mut chunks = Chunks::new(Arc::clone(&budget));
    let first = [header(100, 1, 8 * MIB), vec![0; 100]].concat();
    assert_eq!(read(&mut chunks, &first, 1000), Ok(Vec::new()));
    assert_eq!(budget.used(), 100);
    assert!(chunks.messages[&1].bytes.as_ref().unwrap().capacity() < 1000);
}

#[test]
fn chunks_that_belong_nowhere_are_refused() {
    let refused = |pieces: &[Vec<u8>], why| {
        assert_eq!(read(&mut Chunks::new(budget()), &pieces.concat(), 7), Err(why));
    };
    refused(&[header(1, 1, 0)], Broken::Stray);
    refused(&[header(1, 1, 5), vec![0], header(1, 1, 5)], Broken::Stray);
    refused(&[header(1, 1, 2), vec![0], header(2, 1, 0)], Broken::TooLong);
    refused(&[header(2, 1, 1)], Broken::TooLong);
    let many: Vec<_> = (0..17).flat_map(|at| [header(1, at, 100), vec![0]]).collect();
    refused(&many, Broken::TooMany);
    let great: Vec<_> = (0..5).flat_map(|at| [header(1, at, 8 * MIB), vec![0]]).collect();
    refused(&great, Broken::TooMany);
}

#[test]
fn without_memory_a_message_is_passed_over_and_the_next_ones_are_read() {
    let budget = Arc::new(Budget::new(100_000));
    let sent = bytes(&[hit(1, 90_000), hit(2, 20_000), hit(3, 50_000)], outgoing::Chunks::default());
    let mut chunks = Chunks::new(Arc::clone(&budget));
    let read = read(&mut chunks, &sent, 10_000).unwrap();
    assert!(read.contains(&hit(2, 20_000)) && read.len() == 2, "{} came", read.len());
    assert_eq!((budget.used(), budget.refusals()), (0, 1));
    assert!(!chunks.unfinished());
}

#[test]
fn a_message_that_is_kept_keeps_no_memory_of_others() {
    let sent = bytes(&[hit(1, 1000), hit(2, 1000)], outgoing::Frames);
    let read = read(&mut Frames::default(), &sent, sent.len()).unwrap();
    let [Message::Hit { envelope: one, .. }, Message::Hit { envelope: other, .. }] = &*read else { panic!() };
    let apart = |a: &Bytes, b: &Bytes| (a.as_ptr() as usize).abs_diff(b.as_ptr() as usize) != 1000 + 14;
    assert!(apart(one, other) && one.is_unique() && other.is_unique());
}
