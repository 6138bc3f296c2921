//! JSON text, edited as text: numbers and escapes stay as they were written.

/// `raw` without the white space between its tokens. `raw` must be valid JSON.
///
/// Parsing and printing again would respell numbers and escapes; a body must stay what was
/// recorded.
pub(crate) fn compact(raw: &str) -> Vec<u8> {
    let mut out = Vec::with_capacity(raw.len());
    let mut in_string = false;
    let mut escaped = false;
    for byte in raw.bytes() {
        if in_string {
            out.push(byte);
            if escaped {
                escaped = false;
            } else if byte == b'\\' {
                escaped = true;
            } else if byte == b'"' {
                in_string = false;
            }
        } else if !matches!(byte, b' ' | b'\t' | b'\r' | b'\n') {
            in_string = byte == b'"';
            out.push(byte);
        }
    }
    out
}

/// `body` as it looks after `revision` changes of its resource.
///
/// A JSON object gets a last member `fakehub_revision`, a JSON list gets it in its last object (or
/// as a further element), anything else a last line. So the result is of the same kind as what was
/// recorded.
pub(crate) fn revise(body: &[u8], revision: u64) -> Vec<u8> {
    let member = format!("\"fakehub_revision\":{revision}");
    let end = body.trim_ascii_end();
    if serde_json::from_slice::<serde::de::IgnoredAny>(body).is_ok() {
        if let Some(inside) = end.strip_suffix(b"}") {
            return spliced(inside, &member, b"}");
        }
        if let Some(list) = end.strip_suffix(b"]") {
            return match list.trim_ascii_end().strip_suffix(b"}") {
                Some(inside) => spliced(inside, &member, b"}]"),
                None => spliced(list, &format!("{{{member}}}"), b"]"),
            };
        }
    }
    let mut out = body.to_vec();
    out.extend_from_slice(format!("\nfakehub_revision: {revision}\n").as_bytes());
    out
}

/// `inside`, a comma unless it has just been opened, `added`, and `close`.
fn spliced(inside: &[u8], added: &str, close: &[u8]) -> Vec<u8> {
    let mut out = inside.trim_ascii_end().to_vec();
    if !matches!(out.last(), Some(b'{' | b'[') | None) {
        out.push(b',');
    }
    out.extend_from_slice(added.as_bytes());
    out.extend_from_slice(close);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn revised(body: &str) -> String {
        String::from_utf8(revise(body.as_bytes(), 3)).unwrap()
    }

    #[test]
    fn compacting_drops_white_space_between_tokens_only() {
        let raw = "{ \"a b\" : [1.50, 2e3 ,\t\"x \\\" y\"],\n \"\\u00e9\" : \"\\\\\" }";
        assert_eq!(compact(raw), b"{\"a b\":[1.50,2e3,\"x \\\" y\"],\"\\u00e9\":\"\\\\\"}");
    }

    #[test]
    fn a_revision_keeps_the_kind_of_body() {
        assert_eq!(revised("{}"), r#"{"fakehub_revision":3}"#);
        assert_eq!(revised("{\"a\":1}\n"), r#"{"a":1,"fakehub_revision":3}"#);
        assert_eq!(revised("[]"), r#"[{"fakehub_revision":3}]"#);
        assert_eq!(revised("[1]"), r#"[1,{"fakehub_revision":3}]"#);
        assert_eq!(revised("[{},{\"a\":{}} ]"), r#"[{},{"a":{},"fakehub_revision":3}]"#);
        assert_eq!(revised("# Readme }"), "# Readme }\nfakehub_revision: 3\n");
    }
}
