//! The public names of the facade: what `src/lib.rs` exports, held to a committed list.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;

use crate::failure::Failure;

/// Where the names are exported.
const SOURCE: &str = "src/lib.rs";
/// The list that they are held to.
const LIST: &str = "docs/reference/api.txt";
/// The most names at the root, modules included: what a reader of the first page of the
/// documentation sees.
const MOST_AT_ROOT: usize = 40;
/// When it is set, the list is written instead of compared.
const UPDATE: &str = "UPDATE_API";

/// Names by module; the root is the empty one.
type Names = BTreeMap<String, BTreeSet<String>>;

/// Prints the names, counts those at the root, and compares all with the committed list.
pub(crate) fn check() -> Result<(), Failure> {
    let read = |path: &str| {
        fs::read_to_string(path).map_err(|error| {
            Failure::new(format!("{path} cannot be read: {error}"), "run it in the repository")
        })
    };
    let names = exported(&read(SOURCE)?, &|module| read(&format!("src/{module}/mod.rs")))?;
    let list = listed(&names);
    print!("{list}");
    let root = names.get("").map_or(0, BTreeSet::len);
    if root > MOST_AT_ROOT {
        return Err(Failure::new(
            format!("{root} names are at the root of peercache, the most is {MOST_AT_ROOT}"),
            format!("export some of them from a module in {SOURCE}"),
        ));
    }
    if std::env::var_os(UPDATE).is_some() {
        return fs::write(LIST, list)
            .map_err(|error| Failure::new(format!("{LIST} cannot be written: {error}"), "mend its place"));
    }
    let committed = read(LIST)?;
    if committed == list {
        return Ok(());
    }
    let lines = |text: &str| text.lines().map(str::to_owned).collect::<BTreeSet<_>>();
    let (now, before) = (lines(&list), lines(&committed));
    let mut what = format!("the public names are not those of {LIST}");
    for line in now.difference(&before) {
        let _ = write!(what, "\n  new:  {}", line.trim());
    }
    for line in before.difference(&now) {
        let _ = write!(what, "\n  gone: {}", line.trim());
    }
    Err(Failure::new(
        what,
        format!("if that is meant, run `{UPDATE}=1 cargo xtask check api` and commit the list"),
    ))
}

/// The list as it is committed: a line for each name, with its whole path.
fn listed(names: &Names) -> String {
    let mut list = String::from(
        "# The public names of peercache with every feature; `cargo xtask check api` compares.\n",
    );
    for (module, names) in names {
        for name in names {
            let path = if module.is_empty() { String::new() } else { format!("{module}::") };
            // Writing to a String cannot fail.
            let _ = writeln!(list, "peercache::{path}{name}");
        }
    }
    list
}

/// The names that `source` exports; `file` gives the source of a module that has a file of its own.
fn exported(source: &str, file: &dyn Fn(&str) -> Result<String, Failure>) -> Result<Names, Failure> {
    let mut names = Names::new();
    collect(&tokens(source), "", &mut names, file)?;
    Ok(names)
}

fn collect(
    tokens: &[String],
    module: &str,
    names: &mut Names,
    file: &dyn Fn(&str) -> Result<String, Failure>,
) -> Result<(), Failure> {
    let mut at = 0;
    let mut hidden = false;
    while at < tokens.len() {
        let word = |ahead: usize| tokens.get(at + ahead).map_or("", String::as_str);
        match (word(0), word(1)) {
            ("#", _) => {
                let end = closing(tokens, at + usize::from(word(1) == "!") + 1);
                hidden |= tokens[at..end].iter().any(|token| token == "hidden");
                at = end;
                continue;
            }
            ("pub", "use") => {
                let end = (at..tokens.len()).find(|end| tokens[*end] == ";").unwrap_or(tokens.len());
                if !hidden {
                    names.entry(module.to_owned()).or_default().extend(used(&tokens[at + 2..end]));
                }
                at = end + 1;
            }
            ("pub", "mod") => {
                let name = word(2).to_owned();
                let own_file = word(3) == ";";
                let end = if own_file { at + 4 } else { closing(tokens, at + 3) };
                if !hidden {
                    names.entry(module.to_owned()).or_default().insert(name.clone());
                    let path = if module.is_empty() { name.clone() } else { format!("{module}::{name}") };
                    if own_file {
                        let source = file(&name)?;
                        collect(&self::tokens(&source), &path, names, file)?;
                    } else {
                        collect(&tokens[at + 4..end - 1], &path, names, file)?;
                    }
                }
                at = end;
            }
            ("pub", "const" | "static" | "struct" | "enum" | "trait" | "fn" | "type") => {
                if !hidden {
                    names.entry(module.to_owned()).or_default().insert(word(2).to_owned());
                }
                at = body_end(tokens, at);
            }
            _ => at = body_end(tokens, at),
        }
        hidden = false;
    }
    Ok(())
}

/// The end of the item that begins at `at`: after its `;` or its closing brace.
fn body_end(tokens: &[String], at: usize) -> usize {
    let mut at = at;
    while at < tokens.len() {
        match tokens[at].as_str() {
            ";" => return at + 1,
            "{" => return closing(tokens, at),
            "(" | "[" => at = closing(tokens, at),
            _ => at += 1,
        }
    }
    at
}

/// The place after the bracket that closes the one at `at`.
fn closing(tokens: &[String], at: usize) -> usize {
    let mut depth = 0_usize;
    for (place, token) in tokens.iter().enumerate().skip(at) {
        match token.as_str() {
            "{" | "[" | "(" => depth += 1,
            "}" | "]" | ")" => depth = depth.saturating_sub(1),
            _ => continue,
        }
        if depth == 0 {
            return place + 1;
        }
    }
    tokens.len()
}

/// The names that the tree of a `use` brings.
fn used(tree: &[String]) -> Vec<String> {
    let mut names = Vec::new();
    let mut last = String::new();
    for token in tree {
        match token.as_str() {
            "{" => last.clear(),
            "," | "}" => names.extend((!last.is_empty()).then(|| std::mem::take(&mut last))),
            ":" | "as" => {}
            word => last = word.to_owned(),
        }
    }
    names.extend((!last.is_empty()).then_some(last));
    names
}

/// The words and signs of `source`, without comments and the contents of texts.
fn tokens(source: &str) -> Vec<String> {
    let mut tokens: Vec<String> = Vec::new();
    let mut in_word = false;
    for line in source.lines() {
        let code = line.split_once("//").map_or(line, |(code, _)| code);
        let mut in_text = false;
        for c in code.chars() {
            if c == '"' {
                in_text = !in_text;
            }
            let is_word = !in_text && (c.is_alphanumeric() || c == '_');
            match (is_word, in_word, tokens.last_mut()) {
                (true, true, Some(word)) => word.push(c),
                _ if !in_text && c != '"' && !c.is_whitespace() => tokens.push(c.to_string()),
                _ => {}
            }
            in_word = is_word;
        }
        in_word = false;
    }
    tokens
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(source: &str) -> Vec<String> {
        let file = |_: &str| Ok("pub use self::inner::Setting;\nmod inner;".to_owned());
        listed(&exported(source, &file).unwrap()).lines().skip(1).map(str::to_owned).collect()
    }

    #[test]
    fn exports_of_every_form_are_found() {
        let source = r#"
            #![doc = include_str!("README.md { ")]
            mod cache; // pub use none::Of;
            #[cfg(feature = "x")]
            pub use cache::{Cache, inner::{One, Two as Three}};
            pub use api as plain;
            #[doc(hidden)]
            pub use cache::fuzzing;
            /// pub use not::This;
            pub mod chain {
                //! What a chain is.
                pub use c::{Chain, Lookup};
            }
            pub mod config;
            pub const MOST: usize = [1, 2][0];
            fn private() { if true {} }
        "#;
        assert_eq!(
            names(source),
            [
                "peercache::Cache",
                "peercache::MOST",
                "peercache::One",
                "peercache::Three",
                "peercache::chain",
                "peercache::config",
                "peercache::plain",
                "peercache::chain::Chain",
                "peercache::chain::Lookup",
                "peercache::config::Setting",
            ]
        );
    }

    #[test]
    fn the_facade_is_within_its_bound() {
        let root = concat!(env!("CARGO_MANIFEST_DIR"), "/../");
        let read = |path: String| fs::read_to_string(path).unwrap();
        let file = |module: &str| Ok(read(format!("{root}src/{module}/mod.rs")));
        let names = exported(&read(format!("{root}{SOURCE}")), &file).unwrap();
        let at_root = &names[""];
        assert!(at_root.contains("Cache") && at_root.len() <= MOST_AT_ROOT, "{}", at_root.len());
    }
}
