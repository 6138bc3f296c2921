//! Large values: what no single entry should hold is stored as chunks and a manifest.
//!
//! `docs/large-values.md` has the format, the bounds and the reasons. In short: a value above
//! [`PLAIN_BYTES`] is cut into chunks of [`CHUNK_BYTES`], each stored under its own SHA-256; the entry
//! under the caller's key is a manifest that lists them. Chunks are written before the manifest and
//! verified one by one when they are read, with a few in flight both ways.

mod chunk;
mod digest;
#[cfg(fuzzing)]
pub mod fuzzing;
mod manifest;
mod options;
mod outcome;
mod read;
mod reserved;
mod source;
mod stats;
mod stream;
mod value;
mod write;

pub use options::StreamOptions;
pub use outcome::{PutStreamError, PutStreamOutcome};
pub use stats::LargeReport;
pub use stream::{LargeError, LargeReader, LargeStream};
pub use value::LargeValue;

pub(crate) use reserved::{is_manifest, refusal};
pub(crate) use stats::LargeStats;

/// The largest value that is stored as one plain entry: 4 MiB.
pub const PLAIN_BYTES: usize = 4 << 20;

/// The length of every chunk that this build writes, but for a value's last: 1 MiB.
///
/// What a tier must carry within its deadline (500 ms for a shared tier's read asks for 2 MiB/s), what a
/// one-byte range costs, and what a lost chunk costs to fetch again.
pub const CHUNK_BYTES: usize = 1 << 20;

/// The longest chunk that this build reads: 4 MiB. A manifest with longer ones is refused.
pub const MAX_CHUNK_BYTES: usize = 4 << 20;

/// The largest value: 64 GiB. Its manifest has 2 MiB.
pub const MAX_LARGE_BYTES: u64 = 64 << 30;

/// The largest value that [`Cache::get_bytes`](crate::Cache::get_bytes) and
/// [`Cache::get`](crate::Cache::get) put together in memory: 64 MiB. Above that,
/// [`Cache::get_stream`](crate::Cache::get_stream) reads it.
pub const MAX_WHOLE_BYTES: usize = 64 << 20;

/// How many chunks of one stream are being written at once.
const WRITE_WINDOW: usize = 4;

/// How many chunks of one value may wait for shared tiers before its writer waits as well: 16 MiB, a quarter of what
/// may wait for a tier by default.
const AHEAD_CHUNKS: usize = 16;

/// How many chunks of one stream are being read at once: the next is on its way while one is used.
/// More would be faster where a tier answers late, and costs more memory than the chunks themselves:
/// each reading thread of a disk tier has an arena of its own in the system's allocator, and what the
/// memory tier gives back stays in there.
const READ_WINDOW: usize = 2;

/// The same where a tier is shared, and answers late.
const SHARED_READ_WINDOW: usize = 4;
