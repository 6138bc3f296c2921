//! What can go wrong with a call to the node, and what a reader should do about it.

use std::fmt;
use std::time::Duration;

use ipfs_api_prelude::ApiError;
use peercache_api::{Error, ErrorKind, Operation};

/// The most characters of a node's own message that an error repeats.
const MESSAGE_CHARS: usize = 200;

/// Why a call did not succeed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Trouble {
    /// No connection, or it ended before the answer began.
    NoAnswer(String),
    /// The answer began and broke off.
    BrokenOff(String),
    /// No whole answer within the deadline.
    Timeout(Duration),
    /// A write was not answered within the deadline, while the node answers other calls.
    WritesWait(Duration),
    /// 401 or 403, and whether `IPFS_API_AUTH` was sent.
    Refused {
        /// The status.
        status: u16,
        /// Whether credentials were sent.
        authorized: bool,
    },
    /// 404: what listens there is something else.
    NotTheApi,
    /// 405: the request arrived as a GET.
    MethodRefused,
    /// A redirect.
    Redirected(u16),
    /// There is nothing under the path.
    NoSuchFile,
    /// There is something under the path already.
    Exists,
    /// Another call made the same folder at the same moment.
    FolderRaced,
    /// The node does not have the block.
    NotLocal,
    /// The node's disk is full.
    DiskFull,
    /// The node gave up fetching something from other nodes.
    FetchTimedOut,
    /// The node runs with `--offline`.
    NodeOffline,
    /// The node runs without pubsub.
    PubsubOff,
    /// The node refused a publication that overtook another one.
    PublicationOvertaken,
    /// Any other error that the node names.
    Other {
        /// The status of the answer; 0 where it is not known.
        status: u16,
        /// The node's own words.
        message: String,
    },
    /// The answer began well, and its trailer says that it failed.
    Trailer(String),
    /// The status is 200 and nothing follows where something must.
    Empty,
    /// The answer is not what Kubo answers.
    Unreadable(String),
    /// The answer is longer than any that is expected, in bytes.
    TooLong(usize),
}

/// Kubo's RPC has no error codes (`Code` is 0 throughout), so its messages are all there is to go
/// by. The texts are those of 0.40 to 0.43.
const MESSAGES: [(&str, Trouble); 10] = [
    ("file does not exist", Trouble::NoSuchFile),
    ("already has entry", Trouble::Exists),
    ("file already exists", Trouble::FolderRaced),
    ("block was not found locally", Trouble::NotLocal),
    ("no space left on device", Trouble::DiskFull),
    ("context deadline exceeded", Trouble::FetchTimedOut),
    ("must be run in online mode", Trouble::NodeOffline),
    ("pubsub feature not enabled", Trouble::PubsubOff),
    ("validation ignored", Trouble::PublicationOvertaken),
    ("could not find", Trouble::NotLocal),
];

impl Trouble {
    /// The trouble behind an answer that is not a success. `body` may be anything.
    pub(crate) fn of_answer(status: u16, body: &[u8], authorized: bool) -> Self {
        match status {
            401 | 403 => return Self::Refused { status, authorized },
            404 => return Self::NotTheApi,
            405 => return Self::MethodRefused,
            300..=399 => return Self::Redirected(status),
            _ => {}
        }
        match serde_json::from_slice::<ApiError>(body) {
            Ok(error) => Self::of_message(status, &error.message),
            Err(_) => Self::of_message(status, &String::from_utf8_lossy(body)),
        }
    }

    /// The trouble that a message of the node names.
    pub(crate) fn of_message(status: u16, message: &str) -> Self {
        let known = MESSAGES.iter().find(|(text, _)| message.contains(text));
        known.map_or_else(
            || Self::Other { status, message: shortened(message) },
            |(_, trouble)| trouble.clone(),
        )
    }

    /// Whether the same call may succeed at once, as when a pooled connection had been closed.
    /// Every call of the tier can be repeated: blocks are named by their content, and links never
    /// replace.
    pub(crate) fn is_worth_a_retry(&self) -> bool {
        matches!(self, Self::NoAnswer(_) | Self::BrokenOff(_))
    }

    /// The error for a caller.
    pub(crate) fn explain(self, operation: Operation, api: &str) -> Error {
        let error = |kind, message: &'static str| {
            Error::new(kind, operation, message).with_backend("ipfs").with_context("api", api)
        };
        match self {
            Self::NoAnswer(cause) => error(ErrorKind::Unavailable, "the IPFS node does not answer")
                .with_context("cause", cause)
                .with_help("start it with `ipfs daemon`, or correct IPFS_API"),
            Self::BrokenOff(cause) => {
                error(ErrorKind::Unavailable, "the IPFS node's answer broke off").with_context("cause", cause)
            }
            Self::Timeout(waited) => error(ErrorKind::Timeout, "the IPFS node did not answer in time")
                .with_context("waited-ms", waited.as_millis())
                .with_help("see whether the node is overloaded; `ipfs diag cmds` shows what it is doing"),
            Self::WritesWait(waited) => {
                error(ErrorKind::Timeout, "the IPFS node answers, and its writes wait: a collection is running, or the disk is slow")
                    .with_context("waited-ms", waited.as_millis())
                    .with_help("writes go on when `ipfs repo gc` has ended")
            }
            Self::Refused { status, authorized: true } => {
                error(ErrorKind::Denied, "the IPFS node refuses the credentials of IPFS_API_AUTH")
                    .with_context("status", status)
                    .with_help("compare IPFS_API_AUTH with API.Authorizations of the node; `bearer:` and `basic:` are lower case")
            }
            Self::Refused { status, authorized: false } => {
                error(ErrorKind::Denied, "the IPFS node asks for credentials")
                    .with_context("status", status)
                    .with_help("set IPFS_API_AUTH to basic:USER:PASSWORD or bearer:TOKEN as in API.Authorizations of the node")
            }
            Self::NotTheApi => error(ErrorKind::Config, "what listens at IPFS_API is not the RPC of a Kubo node")
                .with_context("status", 404)
                .with_help("name the port of Addresses.API (5001 by default), not the gateway's (8080) or the swarm's (4001)"),
            Self::MethodRefused => {
                error(ErrorKind::Config, "the IPFS node refuses the request's method: something on the way turned POST into GET")
                    .with_context("status", 405)
                    .with_help("name the node itself in IPFS_API, with http:// or https:// as it serves")
            }
            Self::Redirected(status) => error(ErrorKind::Config, "what listens at IPFS_API redirects elsewhere")
                .with_context("status", status)
                .with_help("name the place that it redirects to; a node never redirects"),
            Self::DiskFull => error(ErrorKind::Unavailable, "the IPFS node's disk is full")
                .with_help("run `peercache ipfs gc`, lower IPFS_MAX_BYTES, or give the node more room"),
            Self::FetchTimedOut => {
                error(ErrorKind::Timeout, "the IPFS node could not fetch a block from other nodes in time")
            }
            Self::NodeOffline => error(ErrorKind::Config, "the IPFS node runs offline, and nodes are to share")
                .with_help("start it without --offline, or unset IPFS_SYNC"),
            Self::PubsubOff => error(ErrorKind::Config, "the IPFS node runs without pubsub")
                .with_help("start it with --enable-pubsub-experiment or set Pubsub.Enabled, or unset IPFS_SYNC"),
            Self::PublicationOvertaken => {
                error(ErrorKind::Unavailable, "the IPFS node refused a publication that overtook another one")
            }
            Self::Trailer(message) => {
                error(ErrorKind::Unavailable, "the IPFS node began its answer and then failed")
                    .with_context("node", message)
            }
            Self::Empty => error(ErrorKind::Unsupported, "the IPFS node answered 200 and nothing else")
                .with_help("it does so when it cannot read a request; see whether a proxy changes the query"),
            Self::Unreadable(what) => error(ErrorKind::Unsupported, "the answer is not one of a Kubo node")
                .with_context("cause", what)
                .with_help("see whether a proxy or another service answers at IPFS_API"),
            Self::TooLong(most) => error(ErrorKind::Corrupt, "the IPFS node's answer is longer than any that is expected")
                .with_context("limit-bytes", most),
            Self::NoSuchFile
            | Self::Exists
            | Self::FolderRaced
            | Self::NotLocal
            | Self::Other { .. } => {
                error(ErrorKind::Unavailable, "the IPFS node could not serve the request")
                    .with_context("node", self)
            }
        }
    }
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoSuchFile => f.write_str("file does not exist"),
            Self::Exists => f.write_str("there is a file under this path already"),
            Self::FolderRaced => f.write_str("another call made the same folder at the same moment"),
            Self::NotLocal => f.write_str("the node does not have the block"),
            Self::Other { status, message } => write!(f, "status {status}: {message}"),
            other => write!(f, "{other:?}"),
        }
    }
}

impl From<ApiError> for Trouble {
    fn from(error: ApiError) -> Self {
        Self::of_message(500, &error.message)
    }
}

impl From<ipfs_api_prelude::Error> for Trouble {
    fn from(error: ipfs_api_prelude::Error) -> Self {
        use ipfs_api_prelude::Error as E;
        match error {
            E::StreamError(message) => Self::Trailer(shortened(&message)),
            E::UnrecognizedApiError(text) => Self::of_plain_text(&text),
            E::Io(error) => Self::BrokenOff(shortened(&error.to_string())),
            other => Self::Unreadable(shortened(&other.to_string())),
        }
    }
}

impl From<ipfs_api_backend_hyper::Error> for Trouble {
    fn from(error: ipfs_api_backend_hyper::Error) -> Self {
        use ipfs_api_backend_hyper::Error as E;
        match error {
            E::Api(error) => error.into(),
            E::Client(error) if error.is_connect() => Self::NoAnswer(innermost(&error)),
            E::Client(error) if error.is_body_write_aborted() || error.is_incomplete_message() => {
                Self::BrokenOff(innermost(&error))
            }
            E::Client(error) => Self::BrokenOff(innermost(&error)),
            E::Http(error) => Self::Unreadable(shortened(&error.to_string())),
            E::IpfsClientError(error) => error.into(),
        }
    }
}

impl Trouble {
    /// The trouble behind a body that is no JSON, where the status was not passed on: Go's server
    /// puts it at the start of the text.
    fn of_plain_text(text: &str) -> Self {
        let status = text.get(..3).and_then(|start| start.parse().ok()).unwrap_or(0);
        Self::of_answer(status, text.as_bytes(), false)
    }
}

/// The innermost cause, which says most: "connection refused".
pub(super) fn innermost(error: &(dyn std::error::Error + 'static)) -> String {
    let mut at = error;
    while let Some(source) = at.source() {
        at = source;
    }
    shortened(&at.to_string())
}

/// One line of a text that another program wrote.
pub(super) fn shortened(text: &str) -> String {
    let plain = |c: char| if c.is_control() { ' ' } else { c };
    text.trim().chars().map(plain).take(MESSAGE_CHARS).collect()
}
