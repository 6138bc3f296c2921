//! JSON files whose bytes depend on their content alone.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use crate::failure::Failure;

/// `value` as a file, with the keys of objects in order. `serde_json` keeps them in order or as
/// they were added, depending on the features that it is built with.
pub(crate) fn json_file(value: Value) -> Result<Vec<u8>, Failure> {
    let mut text = serde_json::to_vec_pretty(&sorted(value))
        .map_err(|error| Failure::new(format!("JSON cannot be written: {error}"), "report this"))?;
    text.push(b'\n');
    Ok(text)
}

fn sorted(value: Value) -> Value {
    match value {
        Value::Object(object) => {
            let keys: BTreeMap<String, Value> = object.into_iter().collect();
            Value::Object(keys.into_iter().map(|(key, value)| (key, sorted(value))).collect::<Map<_, _>>())
        }
        Value::Array(values) => Value::Array(values.into_iter().map(sorted).collect()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_in_order_at_every_depth_and_lists_as_they_were() {
        let value: Value = serde_json::from_str(r#"{"b": [{"d": 1, "c": 2}, 0], "a": 3}"#).unwrap();
        assert_eq!(sorted(value).to_string(), r#"{"a":3,"b":[{"c":2,"d":1},0]}"#);
    }
}
