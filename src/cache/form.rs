//! The forms in which values are asked for: decoded by a codec, shared, bytes, or perhaps absent.

use std::any::Any;
use std::marker::PhantomData;
use std::sync::Arc;

use bytes::Bytes;
use peercache_api::{Error, ErrorKind, Operation};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::codec::Codec;
use crate::large::{ABSENT_TYPE, Found, Loaded};

/// What is known of stored bytes when they are turned into a value.
pub(crate) struct Stored<'a> {
    pub(crate) bytes: &'a Bytes,
    pub(crate) content_type: Option<&'a str>,
    pub(crate) absent: bool,
    pub(crate) decoded: Option<&'a Arc<dyn Any + Send + Sync>>,
}

impl<'a> Stored<'a> {
    pub(crate) fn found(found: &'a Found) -> Self {
        Self {
            bytes: &found.bytes,
            content_type: found.content_type(),
            absent: found.is_absent(),
            decoded: found.entry.decoded(),
        }
    }

    pub(crate) fn loaded(loaded: &'a Loaded) -> Self {
        Self {
            bytes: &loaded.bytes,
            content_type: loaded.content_type.as_deref(),
            absent: loaded.absent,
            decoded: loaded.decoded.as_ref(),
        }
    }
}

/// How values of one kind are written and read.
pub(crate) trait Form: Clone + Send + Sync + 'static {
    type Value;

    fn encode(&self, value: &Self::Value) -> Result<Loaded, Error>;

    fn decode(&self, stored: Stored<'_>) -> Result<Self::Value, Error>;

    /// Keeps what was decoded with the entry that it came from, so that the next reader need not.
    fn remember(&self, _: &Self::Value, _: &Found) {}
}

/// Values that a codec writes.
pub(crate) struct Coded<T, C>(C, PhantomData<fn() -> T>);

impl<T, C> Coded<T, C> {
    pub(crate) fn new(codec: C) -> Self {
        Self(codec, PhantomData)
    }
}

impl<T, C: Clone> Clone for Coded<T, C> {
    fn clone(&self) -> Self {
        Self::new(self.0.clone())
    }
}

pub(crate) fn encode<T: Serialize + ?Sized, C: Codec>(codec: &C, value: &T) -> Result<Loaded, Error> {
    Ok(Loaded {
        bytes: codec.encode(value)?.into(),
        content_type: Some(C::CONTENT_TYPE.to_owned()),
        absent: false,
        decoded: None,
    })
}

pub(crate) fn decode<T: DeserializeOwned, C: Codec>(codec: &C, stored: &Stored<'_>) -> Result<T, Error> {
    if stored.absent || !codec.accepts(stored.content_type) {
        let what = "what is stored is not in this coding";
        return Err(Error::new(ErrorKind::Corrupt, Operation::Decode, what));
    }
    codec.decode(stored.bytes)
}

impl<T: Serialize + DeserializeOwned + 'static, C: Codec> Form for Coded<T, C> {
    type Value = T;

    fn encode(&self, value: &T) -> Result<Loaded, Error> {
        encode(&self.0, value)
    }

    fn decode(&self, stored: Stored<'_>) -> Result<T, Error> {
        decode(&self.0, &stored)
    }
}

/// Values that a codec writes, decoded once and then shared.
pub(crate) struct Shared<T, C>(C, PhantomData<fn() -> T>);

impl<T, C> Shared<T, C> {
    pub(crate) fn new(codec: C) -> Self {
        Self(codec, PhantomData)
    }
}

impl<T, C: Clone> Clone for Shared<T, C> {
    fn clone(&self) -> Self {
        Self::new(self.0.clone())
    }
}

impl<T: Serialize + DeserializeOwned + Send + Sync + 'static, C: Codec> Form for Shared<T, C> {
    type Value = Arc<T>;

    fn encode(&self, value: &Arc<T>) -> Result<Loaded, Error> {
        let decoded: Arc<dyn Any + Send + Sync> = Arc::clone(value) as _;
        Ok(Loaded { decoded: Some(decoded), ..encode(&self.0, &**value)? })
    }

    fn decode(&self, stored: Stored<'_>) -> Result<Arc<T>, Error> {
        match stored.decoded.and_then(|decoded| Arc::clone(decoded).downcast().ok()) {
            Some(value) => Ok(value),
            None => decode(&self.0, &stored).map(Arc::new),
        }
    }

    fn remember(&self, value: &Arc<T>, found: &Found) {
        found.entry.set_decoded(Arc::clone(value) as _);
    }
}

/// Bytes, as they are.
#[derive(Clone)]
pub(crate) struct Raw;

impl Form for Raw {
    type Value = Bytes;

    fn encode(&self, value: &Bytes) -> Result<Loaded, Error> {
        Ok(Loaded { bytes: value.clone(), content_type: None, absent: false, decoded: None })
    }

    fn decode(&self, stored: Stored<'_>) -> Result<Bytes, Error> {
        match stored.absent {
            true => Err(Error::new(ErrorKind::Corrupt, Operation::Decode, "what is stored is an absence")),
            false => Ok(stored.bytes.clone()),
        }
    }
}

/// A value that may not exist: its absence is stored as well.
#[derive(Clone)]
pub(crate) struct Optional<F>(pub(crate) F);

impl<F: Form> Form for Optional<F> {
    type Value = Option<F::Value>;

    fn encode(&self, value: &Self::Value) -> Result<Loaded, Error> {
        match value {
            Some(value) => self.0.encode(value),
            None => Ok(Loaded {
                bytes: Bytes::new(),
                content_type: Some(ABSENT_TYPE.to_owned()),
                absent: true,
                decoded: None,
            }),
        }
    }

    fn decode(&self, stored: Stored<'_>) -> Result<Self::Value, Error> {
        match stored.absent {
            true => Ok(None),
            false => self.0.decode(stored).map(Some),
        }
    }

    fn remember(&self, value: &Self::Value, found: &Found) {
        if let Some(value) = value {
            self.0.remember(value, found);
        }
    }
}
