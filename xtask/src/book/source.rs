//! The pages as mdBook wants them: links that leave `docs/` lead to the repository.

use std::path::Path;

use crate::check::{link_in_page, within_checkout};
use crate::failure::Failure;
use crate::run::{Run, checkout};

/// The folder of the pages.
const DOCS: &str = "docs";
/// The list of the pages.
const SUMMARY: &str = "docs/SUMMARY.md";
/// Where files that are not in the book can be read.
const REPOSITORY: &str = concat!(env!("CARGO_PKG_REPOSITORY"), "/blob/main");

/// Copies what git knows of `docs/` to `dir`.
pub(crate) fn stage(dir: &Path) -> Result<(), Failure> {
    let listed = Run::new("git", "install git").args(["ls-files", "--", DOCS]).read()?;
    for file in listed.lines().map(Path::new) {
        let failed = |error: std::io::Error| {
            Failure::new(format!("{} cannot be copied: {error}", file.display()), "restore it with git")
        };
        let mut bytes = std::fs::read(checkout().join(file)).map_err(failed)?;
        // The list itself names files, not pages of the book.
        if file.extension().is_some_and(|extension| extension == "md") && file != Path::new(SUMMARY) {
            bytes = rewrite(file, &String::from_utf8_lossy(&bytes)).into_bytes();
        }
        let copy = dir.join(file.strip_prefix(DOCS).unwrap_or(file));
        let parent = copy.parent().unwrap_or(dir);
        std::fs::create_dir_all(parent).and_then(|()| std::fs::write(&copy, bytes)).map_err(failed)?;
    }
    Ok(())
}

/// The text of the page `file` with other targets where they need it.
fn rewrite(file: &Path, text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, target, after)) = link_in_page(rest) {
        out.push_str(before);
        out.push_str(&new_target(file, target).unwrap_or_else(|| target.to_owned()));
        rest = after;
    }
    out.push_str(rest);
    out
}

/// What `target` becomes, if it has to change.
fn new_target(file: &Path, target: &str) -> Option<String> {
    let (path, anchor) = target.split_at(target.find('#').unwrap_or(target.len()));
    if path.is_empty() || target.contains("://") {
        return None;
    }
    let place = within_checkout(file, path)?;
    if !place.starts_with(DOCS) {
        // Only what is there: code that looks like a link is none.
        return checkout().join(&place).exists().then(|| format!("{REPOSITORY}/{}{anchor}", shown(&place)));
    }
    // mdBook makes `index.html` of it, and leaves the links to it as they were.
    let folder = path.strip_suffix("README.md")?;
    Some(format!("{folder}index.html{anchor}"))
}

fn shown(path: &Path) -> String {
    path.iter().map(|part| part.to_string_lossy()).collect::<Vec<_>>().join("/")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_out_of_the_book_lead_to_the_repository() {
        let rewritten = rewrite(
            Path::new("docs/how-to/install.md"),
            "[a](../testing.md#parts) [b](../../CONTRIBUTING.md#rules) [c](https://x/docs) [d](#here)\n\
             [e](deploy/README.md#one) [f](../README.md), `[g](../../no-such-file)`.\n",
        );
        assert_eq!(
            rewritten,
            format!(
                "[a](../testing.md#parts) [b]({REPOSITORY}/CONTRIBUTING.md#rules) [c](https://x/docs) [d](#here)\n\
                 [e](deploy/index.html#one) [f](../index.html), `[g](../../no-such-file)`.\n"
            )
        );
    }
}
