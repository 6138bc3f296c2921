//! How a manifest is told from a value: by a media type that no caller can give to an entry.

use peercache_api::{Entry, Error, ErrorKind, Operation};
use peercache_chain::{PutOutcome, PutResult, TierPut};

/// Media types that begin like this are the cache's own, in any case of letters.
const RESERVED_PREFIX: &str = "application/vnd.peercache.";

/// The media type of a manifest's entry. The value's own type is inside the manifest.
pub(super) const MANIFEST_TYPE: &str = "application/vnd.peercache.manifest";

/// Whether `entry` is the manifest of a large value.
pub(crate) fn is_manifest(entry: &Entry) -> bool {
    entry.metadata().content_type.as_deref() == Some(MANIFEST_TYPE)
}

/// What is wrong with `content_type`, if it is the cache's own.
pub(super) fn check(content_type: Option<&str>) -> Result<(), Error> {
    let reserved = content_type
        .and_then(|text| text.as_bytes().get(..RESERVED_PREFIX.len()))
        .is_some_and(|start| start.eq_ignore_ascii_case(RESERVED_PREFIX.as_bytes()));
    if !reserved {
        return Ok(());
    }
    Err(Error::new(
        ErrorKind::Config,
        Operation::Put,
        format!("media types that begin with {RESERVED_PREFIX} are the cache's own"),
    )
    .with_help("choose another content type; to store a large value again, stream it with put_stream"))
}

/// The answer to a write of a caller's entry that looks like one of the cache's own: it is stored
/// nowhere, and says why.
pub(crate) fn refusal(entry: &Entry) -> Option<PutOutcome> {
    check(entry.metadata().content_type.as_deref()).err().map(refused)
}

/// The answer to a write that the cache itself refuses.
pub(crate) fn refused(error: Error) -> PutOutcome {
    let put = TierPut::Failed(error);
    PutOutcome { tiers: vec![PutResult { tier: "cache".into(), durable: false, put }] }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_caches_own_media_types_are_refused() {
        for own in [MANIFEST_TYPE, "Application/VND.peercache.x", RESERVED_PREFIX] {
            assert!(check(Some(own)).is_err(), "{own}");
        }
        for free in ["application/vnd.peercache", "application/json", "", "application/vnd.pé"] {
            assert!(check(Some(free)).is_ok(), "{free}");
        }
        assert!(check(None).is_ok());
    }

    #[test]
    fn the_refusal_says_what_to_do() {
        let text = check(Some(MANIFEST_TYPE)).unwrap_err().to_string();
        assert!(text.contains("application/vnd.peercache.") && text.contains("choose another"), "{text}");
    }
}
