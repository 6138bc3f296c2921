//! One error type for every backend: what kind of failure, whether a retry can help, and what the
//! reader should do next.

use std::borrow::Cow;
use std::error::Error as StdError;
use std::fmt;
use std::sync::Arc;

/// What went wrong, in terms that a caller can act on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The store cannot be reached or is closed.
    Unavailable,
    /// The store did not answer within its deadline. Whether a write took effect is unknown.
    Timeout,
    /// The store asks for fewer requests.
    RateLimited,
    /// The credentials, permissions or mode of this process do not allow it.
    Denied,
    /// What is stored is not what was written: damaged, truncated, or another key's entry.
    Corrupt,
    /// The entry is larger than the store takes.
    TooLarge,
    /// The store cannot do this, or the stored format is newer than this build.
    Unsupported,
    /// A setting or an argument is wrong; only the user can mend it.
    Config,
    /// The backend has a bug: it panicked. A chain turns the panic into this error.
    Internal,
}

impl ErrorKind {
    /// Whether the same call may succeed later without anybody changing anything.
    #[must_use]
    pub const fn is_temporary(self) -> bool {
        matches!(self, Self::Unavailable | Self::Timeout | Self::RateLimited)
    }

    /// The name in lower case, as reports print it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Unavailable => "unavailable",
            Self::Timeout => "timeout",
            Self::RateLimited => "rate limited",
            Self::Denied => "denied",
            Self::Corrupt => "corrupt",
            Self::TooLarge => "too large",
            Self::Unsupported => "unsupported",
            Self::Config => "configuration",
            Self::Internal => "internal",
        }
    }
}

impl fmt::Display for ErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What was being done when it failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Operation {
    /// Reading settings.
    Configure,
    /// Opening a store.
    Open,
    /// Reading an entry.
    Get,
    /// Writing an entry or a tombstone.
    Put,
    /// Asking to be the only one that loads a key.
    Lease,
    /// Asking whether the store is well.
    Probe,
    /// Flushing and closing.
    Close,
    /// Turning an entry into bytes.
    Encode,
    /// Turning bytes into an entry.
    Decode,
}

impl Operation {
    /// The name in lower case, as reports print it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Configure => "configure",
            Self::Open => "open",
            Self::Get => "get",
            Self::Put => "put",
            Self::Lease => "lease",
            Self::Probe => "probe",
            Self::Close => "close",
            Self::Encode => "encode",
            Self::Decode => "decode",
        }
    }
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

type Source = Arc<dyn StdError + Send + Sync + 'static>;

/// A failure of a cache operation. Cheap to clone: it is shared.
///
/// `Display` prints one line: backend, operation, what happened, its context, what to do next. It
/// never contains a key in clear, a token or a secret; code that builds an error must not add one.
#[derive(Clone)]
pub struct Error(Arc<Inner>);

#[derive(Clone)]
struct Inner {
    kind: ErrorKind,
    operation: Operation,
    message: Cow<'static, str>,
    temporary: bool,
    backend: Option<Cow<'static, str>>,
    context: Vec<(&'static str, String)>,
    help: Option<Cow<'static, str>>,
    source: Option<Source>,
}

impl Error {
    /// An error of this kind. Whether a retry can help follows from the kind unless it is set.
    pub fn new(kind: ErrorKind, operation: Operation, message: impl Into<Cow<'static, str>>) -> Self {
        Self(Arc::new(Inner {
            kind,
            operation,
            message: message.into(),
            temporary: kind.is_temporary(),
            backend: None,
            context: Vec::new(),
            help: None,
            source: None,
        }))
    }

    /// Names the backend, unless a deeper layer has named itself already.
    #[must_use]
    pub fn with_backend(self, backend: impl Into<Cow<'static, str>>) -> Self {
        self.edit(|inner| {
            inner.backend.get_or_insert_with(|| backend.into());
        })
    }

    /// Adds one named fact, such as a path or a limit.
    #[must_use]
    pub fn with_context(self, name: &'static str, value: impl fmt::Display) -> Self {
        self.edit(|inner| inner.context.push((name, value.to_string())))
    }

    /// Says what the reader should do next.
    #[must_use]
    pub fn with_help(self, help: impl Into<Cow<'static, str>>) -> Self {
        self.edit(|inner| inner.help = Some(help.into()))
    }

    /// Attaches the error that caused this one.
    #[must_use]
    pub fn with_source(self, source: impl StdError + Send + Sync + 'static) -> Self {
        self.edit(|inner| inner.source = Some(Arc::new(source)))
    }

    /// Overrides whether a retry can help.
    #[must_use]
    pub fn with_temporary(self, temporary: bool) -> Self {
        self.edit(|inner| inner.temporary = temporary)
    }

    fn edit(mut self, change: impl FnOnce(&mut Inner)) -> Self {
        change(Arc::make_mut(&mut self.0));
        self
    }

    /// What went wrong.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// What was being done.
    #[must_use]
    pub fn operation(&self) -> Operation {
        self.0.operation
    }

    /// Whether the same call may succeed later without anybody changing anything.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        self.0.temporary
    }

    /// The backend that failed, if it said so.
    #[must_use]
    pub fn backend(&self) -> Option<&str> {
        self.0.backend.as_deref()
    }

    /// The message alone, without backend, context and help.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.0.message
    }

    /// The fact of this name, if one was added; the first of several.
    #[must_use]
    pub fn context(&self, name: &str) -> Option<&str> {
        self.0.context.iter().find(|(known, _)| *known == name).map(|(_, value)| value.as_str())
    }

    /// What the reader should do next, if there is something.
    #[must_use]
    pub fn help(&self) -> Option<&str> {
        self.0.help.as_deref()
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let inner = &*self.0;
        if let Some(backend) = &inner.backend {
            write!(f, "{backend}: ")?;
        }
        write!(f, "{} failed ({}): {}", inner.operation, inner.kind, inner.message)?;
        for (index, (name, value)) in inner.context.iter().enumerate() {
            write!(f, "{}{name}={value}", if index == 0 { " [" } else { ", " })?;
        }
        if !inner.context.is_empty() {
            f.write_str("]")?;
        }
        if let Some(source) = &inner.source {
            write!(f, ": {source}")?;
        }
        if let Some(help) = &inner.help {
            write!(f, "; {help}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Error({self})")
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.0.source.as_ref().map(|source| source.as_ref() as &(dyn StdError + 'static))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn display_is_one_line_with_everything_a_reader_needs() {
        let error = Error::new(ErrorKind::Denied, Operation::Open, "the directory is not writable")
            .with_backend("disk")
            .with_context("dir", "/var/cache")
            .with_context("mode", "0555")
            .with_source(std::io::Error::other("permission denied"))
            .with_help("set CACHE_DIR to a directory that this user owns");
        insta::assert_snapshot!(error, @"disk: open failed (denied): the directory is not writable [dir=/var/cache, mode=0555]: permission denied; set CACHE_DIR to a directory that this user owns");
        insta::assert_snapshot!(Error::new(ErrorKind::Timeout, Operation::Get, "no answer within 250 ms"), @"get failed (timeout): no answer within 250 ms");
    }

    #[test]
    fn the_deepest_backend_keeps_its_name() {
        let error =
            Error::new(ErrorKind::Timeout, Operation::Get, "slow").with_backend("s3").with_backend("chain");
        assert_eq!(error.backend(), Some("s3"));
    }

    #[test]
    fn retry_follows_the_kind_unless_overridden() {
        let slow = Error::new(ErrorKind::Timeout, Operation::Get, "slow");
        assert!(slow.is_retryable());
        assert!(!slow.with_temporary(false).is_retryable());
        assert!(!Error::new(ErrorKind::Corrupt, Operation::Get, "damaged").is_retryable());
    }

    #[test]
    fn the_source_is_reachable() {
        let error = Error::new(ErrorKind::Unavailable, Operation::Put, "gone")
            .with_source(std::io::Error::other("broken pipe"));
        assert_eq!(StdError::source(&error).unwrap().to_string(), "broken pipe");
    }
}
