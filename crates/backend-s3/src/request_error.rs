//! What can go wrong with a request, and the error that a user reads.

use std::error::Error as StdError;
use std::time::{Duration, UNIX_EPOCH};

use aws_credential_types::provider::error::CredentialsError;
use aws_sdk_s3::config::http::HttpResponse;
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use peercache_api::{Error, ErrorKind, Operation, Timestamp};

use crate::credentials::innermost;

/// Why a request did not succeed.
#[derive(Debug)]
pub(crate) enum RequestError {
    /// The store answered with an error.
    Answer(Box<Answer>),
    /// No answer, or one that broke off.
    NoAnswer(String),
    /// The connection was not made in time.
    ConnectTimeout,
    /// There is nothing to sign the request with.
    NoCredentials(String),
    /// What gives credentials is set up wrongly.
    BadCredentialSource(String),
    /// What gives credentials does not answer.
    CredentialSourceDown(String),
    /// The request could not even be made.
    Unsendable(String),
    /// The object is larger than any of ours: its bytes, as far as known, and its entity tag.
    TooLong(u64, Option<String>),
    /// Nothing was sent.
    HeldBack(Error),
}

/// What requests are sent to.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    /// The bucket.
    pub(crate) bucket: String,
    /// How it is addressed.
    pub(crate) addressing: Addressing,
}

/// How a request names the bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Addressing {
    /// AWS's own endpoints, where this is never the mistake.
    Aws,
    /// In the path, at an endpoint that the user named.
    Path,
    /// In the host, at an endpoint that the user named.
    Host,
}

/// An error that the store answered with.
#[derive(Clone, Debug, Default)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) code: String,
    retry_after: Option<String>,
    date: Option<String>,
    region: Option<String>,
    /// The start of the message, which names the right region for a wrong one.
    message: String,
}

/// What an error means beyond the request that met it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Extent {
    /// It concerns this request.
    Request,
    /// Every request would meet it until somebody mends something.
    All,
    /// As [`Extent::All`], and the credentials are the cause.
    Credentials,
    /// The store asks for fewer requests, for this long if it says so.
    Throttled(Option<Duration>),
}

impl RequestError {
    pub(crate) fn of<E>(error: SdkError<E, HttpResponse>) -> Self
    where
        E: ProvideErrorMetadata + StdError + Send + Sync + 'static,
    {
        if let Some(found) = credentials_error(&error) {
            return found;
        }
        match &error {
            SdkError::ServiceError(answered) => {
                let raw = answered.raw();
                let header = |name| raw.headers().get(name).map(str::to_owned);
                let meta = answered.err().meta();
                Self::Answer(Box::new(Answer {
                    status: raw.status().as_u16(),
                    code: meta.code().unwrap_or_default().chars().take(64).collect(),
                    retry_after: header("retry-after"),
                    date: header("date"),
                    region: header("x-amz-bucket-region"),
                    message: meta.message().unwrap_or_default().chars().take(300).collect(),
                }))
            }
            SdkError::DispatchFailure(failure) if failure.is_timeout() => Self::ConnectTimeout,
            SdkError::TimeoutError(_) => Self::ConnectTimeout,
            SdkError::ConstructionFailure(_) => Self::Unsendable(innermost(&error)),
            SdkError::DispatchFailure(failure) if failure.is_user() => Self::Unsendable(innermost(&error)),
            _ => Self::NoAnswer(innermost(&error)),
        }
    }

    /// Whether the same request may succeed at once: a pooled connection that had gone, an accident
    /// in the store. Not when the store asks for fewer requests.
    pub(crate) fn is_worth_a_retry(&self) -> bool {
        match self {
            Self::NoAnswer(_) => true,
            Self::Answer(answer) => {
                matches!(answer.status, 500 | 502 | 504) || answer.code == "RequestTimeout"
            }
            _ => false,
        }
    }

    /// Whether the object is not there. A bucket that is not there is another answer.
    pub(crate) fn is_no_such_object(&self) -> bool {
        matches!(self, Self::Answer(answer) if answer.status == 404 && answer.code != "NoSuchBucket")
    }

    /// Whether the object was not as the condition of a write wanted it, or another write was under
    /// way.
    pub(crate) fn is_conflict(&self) -> bool {
        let Self::Answer(answer) = self else { return false };
        match answer.status {
            412 => true,
            409 => matches!(answer.code.as_str(), "ConditionalRequestConflict" | "OperationAborted"),
            _ => self.is_no_such_object(),
        }
    }

    /// Whether the store says that it knows no conditions. For a write with one; without it the
    /// same answer means something else.
    pub(crate) fn is_unsupported_condition(&self) -> bool {
        let Self::Answer(answer) = self else { return false };
        matches!(answer.status, 405 | 501)
            || matches!(
                answer.code.as_str(),
                "NotImplemented"
                    | "InvalidArgument"
                    | "InvalidRequest"
                    | "NotSupported"
                    | "UnsupportedHeader"
            )
    }

    /// Whether the credentials may not do this, while they may do something else.
    pub(crate) fn is_access_denied(&self) -> bool {
        matches!(self, Self::Answer(answer) if answer.status == 403
            && matches!(answer.code.as_str(), "AccessDenied" | "AllAccessDisabled" | "UnauthorizedAccess"))
    }

    /// What a caller is told, and how far it reaches.
    pub(crate) fn explain(self, operation: Operation, target: &Target, now: Timestamp) -> (Error, Extent) {
        let error = |kind, message: &'static str| Error::new(kind, operation, message).with_backend("s3");
        match self {
            Self::HeldBack(error) => (error, Extent::Request),
            Self::Answer(answer) => answer.explain(operation, target, now),
            Self::NoAnswer(cause) => (
                error(ErrorKind::Unavailable, "the store did not answer")
                    .with_context("cause", cause)
                    .with_help(target.help_unreachable()),
                Extent::Request,
            ),
            Self::ConnectTimeout => (
                error(ErrorKind::Timeout, "no connection to the store could be made in time")
                    .with_help(target.help_unreachable()),
                Extent::Request,
            ),
            Self::NoCredentials(cause) => (
                error(ErrorKind::Config, "there are no credentials for the bucket")
                    .with_context("cause", cause)
                    .with_help(
                        "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or log in with a role (in GitHub Actions: \
                         aws-actions/configure-aws-credentials)",
                    ),
                Extent::Credentials,
            ),
            Self::BadCredentialSource(cause) => (
                error(ErrorKind::Config, "the source of the credentials is set up wrongly")
                    .with_context("cause", cause)
                    .with_help("see AWS_PROFILE, ~/.aws/config and ~/.aws/credentials"),
                Extent::Credentials,
            ),
            Self::CredentialSourceDown(cause) => (
                error(ErrorKind::Unavailable, "what gives the credentials did not answer")
                    .with_context("cause", cause),
                Extent::Credentials,
            ),
            Self::Unsendable(cause) => (
                error(ErrorKind::Config, "the request could not be made")
                    .with_context("cause", cause)
                    .with_help("see the endpoint, the region and the name of the bucket"),
                Extent::All,
            ),
            Self::TooLong(bytes, _) => (
                error(ErrorKind::Corrupt, "the object is larger than any entry").with_context("bytes", bytes),
                Extent::Request,
            ),
        }
    }
}

impl Target {
    /// What to do where no connection can be had. A name in the host that nobody has set up looks
    /// the same as a store that is down.
    fn help_unreachable(&self) -> &'static str {
        match self.addressing {
            Addressing::Host => {
                "see whether the endpoint is right and reachable from here; the bucket is asked for as \
                 BUCKET.HOST: if the store has no such name, set CACHE_S3_PATH_STYLE=true"
            }
            _ => "see whether the endpoint is right and reachable from here",
        }
    }
}

fn credentials_error(error: &(dyn StdError + 'static)) -> Option<RequestError> {
    let mut cause = Some(error);
    while let Some(at) = cause {
        if let Some(found) = at.downcast_ref::<CredentialsError>() {
            let text = innermost(found);
            return Some(match found {
                CredentialsError::CredentialsNotLoaded(_) => RequestError::NoCredentials(text),
                CredentialsError::InvalidConfiguration(_) => RequestError::BadCredentialSource(text),
                _ => RequestError::CredentialSourceDown(text),
            });
        }
        cause = at.source();
    }
    None
}

impl Answer {
    /// A `Retry-After` in seconds or as a date (RFC 9110, section 10.2.3).
    fn wait(&self, now: Timestamp) -> Option<Duration> {
        let text = self.retry_after.as_deref()?.trim();
        if let Ok(seconds) = text.parse() {
            return Some(Duration::from_secs(seconds));
        }
        let until = httpdate::parse_http_date(text).ok()?;
        // By the store's own clock where it shows it: ours may be wrong.
        let from = self.date.as_deref().and_then(|date| httpdate::parse_http_date(date).ok());
        let from = from.unwrap_or(UNIX_EPOCH + Duration::from_millis(now.as_millis()));
        Some(until.duration_since(from).unwrap_or_default())
    }

    fn explain(&self, operation: Operation, target: &Target, now: Timestamp) -> (Error, Extent) {
        let error = |kind, message: &'static str| {
            let code = if self.code.is_empty() { "none" } else { &self.code };
            Error::new(kind, operation, message)
                .with_backend("s3")
                .with_context("bucket", &target.bucket)
                .with_context("status", self.status)
                .with_context("code", code)
        };
        let throttling = matches!(
            self.code.as_str(),
            "SlowDown" | "TooManyRequests" | "RequestLimitExceeded" | "ThrottlingException" | "Throttling"
        );
        if throttling || self.status == 429 || (self.status == 503 && self.retry_after.is_some()) {
            let wait = self.wait(now);
            let told = error(ErrorKind::RateLimited, "the store asks for fewer requests");
            let told = match wait {
                Some(wait) => told.with_context("retry-after-seconds", wait.as_secs()),
                None => told,
            };
            return (told, Extent::Throttled(wait));
        }
        match (self.code.as_str(), self.status) {
            ("NoSuchBucket", _) => (
                error(ErrorKind::Config, "the bucket does not exist").with_help(match target.addressing {
                    Addressing::Host => {
                        "create it, or correct AWS_S3_BUCKET; if the store expects the bucket in the path, set \
                         CACHE_S3_PATH_STYLE=true"
                    }
                    _ => "create it, or correct AWS_S3_BUCKET (and the endpoint, where one is set)",
                }),
                Extent::All,
            ),
            // Alibaba's OSS: the bucket must be part of the host.
            ("SecondLevelDomainForbidden", _) => (
                error(ErrorKind::Config, "the store does not take the bucket in the path of a request")
                    .with_help("set CACHE_S3_PATH_STYLE=false"),
                Extent::All,
            ),
            ("SignatureDoesNotMatch", _) => (
                error(ErrorKind::Denied, "the store refuses the signature: the secret key is wrong")
                    .with_help("correct AWS_SECRET_ACCESS_KEY: copied whole, and without a line break"),
                Extent::Credentials,
            ),
            ("InvalidAccessKeyId" | "InvalidClientTokenId", _) => (
                error(ErrorKind::Denied, "the store does not know the access key")
                    .with_help("correct AWS_ACCESS_KEY_ID; temporary keys also need AWS_SESSION_TOKEN"),
                Extent::Credentials,
            ),
            ("ExpiredToken" | "ExpiredTokenException" | "TokenRefreshRequired", _) => (
                // What gives them may have new ones soon, so a write that waits is worth another
                // try.
                error(ErrorKind::Denied, "the credentials have expired").with_temporary(true).with_help(
                    "log in again; a job that runs for longer than its login needs a longer one, or a role \
                     that renews itself",
                ),
                Extent::Credentials,
            ),
            ("InvalidToken" | "InvalidSecurity", _) => (
                error(ErrorKind::Denied, "the store refuses the session token")
                    .with_help("AWS_SESSION_TOKEN must belong to the access key, or be unset"),
                Extent::Credentials,
            ),
            ("RequestTimeTooSkewed" | "RequestExpired", _) => {
                let told = error(ErrorKind::Config, "this machine's clock differs too much from the store's");
                let theirs = self.date.as_deref().and_then(|date| httpdate::parse_http_date(date).ok());
                let told = match theirs.and_then(|time| time.duration_since(UNIX_EPOCH).ok()) {
                    Some(theirs) => told.with_context(
                        "seconds-ahead",
                        i128::from(now.as_millis() / 1000) - i128::from(theirs.as_secs()),
                    ),
                    None => told,
                };
                (told.with_help("set the clock, or let it be set by a time server"), Extent::All)
            }
            ("AuthorizationHeaderMalformed" | "PermanentRedirect" | "IllegalLocationConstraintException", _)
            | (_, 301 | 307) => {
                let told = error(ErrorKind::Config, "the bucket is in another region");
                let told = match self.right_region() {
                    Some(region) => {
                        told.with_context("region", &region).with_help(format!("set AWS_REGION={region}"))
                    }
                    None => told.with_help("set AWS_REGION to the bucket's region"),
                };
                (told, Extent::All)
            }
            (_, 403 | 401) if operation == Operation::Put => (
                error(ErrorKind::Denied, "these credentials may not write to the bucket")
                    .with_help("allow s3:PutObject, or set CACHE_READ_ONLY=true if they are not to write"),
                Extent::Request,
            ),
            (_, 403 | 401) => (
                error(ErrorKind::Denied, "these credentials may not read the object").with_help(
                    "allow s3:GetObject on the objects and s3:ListBucket on the bucket: without the second, a \
                     missing object is answered like this too",
                ),
                Extent::Request,
            ),
            (_, 500..=599) => {
                (error(ErrorKind::Unavailable, "the store could not serve the request"), Extent::Request)
            }
            ("EntityTooLarge", _) => {
                (error(ErrorKind::TooLarge, "the store does not take objects of this size"), Extent::Request)
            }
            _ => (error(ErrorKind::Unsupported, "the store refused the request"), Extent::Request),
        }
    }

    fn right_region(&self) -> Option<String> {
        let quoted = || self.message.split("expecting '").nth(1)?.split('\'').next();
        let region = self.region.as_deref().or_else(quoted)?;
        let plain = region.len() <= 32 && region.chars().all(|c| c.is_ascii_alphanumeric() || c == '-');
        (plain && !region.is_empty()).then(|| region.to_owned())
    }
}

#[cfg(test)]
mod tests;
