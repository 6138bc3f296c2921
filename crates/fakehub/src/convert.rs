//! The recorded scenarios of the npm package `@octokit/fixtures` (nock format) as a corpus.
//!
//! Every `scenarios/HOST/NAME/raw-fixture.json` is a list of exchanges with `scope` (scheme, host,
//! port), `method`, `path`, `body` (of the request), `status`, `response`, `rawHeaders` (names and
//! values in turn, or an object), `reqheaders` and `responseIsBinary` (`response` is hexadecimal).
//! A list of hexadecimal strings with a recorded `Content-Encoding: gzip` is a compressed body.

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use flate2::read::MultiGzDecoder;
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::corpus::Corpus;
use crate::error::CorpusError;
use crate::exchange::Exchange;
use crate::line::{HeaderList, MAX_LINE_BYTES, body_bytes, check_headers, method_name, reason, split_url};

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Recorded<'a> {
    scope: String,
    method: String,
    path: String,
    #[serde(borrow)]
    body: Option<&'a RawValue>,
    status: u16,
    #[serde(borrow)]
    response: Option<&'a RawValue>,
    raw_headers: Option<HeaderList>,
    reqheaders: Option<HeaderList>,
    response_is_binary: Option<bool>,
}

impl Corpus {
    /// Reads the scenarios of an unpacked `@octokit/fixtures` package; `dir` holds `scenarios/` or
    /// `package/`. Each scenario keeps its name and its order; scenarios come in the order of their
    /// names.
    ///
    /// # Errors
    /// [`CorpusError`] when there are none, or with the file and the number of an exchange that is
    /// not as expected.
    pub fn from_octokit_fixtures(dir: impl AsRef<Path>) -> Result<Self, CorpusError> {
        let dir = dir.as_ref();
        let mut exchanges = Vec::new();
        for (name, path) in fixtures(dir)? {
            let io = |source| CorpusError::Io { path: path.clone(), source };
            let fail = |message| CorpusError::Fixture { path: path.clone(), message };
            let text = fs::read_to_string(&path).map_err(io)?;
            let list: Vec<&RawValue> = serde_json::from_str(&text)
                .map_err(|error| fail(format!("a JSON list of exchanges is expected: {error}")))?;
            for (number, raw) in list.into_iter().enumerate() {
                let exchange = exchange(&name, raw);
                exchanges.push(exchange.map_err(|what| fail(format!("exchange {}: {what}", number + 1)))?);
            }
        }
        Ok(Self::new(exchanges))
    }
}

/// The recorded scenarios below `dir`, by name.
fn fixtures(dir: &Path) -> Result<Vec<(String, PathBuf)>, CorpusError> {
    let root =
        [dir.join("scenarios"), dir.join("package").join("scenarios")].into_iter().find(|path| path.is_dir());
    let missing = || {
        CorpusError::Fixture {
        path: dir.to_owned(),
        message: "no scenarios/HOST/NAME/raw-fixture.json in it; unpack it with \
                  `npm pack @octokit/fixtures && tar xzf octokit-fixtures-*.tgz` and give the directory `package`"
            .to_owned(),
    }
    };
    let mut found = Vec::new();
    for host in subdirectories(&root.ok_or_else(missing)?)? {
        for scenario in subdirectories(&host)? {
            let file = scenario.join("raw-fixture.json");
            let name = scenario.file_name().map(|name| name.to_string_lossy().into_owned());
            if let (Some(name), true) = (name, file.is_file()) {
                found.push((name, file));
            }
        }
    }
    if found.is_empty() { Err(missing()) } else { Ok(found) }
}

/// In the order of their names, so that a corpus is the same on every machine.
fn subdirectories(dir: &Path) -> Result<Vec<PathBuf>, CorpusError> {
    let io = |source| CorpusError::Io { path: dir.to_owned(), source };
    let mut paths = Vec::new();
    for entry in fs::read_dir(dir).map_err(io)? {
        let path = entry.map_err(io)?.path();
        if path.is_dir() {
            paths.push(path);
        }
    }
    paths.sort();
    Ok(paths)
}

fn exchange(scenario: &str, raw: &RawValue) -> Result<Exchange, String> {
    let recorded: Recorded<'_> = serde_json::from_str(raw.get()).map_err(|error| reason(&error))?;
    let (host, target) = split_url(&format!("{}{}", recorded.scope, recorded.path))?;
    let headers = check_headers("rawHeaders", recorded.raw_headers.map_or_else(Vec::new, |list| list.0))?;
    let coding = headers.iter().find(|(name, _)| name.eq_ignore_ascii_case("content-encoding"));
    let gzip = coding.is_some_and(|(_, value)| value.eq_ignore_ascii_case("gzip"));
    let binary = recorded.response_is_binary.unwrap_or_default();
    let body = recorded.response.map_or_else(|| Ok(Bytes::new()), |raw| response(raw, binary, gzip))?;
    let request_body = recorded.body.map(|raw| body_bytes("body", raw)).transpose()?;
    if !(200..=599).contains(&recorded.status) {
        return Err(format!("status {} is not one of 200 to 599", recorded.status));
    }
    Ok(Exchange {
        scenario: Some(scenario.to_owned()),
        method: method_name(&recorded.method)?,
        host,
        target,
        request_headers: check_headers(
            "reqheaders",
            recorded.reqheaders.map_or_else(Vec::new, |list| list.0),
        )?,
        request_body: request_body.filter(|body| !body.is_empty()),
        status: recorded.status,
        headers,
        body,
    })
}

fn response(raw: &RawValue, binary: bool, gzip: bool) -> Result<Bytes, String> {
    if gzip {
        // nock keeps a coded body as the hexadecimal chunks of its transfer.
        let chunks = serde_json::from_str::<Vec<String>>(raw.get()).ok();
        if let Some(packed) = chunks.and_then(|chunks| unhex(&chunks.concat())) {
            return unpack(&packed);
        }
    }
    if binary {
        let text: String = serde_json::from_str(raw.get()).map_err(|error| reason(&error))?;
        let bytes = unhex(&text).ok_or("\"response\" is binary and not hexadecimal digits in pairs")?;
        return Ok(Bytes::from(bytes));
    }
    body_bytes("response", raw)
}

fn unpack(packed: &[u8]) -> Result<Bytes, String> {
    let mut body = Vec::new();
    let limit = MAX_LINE_BYTES as u64;
    MultiGzDecoder::new(packed)
        .take(limit + 1)
        .read_to_end(&mut body)
        .map_err(|error| format!("\"response\" is not gzip: {error}"))?;
    if body.len() as u64 > limit {
        return Err(format!("\"response\" unpacks to more than {limit} bytes"));
    }
    Ok(Bytes::from(body))
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let digits = text.as_bytes();
    if !digits.len().is_multiple_of(2) {
        return None;
    }
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|value| u8::try_from(value).ok());
    digits.chunks_exact(2).map(|pair| Some(digit(pair[0])? << 4 | digit(pair[1])?)).collect()
}
