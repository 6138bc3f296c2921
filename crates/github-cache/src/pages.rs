//! Whether a page of a list is full and says that nothing follows.
//!
//! GitHub's entity tag covers the body alone. A list that grows beyond a page which was exactly
//! full keeps the tag of that page, so a 304 would go on saying that there is no next page. Such a
//! page is asked for without a condition.

use http::HeaderMap;
use http::header::LINK;

/// GitHub's page size where the request names none.
const DEFAULT_PER_PAGE: usize = 30;

/// Whether `body` is a list with exactly as many items as a page takes, and `Link` names no next
/// page. A list with more is no page: a folder, a tree, or a file that happens to be a JSON array.
pub(crate) fn is_full_last_page(query: &str, headers: &HeaderMap, body: &[u8]) -> bool {
    let has_next = headers.get_all(LINK).iter().any(|link| {
        link.to_str().is_ok_and(|link| link.contains("rel=\"next\"") || link.contains("rel=next"))
    });
    !has_next && count_items(body).is_some_and(|items| items == per_page(query))
}

fn per_page(query: &str) -> usize {
    query
        .split('&')
        .find_map(|parameter| parameter.strip_prefix("per_page="))
        .and_then(|number| number.parse().ok())
        .filter(|number| *number > 0)
        .map_or(DEFAULT_PER_PAGE, |number: usize| number.min(100))
}

/// The number of items of a JSON array; nothing for anything else.
fn count_items(body: &[u8]) -> Option<usize> {
    let items: Vec<serde::de::IgnoredAny> = match body.trim_ascii_start().first() {
        Some(b'[') => serde_json::from_slice(body).ok()?,
        _ => return None,
    };
    Some(items.len())
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    #[test]
    fn a_full_page_without_next_is_recognised() {
        let plain = HeaderMap::new();
        let list = |items: usize| format!("[{}]", vec!["{\"a\":[1,2]}"; items].join(","));
        let full = |query: &str, body: &str| is_full_last_page(query, &plain, body.as_bytes());
        assert!(full("per_page=2", &list(2)));
        assert!(!full("per_page=2", &list(1)));
        assert!(full("", &list(30)));
        assert!(!full("", &list(29)));
        assert!(!full("", &list(31)) && !full("", &list(400)), "the listing of a folder, a manifest");
        assert!(full("page=2&per_page=1000", &list(100)), "GitHub gives at most 100");
        assert!(!full("per_page=2", "{\"total_count\":2,\"items\":[1,2]}"));
        assert!(!full("per_page=2", "[]") && !full("per_page=2", "[1,2") && !full("per_page=2", ""));
        let mut linked = HeaderMap::new();
        linked.insert(LINK, HeaderValue::from_static("<x>; rel=\"next\""));
        assert!(!is_full_last_page("per_page=2", &linked, b"[1,2]"));
    }
}
