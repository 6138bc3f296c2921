//! Settings: an error is one line, a secret is never shown, and where a value stands changes
//! nothing.
//!
//! An input is text: variables as `NAME=value` lines, a line `---`, then the TOML file. In the
//! value of a secret, `§` stands for a text that must not appear in anything that is shown.

use std::collections::BTreeMap;
use std::error::Error as _;
use std::fmt::Write as _;

use peercache::config::Setting;
use peercache::{Config, ConfigError};
use peercache::config::ConfigBuilder;

/// Part of every secret. Longer than any key that an error repeats.
const CANARY: &str = "kQ7wZ9xV3mB5tR1yN8pL6sD2fG4hJ0cXqW5eU7iO3aK9";
/// What is looked for: its beginning and its end, as an error may show a part of a value.
const MARKS: [&str; 2] = ["kQ7wZ9xV", "U7iO3aK9"];
const SECRETS: [&str; 3] = ["CACHE_SECRET", "CACHE_P2P_SHARED_SECRET", "CACHE_SECRET_OLD"];
/// The same settings as variables and as keys of the file, those that mean the same in both.
const BOTH: [(&str, &str); 5] = [
    ("CACHE_BACKEND", "backend"),
    ("CACHE_MEMORY_BYTES", "memory_bytes"),
    ("CACHE_DISK_BYTES", "disk_bytes"),
    ("CACHE_DEFAULT_TTL", "default_ttl"),
    ("CACHE_NAMESPACE", "namespace"),
];

type Variables = BTreeMap<String, String>;

/// Any text as variables and a file.
pub fn config(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    if MARKS.iter().any(|mark| text.contains(mark)) {
        return;
    }
    let (variables, file) = text.split_once("---\n").unwrap_or((text, ""));
    let (variables, file) = (self::variables(variables), self::file(file));
    let get = |name: &str| variables.get(name).cloned();

    let _ = judged(Config::from_vars("peercache", get), false);
    let cheap = SECRETS.iter().filter_map(|name| variables.get(*name)).all(|text| is_cheap(text));
    let alone = judged(ConfigBuilder::new("peercache").without_file().read_vars(get), cheap);
    let with_file = || ConfigBuilder::new("peercache").file_text("the.toml", file.clone()).read_vars(get);
    let _ = judged(with_file(), cheap && !file.contains("secret") && !file.contains('\\'));
    assert_eq!(
        with_file().map_err(|error| error.to_string()),
        with_file().map_err(|error| error.to_string())
    );
    if let Ok((_, Some(settings))) = alone {
        repeated(&settings);
    }
    anywhere(&variables);
}

fn variables(text: &str) -> Variables {
    let mut variables = Variables::new();
    for (name, value) in text.lines().filter_map(|line| line.split_once('=')) {
        // A value may have several lines, and must not lead to a file of this machine.
        let mut value = value.replace("\\n", "\n");
        if SECRETS.contains(&name) {
            value = value.replace('§', CANARY);
        }
        if name == "CACHE_CONFIG" && value.trim() != "none" {
            value.insert_str(0, "/nowhere/");
        }
        variables.insert(name.to_owned(), value);
    }
    variables
}

/// The file, with the secret in lines that give one. A text of several lines could make such a line
/// part of something that may be shown.
fn file(text: &str) -> String {
    let spans_lines = text.contains("\"\"\"") || text.contains("'''");
    let gives_secret =
        |line: &str| !spans_lines && (line.starts_with("secret = ") || line.starts_with("secret_old = "));
    let lines = text.split_inclusive('\n');
    lines.map(|line| if gives_secret(line) { line.replace('§', CANARY) } else { line.to_owned() }).collect()
}

/// Whether looking at this secret takes no stretching of a passphrase.
fn is_cheap(text: &str) -> bool {
    text.split(',').map(str::trim).all(|text| {
        ["pc-secret-", "pc-readonly-", "ghs_", "${"].iter().any(|start| text.starts_with(start))
            || text.chars().count() < 12
    })
}

fn hidden(text: &str) {
    assert!(!MARKS.iter().any(|mark| text.contains(mark)), "a secret is shown");
}

fn judge(error: &ConfigError) {
    let text = error.to_string();
    assert!(!text.is_empty() && !text.contains(char::is_control), "an error is one line: {text:?}");
    hidden(&text);
    hidden(&format!("{error:?} {error:#?}"));
    let mut source = error.source();
    while let Some(inner) = source {
        hidden(&format!("{inner} {inner:?}"));
        source = inner.source();
    }
}

/// Checks what is shown of a result, and the settings too if that is cheap.
fn judged(
    result: Result<Config, ConfigError>,
    cheap: bool,
) -> Result<(Config, Option<Vec<Setting>>), ConfigError> {
    let config = result.inspect_err(judge)?;
    hidden(&format!("{config:?} {config:#?}"));
    for warning in config.warnings() {
        assert!(!warning.contains(char::is_control), "a warning is one line: {warning:?}");
        hidden(warning);
    }
    if !cheap {
        return Ok((config, None));
    }
    let settings = config.settings().inspect_err(judge)?;
    settings.iter().for_each(|setting| hidden(&format!("{setting} {setting:?}")));
    Ok((config, Some(settings)))
}

/// The settings as they are shown mean the same when they are given.
fn repeated(settings: &[Setting]) {
    let given: Variables = settings
        .iter()
        .filter(|setting| !SECRETS.contains(&setting.variable) && setting.value != "not set")
        .map(|setting| (setting.variable.to_owned(), setting.value.clone()))
        .collect();
    let again = ConfigBuilder::new("peercache").without_file().read_vars(|name| given.get(name).cloned());
    let again = again.and_then(|config| config.settings()).expect("what is shown is accepted");
    for (before, after) in
        settings.iter().zip(&again).filter(|(before, _)| given.contains_key(before.variable))
    {
        assert_eq!(before.value, after.value, "{}", before.variable);
    }
}

/// A value means the same in the environment and in the file.
fn anywhere(variables: &Variables) {
    let mut file = String::new();
    let mut given = Variables::new();
    for (variable, key) in BOTH {
        if let Some(value) = variables.get(variable) {
            given.insert(variable.to_owned(), value.clone());
            let _ = writeln!(file, "{key} = {}", quoted(value));
        }
    }
    let here = ConfigBuilder::new("peercache").without_file().read_vars(|name| given.get(name).cloned());
    let there = ConfigBuilder::new("peercache").file_text("the.toml", file).read_vars(|_| None);
    let values = |config: Config| -> Vec<String> {
        let settings = config.settings().expect("there is no secret");
        settings.into_iter().skip(1).map(|setting| setting.value).collect()
    };
    match (here, there) {
        (Ok(here), Ok(there)) => assert_eq!(values(here), values(there)),
        (Err(here), Err(there)) => assert_eq!(here.variable(), there.variable()),
        (here, there) => panic!("one is accepted, one is not: {here:?}, {there:?}"),
    }
}

/// A basic string of TOML.
fn quoted(text: &str) -> String {
    let mut quoted = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            c if c.is_control() => {
                let _ = write!(quoted, "\\u{:04x}", u32::from(c));
            }
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}
