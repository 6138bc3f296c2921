//! What goes into every package beside the binary: licences, manual pages, completions.

use std::path::Path;
use std::sync::Arc;

use super::files::Files;
use super::program::Program;
use crate::failure::Failure;
use crate::run::checkout;

/// Where each shell looks for completions, below a prefix such as `/usr/local`.
const COMPLETIONS: [(&str, &str); 3] = [
    ("bash", "share/bash-completion/completions/peercache"),
    ("fish", "share/fish/vendor_completions.d/peercache.fish"),
    ("zsh", "share/zsh/site-functions/_peercache"),
];
/// Our licences, by their names in the checkout and in packages.
const LICENCES: [&str; 2] = ["LICENSE-APACHE", "LICENSE-MIT"];
/// What a reader of a package sees first.
const README: &str = "deploy/packages/README.md";

/// A file name and what is in it.
type Named<N> = (N, Arc<[u8]>);

/// The documents, read and made once for all packages.
#[derive(Debug)]
pub(crate) struct Documents {
    pub(crate) readme: Arc<[u8]>,
    /// By their names in [`LICENCES`].
    pub(crate) licences: Vec<Named<&'static str>>,
    /// By their file names.
    pub(crate) man_pages: Vec<Named<String>>,
    /// By their paths below a prefix.
    pub(crate) completions: Vec<Named<&'static str>>,
}

impl Documents {
    /// Reads them from the checkout, and has `program` make the others. `scratch` is a folder that
    /// does not exist yet, and is gone afterwards.
    pub(crate) fn gather(program: &Program, scratch: &Path) -> Result<Self, Failure> {
        let read = |path: &str| {
            std::fs::read(checkout().join(path))
                .map(Arc::from)
                .map_err(|error| Failure::new(format!("{path} cannot be read: {error}"), "restore it"))
        };
        let licences = LICENCES.map(|name| Ok((name, read(name)?)));
        let completions =
            COMPLETIONS.map(|(shell, path)| Ok((path, program.run(&["completions", shell])?.into())));
        Ok(Self {
            readme: read(README)?,
            licences: licences.into_iter().collect::<Result<_, _>>()?,
            man_pages: man_pages(program, scratch)?,
            completions: completions.into_iter().collect::<Result<_, _>>()?,
        })
    }

    /// Adds the manual pages and completions below `prefix`.
    pub(crate) fn add_shared(&self, files: &mut Files, prefix: &str) {
        for (name, page) in &self.man_pages {
            files.add(format!("{prefix}share/man/man1/{name}"), Arc::clone(page));
        }
        for (path, script) in &self.completions {
            files.add(format!("{prefix}{path}"), Arc::clone(script));
        }
    }
}

fn man_pages(program: &Program, scratch: &Path) -> Result<Vec<Named<String>>, Failure> {
    let path = scratch.to_str().ok_or_else(|| {
        Failure::new(format!("{} is not UTF-8", scratch.display()), "name another folder with --out")
    })?;
    program.run(&["man", "--dir", path])?;
    let read = || -> std::io::Result<Vec<_>> {
        std::fs::read_dir(scratch)?
            .map(|entry| {
                let entry = entry?;
                Ok((entry.file_name().to_string_lossy().into_owned(), std::fs::read(entry.path())?.into()))
            })
            .collect()
    };
    let pages = read().map_err(|error| {
        Failure::new(format!("the manual pages in {path} cannot be read: {error}"), "run it again")
    });
    std::fs::remove_dir_all(scratch)
        .map_err(|error| Failure::new(format!("{path} cannot be removed: {error}"), "remove it"))?;
    pages
}
