//! `cargo xtask bench`: one bench of the root package, built as a release is.

use std::path::Path;

use crate::failure::Failure;
use crate::parts::FOR_BENCHES;
use crate::run::{self, Run};
use crate::tools::Tools;

/// Runs the bench called `name`; `args` go to it as they are.
pub(crate) fn bench(tools: &Tools, name: &str, args: &[String]) -> Result<(), Failure> {
    let known = names(&run::checkout().join("benches"))?;
    if !known.iter().any(|known| known == name) {
        return Err(unknown(name, &known));
    }
    let mut run = Run::cargo("look above for what the bench said")
        .args(["bench", "--locked", "--package", "peercache", "--all-features", "--profile", "release"])
        .args(["--bench", name]);
    for part in FOR_BENCHES {
        match (part.find(tools)?, part.variable()) {
            (Some(file), Some(variable)) => run = run.env(variable, file),
            _ => eprintln!(
                "xtask: {} is not prepared; if the bench needs it: cargo xtask prepare {}",
                part.name(),
                part.name()
            ),
        }
    }
    if !args.is_empty() {
        run = run.args(["--"]).args(args);
    }
    run.succeed()
}

/// The benches of a folder: files with this extension, by name.
fn names(dir: &Path) -> Result<Vec<String>, Failure> {
    let entries = match std::fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => {
            let what = format!("{} cannot be read: {error}", dir.display());
            return Err(Failure::new(what, "make it readable and run it again"));
        }
    };
    let mut names: Vec<_> = entries
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "rs"))
        .filter_map(|path| Some(path.file_stem()?.to_string_lossy().into_owned()))
        .collect();
    names.sort();
    Ok(names)
}

fn unknown(name: &str, known: &[String]) -> Failure {
    let next = if known.is_empty() {
        "there is none yet: a bench is a file in benches/".to_owned()
    } else {
        format!("there are: {}", known.join(", "))
    };
    Failure::new(format!("there is no bench called {name}"), next)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn benches_are_the_source_files_of_the_folder() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(names(&dir.path().join("none")), Ok(vec![]));
        for file in ["proxy.rs", "chain.rs", "notes.md"] {
            std::fs::write(dir.path().join(file), "").unwrap();
        }
        assert_eq!(names(dir.path()), Ok(vec!["chain".to_owned(), "proxy".to_owned()]));
    }

    #[test]
    fn an_unknown_name_lists_what_exists() {
        let known = ["chain".to_owned(), "proxy".to_owned()];
        assert_eq!(unknown("x", &known).to_string(), "there is no bench called x; there are: chain, proxy");
        assert!(unknown("x", &[]).to_string().contains("there is none yet"));
    }
}
