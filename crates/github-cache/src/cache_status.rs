//! `Cache-Status`: what this cache did with a request (RFC 9211).

use std::borrow::Cow;
use std::fmt::Write;

use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};

/// The header's name.
pub(crate) const CACHE_STATUS: HeaderName = HeaderName::from_static("cache-status");

/// Why a request went upstream (RFC 9211, section 2.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Forward {
    /// Nothing usable was stored.
    UriMiss,
    /// What was stored had to be revalidated.
    Stale,
    /// The client's directives asked for it.
    Request,
    /// The method is not one that is answered from a cache.
    Method,
    /// The cache was configured not to handle this request.
    Bypass,
}

impl Forward {
    const fn as_str(self) -> &'static str {
        match self {
            Self::UriMiss => "uri-miss",
            Self::Stale => "stale",
            Self::Request => "request",
            Self::Method => "method",
            Self::Bypass => "bypass",
        }
    }
}

/// One member of the header's list, ours.
#[derive(Clone, Debug, Default)]
pub(crate) struct CacheStatus {
    /// Served without asking; the seconds for which it is still fresh.
    pub(crate) hit: Option<u64>,
    /// A hit whose conditional request was answered without the freshness being of interest.
    pub(crate) forward: Option<Forward>,
    pub(crate) forward_status: Option<StatusCode>,
    pub(crate) stored: bool,
    pub(crate) collapsed: bool,
    /// What else helps the reader: the tier of a hit, the reason of a failure.
    pub(crate) detail: Option<Cow<'static, str>>,
}

impl CacheStatus {
    /// Served from the store.
    pub(crate) const fn hit(ttl_seconds: u64) -> Self {
        Self {
            hit: Some(ttl_seconds),
            forward: None,
            forward_status: None,
            stored: false,
            collapsed: false,
            detail: None,
        }
    }

    /// Went upstream.
    pub(crate) const fn forwarded(why: Forward) -> Self {
        Self {
            hit: None,
            forward: Some(why),
            forward_status: None,
            stored: false,
            collapsed: false,
            detail: None,
        }
    }

    /// Answered here, neither from the store nor from upstream.
    pub(crate) const fn local(detail: &'static str) -> Self {
        Self {
            hit: None,
            forward: None,
            forward_status: None,
            stored: false,
            collapsed: false,
            detail: Some(Cow::Borrowed(detail)),
        }
    }

    pub(crate) const fn status(mut self, status: StatusCode) -> Self {
        self.forward_status = Some(status);
        self
    }

    pub(crate) const fn stored(mut self, stored: bool) -> Self {
        self.stored = stored;
        self
    }

    pub(crate) const fn collapsed(mut self) -> Self {
        self.collapsed = true;
        self
    }

    pub(crate) fn detail(mut self, detail: Option<impl Into<Cow<'static, str>>>) -> Self {
        self.detail = detail.map(Into::into);
        self
    }

    /// Adds it to a response, behind what caches nearer to the origin wrote.
    pub(crate) fn append_to(&self, headers: &mut HeaderMap) {
        headers.append(CACHE_STATUS, self.value());
    }

    fn value(&self) -> HeaderValue {
        let mut text = String::with_capacity(64);
        text.push_str("peercache");
        // Writing to a string cannot fail.
        let _infallible = self.write(&mut text);
        // Only ASCII tokens and numbers were written.
        HeaderValue::try_from(text).unwrap_or_else(|_| HeaderValue::from_static("peercache"))
    }

    fn write(&self, text: &mut String) -> std::fmt::Result {
        if let Some(ttl) = self.hit {
            write!(text, "; hit; ttl={ttl}")?;
        }
        if let Some(why) = self.forward {
            write!(text, "; fwd={}", why.as_str())?;
        }
        if let Some(status) = self.forward_status {
            write!(text, "; fwd-status={}", status.as_u16())?;
        }
        if self.stored {
            text.push_str("; stored");
        }
        if self.collapsed {
            text.push_str("; collapsed");
        }
        if let Some(detail) = &self.detail {
            let is_token = detail.starts_with(|c: char| c.is_ascii_alphabetic())
                && detail.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
            if is_token {
                write!(text, "; detail={detail}")?;
            } else {
                text.push_str("; detail=\"");
                text.extend(detail.chars().filter(|c| (' '..='~').contains(c) && *c != '"' && *c != '\\'));
                text.push('"');
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(status: &CacheStatus) -> String {
        status.value().to_str().unwrap().to_owned()
    }

    #[test]
    fn the_forms_that_are_documented() {
        assert_eq!(text(&CacheStatus::hit(57)), "peercache; hit; ttl=57");
        assert_eq!(
            text(&CacheStatus::hit(57).detail(Some("memory"))),
            "peercache; hit; ttl=57; detail=memory"
        );
        assert_eq!(
            text(&CacheStatus::forwarded(Forward::UriMiss).status(StatusCode::OK).stored(true)),
            "peercache; fwd=uri-miss; fwd-status=200; stored"
        );
        assert_eq!(
            text(&CacheStatus::forwarded(Forward::Stale).status(StatusCode::NOT_MODIFIED)),
            "peercache; fwd=stale; fwd-status=304"
        );
        assert_eq!(
            text(&CacheStatus::forwarded(Forward::UriMiss).collapsed()),
            "peercache; fwd=uri-miss; collapsed"
        );
        assert_eq!(
            text(&CacheStatus::hit(7).detail(Some("sealed(peers)"))),
            "peercache; hit; ttl=7; detail=\"sealed(peers)\""
        );
        assert_eq!(text(&CacheStatus::local("only-if-cached")), "peercache; detail=only-if-cached");
        assert_eq!(text(&CacheStatus::local("no \"quotes\" here")), "peercache; detail=\"no quotes here\"");
    }

    #[test]
    fn it_goes_behind_what_is_there() {
        let mut headers = HeaderMap::new();
        headers.insert(CACHE_STATUS, HeaderValue::from_static("edge; hit"));
        CacheStatus::hit(1).append_to(&mut headers);
        let all: Vec<_> = headers.get_all(CACHE_STATUS).iter().collect();
        assert_eq!(all, ["edge; hit", "peercache; hit; ttl=1"]);
    }
}
