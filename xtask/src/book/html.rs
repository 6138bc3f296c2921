//! Whether the links of the finished book lead to its pages and headings.

use std::collections::HashMap;
use std::path::{Component, Path, PathBuf};

use super::files;
use crate::failure::Failure;

/// Pages that mdBook makes for its own use. Their links are relative to another page.
const OWN: [&str; 3] = ["404.html", "print.html", "toc.html"];

/// Checks every link between the pages of `book`; how many pages there are.
pub(crate) fn check(book: &Path) -> Result<usize, Failure> {
    let mut pages = HashMap::new();
    for file in files(book)? {
        let text = match file.extension() {
            Some(extension) if extension == "html" => std::fs::read_to_string(&file).map_err(|error| {
                Failure::new(format!("{}: {error}", file.display()), "remove target/book")
            })?,
            _ => String::new(),
        };
        pages.insert(file.strip_prefix(book).unwrap_or(&file).to_owned(), text);
    }
    let (mut count, mut broken) = (0, 0);
    for (file, text) in &pages {
        if text.is_empty() || OWN.iter().any(|own| file == Path::new(own)) {
            continue;
        }
        count += 1;
        for link in values(text, "href=\"").filter(|link| !leads_somewhere(&pages, file, link)) {
            broken += 1;
            println!("{}: {link} leads nowhere", file.display());
        }
    }
    if broken == 0 {
        return Ok(count);
    }
    Err(Failure::new(format!("{broken} links of the book lead nowhere"), "correct the links listed above"))
}

/// The values of an attribute, which mdBook puts in double quotes.
fn values<'t>(text: &'t str, attribute: &'t str) -> impl Iterator<Item = &'t str> {
    text.split(attribute).skip(1).filter_map(|rest| Some(rest.split_once('"')?.0))
}

fn leads_somewhere(pages: &HashMap<PathBuf, String>, file: &Path, link: &str) -> bool {
    if link.contains("://") || link.starts_with("mailto:") {
        return true;
    }
    let (path, anchor) = link.split_once('#').unwrap_or((link, ""));
    let place = if path.is_empty() { file.to_owned() } else { beside(file, path) };
    match pages.get(&place) {
        Some(_) if anchor.is_empty() => true,
        Some(text) => values(text, "id=\"").any(|id| id == anchor),
        None => false,
    }
}

fn beside(file: &Path, path: &str) -> PathBuf {
    let mut place = file.parent().unwrap_or(Path::new("")).to_owned();
    for part in Path::new(path).components() {
        match part {
            Component::ParentDir => {
                place.pop();
            }
            Component::CurDir => {}
            part => place.push(part),
        }
    }
    place
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn missing_pages_and_headings_are_broken_and_others_are_not() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("a")).unwrap();
        let write = |name: &str, text: &str| std::fs::write(dir.path().join(name), text).unwrap();
        write("index.html", r##"<a href="a/b.html#one">x</a> <a href="https://x/y">y</a>"##);
        write("a/b.html", r##"<h1 id="one"></h1><a href="../index.html"></a><a href="#one"></a>"##);
        write("404.html", r#"<a href="no-such.html">"#);
        assert_eq!(check(dir.path()), Ok(2));
        write("index.html", r#"<a href="a/c.html">x</a> <a href="a/b.html#two">y</a>"#);
        let message = check(dir.path()).unwrap_err().to_string();
        assert!(message.starts_with("2 links of the book lead nowhere"), "{message}");
    }
}
