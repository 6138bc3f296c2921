//! `cargo xtask book`: the pages of `docs/` as a book to read in a browser, by mdBook.

mod html;
mod source;

use std::path::{Path, PathBuf};

use crate::failure::Failure;
use crate::parts::Part;
use crate::run::{Run, checkout};
use crate::tools::Tools;

/// Builds the book into `target/book`, and fails where one of its links leads nowhere.
pub(crate) fn book(tools: &Tools) -> Result<(), Failure> {
    let mdbook = Part::Mdbook.prepare(tools).or_else(|failure| Part::Mdbook.substitute(failure))?;
    let book = checkout().join("target").join("book");
    let pages = build(&mdbook, &book)?;
    println!("{pages} pages in {}", book.join("index.html").display());
    Ok(())
}

/// Builds it into `book`, which is replaced; how many pages it has.
fn build(mdbook: &Path, book: &Path) -> Result<usize, Failure> {
    // Beside it: mdBook copies what lies among the sources.
    let staged = book.with_extension("source");
    for dir in [book, &staged] {
        remove(dir)?;
    }
    source::stage(&staged)?;
    Run::new(mdbook, "correct docs/SUMMARY.md or docs/book.toml, as mdbook says above")
        .args(["build", "--dest-dir"])
        .args([book, &staged])
        .succeed()?;
    remove(&staged)?;
    html::check(book)
}

fn remove(dir: &Path) -> Result<(), Failure> {
    match std::fs::remove_dir_all(dir) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(unusable(dir, &error)),
        _ => Ok(()),
    }
}

fn unusable(path: &Path, error: &std::io::Error) -> Failure {
    Failure::new(format!("{} cannot be used: {error}", path.display()), "remove target/book")
}

/// The files of `dir` and below, in order.
fn files(dir: &Path) -> Result<Vec<PathBuf>, Failure> {
    let mut found = Vec::new();
    let mut open = vec![dir.to_owned()];
    while let Some(dir) = open.pop() {
        let entries = std::fs::read_dir(&dir).map_err(|error| unusable(&dir, &error))?;
        for entry in entries {
            let path = entry.map_err(|error| unusable(&dir, &error))?.path();
            if path.is_dir() { open.push(path) } else { found.push(path) }
        }
    }
    found.sort();
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::missing::missing;

    #[test]
    fn book_of_the_documents_is_built_and_has_every_page() {
        let named = std::env::var_os("PEERCACHE_TEST_MDBOOK").filter(|path| !path.is_empty());
        let Some(mdbook) = named else {
            missing("PEERCACHE_TEST_MDBOOK is not set", Part::Mdbook.install_line());
            return;
        };
        let dir = tempfile::tempdir().unwrap();
        let book = dir.path().join("book");
        let pages = build(Path::new(&mdbook), &book).unwrap();
        assert!(pages > 40, "{pages}");
        let start = std::fs::read_to_string(book.join("index.html")).unwrap();
        assert!(start.contains("how-to/install.html") && start.contains("how-to/deploy/index.html"));
        // Searching is part of it.
        assert!(files(&book).unwrap().iter().any(|file| file.to_string_lossy().contains("searchindex")));
    }
}
