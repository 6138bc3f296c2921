//! Patterns of paths, as the tables of routes and of areas have them.

/// A path with placeholders: `{x}` is one segment, `{sha}` one of 40 hexadecimal digits, and `**`
/// at the end everything that follows, nothing included.
#[derive(Debug)]
pub(crate) struct PathPattern {
    segments: Vec<Segment>,
    /// Whether more segments may follow.
    open: bool,
}

#[derive(Debug, PartialEq, Eq)]
enum Segment {
    Literal(String),
    Any,
    Sha,
}

impl PathPattern {
    /// The pattern that `text` writes, or why there is none.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let Some(rest) = text.strip_prefix('/') else {
            return Err(format!("the path {text:?} does not begin with a slash"));
        };
        let (rest, open) = match rest.strip_suffix("**") {
            Some(rest) => (rest.trim_end_matches('/'), true),
            None => (rest, false),
        };
        let segments = rest
            .split('/')
            .filter(|segment| !segment.is_empty())
            .map(|segment| match segment {
                "{sha}" => Segment::Sha,
                name if name.starts_with('{') && name.ends_with('}') => Segment::Any,
                literal => Segment::Literal(literal.to_owned()),
            })
            .collect();
        Ok(Self { segments, open })
    }

    /// Whether it matches a path that [`segments`] has split.
    pub(crate) fn matches(&self, path: &[&str]) -> bool {
        let long_enough = path.len() == self.segments.len() || self.open && path.len() > self.segments.len();
        long_enough && self.segments.iter().zip(path).all(|(segment, text)| segment.matches(text))
    }
}

impl Segment {
    fn matches(&self, text: &str) -> bool {
        match self {
            Self::Literal(literal) => literal == text,
            Self::Any => true,
            Self::Sha => text.len() == 40 && text.bytes().all(|byte| byte.is_ascii_hexdigit()),
        }
    }
}

/// The segments of a normalised path. What is said about `/repos/{owner}/{repo}` holds for
/// `/repositories/{id}`.
pub(crate) fn segments(path: &str) -> Vec<&str> {
    let mut segments: Vec<&str> = path.split('/').filter(|segment| !segment.is_empty()).collect();
    if segments.first() == Some(&"repositories") && segments.len() >= 2 {
        segments.splice(0..2, ["repos", "id", "id"]);
    }
    segments
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn placeholders_match_one_segment_and_stars_the_rest() {
        let sha = format!("/repos/o/r/git/blobs/{}", "a".repeat(40));
        for (pattern, path, matches) in [
            ("/repos/{owner}/{repo}", "/repos/o/r", true),
            ("/repos/{owner}/{repo}", "/repositories/7", true),
            ("/repos/{owner}/{repo}/issues/**", "/repos/o/r/issues", true),
            ("/repos/{owner}/{repo}/issues/{number}", "/repos/o/r/issues", false),
            ("/repos/{owner}/{repo}/issues", "/repos/o/r/issues/1", false),
            ("/repos/{owner}/{repo}/git/blobs/{sha}", &sha, true),
            ("/repos/{owner}/{repo}/git/blobs/{sha}", "/repos/o/r/git/blobs/main", false),
            ("/**", "/", true),
        ] {
            let parsed = PathPattern::parse(pattern).unwrap();
            assert_eq!(parsed.matches(&segments(path)), matches, "{pattern} {path}");
        }
        assert!(PathPattern::parse("repos").unwrap_err().contains("does not begin with a slash"));
    }
}
