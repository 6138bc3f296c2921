//! `Link` and `Location`, turned to the address that the client knows (RFC 8288; RFC 9110, section
//! 10.2.2).

use std::borrow::Cow;

use http::header::{HeaderMap, HeaderValue, LINK, LOCATION};

/// Replaces the start of URLs: what a client that uses a base URL must see instead of the origin.
#[derive(Clone, Debug)]
pub(crate) struct Rewrite<'a> {
    /// The URLs that stand for the API, without a slash at the end.
    pub(crate) from: &'a [String],
    /// What the client calls it, without a slash at the end.
    pub(crate) to: &'a str,
}

impl Rewrite<'_> {
    /// Rewrites both headers in place.
    pub(crate) fn apply(&self, headers: &mut HeaderMap) {
        for value in headers.get_all_mut_of(&LINK) {
            self.replace(value, |rewrite, bytes| rewrite.link(bytes));
        }
        if let Some(value) = headers.get_mut(LOCATION) {
            self.replace(value, |rewrite, bytes| rewrite.url(bytes));
        }
    }

    fn replace(&self, value: &mut HeaderValue, change: impl Fn(&Self, &[u8]) -> Option<Vec<u8>>) {
        if let Some(changed) = change(self, value.as_bytes())
            && let Ok(changed) = HeaderValue::from_bytes(&changed)
        {
            *value = changed;
        }
    }

    /// One URL, or nothing if it does not begin with the API's.
    fn url(&self, url: &[u8]) -> Option<Vec<u8>> {
        let rest = self.from.iter().find_map(|base| {
            let (head, rest) = url.split_at_checked(base.len())?;
            let ends = matches!(rest.first(), None | Some(b'/' | b'?' | b'#'));
            (ends && head.eq_ignore_ascii_case(base.as_bytes())).then_some(rest)
        })?;
        Some([self.to.as_bytes(), rest].concat())
    }

    /// The targets of a `Link` header: what stands between `<` and `>` outside of quoted strings.
    fn link(&self, value: &[u8]) -> Option<Vec<u8>> {
        let mut changed: Option<Vec<u8>> = None;
        let (mut copied, mut at, mut quoted) = (0, 0, false);
        while let Some(byte) = value.get(at) {
            match byte {
                b'\\' if quoted => at += 1,
                b'"' => quoted = !quoted,
                b'<' if !quoted => {
                    let Some(length) = value[at + 1..].iter().position(|byte| *byte == b'>') else { break };
                    let target = &value[at + 1..at + 1 + length];
                    if let Some(url) = self.url(target) {
                        let changed = changed.get_or_insert_default();
                        changed.extend_from_slice(&value[copied..=at]);
                        changed.extend_from_slice(&url);
                        copied = at + 1 + length;
                    }
                    at += 1 + length;
                }
                _ => {}
            }
            at += 1;
        }
        let mut changed = changed?;
        changed.extend_from_slice(&value[copied..]);
        Some(changed)
    }
}

/// All values of one header, mutable; `HeaderMap` offers this only through its entries.
trait GetAllMut {
    fn get_all_mut_of(&mut self, name: &http::HeaderName) -> impl Iterator<Item = &mut HeaderValue>;
}

impl GetAllMut for HeaderMap {
    fn get_all_mut_of(&mut self, name: &http::HeaderName) -> impl Iterator<Item = &mut HeaderValue> {
        let name = Cow::Borrowed(name);
        self.iter_mut().filter(move |(key, _)| *key == name.as_ref()).map(|(_, value)| value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn from() -> Vec<String> {
        vec!["https://api.github.com".to_owned(), "http://127.0.0.1:9/api/v3".to_owned()]
    }

    fn link(value: &str) -> String {
        let from = from();
        let rewrite = Rewrite { from: &from, to: "http://proxy:1/api/v3" };
        let mut headers = HeaderMap::new();
        headers.insert(LINK, HeaderValue::from_str(value).unwrap());
        rewrite.apply(&mut headers);
        headers[LINK].to_str().unwrap().to_owned()
    }

    #[test]
    fn every_target_of_the_api_is_rewritten() {
        assert_eq!(
            link(
                "<https://api.github.com/repositories/1/issues?page=2>; rel=\"next\", \
                 <http://127.0.0.1:9/api/v3/x?page=9>; rel=\"last\""
            ),
            "<http://proxy:1/api/v3/repositories/1/issues?page=2>; rel=\"next\", \
             <http://proxy:1/api/v3/x?page=9>; rel=\"last\""
        );
        assert_eq!(link("<HTTPS://API.github.com?x>; rel=next"), "<http://proxy:1/api/v3?x>; rel=next");
    }

    #[test]
    fn everything_else_stays() {
        for value in [
            "<https://api.github.com.evil.example/x>; rel=next",
            "<https://api.github.comx>; rel=next",
            "<https://github.com/x>; rel=next",
            "<relative>; title=\"<https://api.github.com/x>\"",
            "<https://api.github.com/unclosed",
            "<http://127.0.0.1:9/other>; rel=next",
            "\"",
        ] {
            assert_eq!(link(value), value);
        }
    }

    #[test]
    fn location_is_rewritten_and_repeated_links_too() {
        let from = from();
        let rewrite = Rewrite { from: &from, to: "http://p" };
        let mut headers = HeaderMap::new();
        headers.insert(LOCATION, HeaderValue::from_static("https://api.github.com/repositories/7"));
        headers.append(LINK, HeaderValue::from_static("<https://api.github.com/1>"));
        headers.append(LINK, HeaderValue::from_static("<https://api.github.com/2>"));
        rewrite.apply(&mut headers);
        assert_eq!(headers[LOCATION], "http://p/repositories/7");
        let links: Vec<_> = headers.get_all(LINK).iter().collect();
        assert_eq!(links, ["<http://p/1>", "<http://p/2>"]);
        headers.insert(LOCATION, HeaderValue::from_static("https://codeload.github.com/o/r"));
        rewrite.apply(&mut headers);
        assert_eq!(headers[LOCATION], "https://codeload.github.com/o/r");
    }

    proptest! {
        #[test]
        fn any_value_survives(value in "[<>\"\\\\,; a-z:/]{0,60}") {
            let once = link(&value);
            prop_assert_eq!(link(&once), once.clone());
            prop_assert_eq!(once, value, "nothing in it is a URL of the API");
        }

        #[test]
        fn pages_keep_their_query(pages in prop::collection::vec(("[a-z]{1,8}", 1_u32..1000), 1..5)) {
            let make = |base: &str| {
                pages
                    .iter()
                    .map(|(rel, page)| format!("<{base}/repositories/1?page={page}&q=a,b>; rel=\"{rel}\""))
                    .collect::<Vec<_>>()
                    .join(", ")
            };
            prop_assert_eq!(link(&make("https://api.github.com")), make("http://proxy:1/api/v3"));
        }
    }
}
