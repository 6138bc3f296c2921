//! A representation: what every token that may see a resource gets, and nothing that is bound to
//! one.
//!
//! Stored under the digest of its own bytes, so tokens that got the same answer share one copy, and
//! what a store returns can be checked without trusting it.

use bytes::{BufMut, Bytes, BytesMut};
use http::header::{CONTENT_DISPOSITION, CONTENT_LANGUAGE, CONTENT_TYPE, HeaderName, HeaderValue};
use http::{HeaderMap, StatusCode};
use minicbor::{Decode, Encode};
use sha2::{Digest, Sha256};

/// The largest body that is stored: 4 MiB. Larger ones stream through.
pub const MAX_REPRESENTATION_BYTES: usize = 4 * 1024 * 1024;
/// The largest header section of a stored representation or grant, in bytes.
pub(crate) const MAX_HEAD_BYTES: usize = 256 * 1024;

const FORMAT: u8 = 1;
/// Format and length of the header section.
const PREFIX_BYTES: usize = 5;

/// The headers that describe the representation itself. Everything else belongs to one token's
/// response and is in its grant.
/// What a 304 may change (`Link`, `Last-Modified`, `X-Poll-Interval`) is not among them.
pub(crate) static CONTENT_HEADERS: [HeaderName; 4] =
    [CONTENT_TYPE, CONTENT_LANGUAGE, CONTENT_DISPOSITION, HeaderName::from_static("x-github-media-type")];

/// Whether answers with this status are stored at all.
pub(crate) fn is_kept(status: StatusCode) -> bool {
    status == StatusCode::OK || is_negative(status)
}

/// Whether a status says that there is nothing, which is remembered for a moment.
pub(crate) fn is_negative(status: StatusCode) -> bool {
    matches!(status, StatusCode::NOT_FOUND | StatusCode::GONE)
}

/// One header field as it is stored.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub(crate) struct Field {
    #[n(0)]
    name: String,
    #[cbor(n(1), with = "minicbor::bytes")]
    value: Vec<u8>,
}

/// Stored fields of a header map, in its order.
pub(crate) fn to_fields<'a>(
    headers: impl IntoIterator<Item = (&'a HeaderName, &'a HeaderValue)>,
) -> Vec<Field> {
    headers
        .into_iter()
        .map(|(name, value)| Field { name: name.as_str().to_owned(), value: value.as_bytes().to_vec() })
        .collect()
}

/// Adds stored fields to a header map. `None` when one is not a header, or there are too many.
pub(crate) fn add_fields(headers: &mut HeaderMap, fields: &[Field]) -> Option<()> {
    for field in fields {
        let name = HeaderName::from_bytes(field.name.as_bytes()).ok()?;
        let value = HeaderValue::from_bytes(&field.value).ok()?;
        headers.try_append(name, value).ok()?;
    }
    Some(())
}

#[derive(Debug, Encode, Decode)]
struct Head {
    #[n(0)]
    status: u16,
    #[n(1)]
    fields: Vec<Field>,
}

/// A representation as it is stored: a header section and the body, uncompressed.
#[derive(Clone, Debug)]
pub(crate) struct Representation {
    /// SHA-256 of [`Self::value`].
    pub(crate) digest: [u8; 32],
    /// What is stored.
    pub(crate) value: Bytes,
}

impl Representation {
    /// Builds one from a response. `None` when its content headers exceed their bound.
    pub(crate) fn new(status: StatusCode, headers: &HeaderMap, body: &[Bytes]) -> Option<Self> {
        let content = CONTENT_HEADERS
            .iter()
            .flat_map(|name| headers.get_all(name).iter().map(move |value| (name, value)));
        let head = minicbor::to_vec(Head { status: status.as_u16(), fields: to_fields(content) }).ok()?;
        let head_bytes = u32::try_from(head.len()).ok().filter(|_| head.len() <= MAX_HEAD_BYTES)?;
        let body_bytes: usize = body.iter().map(Bytes::len).sum();
        let body_at = PREFIX_BYTES + head.len();
        let mut value = BytesMut::with_capacity(body_at + body_bytes);
        value.put_u8(FORMAT);
        value.put_u32(head_bytes);
        value.put_slice(&head);
        for part in body {
            value.put_slice(part);
        }
        let value = value.freeze();
        Some(Self { digest: Sha256::digest(&value).into(), value })
    }

    /// The status, the content headers and the start of the body of a stored value. `None` if it is
    /// not one.
    pub(crate) fn parse(value: &[u8]) -> Option<(StatusCode, HeaderMap, usize)> {
        let (prefix, rest) = value.split_at_checked(PREFIX_BYTES)?;
        if prefix[0] != FORMAT {
            return None;
        }
        let head_bytes = u32::from_be_bytes([prefix[1], prefix[2], prefix[3], prefix[4]]) as usize;
        if head_bytes > MAX_HEAD_BYTES {
            return None;
        }
        let head: Head = minicbor::decode(rest.get(..head_bytes)?).ok()?;
        let mut headers = HeaderMap::with_capacity(head.fields.len() + 32);
        add_fields(&mut headers, &head.fields)?;
        let status = StatusCode::from_u16(head.status).ok()?;
        is_kept(status).then_some((status, headers, PREFIX_BYTES + head_bytes))
    }

    /// Whether a stored value is the one that this digest names.
    pub(crate) fn verify(digest: &[u8; 32], value: &[u8]) -> bool {
        Sha256::digest(value).as_slice() == digest
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::header::{ETAG, LINK, SET_COOKIE};
    use proptest::prelude::*;

    fn headers() -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.append(LINK, HeaderValue::from_static("<a>; rel=next"));
        headers.append(LINK, HeaderValue::from_static("<b>; rel=last"));
        headers.insert(ETAG, HeaderValue::from_static("\"x\""));
        headers.insert(SET_COOKIE, HeaderValue::from_static("session=1"));
        headers.insert("x-oauth-scopes", HeaderValue::from_static("repo"));
        headers
    }

    #[test]
    fn nothing_bound_to_a_token_is_in_it() {
        let body = [Bytes::from_static(b"{\"a\":"), Bytes::from_static(b"1}")];
        let made = Representation::new(StatusCode::OK, &headers(), &body).unwrap();
        let (_, read, body_at) = Representation::parse(&made.value).unwrap();
        assert_eq!(&made.value[body_at..], b"{\"a\":1}");
        assert_eq!(read.len(), 1, "{read:?}");
        assert!(Representation::verify(&made.digest, &made.value));
        let mut other = headers();
        other.insert("x-oauth-scopes", HeaderValue::from_static("none"));
        other.insert(ETAG, HeaderValue::from_static("\"y\""));
        assert_eq!(
            Representation::new(StatusCode::OK, &other, &body).unwrap().digest,
            made.digest,
            "tokens share it"
        );
    }

    #[test]
    fn how_the_body_was_cut_does_not_matter_but_its_bytes_do() {
        let whole = Representation::new(StatusCode::OK, &headers(), &[Bytes::from_static(b"abc")]).unwrap();
        let parts = [Bytes::from_static(b"a"), Bytes::new(), Bytes::from_static(b"bc")];
        assert_eq!(Representation::new(StatusCode::OK, &headers(), &parts).unwrap().digest, whole.digest);
        assert_ne!(
            Representation::new(StatusCode::OK, &headers(), &parts[..1]).unwrap().digest,
            whole.digest
        );
        assert!(!Representation::verify(&whole.digest, &whole.value[1..]));
    }

    #[test]
    fn headers_beyond_the_bound_are_refused() {
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_bytes(&vec![b'x'; MAX_HEAD_BYTES + 1]).unwrap());
        assert!(Representation::new(StatusCode::OK, &headers, &[]).is_none());
    }

    proptest! {
        #[test]
        fn any_bytes_are_parsed_without_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            if let Some((_, _, body_at)) = Representation::parse(&bytes) {
                prop_assert!(body_at <= bytes.len());
            }
        }
    }
}
