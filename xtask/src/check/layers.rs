//! Which way imports point: no circle between files or folders of a crate, and no crate that knows
//! one above it.
//!
//! Read from the text of the sources: `use` trees, and paths that begin with `crate`, `super` or
//! the name of a module declared in the same file. A `pub use` passes on what a child has and
//! counts as no import; neither do tests.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use crate::failure::Failure;
use crate::run::checkout;

/// What each crate may know, from the bottom up.
const CRATES: [(&str, &[&str]); 15] = [
    ("crates/cache-api", &[]),
    ("crates/cache-blob", &["peercache-api"]),
    ("crates/cache-chain", &["peercache-api"]),
    ("crates/cache-seal", &["peercache-api"]),
    ("crates/cache-testkit", &["peercache-api"]),
    ("crates/fakehub", &["peercache-api"]),
    ("crates/backend-local", &["peercache-api"]),
    ("crates/backend-libp2p", &["peercache-api"]),
    ("crates/backend-ipfs", &["peercache-api", "peercache-blob"]),
    ("crates/backend-storacha", &["peercache-api", "peercache-blob"]),
    ("crates/backend-s3", &["peercache-api", "peercache-blob"]),
    ("crates/backend-redis", &["peercache-api", "peercache-blob"]),
    (
        ".",
        &[
            "peercache-api",
            "peercache-blob",
            "peercache-chain",
            "peercache-ipfs",
            "peercache-libp2p",
            "peercache-local",
            "peercache-redis",
            "peercache-s3",
            "peercache-seal",
            "peercache-storacha",
        ],
    ),
    ("crates/github-cache", &["peercache"]),
    ("crates/peercache-cli", &["peercache", "peercache-fakehub", "peercache-github"]),
];

/// Circles that are known, each line a circle and why it stays. The list may only shrink.
const ALLOWED: &str = include_str!("layers-allowed.txt");

/// Checks every crate that is there; lists every finding before it fails.
pub(crate) fn check() -> Result<(), Failure> {
    let allowed: BTreeSet<&str> = ALLOWED
        .lines()
        .filter(|line| !line.trim().is_empty() && !line.starts_with('#'))
        .map(|line| line.split(" # ").next().unwrap_or(line).trim())
        .collect();
    let mut found = BTreeSet::new();
    let mut upwards = Vec::new();
    for (folder, may_know) in CRATES {
        let folder = Path::new(folder);
        let manifest = checkout().join(folder).join("Cargo.toml");
        let Ok(manifest) = fs::read_to_string(manifest) else { continue };
        upwards.extend(
            own_dependencies(&manifest)
                .filter(|name| !may_know.contains(name))
                .map(|name| format!("{} depends on {name}", folder.display())),
        );
        let sources = Sources::read(folder).map_err(|error| {
            Failure::new(format!("{} cannot be read: {error}", folder.display()), "check the checkout")
        })?;
        found.extend(sources.circles());
    }
    let unknown: Vec<_> = found.iter().filter(|circle| !allowed.contains(circle.as_str())).collect();
    let gone: Vec<_> = allowed.iter().filter(|circle| !found.contains(**circle)).collect();
    for circle in &unknown {
        println!("a circle of imports: {circle}");
    }
    for arrow in &upwards {
        println!("an arrow upwards: {arrow}");
    }
    for circle in &gone {
        println!("no circle any more, take the line out of layers-allowed.txt: {circle}");
    }
    if unknown.is_empty() && upwards.is_empty() && gone.is_empty() {
        return Ok(());
    }
    Err(Failure::new(
        format!("{} circles, {} arrows upwards, {} stale lines", unknown.len(), upwards.len(), gone.len()),
        "move what both sides need below them, or split the file",
    ))
}

/// Our crates under `[dependencies]` of a manifest.
fn own_dependencies(manifest: &str) -> impl Iterator<Item = &str> {
    let mut inside = false;
    manifest.lines().filter_map(move |line| {
        if line.starts_with('[') {
            inside = line.trim() == "[dependencies]";
            return None;
        }
        let name = line.split(['.', '=', ' ']).next()?;
        (inside && (name == "peercache" || name.starts_with("peercache-"))).then_some(name)
    })
}

/// The files of a crate, by the path of their module, and whom each imports.
#[derive(Debug, Default)]
struct Sources {
    /// By module path (`["read", "scan"]`): the file below the checkout.
    files: BTreeMap<Vec<String>, String>,
    imports: BTreeMap<String, BTreeSet<String>>,
}

impl Sources {
    fn read(folder: &Path) -> std::io::Result<Self> {
        let mut texts = BTreeMap::new();
        collect(&checkout(), &folder.join("src"), &mut texts)?;
        Ok(Self::of(&texts))
    }

    /// From texts by file name, each with `src/` in it.
    fn of(texts: &BTreeMap<String, String>) -> Self {
        let mut sources = Self::default();
        for file in texts.keys() {
            sources.files.insert(module_of(file), file.clone());
        }
        for (file, text) in texts {
            let module = module_of(file);
            let code = code_of(text);
            let imports = imports_of(&code, &module, &sources.files);
            let targets = imports.iter().filter_map(|path| sources.file_of(path)).filter(|to| to != file);
            sources.imports.insert(file.clone(), targets.collect());
        }
        sources
    }

    /// The file of the longest part of `path` that is a module.
    fn file_of(&self, path: &[String]) -> Option<String> {
        (0..=path.len()).rev().find_map(|length| self.files.get(&path[..length]).cloned())
    }

    /// Every circle of files, and every circle of folders that no circle of files explains.
    fn circles(&self) -> BTreeSet<String> {
        let mut circles: BTreeSet<String> =
            components(&self.imports).into_iter().map(|files| files.join(" <-> ")).collect();
        let folders: BTreeSet<&str> = self.files.values().filter_map(|file| parent(file)).collect();
        for folder in folders {
            let mut graph: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
            for (from, targets) in &self.imports {
                for to in targets {
                    if let (Some(from), Some(to)) = (child_of(folder, from), child_of(folder, to))
                        && from != to
                    {
                        graph.entry(from).or_default().insert(to);
                    }
                }
            }
            let of_folders = components(&graph).into_iter().filter(|names| {
                names.iter().any(|name| self.files.values().any(|file| file.starts_with(&format!("{name}/"))))
            });
            circles.extend(of_folders.map(|names| names.join(" <-> ")));
        }
        circles
    }
}

/// The folder of a file.
fn parent(file: &str) -> Option<&str> {
    file.rsplit_once('/').map(|(folder, _)| folder)
}

/// The file or folder in `folder` that holds `file`; `x.rs` and `x/` are one.
fn child_of(folder: &str, file: &str) -> Option<String> {
    let rest = file.strip_prefix(folder)?.strip_prefix('/')?;
    let name = rest.split('/').next()?;
    Some(format!("{folder}/{}", name.strip_suffix(".rs").unwrap_or(name)))
}

fn collect(root: &Path, folder: &Path, texts: &mut BTreeMap<String, String>) -> std::io::Result<()> {
    for entry in fs::read_dir(root.join(folder))? {
        let entry = entry?;
        let path = folder.join(entry.file_name());
        let name = entry.file_name().to_string_lossy().into_owned();
        if entry.file_type()?.is_dir() {
            if name != "tests" && name != "bin" {
                collect(root, &path, texts)?;
            }
        } else if name.ends_with(".rs") && name != "tests.rs" && name != "fuzzing.rs" {
            let shown = path.to_string_lossy().trim_start_matches("./").to_owned();
            texts.insert(shown, fs::read_to_string(root.join(&path))?);
        }
    }
    Ok(())
}

/// `crates/x/src/read/scan.rs` is the module `read::scan`.
fn module_of(file: &str) -> Vec<String> {
    let inside = file.rsplit_once("src/").map_or(file, |(_, inside)| inside);
    let mut parts: Vec<String> = inside.trim_end_matches(".rs").split('/').map(str::to_owned).collect();
    if parts.last().is_some_and(|last| ["mod", "lib", "main"].contains(&last.as_str())) {
        parts.pop();
    }
    parts
}

/// The code without comments, texts, and what is for tests alone.
fn code_of(text: &str) -> String {
    let mut code = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        if rest.starts_with("//") {
            rest = rest.find('\n').map_or("", |end| &rest[end..]);
        } else if rest.starts_with("/*") {
            rest = rest.find("*/").map_or("", |end| &rest[end + 2..]);
        } else if first == '"' {
            let mut escaped = false;
            let end = rest[1..].find(|c| {
                let ends = c == '"' && !escaped;
                escaped = c == '\\' && !escaped;
                ends
            });
            rest = end.map_or("", |end| &rest[end + 2..]);
        } else if let Some(raw) = raw_string(rest) {
            rest = raw;
        } else {
            code.push(first);
            rest = &rest[first.len_utf8()..];
        }
    }
    without_tests(&code)
}

/// What follows a raw string that `text` begins with.
fn raw_string(text: &str) -> Option<&str> {
    let hashes = text.strip_prefix('r')?;
    let count = hashes.len() - hashes.trim_start_matches('#').len();
    let body = hashes[count..].strip_prefix('"')?;
    let end = format!("\"{}", "#".repeat(count));
    Some(body.find(&end).map_or("", |at| &body[at + end.len()..]))
}

/// Drops each item behind `#[cfg(test)]`, `#[cfg(fuzzing)]` and their like.
fn without_tests(code: &str) -> String {
    let mut kept = String::new();
    let mut rest = code;
    while let Some(at) = ["#[cfg(test)]", "#[cfg(fuzzing)]", "#[cfg(any(test", "#[cfg(all(test"]
        .iter()
        .filter_map(|marker| rest.find(marker))
        .min()
    {
        kept.push_str(&rest[..at]);
        let item = &rest[at..];
        let (mut depth, mut end) = (0_usize, item.len());
        for (index, c) in item.char_indices() {
            match c {
                '{' => depth += 1,
                '}' if depth <= 1 => {
                    end = index + 1;
                    break;
                }
                '}' => depth -= 1,
                ';' if depth == 0 => {
                    end = index + 1;
                    break;
                }
                _ => {}
            }
        }
        rest = &item[end..];
    }
    kept.push_str(rest);
    kept
}

/// The paths from the root of the crate that the code of `module` names.
fn imports_of(code: &str, module: &[String], files: &BTreeMap<Vec<String>, String>) -> Vec<Vec<String>> {
    let mut found = Vec::new();
    let bytes = code.as_bytes();
    let mut at = 0;
    while at < code.len() {
        let rest = &code[at..];
        let before = at.checked_sub(1).map(|before| bytes[before]);
        let starts =
            !before.is_some_and(|c| c.is_ascii_alphanumeric() || c == b'_' || c == b':' || c == b'$');
        let length = rest.bytes().take_while(|c| c.is_ascii_alphanumeric() || *c == b'_').count();
        if !starts || length == 0 {
            at += rest.chars().next().map_or(1, char::len_utf8);
            continue;
        }
        let word = &rest[..length];
        let child = [module, &[word.to_owned()]].concat();
        let base = match word {
            "crate" => Some(Vec::new()),
            "super" => Some(module[..module.len().saturating_sub(1)].to_vec()),
            "self" => Some(module.to_vec()),
            _ if files.contains_key(&child) => Some(child),
            _ => None,
        };
        if let Some(base) = base
            && rest[length..].starts_with("::")
            && !is_reexport(&code[..at])
        {
            tree(&rest[length + 2..], base, &mut found);
        }
        at += length;
    }
    found
}

/// Whether the code before a path ends in `pub use` or `pub(…) use`.
fn is_reexport(before: &str) -> bool {
    let statement = before.rsplit([';', '}']).next().unwrap_or_default();
    let statement = statement.trim_start();
    let statement = statement.rsplit_once(']').map_or(statement, |(_, item)| item.trim_start());
    statement.starts_with("pub") && statement.contains("use ")
}

/// Follows a path or a tree of `use` from `base` on.
fn tree(text: &str, mut base: Vec<String>, found: &mut Vec<Vec<String>>) {
    let mut rest = text;
    loop {
        if let Some(group) = rest.strip_prefix('{') {
            let mut depth = 0_usize;
            let mut begin = 0;
            for (index, c) in group.char_indices() {
                match c {
                    '{' => depth += 1,
                    '}' if depth == 0 => {
                        tree(group[begin..index].trim(), base.clone(), found);
                        return;
                    }
                    '}' => depth -= 1,
                    ',' if depth == 0 => {
                        tree(group[begin..index].trim(), base.clone(), found);
                        begin = index + 1;
                    }
                    _ => {}
                }
            }
            return;
        }
        let length = rest.bytes().take_while(|c| c.is_ascii_alphanumeric() || *c == b'_').count();
        match &rest[..length] {
            "" => break,
            "super" => drop(base.pop()),
            "self" => {}
            name => base.push(name.to_owned()),
        }
        match rest[length..].strip_prefix("::") {
            Some(further) => rest = further,
            None => break,
        }
    }
    found.push(base);
}

/// The strongly connected parts of more than one node, each in order: whoever reaches each other.
fn components(graph: &BTreeMap<String, BTreeSet<String>>) -> Vec<Vec<String>> {
    let reach = |from: &str| {
        let mut seen = BTreeSet::new();
        let mut open = vec![from.to_owned()];
        while let Some(node) = open.pop() {
            for next in graph.get(&node).into_iter().flatten() {
                if seen.insert(next.clone()) {
                    open.push(next.clone());
                }
            }
        }
        seen
    };
    let reached: BTreeMap<&String, BTreeSet<String>> = graph.keys().map(|node| (node, reach(node))).collect();
    let mut done = BTreeSet::new();
    let mut parts = Vec::new();
    for (node, seen) in &reached {
        if !seen.contains(*node) || !done.insert((*node).clone()) {
            continue;
        }
        let mut part = vec![(*node).clone()];
        for other in seen.iter().filter(|other| other != node) {
            if reached.get(other).is_some_and(|back| back.contains(*node)) {
                done.insert(other.clone());
                part.push(other.clone());
            }
        }
        part.sort();
        if part.len() > 1 {
            parts.push(part);
        }
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    fn circles(files: &[(&str, &str)]) -> Vec<String> {
        let texts = files.iter().map(|(name, text)| (format!("src/{name}"), (*text).to_owned())).collect();
        Sources::of(&texts).circles().into_iter().collect()
    }

    #[test]
    fn a_planted_circle_of_files_is_found_and_a_line_is_none() {
        let line = [
            ("lib.rs", "mod a; mod b; pub use a::A; pub use b::B;"),
            ("a.rs", "use crate::b::B; pub struct A;"),
            ("b.rs", "pub struct B;"),
        ];
        assert!(circles(&line).is_empty());
        let planted = [line[0], line[1], ("b.rs", "use crate::{a::{A}, x}; pub struct B;")];
        assert_eq!(circles(&planted), ["src/a.rs <-> src/b.rs"]);
        let by_path = [line[0], line[1], ("b.rs", "pub fn b() { super::a::f() }")];
        assert_eq!(circles(&by_path), ["src/a.rs <-> src/b.rs"]);
    }

    #[test]
    fn a_parent_and_its_child_make_a_circle_unless_the_parent_only_passes_on() {
        let child = ("a/c.rs", "use super::Shared;");
        let passes_on = ("a/mod.rs", "mod c; pub(crate) use c::C; pub struct Shared;");
        assert!(circles(&[("lib.rs", "mod a;"), passes_on, child]).is_empty());
        let uses = ("a/mod.rs", "mod c; use c::C; pub struct Shared;");
        assert_eq!(circles(&[("lib.rs", "mod a;"), uses, child]), ["src/a/c.rs <-> src/a/mod.rs"]);
    }

    #[test]
    fn a_circle_of_folders_is_found_where_no_file_is_in_one() {
        let files = [
            ("lib.rs", "mod read; mod write;"),
            ("read/mod.rs", "mod one; mod two;"),
            ("read/one.rs", "use crate::write::one::A;"),
            ("read/two.rs", "pub struct B;"),
            ("write/mod.rs", "pub mod one; pub mod two;"),
            ("write/one.rs", "pub struct A;"),
            ("write/two.rs", "use crate::read::two::B;"),
        ];
        assert_eq!(circles(&files), ["src/read <-> src/write"]);
    }

    #[test]
    fn comments_texts_and_tests_import_nothing() {
        let files = [
            ("lib.rs", "mod a; mod b;"),
            ("a.rs", "use crate::b::B;"),
            (
                "b.rs",
                "// use crate::a::A;\nconst T: &str = \"crate::a::A\"; const R: &str = r#\"crate::a\"#;\n\
                 #[cfg(test)] mod tests { use crate::a::A; }",
            ),
        ];
        assert!(circles(&files).is_empty());
    }

    #[test]
    fn dependencies_are_read_from_their_own_table() {
        let manifest = "[package]\nname = \"peercache-x\"\n[dependencies]\npeercache-api.workspace = true\n\
                        peercache-chain = { path = \"..\" }\nserde = \"1\"\n[dev-dependencies]\npeercache-testkit = \"1\"";
        assert_eq!(own_dependencies(manifest).collect::<Vec<_>>(), ["peercache-api", "peercache-chain"]);
    }
}
