//! A mark: since when a token's grants for a path have to be revalidated.
//!
//! A mark is an entry without a value; its version is what it says. A grant carries the version that was
//! minted when its request was *sent*, and counts as fresh only if that is above the mark's. So a
//! read that was under way while a write happened is not believed, in whatever order they end.

use crate::key::NormalUrl;

/// The most paths that one target marks; deeper targets mark the deepest ones and the root.
pub(crate) const MAX_MARKED: usize = 32;

/// The paths that a successful write to `path` makes doubtful: itself, and what lies above it, down
/// to `/repos/{owner}/{repo}` or to the first segment elsewhere.
///
/// Unsafe methods must invalidate their target (RFC 9111, section 4.4); a list usually shows what
/// was changed below it, so its path is marked too.
pub(crate) fn affected_paths(path: &str) -> Vec<String> {
    let path = path.trim_end_matches('/');
    if path.is_empty() {
        return Vec::new();
    }
    let floor = if path.starts_with("/repos/") { 3 } else { 1 };
    let ends: Vec<usize> = path
        .char_indices()
        .filter_map(|(at, c)| (c == '/' && at > 0).then_some(at))
        .chain([path.len()])
        .enumerate()
        .filter_map(|(index, end)| (index + 1 >= floor).then_some(end))
        .collect();
    let mut paths: Vec<String> =
        ends.iter().rev().take(MAX_MARKED - 1).map(|end| path[..*end].to_owned()).collect();
    if let Some(root) = ends.first().map(|end| path[..*end].to_owned())
        && paths.last() != Some(&root)
    {
        paths.push(root);
    }
    // Something below the floor, `/repos/o` for example, is at least its own target.
    if paths.is_empty() {
        paths.push(path.to_owned());
    }
    paths
}

/// The path that marks of a request's target are kept under: without query and trailing slash.
pub(crate) fn marked_path(url: &NormalUrl) -> &str {
    url.path.trim_end_matches('/')
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_write_marks_its_target_and_what_lies_above() {
        assert_eq!(
            affected_paths("/repos/o/r/issues/1/labels"),
            ["/repos/o/r/issues/1/labels", "/repos/o/r/issues/1", "/repos/o/r/issues", "/repos/o/r"]
        );
        assert_eq!(affected_paths("/repos/o/r/"), ["/repos/o/r"]);
        assert_eq!(affected_paths("/repos/o"), ["/repos/o"]);
        assert_eq!(affected_paths("/orgs/o/repos"), ["/orgs/o/repos", "/orgs/o", "/orgs"]);
        assert_eq!(affected_paths("/user"), ["/user"]);
        assert!(affected_paths("/").is_empty());
    }

    proptest! {
        #[test]
        fn always_bounded_and_always_with_the_target(path in "(/[a-z]{0,2}){1,80}") {
            let paths = affected_paths(&path);
            prop_assert!(paths.len() <= MAX_MARKED);
            let target = path.trim_end_matches('/');
            prop_assert_eq!(target.is_empty(), paths.is_empty());
            prop_assert!(target.is_empty() || paths[0] == target);
            prop_assert!(paths.iter().all(|above| target.starts_with(above)));
        }
    }
}
