//! Bodies as they are for one caller: a repository says whether it is private, and what the caller may do.

use std::borrow::Cow;

use serde_json::{Map, Value};

use crate::access::View;
use crate::json::revise;

/// Whether `target` is a repository itself, so that its body depends on who asks.
pub(crate) fn depends_on_caller(target: &str) -> bool {
    let path = target.split('?').next().unwrap_or(target).trim_matches('/');
    let mut segments = path.split('/');
    match (segments.next(), segments.clone().count()) {
        (Some("repos"), 2) | (Some("repositories"), 1) => true,
        _ => false,
    }
}

/// The body of `target` for a caller, after `revision` changes.
pub(crate) fn body<'a>(recorded: &'a [u8], target: &str, view: Option<View>, revision: u64) -> Cow<'a, [u8]> {
    let shaped = match view {
        Some(view) if depends_on_caller(target) => shaped(recorded, view),
        _ => None,
    };
    match (shaped, revision) {
        (None, 0) => Cow::Borrowed(recorded),
        (Some(shaped), 0) => Cow::Owned(shaped),
        (shaped, revision) => Cow::Owned(revise(shaped.as_deref().unwrap_or(recorded), revision)),
    }
}

/// `None` when the body is no object: an error, or a recording without a body.
fn shaped(recorded: &[u8], view: View) -> Option<Vec<u8>> {
    let mut object: Map<String, Value> = serde_json::from_slice(recorded).ok()?;
    if object.contains_key("private") {
        object.insert("private".to_owned(), Value::Bool(view.private));
    }
    if object.contains_key("visibility") {
        let visibility = if view.private { "private" } else { "public" };
        object.insert("visibility".to_owned(), Value::from(visibility));
    }
    match view.kind {
        None => object.shift_remove("permissions"),
        Some(kind) => object.insert("permissions".to_owned(), serde_json::from_str(kind.permissions()).ok()?),
    };
    serde_json::to_vec(&object).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access::TokenKind;

    #[test]
    fn a_repository_differs_by_kind_of_token_and_visibility() {
        let recorded = br#"{"id":1,"private":false,"permissions":{"admin":true},"name":"r"}"#;
        let of = |kind, private| {
            String::from_utf8(body(recorded, "/repos/o/r", Some(View { kind, private }), 0).into_owned())
                .unwrap()
        };
        assert_eq!(of(None, true), r#"{"id":1,"private":true,"name":"r"}"#);
        assert!(of(Some(TokenKind::Job), false).contains(r#""permissions":{"admin":false"#));
        assert_ne!(of(Some(TokenKind::App), false), of(Some(TokenKind::Personal), false));
        assert!(!depends_on_caller("/repos/o/r/issues") && depends_on_caller("/repositories/7?x=1"));
    }
}
