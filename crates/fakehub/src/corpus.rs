//! Recorded exchanges, as JSON lines: one request and its response each.

use std::fs::File;
use std::io::{self, BufReader, Read, Write};
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde_json::{Map, Value, json};

use crate::error::CorpusError;
use crate::exchange::Exchange;
use crate::line::{MAX_LINE_BYTES, next_line, parse_line};

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
    /// [`CorpusError`] when it cannot be read, or with the number of the first line that is no
    /// exchange.
    pub fn load(path: impl AsRef<Path>) -> Result<Self, CorpusError> {
        let path = path.as_ref();
        let file = File::open(path).map_err(|source| CorpusError::Io { path: path.to_owned(), source })?;
        Self::parse(file).map_err(|error| error.in_file(path.to_owned()))
    }

    /// Reads JSON lines. Blank lines and a byte order mark are skipped, unknown fields ignored.
    ///
    /// - `method` (any case), `url` (absolute), `status` (a number or its digits): required.
    /// - `headers`, `request_headers`: an object of names with a string or a list of strings each.
    /// - `body`, `request_body`: a string is its UTF-8 bytes, any other value its compact JSON text
    ///   with order, numbers and escapes as written, `null` is empty. `body_base64`: bytes.
    /// - `scenario`: exchanges that belong together.
    ///
    /// # Errors
    /// [`CorpusError`] with the number of the first line that is no exchange, or that is longer
    /// than [`MAX_LINE_BYTES`].
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

    /// Writes JSON lines that [`Corpus::parse`] reads back equal, except that the values of a
    /// header that was recorded in several places move to the first.
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
