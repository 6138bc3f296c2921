//! Values that are not what their author meant, secrets in files, and programs beside each other.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use peercache::seal::Secret;
use peercache::{Cache, Config, ConfigError, Key, Ttl};

use crate::read;

const SECRET: &str = "pc-secret-1-KioqKioqKioqKioqKioqKioqKioqKioqKioqKioqKirrM9Ug";

/// What is wrong, which must not repeat the value of a secret.
fn refused(name: &str, value: &str) -> String {
    let result = read(&[(name, value)]).and_then(|config| config.settings());
    let Err(error) = result else { panic!("{name}={value} is accepted") };
    let text = error.to_string();
    assert!(text.starts_with(name), "{text}");
    assert!(!text.contains("KioqKioq"), "{text}");
    text
}

#[test]
fn secret_that_is_not_alone_is_refused() {
    let cases = [
        (format!("\"{SECRET}\""), "begins with a quotation mark"),
        (format!("'{SECRET}'"), "begins with a quotation mark"),
        (format!("CACHE_SECRET={SECRET}"), "there is something before the secret"),
        (format!("export CACHE_SECRET={SECRET}"), "there is something before the secret"),
        (format!("{SECRET} # of the fleet"), "the secret is damaged"),
        ("$CACHE_SECRET_FROM_VAULT".to_owned(), "a placeholder that nothing has filled in"),
        ("${{ secrets.CACHE_SECRET }}".to_owned(), "a placeholder that nothing has filled in"),
        ("***************".to_owned(), "the value is a mask"),
    ];
    for (value, problem) in cases {
        for name in ["CACHE_SECRET", "CACHE_P2P_SHARED_SECRET"] {
            assert!(refused(name, &value).contains(problem), "{name}: {problem}: {}", refused(name, &value));
        }
    }
    for value in [format!("{SECRET}\n"), format!("{SECRET}\r\n"), format!(" {SECRET} ")] {
        read(&[("CACHE_SECRET", &value)]).unwrap().settings().unwrap();
    }
}

#[test]
fn quoted_value_or_placeholder_is_refused_in_every_setting() {
    for setting in peercache::config::known_settings() {
        for value in ["\"x\"", "'x'", "$NAME", "****"] {
            refused(setting.variables[0], value);
        }
    }
    for value in ["\"/c.toml\"", "$HOME/c.toml"] {
        assert!(read(&[("CACHE_CONFIG", value)]).is_err(), "{value}");
    }
}

#[test]
fn secret_in_a_setting_that_is_shown_is_refused() {
    for setting in peercache::config::known_settings().into_iter().filter(|setting| !setting.secret) {
        let text = refused(setting.variables[0], SECRET);
        assert!(text.contains("pc-secret-…"), "{text}");
    }
}

#[test]
fn home_directory_is_expanded_wherever_a_path_is_taken() {
    let home = |vars: &[(&str, &str)]| {
        let vars: Vec<_> = vars.iter().chain(&[("HOME", "/home/ada")]).copied().collect();
        read(&vars).unwrap().settings().unwrap()
    };
    for (variable, key) in [
        ("CACHE_DIR", "dir"),
        ("CACHE_IDENTITY_FILE", "identity_file"),
        ("CACHE_SOCKET", "socket"),
        ("CACHE_GITHUB_POLICY", "github_policy"),
    ] {
        let settings = home(&[(variable, "~/x")]);
        let value = &settings.iter().find(|setting| setting.name == key).unwrap().value;
        assert_eq!(value, "/home/ada/x", "{variable}");
        assert!(read(&[(variable, "~/x")]).is_err(), "{variable} without HOME");
        assert!(read(&[(variable, "~bob/x"), ("HOME", "/home/ada")]).is_err(), "{variable} of another user");
    }
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("c.toml"), "default_ttl = 7").unwrap();
    let vars = [("CACHE_CONFIG", "~/c.toml"), ("HOME", dir.path().to_str().unwrap())];
    let settings = read(&vars).unwrap().settings().unwrap();
    assert!(settings.iter().any(|setting| setting.name == "default_ttl" && setting.value == "7"));
}

fn secret_file(text: &str, mode: u32) -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("secret");
    fs::write(&path, text).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
    (dir, path)
}

fn with_file(path: &Path) -> Result<Config, ConfigError> {
    read(&[("CACHE_SECRET_FILE", path.to_str().unwrap())])
}

#[test]
fn secret_is_read_from_the_file_that_a_setting_names() {
    let (_dir, path) = secret_file(&format!("{SECRET}\n"), 0o600);
    let config = with_file(&path).unwrap();
    assert!(config.warnings().is_empty());
    let settings = config.settings().unwrap();
    let secret = settings.iter().find(|setting| setting.name == "secret").unwrap();
    assert!(secret.value.starts_with("set, key id 4365b5b621b7611a"), "{secret}");
    assert_eq!(secret.origin.to_string(), format!("file {}, CACHE_SECRET_FILE", path.display()));
    let link = path.with_file_name("link");
    std::os::unix::fs::symlink("secret", &link).unwrap();
    assert_eq!(
        with_file(&link).unwrap().settings().unwrap().len(),
        settings.len(),
        "as Kubernetes mounts them"
    );
    let both = [("CACHE_SECRET", SECRET), ("CACHE_SECRET_FILE", path.to_str().unwrap())];
    let error = read(&both).unwrap_err().to_string();
    assert!(error.contains("CACHE_SECRET gives the same setting; leave one of the two out"), "{error}");
    let blank = [("CACHE_SECRET", " "), both[1]];
    assert!(read(&blank).is_ok(), "a variable that is blank is not set");
}

#[test]
fn secret_file_that_others_can_read_is_accepted_with_a_warning() {
    for mode in [0o444, 0o440, 0o644] {
        let (_dir, path) = secret_file(SECRET, mode);
        let config = with_file(&path).unwrap();
        let warnings = config.warnings().join("\n");
        assert!(
            warnings.contains("other users of this machine can read this secret"),
            "{mode:o}: {warnings}"
        );
    }
}

#[test]
fn secret_file_that_others_can_write_is_refused() {
    for mode in [0o620, 0o602, 0o666] {
        let (_dir, path) = secret_file(SECRET, mode);
        let error = with_file(&path).unwrap_err();
        assert_eq!(error.variable(), "CACHE_SECRET_FILE");
        let text = error.to_string();
        assert!(text.contains("other users can write the file"), "{mode:o}: {text}");
        assert!(text.contains("chmod go-w"), "{text}");
    }
}

#[test]
fn secret_file_that_is_of_no_use_says_why() {
    let (dir, path) = secret_file("", 0o600);
    let complaint = |path: &Path| with_file(path).unwrap_err().to_string();
    assert!(complaint(&path).contains("the file is empty"));
    fs::write(&path, format!("{SECRET}\n{SECRET}\n")).unwrap();
    assert!(complaint(&path).contains("more than one line") && !complaint(&path).contains("KioqKioq"));
    fs::write(&path, [0xff]).unwrap();
    assert!(complaint(&path).contains("not UTF-8"));
    fs::write(&path, format!("\"{SECRET}\"")).unwrap();
    let quoted = complaint(&path);
    assert!(quoted.contains("quotation mark") && !quoted.contains("KioqKioq"), "{quoted}");
    assert!(complaint(dir.path()).contains("this is not a regular file"));
    assert!(complaint(&dir.path().join("absent")).contains("the file cannot be read"));
    let token = [("WEB3_STORAGE_TOKEN_FILE", "/nonexistent")];
    assert!(
        read(&token).unwrap_err().to_string().contains("the file cannot be read"),
        "every setting of a file"
    );
}

async fn open(application: &str, vars: &[(&str, &str)]) -> Cache {
    let find =
        |name: &str| vars.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned());
    Config::from_vars(application, find).unwrap().open().await.unwrap()
}

#[tokio::test]
async fn two_programs_share_neither_directory_nor_entries() {
    let dir = tempfile::tempdir().unwrap();
    let dir_of = |application: &str, vars: &[(&str, &str)]| {
        let find =
            |name: &str| vars.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned());
        Config::from_vars(application, find).unwrap().dir().unwrap().to_owned()
    };
    let home = [("HOME", "/home/ada")];
    assert_eq!(dir_of("one", &home), Path::new("/home/ada/.cache/one/peercache"));
    assert_eq!(dir_of("peercache", &home), Path::new("/home/ada/.cache/peercache"));

    // One environment gives both of them a directory and a namespace.
    let vars = [("CACHE_DIR", dir.path().to_str().unwrap()), ("CACHE_NAMESPACE", "team")];
    let key = Key::new("k").unwrap();
    let one = open("one", &vars).await;
    assert!(one.put(&key, &1, Ttl::from_secs(60)).await.unwrap().is_durable());
    one.close().await.unwrap();
    assert_eq!(open("two", &vars).await.get::<u8>(&key).await, None);
    assert_eq!(open("one", &vars).await.get::<u8>(&key).await, Some(1));
    for bad in ["", "a b", "-a", "a/b", &"a".repeat(65)] {
        assert!(Config::from_vars(bad, |_| None).is_err(), "{bad}");
    }
}

#[cfg(feature = "s3")]
#[test]
fn bucket_of_other_software_is_no_tier_of_a_library() {
    let tiers = |application: &str, vars: &[(&str, &str)]| {
        let find =
            |name: &str| vars.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned());
        let config = Config::from_vars(application, find).unwrap();
        config.backends().iter().map(|name| name.as_str()).collect::<Vec<_>>().join(",")
    };
    let others = ("AWS_S3_BUCKET", "uploads");
    assert_eq!(tiers("my-app", &[others]), "memory,disk");
    assert_eq!(tiers("my-app", &[("S3_BUCKET", "uploads")]), "memory,disk");
    assert_eq!(tiers("peercache", &[others]), "memory,disk,s3", "the command takes it");
    assert_eq!(tiers("my-app", &[others, ("CACHE_BACKEND", "s3")]), "memory,disk,s3");
    assert_eq!(tiers("my-app", &[others, ("CACHE_S3_BUCKET", "cache")]), "memory,disk,s3");
    let find = |name: &str| match name {
        "AWS_S3_BUCKET" => Some("uploads".to_owned()),
        "CACHE_S3_BUCKET" => Some("cache".to_owned()),
        _ => None,
    };
    let settings = Config::from_vars("my-app", find).unwrap().settings().unwrap();
    let bucket = settings.iter().find(|setting| setting.name == "s3_bucket").unwrap();
    assert_eq!(bucket.value, "cache", "the variable of this cache alone wins");
}

#[tokio::test]
async fn builder_takes_a_tier_of_ones_own() {
    let dir = tempfile::tempdir().unwrap();
    let vars = [("CACHE_DIR", dir.path().to_str().unwrap()), ("CACHE_READ_TIMEOUT", "disk=7s")];
    let find =
        |name: &str| vars.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned());
    let config = Config::from_vars("my-app", find).unwrap();
    let mine = peercache::Memory::with_capacity(1 << 20);
    let cache = config.builder().await.unwrap().tier(mine).build().unwrap();
    let tiers: Vec<_> = cache.report().chain.tiers.iter().map(|tier| tier.name.clone()).collect();
    assert_eq!(tiers.len(), 3, "{tiers:?}");
    let explained = cache.explain(&Key::new("k").unwrap()).await.to_string();
    assert!(explained.contains("7000 ms"), "the deadline of the setting: {explained}");
}

#[tokio::test]
async fn untrusted_job_leaves_nothing_on_the_disk() {
    let dir = tempfile::tempdir().unwrap();
    let place = ("CACHE_DIR", dir.path().to_str().unwrap());
    let key = Key::new("k").unwrap();
    let trusted = open("peercache", &[place]).await;
    assert!(trusted.put(&key, &1, Ttl::from_secs(60)).await.unwrap().is_durable());
    trusted.close().await.unwrap();
    let fork = [place, ("GITHUB_EVENT_NAME", "pull_request")];
    let outsider = open("peercache", &fork).await;
    assert_eq!(outsider.get::<u8>(&key).await, Some(1), "it reads what is there");
    assert!(!outsider.put(&key, &2, Ttl::from_secs(60)).await.unwrap().is_durable());
    outsider.close().await.unwrap();
    assert_eq!(open("peercache", &[place]).await.get::<u8>(&key).await, Some(1));
    let secret = Secret::generate().unwrap().to_text();
    let told = [fork.as_slice(), &[("CACHE_READ_ONLY", "false"), ("CACHE_SECRET", &secret)]].concat();
    let allowed = open("peercache", &told).await;
    assert!(allowed.put(&key, &3, Ttl::from_secs(60)).await.unwrap().is_durable(), "a setting may allow it");
}
