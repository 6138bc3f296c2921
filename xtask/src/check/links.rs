//! Every relative link of the documents leads to a file, and every anchor to a heading of it. Tests
//! that `docs/testing.md` names exist.

use std::collections::{HashMap, HashSet};
use std::path::{Component, Path, PathBuf};

use crate::failure::Failure;
use crate::run::{Run, checkout};

/// Files whose tests have paths that lead nowhere.
const EXAMPLES: [&str; 2] = ["xtask/src/check/links.rs", "xtask/src/check/summary.rs"];
/// The page that names the tests which hold a fault.
const TESTS: &str = "docs/testing.md";

/// Checks every Markdown file that git knows, and the paths of documents that Rust files name.
pub(crate) fn check() -> Result<(), Failure> {
    let listed =
        Run::new("git", "install git").args(["ls-files", "*.md", "*.rs"]).in_dir(&checkout()).read()?;
    let mut pages = HashMap::new();
    let mut broken = 0;
    let mut functions = HashSet::new();
    for file in listed.lines().map(Path::new) {
        let Ok(text) = std::fs::read_to_string(checkout().join(file)) else { continue };
        functions.extend(functions_of(&text));
        let found = match file.extension().is_some_and(|extension| extension == "md") {
            true => links(&text)
                .into_iter()
                .filter(|link| !leads_somewhere(&mut pages, file, &link.target))
                .collect(),
            false if EXAMPLES.iter().any(|examples| file == Path::new(examples)) => Vec::new(),
            false => mentions(&text)
                .into_iter()
                .filter(|mention| !checkout().join(&mention.target).is_file())
                .collect::<Vec<_>>(),
        };
        for link in found {
            broken += 1;
            println!("{}:{}: {} leads nowhere", file.display(), link.line, link.target);
        }
    }
    let page = std::fs::read_to_string(checkout().join(TESTS)).unwrap_or_default();
    for name in tests_named(&page).into_iter().filter(|name| !functions.contains(&name.target)) {
        broken += 1;
        println!("{TESTS}:{}: there is no test {}", name.line, name.target);
    }
    if broken == 0 {
        return Ok(());
    }
    Err(Failure::new(
        format!("{broken} links of the documents lead nowhere"),
        "correct the links listed above",
    ))
}

/// What a document or a comment points at.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Link {
    pub(super) line: usize,
    pub(super) target: String,
}

/// The relative links of a page, `[text](target)`, outside of code.
pub(super) fn links(text: &str) -> Vec<Link> {
    let mut links = Vec::new();
    for (line, text) in prose(text) {
        let mut rest = text.as_str();
        while let Some((_, target, after)) = link_in_page(rest) {
            rest = after;
            if !target.contains("://") && !target.starts_with("mailto:") {
                links.push(Link { line, target: target.to_owned() });
            }
        }
    }
    links
}

/// The target of the first link of `text`, with what stands before and behind it.
pub(crate) fn link_in_page(text: &str) -> Option<(&str, &str, &str)> {
    let start = text.find("](")? + 2;
    let end = start + text[start..].find(')')?;
    Some((&text[..start], &text[start..end], &text[end..]))
}

/// The lines of a page that are no code, numbered from 1, without what stands between backquotes.
fn prose(text: &str) -> Vec<(usize, String)> {
    let mut fenced = false;
    let mut lines = Vec::new();
    for (index, line) in text.lines().enumerate() {
        if line.trim_start().starts_with("```") {
            fenced = !fenced;
        } else if !fenced {
            lines.push((index + 1, line.split('`').step_by(2).collect()));
        }
    }
    lines
}

/// The names of the functions of a Rust file.
fn functions_of(text: &str) -> Vec<String> {
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let after = |line: &str| line.split_once("fn ").map(|(_, rest)| rest.to_owned());
    text.lines().filter_map(after).map(|rest| rest.chars().take_while(|c| is_name(*c)).collect()).collect()
}

/// What a page names between backquotes and can only be a test: three words or more, joined by `_`.
fn tests_named(page: &str) -> Vec<Link> {
    let is_test = |name: &str| {
        name.matches('_').count() >= 2
            && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_')
    };
    let mut named = Vec::new();
    for (index, line) in page.lines().enumerate() {
        let quoted = line.split('`').skip(1).step_by(2).filter(|name| is_test(name));
        named.extend(quoted.map(|name| Link { line: index + 1, target: name.to_owned() }));
    }
    named
}

/// The paths of documents that a Rust file names, such as `docs/testing.md`.
fn mentions(text: &str) -> Vec<Link> {
    let is_path = |c: char| c.is_ascii_alphanumeric() || "/-_.".contains(c);
    let mut found = Vec::new();
    for (index, line) in text.lines().enumerate() {
        for (at, _) in line.match_indices("docs/") {
            // Part of a longer path or of an address.
            if line[..at].ends_with(|c: char| is_path(c) || c == ':') && !line[..at].ends_with("../") {
                continue;
            }
            let end = line[at..].find(|c: char| !is_path(c)).map_or(line.len(), |length| at + length);
            let path = line[at..end].trim_end_matches('.');
            if path.ends_with(".md") || path.ends_with(".txt") {
                found.push(Link { line: index + 1, target: path.to_owned() });
            }
        }
    }
    found
}

/// Whether `target`, as it stands in `file`, is a file or folder, and its anchor a heading there.
fn leads_somewhere(pages: &mut HashMap<PathBuf, Vec<String>>, file: &Path, target: &str) -> bool {
    let (path, anchor) = target.split_once('#').map_or((target, None), |(path, anchor)| (path, Some(anchor)));
    let page = match path {
        "" => Some(file.to_owned()),
        path => within_checkout(file, path),
    };
    let Some(page) = page else { return false };
    let place = checkout().join(&page);
    if !place.exists() {
        return false;
    }
    let Some(anchor) = anchor else { return true };
    let headings =
        pages.entry(page).or_insert_with(|| anchors(&std::fs::read_to_string(place).unwrap_or_default()));
    headings.iter().any(|heading| heading == anchor)
}

/// `path` as seen from the folder of `file`; `None` where it leaves the checkout.
pub(crate) fn within_checkout(file: &Path, path: &str) -> Option<PathBuf> {
    let mut place = file.parent().unwrap_or(Path::new("")).to_owned();
    for part in Path::new(path).components() {
        match part {
            Component::CurDir => {}
            Component::ParentDir => {
                if !place.pop() {
                    return None;
                }
            }
            Component::Normal(name) => place.push(name),
            Component::RootDir | Component::Prefix(_) => return None,
        }
    }
    Some(place)
}

/// The anchors of a page's headings, as GitHub makes them: lower case, without punctuation, blanks
/// as hyphens, and `-1`, `-2` behind those that are there already.
fn anchors(text: &str) -> Vec<String> {
    let mut anchors: Vec<String> = Vec::new();
    let mut fenced = false;
    for line in text.lines() {
        if line.trim_start().starts_with("```") {
            fenced = !fenced;
        }
        let title = line.trim_start_matches('#');
        if fenced || title.len() == line.len() || !title.starts_with(' ') {
            continue;
        }
        let slug: String = title
            .trim()
            .to_lowercase()
            .chars()
            .filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'))
            .map(|c| if c == ' ' { '-' } else { c })
            .collect();
        let again = anchors.iter().filter(|known| **known == slug).count();
        let mut name = slug.clone();
        if again > 0 {
            let mut number = again;
            while anchors.contains(&name) {
                name = format!("{slug}-{number}");
                number += 1;
            }
        }
        anchors.push(name);
    }
    anchors
}

#[cfg(test)]
mod tests {
    use super::*;

    fn targets(links: Vec<Link>) -> Vec<String> {
        links.into_iter().map(|link| link.target).collect()
    }

    #[test]
    fn links_in_code_and_to_other_sites_are_left_out() {
        let page = "[a](b.md) and [c](https://d) `[e](f.md)` [g](h.md#i)\n```\n[j](k.md)\n```\n[l](#m)\n";
        assert_eq!(targets(links(page)), ["b.md", "h.md#i", "#m"]);
    }

    #[test]
    fn mentions_of_documents_are_found_and_addresses_are_not() {
        let source = "// see `docs/a.md`, docs/b.md.\n// https://x/docs/c.md ../../docs/d.md docs/e\n";
        assert_eq!(targets(mentions(source)), ["docs/a.md", "docs/b.md", "docs/d.md"]);
    }

    #[test]
    fn tests_are_named_by_three_words_and_functions_are_found() {
        let page = "- `a_reader_stalls`, `put_bytes`\n  `src/a_b_c.rs` `CACHE_A_B`, `it_ends_2`\n";
        assert_eq!(targets(tests_named(page)), ["a_reader_stalls", "it_ends_2"]);
        let source = "    async fn a_reader_stalls() {}\npub fn other<T>(t: T) {}\n";
        assert_eq!(functions_of(source), ["a_reader_stalls", "other"]);
    }

    #[test]
    fn anchors_are_those_of_github() {
        let page = "# A title\n## `CACHE_DIR`, and more\n## A title\n```\n# no heading\n```\n#no-heading\n";
        assert_eq!(anchors(page), ["a-title", "cache_dir-and-more", "a-title-1"]);
    }

    #[test]
    fn a_missing_file_and_a_missing_heading_lead_nowhere() {
        let mut pages = HashMap::new();
        let readme = Path::new("README.md");
        assert!(leads_somewhere(&mut pages, readme, "docs/testing.md#testing"));
        assert!(leads_somewhere(&mut pages, Path::new("docs/testing.md"), "../README.md"));
        assert!(!leads_somewhere(&mut pages, readme, "docs/no-such-page.md"));
        assert!(!leads_somewhere(&mut pages, readme, "docs/testing.md#no-such-heading"));
        assert!(!leads_somewhere(&mut pages, readme, "../outside.md"));
    }
}
