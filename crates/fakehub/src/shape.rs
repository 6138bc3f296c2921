//! Bodies as they are for one caller: a repository says whether it is private, and what the caller
//! may do.

use std::borrow::Cow;

use serde_json::{Map, Value};

use crate::access::View;
use crate::json::revise;

/// Whether `target` is a repository itself, so that its body depends on who asks.
pub(crate) fn depends_on_caller(target: &str) -> bool {
    let path = target.split('?').next().unwrap_or(target).trim_matches('/');
    let mut segments = path.split('/');
    matches!((segments.next(), segments.count()), (Some("repos"), 2) | (Some("repositories"), 1))
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
    if view.since > 0 && object.contains_key("updated_at") {
        object.insert("updated_at".to_owned(), Value::from(iso_date(view.since)));
    }
    match view.kind {
        None => object.shift_remove("permissions"),
        Some(kind) => object.insert("permissions".to_owned(), serde_json::from_str(kind.permissions()).ok()?),
    };
    serde_json::to_vec(&object).ok()
}

/// A date as GitHub's JSON has it, in whole seconds.
fn iso_date(millis: u64) -> String {
    let seconds = millis / 1000;
    let (days, rest) = (seconds / 86_400 + 719_468, seconds % 86_400);
    // Years begin in March, so that the leap day is the last one.
    let era = days / 146_097;
    let of_era = days % 146_097;
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * of_year + 2) / 153;
    let day = of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}Z", rest / 3600, rest / 60 % 60, rest % 60)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access::TokenKind;

    #[test]
    fn a_repository_differs_by_kind_of_token_and_visibility() {
        let recorded = br#"{"id":1,"private":false,"permissions":{"admin":true},"name":"r"}"#;
        let of = |kind, private| {
            String::from_utf8(
                body(recorded, "/repos/o/r", Some(View { kind, private, since: 0 }), 0).into_owned(),
            )
            .unwrap()
        };
        assert_eq!(of(None, true), r#"{"id":1,"private":true,"name":"r"}"#);
        assert!(of(Some(TokenKind::Job), false).contains(r#""permissions":{"admin":false"#));
        assert_ne!(of(Some(TokenKind::App), false), of(Some(TokenKind::Personal), false));
        assert!(!depends_on_caller("/repos/o/r/issues") && depends_on_caller("/repositories/7?x=1"));
    }

    #[test]
    fn change_of_visibility_changes_the_date_of_the_repository() {
        for (seconds, text) in [
            (951_827_696, "2000-02-29T12:34:56Z"),
            (1_796_020_429, "2026-11-30T06:33:49Z"),
            (4_107_542_400, "2100-03-01T00:00:00Z"),
        ] {
            let view = View { kind: None, private: true, since: seconds * 1000 + 999 };
            let recorded = br#"{"id":1,"private":false,"updated_at":"2020-01-01T00:00:00Z"}"#;
            let made = body(recorded, "/repos/o/r", Some(view), 0).into_owned();
            let made: Value = serde_json::from_slice(&made).unwrap();
            assert_eq!((made["private"].as_bool(), made["updated_at"].as_str()), (Some(true), Some(text)));
        }
    }
}
