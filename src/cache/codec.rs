//! How typed values become bytes.

use std::fmt;

use peercache_api::{Error, ErrorKind, Operation};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// How typed values are written and read. [`Json`] is the default; a type of your own is given to
/// [`Fetch::codec`](crate::fetch::Fetch::codec) or [`Typed::codec`](crate::Typed::codec).
///
/// Every program that shares a key must use the same codec for it. The content type is stored with
/// each value, so that a value in another coding is a miss and never misread.
pub trait Codec: Clone + fmt::Debug + Send + Sync + 'static {
    /// The media type that values are stored with.
    const CONTENT_TYPE: &'static str;

    /// The bytes of `value`.
    ///
    /// # Errors
    /// When the value has no form in this coding.
    fn encode<T: Serialize + ?Sized>(&self, value: &T) -> Result<Vec<u8>, Error>;

    /// The value that `bytes` are.
    ///
    /// # Errors
    /// When they are not a value of this type.
    fn decode<T: DeserializeOwned>(&self, bytes: &[u8]) -> Result<T, Error>;

    /// Whether a value that was stored with `content_type` can be read. Default: only one that was
    /// stored with [`Codec::CONTENT_TYPE`].
    fn accepts(&self, content_type: Option<&str>) -> bool {
        content_type == Some(Self::CONTENT_TYPE)
    }
}

/// Values as JSON.
#[derive(Clone, Copy, Debug, Default)]
pub struct Json;

impl Codec for Json {
    const CONTENT_TYPE: &'static str = "application/json";

    fn encode<T: Serialize + ?Sized>(&self, value: &T) -> Result<Vec<u8>, Error> {
        serde_json::to_vec(value).map_err(|error| {
            Error::new(ErrorKind::Config, Operation::Encode, "the value cannot be turned into JSON")
                .with_source(error)
        })
    }

    fn decode<T: DeserializeOwned>(&self, bytes: &[u8]) -> Result<T, Error> {
        serde_json::from_slice(bytes).map_err(|error| {
            Error::new(ErrorKind::Corrupt, Operation::Decode, "the value is not JSON of this type")
                .with_source(error)
        })
    }

    /// Whatever its type says: JSON is recognized when it is read, and other programs store it with
    /// other types, or with none.
    fn accepts(&self, _: Option<&str>) -> bool {
        true
    }
}
