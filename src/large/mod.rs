//! Large values: what no single entry should hold is stored as chunks and a manifest.
//!
//! `docs/design/large-values.md` has the format, the bounds and the reasons. In short: a value
//! above [`PLAIN_BYTES`] is cut into chunks of [`CHUNK_BYTES`] or [`SHARED_CHUNK_BYTES`], each
//! stored under its own BLAKE3; the entry under the caller's key is a manifest that lists them.
//! Chunks are written before the manifest and verified one by one when they are read, with a few in
//! flight both ways.

mod chunk;
mod digest;
mod error;
mod found;
#[cfg(fuzzing)]
pub mod fuzzing;
mod lifetime;
mod manifest;
mod options;
mod outcome;
mod read;
mod reserved;
mod source;
mod stats;
mod stream;
mod value;
mod values;
mod write;

pub use error::LargeError;
pub use options::StreamOptions;
pub use outcome::{PutStreamError, PutStreamOutcome};
pub use stats::LargeReport;
pub use stream::{LargeReader, LargeStream};
pub use value::LargeValue;

pub(crate) use found::{ABSENT_TYPE, Found, Loaded};
pub(crate) use reserved::{refusal, refused};
pub(crate) use source::pieces;
pub(crate) use values::LargeValues;
pub(crate) use write::Failure;

/// The largest value that is stored as one plain entry: 4 MiB.
pub const PLAIN_BYTES: usize = 4 << 20;

/// The length of every chunk that this build writes but a value's last, where no tier is shared
/// with other machines: 1 MiB.
///
/// What a one-byte range and a lost chunk cost; and each thread that reads or seals keeps memory
/// for a few of them.
pub const CHUNK_BYTES: usize = 1 << 20;

/// The same where a tier is shared: 3 MiB.
///
/// There each chunk costs a request, so short ones are slow. This and its envelope stay below the 4
/// MiB at which some stores cut.
pub const SHARED_CHUNK_BYTES: usize = 3 << 20;

/// The longest chunk that this build reads: 4 MiB. A manifest with longer ones is refused.
pub const MAX_CHUNK_BYTES: usize = 4 << 20;

/// The largest value: 64 GiB. Its manifest has at most 2 MiB.
pub const MAX_LARGE_BYTES: u64 = 64 << 30;

/// The largest value that [`Cache::get_bytes`](crate::Cache::get_bytes) and
/// [`Cache::get`](crate::Cache::get) put together in memory: 64 MiB. Above that,
/// [`Cache::get_stream`](crate::Cache::get_stream) reads it.
pub const MAX_WHOLE_BYTES: usize = 64 << 20;

/// How many chunks of one stream are being written at once.
const WRITE_WINDOW: usize = 4;

/// The same where a tier is shared. Each is in memory up to three times: as it is, sealed, and in
/// its envelope.
const SHARED_WRITE_WINDOW: usize = 2;

/// How many chunks of a value that no shared tier took are looked for in the local tiers once they
/// are written.
const CHECKED_CHUNKS: usize = 256;

/// How many chunks of one value may wait for shared tiers before its writer waits as well: 15 MiB,
/// a quarter of what may wait for a tier by default.
const AHEAD_CHUNKS: usize = 5;

/// How many chunks of one stream are being read at once: the next is on its way while one is used.
/// More would be faster where a tier answers late, and costs more memory than the chunks
/// themselves: each reading thread of a disk tier has an arena of its own in the system's
/// allocator, and what the memory tier gives back stays in there.
const READ_WINDOW: usize = 2;

/// The same where the first chunk came from a shared tier, which answers late.
const SHARED_READ_WINDOW: usize = 4;

/// A line that carries so many bytes a second is quick enough for chunks to come within their
/// deadlines: 8 MiB.
const LEAST_BYTES_PER_SECOND: u64 = 8 << 20;
