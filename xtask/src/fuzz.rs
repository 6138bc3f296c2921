//! `cargo xtask fuzz`: the fuzzers of `fuzz/`, each for a while, with a line about how it went.

use std::collections::VecDeque;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};

use crate::failure::Failure;
use crate::fetch;
use crate::run::{Run, checkout};
use crate::tools::Tools;

/// Builds the fuzzers with the sanitizer and the coverage that they need.
const CARGO_FUZZ: &str = "0.13.2";
/// Lines of a fuzzer that are shown when it found something: the panic and where it came from.
const SHOWN_LINES: usize = 80;
/// What a fuzzer may take: an input that needs more is a finding.
const LIMITS: [&str; 2] = ["-rss_limit_mb=1024", "-timeout=10"];

/// One fuzzer.
struct Target {
    name: &'static str,
    /// Folders of inputs to begin with, which are only read.
    seeds: &'static [&'static str],
    /// Words that its inputs are made of.
    words: Option<&'static str>,
}

const TARGETS: [Target; 10] = [
    Target { name: "envelope", seeds: &["crates/cache-api/tests/golden/v1"], words: None },
    Target { name: "manifest", seeds: &[], words: None },
    Target { name: "config", seeds: &["fuzz/seeds/config"], words: Some("fuzz/config.dict") },
    Target { name: "journal", seeds: &["crates/cache-api/tests/golden/v1"], words: None },
    Target { name: "sealed", seeds: &["crates/cache-seal/tests/golden"], words: None },
    Target { name: "peers", seeds: &[], words: None },
    Target { name: "storacha_car", seeds: &["fuzz/seeds/storacha"], words: None },
    Target { name: "storacha_cbor", seeds: &["fuzz/seeds/storacha"], words: None },
    Target { name: "storacha_token", seeds: &["fuzz/seeds/storacha"], words: None },
    Target { name: "storacha_receipt", seeds: &["fuzz/seeds/storacha"], words: None },
];

/// Runs the fuzzers of these names, or all of them, for `seconds` each, one after the other.
pub(crate) fn fuzz(tools: &Tools, names: &[String], seconds: u32) -> Result<(), Failure> {
    let targets = chosen(names)?;
    let host = nightly_host()?;
    let slot = format!("cargo-fuzz-{CARGO_FUZZ}");
    let tool = tools.install(&slot, |dir| fetch::cargo_install("cargo-fuzz", CARGO_FUZZ, dir))?;
    build(&tool.join("bin/cargo-fuzz"), &targets)?;

    let mut found = Vec::new();
    for target in targets {
        let outcome = target.run(&host, seconds)?;
        println!("{}: {}", target.name, outcome.line(seconds));
        if !outcome.status.success() {
            outcome.last.iter().for_each(|line| eprintln!("  {line}"));
            found.push(target.name);
        }
    }
    if found.is_empty() {
        return Ok(());
    }
    Err(Failure::new(
        format!("findings: {}", found.join(", ")),
        format!(
            "the inputs are in fuzz/artifacts; mend the cause, then run one again with \
             `fuzz/target/{host}/release/NAME FILE`, and keep what it taught as a test"
        ),
    ))
}

fn chosen(names: &[String]) -> Result<Vec<&'static Target>, Failure> {
    if names.is_empty() {
        return Ok(TARGETS.iter().collect());
    }
    let find = |name| TARGETS.iter().find(|target| target.name == name).ok_or(name);
    names.iter().map(String::as_str).map(find).collect::<Result<_, _>>().map_err(|name| {
        let known: Vec<_> = TARGETS.iter().map(|target| target.name).collect();
        Failure::new(format!("there is no fuzzer called {name}"), format!("there are: {}", known.join(", ")))
    })
}

/// The platform that nightly builds for; the check that there is a nightly at all.
fn nightly_host() -> Result<String, Failure> {
    const NEXT: &str = "fuzzers need a nightly compiler: rustup toolchain install nightly --profile minimal";
    let said = Run::as_typed("rustup", NEXT).args(["run", "nightly", "rustc", "-vV"]).read()?;
    let host = said.lines().find_map(|line| line.strip_prefix("host: "));
    host.map(str::to_owned).ok_or_else(|| Failure::new("`rustc -vV` names no host", NEXT))
}

fn build(cargo_fuzz: &Path, targets: &[&Target]) -> Result<(), Failure> {
    // All at once, unless one is asked for: cargo-fuzz takes one name or none.
    let only = match targets {
        [one] => Some(one.name),
        _ => None,
    };
    Run::as_typed("rustup", "look above for what the compiler said")
        .args(["run", "nightly"])
        .args([cargo_fuzz])
        .args(["build", "--fuzz-dir", "fuzz", "--target-dir", "fuzz/target"])
        .args(only)
        // Not the cargo that runs us: that is another toolchain's.
        .env("CARGO", "cargo")
        .succeed()
}

/// How a run ended.
struct Outcome {
    status: ExitStatus,
    progress: Progress,
    last: VecDeque<String>,
}

/// What libFuzzer said about its progress.
#[derive(Debug, Default, PartialEq, Eq)]
struct Progress {
    runs: u64,
    /// Edges of the program that some input reached.
    edges: u64,
    /// Inputs that reached something new, and are kept.
    kept: u64,
    peak_mib: u64,
}

impl Progress {
    /// Takes what a line says: `#65536 pulse cov: 812 ft: 2903 corp: 240/18Kb …`, and at the end
    /// `stat::peak_rss_mb: 130`.
    fn read(&mut self, line: &str) {
        let words: Vec<_> = line.split_whitespace().collect();
        let after = |name: &str| {
            let at = words.iter().position(|word| *word == name)?;
            words.get(at + 1)?.split('/').next()?.parse().ok()
        };
        if let Some(runs) = line.strip_prefix('#').and_then(|_| words.first()?[1..].parse().ok()) {
            self.runs = runs;
            self.edges = after("cov:").unwrap_or(self.edges);
            self.kept = after("corp:").unwrap_or(self.kept);
        }
        self.runs = after("stat::number_of_executed_units:").unwrap_or(self.runs);
        self.peak_mib = after("stat::peak_rss_mb:").unwrap_or(self.peak_mib);
    }
}

impl Outcome {
    fn line(&self, seconds: u32) -> String {
        let Progress { runs, edges, kept, peak_mib } = self.progress;
        let found = match self.status.success() {
            true => "no finding".to_owned(),
            false => format!("A FINDING ({})", self.status),
        };
        format!(
            "{runs} runs in at most {seconds} s, {edges} edges, {kept} inputs kept, {peak_mib} MiB at most: {found}"
        )
    }
}

impl Target {
    fn run(&self, host: &str, seconds: u32) -> Result<Outcome, Failure> {
        let fuzz = checkout().join("fuzz");
        let (corpus, artifacts) =
            (fuzz.join("corpus").join(self.name), fuzz.join("artifacts").join(self.name));
        for dir in [&corpus, &artifacts] {
            fs::create_dir_all(dir).map_err(|error| {
                Failure::new(
                    format!("{} cannot be made: {error}", dir.display()),
                    "make the checkout writable",
                )
            })?;
        }
        let program: PathBuf = [&fuzz, Path::new("target"), Path::new(host), Path::new("release")]
            .iter()
            .collect::<PathBuf>()
            .join(self.name);
        let failed = |error: std::io::Error| {
            Failure::new(
                format!("{} cannot be run: {error}", self.name),
                "look above for what the build said",
            )
        };
        let mut command = Command::new(program);
        command
            .current_dir(checkout())
            .args(LIMITS)
            .args([format!("-max_total_time={seconds}"), "-print_final_stats=1".to_owned()])
            .arg(format!("-artifact_prefix={}/", artifacts.display()))
            .args(self.words.map(|words| format!("-dict={words}")))
            .arg(&corpus)
            .args(self.seeds)
            // Two crates may bring the same C symbol, which is not for us to mend.
            .env("ASAN_OPTIONS", "detect_odr_violation=0")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped());
        eprintln!("$ fuzz/target/{host}/release/{} for {seconds} s", self.name);
        let mut child = command.spawn().map_err(failed)?;
        let (mut progress, mut last) = (Progress::default(), VecDeque::new());
        if let Some(said) = child.stderr.take() {
            for line in BufReader::new(said).split(b'\n') {
                let line = String::from_utf8_lossy(&line.map_err(failed)?).into_owned();
                progress.read(&line);
                // What it learns as it goes is of interest to nobody.
                if line.starts_with('#') {
                    continue;
                }
                if last.len() == SHOWN_LINES {
                    last.pop_front();
                }
                last.push_back(line);
            }
        }
        let status = child.wait().map_err(failed)?;
        Ok(Outcome { status, progress, last })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_fuzzer_has_its_target_and_its_seeds() {
        let root = checkout();
        let mut files: Vec<_> = fs::read_dir(root.join("fuzz/targets"))
            .unwrap()
            .map(|file| file.unwrap().path().file_stem().unwrap().to_string_lossy().into_owned())
            .collect();
        let mut names: Vec<_> = TARGETS.iter().map(|target| target.name).collect();
        files.sort();
        names.sort_unstable();
        assert_eq!(files, names);
        let manifest = fs::read_to_string(root.join("fuzz/Cargo.toml")).unwrap();
        for target in &TARGETS {
            assert!(manifest.contains(&format!("path = \"targets/{}.rs\"", target.name)));
            assert!(target.seeds.iter().all(|seeds| root.join(seeds).is_dir()), "{}", target.name);
            assert!(target.words.is_none_or(|words| root.join(words).is_file()), "{}", target.name);
        }
    }

    #[test]
    fn the_one_that_is_asked_for_is_run_and_an_unknown_one_lists_them_all() {
        assert_eq!(chosen(&[]).map(|all| all.len()).ok(), Some(TARGETS.len()));
        let one = chosen(&["config".to_owned()]).ok().unwrap();
        assert_eq!(one.iter().map(|target| target.name).collect::<Vec<_>>(), ["config"]);
        let unknown = chosen(&["config".to_owned(), "x".to_owned()]).err().unwrap().to_string();
        assert!(unknown.starts_with("there is no fuzzer called x; there are: envelope, "), "{unknown}");
    }

    #[test]
    fn progress_is_read_from_what_libfuzzer_says() {
        let mut progress = Progress::default();
        for line in [
            "INFO: Seed: 1",
            "#12\tINITED cov: 300 ft: 301 corp: 2/3b exec/s: 0 rss: 40Mb",
            "#65536\tpulse  cov: 812 ft: 2903 corp: 240/18Kb lim: 4096 exec/s: 32768 rss: 90Mb",
            "#70000\tDONE   cov: 813 ft: 2910 corp: 241/18Kb lim: 4096 exec/s: 35000 rss: 91Mb",
            "stat::number_of_executed_units: 70001",
            "stat::peak_rss_mb:              130",
        ] {
            progress.read(line);
        }
        assert_eq!(progress, Progress { runs: 70_001, edges: 813, kept: 241, peak_mib: 130 });
    }
}
