//! The reference in `docs/reference/settings.md` is what the table of settings says.

use std::fmt::Write as _;

use peercache::config::{Group, SettingInfo, known_settings};

const PATH: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/reference/settings.md");
const BEGIN: &str = "<!-- The lines up to the end mark come from the table in src/config/settings.rs:\n     \
                     UPDATE=1 cargo test --test config reference -->\n";
const END: &str = "<!-- end of the reference -->\n";
const COLUMNS: usize = 100;

#[test]
fn reference_is_what_the_table_says() {
    let document = std::fs::read_to_string(PATH).unwrap();
    let (head, rest) = document.split_once(BEGIN).expect("the mark at the beginning");
    let (found, tail) = rest.split_once(END).expect("the mark at the end");
    let expected = rendered();
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(PATH, [head, BEGIN, &expected, END, tail].concat()).unwrap();
        return;
    }
    assert_eq!(found, expected, "run UPDATE=1 cargo test --test config reference");
}

/// Each group under its heading, each setting as an item of a list.
fn rendered() -> String {
    let mut text = String::new();
    let mut group: Option<Group> = None;
    for setting in known_settings() {
        if group != Some(setting.group) {
            group = Some(setting.group);
            // Writing to a String cannot fail.
            let _ = writeln!(text, "\n### {}\n", setting.group.title());
        }
        text += &item(&setting);
    }
    text + "\n"
}

fn item(setting: &SettingInfo) -> String {
    let names: Vec<_> = setting.variables.iter().map(|name| format!("`{name}`")).collect();
    let aliases = match &names[1..] {
        [] => String::new(),
        aliases => format!(" (also {})", aliases.join(", ")),
    };
    let first = format!("**{}**{aliases}, key `{}`: {}", names[0], setting.key, setting.help);
    let lines = [first, format!("Value: {}.", setting.kind), format!("Default: {}.", setting.default)];
    let mut text = String::from("- ");
    for (place, line) in lines.iter().enumerate() {
        text += &wrapped(line, if place == 0 { 2 } else { 0 });
    }
    text
}

/// The words in lines of at most [`COLUMNS`], indented as an item's; the first is `behind`
/// characters in.
fn wrapped(line: &str, behind: usize) -> String {
    let mut text = String::new();
    let mut column = behind;
    if behind == 0 {
        text += "  ";
        column = 2;
    }
    let mut first = true;
    for word in line.split(' ') {
        let length = word.chars().count();
        if !first && column + 1 + length > COLUMNS {
            text += "\n  ";
            column = 2;
        } else if !first {
            text.push(' ');
            column += 1;
        }
        text += word;
        column += length;
        first = false;
    }
    text.push('\n');
    text
}
