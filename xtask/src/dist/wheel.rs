//! A Python wheel that carries the binary, for `pip install` and `uvx`.
//!
//! Its layout is that of the packaging guide's "Binary distribution format" (PEP 427), its metadata
//! version 2.4 (PEP 639 for licences), its bill of materials in `sboms` (PEP 770).

use std::fmt::Write as _;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use flate2::Compression;
use sha2::{Digest as _, Sha256};

use super::documents::Documents;
use super::files::Files;
use super::program::{Program, VERSION};
use super::zip::zip;
use crate::failure::Failure;

const SUMMARY: &str = "Share GitHub API responses between CI runners through a chain of caches";
const REPOSITORY: &str = env!("CARGO_PKG_REPOSITORY");
const LICENCE: &str = env!("CARGO_PKG_LICENSE");

/// The wheel's file name and its bytes.
pub(crate) fn wheel(
    program: &Program,
    documents: &Documents,
    level: Compression,
) -> Result<(String, Vec<u8>), Failure> {
    let version = python_version(VERSION)?;
    let platforms = platforms(program);
    let name = format!("peercache-{version}-py3-none-{}.whl", platforms.join("."));
    Ok((name, zip(&content(version, &platforms, program, documents), level)?))
}

/// The platforms that pip compares with its own: a static binary asks neither for glibc nor for
/// musl, so the oldest ones that package indexes know stand for both. One that needs shared
/// libraries is for machines like this one, and no index accepts it.
fn platforms(program: &Program) -> Vec<String> {
    let names: &[&str] = match program.is_static {
        true => &["manylinux_2_17", "manylinux2014", "musllinux_1_1"],
        false => &["linux"],
    };
    names.iter().map(|name| format!("{name}_{}", program.arch.name())).collect()
}

/// Python writes versions before a release otherwise (PEP 440).
fn python_version(version: &str) -> Result<&str, Failure> {
    if version.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.') {
        return Ok(version);
    }
    Err(Failure::new(
        format!("the version {version} has another spelling in Python"),
        "write it in xtask/src/dist/wheel.rs, as PEP 440 says",
    ))
}

fn content(version: &str, platforms: &[String], program: &Program, documents: &Documents) -> Files {
    let mut files = Files::default();
    let data = format!("peercache-{version}.data");
    files.add_program(format!("{data}/scripts/peercache"), Arc::clone(&program.bytes));
    documents.add_shared(&mut files, &format!("{data}/data/"));
    let info = format!("peercache-{version}.dist-info");
    files.add(format!("{info}/METADATA"), metadata(version, documents));
    files.add(format!("{info}/WHEEL"), wheel_file(platforms).into_bytes());
    for (name, text) in &documents.licences {
        files.add(format!("{info}/licenses/{name}"), Arc::clone(text));
    }
    files.add(format!("{info}/sboms/peercache.cdx.json"), Arc::clone(&program.sbom));
    let record = format!("{info}/RECORD");
    let lines = record_lines(&files, &record);
    files.add(record, lines.into_bytes());
    files
}

fn metadata(version: &str, documents: &Documents) -> Vec<u8> {
    let mut head = format!(
        "Metadata-Version: 2.4\nName: peercache\nVersion: {version}\nSummary: {SUMMARY}\n\
         License-Expression: {LICENCE}\n"
    );
    for (name, _) in &documents.licences {
        // Writing to a String cannot fail.
        let _ = writeln!(head, "License-File: {name}");
    }
    let _ = write!(
        head,
        "Project-URL: Repository, {REPOSITORY}\nClassifier: Environment :: Console\n\
         Classifier: Operating System :: POSIX :: Linux\nClassifier: Programming Language :: Rust\n\
         Requires-Python: >=3.8\nDescription-Content-Type: text/markdown; charset=UTF-8\n\n"
    );
    [head.as_bytes(), &documents.readme].concat()
}

fn wheel_file(platforms: &[String]) -> String {
    let mut text =
        format!("Wheel-Version: 1.0\nGenerator: peercache-xtask ({VERSION})\nRoot-Is-Purelib: false\n");
    for platform in platforms {
        let _ = writeln!(text, "Tag: py3-none-{platform}");
    }
    text
}

/// Each file with its digest and size; the list itself has none.
fn record_lines(files: &Files, record: &str) -> String {
    let mut lines = String::new();
    for (path, file) in files.iter() {
        let digest = URL_SAFE_NO_PAD.encode(Sha256::digest(&file.bytes));
        let _ = writeln!(lines, "{path},sha256={digest},{}", file.bytes.len());
    }
    let _ = writeln!(lines, "{record},,");
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn record_has_digest_and_size_of_each_file() {
        let mut files = Files::default();
        files.add("a", *b"abc");
        assert_eq!(
            record_lines(&files, "RECORD"),
            // SHA-256 of "abc" in FIPS 180-2, in URL-safe base64.
            "a,sha256=ungWv48Bz-pBQUDeXa4iI7ADYaOWF3qctBD_YfIAFa0,3\nRECORD,,\n"
        );
    }

    #[test]
    fn version_before_a_release_is_not_guessed() {
        assert_eq!(python_version("1.20.3"), Ok("1.20.3"));
        assert!(python_version("1.0.0-rc.1").unwrap_err().to_string().contains("PEP 440"));
    }

    #[test]
    fn tags_of_the_wheel_are_listed_one_by_one() {
        let text = wheel_file(&["manylinux_2_17_x86_64".to_owned(), "musllinux_1_1_x86_64".to_owned()]);
        assert!(text.ends_with(
            "Root-Is-Purelib: false\nTag: py3-none-manylinux_2_17_x86_64\nTag: py3-none-musllinux_1_1_x86_64\n"
        ));
    }
}
