//! Values of any size, written and read piece by piece.

use std::error::Error as StdError;

use bytes::Bytes;
use futures_util::Stream;
use peercache_api::Entry;
use tokio::io::AsyncRead;

use super::Cache;
use super::key::IntoKey;
use crate::large::{Failure, LargeValue, PutStreamError, PutStreamOutcome, StreamOptions, pieces};

impl Cache {
    /// The fresh value under `key`, of any size, to be read piece by piece.
    ///
    /// The first chunk is read and verified before this answers: when it is missing or altered, the
    /// answer is a miss. The others are found missing or altered on the way, which the stream says
    /// with an error, never by ending early. Memory is bounded; see
    /// [`LargeStream`](crate::stream::LargeStream).
    ///
    /// ```
    /// # use peercache::{Cache, Key, Memory, Ttl};
    /// # use futures_util::TryStreamExt;
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
    /// # let cache = Cache::builder().tier(Memory::with_capacity(32 << 20)).build()?;
    /// let key = Key::new("artifact")?;
    /// cache.put_bytes(&key, vec![7; 5 << 20], Ttl::from_secs(60)).await?;
    ///
    /// let Some(value) = cache.get_stream(&key).await else { return Ok(()) };
    /// assert_eq!(value.len(), 5 << 20);
    /// let tail: Vec<_> = value.range(value.len() - 100..value.len()).try_collect().await?;
    /// assert_eq!(tail.concat(), [7; 100]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// # })?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub async fn get_stream(&self, key: impl IntoKey) -> Option<LargeValue> {
        self.large().open(self.find(key).await?).await
    }

    /// The value that `entry` stands for: its own, or that of the manifest which it is. For entries
    /// that [`Cache::lookup`] gave, stale ones too. `None` as for [`Cache::get_stream`].
    pub async fn open_entry(&self, entry: Entry) -> Option<LargeValue> {
        self.large().open(entry).await
    }

    /// Stores what `source` gives, up to [`MAX_LARGE_BYTES`](crate::stream::MAX_LARGE_BYTES). What
    /// has at most [`PLAIN_BYTES`](crate::stream::PLAIN_BYTES) becomes a plain entry, what has more
    /// becomes chunks and a manifest.
    ///
    /// The write counts as of this call: a removal or another write that comes while the source is
    /// being read wins. Readers see the old value until every chunk is stored. Besides what the
    /// tiers hold, at most 9 MiB of the value are in memory, the source's own piece, and 32 bytes
    /// for each chunk.
    ///
    /// Beyond the first 15 MiB the source is read no faster than shared tiers take the value,
    /// whatever the [`WritePolicy`](crate::chain::WritePolicy), so that what waits for them keeps
    /// within its bounds; one that is away is not waited for.
    ///
    /// Cancel-safe: dropped before its end, it leaves the old value; chunks that were written
    /// already expire by themselves.
    ///
    /// # Errors
    /// The source's own; or that the value, the lifetime or the metadata is out of bounds, which is
    /// found before the source is read as far as it can be. Never because a backend failed: the
    /// outcome says which tiers took it.
    pub async fn put_stream<S, E>(
        &self,
        key: impl IntoKey,
        source: S,
        options: impl Into<StreamOptions>,
    ) -> Result<PutStreamOutcome, PutStreamError>
    where
        S: Stream<Item = Result<Bytes, E>>,
        E: Into<Box<dyn StdError + Send + Sync>>,
    {
        let key = &key.into_key()?;
        let moment = self.large().moment();
        self.large().store_stream(key, source, options.into(), moment).await.map_err(
            |failure| match failure {
                Failure::Source(error) => PutStreamError::Source(error.into()),
                Failure::Entry(error) => PutStreamError::Entry(error),
            },
        )
    }

    /// As [`Cache::put_stream`], from a reader.
    ///
    /// # Errors
    /// As [`Cache::put_stream`].
    pub async fn put_reader(
        &self,
        key: impl IntoKey,
        reader: impl AsyncRead,
        options: impl Into<StreamOptions>,
    ) -> Result<PutStreamOutcome, PutStreamError> {
        self.put_stream(key, pieces(reader), options).await
    }
}
