//! The folder outside the checkout that holds what is downloaded or built once.
//!
//! Each part has a folder of its own, NAME-VERSION. It is filled under another name and renamed
//! when it is whole, so a part that is there is complete, whoever was killed or ran at the same
//! time.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use crate::failure::Failure;

const PARTIAL: &str = ".partial-";
/// A partial folder older than this was left behind by a run that was killed.
const ABANDONED: Duration = Duration::from_secs(24 * 3600);

/// The tools folder.
#[derive(Debug)]
pub(crate) struct Tools {
    dir: PathBuf,
}

impl Tools {
    /// Where the environment puts it. Nothing is created yet.
    pub(crate) fn locate() -> Result<Self, Failure> {
        Self::from_variables(|name| std::env::var_os(name))
    }

    fn from_variables(variable: impl Fn(&str) -> Option<OsString>) -> Result<Self, Failure> {
        let set = |name| variable(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        let dir = set("PEERCACHE_TOOLS")
            .or_else(|| set("XDG_CACHE_HOME").map(|dir| dir.join("peercache-tools")))
            .or_else(|| set("HOME").map(|dir| dir.join(".cache").join("peercache-tools")))
            .ok_or_else(|| {
                Failure::new("there is no folder for tools", "set PEERCACHE_TOOLS to a folder that you own")
            })?;
        // Tests run in other folders than ours, so what they are given must not be relative.
        let dir = std::path::absolute(&dir).map_err(|error| unusable(&dir, &error))?;
        Ok(Self { dir })
    }

    /// Where a part is, or will be.
    pub(crate) fn slot(&self, slot: &str) -> PathBuf {
        self.dir.join(slot)
    }

    /// The folder of a part, filled by `fill` if it is not there yet.
    pub(crate) fn install(
        &self,
        slot: &str,
        fill: impl FnOnce(&Path) -> Result<(), Failure>,
    ) -> Result<PathBuf, Failure> {
        let whole = self.slot(slot);
        if whole.is_dir() {
            return Ok(whole);
        }
        fs::create_dir_all(&self.dir).map_err(|error| unusable(&self.dir, &error))?;
        self.sweep();
        let partial = self.partial(slot);
        fs::create_dir(&partial).map_err(|error| unusable(&partial, &error))?;
        let result = fill(&partial).and_then(|()| match fs::rename(&partial, &whole) {
            Ok(()) => Ok(true),
            // Another run was faster; what it made is as good as ours.
            Err(_) if whole.is_dir() => Ok(false),
            Err(error) => Err(unusable(&whole, &error)),
        });
        if !matches!(result, Ok(true)) {
            remove(&partial);
        }
        result.map(|_| whole)
    }

    fn partial(&self, slot: &str) -> PathBuf {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        self.dir.join(format!("{PARTIAL}{slot}-{}-{number}", std::process::id()))
    }

    /// Removes what killed runs left behind.
    fn sweep(&self) {
        let Ok(entries) = fs::read_dir(&self.dir) else { return };
        for entry in entries.flatten() {
            let partial = entry.file_name().to_string_lossy().starts_with(PARTIAL);
            let modified = entry.metadata().and_then(|metadata| metadata.modified());
            let age = modified.ok().and_then(|modified| modified.elapsed().ok());
            if partial && age.is_some_and(|age| age > ABANDONED) {
                remove(&entry.path());
            }
        }
    }
}

fn remove(dir: &Path) {
    if let Err(error) = fs::remove_dir_all(dir) {
        eprintln!("xtask: warning: {} is not needed and cannot be removed: {error}", dir.display());
    }
}

fn unusable(path: &Path, error: &std::io::Error) -> Failure {
    Failure::new(
        format!("{} cannot be used: {error}", path.display()),
        "set PEERCACHE_TOOLS to a folder that you can write to",
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Barrier;

    fn located(variables: &[(&str, &str)]) -> Result<PathBuf, Failure> {
        let get =
            |name: &str| variables.iter().find(|(known, _)| *known == name).map(|(_, value)| value.into());
        Tools::from_variables(get).map(|tools| tools.dir)
    }

    fn names(dir: &Path) -> Vec<String> {
        let mut names: Vec<_> = fs::read_dir(dir)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn the_most_specific_variable_wins() {
        let home = ("HOME", "/h");
        let xdg = ("XDG_CACHE_HOME", "/x");
        assert_eq!(located(&[home]).unwrap(), Path::new("/h/.cache/peercache-tools"));
        assert_eq!(located(&[home, xdg]).unwrap(), Path::new("/x/peercache-tools"));
        assert_eq!(located(&[home, xdg, ("PEERCACHE_TOOLS", "/t")]).unwrap(), Path::new("/t"));
        assert_eq!(
            located(&[home, ("PEERCACHE_TOOLS", "")]).unwrap(),
            Path::new("/h/.cache/peercache-tools")
        );
        assert!(located(&[("PEERCACHE_TOOLS", "t")]).unwrap().is_absolute());
        assert!(
            located(&[]).unwrap_err().to_string().ends_with("set PEERCACHE_TOOLS to a folder that you own")
        );
    }

    #[test]
    fn a_part_is_made_once() {
        let dir = tempfile::tempdir().unwrap();
        let tools = Tools { dir: dir.path().join("deep/tools") };
        let write = |text: &'static str| {
            move |dir: &Path| {
                fs::write(dir.join("file"), text).unwrap();
                Ok(())
            }
        };
        tools.install("part-1", write("first")).unwrap();
        let whole = tools.install("part-1", write("second")).unwrap();
        assert_eq!(fs::read_to_string(whole.join("file")).unwrap(), "first");
        assert_eq!(names(&tools.dir), ["part-1"]);
    }

    #[test]
    fn a_failed_part_leaves_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let tools = Tools { dir: dir.path().to_owned() };
        let failed = tools.install("part-1", |dir| {
            fs::write(dir.join("half"), "").unwrap();
            Err(Failure::new("no network", "connect"))
        });
        assert_eq!(failed, Err(Failure::new("no network", "connect")));
        assert_eq!(names(dir.path()), Vec::<String>::new());
    }

    #[test]
    fn two_runs_at_once_both_end_with_one_whole_part() {
        let dir = tempfile::tempdir().unwrap();
        let tools = Tools { dir: dir.path().to_owned() };
        let both_are_filling = Barrier::new(2);
        let install = || {
            tools.install("part-1", |dir| {
                both_are_filling.wait();
                fs::write(dir.join("file"), "whole").unwrap();
                Ok(())
            })
        };
        let (first, second) = std::thread::scope(|scope| {
            let other = scope.spawn(install);
            (install(), other.join().unwrap())
        });
        assert_eq!(first.unwrap(), second.unwrap());
        assert_eq!(fs::read_to_string(dir.path().join("part-1/file")).unwrap(), "whole");
        assert_eq!(names(dir.path()), ["part-1"]);
    }

    #[test]
    fn what_a_killed_run_left_is_swept_after_a_day() {
        let dir = tempfile::tempdir().unwrap();
        let tools = Tools { dir: dir.path().to_owned() };
        let (old, young) = (dir.path().join(".partial-a-1-0"), dir.path().join(".partial-b-2-0"));
        fs::create_dir(&old).unwrap();
        fs::create_dir(&young).unwrap();
        let yesterday =
            fs::metadata(&young).unwrap().modified().unwrap() - ABANDONED - Duration::from_secs(60);
        fs::File::open(&old).unwrap().set_modified(yesterday).unwrap();
        tools.install("part-1", |_| Ok(())).unwrap();
        assert_eq!(names(dir.path()), [".partial-b-2-0", "part-1"]);
    }
}
