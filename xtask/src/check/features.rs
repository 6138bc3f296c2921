//! What the features of our packages switch on: read from cargo itself, held to what we promise.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::failure::Failure;
use crate::run::Run;

/// The facade, whose features users choose.
const FACADE: &str = "peercache";
/// The most crates in the tree of the facade with the memory tier alone, ours included.
const MOST_FOR_MEMORY: usize = 45;
/// Features of the facade that are not backends themselves.
const COLLECTIONS: [&str; 2] = ["default", "full"];

/// What a build must contain and must not contain.
#[derive(Debug)]
struct Promise {
    package: &'static str,
    features: &'static str,
    /// Shows that the reading of the tree works: what this build is made for.
    with: &'static [&'static str],
    without: &'static [&'static str],
}

const PROMISES: [Promise; 9] = [
    Promise {
        package: FACADE,
        features: "",
        with: &["peercache-api", "peercache-chain"],
        without: &[
            "rusqlite",
            "quick_cache",
            "libp2p",
            "aws-sdk-s3",
            "redis",
            "hyper",
            "reqwest",
            "ipfs-api-prelude",
        ],
    },
    Promise {
        package: FACADE,
        features: "memory",
        with: &["quick_cache"],
        without: &["rusqlite", "libp2p", "aws-sdk-s3", "redis", "hyper", "reqwest", "ipfs-api-prelude"],
    },
    Promise {
        package: FACADE,
        features: "disk",
        with: &["rusqlite"],
        without: &["quick_cache", "libp2p", "aws-sdk-s3", "redis", "hyper", "reqwest", "ipfs-api-prelude"],
    },
    Promise {
        package: FACADE,
        features: "libp2p",
        with: &["libp2p", "aes-gcm"],
        without: &["rusqlite", "quick_cache", "aws-sdk-s3", "redis", "hyper", "reqwest", "ipfs-api-prelude"],
    },
    Promise {
        package: FACADE,
        features: "redis",
        with: &["redis", "aes-gcm"],
        without: &["rusqlite", "quick_cache", "libp2p", "aws-sdk-s3", "hyper", "reqwest", "aws-lc-sys"],
    },
    Promise {
        package: FACADE,
        features: "s3",
        with: &["aws-sdk-s3", "aes-gcm"],
        without: &["rusqlite", "quick_cache", "libp2p", "reqwest", "aws-lc-sys", "ipfs-api-prelude"],
    },
    Promise {
        package: FACADE,
        features: "ipfs",
        with: &["ipfs-api-prelude", "ipfs-api-backend-hyper", "aes-gcm"],
        without: &["rusqlite", "quick_cache", "libp2p", "aws-sdk-s3", "aws-lc-sys", "native-tls"],
    },
    // The command in images.
    Promise {
        package: "peercache-cli",
        features: "",
        with: &["peercache-github", "libp2p", "aws-sdk-s3"],
        without: &["peercache-fakehub", "peercache-testkit"],
    },
    Promise { package: "peercache-api", features: "", with: &["minicbor"], without: &["tokio", "serde"] },
];

/// A package of the workspace and its features, each with what it switches on.
#[derive(Debug, Default)]
pub(crate) struct Package {
    pub(crate) name: String,
    pub(crate) features: BTreeMap<String, Vec<String>>,
    /// What it depends on directly and is not ours, for whatever purpose.
    pub(crate) foreign: BTreeSet<String>,
    /// Its benches, by name.
    pub(crate) benches: Vec<String>,
}

impl Package {
    /// Arguments of cargo for each selection that a user may make: nothing, each feature alone,
    /// all. Empty for a package without features.
    pub(crate) fn selections(&self) -> Vec<Vec<String>> {
        let none = || vec!["--no-default-features".to_owned()];
        let alone = self.features.keys().filter(|name| *name != "default").map(|name| {
            let mut selection = none();
            selection.extend(["--features".to_owned(), name.clone()]);
            selection
        });
        if self.features.is_empty() {
            return Vec::new();
        }
        std::iter::once(none()).chain(alone).chain([vec!["--all-features".to_owned()]]).collect()
    }

    /// Backends that `full` does not switch on, directly or through another feature.
    fn not_in_full(&self) -> Vec<&str> {
        let mut on = BTreeSet::new();
        let mut open = vec!["full"];
        while let Some(name) = open.pop() {
            if on.insert(name) {
                open.extend(self.features.get(name).into_iter().flatten().map(String::as_str));
            }
        }
        let backends = self.features.keys().map(String::as_str).filter(|name| !COLLECTIONS.contains(name));
        backends.filter(|name| !on.contains(name)).collect()
    }
}

/// Every package of the workspace.
pub(crate) fn packages() -> Result<Vec<Package>, Failure> {
    let metadata = Run::cargo("mend the manifest that cargo names above")
        .args(["metadata", "--locked", "--no-deps", "--format-version", "1"])
        .read()?;
    read_packages(&metadata).ok_or_else(|| {
        Failure::new("the output of cargo metadata is not as expected", "update xtask to this cargo")
    })
}

fn read_packages(metadata: &str) -> Option<Vec<Package>> {
    let metadata: Value = serde_json::from_str(metadata).ok()?;
    let text = |value: &Value| Some(value.as_str()?.to_owned());
    let read = |package: &Value| {
        let features = package.get("features")?.as_object()?.iter().map(|(name, on)| {
            let on = on.as_array()?.iter().map(text).collect::<Option<_>>()?;
            Some((name.clone(), on))
        });
        let dependencies = package.get("dependencies")?.as_array()?;
        let foreign =
            dependencies.iter().filter(|dependency| dependency.get("source").is_some_and(Value::is_string));
        let is_bench =
            |target: &&Value| target.get("kind").is_some_and(|kind| *kind == serde_json::json!(["bench"]));
        let benches = package.get("targets")?.as_array()?.iter().filter(is_bench);
        Some(Package {
            benches: benches.map(|target| text(target.get("name")?)).collect::<Option<_>>()?,
            name: text(package.get("name")?)?,
            features: features.collect::<Option<_>>()?,
            foreign: foreign.map(|dependency| text(dependency.get("name")?)).collect::<Option<_>>()?,
        })
    };
    metadata.get("packages")?.as_array()?.iter().map(read).collect()
}

/// Checks `full` and every promise.
pub(crate) fn check() -> Result<(), Failure> {
    let packages = packages()?;
    let facade = packages
        .iter()
        .find(|package| package.name == FACADE)
        .ok_or_else(|| Failure::new(format!("there is no package {FACADE}"), "correct FACADE in xtask"))?;
    let forgotten = facade.not_in_full();
    if !forgotten.is_empty() {
        let what = format!("`full` of {FACADE} does not contain {}", forgotten.join(", "));
        return Err(Failure::new(what, "add it in Cargo.toml"));
    }
    for promise in &PROMISES {
        let tree = Run::cargo("mend what cargo says above")
            .args(["tree", "--locked", "--edges", "normal,build", "--prefix", "none", "--format", "{p}"])
            .args(["--package", promise.package, "--no-default-features", "--features", promise.features])
            .read()?;
        promise.judge(&tree)?;
    }
    Ok(())
}

impl Promise {
    fn judge(&self, tree: &str) -> Result<(), Failure> {
        let found: BTreeSet<_> = tree.lines().filter_map(|line| line.split_whitespace().next()).collect();
        let build = match self.features {
            "" => format!("{} without features", self.package),
            features => format!("{} with only {features}", self.package),
        };
        if let Some(name) = self.without.iter().find(|name| found.contains(*name)) {
            return Err(Failure::new(
                format!("{build} pulls in {name}"),
                format!("make it optional; `cargo tree --invert {name}` shows who asks for it"),
            ));
        }
        if let Some(name) = self.with.iter().find(|name| !found.contains(*name)) {
            return Err(Failure::new(
                format!("{build} lacks {name}"),
                "correct the feature, or PROMISES in xtask",
            ));
        }
        if (self.package, self.features) == (FACADE, "memory") && found.len() > MOST_FOR_MEMORY {
            return Err(Failure::new(
                format!("{build} has {} crates, the most is {MOST_FOR_MEMORY}", found.len()),
                "do without the new one, or make it optional",
            ));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn package(features: &[(&str, &[&str])]) -> Package {
        let features = features
            .iter()
            .map(|(name, on)| ((*name).to_owned(), on.iter().map(ToString::to_string).collect()));
        Package {
            name: "p".to_owned(),
            features: features.collect(),
            foreign: BTreeSet::new(),
            benches: Vec::new(),
        }
    }

    #[test]
    fn every_selection_is_made_once() {
        let package = package(&[("default", &["a"]), ("a", &[]), ("b", &[])]);
        let lines: Vec<_> = package.selections().iter().map(|selection| selection.join(" ")).collect();
        assert_eq!(
            lines,
            [
                "--no-default-features",
                "--no-default-features --features a",
                "--no-default-features --features b",
                "--all-features"
            ]
        );
    }

    #[test]
    fn a_package_without_features_needs_no_selection() {
        assert!(package(&[]).selections().is_empty());
    }

    #[test]
    fn a_backend_that_full_forgot_is_found() {
        let forgotten = package(&[("default", &["a"]), ("full", &["a"]), ("a", &["dep:x"]), ("b", &[])]);
        assert_eq!(forgotten.not_in_full(), ["b"]);
        let through_another = package(&[("full", &["a"]), ("a", &["b"]), ("b", &["a"])]);
        assert_eq!(through_another.not_in_full(), Vec::<&str>::new());
    }

    #[test]
    fn packages_are_read_from_what_cargo_writes() {
        let packages = read_packages(
            r#"{"packages": [{"name": "p", "features": {"a": ["dep:x"], "default": ["a"]}, "dependencies": [
                {"name": "x", "source": "registry+https://example.org"}, {"name": "ours", "source": null}], "targets": [
                {"name": "p", "kind": ["lib"]}, {"name": "speed", "kind": ["bench"]}]}]}"#,
        )
        .unwrap();
        assert_eq!(packages[0].name, "p");
        assert_eq!(packages[0].features["a"], ["dep:x"]);
        assert!(packages[0].foreign.iter().eq(["x"]));
        assert_eq!(packages[0].benches, ["speed"]);
        assert!(read_packages("{}").is_none());
        assert!(read_packages("not json").is_none());
    }

    #[test]
    fn a_tree_is_held_to_its_promise() {
        let promise = Promise { package: "p", features: "memory", with: &["map"], without: &["net"] };
        assert_eq!(promise.judge("p v0.1.0 (/p)\nmap v1.0.0\nnetwork v1.0.0 (*)\n"), Ok(()));
        let broken = promise.judge("p v0.1.0\nmap v1.0.0\nnet v2.0.0\n").unwrap_err().to_string();
        assert!(broken.starts_with("p with only memory pulls in net;"), "{broken}");
        let empty = promise.judge("").unwrap_err().to_string();
        assert!(empty.starts_with("p with only memory lacks map;"), "{empty}");
    }
}
