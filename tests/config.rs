//! Settings: what each one does wherever it is made, which source wins, and what each mistake says.
#![allow(clippy::unwrap_used, reason = "in a test, a failed unwrap is a failed test")]

use peercache::config::ConfigBuilder;
use peercache::{Config, ConfigError};
use proptest::prelude::*;
use proptest::test_runner::FileFailurePersistence;

#[path = "config/documents.rs"]
mod documents;
#[cfg(all(feature = "memory", feature = "disk", feature = "libp2p", feature = "s3"))]
#[path = "config/file.rs"]
mod file;
#[cfg(all(feature = "memory", feature = "disk", feature = "seal"))]
#[path = "config/given.rs"]
mod given;
#[cfg(all(feature = "memory", feature = "disk", feature = "libp2p", feature = "s3"))]
#[path = "config/origin.rs"]
mod origin;
#[cfg(all(feature = "memory", feature = "disk", feature = "libp2p"))]
#[path = "config/peers.rs"]
mod peers;
#[path = "config/reference.rs"]
mod reference;
#[cfg(all(feature = "memory", feature = "disk", feature = "s3"))]
#[path = "config/s3.rs"]
mod s3;
#[cfg(all(feature = "memory", feature = "disk", feature = "seal"))]
#[path = "config/sealed.rs"]
mod sealed;
#[cfg(all(feature = "memory", feature = "disk", feature = "seal"))]
#[path = "config/secret.rs"]
mod secret;

fn read(vars: &[(&str, &str)]) -> Result<Config, ConfigError> {
    Config::from_vars("peercache", |name| {
        vars.iter().find(|(variable, _)| *variable == name).map(|(_, value)| (*value).to_owned())
    })
}

/// The names of backends that errors list are those of this build.
#[cfg(all(feature = "memory", feature = "disk", feature = "libp2p", feature = "s3"))]
mod with_every_tier {
    use std::path::Path;
    use std::time::Duration;

    use insta::assert_snapshot;
    use peercache::chain::Mode;
    use peercache::config::BackendName;
    use peercache::{Key, Ttl};

    use super::*;

    fn complaint(vars: &[(&str, &str)]) -> String {
        read(vars).unwrap_err().to_string()
    }

    fn names(value: &str) -> Vec<&'static str> {
        let config = read(&[("CACHE_BACKEND", value)]).unwrap();
        config.backends().iter().map(|name| name.as_str()).collect()
    }

    #[test]
    fn the_list_is_the_order() {
        assert_eq!(names("memory,disk"), ["memory", "disk"]);
        assert_eq!(names(" Disk , MEMORY "), ["disk", "memory"]);
        assert_eq!(names("disk"), ["disk"]);
        assert_eq!(names("auto"), ["memory", "disk"]);
        assert_eq!(names("none"), [""; 0]);
        assert_eq!(names(""), ["memory", "disk"], "empty counts as unset");
        assert_eq!(read(&[]).unwrap().backends(), [BackendName::Memory, BackendName::Disk]);
        assert_eq!(read(&[("CACHE_BACKENDS", "disk")]).unwrap().backends(), [BackendName::Disk]);
    }

    #[test]
    fn the_newer_name_of_a_variable_wins() {
        let config = read(&[
            ("CACHE_BACKENDS", "memory"),
            ("CACHE_BACKEND", "disk"),
            ("IPFS_ACCELERATE_CACHE_DIR", "/old"),
            ("CACHE_DIR", "/new"),
        ])
        .unwrap();
        assert_eq!((config.backends(), config.dir()), (&[BackendName::Disk][..], Some(Path::new("/new"))));
        let blank = read(&[("CACHE_DIR", " "), ("IPFS_ACCELERATE_CACHE_DIR", "/old")]).unwrap();
        assert_eq!(blank.dir(), Some(Path::new("/old")));
    }

    #[test]
    fn the_directory_follows_the_usual_places() {
        let dir =
            |vars: &[(&str, &str)]| read(vars).unwrap().dir().map(|dir| dir.to_string_lossy().into_owned());
        let home = ("HOME", "/home/ada");
        assert_eq!(dir(&[home]).as_deref(), Some("/home/ada/.cache/peercache"));
        assert_eq!(dir(&[home, ("XDG_CACHE_HOME", "/xdg")]).as_deref(), Some("/xdg/peercache"));
        assert_eq!(
            dir(&[home, ("XDG_CACHE_HOME", "relative")]).as_deref(),
            Some("/home/ada/.cache/peercache"),
            "the XDG specification has relative paths ignored"
        );
        assert_eq!(dir(&[home, ("XDG_CACHE_HOME", "/xdg"), ("CACHE_DIR", "here")]).as_deref(), Some("here"));
        assert_eq!(dir(&[]), None);
        assert_eq!(dir(&[home, ("CACHE_BACKEND", "memory")]), None, "without a disk tier there is none");
    }

    #[test]
    fn mistakes_in_the_list() {
        assert_snapshot!(complaint(&[("CACHE_BACKEND", "memcached")]), @"CACHE_BACKEND=\"memcached\": there is no backend `memcached`; accepted is a comma-separated list of memory, disk, libp2p, redis, ipfs, s3, storacha, or `auto`, or `none`");
        assert_snapshot!(complaint(&[("CACHE_BACKENDS", "memory, disc")]), @"CACHE_BACKENDS=\"memory, disc\": there is no backend `disc`; accepted is a comma-separated list of memory, disk, libp2p, redis, ipfs, s3, storacha, or `auto`, or `none`");
        assert_snapshot!(complaint(&[("CACHE_BACKEND", "disk,memory,disk")]), @"CACHE_BACKEND=\"disk,memory,disk\": `disk` stands there twice; name it once");
        assert_snapshot!(complaint(&[("CACHE_BACKEND", "auto,disk")]), @"CACHE_BACKEND=\"auto,disk\": `auto` stands alone; name it without others, or list backends only");
        assert_snapshot!(complaint(&[("CACHE_BACKEND", "memory,none")]), @"CACHE_BACKEND=\"memory,none\": `none` stands alone; name it without others, or list backends only");
        assert_snapshot!(complaint(&[("CACHE_BACKEND", "me\0mo\nry")]), @"CACHE_BACKEND=\"me\\0mo\\nry\": there is no backend `me�mo�ry`; accepted is a comma-separated list of memory, disk, libp2p, redis, ipfs, s3, storacha, or `auto`, or `none`");
        assert_snapshot!(complaint(&[("CACHE_BACKEND", "memory,,disk")]), @"CACHE_BACKEND=\"memory,,disk\": a name is missing before or after a comma; accepted is a comma-separated list of memory, disk, libp2p, redis, ipfs, s3, storacha, or `auto`, or `none`");
    }

    #[test]
    fn mistakes_in_sizes() {
        assert_snapshot!(complaint(&[("CACHE_MEMORY_BYTES", "lots")]), @"CACHE_MEMORY_BYTES=\"lots\": this is not a size; give a whole number of bytes, or one with a unit such as 64MiB");
        assert_snapshot!(complaint(&[("CACHE_MEMORY_BYTES", "1000k")]), @"CACHE_MEMORY_BYTES=\"1000k\": this is too small, the least is 1MiB; give a whole number of bytes, or one with a unit such as 64MiB");
        assert_snapshot!(complaint(&[("CACHE_DISK_BYTES", "1.5G")]), @"CACHE_DISK_BYTES=\"1.5G\": this is not a size; give a whole number of bytes, or one with a unit such as 1GiB");
        assert_snapshot!(complaint(&[("CACHE_DISK_BYTES", "10MiB")]), @"CACHE_DISK_BYTES=\"10MiB\": this is too small, the least is 16MiB; give a whole number of bytes, or one with a unit such as 1GiB");
    }

    #[test]
    fn mistakes_elsewhere() {
        for bad in ["0", "-1", "5m", "2592001", "1e3"] {
            let expected = format!(
                "CACHE_DEFAULT_TTL={bad:?}: this is not a time to live; give whole seconds from 1 to 2592000"
            );
            assert_eq!(complaint(&[("CACHE_DEFAULT_TTL", bad)]), expected);
        }
        let long = complaint(&[("CACHE_NAMESPACE", &"n".repeat(129))]);
        assert!(long.ends_with("n…\": it has 129 bytes, the most is 128; choose a shorter one"), "{long}");
        assert!(long.len() < 200, "an error is one line: {long}");
        let error = read(&[("CACHE_DISK_BYTES", "x\ny")]).unwrap_err();
        assert_eq!((error.variable(), error.to_string().lines().count()), ("CACHE_DISK_BYTES", 1));
    }

    #[tokio::test]
    async fn what_is_set_is_what_opens() {
        let dir = tempfile::tempdir().unwrap();
        let place = dir.path().join("made/on/demand");
        let vars = [
            ("CACHE_DIR", place.to_str().unwrap()),
            ("CACHE_DEFAULT_TTL", "17"),
            ("CACHE_MEMORY_BYTES", "2 MiB"),
            ("CACHE_DISK_BYTES", "20MB"),
            ("CACHE_NAMESPACE", "tests"),
        ];
        let cache = read(&vars).unwrap().open().await.unwrap();
        assert_eq!(cache.default_ttl(), Duration::from_secs(17));
        let report = cache.report().chain;
        let tiers: Vec<_> =
            report.tiers.iter().map(|tier| (tier.name.as_str(), tier.scope, tier.mode)).collect();
        let mode = Mode::ReadWrite.as_str();
        assert_eq!(tiers, [("memory", "local", mode), ("disk", "local", mode)]);
        let key = Key::new("k").unwrap();
        assert!(cache.put(&key, &1, Ttl::from_secs(1000)).await.unwrap().is_durable());
        cache.close().await.unwrap();

        let again = read(&vars).unwrap().open().await.unwrap();
        assert_eq!(again.get(&key).await, Some(1), "the disk remembers");
        assert_eq!(again.lookup(&key).await.tier.as_deref(), Some("memory"));
        let other = read(&[vars[0]]).unwrap().open().await.unwrap();
        assert_eq!(other.get::<u8>(&key).await, None, "another namespace");
        assert_eq!(other.default_ttl(), Duration::from_secs(300));
    }

    #[tokio::test]
    async fn none_opens_a_cache_that_keeps_nothing() {
        let cache = read(&[("CACHE_BACKEND", "none")]).unwrap().open().await.unwrap();
        assert!(cache.report().chain.tiers.is_empty());
    }

    #[tokio::test]
    async fn places_that_cannot_be_used() {
        let open = async |vars: &[(&str, &str)]| read(vars).unwrap().open().await.unwrap_err();
        let error = open(&[("CACHE_BACKEND", "disk")]).await;
        assert_snapshot!(error, @"CACHE_DIR: the disk tier needs a directory, and neither CACHE_DIR, XDG_CACHE_HOME nor HOME is set; set CACHE_DIR, or CACHE_BACKEND=memory to do without a disk");

        // A file in its place: permissions would not stop a test that runs as root.
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        std::fs::write(&file, "").unwrap();
        let alone = ("CACHE_BACKEND", "disk");
        let error = open(&[alone, ("CACHE_DIR", file.to_str().unwrap())]).await;
        let text = error.to_string().replace(dir.path().to_str().unwrap(), "DIR");
        assert_snapshot!(text, @r#"CACHE_DIR="DIR/file": disk: open failed (configuration): the cache directory is a file [dir=DIR/file]; set CACHE_DIR to a directory that this user can write, or CACHE_BACKEND=memory to do without a disk"#);
        assert_eq!(error.variable(), "CACHE_DIR");
        let inside = file.join("inside");
        let error = open(&[alone, ("CACHE_DIR", inside.to_str().unwrap())]).await;
        let text = error.to_string().replace(dir.path().to_str().unwrap(), "DIR");
        assert_snapshot!(text, @r#"CACHE_DIR="DIR/file/inside": disk: open failed (configuration): the cache directory cannot be read [dir=DIR/file/inside]: Not a directory (os error 20); set CACHE_DIR to a directory that this user can write, or CACHE_BACKEND=memory to do without a disk"#);
    }

    #[tokio::test]
    async fn unusable_disk_is_left_out_where_another_tier_works() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let vars = [("CACHE_DIR", file.path().to_str().unwrap())];
        let cache = read(&vars).unwrap().open().await.unwrap();
        let report = cache.report();
        let tiers: Vec<_> = report.chain.tiers.iter().map(|tier| tier.name.as_str()).collect();
        assert_eq!(tiers, ["memory"]);
        let reason = report.backends["disk"]["left_out"].as_str().unwrap();
        assert!(reason.contains("the cache directory is a file"), "{reason}");
        let key = Key::new("k").unwrap();
        cache.put(&key, &1, Ttl::from_secs(60)).await.unwrap();
        assert_eq!(cache.get(&key).await, Some(1));

        let once = read(&vars).unwrap().one_shot().open().await.unwrap_err();
        assert_eq!(once.variable(), "CACHE_DIR", "memory is of no use to a process that ends");
    }
}

#[cfg(not(feature = "seal"))]
#[test]
fn a_secret_that_this_build_cannot_use_is_no_reason_to_store_in_clear() {
    for name in ["CACHE_SECRET", "CACHE_P2P_SHARED_SECRET", "CACHE_SECRET_OLD"] {
        let text = read(&[(name, "the-hidden-secret")]).unwrap_err().to_string();
        assert_eq!(
            text,
            format!(
                "{name}: this build cannot seal entries, its cargo feature `seal` is off; \
                 in Cargo.toml: peercache = {{ version = \"0.1.0\", features = [\"seal\"] }}"
            )
        );
    }
    assert!(read(&[("CACHE_SECRET", " ")]).is_ok());
}

#[cfg(not(feature = "disk"))]
#[test]
fn a_feature_that_is_off_is_named_with_its_line() {
    insta::assert_snapshot!(read(&[("CACHE_BACKEND", "disk")]).unwrap_err(), @r#"CACHE_BACKEND="disk": this build has no `disk`, its cargo feature is off; in Cargo.toml: peercache = { version = "0.1.0", features = ["disk"] }"#);
    let disk = "disk".parse().unwrap();
    assert!(!read(&[]).unwrap().backends().contains(&disk), "`auto` takes what there is");
}

#[cfg(not(feature = "libp2p"))]
#[test]
fn peers_that_this_build_does_not_have() {
    let line = "peercache = { version = \"0.1.0\", features = [\"libp2p\"] }";
    let text = read(&[("CACHE_BACKEND", "p2p")]).unwrap_err().to_string();
    let expected = format!(
        "CACHE_BACKEND=\"p2p\": this build has no `libp2p`, its cargo feature is off; in Cargo.toml: {line}"
    );
    assert_eq!(text, expected);
    let config = read(&[("CACHE_ENABLE_P2P", "true"), ("CACHE_ROLE", "leaf")]).unwrap();
    assert!(config.backends().iter().all(|name| name.as_str() != "libp2p"), "`auto` takes what there is");
    let expected = format!(
        "CACHE_ENABLE_P2P, CACHE_ROLE are set, but this build has no peers, its cargo feature `libp2p` is off; \
         in Cargo.toml: {line}"
    );
    assert_eq!(config.warnings(), [expected]);
    assert!(read(&[("CACHE_ENABLE_P2P", "false")]).unwrap().warnings().is_empty());
}

const VARIABLES: [&str; 34] = [
    "CACHE_BACKEND",
    "CACHE_BACKENDS",
    "CACHE_DIR",
    "IPFS_ACCELERATE_CACHE_DIR",
    "CACHE_MEMORY_BYTES",
    "CACHE_DISK_BYTES",
    "CACHE_DEFAULT_TTL",
    "CACHE_NAMESPACE",
    "CACHE_ENABLE_P2P",
    "CACHE_LISTEN_PORT",
    "CACHE_BOOTSTRAP_PEERS",
    "CACHE_P2P_BOOTSTRAP",
    "CACHE_ROLE",
    "CACHE_NODE_NAME",
    "CACHE_IDENTITY_FILE",
    "CACHE_ANNOUNCE_ADDRS",
    "CACHE_ALLOWED_PEERS",
    "CACHE_MDNS",
    "CACHE_PEER_BYTES",
    "CACHE_INSECURE_PLAINTEXT",
    "CACHE_SECRET",
    "CACHE_SECRET_OLD",
    "AWS_S3_BUCKET",
    "CACHE_S3_BUCKET",
    "S3_BUCKET",
    "S3_PREFIX",
    "AWS_ENDPOINT_URL_S3",
    "S3_ENDPOINT",
    "AWS_REGION",
    "CACHE_S3_PATH_STYLE",
    "CACHE_CONFIG",
    "HOME",
    "XDG_CACHE_HOME",
    "XDG_CONFIG_HOME",
];

/// Seeds that failed are kept beside this file, to be committed.
fn kept() -> ProptestConfig {
    ProptestConfig {
        failure_persistence: Some(Box::new(FileFailurePersistence::WithSource("regressions"))),
        ..ProptestConfig::default()
    }
}

proptest! {
    #![proptest_config(kept())]

    #[test]
    fn whatever_is_set_it_is_settings_or_one_line(
        values in prop::collection::vec(prop::option::of(prop_oneof![
            ".{0,200}",
            "[a-z0-9, ]{0,20}",
            "[0-9]{0,20} ?[kmgtKMGT]?(i?[bB])?",
            "(memory|disk|auto|none|p2p|s3)(,(memory|disk|auto|none|p2p|s3)){0,3}",
            "(true|false|anchor|leaf|/ip4/10\\.0\\.0\\.1/tcp/[0-9]{1,5})(,/dns4/a/tcp/[0-9]{1,5}){0,2}",
        ]), VARIABLES.len())
    ) {
        let set = |name: &str| {
            let place = VARIABLES.iter().position(|variable| *variable == name)?;
            values[place].clone()
        };
        match Config::from_vars("peercache", set) {
            Ok(config) => {
                let mut names = config.backends().to_vec();
                names.dedup();
                prop_assert_eq!(names.len(), config.backends().len());
            }
            Err(error) => {
                let text = error.to_string();
                prop_assert!(text.starts_with(error.variable()) && text.lines().count() == 1, "{}", text);
                prop_assert!(VARIABLES.contains(&error.variable()));
            }
        }
    }

    #[test]
    fn whatever_a_file_says_it_is_settings_or_one_line(
        text in prop_oneof![
            "[ -~\n]{0,200}",
            prop::collection::vec(
                prop_oneof![
                    "(backend|dir|memory_bytes|disk_bytes|default_ttl|namespace|secret|secret_old|listen_port|\
                     bootstrap_peers|role|mdns|peer_bytes|identity_file|x) = \
                     (\"[a-z0-9/, ]{0,20}\"|-?[0-9]{1,20}|true|\\[\"[a-z]{0,9}\"\\]|1\\.5|\\{\\}|1979-05-27)",
                    "#[ -~]{0,20}",
                ],
                0..4,
            ).prop_map(|lines| lines.join("\n")),
        ]
    ) {
        if let Err(error) = ConfigBuilder::new("peercache").file_text("f.toml", text).read_vars(|_| None) {
            let text = error.to_string();
            prop_assert!(text.starts_with("f.toml:") && text.lines().count() == 1, "{}", text);
        }
    }

    #[test]
    fn sizes_in_any_spelling_are_the_same(mib in 16_u64..4096) {
        let bytes = (mib << 20).to_string();
        let (binary, short) = (format!("{mib}MiB"), format!("{mib} m"));
        let read = |value: &str| read(&[("CACHE_DISK_BYTES", value), ("CACHE_MEMORY_BYTES", value)]).unwrap();
        prop_assert_eq!(read(&bytes), read(&binary));
        prop_assert_eq!(read(&bytes), read(&short));
    }
}
