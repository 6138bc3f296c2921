//! One line of a corpus: liberal in what it accepts, and one clear sentence about what it does not.

use std::fmt;
use std::io::{self, BufRead};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::{HeaderName, HeaderValue};
use serde::Deserialize;
use serde::de::{self, MapAccess, SeqAccess, Visitor};
use serde_json::Value;
use serde_json::value::RawValue;

use crate::exchange::{API_HOST, Exchange};
use crate::json::compact;

/// The longest line that is read: 64 MiB. A longer one is an error, before it is held in memory.
pub const MAX_LINE_BYTES: usize = 64 * 1024 * 1024;

const SHAPE: &str = r#"one JSON object per line is expected, as {"method":"GET","url":"https://api.github.com/…","request_headers":{},"status":200,"headers":{},"body":…}"#;

/// Reads the next line without its end. `None` at the end; `Ok(Err(()))` when it is longer than
/// [`MAX_LINE_BYTES`].
pub(crate) fn next_line(reader: &mut impl BufRead) -> io::Result<Option<Result<Vec<u8>, ()>>> {
    let mut line = Vec::new();
    loop {
        let chunk = match reader.fill_buf() {
            Ok(chunk) => chunk,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        if chunk.is_empty() {
            return Ok(if line.is_empty() { None } else { Some(Ok(line)) });
        }
        let end = chunk.iter().position(|byte| *byte == b'\n');
        let part = &chunk[..end.unwrap_or(chunk.len())];
        if line.len() + part.len() > MAX_LINE_BYTES {
            return Ok(Some(Err(())));
        }
        line.extend_from_slice(part);
        let consumed = part.len() + usize::from(end.is_some());
        reader.consume(consumed);
        if end.is_some() {
            return Ok(Some(Ok(line)));
        }
    }
}

/// The fields as they stand in the line; each is judged on its own, so that the error can name it.
#[derive(Deserialize)]
struct Fields<'a> {
    #[serde(borrow)]
    method: Option<&'a RawValue>,
    #[serde(borrow)]
    url: Option<&'a RawValue>,
    #[serde(borrow)]
    request_headers: Option<&'a RawValue>,
    #[serde(borrow)]
    request_body: Option<&'a RawValue>,
    #[serde(borrow)]
    request_body_base64: Option<&'a RawValue>,
    #[serde(borrow)]
    status: Option<&'a RawValue>,
    #[serde(borrow)]
    headers: Option<&'a RawValue>,
    #[serde(borrow)]
    body: Option<&'a RawValue>,
    #[serde(borrow)]
    body_base64: Option<&'a RawValue>,
    #[serde(borrow)]
    scenario: Option<&'a RawValue>,
}

/// Turns a line into an exchange; the error is a sentence without the line's number.
pub(crate) fn parse_line(line: &[u8]) -> Result<Exchange, String> {
    let text = std::str::from_utf8(line).map_err(|error| {
        format!("byte {} is not UTF-8; binary bodies belong into \"body_base64\"", error.valid_up_to() + 1)
    })?;
    let fields: Fields<'_> = serde_json::from_str(text)
        .map_err(|error| format!("{} at column {}; {SHAPE}", reason(&error), error.column()))?;

    let method = string("method", required("method", fields.method)?)?;
    let url = string("url", required("url", fields.url)?)?;
    let status = status(required("status", fields.status)?)?;
    let (host, target) = split_url(&url)?;
    let body = bytes(("body", fields.body), ("body_base64", fields.body_base64))?;
    let request_body =
        bytes(("request_body", fields.request_body), ("request_body_base64", fields.request_body_base64))?;
    Ok(Exchange {
        scenario: fields.scenario.map(scenario),
        method: method_name(&method)?,
        host,
        target,
        request_headers: headers("request_headers", fields.request_headers)?,
        request_body,
        status,
        headers: headers("headers", fields.headers)?,
        body: body.unwrap_or_default(),
    })
}

type Field<'a> = (&'static str, Option<&'a RawValue>);

/// The bytes of a body field, or of its base64 twin, which wins.
fn bytes(plain: Field<'_>, base64: Field<'_>) -> Result<Option<Bytes>, String> {
    match (base64, plain) {
        ((name, Some(raw)), _) => STANDARD
            .decode(string(name, raw)?.trim_end())
            .map(|bytes| Some(Bytes::from(bytes)))
            .map_err(|error| format!("\"{name}\" is not standard base64 with padding: {error}")),
        (_, (name, Some(raw))) => body_bytes(name, raw).map(Some),
        _ => Ok(None),
    }
}

fn required<'a>(name: &str, value: Option<&'a RawValue>) -> Result<&'a RawValue, String> {
    value.ok_or_else(|| format!("\"{name}\" is missing; {SHAPE}"))
}

/// A parser's message without its own idea of line and column.
pub(crate) fn reason(error: &serde_json::Error) -> String {
    let text = error.to_string();
    text.rfind(" at line ").map_or_else(|| text.clone(), |end| text[..end].to_owned())
}

/// At most the first 60 characters of a value, for messages.
fn excerpt(raw: &RawValue) -> String {
    let text = raw.get();
    match text.char_indices().nth(60) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

fn string(name: &str, raw: &RawValue) -> Result<String, String> {
    serde_json::from_str(raw.get())
        .map_err(|_| format!("\"{name}\" is {}; a string is expected", excerpt(raw)))
}

/// A scenario's name; one that is not a string is known by its JSON text.
fn scenario(raw: &RawValue) -> String {
    serde_json::from_str(raw.get()).unwrap_or_else(|_| raw.get().to_owned())
}

fn status(raw: &RawValue) -> Result<u16, String> {
    let expected = || format!("\"status\" is {}; a whole number from 200 to 599 is expected", excerpt(raw));
    let number = match serde_json::from_str(raw.get()).map_err(|_| expected())? {
        Value::Number(number) => number.as_u64(),
        Value::String(text) => text.trim().parse().ok(),
        _ => None,
    };
    number.and_then(|n| u16::try_from(n).ok()).filter(|n| (200..=599).contains(n)).ok_or_else(expected)
}

/// A method in upper case, as it is served.
pub(crate) fn method_name(method: &str) -> Result<String, String> {
    let upper = method.trim().to_ascii_uppercase();
    match http::Method::from_bytes(upper.as_bytes()) {
        Ok(_) => Ok(upper),
        Err(_) => Err(format!("\"method\" is {method:?}; an HTTP method such as GET or POST is expected")),
    }
}

/// Splits an absolute URL into its host, in lower case and without port, and its path with query.
pub(crate) fn split_url(url: &str) -> Result<(String, String), String> {
    let expected = || {
        format!("\"url\" is {url:?}; an absolute URL is expected, as https://api.github.com/repos/OWNER/REPO")
    };
    let trimmed = url.trim();
    let without_fragment = trimmed.split('#').next().unwrap_or(trimmed);
    if without_fragment.starts_with('/') {
        return Ok((API_HOST.to_owned(), without_fragment.to_owned()));
    }
    let (scheme, rest) = without_fragment.split_once("://").ok_or_else(expected)?;
    if !scheme.eq_ignore_ascii_case("https") && !scheme.eq_ignore_ascii_case("http") {
        return Err(expected());
    }
    let end = rest.find(['/', '?']).unwrap_or(rest.len());
    let authority = &rest[..end];
    let host = authority.rsplit('@').next().unwrap_or(authority);
    let host = host.split(':').next().unwrap_or(host).to_ascii_lowercase();
    if host.is_empty() {
        return Err(expected());
    }
    let target = match &rest[end..] {
        "" => "/".to_owned(),
        query if query.starts_with('?') => format!("/{query}"),
        path => path.to_owned(),
    };
    Ok((host, target))
}

/// The bytes that a JSON value stands for: a string's own, anything else's compact text.
pub(crate) fn body_bytes(name: &str, raw: &RawValue) -> Result<Bytes, String> {
    if raw.get().starts_with('"') {
        let text: String = serde_json::from_str(raw.get()).map_err(|error| {
            format!("\"{name}\" is not Unicode text ({}); use \"body_base64\" for bytes", reason(&error))
        })?;
        return Ok(Bytes::from(text));
    }
    Ok(Bytes::from(compact(raw.get())))
}

fn headers(name: &str, raw: Option<&RawValue>) -> Result<Vec<(String, String)>, String> {
    let Some(raw) = raw else { return Ok(Vec::new()) };
    let list: HeaderList = serde_json::from_str(raw.get()).map_err(|error| {
        format!(
            "\"{name}\": {}; an object of names with a string or a list of strings each is expected",
            reason(&error)
        )
    })?;
    check_headers(name, list.0)
}

/// Drops HTTP/2 pseudo-headers and refuses what HTTP cannot carry.
pub(crate) fn check_headers(
    field: &str,
    list: Vec<(String, String)>,
) -> Result<Vec<(String, String)>, String> {
    let mut kept = Vec::with_capacity(list.len());
    for (name, value) in list {
        if name.starts_with(':') {
            continue;
        }
        if HeaderName::from_bytes(name.as_bytes()).is_err() {
            return Err(format!(
                "\"{field}\" has a header named {name:?}, which HTTP does not allow (RFC 9110, 5.1)"
            ));
        }
        if HeaderValue::from_bytes(value.as_bytes()).is_err() {
            return Err(format!(
                "the value of header {name:?} in \"{field}\" has a control character, which HTTP does not allow; list several values as a JSON list"
            ));
        }
        kept.push((name, value));
    }
    Ok(kept)
}

/// Headers in their order, with duplicates: an object, a list of pairs, or names and values in
/// turn.
pub(crate) struct HeaderList(pub(crate) Vec<(String, String)>);

impl<'de> Deserialize<'de> for HeaderList {
    fn deserialize<D: de::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(HeaderVisitor)
    }
}

struct HeaderVisitor;

impl<'de> Visitor<'de> for HeaderVisitor {
    type Value = HeaderList;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object of headers")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<HeaderList, A::Error> {
        let mut list = Vec::new();
        while let Some((name, value)) = map.next_entry::<String, Value>()? {
            push_values(&mut list, name, value)?;
        }
        Ok(HeaderList(list))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<HeaderList, A::Error> {
        let mut list = Vec::new();
        while let Some(element) = seq.next_element::<Value>()? {
            match element {
                Value::String(name) => match seq.next_element::<Value>()? {
                    Some(value) => push_values(&mut list, name, value)?,
                    None => return Err(de::Error::custom(format!("header {name:?} has no value"))),
                },
                Value::Array(mut pair) if pair.len() == 2 => match (pair.pop(), pair.pop()) {
                    (Some(value), Some(Value::String(name))) => push_values(&mut list, name, value)?,
                    _ => return Err(de::Error::custom("a pair does not begin with a name")),
                },
                other => return Err(de::Error::custom(format!("{other} is not a header"))),
            }
        }
        Ok(HeaderList(list))
    }
}

fn push_values<E: de::Error>(list: &mut Vec<(String, String)>, name: String, value: Value) -> Result<(), E> {
    match value {
        Value::Null => {}
        Value::String(text) => list.push((name, text)),
        Value::Number(number) => list.push((name, number.to_string())),
        Value::Bool(truth) => list.push((name, truth.to_string())),
        Value::Array(values) => {
            for value in values {
                if value.is_array() || value.is_object() {
                    return Err(E::custom(format!("header {name:?} has a list of lists or objects")));
                }
                push_values(list, name.clone(), value)?;
            }
        }
        Value::Object(_) => return Err(E::custom(format!("header {name:?} is an object"))),
    }
    Ok(())
}
