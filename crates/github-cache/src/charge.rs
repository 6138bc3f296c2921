//! Whether a rate limit was charged for a request, by what its answer says.

use http::{HeaderMap, StatusCode};

use crate::refusal::Refusal;

/// What an answer of the API cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Charge {
    /// It counts against the primary limit.
    Charged,
    /// It was answered at no charge.
    Free,
    /// It was refused or failed before it was counted.
    Uncounted,
}

/// What a request cost. `authorized`: it had credentials. `free`: its route costs nothing.
///
/// A 304 is free with credentials alone, and what a limit refuses is not counted. A failure without
/// the headers of the API comes from GitHub's front end, which counts nothing.
pub(crate) fn charge(
    status: StatusCode,
    headers: &HeaderMap,
    refusal: Option<Refusal>,
    authorized: bool,
    free: bool,
) -> Charge {
    let is_limit = matches!(refusal, Some(Refusal::PrimaryLimit | Refusal::SecondaryLimit));
    if is_limit || status.is_server_error() && !headers.contains_key("x-ratelimit-limit") {
        Charge::Uncounted
    } else if free && status.is_success() || authorized && status == StatusCode::NOT_MODIFIED {
        Charge::Free
    } else {
        Charge::Charged
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    #[test]
    fn the_table_of_charges() {
        use Charge::{Charged, Free, Uncounted};
        let mut counted = HeaderMap::new();
        counted.insert("x-ratelimit-limit", HeaderValue::from(5000));
        let none = HeaderMap::new();
        for (status, headers, refusal, authorized, free, expected) in [
            (200, &counted, None, true, false, Charged),
            (200, &none, None, true, false, Charged),
            (200, &counted, None, true, true, Free),
            (401, &counted, Some(Refusal::BadToken), true, true, Charged),
            (304, &counted, None, true, false, Free),
            (304, &counted, None, false, false, Charged),
            (404, &counted, Some(Refusal::Revoked), true, false, Charged),
            (403, &counted, Some(Refusal::PrimaryLimit), true, false, Uncounted),
            (429, &counted, Some(Refusal::SecondaryLimit), true, false, Uncounted),
            (502, &counted, Some(Refusal::Trouble), true, false, Charged),
            (502, &none, Some(Refusal::Trouble), true, false, Uncounted),
        ] {
            let status = StatusCode::from_u16(status).unwrap();
            assert_eq!(charge(status, headers, refusal, authorized, free), expected, "{status} {refusal:?}");
        }
    }
}
