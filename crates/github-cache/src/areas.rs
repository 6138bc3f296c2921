//! The areas of a repository: a write makes those doubtful that it may change, not everything.
//!
//! Each area of a repository has a [mark](crate::write_marks) of its own. An answer belongs to one
//! area, so a read looks at one mark; a write removes the marks of all areas that it changes. The
//! table is data, `areas.toml`. What it does not name, a read or a write, is on the safe side: the
//! read is in `rest`, which most writes change, and the write changes all areas.

use serde::Deserialize;

use crate::path_pattern::{PathPattern, segments};

const BUILT_IN: &str = include_str!("areas.toml");
/// The area of what is asked for each time. Every write changes it.
const LIVE: &str = "live";
/// The area of what the table does not name.
const REST: &str = "rest";
/// How many areas there may be: a write of a whole repository removes one mark for each.
const MAX_AREAS: usize = 8;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    area: Vec<AreaEntry>,
    write: Vec<WriteEntry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct AreaEntry {
    name: String,
    paths: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WriteEntry {
    paths: Vec<String>,
    changes: Vec<String>,
}

/// The table of areas.
#[derive(Debug)]
pub(crate) struct Areas {
    names: Vec<String>,
    /// Patterns and the area, as an index into `names`, of what they match.
    reads: Vec<(PathPattern, usize)>,
    /// Patterns and the areas that a write to what they match changes.
    writes: Vec<(PathPattern, Vec<usize>)>,
    rest: usize,
}

impl Areas {
    /// The table of this build.
    pub(crate) fn built_in() -> Result<Self, String> {
        Self::parse(BUILT_IN)
    }

    fn parse(text: &str) -> Result<Self, String> {
        let file: File = toml::from_str(text).map_err(|error| error.to_string())?;
        let mut names: Vec<String> = file.area.iter().map(|area| area.name.clone()).collect();
        names.push(REST.to_owned());
        if names.len() > MAX_AREAS {
            return Err(format!("there are {} areas, the most is {MAX_AREAS}", names.len()));
        }
        let index = |name: &str| {
            let found = names.iter().position(|known| known == name);
            found.ok_or_else(|| format!("there is no area {name:?}; there are {}", names.join(", ")))
        };
        let live = index(LIVE)?;
        let mut reads = Vec::new();
        for (area, entry) in file.area.iter().enumerate() {
            for path in &entry.paths {
                reads.push((PathPattern::parse(path)?, area));
            }
        }
        let mut writes = Vec::new();
        for entry in &file.write {
            let mut changes = vec![live];
            for name in &entry.changes {
                changes.push(index(name)?);
            }
            for path in &entry.paths {
                writes.push((PathPattern::parse(path)?, changes.clone()));
            }
        }
        Ok(Self { rest: names.len() - 1, names, reads, writes })
    }

    /// The names of all areas.
    pub(crate) fn all(&self) -> impl Iterator<Item = &str> {
        self.names.iter().map(String::as_str)
    }

    /// The area that an answer for this normalised path of a repository belongs to.
    pub(crate) fn of_read(&self, path: &str) -> &str {
        let path = segments(path);
        let found = self.reads.iter().find(|(pattern, _)| pattern.matches(&path));
        self.names.get(found.map_or(self.rest, |(_, area)| *area)).map_or(REST, String::as_str)
    }

    /// The areas that a write to this normalised path of a repository changes.
    pub(crate) fn of_write(&self, path: &str) -> Vec<&str> {
        let path = segments(path);
        match self.writes.iter().find(|(pattern, _)| pattern.matches(&path)) {
            Some((_, areas)) => {
                areas.iter().filter_map(|area| self.names.get(*area)).map(String::as_str).collect()
            }
            None => self.all().collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn areas() -> Areas {
        Areas::built_in().unwrap()
    }

    #[test]
    fn reads_belong_to_the_first_area_that_matches_and_else_to_the_rest() {
        let areas = areas();
        for (path, area) in [
            ("/repos/o/r/commits/main/status", "live"),
            ("/repos/o/r/commits/main", "code"),
            ("/repos/o/r/commits/main/comments", "rest"),
            ("/repos/o/r/pulls/7", "pull"),
            ("/repos/o/r/pulls", "threads"),
            ("/repos/o/r/pulls/7/files", "code"),
            ("/repos/o/r/issues/7/timeline", "live"),
            ("/repositories/1/issues", "threads"),
            ("/repos/o/r", "rest"),
            ("/repos/o/r/labels", "rest"),
            ("/repos/o/r/new-endpoint", "rest"),
        ] {
            assert_eq!(areas.of_read(path), area, "{path}");
        }
    }

    #[test]
    fn writes_change_what_the_table_says_and_else_everything() {
        let areas = areas();
        assert_eq!(areas.of_write("/repos/o/r/issues/3/comments"), ["live", "threads", "pull"]);
        assert_eq!(areas.of_write("/repositories/1/statuses/abc"), ["live", "pull"]);
        for path in
            ["/repos/o/r", "/repos/o/r/git/refs/heads/main", "/repos/o/r/pulls/7/merge", "/repos/o/r/x"]
        {
            assert_eq!(areas.of_write(path), areas.all().collect::<Vec<_>>(), "{path}");
        }
    }

    #[test]
    fn table_with_an_unknown_area_is_refused() {
        let text =
            "[[area]]\nname = \"live\"\npaths = []\n[[write]]\npaths = [\"/x\"]\nchanges = [\"cod\"]\n";
        let error = Areas::parse(text).unwrap_err();
        assert_eq!(error, "there is no area \"cod\"; there are live, rest");
        let missing = Areas::parse("area = []\nwrite = []\n").unwrap_err();
        assert!(missing.contains("no area \"live\""), "{missing}");
    }
}
