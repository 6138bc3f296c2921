//! What may name an entry: a key, a text, a number, or a tuple of parts.

use std::fmt::Display;

use peercache_api::{Error, Key};

/// What a [`Key`] is made of where a method of [`Cache`](crate::Cache) asks for one.
///
/// - A [`Key`] or `&Key` is taken as it is. Make it once where a key is used often: its digest is
///   computed then.
/// - A text is the whole key, as for [`Key::new`].
/// - A tuple of two to four parts is joined as [`Key::from_parts`] does it, so that no other tuple
///   gives the same key: `("quotes", "a/b")` and `("quotes/a", "b")` differ. A part is anything
///   that can be displayed.
/// - A number is its decimal digits.
///
/// ```
/// use peercache::{IntoKey, Key};
///
/// assert_eq!(("quotes", 7).into_key()?, Key::new("quotes/7")?);
/// assert_eq!(("a/b", "c").into_key()?, Key::new("a%2Fb/c")?);
/// assert!("".into_key().is_err());
/// # Ok::<(), peercache::Error>(())
/// ```
pub trait IntoKey {
    /// The key.
    ///
    /// # Errors
    /// [`ErrorKind::Config`](crate::ErrorKind::Config) when the text is empty or longer than
    /// [`MAX_KEY_BYTES`](crate::backend::MAX_KEY_BYTES).
    fn into_key(self) -> Result<Key, Error>;

    /// The key below `prefix`, which is joined to it with `/`.
    ///
    /// # Errors
    /// As [`IntoKey::into_key`], for the key alone and for the whole.
    fn into_key_below(self, prefix: &str) -> Result<Key, Error>
    where
        Self: Sized,
    {
        Key::new(format!("{prefix}/{}", self.into_key()?.as_str()))
    }
}

impl IntoKey for Key {
    fn into_key(self) -> Result<Key, Error> {
        Ok(self)
    }
}

impl IntoKey for &Key {
    fn into_key(self) -> Result<Key, Error> {
        Ok(self.clone())
    }
}

impl IntoKey for &str {
    fn into_key(self) -> Result<Key, Error> {
        Key::new(self)
    }
}

impl IntoKey for String {
    fn into_key(self) -> Result<Key, Error> {
        Key::new(self)
    }
}

impl IntoKey for &String {
    fn into_key(self) -> Result<Key, Error> {
        Key::new(self.as_str())
    }
}

macro_rules! numbers {
    ($($number:ty),*) => {$(
        impl IntoKey for $number {
            fn into_key(self) -> Result<Key, Error> {
                Key::new(self.to_string())
            }

            fn into_key_below(self, prefix: &str) -> Result<Key, Error> {
                Key::new(format!("{prefix}/{self}"))
            }
        }
    )*};
}

numbers!(u8, u16, u32, u64, u128, usize, i8, i16, i32, i64, i128, isize);

macro_rules! tuples {
    ($($part:ident),*) => {
        impl<$($part: Display),*> IntoKey for ($($part,)*) {
            fn into_key(self) -> Result<Key, Error> {
                #[expect(non_snake_case, reason = "the names of the types name the parts")]
                let ($($part,)*) = self;
                Key::from_parts([$($part.to_string()),*])
            }
        }
    };
}

tuples!(A, B);
tuples!(A, B, C);
tuples!(A, B, C, D);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_of_a_key_gives_the_same_key() {
        let key = Key::new("users/7").unwrap();
        for form in [
            (&key).into_key(),
            key.clone().into_key(),
            "users/7".into_key(),
            "users/7".to_owned().into_key(),
            ("users", 7).into_key(),
            ("users".to_owned(), "7").into_key(),
        ] {
            assert_eq!(form.unwrap(), key);
        }
        assert_eq!(7_u8.into_key_below("users").unwrap(), key);
        assert_eq!("7".into_key_below("users").unwrap(), key);
        assert!("".into_key_below("users").is_err(), "a key alone is a key");
        assert_eq!(7_u8.into_key().unwrap(), Key::new("7").unwrap());
        assert_ne!(("a", "b", "c").into_key().unwrap(), ("a", "b/c").into_key().unwrap());
    }
}
