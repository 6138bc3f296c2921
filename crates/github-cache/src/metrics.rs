//! The counters in the text format that Prometheus reads.

use std::fmt::Write;

use serde_json::Value;

/// Every number of a report, named by its path: `peercache_proxy_fresh 12`. What is text, or one of a list,
/// is left out.
pub(crate) fn text(report: &Value) -> String {
    let mut text = String::new();
    add(&mut text, "peercache", report);
    text
}

fn add(text: &mut String, name: &str, value: &Value) {
    match value {
        Value::Object(members) => {
            for (member, value) in members {
                let part: String = member
                    .chars()
                    .map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '_' })
                    .collect();
                add(text, &format!("{name}_{part}"), value);
            }
        }
        Value::Number(number) => {
            // Writing to a string cannot fail.
            let _infallible = writeln!(text, "# TYPE {name} untyped\n{name} {number}");
        }
        Value::Bool(is) => {
            let _infallible = writeln!(text, "# TYPE {name} gauge\n{name} {}", u8::from(*is));
        }
        Value::Null | Value::String(_) | Value::Array(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_number_has_a_line() {
        let report = serde_json::json!({ "proxy": { "fresh": 1, "not-stored": { "vary": 2.5 } }, "x": "y", "up": true });
        let expected = "# TYPE peercache_proxy_fresh untyped\npeercache_proxy_fresh 1\n\
            # TYPE peercache_proxy_not_stored_vary untyped\npeercache_proxy_not_stored_vary 2.5\n\
            # TYPE peercache_up gauge\npeercache_up 1\n";
        assert_eq!(text(&report), expected);
    }
}
