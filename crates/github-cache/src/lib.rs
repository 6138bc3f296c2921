//! GitHub's API over a [`peercache::Cache`], and the proxy that `gh`, octokit and curl talk to.
//!
//! What GitHub answers is kept in two parts. The **representation** is the bytes that everybody
//! gets who may see them; it is stored under its own digest and has nothing of a token in it. The
//! **grant** says that one token may see one representation, since when, and until when without
//! asking again. A **mark** says since when a path's grants have to be revalidated, because
//! something was written there.
//!
//! A request is then one of these, and `Cache-Status` (RFC 9211) says which:
//!
//! | class | what happens | `Cache-Status` |
//! |---|---|---|
//! | fresh | this token has a grant within its lifetime: served, nothing is sent | `peercache; hit; ttl=57` |
//! | coalesced | this token's same request is under way: served when it arrives | `peercache; fwd=uri-miss; collapsed` |
//! | revalidated | the grant is old: GitHub's 304 extends it, at no charge | `peercache; fwd=stale; fwd-status=304` |
//! | miss | fetched, and stored if it may be | `peercache; fwd=uri-miss; fwd-status=200; stored` |
//! | bypass | another method or host, a range, a cookie: passed through | `peercache; fwd=method; fwd-status=201` |
//!
//! ```no_run
//! # async fn run(cache: peercache::Cache, key: [u8; 32]) -> Result<(), Box<dyn std::error::Error>> {
//! use peercache_github::{GitHubCache, Server};
//!
//! let proxy = GitHubCache::builder(cache).install_key(key).build()?;
//! let mut server = Server::new(proxy);
//! let address = server.listen_tcp(([127, 0, 0, 1], 8080).into()).await?;
//! println!("export GITHUB_API_URL=http://{address}");
//! server.serve(std::future::pending()).await?;
//! # Ok(())
//! # }
//! ```

mod accept;
mod access;
mod areas;
mod arrival;
mod body;
mod body_rewrite;
mod budget;
mod budget_share;
mod build_cache;
mod builder;
mod ca;
mod cache_control;
mod cache_status;
mod candidates;
mod charge;
mod client_label;
mod coalesce;
mod conditional;
mod error;
mod explain;
mod fetch;
mod forward_proxy;
mod freshness;
mod grant;
mod graphql;
mod graphql_answers;
mod graphql_operation;
mod graphql_request;
mod gunzip;
mod hex;
mod history;
mod hosts;
mod invalidation;
mod iso_date;
mod key;
mod ledger;
mod limits;
mod look;
mod loops;
mod outage;
mod own;
mod pace;
mod pages;
mod passthrough;
mod path_pattern;
mod policy;
mod priority;
mod proxy;
mod public;
mod quota;
mod rate;
mod refusal;
mod report;
mod representation;
mod request_headers;
mod rewrite;
mod route_table;
mod scope;
mod server;
mod shared;
mod shares;
mod sharing;
#[cfg(unix)]
mod socket;
mod stats;
mod store;
mod target_bytes;
mod tls;
mod token;
mod upstream;
mod validator;
mod webhook;
mod write_marks;

pub use access::AccessRecord;
pub use body::ResponseBody;
pub use body_rewrite::RewriteBodies;
pub use builder::GitHubCacheBuilder;
pub use ca::{CaError, CertificateAuthority};
pub use error::{BuildError, ServeError};
pub use history::Sample;
pub use ledger::{Booked, ClientRow, LedgerReport, RouteRow, TokenRow};
pub use proxy::GitHubCache;
pub use report::{SavedReport, StatsReport};
pub use representation::MAX_REPRESENTATION_BYTES;
pub use server::{Drained, MAX_CONNECTIONS, Server};
pub use stats::{NotStoredStats, ProxyStats};
pub use tls::TlsIdentity;
pub use token::{TokenHasher, TokenId};
pub use upstream::Limits;
pub use validator::RuleCheck;
