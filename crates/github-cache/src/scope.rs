//! What a write makes doubtful: a repository, or a part of the API outside of repositories.

use std::fmt::Write;

/// The part of the API that a path belongs to.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Scope {
    /// `/repos/{owner}/{repo}` and everything below: `owner/repo` in lower case.
    Repository(String),
    /// `/repositories/{id}` and everything below. GitHub's `Link` headers lead there.
    RepositoryId(u64),
    /// The first two segments of any other path, in lower case.
    Other(String),
}

impl Scope {
    /// The scope of a normalised path.
    pub(crate) fn of(path: &str) -> Self {
        let mut segments = path.split('/').filter(|segment| !segment.is_empty());
        let (first, second) = (segments.next().unwrap_or_default(), segments.next().unwrap_or_default());
        match first {
            "repos" => {
                // An encoded slash between owner and repository is one to GitHub, too.
                let joined = segments.next().map(|third| format!("{second}/{third}"));
                let name = joined.unwrap_or_else(|| second.replace("%2F", "/"));
                if name.contains('/') {
                    return Self::Repository(name.to_ascii_lowercase());
                }
            }
            "repositories" => {
                if let Ok(id) = second.parse() {
                    return Self::RepositoryId(id);
                }
            }
            _ => {}
        }
        Self::Other(format!("{first}/{second}").to_ascii_lowercase())
    }

    /// The text that names this scope in keys.
    pub(crate) fn name(&self) -> String {
        let mut name = String::with_capacity(48);
        // Writing to a string cannot fail.
        let _infallible = match self {
            Self::Repository(full_name) => write!(name, "repos/{full_name}"),
            Self::RepositoryId(id) => write!(name, "repositories/{id}"),
            Self::Other(path) => write!(name, "other/{path}"),
        };
        name
    }

    /// Whether it is a repository, by name or by id.
    pub(crate) const fn is_repository(&self) -> bool {
        matches!(self, Self::Repository(_) | Self::RepositoryId(_))
    }
}

/// Whether `path` names a repository itself, not something in it.
pub(crate) fn is_repository_root(path: &str) -> bool {
    let count = path.split('/').filter(|segment| !segment.is_empty()).count();
    match Scope::of(path) {
        Scope::Repository(_) => count == 3,
        Scope::RepositoryId(_) => count == 2,
        Scope::Other(_) => false,
    }
}

/// The id of the repository that a `Link` value leads to, by its first target of the id form.
pub(crate) fn linked_repository(link: &str) -> Option<u64> {
    let (_, rest) = link.split_once("/repositories/")?;
    let digits = rest.split(|c: char| !c.is_ascii_digit()).next()?;
    digits.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_belong_to_their_repository_or_to_two_segments() {
        for (path, name) in [
            ("/repos/O/R", "repos/o/r"),
            ("/repos/o/r/issues/1/labels", "repos/o/r"),
            ("/repos/o/r/contents/docs%2Fa.md", "repos/o/r"),
            ("/repos/o%2Fr", "repos/o/r"),
            ("/repositories/7", "repositories/7"),
            ("/repositories/7/issues", "repositories/7"),
            ("/repositories", "other/repositories/"),
            ("/repos/o", "other/repos/o"),
            ("/orgs/Org/repos", "other/orgs/org"),
            ("/user", "other/user/"),
            ("/user/starred/o/r", "other/user/starred"),
            ("/", "other//"),
        ] {
            assert_eq!(Scope::of(path).name(), name, "{path}");
        }
    }

    #[test]
    fn roots_are_told_from_what_is_below() {
        assert!(is_repository_root("/repos/o/r") && is_repository_root("/repositories/7"));
        for path in ["/repos/o/r/issues", "/repos/o", "/repositories", "/user", "/repositories/7/issues"] {
            assert!(!is_repository_root(path), "{path}");
        }
    }

    #[test]
    fn links_give_the_id() {
        let link = "<https://api.github.com/repositories/41/issues?page=2>; rel=\"next\"";
        assert_eq!(linked_repository(link), Some(41));
        assert_eq!(linked_repository("<https://api.github.com/repos/o/r?page=2>"), None);
        assert_eq!(linked_repository("<x/repositories/>"), None);
    }
}
