//! What a request to the GraphQL endpoint asks for: a query that may be answered from the cache, or
//! anything else.

use apollo_parser::Parser;
use apollo_parser::cst::Definition;
use bytes::Bytes;
use http::header::{
    ACCEPT, ACCEPT_ENCODING, AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, USER_AGENT, VIA,
};
use peercache::Key;
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::key::{API_VERSION, REQUESTED_WITH, graphql_key};
use crate::request_headers::AGENT;
use crate::token::TokenId;

/// The largest request body that is read for a query, in bytes; larger ones are passed through.
pub(crate) const MAX_BODY_BYTES: usize = 256 * 1024;
/// How deep a query may be, and how many tokens it may have; beyond it is passed through.
const MAX_DEPTH: usize = 200;
const MAX_TOKENS: usize = 20_000;

/// The headers that reach upstream with a query whose answer may be stored. All but `Via` are part
/// of the key.
static SENT: [HeaderName; 7] = [
    ACCEPT,
    AUTHORIZATION,
    API_VERSION,
    REQUESTED_WITH,
    HeaderName::from_static("graphql-features"),
    HeaderName::from_static("x-github-next-global-id"),
    VIA,
];

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Body {
    query: String,
    #[serde(default)]
    variables: Option<Map<String, Value>>,
    #[serde(default, rename = "operationName")]
    operation_name: Option<String>,
}

/// What the body of a request is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Operation {
    /// A query, in the form that is keyed and sent: variables sorted by name, no white space of
    /// JSON's.
    Query(Bytes),
    /// Something that is passed through and may change what is stored: a mutation, or what is not
    /// understood.
    Other(&'static str),
    /// A query that is passed through.
    Uncached(&'static str),
}

impl Operation {
    /// Understands a body. What is keyed is what is sent, so the body is written anew.
    pub(crate) fn of(body: &[u8]) -> Self {
        let Ok(body) = serde_json::from_slice::<Body>(body) else { return Self::Other("graphql-body") };
        match is_query(&body.query) {
            None => return Self::Other("graphql-syntax"),
            Some(false) => return Self::Other("mutation"),
            Some(true) => {}
        }
        // It is about this moment.
        if body.query.contains("rateLimit") {
            return Self::Uncached("rate-limit");
        }
        let mut canonical = Map::new();
        canonical.insert("query".to_owned(), Value::String(body.query));
        if let Some(name) = body.operation_name {
            canonical.insert("operationName".to_owned(), Value::String(name));
        }
        if let Some(variables) = body.variables {
            let variables = Value::Object(variables);
            // Written anew, these could be other numbers.
            if has_fraction(&variables) {
                return Self::Uncached("number");
            }
            canonical.insert("variables".to_owned(), sorted(variables));
        }
        match serde_json::to_vec(&canonical) {
            Ok(bytes) => Self::Query(bytes.into()),
            Err(_) => Self::Uncached("graphql-body"),
        }
    }
}

/// Whether a document has nothing but queries and fragments. `None` if it is not understood.
fn is_query(document: &str) -> Option<bool> {
    let tree = Parser::new(document).recursion_limit(MAX_DEPTH).token_limit(MAX_TOKENS).parse();
    if tree.errors().next().is_some() {
        return None;
    }
    let mut queries = 0;
    for definition in tree.document().definitions() {
        match definition {
            Definition::OperationDefinition(operation) => {
                // Without a type it is a query (GraphQL, section 2.3).
                let is_query = operation.operation_type().is_none_or(|kind| kind.query_token().is_some());
                if !is_query {
                    return Some(false);
                }
                queries += 1;
            }
            Definition::FragmentDefinition(_) => {}
            _ => return None,
        }
    }
    (queries > 0).then_some(true)
}

fn has_fraction(value: &Value) -> bool {
    match value {
        Value::Number(number) => number.is_f64(),
        Value::Array(items) => items.iter().any(has_fraction),
        Value::Object(fields) => fields.values().any(has_fraction),
        _ => false,
    }
}

/// Objects with their fields in the order of their names, at every depth.
fn sorted(value: Value) -> Value {
    match value {
        Value::Array(items) => Value::Array(items.into_iter().map(sorted).collect()),
        Value::Object(fields) => {
            let mut fields: Vec<(String, Value)> =
                fields.into_iter().map(|(name, value)| (name, sorted(value))).collect();
            fields.sort_by(|(left, _), (right, _)| left.cmp(right));
            Value::Object(fields.into_iter().collect())
        }
        other => other,
    }
}

/// The headers to send with a query whose answer may be stored.
pub(crate) fn headers_to_send(client: &HeaderMap) -> HeaderMap {
    let mut headers = HeaderMap::with_capacity(8);
    for name in &SENT {
        for value in client.get_all(name) {
            headers.append(name, value.clone());
        }
    }
    headers.insert(USER_AGENT, AGENT);
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("gzip"));
    headers
}

/// Where the answer to a query is kept: by API, token, headers and the body that is sent.
pub(crate) fn key(token: &TokenId, authority: &str, sent: &HeaderMap, body: &[u8]) -> Key {
    let selecting = SENT.iter().filter(|name| **name != VIA && **name != AUTHORIZATION);
    graphql_key(token, authority, selecting, sent, body)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::token::TokenHasher;

    fn of(body: &str) -> Operation {
        Operation::of(body.as_bytes())
    }

    #[test]
    fn spellings_of_one_query_are_one() {
        let one = of(r#"{"query":"query Q($a:Int){x(a:$a)}","variables":{"b":{"d":1,"c":[2]},"a":1}}"#);
        let other = of(
            "{ \"variables\" : {\"a\":1, \"b\":{\"c\":[2],\"d\":1}}, \"query\":\"query Q($a:Int){x(a:$a)}\" }",
        );
        assert!(matches!(one, Operation::Query(_)), "{one:?}");
        assert_eq!(one, other);
        assert_ne!(one, of(r#"{"query":"query Q($a:Int){x(a:$a)}","variables":{"a":2}}"#));
        assert_ne!(
            of(r#"{"query":"query A{a} query B{b}","operationName":"A"}"#),
            of(r#"{"query":"query A{a} query B{b}","operationName":"B"}"#)
        );
    }

    #[test]
    fn everything_but_queries_is_passed_through() {
        for (body, expected) in [
            (r#"{"query":"{viewer{login}}"}"#, None),
            (r#"{"query":"query Q{a} fragment F on X{b}"}"#, None),
            (r#"{"query":"{a}","variables":null,"operationName":null}"#, None),
            (r#"{"query":"mutation{a}"}"#, Some(Operation::Other("mutation"))),
            (r##"{"query":"# query\nmutation M{a}"}"##, Some(Operation::Other("mutation"))),
            (
                r#"{"query":"query Q{a} mutation M{b}","operationName":"Q"}"#,
                Some(Operation::Other("mutation")),
            ),
            (r#"{"query":"subscription{a}"}"#, Some(Operation::Other("mutation"))),
            (r#"{"query":"fragment F on X{b}"}"#, Some(Operation::Other("graphql-syntax"))),
            (r#"{"query":"type X{a:Int}"}"#, Some(Operation::Other("graphql-syntax"))),
            (r#"{"query":"query {"}"#, Some(Operation::Other("graphql-syntax"))),
            (r#"{"query":"{a}","query":"mutation{b}"}"#, Some(Operation::Other("graphql-body"))),
            (r#"{"query":"{a}","extensions":{}}"#, Some(Operation::Other("graphql-body"))),
            (r#"[{"query":"{a}"}]"#, Some(Operation::Other("graphql-body"))),
            ("{}", Some(Operation::Other("graphql-body"))),
            (r#"{"query":"{rateLimit{cost} viewer{login}}"}"#, Some(Operation::Uncached("rate-limit"))),
            (r#"{"query":"{a}","variables":{"x":[1.5]}}"#, Some(Operation::Uncached("number"))),
            (
                r#"{"query":"{a}","variables":{"x":123456789012345678901}}"#,
                Some(Operation::Uncached("number")),
            ),
        ] {
            let is_query = matches!(of(body), Operation::Query(_));
            assert!(
                expected.as_ref().map_or(is_query, |expected| *expected == of(body)),
                "{body}: {:?}",
                of(body)
            );
        }
    }

    #[test]
    fn query_that_is_too_deep_is_not_understood() {
        let deep = format!("{{{}{}}}", "a{".repeat(5_000), "}".repeat(5_000));
        let body = serde_json::json!({ "query": deep }).to_string();
        assert_eq!(of(&body), Operation::Other("graphql-syntax"));
    }

    #[test]
    fn key_depends_on_token_api_headers_and_body() {
        let hasher = TokenHasher::new([1; 32]);
        let id = |token: &'static str| hasher.id(Some(&HeaderValue::from_static(token)));
        let headers = |name: &'static str, value: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(name, HeaderValue::from_static(value));
            headers_to_send(&headers)
        };
        let plain = headers("user-agent", "gh");
        let keys = [
            key(&id("token a"), "api.github.com", &plain, b"{}"),
            key(&id("token b"), "api.github.com", &plain, b"{}"),
            key(&id("token a"), "ghe.example", &plain, b"{}"),
            key(&id("token a"), "api.github.com", &headers("graphql-features", "x"), b"{}"),
            key(&id("token a"), "api.github.com", &headers("accept", "x"), b"{}"),
            key(&id("token a"), "api.github.com", &plain, b"{ }"),
        ];
        for (index, one) in keys.iter().enumerate() {
            assert!(keys[index + 1..].iter().all(|other| one != other), "{index}");
        }
        assert_eq!(keys[0], key(&id("token a"), "api.github.com", &headers("via", "1.1 x"), b"{}"));
        assert!(!plain.contains_key("x-peercache-client") && plain[USER_AGENT] != "gh");
    }
}
