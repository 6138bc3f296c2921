//! `cargo xtask dist`: the command, packed for those who do not build it.
//!
//! The same binary gives the same bytes: files are in order, with fixed times and owners.

mod archive;
mod documents;
mod elf;
mod files;
mod json;
mod npm;
mod program;
mod sbom;
mod tar;
mod wheel;
mod zip;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use clap::Args;
use flate2::Compression;

use self::documents::Documents;
use self::program::{Program, VERSION, sha256, that_runs_here};
use crate::failure::Failure;
use crate::run::checkout;
use crate::static_binary;

/// The checksums of the files beside it, as `sha256sum --check` reads them.
const SUMS: &str = "SHA256SUMS";

/// What to pack, and where to.
#[derive(Args, Debug)]
pub(crate) struct DistArgs {
    /// Pack this binary; repeatable, once for each processor [default: build the static one of this
    /// machine, optimised, which takes many minutes]
    #[arg(long, value_name = "FILE")]
    binary: Vec<PathBuf>,
    /// The folder that the packages are written into [default: target/dist]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Compress little: for a try
    #[arg(long)]
    fast: bool,
}

/// Packs what `args` say, and prints the name, size and digest of each file.
pub(crate) fn dist(args: &DistArgs) -> Result<(), Failure> {
    let level = if args.fast { Compression::fast() } else { Compression::best() };
    let binaries =
        if args.binary.is_empty() { vec![static_binary::for_dist()?] } else { args.binary.clone() };
    let programs = load(&binaries)?;
    let out = args.out.clone().unwrap_or_else(|| checkout().join("target").join("dist"));
    std::fs::create_dir_all(&out).map_err(|error| unwritable(&out, &error))?;
    let scratch = out.join(format!(".man-pages-{}", std::process::id()));
    let documents = Documents::gather(that_runs_here(&programs)?, &scratch)?;

    let mut packages = BTreeMap::new();
    for program in &programs {
        packages.extend([archive::archive(program, &documents, level)?]);
        packages.extend([wheel::wheel(program, &documents, level)?]);
        let bill = format!("peercache-{VERSION}-{}.cdx.json", program.platform());
        packages.insert(bill, program.sbom.to_vec());
        if !program.is_static {
            eprintln!(
                "xtask: warning: the {} binary needs shared libraries; it runs where glibc is as new as here",
                program.arch.name()
            );
        }
    }
    packages.extend([npm::npm(&programs, &documents, level)?]);
    let mut sums = String::new();
    for (name, bytes) in &packages {
        let digest = sha256(bytes);
        println!("{digest}  {:>11}  {name}", bytes.len());
        // Two blanks, as for binary files. Writing to a String cannot fail.
        let _ = writeln!(sums, "{digest}  {name}");
        write(&out.join(name), bytes)?;
    }
    write(&out.join(SUMS), sums.as_bytes())?;
    println!("in {}, with {SUMS}", out.display());
    Ok(())
}

/// One binary for each processor.
fn load(binaries: &[PathBuf]) -> Result<Vec<Program>, Failure> {
    let mut programs: Vec<Program> = Vec::new();
    for file in binaries {
        let program = Program::load(file)?;
        if programs.iter().any(|other| other.arch == program.arch) {
            return Err(Failure::new(
                format!("{} is a second binary for {}", file.display(), program.arch.name()),
                "name one for each processor",
            ));
        }
        programs.push(program);
    }
    // Packages list them in the same order however they were named.
    programs.sort_by_key(|program| program.arch);
    Ok(programs)
}

fn write(file: &Path, bytes: &[u8]) -> Result<(), Failure> {
    std::fs::write(file, bytes).map_err(|error| unwritable(file, &error))
}

fn unwritable(path: &Path, error: &std::io::Error) -> Failure {
    Failure::new(format!("{} cannot be written: {error}", path.display()), "name another folder with --out")
}
