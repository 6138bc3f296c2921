//! How answers are kept, by route: a table that is data, and that a file can override.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;

use crate::client_label::OTHER;
use crate::error::BuildError;
use crate::ledger::RouteClass;
use crate::path_pattern::{PathPattern, segments};

/// The rules of this build.
const BUILT_IN: &str = include_str!("routes.toml");
/// The longest that a file of rules may be, in bytes.
const MAX_FILE_BYTES: u64 = 1024 * 1024;
/// How many classes of routes are told apart in the ledger, `other` among them.
const MAX_CLASSES: usize = 256;
/// For how long a 404 or 410 is remembered where the table says nothing.
const NEGATIVE_SECONDS: u64 = 5;

/// How long an answer may be served without asking.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Lifetime {
    /// As GitHub says.
    #[default]
    Github,
    /// Never.
    Revalidate,
    /// The bytes never change.
    Immutable,
}

/// Whether an answer is the same for every token.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Share {
    /// It may depend on the token.
    #[default]
    None,
    /// It is the same for all who may see it, where the repository is public.
    Repository,
    /// It is the same for everybody.
    Everyone,
}

/// What holds for one route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Rule {
    pub(crate) lifetime: Lifetime,
    pub(crate) share: Share,
    /// For how long a 404 or 410 is remembered for the token that got it.
    pub(crate) negative: Duration,
    pub(crate) store: bool,
}

impl Default for Rule {
    fn default() -> Self {
        Self {
            lifetime: Lifetime::Github,
            share: Share::None,
            negative: Duration::from_secs(NEGATIVE_SECONDS),
            store: true,
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    route: Vec<Entry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    paths: Vec<String>,
    #[serde(default)]
    freshness: Lifetime,
    #[serde(default)]
    share: Share,
    negative: Option<u64>,
    store: Option<bool>,
}

#[derive(Debug)]
struct Pattern {
    path: PathPattern,
    rule: Rule,
    /// As the file has it.
    text: Arc<str>,
    class: RouteClass,
}

/// The rules, in order.
#[derive(Debug)]
pub(crate) struct RouteTable {
    patterns: Vec<Pattern>,
    classes: Vec<Arc<str>>,
}

impl RouteTable {
    /// The rules of this build, behind those of `file` if there is one.
    pub(crate) fn load(file: Option<&Path>) -> Result<Self, BuildError> {
        let mut patterns = Vec::new();
        if let Some(path) = file {
            let fail = |problem: String| BuildError::Policy { path: path.to_owned(), problem };
            let length = std::fs::metadata(path).map_err(|error| fail(error.to_string()))?.len();
            if length > MAX_FILE_BYTES {
                return Err(fail(format!("it has {length} bytes, the most is {MAX_FILE_BYTES}")));
            }
            let text = std::fs::read_to_string(path).map_err(|error| fail(error.to_string()))?;
            patterns.extend(parse(&text).map_err(fail)?);
        }
        let built_in = parse(BUILT_IN);
        patterns
            .extend(built_in.map_err(|problem| BuildError::Policy { path: "routes.toml".into(), problem })?);
        let mut classes: Vec<Arc<str>> = vec![OTHER.into()];
        for pattern in &mut patterns {
            let known = classes.iter().position(|known| *known == pattern.text);
            let class = known.or_else(|| {
                let room = classes.len() < MAX_CLASSES;
                room.then(|| {
                    classes.push(Arc::clone(&pattern.text));
                    classes.len() - 1
                })
            });
            pattern.class = class.and_then(|class| RouteClass::try_from(class).ok()).unwrap_or_default();
        }
        Ok(Self { patterns, classes })
    }

    /// The names of the classes of routes, in the order of their numbers: the paths of the rules,
    /// behind `other`.
    pub(crate) fn classes(&self) -> &[Arc<str>] {
        &self.classes
    }

    /// The rule for a normalised path, in the form by name or by id, and the class that calls for
    /// it are booked to.
    pub(crate) fn classify(&self, path: &str) -> (Rule, RouteClass) {
        self.find(path).map_or_else(Default::default, |pattern| (pattern.rule, pattern.class))
    }

    fn find(&self, path: &str) -> Option<&Pattern> {
        let segments = segments(path);
        self.patterns.iter().find(|pattern| pattern.path.matches(&segments))
    }
}

fn parse(text: &str) -> Result<Vec<Pattern>, String> {
    let file: File = toml::from_str(text).map_err(|error| error.to_string())?;
    let mut patterns = Vec::new();
    for entry in file.route {
        let defaults = Rule::default();
        let rule = Rule {
            lifetime: entry.freshness,
            share: entry.share,
            negative: entry.negative.map_or(defaults.negative, Duration::from_secs),
            store: entry.store.unwrap_or(true),
        };
        if rule.negative > Duration::from_secs(3600) {
            return Err("negative is more than 3600 seconds".to_owned());
        }
        for path in &entry.paths {
            let text: Arc<str> = path.as_str().into();
            patterns.push(Pattern { path: PathPattern::parse(path)?, rule, text, class: 0 });
        }
    }
    Ok(patterns)
}

#[cfg(test)]
mod tests {
    use super::*;

    impl RouteTable {
        fn rule(&self, path: &str) -> Rule {
            self.classify(path).0
        }
    }

    fn table() -> RouteTable {
        RouteTable::load(None).unwrap()
    }

    #[test]
    fn routes_are_classed_by_the_first_rule_that_matches() {
        let table = table();
        let sha = "a".repeat(40);
        for (path, lifetime, share) in [
            ("/repos/o/r/actions/runs", Lifetime::Revalidate, Share::None),
            ("/repos/o/r/actions/runs/9/jobs", Lifetime::Revalidate, Share::None),
            ("/repositories/7/actions/runs/9", Lifetime::Revalidate, Share::None),
            ("/repos/o/r/git/ref/heads/main", Lifetime::Revalidate, Share::None),
            ("/repos/o/r/git/trees/main", Lifetime::Github, Share::Repository),
            ("/repos/o/r/contents/a/b", Lifetime::Github, Share::Repository),
            ("/repos/o/r", Lifetime::Github, Share::None),
            ("/repos/o/r/hooks", Lifetime::Github, Share::None),
            ("/repos/o/r/actions/secrets", Lifetime::Github, Share::None),
            ("/repos/o/r/branches/main/protection", Lifetime::Github, Share::None),
            ("/user", Lifetime::Github, Share::None),
            ("/emojis", Lifetime::Github, Share::Everyone),
        ] {
            let rule = table.rule(path);
            assert_eq!((rule.lifetime, rule.share), (lifetime, share), "{path}");
        }
        assert_eq!(table.rule(&format!("/repos/o/r/git/blobs/{sha}")).lifetime, Lifetime::Immutable);
        assert!(!table.rule("/rate_limit").store && !table.rule("/app/installations").store);
    }

    #[test]
    fn calls_are_booked_to_the_path_of_their_rule() {
        let table = table();
        let class = |path: &str| &*table.classes()[usize::from(table.classify(path).1)];
        for (path, name) in [
            ("/repos/o/r", "/repos/{owner}/{repo}"),
            ("/repositories/7", "/repos/{owner}/{repo}"),
            ("/repos/o/r/actions/runs/9/jobs", "/repos/{owner}/{repo}/actions/runs/**"),
            ("/repos/o/r/hooks", "/repos/{owner}/{repo}/**"),
            ("/graphql", "/graphql"),
            ("/search/issues", "/search/**"),
            ("/orgs/o/teams", "/orgs/**"),
            ("/nobody/knows/it", "/**"),
        ] {
            assert_eq!(class(path), name, "{path}");
        }
        assert_eq!(&*table.classes()[0], "other");
    }

    #[test]
    fn classes_beyond_the_bound_are_other() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("routes.toml");
        let paths: Vec<String> = (0..300).map(|n| format!("\"/x{n}\"")).collect();
        std::fs::write(&path, format!("[[route]]\npaths = [{}]\n", paths.join(","))).unwrap();
        let table = RouteTable::load(Some(&path)).unwrap();
        assert_eq!(table.classes().len(), MAX_CLASSES);
        assert_eq!(table.classify("/x254").1, 255);
        assert_eq!(table.classify("/x255").1, 0);
        assert_eq!(table.classify("/graphql").1, 0);
    }

    /// Every endpoint that can be read, by GitHub's OpenAPI description, with what the table says
    /// about it.
    const MAP: &str = include_str!("../tests/route-map.txt");

    fn line(table: &RouteTable, path: &str) -> String {
        // A placeholder stands for a name, and one for a hash for a hash.
        let name = |segment: &str| match segment {
            "{file_sha}" | "{commit_sha}" | "{tree_sha}" | "{tag_sha}" => "a".repeat(40),
            segment => segment.replace(['{', '}'], ""),
        };
        let example: Vec<String> = path.split('/').map(name).collect();
        let rule = table.rule(&example.join("/"));
        let lifetime = match rule.lifetime {
            Lifetime::Github => "github",
            Lifetime::Revalidate => "revalidate",
            Lifetime::Immutable => "immutable",
        };
        let share = match rule.share {
            Share::None => "own",
            Share::Repository => "repository",
            Share::Everyone => "everyone",
        };
        let store = if rule.store { lifetime } else { "never" };
        format!("{store:<10} {share:<10} {path}")
    }

    #[test]
    fn every_endpoint_has_the_class_that_the_route_map_says() {
        let table = table();
        let wrong: Vec<String> = MAP
            .lines()
            .filter(|known| !known.starts_with('#'))
            .filter_map(|known| {
                let path = known.split_whitespace().last()?;
                let now = line(&table, path);
                (now != known).then_some(now)
            })
            .collect();
        assert!(wrong.is_empty(), "check these lines and put them into route-map.txt:\n{}", wrong.join("\n"));
        assert!(MAP.lines().count() > 600);
    }

    /// What has rights, secrets or one token's own things in it is never shared.
    #[test]
    fn no_endpoint_about_rights_or_secrets_is_shared() {
        const PRIVATE: [&str; 22] = [
            "secret",
            "variables",
            "hooks",
            "keys",
            "collaborators",
            "protection",
            "invitations",
            "traffic",
            "alerts",
            "runners",
            "permissions",
            "installation",
            "subscription",
            "teams",
            "environments",
            "code-scanning",
            "advisories",
            "codespaces",
            "copilot",
            "rulesets",
            "reviews",
            "attestations",
        ];
        for known in MAP.lines().filter(|known| !known.starts_with('#')) {
            let shared = known.contains(" repository ") || known.contains(" everyone ");
            let private = PRIVATE.iter().any(|word| known.contains(&format!("/{word}")));
            assert!(!(shared && private), "{known}");
        }
    }

    /// With the description at hand, nothing in it is missing from the map: a new endpoint is
    /// classed by hand.
    #[test]
    fn route_map_has_every_endpoint_of_the_openapi_description() {
        let Some(file) = std::env::var_os("PEERCACHE_TEST_OPENAPI").filter(|file| !file.is_empty()) else {
            let required = std::env::var_os("PEERCACHE_TEST_REQUIRE").is_some_and(|value| value == "all");
            assert!(!required, "PEERCACHE_TEST_OPENAPI is not set; run `cargo xtask prepare openapi`");
            eprintln!("skipped: PEERCACHE_TEST_OPENAPI is not set; run `cargo xtask prepare openapi`");
            return;
        };
        let text = std::fs::read(&file).unwrap();
        let description: serde_json::Value = serde_json::from_slice(&text).unwrap();
        let paths = description["paths"].as_object().unwrap();
        let table = table();
        let read: Vec<&String> =
            paths.iter().filter(|(_, methods)| methods.get("get").is_some()).map(|(path, _)| path).collect();
        let is_known = |path: &str| MAP.lines().any(|known| known.split_whitespace().last() == Some(path));
        let missing: Vec<String> =
            read.iter().filter(|path| !is_known(path)).map(|path| line(&table, path)).collect();
        assert!(
            missing.is_empty(),
            "check these lines and put them into route-map.txt:\n{}",
            missing.join("\n")
        );
        assert!(read.len() > 600);
    }

    #[test]
    fn a_file_comes_before_the_rules_of_the_build() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("routes.toml");
        std::fs::write(&path, "[[route]]\npaths = [\"/emojis\"]\nfreshness = \"revalidate\"\nnegative = 0\n")
            .unwrap();
        let table = RouteTable::load(Some(&path)).unwrap();
        let rule = table.rule("/emojis");
        assert_eq!(
            (rule.lifetime, rule.share, rule.negative),
            (Lifetime::Revalidate, Share::None, Duration::ZERO)
        );
        assert_eq!(table.rule("/licenses/mit").share, Share::Everyone);
    }

    #[test]
    fn a_file_that_cannot_be_used_is_refused_with_its_reason() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("routes.toml");
        for (text, reason) in [
            ("[[route]]\npaths = [\"emojis\"]", "does not begin with a slash"),
            ("[[route]]\npaths = [\"/x\"]\nfreshness = \"always\"", "unknown variant"),
            ("[[route]]\npaths = [\"/x\"]\ncolour = 1", "unknown field"),
            ("[[route]]\npaths = [\"/x\"]\nnegative = 3601", "more than 3600"),
        ] {
            std::fs::write(&path, text).unwrap();
            let error = RouteTable::load(Some(&path)).unwrap_err().to_string();
            assert!(error.contains(reason), "{error}");
        }
        assert!(RouteTable::load(Some(&dir.path().join("absent.toml"))).is_err());
    }
}
