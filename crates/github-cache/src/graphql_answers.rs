//! Answers to GraphQL queries, for a moment and in this process alone.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::HeaderMap;
use peercache::Key;
use peercache::backend::Timestamp;
use quick_cache::Weighter;
use quick_cache::sync::Cache;

use crate::token::TokenId;

/// For how long an answer is served without asking.
pub(crate) const FRESH_FOR: Duration = Duration::from_secs(5);
/// The largest answer that is kept.
pub(crate) const MAX_ANSWER_BYTES: usize = 1024 * 1024;
/// Bytes of all answers; the least used go first.
const MAX_BYTES: u64 = 16 * 1024 * 1024;
/// What an answer costs besides its body, about.
const OVERHEAD: u64 = 2 * 1024;
/// How many tokens are remembered that wrote.
const MAX_WRITERS: usize = 10_000;

/// One answer.
#[derive(Debug)]
pub(crate) struct Answered {
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
    /// When it was asked for.
    pub(crate) at: Timestamp,
    /// The number of the request that it answers.
    number: u64,
}

impl Answered {
    /// Its age; older than anything where the clock was set back.
    pub(crate) fn age(&self, now: Timestamp) -> Duration {
        if self.at > now { Duration::MAX } else { now.saturating_since(self.at) }
    }
}

#[derive(Clone, Copy, Debug)]
struct ByBytes;

impl Weighter<[u8; 32], Arc<Answered>> for ByBytes {
    fn weight(&self, _: &[u8; 32], answered: &Arc<Answered>) -> u64 {
        answered.body.len() as u64 + OVERHEAD
    }
}

/// What was answered lately. A write drops everything that its token asked for before it ended.
#[derive(Debug)]
pub(crate) struct Answers {
    kept: Cache<[u8; 32], Arc<Answered>, ByBytes>,
    /// Numbers requests and writes.
    clock: AtomicU64,
    written: Cache<TokenId, u64>,
}

impl Answers {
    pub(crate) fn new() -> Self {
        let items = usize::try_from(MAX_BYTES / OVERHEAD / 4).unwrap_or(usize::MAX);
        Self {
            kept: Cache::with_weighter(items, MAX_BYTES, ByBytes),
            clock: AtomicU64::new(0),
            written: Cache::new(MAX_WRITERS),
        }
    }

    /// To be called just before a query is sent.
    pub(crate) fn sending(&self) -> u64 {
        self.clock.fetch_add(1, Ordering::AcqRel)
    }

    /// Notes that a token wrote something: what it asked for until now is dropped.
    pub(crate) fn note_write(&self, token: &TokenId) {
        self.written.insert(token.clone(), self.clock.fetch_add(1, Ordering::AcqRel));
    }

    /// The latest answer to a query of this token, if the token wrote nothing since.
    pub(crate) fn get(&self, key: &Key, token: &TokenId) -> Option<Arc<Answered>> {
        let answered = self.kept.get(key.digest())?;
        let written = self.written.get(token);
        written.is_none_or(|written| written < answered.number).then_some(answered)
    }

    /// Keeps an answer to the request with this number.
    pub(crate) fn put(&self, key: &Key, number: u64, at: Timestamp, headers: HeaderMap, body: Bytes) {
        let is_newer = self.kept.peek(key.digest()).is_none_or(|known| known.number < number);
        if is_newer && body.len() <= MAX_ANSWER_BYTES {
            self.kept.insert(*key.digest(), Arc::new(Answered { headers, body, at, number }));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::token::TokenHasher;

    #[test]
    fn write_drops_what_its_token_asked_for_before_it_ended() {
        let answers = Answers::new();
        let token =
            |name: &'static str| TokenHasher::new([1; 32]).id(Some(&http::HeaderValue::from_static(name)));
        let (one, other, key) = (token("token a"), token("token b"), Key::new("k").unwrap());
        let put = |number| answers.put(&key, number, Timestamp::EPOCH, HeaderMap::new(), Bytes::new());
        let slow = answers.sending();
        answers.note_write(&other);
        put(slow);
        assert!(answers.get(&key, &one).is_some());
        answers.note_write(&one);
        assert!(answers.get(&key, &one).is_none());
        put(slow);
        assert!(answers.get(&key, &one).is_none(), "it was asked for before the write");
        put(answers.sending());
        assert!(answers.get(&key, &one).is_some());
    }

    #[test]
    fn answers_are_bounded_by_bytes() {
        let answers = Answers::new();
        for n in 0..100 {
            let key = Key::new(format!("k{n}")).unwrap();
            let body = Bytes::from(vec![0; MAX_ANSWER_BYTES]);
            answers.put(&key, answers.sending(), Timestamp::EPOCH, HeaderMap::new(), body);
        }
        assert!(answers.kept.weight() <= MAX_BYTES);
        let key = Key::new("large").unwrap();
        let body = Bytes::from(vec![0; MAX_ANSWER_BYTES + 1]);
        answers.put(&key, answers.sending(), Timestamp::EPOCH, HeaderMap::new(), body);
        assert!(answers.kept.get(key.digest()).is_none());
    }
}
