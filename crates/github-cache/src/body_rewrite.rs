//! URLs of the API in JSON bodies, turned to the base URL that the client uses, as GitHub
//! Enterprise Server writes them: PyGithub, github3.py and octokit follow what is in an object's
//! `url`.
//!
//! Only values that begin with the API's URL, under names that GitHub gives to URLs, are changed. A
//! text that a user wrote stays as it is. The bytes that are stored and validated are the origin's;
//! a rewritten answer has a weak entity tag of its own.

use std::mem;

use http::header::{CONTENT_LENGTH, CONTENT_TYPE, ETAG, HeaderMap, HeaderValue, IF_NONE_MATCH};

use sha2::{Digest, Sha256};

use crate::conditional::entity_tags;
use crate::hex::hex;

/// The deepest nesting that is followed; below it everything stays.
const MAX_DEPTH: usize = 256;
/// The longest name that is looked at.
const MAX_NAME_BYTES: usize = 64;
/// What stands between the origin's tag and the mark of the base URL.
const MARK: &str = ".peercache-";

/// Which bodies are rewritten for clients of a base URL.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum RewriteBodies {
    /// Those below `/api/v3`, whose client expects an Enterprise Server, which names itself; and
    /// those of clients that are known to follow URLs in bodies: PyGithub, github3.py and octokit.
    #[default]
    Auto,
    /// All.
    Always,
    /// None.
    Never,
}

/// How the API's URLs are called by one client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct BodyUrls {
    /// From and to, without slashes at the end.
    pairs: Vec<(String, String)>,
    mark: String,
}

impl BodyUrls {
    /// `urls` stand for the API, whose client calls it `base`.
    pub(crate) fn new(urls: &[String], base: &str) -> Self {
        let mut pairs: Vec<(String, String)> =
            urls.iter().map(|url| (url.clone(), base.to_owned())).collect();
        if let Some(above) = base.strip_suffix("/api/v3") {
            pairs.push(("https://uploads.github.com".to_owned(), format!("{above}/api/uploads")));
        }
        let digest = hex(&Sha256::digest(base));
        Self { pairs, mark: format!("{MARK}{}\"", &digest.as_str()[..8]) }
    }

    /// Turns the tags that this client got from here into the origin's. `true` if there was one.
    pub(crate) fn restore_tags(&self, request: &mut HeaderMap) -> bool {
        let mut restored = false;
        let values: Vec<HeaderValue> = request
            .get_all(IF_NONE_MATCH)
            .iter()
            .map(|value| {
                let tags: Vec<Vec<u8>> = entity_tags(value.as_bytes())
                    .map(|tag| match tag.strip_suffix(self.mark.as_bytes()) {
                        Some(origin) => {
                            restored = true;
                            [origin, b"\""].concat()
                        }
                        None => tag.to_vec(),
                    })
                    .collect();
                HeaderValue::from_bytes(&tags.join(&b", "[..])).unwrap_or_else(|_| value.clone())
            })
            .collect();
        if restored {
            request.remove(IF_NONE_MATCH);
            for value in values {
                request.append(IF_NONE_MATCH, value);
            }
        }
        restored
    }

    /// Whether an answer with these headers is rewritten.
    pub(crate) fn applies(headers: &HeaderMap) -> bool {
        let Some(value) = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()) else {
            return false;
        };
        let media = value.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
        let is_json = media == "application/json" || media.ends_with("+json");
        is_json && !headers.contains_key(http::header::CONTENT_ENCODING)
    }

    /// Changes the headers of a rewritten answer: another length, and a tag of its own.
    pub(crate) fn mark(&self, headers: &mut HeaderMap) {
        headers.remove(CONTENT_LENGTH);
        let Some(tag) = headers.get(ETAG).map(HeaderValue::as_bytes) else { return };
        let tag = tag.trim_ascii();
        let opaque = tag.strip_prefix(b"W/").unwrap_or(tag);
        let marked = opaque
            .strip_suffix(b"\"")
            .map(|open| [b"W/", open, self.mark.as_bytes()].concat())
            .and_then(|tag| HeaderValue::from_bytes(&tag).ok());
        match marked {
            Some(marked) => headers.insert(ETAG, marked),
            None => headers.remove(ETAG),
        };
    }

    pub(crate) fn rewriter(&self) -> JsonRewriter {
        let bytes = |text: &str| text.as_bytes().to_vec();
        JsonRewriter {
            pairs: self.pairs.iter().map(|(from, to)| (bytes(from), bytes(to))).collect(),
            state: State::Outside,
            stack: Vec::new(),
            name_is_next: false,
            name: Vec::new(),
            held: Vec::new(),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Between strings.
    Outside,
    /// In a string that is a member's name.
    Name { escaped: bool },
    /// In a string that stays.
    Text { escaped: bool },
    /// In a string that may begin with a URL of the API.
    Candidate,
    /// Too deep: everything stays.
    Off,
}

/// Rewrites one body, piece by piece.
#[derive(Debug)]
pub(crate) struct JsonRewriter {
    pairs: Vec<(Vec<u8>, Vec<u8>)>,
    state: State,
    /// What is open: objects are `true`.
    stack: Vec<bool>,
    name_is_next: bool,
    /// The name of the member whose value comes.
    name: Vec<u8>,
    /// The beginning of a candidate.
    held: Vec<u8>,
}

impl JsonRewriter {
    /// The next piece, rewritten. What may be the beginning of a URL comes with the next one.
    pub(crate) fn piece(&mut self, bytes: &[u8]) -> Vec<u8> {
        let mut out = Vec::with_capacity(bytes.len() + 256);
        let mut at = 0;
        while at < bytes.len() {
            if let State::Text { escaped: false } = self.state {
                // Most bytes are those of strings that stay.
                let rest = &bytes[at..];
                let stop = rest.iter().position(|byte| matches!(byte, b'"' | b'\\')).unwrap_or(rest.len());
                out.extend_from_slice(&rest[..stop]);
                at += stop;
            }
            if self.state == State::Off {
                out.extend_from_slice(&bytes[at..]);
                return out;
            }
            if let Some(&byte) = bytes.get(at) {
                self.step(byte, &mut out);
                at += 1;
            }
        }
        out
    }

    /// What was held back.
    pub(crate) fn end(&mut self) -> Vec<u8> {
        mem::take(&mut self.held)
    }

    fn step(&mut self, byte: u8, out: &mut Vec<u8>) {
        match self.state {
            State::Outside => {
                out.push(byte);
                self.outside(byte);
            }
            State::Name { escaped } => {
                out.push(byte);
                self.state =
                    in_string(byte, escaped).map_or(State::Outside, |escaped| State::Name { escaped });
                if self.state != State::Outside && self.name.len() <= MAX_NAME_BYTES {
                    self.name.push(byte);
                }
            }
            State::Text { escaped } => {
                out.push(byte);
                self.state =
                    in_string(byte, escaped).map_or(State::Outside, |escaped| State::Text { escaped });
            }
            State::Candidate => {
                self.held.push(byte);
                self.candidate(out);
            }
            State::Off => out.push(byte),
        }
    }

    fn outside(&mut self, byte: u8) {
        match byte {
            b'{' | b'[' => {
                if self.stack.len() >= MAX_DEPTH {
                    self.state = State::Off;
                    return;
                }
                self.stack.push(byte == b'{');
                self.name_is_next = byte == b'{';
            }
            b'}' | b']' => {
                self.stack.pop();
                self.name_is_next = false;
            }
            b',' => self.name_is_next = self.stack.last() == Some(&true),
            b'"' if self.name_is_next => {
                self.name.clear();
                self.name_is_next = false;
                self.state = State::Name { escaped: false };
            }
            b'"' if is_url_name(&self.name) => self.state = State::Candidate,
            b'"' => self.state = State::Text { escaped: false },
            _ => {}
        }
    }

    fn candidate(&mut self, out: &mut Vec<u8>) {
        let Some((&last, before)) = self.held.split_last() else { return };
        let ends = matches!(last, b'/' | b'{' | b'?' | b'#' | b'"');
        let next = |byte| in_string(byte, false).map_or(State::Outside, |escaped| State::Text { escaped });
        if let Some((_, to)) = self.pairs.iter().find(|(from, _)| ends && from == before) {
            out.extend_from_slice(to);
            out.push(last);
            self.state = next(last);
            self.held.clear();
        } else if !self.pairs.iter().any(|(from, _)| from.starts_with(&self.held)) {
            out.append(&mut self.held);
            self.state = next(last);
        }
    }
}

/// Whether the string goes on behind this byte, and whether the next one is escaped.
const fn in_string(byte: u8, escaped: bool) -> Option<bool> {
    match (byte, escaped) {
        (b'"', false) => None,
        (b'\\', false) => Some(true),
        _ => Some(false),
    }
}

/// Whether GitHub gives URLs this name.
fn is_url_name(name: &[u8]) -> bool {
    name == b"url"
        || name.ends_with(b"_url")
        || name.ends_with(b"_urls")
        || matches!(name, b"href" | b"self" | b"git" | b"html" | b"location")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const API: &str = "https://api.github.com";
    const BASE: &str = "http://proxy:9180/api/v3";

    fn urls() -> BodyUrls {
        BodyUrls::new(&[API.to_owned()], BASE)
    }

    fn rewrite(text: &str, piece: usize) -> String {
        let mut rewriter = urls().rewriter();
        let mut out: Vec<u8> =
            text.as_bytes().chunks(piece).flat_map(|piece| rewriter.piece(piece)).collect();
        out.append(&mut rewriter.end());
        String::from_utf8(out).unwrap()
    }

    #[track_caller]
    fn expect(text: &str, expected: &str) {
        for piece in [1, 3, 10, 4096] {
            assert_eq!(rewrite(text, piece), expected, "in pieces of {piece}");
        }
    }

    #[test]
    fn urls_of_the_api_name_the_base() {
        expect(
            r#"[{"url":"https://api.github.com/repos/o/r","issues_url" : "https://api.github.com/repos/o/r/issues{/number}",
            "_links":{"self":{"href":"https://api.github.com"}},"clone_urls":["x","https://api.github.com?a"],
            "upload_url":"https://uploads.github.com/repos/o/r/releases/1/assets{?name,label}"}]"#,
            r#"[{"url":"http://proxy:9180/api/v3/repos/o/r","issues_url" : "http://proxy:9180/api/v3/repos/o/r/issues{/number}",
            "_links":{"self":{"href":"http://proxy:9180/api/v3"}},"clone_urls":["x","http://proxy:9180/api/v3?a"],
            "upload_url":"http://proxy:9180/api/uploads/repos/o/r/releases/1/assets{?name,label}"}]"#,
        );
    }

    #[test]
    fn what_users_wrote_and_other_hosts_stay() {
        for text in [
            r#"{"body":"https://api.github.com/repos","title":"url","x":"\"url\":\"https://api.github.com/\""}"#,
            r#"{"html_url":"https://github.com/o/r","url":"https://api.github.com.evil.example/"}"#,
            r#"{"url":"https://api.github.comx","a\"url":1,"url":null,"url":12}"#,
            r#"{"url":"see https://api.github.com/"}"#,
            r#""https://api.github.com/""#,
            r#"{"url":"https://api.git"#,
            r#"{"url":"https:\/\/api.github.com\/x"}"#,
        ] {
            expect(text, text);
        }
    }

    #[test]
    fn bodies_that_are_nested_without_end_stay() {
        let deep = format!("{}{}", "[".repeat(1000), r#"{"url":"https://api.github.com/"}"#);
        expect(&deep, &deep);
    }

    #[test]
    fn tags_go_out_marked_and_come_back_plain() {
        let urls = urls();
        for (tag, plain) in [("\"abc\"", "W/\"abc\""), ("W/\"a,b\"", "W/\"a,b\"")] {
            let mut headers = HeaderMap::new();
            headers.insert(ETAG, HeaderValue::from_str(tag).unwrap());
            urls.mark(&mut headers);
            let marked = headers[ETAG].to_str().unwrap().to_owned();
            assert!(marked.starts_with("W/\"") && marked != plain, "{marked}");
            let mut request = HeaderMap::new();
            let list = format!("\"other\", {marked}");
            request.insert(IF_NONE_MATCH, HeaderValue::from_str(&list).unwrap());
            assert!(urls.restore_tags(&mut request));
            assert_eq!(request[IF_NONE_MATCH], format!("\"other\", {plain}"));
            let elsewhere = BodyUrls::new(&[API.to_owned()], "http://other/api/v3");
            request.insert(IF_NONE_MATCH, HeaderValue::from_str(&list).unwrap());
            assert!(!elsewhere.restore_tags(&mut request), "another base has other bytes");
        }
    }

    #[test]
    fn only_plain_json_is_rewritten() {
        for (media, coding, expected) in [
            ("application/json; charset=utf-8", None, true),
            ("application/vnd.github+json", None, true),
            ("application/vnd.github.raw", None, false),
            ("text/html", None, false),
            ("application/json", Some("gzip"), false),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(CONTENT_TYPE, HeaderValue::from_static(media));
            if let Some(coding) = coding {
                headers.insert(http::header::CONTENT_ENCODING, HeaderValue::from_static(coding));
            }
            assert_eq!(BodyUrls::applies(&headers), expected, "{media}");
        }
    }

    proptest! {
        #[test]
        fn pieces_do_not_matter_and_nothing_is_lost(text in "[\\[\\]{}\":,\\\\urlhtps/.a-c ]{0,120}", piece in 1_usize..20) {
            prop_assert_eq!(rewrite(&text, piece), rewrite(&text, 4096));
            prop_assert_eq!(rewrite(&text, piece), text, "no URL of the API is in it");
        }
    }
}
