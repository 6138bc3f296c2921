//! Writing values of any size: chunks first, then the manifest that names them.

use std::convert::Infallible;

use bytes::{Bytes, BytesMut};
use futures_util::{Stream, StreamExt as _, stream};
use peercache_api::{Entry, EntryBuilder, Error, ErrorKind, Key, Operation, Timestamp, Version};
use peercache_chain::{PutOutcome, WritePolicy};

use super::chunk::Chunk;
use super::lifetime::keep_minutes;
use super::manifest::{DIGEST_BYTES, Manifest};
use super::options::StreamOptions;
use super::outcome::{PutStreamOutcome, is_taken, merge, refuse_as_too_large};
use super::value::LargeValue;
use super::values::LargeValues;
use super::{
    AHEAD_CHUNKS, CHECKED_CHUNKS, CHUNK_BYTES, MAX_LARGE_BYTES, PLAIN_BYTES, SHARED_CHUNK_BYTES,
    SHARED_WRITE_WINDOW, WRITE_WINDOW, chunk, reserved, source,
};

/// Which write this is, and since when its value is true: as of the call, not of the last byte.
#[derive(Clone, Copy)]
pub(crate) struct Moment {
    pub(crate) version: Version,
    created: Timestamp,
}

/// What stopped a write, with the source's error as it came.
pub(crate) enum Failure<E> {
    Source(E),
    Entry(Error),
}

impl<E> From<Error> for Failure<E> {
    fn from(error: Error) -> Self {
        Self::Entry(error)
    }
}

/// How chunks are written.
#[derive(Clone, Copy)]
struct Stores {
    chunk_bytes: usize,
    /// How many at a time.
    window: usize,
    keep_minutes: u32,
    /// What the caller expects the value to have in all.
    expected_len: u64,
}

/// The chunks that were written.
#[derive(Default)]
struct Written {
    len: u64,
    digests: BytesMut,
    outcome: Option<PutOutcome>,
}

impl LargeValues {
    /// Which write begins now.
    pub(crate) fn moment(&self) -> Moment {
        Moment { version: self.entries.next_version(), created: self.entries.now() }
    }

    /// Stores a value that is in memory already, as chunks where it is above [`PLAIN_BYTES`]. It
    /// counts as written with `version`. `absent` says that it is the cache's own mark of an
    /// absence.
    pub(crate) async fn store_whole(
        &self,
        key: &Key,
        value: Bytes,
        options: StreamOptions,
        version: Version,
        absent: bool,
    ) -> Result<PutOutcome, Error> {
        let moment = Moment { version, created: self.entries.now() };
        if !absent {
            reserved::check(options.content_type.as_deref())?;
        }
        if value.len() <= PLAIN_BYTES {
            let entry = self.described(value, &options, moment).build()?;
            if let Some(decoded) = options.decoded {
                entry.set_decoded(decoded);
            }
            return Ok(self.write_entry(key, entry).await);
        }
        let options = options.expected_len(value.len() as u64);
        let source = stream::iter([Ok::<_, Infallible>(value)]);
        // Boxed, so that small writes do not carry the room for it about.
        match Box::pin(self.store_stream(key, source, options, moment)).await {
            Ok(stored) => Ok(stored.outcome),
            Err(Failure::Entry(error)) => Err(error),
        }
    }

    /// Stores what `source` gives, as of `moment`.
    pub(crate) async fn store_stream<S, E>(
        &self,
        key: &Key,
        source: S,
        options: StreamOptions,
        moment: Moment,
    ) -> Result<PutStreamOutcome, Failure<E>>
    where
        S: Stream<Item = Result<Bytes, E>>,
    {
        Ok(self.store_and_open(key, source, options, moment, true).await?.0)
    }

    /// As [`LargeValues::store_stream`], and gives the value to read, also where another write has
    /// won meanwhile. `None` where no tier has room for its chunks. Unless `keep`, nothing is put
    /// under the key: the chunks of a large value expire by themselves.
    pub(crate) async fn store_and_open<S, E>(
        &self,
        key: &Key,
        source: S,
        options: StreamOptions,
        moment: Moment,
        keep: bool,
    ) -> Result<(PutStreamOutcome, Option<LargeValue>), Failure<E>>
    where
        S: Stream<Item = Result<Bytes, E>>,
    {
        reserved::check(options.content_type.as_deref())?;
        // Before a byte is read: what is wrong with the metadata is wrong with an empty value too.
        let probe = self.described(Bytes::new(), &options, moment).build()?;
        let lifetime = probe.metadata().fresh_for.saturating_add(probe.metadata().stale_for);
        let keep_minutes = keep_minutes(lifetime);

        let (chunk_bytes, window) = match self.entries.is_shared() {
            true => (SHARED_CHUNK_BYTES, SHARED_WRITE_WINDOW),
            false => (CHUNK_BYTES, WRITE_WINDOW),
        };
        let mut chunks = Box::pin(source::chunks(source, chunk_bytes));
        let (mut head, mut head_len) = (Vec::new(), 0);
        while head_len <= PLAIN_BYTES
            && let Some(chunk) = chunks.next().await
        {
            let chunk = chunk.map_err(Failure::Source)?;
            head_len += chunk.len();
            head.push(chunk);
        }
        if head_len <= PLAIN_BYTES {
            let entry = self.described(joined(head, head_len), &options, moment).build()?;
            let value = LargeValue::plain(entry.metadata().clone(), entry.value().clone());
            let outcome = match keep {
                true => self.write_entry(key, entry).await,
                false => PutOutcome { tiers: Vec::new() },
            };
            let (len, stored) = (head_len as u64, is_taken(&outcome));
            return Ok((PutStreamOutcome { len, chunks: 0, stored, outcome }, Some(value)));
        }

        let first = head.first().cloned().unwrap_or_default();
        let chunks = stream::iter(head.into_iter().map(Ok)).chain(chunks);
        let stores = Stores { chunk_bytes, window, keep_minutes, expected_len: options.expected_len };
        let (written, complete) = self.write_chunks(chunks, stores).await?;
        let (len, count) = (written.len, (written.digests.len() / DIGEST_BYTES) as u64);
        let held = complete && self.is_held(&written, keep_minutes).await;
        let mut outcome = written.outcome;
        let (mut stored, mut value) = (false, None);
        if complete && !held {
            outcome.iter_mut().for_each(refuse_as_too_large);
        }
        if held {
            let content_type = options.content_type.clone();
            let manifest =
                Manifest::new(len, chunk_bytes, keep_minutes, content_type, written.digests.freeze())?;
            let entry = self
                .described(manifest.encode()?, &options, moment)
                .content_type(reserved::MANIFEST_TYPE)
                .build()?;
            let meta = entry.metadata().clone();
            if keep {
                let put = self.write_entry(key, entry).await;
                stored = is_taken(&put);
                merge(&mut outcome, put);
            }
            let first = Chunk { bytes: first, shared: false };
            value = Some(LargeValue::chunked(meta, self.clone(), manifest, first));
        }
        let outcome = outcome.unwrap_or(PutOutcome { tiers: Vec::new() });
        Ok((PutStreamOutcome { len, chunks: count, stored, outcome }, value))
    }

    /// Whether what was written can be read back: it is in a shared tier or on its way to one, or
    /// every chunk is still in a local one. Of more than [`CHECKED_CHUNKS`] that many are looked
    /// at.
    async fn is_held(&self, written: &Written, keep_minutes: u32) -> bool {
        if self.entries.is_shared() && written.outcome.as_ref().is_some_and(|outcome| self.shares(outcome)) {
            return true;
        }
        let chunks = written.digests.len() / DIGEST_BYTES;
        let step = chunks.div_ceil(CHECKED_CHUNKS).max(1);
        // The last one too, and the first one in any case: it is what makes room first.
        for index in (0..chunks).step_by(step).chain(chunks.checked_sub(1)) {
            let Some(digest) = written.digests[index * DIGEST_BYTES..].first_chunk() else { return false };
            if !chunk::is_held(&self.entries, keep_minutes, digest).await {
                return false;
            }
        }
        true
    }

    /// Writes the chunks until the end, or until one is taken by no tier, as when none has room for
    /// what the value has become; says which.
    ///
    /// The first ones wait for shared tiers as the chain's policy says, the others for the first
    /// attempt of each: what is read faster than a shared tier takes it would push the value's own
    /// chunks out of the queue.
    async fn write_chunks<E>(
        &self,
        chunks: impl Stream<Item = Result<Bytes, E>>,
        stores: Stores,
    ) -> Result<(Written, bool), Failure<E>> {
        let Stores { chunk_bytes, window, keep_minutes, expected_len } = stores;
        let stores = chunks
            .enumerate()
            .map(|(index, chunk)| {
                let entries = self.entries.clone();
                let policy = if index < AHEAD_CHUNKS { self.entries.policy() } else { WritePolicy::All };
                async move {
                    let chunk = chunk.map_err(Failure::Source)?;
                    let len = chunk.len() as u64;
                    let whole = expected_len.max(index as u64 * chunk_bytes as u64 + len);
                    let (digest, outcome) =
                        chunk::store(&entries, keep_minutes, chunk, policy, whole).await?;
                    Ok::<_, Failure<E>>((len, digest, outcome))
                }
            })
            .buffered(window);
        let mut stores = Box::pin(stores);
        let mut written = Written::default();
        while let Some(stored) = stores.next().await {
            let (len, digest, outcome) = stored?;
            written.len += len;
            if written.len > MAX_LARGE_BYTES {
                return Err(too_large().into());
            }
            written.digests.extend_from_slice(&digest);
            // A write that failed at a shared tier waits there and is tried again.
            let taken = is_taken(&outcome) || self.shares(&outcome);
            merge(&mut written.outcome, outcome);
            if !taken {
                return Ok((written, false));
            }
        }
        Ok((written, true))
    }

    async fn write_entry(&self, key: &Key, entry: Entry) -> PutOutcome {
        self.entries.write(key, entry, self.entries.policy()).await
    }

    fn described(&self, value: Bytes, options: &StreamOptions, moment: Moment) -> EntryBuilder {
        let mut entry = Entry::builder(value, moment.version, moment.created)
            .fresh_for(options.ttl.fresh_or(self.entries.default_ttl()))
            .stale_for(options.ttl.stale());
        if let Some(content_type) = &options.content_type {
            entry = entry.content_type(content_type);
        }
        if let Some(etag) = &options.etag {
            entry = entry.etag(etag);
        }
        if let Some(date) = &options.last_modified {
            entry = entry.last_modified(date);
        }
        options.tags.iter().fold(entry, |entry, tag| entry.tag(tag))
    }
}

/// `chunks` in one piece of memory of exactly `len` bytes.
fn joined(mut chunks: Vec<Bytes>, len: usize) -> Bytes {
    match chunks.len() {
        1 => chunks.remove(0),
        _ => {
            let mut value = BytesMut::with_capacity(len);
            chunks.iter().for_each(|chunk| value.extend_from_slice(chunk));
            value.freeze()
        }
    }
}

fn too_large() -> Error {
    Error::new(
        ErrorKind::TooLarge,
        Operation::Put,
        format!(
            "the value has more than {MAX_LARGE_BYTES} bytes, which is the most that is stored under one key"
        ),
    )
    .with_help("store it under several keys")
}
