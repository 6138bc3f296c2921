//! What a request asks about the answer: is it still the same, and may it be compressed.

use http::HeaderMap;
use http::header::{ACCEPT_ENCODING, HeaderName, IF_MODIFIED_SINCE, IF_NONE_MATCH};

/// Whether the request is conditional in a way that this origin knows.
pub(crate) fn is_conditional(request: &HeaderMap) -> bool {
    request.contains_key(IF_NONE_MATCH) || request.contains_key(IF_MODIFIED_SINCE)
}

/// Whether a `200` for `GET` or `HEAD` becomes a `304` (RFC 9110, 13.1.2, 13.1.3, 13.2.2).
///
/// `etag` is the current entity tag in its wire form, `last_modified` the current date. When
/// `If-None-Match` is present it alone decides.
pub(crate) fn not_modified(request: &HeaderMap, etag: Option<&str>, last_modified: Option<&str>) -> bool {
    if request.contains_key(IF_NONE_MATCH) {
        return values(request, &IF_NONE_MATCH).any(|list| none_match(&list, etag));
    }
    let since = values(request, &IF_MODIFIED_SINCE).next();
    match (since, last_modified) {
        (Some(since), Some(modified)) => {
            // A date that is no HTTP-date is ignored (RFC 9110, 13.1.3).
            match (httpdate::parse_http_date(&since), httpdate::parse_http_date(modified)) {
                (Ok(since), Ok(modified)) => modified <= since,
                _ => false,
            }
        }
        _ => false,
    }
}

fn values<'a>(request: &'a HeaderMap, name: &HeaderName) -> impl Iterator<Item = String> + 'a {
    request.get_all(name).iter().map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned())
}

/// Whether a list of entity tags has the current one, compared weakly (RFC 9110, 8.8.3.2).
fn none_match(list: &str, etag: Option<&str>) -> bool {
    let opaque = etag.map(opaque_tag);
    let mut rest = list.trim();
    while !rest.is_empty() {
        if rest
            .strip_prefix('*')
            .is_some_and(|after| matches!(after.trim_start().chars().next(), None | Some(',')))
        {
            return true;
        }
        let tag = rest.strip_prefix("W/").or_else(|| rest.strip_prefix("w/")).unwrap_or(rest);
        let (found, after) = match tag.strip_prefix('"') {
            Some(quoted) => quoted.split_once('"').unwrap_or((quoted, "")),
            // Not a valid tag; some clients lose the quotes.
            None => tag.split_once(',').unwrap_or((tag, "")),
        };
        if opaque == Some(found.trim()) {
            return true;
        }
        rest = after.trim_start_matches([',', ' ', '\t']);
    }
    false
}

/// The tag between the quotes.
fn opaque_tag(etag: &str) -> &str {
    etag.strip_prefix("W/").unwrap_or(etag).trim_matches('"')
}

/// Whether the client takes gzip (RFC 9110, 12.5.3). No `Accept-Encoding` means no coding, as
/// GitHub has it.
pub(crate) fn accepts_gzip(request: &HeaderMap) -> bool {
    let mut star = false;
    for list in values(request, &ACCEPT_ENCODING) {
        for item in list.split(',') {
            let mut parts = item.split(';').map(str::trim);
            let coding = parts.next().unwrap_or_default();
            let refused = parts
                .filter_map(|parameter| parameter.split_once('='))
                .filter(|(name, _)| name.trim().eq_ignore_ascii_case("q"))
                .any(|(_, weight)| weight.trim().parse::<f32>().is_ok_and(|weight| weight <= 0.0));
            if coding.eq_ignore_ascii_case("gzip") || coding.eq_ignore_ascii_case("x-gzip") {
                return !refused;
            }
            star |= coding == "*" && !refused;
        }
    }
    star
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(pairs: &[(HeaderName, &str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (name.clone(), value.parse().unwrap())).collect()
    }

    #[test]
    fn tags_are_compared_weakly_in_lists_and_lines() {
        let same = |list: &str| not_modified(&request(&[(IF_NONE_MATCH, list)]), Some("W/\"ab\""), None);
        for list in ["\"ab\"", "W/\"ab\"", "\"x\", W/\"ab\"", "\"a,b\",\"ab\"", "*", "ab", "\"x\" , *"] {
            assert!(same(list), "{list}");
        }
        for list in ["\"abc\"", "", "\"a\"b\"", "\"*\"", "W/\"AB\""] {
            assert!(!same(list), "{list}");
        }
        let mut lines = HeaderMap::new();
        lines.append(IF_NONE_MATCH, "\"x\"".parse().unwrap());
        lines.append(IF_NONE_MATCH, "\"ab\"".parse().unwrap());
        assert!(not_modified(&lines, Some("\"ab\""), None));
    }

    #[test]
    fn a_date_decides_only_without_tags() {
        let (old, new) = ("Tue, 19 Sep 2017 15:57:54 GMT", "Wed, 20 Sep 2017 15:57:54 GMT");
        assert!(not_modified(&request(&[(IF_MODIFIED_SINCE, old)]), None, Some(old)));
        assert!(not_modified(&request(&[(IF_MODIFIED_SINCE, new)]), None, Some(old)));
        assert!(!not_modified(&request(&[(IF_MODIFIED_SINCE, old)]), None, Some(new)));
        assert!(!not_modified(&request(&[(IF_MODIFIED_SINCE, "yesterday")]), None, Some(old)));
        let both = request(&[(IF_MODIFIED_SINCE, new), (IF_NONE_MATCH, "\"other\"")]);
        assert!(!not_modified(&both, Some("\"ab\""), Some(old)));
    }

    #[test]
    fn gzip_is_used_when_it_is_welcome() {
        let takes = |value: &str| accepts_gzip(&request(&[(ACCEPT_ENCODING, value)]));
        assert!(takes("gzip") && takes("br, GZIP;q=0.5") && takes("*"));
        assert!(!takes("gzip;q=0, *") && !takes("identity") && !takes("*;q=0"));
        assert!(!accepts_gzip(&HeaderMap::new()));
    }
}
