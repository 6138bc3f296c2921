//! `docs/SUMMARY.md`, from which the book is made, lists every page of `docs/` once.

use std::collections::BTreeMap;
use std::path::Path;

use super::links::{links, within_checkout};
use crate::failure::Failure;
use crate::run::{Run, checkout};

const SUMMARY: &str = "docs/SUMMARY.md";

/// Compares the list with the pages that git knows.
pub(crate) fn check() -> Result<(), Failure> {
    let listed = Run::new("git", "install git").args(["ls-files", "--", "docs/*.md"]).read()?;
    let summary = std::fs::read_to_string(checkout().join(SUMMARY))
        .map_err(|error| Failure::new(format!("{SUMMARY} cannot be read: {error}"), "restore it"))?;
    compare(&summary, listed.lines())
}

fn compare<'p>(summary: &str, pages: impl Iterator<Item = &'p str>) -> Result<(), Failure> {
    let mut times: BTreeMap<&str, u32> =
        pages.filter(|page| *page != SUMMARY).map(|page| (page, 0)).collect();
    for link in links(summary) {
        let place = within_checkout(Path::new(SUMMARY), &link.target).unwrap_or_default();
        match place.to_str().and_then(|place| times.get_mut(place)) {
            Some(times) => *times += 1,
            None => println!("{SUMMARY}:{}: {} is no page that git knows", link.line, link.target),
        }
    }
    let list = |wrong: &dyn Fn(u32) -> bool| {
        times.iter().filter(|(_, times)| wrong(**times)).map(|(page, _)| *page).collect::<Vec<_>>().join(", ")
    };
    let (missing, repeated) = (list(&|times| times == 0), list(&|times| times > 1));
    if !missing.is_empty() {
        return Err(Failure::new(format!("{SUMMARY} does not list {missing}"), "add a line for each"));
    }
    if !repeated.is_empty() {
        return Err(Failure::new(
            format!("{SUMMARY} lists {repeated} more than once"),
            "leave one line for each",
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_page_of_this_checkout_is_in_the_book() {
        assert_eq!(check(), Ok(()));
    }

    #[test]
    fn page_that_is_missing_or_repeated_is_named() {
        let pages = ["docs/a.md", "docs/b/c.md", SUMMARY];
        let message = |summary| compare(summary, pages.into_iter()).unwrap_err().to_string();
        assert_eq!(compare("[a](a.md)\n- [c](b/c.md)\n", pages.into_iter()), Ok(()));
        assert!(message("[a](a.md)\n").starts_with("docs/SUMMARY.md does not list docs/b/c.md;"));
        assert!(message("[a](a.md)[c](b/c.md)[a](a.md)\n").contains("lists docs/a.md more than once;"));
    }
}
