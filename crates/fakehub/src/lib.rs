//! A GitHub-like origin: it serves recorded exchanges as they were recorded, computes validators
//! and rate limits live, and keeps the true count of calls.
//!
//! What GitHub decides per request is simulated (`ETag`, `304`, `x-ratelimit-*`, `date`, content
//! coding, who may see a private repository); everything else comes from the [`Corpus`] unchanged.
//! The savings and the leaks of a cache are computed from this origin's own log, never from what
//! the cache says about itself.
//!
//! ```no_run
//! # async fn run() -> Result<(), Box<dyn std::error::Error>> {
//! use peercache_fakehub::{Corpus, EtagMode, FakeHub};
//!
//! let hub = FakeHub::builder(Corpus::generated(7))
//!     .etag(EtagMode::Observed)
//!     .bucket("token-of-job-1", "octo-org-1/api", Some(1000))
//!     .bucket("token-of-job-2", "octo-org-1/api", None)
//!     .start()
//!     .await?;
//! println!("serving on {}", hub.url());
//! assert_eq!(hub.summary().requests, 0);
//! hub.shutdown().await;
//! # Ok(())
//! # }
//! ```
//!
//! A client that cannot keep a request's `Host` names it in the path: `/_fakehub/host/HOST/PATH`.
//!
//! # What is bounded
//!
//! | what | bound |
//! |---|---|
//! | one corpus line | [`MAX_LINE_BYTES`] |
//! | a request's body | [`MAX_REQUEST_BODY_BYTES`]; larger ones are answered `413` |
//! | connections at a time | [`MAX_CONNECTIONS`]; further ones wait in the listen queue |
//! | log records in memory | [`MAX_LOG_RECORDS`], oldest dropped; the file keeps all, the summary counts all |
//! | rate-limit windows | [`MAX_WINDOWS`]; expired ones are dropped first, then the one that resets next |
//! | touched resources | [`MAX_TOUCHED`] |
//!
//! # What is not simulated
//!
//! Pretty-printing by user agent, `Range`, and access control of search results and download hosts:
//! `private` covers `/repos/OWNER/REPO`, the same repository's `/repositories/ID`, and GraphQL
//! queries that name it in their variables `owner` and `name`.

mod access;
mod answer;
mod changes;
mod cli;
mod conditional;
mod control;
mod convert;
mod corpus;
mod error;
mod etag;
mod exchange;
mod generate;
mod handle;
mod json;
mod judge;
mod limits;
mod line;
mod log;
mod random;
mod replay;
mod secondary;
mod server;
mod shape;
mod target;
mod token;
pub mod workload;

pub use access::{MAX_KNOWN, TokenKind};
pub use changes::MAX_TOUCHED;
pub use cli::{EtagArg, FakeHubArgs, TokenArg, run_cli};
pub use control::Outage;
pub use corpus::{Corpus, RecordedRequest};
pub use error::{CorpusError, FakeHubError};
pub use etag::EtagMode;
pub use exchange::Exchange;
pub use handle::{FakeHub, FakeHubBuilder, FakeHubHandle};
pub use judge::{Observation, Verdict};
pub use limits::MAX_WINDOWS;
pub use line::MAX_LINE_BYTES;
pub use log::{LogRecord, MAX_LOG_RECORDS, Summary};
pub use secondary::SecondaryLimits;
pub use server::{MAX_CONNECTIONS, MAX_REQUEST_BODY_BYTES};
