//! A client's own `If-None-Match` and `If-Modified-Since`, judged against what is stored (RFC 9110,
//! section 13).

use http::header::{
    CONTENT_DISPOSITION, CONTENT_LANGUAGE, CONTENT_LENGTH, CONTENT_TYPE, ETAG, HeaderMap, HeaderName,
    IF_MODIFIED_SINCE, IF_NONE_MATCH, LAST_MODIFIED, LINK,
};

/// Whether a request carries one of the conditions that a cache may answer.
pub(crate) fn is_conditional(request: &HeaderMap) -> bool {
    request.contains_key(IF_NONE_MATCH) || request.contains_key(IF_MODIFIED_SINCE)
}

/// Whether the client already has what `response` would give it.
///
/// `If-None-Match` is compared weakly (section 8.8.3.2) and makes `If-Modified-Since` void (section
/// 13.1.3).
pub(crate) fn has_it_already(request: &HeaderMap, response: &HeaderMap) -> bool {
    if request.contains_key(IF_NONE_MATCH) {
        let stored = response.get(ETAG).map(|value| opaque(value.as_bytes().trim_ascii()));
        return request.get_all(IF_NONE_MATCH).iter().any(|value| {
            entity_tags(value.as_bytes()).any(|tag| tag == b"*" || stored == Some(opaque(tag)))
        });
    }
    let date = |headers: &HeaderMap, name| httpdate::parse_http_date(headers.get(name)?.to_str().ok()?).ok();
    let since = date(request, IF_MODIFIED_SINCE);
    since.zip(date(response, LAST_MODIFIED)).is_some_and(|(since, modified)| modified <= since)
}

/// Whether two entity tags match weakly.
pub(crate) fn weakly_equal(left: &[u8], right: &[u8]) -> bool {
    opaque(left) == opaque(right)
}

fn opaque(tag: &[u8]) -> &[u8] {
    tag.strip_prefix(b"W/").unwrap_or(tag)
}

/// The members of an entity-tag list. A tag may contain commas, so quotes decide.
pub(crate) fn entity_tags(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut quoted = false;
    value
        .split(move |byte| {
            if *byte == b'"' {
                quoted = !quoted;
            }
            *byte == b',' && !quoted
        })
        .map(<[u8]>::trim_ascii)
        .filter(|tag| !tag.is_empty())
}

/// Leaves in `headers` what a 304 carries: everything but what describes the body (section 15.4.5).
pub(crate) fn reduce_to_304(headers: &mut HeaderMap) {
    const DESCRIBING: [HeaderName; 5] =
        [CONTENT_TYPE, CONTENT_LENGTH, CONTENT_LANGUAGE, CONTENT_DISPOSITION, LINK];
    for name in DESCRIBING {
        headers.remove(name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    const MODIFIED: &str = "Tue, 15 Nov 1994 08:12:31 GMT";
    const EARLIER: &str = "Tue, 15 Nov 1994 08:12:30 GMT";

    fn judge(request: &[(HeaderName, &'static str)], response: &[(HeaderName, &'static str)]) -> bool {
        let map = |pairs: &[(HeaderName, &'static str)]| {
            let mut headers = HeaderMap::new();
            for (name, value) in pairs {
                headers.append(name.clone(), HeaderValue::from_static(value));
            }
            headers
        };
        has_it_already(&map(request), &map(response))
    }

    #[test]
    fn the_table_of_conditions() {
        let tag = [(ETAG, "W/\"a,b\""), (LAST_MODIFIED, MODIFIED)];
        for (request, expected) in [
            (vec![(IF_NONE_MATCH, "\"a,b\"")], true),
            (vec![(IF_NONE_MATCH, "W/\"a,b\"")], true),
            (vec![(IF_NONE_MATCH, "\"x\", \"a,b\"")], true),
            (vec![(IF_NONE_MATCH, "\"x\""), (IF_NONE_MATCH, "\"a,b\"")], true),
            (vec![(IF_NONE_MATCH, "*")], true),
            (vec![(IF_NONE_MATCH, "\"a\"")], false),
            (vec![(IF_NONE_MATCH, "a,b")], false),
            (vec![(IF_NONE_MATCH, "")], false),
            (vec![(IF_MODIFIED_SINCE, MODIFIED)], true),
            (vec![(IF_MODIFIED_SINCE, EARLIER)], false),
            (vec![(IF_MODIFIED_SINCE, "yesterday")], false),
            (vec![(IF_NONE_MATCH, "\"x\""), (IF_MODIFIED_SINCE, MODIFIED)], false),
            (vec![(IF_NONE_MATCH, "\"a,b\""), (IF_MODIFIED_SINCE, EARLIER)], true),
            (vec![], false),
        ] {
            assert_eq!(judge(&request, &tag), expected, "{request:?}");
        }
        assert!(!judge(&[(IF_NONE_MATCH, "\"a\"")], &[]), "nothing to compare with");
        assert!(!judge(&[(IF_MODIFIED_SINCE, MODIFIED)], &[(ETAG, "\"a\"")]));
    }
}
