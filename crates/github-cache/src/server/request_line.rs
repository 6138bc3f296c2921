//! Percent-encodes what URI parsers refuse in a request line, before the HTTP library sees it.
//!
//! `gh api 'search/repositories?q=stars:>1000'` sends the `>` as it is, and GitHub answers it. The
//! library would answer 400. So `<`, `>`, `"`, the backquote and bytes beyond ASCII are encoded on
//! their way in; all else stays as it was written.
//!
//! To find the request lines of a connection, message bodies have to be skipped. A message whose
//! length is not stated in the plainest way ends the search for the rest of the connection: bytes
//! are then passed on unchanged, and the library alone decides what they are.

use crate::target_bytes::{is_refused, percent};

/// The longest header line that is looked at; none that states a length is longer.
const MAX_LINE_BYTES: usize = 128;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Before a request line, where empty lines may be.
    Start,
    Method,
    Target,
    /// The rest of the request line.
    Version,
    Header,
    /// So many bytes of a body are left.
    Body(u64),
    ChunkSize,
    Chunk(u64),
    /// The line break behind a chunk.
    ChunkEnd,
    Trailer,
    /// Nothing is looked at any more.
    Raw,
}

/// Follows the bytes of one connection.
#[derive(Debug)]
pub(crate) struct RequestLines {
    state: State,
    /// The header, chunk size or trailer line so far, up to [`MAX_LINE_BYTES`].
    line: Vec<u8>,
    length: Option<u64>,
    chunked: bool,
}

impl RequestLines {
    pub(crate) fn new() -> Self {
        Self { state: State::Start, line: Vec::new(), length: None, chunked: false }
    }

    /// Looks at the next bytes of the connection. Gives what to use in their place, or nothing when
    /// they stay as they are.
    pub(crate) fn encode(&mut self, bytes: &[u8]) -> Option<Vec<u8>> {
        let mut encoded: Option<Vec<u8>> = None;
        let mut copied = 0;
        let mut at = 0;
        while let Some(&byte) = bytes.get(at) {
            match self.state {
                State::Raw => break,
                State::Body(left) => {
                    let step = left.min((bytes.len() - at) as u64);
                    self.state = if step == left { State::Start } else { State::Body(left - step) };
                    at += usize::try_from(step).unwrap_or(usize::MAX);
                    continue;
                }
                State::Chunk(left) => {
                    let step = left.min((bytes.len() - at) as u64);
                    self.state = if step == left { State::ChunkEnd } else { State::Chunk(left - step) };
                    at += usize::try_from(step).unwrap_or(usize::MAX);
                    continue;
                }
                State::Target if is_refused(byte) => {
                    let encoded = encoded.get_or_insert_default();
                    encoded.extend_from_slice(&bytes[copied..at]);
                    encoded.extend_from_slice(&percent(byte));
                    copied = at + 1;
                }
                _ => self.step(byte),
            }
            at += 1;
        }
        let mut encoded = encoded?;
        encoded.extend_from_slice(&bytes[copied..]);
        Some(encoded)
    }

    fn step(&mut self, byte: u8) {
        self.state = match (self.state, byte) {
            (State::Start, b'\r' | b'\n') => State::Start,
            (State::Start, _) => {
                self.length = None;
                self.chunked = false;
                State::Method
            }
            // A line that ends before it has a target is no request.
            (State::Method | State::Target, b'\n') => State::Raw,
            (State::Method, b' ') => State::Target,
            (State::Target, b' ') => State::Version,
            (State::Version, b'\n') => State::Header,
            (State::Header, b'\n') => self.header(),
            (State::ChunkSize, b'\n') => self.chunk_size(),
            (State::ChunkEnd, b'\r') => State::ChunkEnd,
            (State::ChunkEnd, b'\n') => State::ChunkSize,
            (State::ChunkEnd, _) => State::Raw,
            (State::Trailer, b'\n') => {
                let is_last = self.line.trim_ascii().is_empty();
                self.line.clear();
                if is_last { State::Start } else { State::Trailer }
            }
            (State::Header | State::ChunkSize | State::Trailer, _) => {
                if self.line.len() < MAX_LINE_BYTES {
                    self.line.push(byte);
                }
                self.state
            }
            (state, _) => state,
        };
    }

    /// The end of a header line.
    fn header(&mut self) -> State {
        let line = std::mem::take(&mut self.line);
        let line = line.strip_suffix(b"\r").unwrap_or(&line);
        let next = match line.first() {
            None => self.body(),
            // A folded line may change what the one before it says.
            Some(b' ' | b'\t') => State::Raw,
            Some(_) => self.length_header(line),
        };
        self.line = Vec::new();
        next
    }

    fn length_header(&mut self, line: &[u8]) -> State {
        let Some(colon) = line.iter().position(|byte| *byte == b':') else { return State::Header };
        let (name, value) = (&line[..colon], line[colon + 1..].trim_ascii());
        if name.eq_ignore_ascii_case(b"content-length") {
            let number = std::str::from_utf8(value).ok().filter(|text| is_plain_number(text));
            match number.and_then(|text| text.parse().ok()) {
                Some(length) if self.length.is_none() && !self.chunked => self.length = Some(length),
                _ => return State::Raw,
            }
        } else if name.eq_ignore_ascii_case(b"transfer-encoding") {
            if !value.eq_ignore_ascii_case(b"chunked") || self.chunked || self.length.is_some() {
                return State::Raw;
            }
            self.chunked = true;
        } else if name.trim_ascii().len() != name.len() {
            // A name with white space around it is read in more than one way.
            return State::Raw;
        }
        State::Header
    }

    /// The end of a head.
    fn body(&self) -> State {
        match (self.chunked, self.length) {
            (true, _) => State::ChunkSize,
            (false, None | Some(0)) => State::Start,
            (false, Some(length)) => State::Body(length),
        }
    }

    /// The end of a chunk's size line.
    fn chunk_size(&mut self) -> State {
        let line = std::mem::take(&mut self.line);
        if line.len() >= MAX_LINE_BYTES {
            return State::Raw;
        }
        let line = line.strip_suffix(b"\r").unwrap_or(&line);
        let digits = line.split(|byte| *byte == b';').next().unwrap_or_default();
        let plain = !digits.is_empty() && digits.len() <= 15 && digits.iter().all(u8::is_ascii_hexdigit);
        let size = std::str::from_utf8(digits).ok().filter(|_| plain);
        match size.and_then(|text| u64::from_str_radix(text, 16).ok()) {
            Some(0) => State::Trailer,
            Some(size) => State::Chunk(size),
            None => State::Raw,
        }
    }
}

fn is_plain_number(text: &str) -> bool {
    !text.is_empty() && text.len() <= 18 && text.bytes().all(|byte| byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// What the library gets when the bytes come in pieces of this size.
    fn passed_on(bytes: &[u8], piece: usize) -> Vec<u8> {
        let mut lines = RequestLines::new();
        bytes.chunks(piece).flat_map(|one| lines.encode(one).unwrap_or_else(|| one.to_vec())).collect()
    }

    #[track_caller]
    fn expect(bytes: &str, expected: &str) {
        for piece in [1, 2, 7, 4096] {
            let got = passed_on(bytes.as_bytes(), piece);
            assert_eq!(String::from_utf8(got).unwrap(), expected, "in pieces of {piece}");
        }
    }

    #[test]
    fn refused_bytes_in_a_target_are_encoded() {
        expect(
            "GET /search?q=stars:>1000+\"a\"<`é` HTTP/1.1\r\nHost: a<b\r\n\r\n",
            "GET /search?q=stars:%3E1000+%22a%22%3C%60%C3%A9%60 HTTP/1.1\r\nHost: a<b\r\n\r\n",
        );
    }

    #[test]
    fn every_graphic_byte_of_a_target_reaches_the_service() {
        for byte in (0x21..=0xff_u8).filter(|byte| *byte != 0x7f) {
            for prefix in ["/a", "/a?b="] {
                let request = [b"GET ", prefix.as_bytes(), &[byte], b" HTTP/1.1\r\n"].concat();
                let passed = passed_on(&request, 4096);
                let target = passed[4..].split(|byte| *byte == b' ').next().unwrap();
                let parsed = http::Uri::try_from(target);
                assert!(parsed.is_ok(), "{prefix} and {byte:#x}: {parsed:?}");
            }
        }
    }

    #[test]
    fn bodies_stay_as_they_are_and_the_next_request_line_is_found() {
        let next = "GET /> HTTP/1.1\r\n\r\n";
        let encoded = "GET /%3E HTTP/1.1\r\n\r\n";
        for message in [
            "POST / HTTP/1.1\r\nContent-Length: 19\r\n\r\nGET /> HTTP/1.1\r\n\r\n",
            "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n5;a=\">\"\r\nGET />\r\n0\r\nX: >\r\n\r\n",
            "GET / HTTP/1.1\r\nX: >\r\n\r\n\r\n",
            "POST / HTTP/1.1\r\ncontent-length:0\r\n\r\n",
        ] {
            if message.contains("5;a") {
                // Six bytes where five were announced: the rest is not looked at.
                expect(&format!("{message}{next}"), &format!("{message}{next}"));
                let right = message.replace("5;a", "6;a");
                expect(&format!("{right}{next}"), &format!("{right}{encoded}"));
            } else {
                expect(&format!("{message}{next}"), &format!("{message}{encoded}"));
            }
        }
    }

    #[test]
    fn a_message_of_doubtful_length_ends_the_search() {
        for head in [
            "Content-Length: 1\r\nContent-Length: 2",
            "Content-Length: +3",
            "Content-Length: 3, 3",
            "Content-Length: 99999999999999999999",
            "Transfer-Encoding: gzip, chunked",
            "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
            "Transfer-Encoding: chunked\r\nContent-Length: 3",
            "Content-Length: 3\r\nTransfer-Encoding: chunked",
            "Content-Length : 3",
            "X: a\r\n b",
        ] {
            let text = format!("POST / HTTP/1.1\r\n{head}\r\n\r\nGET /> HTTP/1.1\r\n\r\n");
            expect(&text, &text);
        }
        expect("GARBAGE\r\n\r\n>", "GARBAGE\r\n\r\n>");
    }

    proptest! {
        #[test]
        fn what_is_not_a_request_line_is_never_changed(body in prop::collection::vec(any::<u8>(), 0..400), piece in 1_usize..50) {
            let head = format!("POST /x HTTP/1.1\r\nContent-Length: {}\r\n\r\n", body.len());
            let message = [head.as_bytes(), &body].concat();
            prop_assert_eq!(passed_on(&message, piece), message);
        }

        #[test]
        fn pieces_do_not_matter(bytes in prop::collection::vec(any::<u8>(), 0..200), piece in 1_usize..20) {
            prop_assert_eq!(passed_on(&bytes, piece), passed_on(&bytes, 4096));
        }
    }
}
