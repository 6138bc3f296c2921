//! Recorded exchanges, as JSON lines: one request and its response each.

use std::fmt;
use std::fs::File;
use std::io::{self, BufReader, Read, Write};
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde_json::{Map, Value, json};

use super::error::CorpusError;
use super::line::{MAX_LINE_BYTES, next_line, parse_line};

/// One recorded request and its response.
#[derive(Clone, PartialEq, Eq)]
pub struct Exchange {
    /// Exchanges of one scenario belong together, in their order. `None`: the recorder did not say.
    pub scenario: Option<String>,
    /// In upper case.
    pub method: String,
    /// In lower case, without port.
    pub host: String,
    /// Path and query, starting with `/`.
    pub target: String,
    /// As recorded: in order, duplicates kept.
    pub request_headers: Vec<(String, String)>,
    /// What was sent, when the recorder kept it.
    pub request_body: Option<Bytes>,
    /// 200 to 599.
    pub status: u16,
    /// As recorded: in order, duplicates kept.
    pub headers: Vec<(String, String)>,
    /// The decoded body (no content coding).
    pub body: Bytes,
}

impl Exchange {
    /// The absolute URL.
    #[must_use]
    pub fn url(&self) -> String {
        format!("https://{}{}", self.host, self.target)
    }

    /// The first value of a request header, its name in any case.
    #[must_use]
    pub fn request_header(&self, name: &str) -> Option<&str> {
        first(&self.request_headers, name)
    }

    /// The first value of a response header, its name in any case.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        first(&self.headers, name)
    }
}

fn first<'a>(headers: &'a [(String, String)], name: &str) -> Option<&'a str> {
    headers.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
}

impl fmt::Debug for Exchange {
    /// Without headers and bodies: recorded ones may hold tokens.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Exchange")
            .field("scenario", &self.scenario)
            .field("method", &self.method)
            .field("host", &self.host)
            .field("target", &self.target)
            .field("status", &self.status)
            .field("body_bytes", &self.body.len())
            .finish_non_exhaustive()
    }
}

/// A request that the corpus has an answer to.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct RecordedRequest<'a> {
    /// In upper case.
    pub method: &'a str,
    /// Absolute.
    pub url: String,
    /// The recorded `Accept`, if there was one.
    pub accept: Option<&'a str>,
    /// The recorded request body, if it was kept.
    pub body: Option<&'a Bytes>,
}

/// Recorded exchanges in their order. All of them are held in memory.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Corpus {
    exchanges: Vec<Exchange>,
}

impl Corpus {
    /// A corpus of the given exchanges.
    #[must_use]
    pub const fn new(exchanges: Vec<Exchange>) -> Self {
        Self { exchanges }
    }

    /// Reads a file of JSON lines.
    ///
    /// # Errors
    /// [`CorpusError`] when it cannot be read, or with the number of the first line that is no exchange.
    pub fn load(path: impl AsRef<Path>) -> Result<Self, CorpusError> {
        let path = path.as_ref();
        let file = File::open(path).map_err(|source| CorpusError::Io { path: path.to_owned(), source })?;
        Self::parse(file).map_err(|error| error.in_file(path.to_owned()))
    }

    /// Reads JSON lines. Blank lines and a byte order mark are skipped, unknown fields ignored.
    ///
    /// - `method` (any case), `url` (absolute), `status` (a number or its digits): required.
    /// - `headers`, `request_headers`: an object of names with a string or a list of strings each.
    /// - `body`, `request_body`: a string is its UTF-8 bytes, any other value its compact JSON text with
    ///   order, numbers and escapes as written, `null` is empty. `body_base64`: bytes.
    /// - `scenario`: exchanges that belong together.
    ///
    /// # Errors
    /// [`CorpusError`] with the number of the first line that is no exchange, or that is longer than
    /// [`MAX_LINE_BYTES`].
    pub fn parse(reader: impl Read) -> Result<Self, CorpusError> {
        let mut reader = BufReader::with_capacity(256 * 1024, reader);
        let mut exchanges = Vec::new();
        let mut number = 0;
        while let Some(line) =
            next_line(&mut reader).map_err(|source| CorpusError::Read { line: number, source })?
        {
            number += 1;
            let fail = |message| CorpusError::Line { file: None, line: number, message };
            let line = line.map_err(|()| {
                fail(format!(
                    "the line is longer than {MAX_LINE_BYTES} bytes (64 MiB), the most that is read"
                ))
            })?;
            let mut text = line.as_slice();
            if number == 1 {
                text = text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text);
            }
            let text = text.trim_ascii();
            if !text.is_empty() {
                exchanges.push(parse_line(text).map_err(fail)?);
            }
        }
        Ok(Self { exchanges })
    }

    /// Writes JSON lines that [`Corpus::parse`] reads back equal, except that the values of a header
    /// that was recorded in several places move to the first.
    ///
    /// # Errors
    /// The writer's own.
    pub fn write(&self, mut writer: impl Write) -> io::Result<()> {
        for exchange in &self.exchanges {
            serde_json::to_writer(&mut writer, &to_json(exchange))?;
            writer.write_all(b"\n")?;
        }
        writer.flush()
    }

    /// The exchanges in corpus order.
    #[must_use]
    pub fn exchanges(&self) -> &[Exchange] {
        &self.exchanges
    }

    /// The exchanges in corpus order, owned.
    #[must_use]
    pub fn into_exchanges(self) -> Vec<Exchange> {
        self.exchanges
    }

    /// Appends the exchanges of another corpus.
    pub fn extend(&mut self, other: Self) {
        self.exchanges.extend(other.exchanges);
    }

    /// What can be asked, in corpus order.
    pub fn requests(&self) -> impl Iterator<Item = RecordedRequest<'_>> {
        self.exchanges.iter().map(|exchange| RecordedRequest {
            method: &exchange.method,
            url: exchange.url(),
            accept: exchange.request_header("accept"),
            body: exchange.request_body.as_ref(),
        })
    }
}

fn to_json(exchange: &Exchange) -> Value {
    let mut line = Map::new();
    if let Some(scenario) = &exchange.scenario {
        line.insert("scenario".into(), json!(scenario));
    }
    line.insert("method".into(), json!(exchange.method));
    line.insert("url".into(), json!(exchange.url()));
    line.insert("request_headers".into(), headers_to_json(&exchange.request_headers));
    if let Some(body) = &exchange.request_body {
        match std::str::from_utf8(body) {
            Ok(text) => line.insert("request_body".into(), json!(text)),
            Err(_) => line.insert("request_body_base64".into(), json!(STANDARD.encode(body))),
        };
    }
    line.insert("status".into(), json!(exchange.status));
    line.insert("headers".into(), headers_to_json(&exchange.headers));
    match std::str::from_utf8(&exchange.body) {
        Ok("") => line.insert("body".into(), Value::Null),
        Ok(text) => line.insert("body".into(), json!(text)),
        Err(_) => line.insert("body_base64".into(), json!(STANDARD.encode(&exchange.body))),
    };
    Value::Object(line)
}

/// One member per name, in the order of first mention; several values become a list.
fn headers_to_json(headers: &[(String, String)]) -> Value {
    let mut object = Map::new();
    for (name, value) in headers {
        let known = object.keys().find(|key| key.eq_ignore_ascii_case(name)).cloned();
        match known.and_then(|key| object.get_mut(&key)) {
            Some(Value::Array(values)) => values.push(json!(value)),
            Some(single) => *single = json!([single.take(), value]),
            None => {
                object.insert(name.clone(), json!(value));
            }
        }
    }
    Value::Object(object)
}
