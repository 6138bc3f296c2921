//! Every variable that a document or a file of `deploy/` names is a setting.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use peercache::config::known_settings;

/// What the names of settings begin with.
const PREFIXES: [&str; 7] = ["CACHE_", "IPFS_", "REDIS_", "S3_", "STORACHA_", "WEB3_", "AWS_S3_"];
/// Variables that the command reads beside the settings.
const OF_THE_COMMAND: [&str; 3] = ["CACHE_CONFIG", "CACHE_CLIENT_TOKEN", "CACHE_WEBHOOK_SECRET"];
/// Variables of other programs.
const OF_OTHERS: [&str; 1] = ["IPFS_TELEMETRY"];
/// Pages that name variables of another program beside ours.
const ABOUT_OTHERS: [&str; 1] = ["docs/migration.md"];

#[test]
fn variables_in_documents_and_deployment_files_are_settings() {
    let known: BTreeSet<&str> = known_settings()
        .iter()
        .flat_map(|setting| setting.variables.iter().copied())
        .chain(OF_THE_COMMAND)
        .chain(OF_OTHERS)
        .collect();
    let mut unknown = Vec::new();
    for file in files() {
        let text = std::fs::read_to_string(root().join(&file)).unwrap();
        for name in variables(&text) {
            if !known.contains(name.as_str()) {
                unknown.push(format!("{}: {name}", file.display()));
            }
        }
    }
    assert!(unknown.is_empty(), "no settings:\n{}", unknown.join("\n"));
}

#[test]
fn both_recipes_make_the_same_image() {
    let last_stage = |file: &str| {
        let text = std::fs::read_to_string(root().join(file)).unwrap();
        let (_, stage) = text.split_once("FROM scratch\n").unwrap();
        stage.to_owned()
    };
    // One copies from the stage that builds, the other from its context.
    let built = last_stage("Dockerfile").replace("--from=build ", "");
    let built = built
        .replace(" /peercache /peercache", " peercache /peercache")
        .replace(" /cache /cache", " cache /cache");
    assert_eq!(built, last_stage("deploy/Dockerfile.prebuilt"));
}

#[test]
fn variables_are_found_and_names_in_workflows_are_left_out() {
    let text = "`CACHE_DIR`, CACHE_* ${{ secrets.CACHE_X }} ${{ vars.CACHE_Y }} PEERCACHE_S3_Z $S3_PREFIX:*";
    assert_eq!(variables(text), ["CACHE_DIR", "S3_PREFIX"]);
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).to_owned()
}

/// Documents, files of `deploy/`, the image and the action.
fn files() -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> =
        ["README.md", "CONTRIBUTING.md", "Dockerfile", "action.yml"].iter().map(PathBuf::from).collect();
    let mut folders = vec![PathBuf::from("docs"), PathBuf::from("deploy")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(root().join(&folder)).unwrap() {
            let entry = entry.unwrap();
            let path = folder.join(entry.file_name());
            match entry.file_type().unwrap().is_dir() {
                true => folders.push(path),
                false => files.push(path),
            }
        }
    }
    files.retain(|file| !ABOUT_OTHERS.iter().any(|page| file == Path::new(page)));
    files
}

/// The names in `text` that look like settings. Names of a workflow's own secrets and variables are
/// left out, and so are prefixes such as `CACHE_*`.
fn variables(text: &str) -> Vec<String> {
    let is_name = |c: char| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_';
    let mut found = Vec::new();
    let mut rest = text;
    while let Some(start) = rest.find(is_name) {
        let before = &rest[..start];
        let name: String = rest[start..].chars().take_while(|c| is_name(*c)).collect();
        let of_a_workflow = before.ends_with("secrets.") || before.ends_with("vars.");
        let is_whole = !name.ends_with('_') && PREFIXES.iter().any(|prefix| name.starts_with(prefix));
        rest = &rest[start + name.len()..];
        if is_whole && !of_a_workflow {
            found.push(name);
        }
    }
    found
}
