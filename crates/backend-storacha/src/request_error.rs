//! What goes wrong between this process and the service, each as an error that says what to do.

use peercache_api::{Error, ErrorKind, Operation};

use crate::ucan::Malformed;
use crate::ucan::receipt::Failure;

/// The longest part of a service's own words that is shown.
const MAX_SHOWN_CHARS: usize = 200;

/// Why a request came to nothing.
#[derive(Clone, Debug)]
pub(crate) enum RequestError {
    /// Nobody answered.
    Unreachable(String),
    /// An HTTP status that no message came with.
    Status(u16),
    /// The answer ended early.
    BrokenOff(String),
    /// The answer was longer than so many bytes, which none is.
    TooLong(usize),
    /// What was received is not what the protocol says.
    Malformed(Malformed),
    /// The service said no.
    Refused(Failure),
    /// The receipt of an upload did not come within the deadline.
    NoReceipt,
    /// The storage node did not take or give the bytes.
    StorageNode(String),
    /// The address of bytes is one that is not followed.
    Location(&'static str),
    /// The key of the service could not be found out.
    NoServiceKey(String),
    /// The bytes of an envelope are not what was named.
    Bytes,
}

impl From<Malformed> for RequestError {
    fn from(why: Malformed) -> Self {
        Self::Malformed(why)
    }
}

impl RequestError {
    pub(crate) fn is_not_found(&self) -> bool {
        matches!(self, Self::Refused(Failure { name, .. }) if name == "UploadNotFound" || name == "BlobNotFound")
    }

    /// Whether the same request may succeed at once.
    pub(crate) fn is_transient(&self) -> bool {
        match self {
            Self::Unreachable(_) | Self::BrokenOff(_) | Self::StorageNode(_) => true,
            Self::Status(status) => *status >= 500,
            Self::Refused(failure) => failure.name == "HandlerExecutionError",
            _ => false,
        }
    }

    /// Whether the service says that it takes no writes.
    pub(crate) fn is_writes_disabled(&self) -> bool {
        matches!(self, Self::Refused(Failure { name, .. }) if name == "ServiceUnavailable")
    }

    pub(crate) fn into_error(self, operation: Operation) -> Error {
        let error =
            |kind, message: &'static str| Error::new(kind, operation, message).with_backend("storacha");
        match self {
            Self::Unreachable(why) => error(ErrorKind::Unavailable, "the upload service cannot be reached")
                .with_context("reason", shortened(&why))
                .with_help("check STORACHA_SERVICE_URL, and that the service runs"),
            Self::Status(429) => error(ErrorKind::RateLimited, "the upload service asks for fewer requests"),
            Self::Status(status) => error(
                if status >= 500 { ErrorKind::Unavailable } else { ErrorKind::Unsupported },
                "the upload service answers with an HTTP error",
            )
            .with_context("status", status)
            .with_help("check that STORACHA_SERVICE_URL is the address of a UCAN upload service"),
            Self::BrokenOff(why) => error(ErrorKind::Unavailable, "the answer of the upload service is cut off")
                .with_context("reason", shortened(&why)),
            Self::TooLong(most) => error(ErrorKind::Corrupt, "an answer of the upload service is refused")
                .with_context("reason", format!("it is longer than {most} bytes")),
            Self::Malformed(why) => {
                error(ErrorKind::Corrupt, "an answer of the upload service is refused").with_context("reason", why)
            }
            Self::NoReceipt => error(ErrorKind::Timeout, "the receipt of the upload did not come")
                .with_help("check STORACHA_RECEIPTS_URL"),
            Self::StorageNode(why) => error(ErrorKind::Unavailable, "the storage node that holds the bytes is away or fails")
                .with_context("reason", shortened(&why)),
            Self::Location(why) => {
                error(ErrorKind::Corrupt, "the address of the bytes is refused").with_context("reason", why)
            }
            Self::NoServiceKey(why) => error(ErrorKind::Config, "the key of the upload service is not known")
                .with_context("reason", shortened(&why))
                .with_help(
                    "give it with STORACHA_SERVICE_DID=did:web:HOST=did:key:KEY, or a service that answers at \
                     /.well-known/did.json over https",
                ),
            Self::Bytes => error(ErrorKind::Corrupt, "the bytes of the entry are not what was named"),
            Self::Refused(failure) => of_failure(&failure, operation),
        }
    }
}

fn of_failure(Failure { name, message }: &Failure, operation: Operation) -> Error {
    let text = message.to_lowercase();
    let (kind, what, help) = match name.as_str() {
        "ServiceUnavailable" => (
            ErrorKind::Denied,
            "the service has disabled writes; what is stored can still be read",
            "choose another service for new entries, or take `storacha` out of CACHE_BACKEND",
        ),
        "InsufficientStorage" | "AllocatedMemoryNotWrittenError" => (
            ErrorKind::Denied,
            "the space has no provider, or its room is used up",
            "provision the space at the service (`storacha space provision`)",
        ),
        "Unauthorized" if text.contains("expired") => (
            ErrorKind::Denied,
            "the delegation in WEB3_STORAGE_TOKEN has expired",
            "make a new delegation, and a token from it with `peercache storacha token`",
        ),
        "Unauthorized" if text.contains("audience") => (
            ErrorKind::Denied,
            "the service is not the one that requests are made for",
            "check STORACHA_SERVICE_DID: it has to be the DID of the service behind STORACHA_SERVICE_URL",
        ),
        "Unauthorized" => (
            ErrorKind::Denied,
            "the delegation in WEB3_STORAGE_TOKEN does not allow this in the space",
            "delegate `space/blob/*` and `upload/*` of the space to the agent; `peercache storacha token` shows what is granted",
        ),
        "SpaceNotFound" | "UnknownSpace" => (
            ErrorKind::Denied,
            "the service does not know the space",
            "check that the space was made at this service, and `space` in WEB3_STORAGE_TOKEN",
        ),
        "HandlerExecutionError" | "Error" | "StorageOperationFailed" => {
            (ErrorKind::Unavailable, "the upload service failed", "look into its log")
        }
        "HandlerNotFound" => (
            ErrorKind::Unsupported,
            "the service does not know an ability that this tier needs",
            "use a service that speaks the upload protocol of 2025 (UCAN 0.9)",
        ),
        _ => (ErrorKind::Denied, "the upload service refuses", "see the reason"),
    };
    let error =
        Error::new(kind, operation, what).with_backend("storacha").with_context("answer", shortened(name));
    let error = if message.is_empty() { error } else { error.with_context("reason", shortened(message)) };
    error.with_help(help)
}

/// A service's own words, short and without control characters.
pub(crate) fn shortened(text: &str) -> String {
    let clean = |c: char| if c.is_control() { ' ' } else { c };
    let mut short: String = text.chars().map(clean).take(MAX_SHOWN_CHARS).collect();
    if text.chars().nth(MAX_SHOWN_CHARS).is_some() {
        short.push('…');
    }
    short
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_refusal_is_a_distinct_error_with_a_remedy() {
        let refusals = [
            ("ServiceUnavailable", ""),
            ("InsufficientStorage", ""),
            ("Unauthorized", "Proof has expired on Monday"),
            ("Unauthorized", "Delegation audience is not the service"),
            ("Unauthorized", "can not be self issued"),
            ("SpaceNotFound", ""),
            ("HandlerNotFound", ""),
            ("HandlerExecutionError", "boom\nboom"),
        ];
        let mut seen = std::collections::BTreeSet::new();
        for (name, message) in refusals {
            let failure = Failure { name: name.into(), message: message.into() };
            let error = RequestError::Refused(failure).into_error(Operation::Put);
            assert!(error.help().is_some() && !error.to_string().contains('\n'));
            assert!(seen.insert(error.message().to_owned()), "{error}");
        }
    }
}
