//! Printed objects have the documented keys, all of them and no others.

use std::collections::BTreeSet;

use meridian_client::cli::report::schemas;
use serde_json::Value;

/// Fails unless an object has the keys that are documented for a command.
#[track_caller]
pub(crate) fn check(command: &str, printed: &Value) {
    let documented: BTreeSet<String> = schemas()
        .into_iter()
        .find(|(name, _)| *name == command)
        .map(|(_, keys)| keys.into_iter().map(|key| key.path).collect())
        .unwrap();
    let (mut found, mut empty) = (BTreeSet::new(), BTreeSet::new());
    collect("", printed, &mut found, &mut empty);
    let undocumented: Vec<_> = found.difference(&documented).collect();
    assert!(undocumented.is_empty(), "{command} prints undocumented keys {undocumented:?}");
    let below_empty = |path: &String| empty.iter().any(|place| path.starts_with(place));
    let missing: Vec<_> = documented.difference(&found).filter(|path| !below_empty(path)).collect();
    assert!(missing.is_empty(), "{command} does not print {missing:?}");
}

fn collect(path: &str, value: &Value, found: &mut BTreeSet<String>, empty: &mut BTreeSet<String>) {
    match value {
        Value::Object(object) => {
            for (key, value) in object {
                let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                found.insert(path.clone());
                collect(&path, value, found, empty);
            }
        }
        Value::Array(items) if items.is_empty() => {
            empty.insert(format!("{path}[]"));
        }
        Value::Null => {
            empty.insert(format!("{path}."));
        }
        Value::Array(items) => {
            items.iter().for_each(|item| collect(&format!("{path}[]"), item, found, empty));
        }
        _ => {}
    }
}
