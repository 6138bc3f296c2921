//! Lines of Markdown and of comments end at 100 columns. Tables, links that cannot be broken, and
//! code are left alone.

use std::collections::BTreeMap;
use std::path::Path;

use crate::failure::Failure;
use crate::run::{Run, checkout};

/// The last column.
const COLUMNS: usize = 100;
/// How many long lines each file had when this check was made: a number may only shrink.
const ALLOWED: &str = include_str!("lines-allowed.txt");

/// Checks every Markdown and Rust file that git knows.
pub(crate) fn check() -> Result<(), Failure> {
    let listed =
        Run::new("git", "install git").args(["ls-files", "*.md", "*.rs"]).in_dir(&checkout()).read()?;
    let mut allowed = BTreeMap::new();
    for line in ALLOWED.lines().filter(|line| !line.starts_with('#')) {
        if let Some((count, file)) = line.split_once(' ')
            && let Ok(count) = count.parse::<usize>()
        {
            allowed.insert(file, count);
        }
    }
    let mut worse = 0;
    for file in listed.lines() {
        let Ok(text) = std::fs::read_to_string(checkout().join(file)) else { continue };
        let long = long_lines(Path::new(file), &text);
        let most = allowed.get(file).copied().unwrap_or_default();
        if long.len() > most {
            worse += 1;
            println!(
                "{file}: {} lines over {COLUMNS} columns, {most} are allowed; the first: {}",
                long.len(),
                long[0]
            );
        }
    }
    if worse == 0 {
        return Ok(());
    }
    Err(Failure::new(format!("{worse} files have longer lines than before"), "break them at 100 columns"))
}

/// The numbers of the lines that are too long.
fn long_lines(file: &Path, text: &str) -> Vec<usize> {
    let markdown = file.extension().is_some_and(|extension| extension == "md");
    let mut code = false;
    let mut long = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let start = line.trim_start();
        if markdown && start.starts_with("```") {
            code = !code;
        }
        let counts = if markdown { !code && !start.starts_with('|') } else { start.starts_with("//") };
        if counts && line.chars().count() > COLUMNS && !start.contains("://") && !start.starts_with("/// |") {
            long.push(index + 1);
        }
    }
    long
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prose_and_comments_count_and_tables_code_and_addresses_do_not() {
        let long = "x".repeat(101);
        let page = format!("{long}\n| {long} |\n```\n{long}\n```\nhttps://{long}\n");
        assert_eq!(long_lines(Path::new("a.md"), &page), [1]);
        let source = format!("// {long}\nlet x = \"{long}\";\n    /// {long}\n");
        assert_eq!(long_lines(Path::new("a.rs"), &source), [1, 3]);
    }
}
