//! `Via`: says that a message passed here, and finds requests that come back (RFC 9110, section
//! 7.6.3).

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};

use http::header::{HeaderMap, HeaderValue, VIA};

/// This proxy's name in `Via`.
#[derive(Debug)]
pub(crate) struct Loops {
    name: String,
    /// What is added to a message: the protocol's version and the name.
    member: HeaderValue,
}

impl Loops {
    /// With a random name, so that proxies in a row are told apart.
    pub(crate) fn new() -> Self {
        let random = RandomState::new().build_hasher().finish();
        let name = format!("peercache-{random:016x}");
        // ASCII letters, digits, a space, a dot and a dash.
        let member = HeaderValue::try_from(format!("1.1 {name}"))
            .unwrap_or_else(|_| HeaderValue::from_static("1.1 peercache"));
        Self { name, member }
    }

    /// Whether a message has passed here before.
    pub(crate) fn has_passed(&self, headers: &HeaderMap) -> bool {
        headers.get_all(VIA).iter().any(|value| {
            value.as_bytes().split(|byte| *byte == b',').any(|member| {
                let mut words = member.trim_ascii().split(|byte| byte.is_ascii_whitespace());
                words.nth(1) == Some(self.name.as_bytes())
            })
        })
    }

    /// Adds this proxy behind those that a message has passed.
    pub(crate) fn add(&self, headers: &mut HeaderMap) {
        headers.append(VIA, self.member.clone());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_name_is_found_wherever_it_stands() {
        let (own, other) = (Loops::new(), Loops::new());
        let mut headers = HeaderMap::new();
        headers.append(VIA, HeaderValue::from_static("1.0 edge, 1.1 peercache (x)"));
        assert!(!own.has_passed(&headers));
        own.add(&mut headers);
        other.add(&mut headers);
        assert!(own.has_passed(&headers) && other.has_passed(&headers));
        assert!(!Loops::new().has_passed(&headers));
        let line = format!("1.1 a,1.1 {} , 1.1 b", own.name);
        headers.insert(VIA, HeaderValue::try_from(line).unwrap());
        assert!(own.has_passed(&headers) && !other.has_passed(&headers));
    }
}
