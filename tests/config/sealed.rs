//! A directory that is sealed: who has which secret sees what.

use std::fs;
use std::path::Path;

use peercache::config::ConfigBuilder;
use peercache::seal::Secret;
use peercache::{Cache, Key, Ttl};

const VALUE: &str = "the-hidden-value";

fn key() -> Key {
    Key::new("acme/secret-plans").unwrap()
}

fn text(secret: &Secret) -> String {
    secret.to_text().to_string()
}

/// The cache of `dir`, alone: what memory holds would hide what the disk does.
async fn open(dir: &Path, secret: Option<&str>, old: &[&str]) -> Cache {
    let mut config =
        ConfigBuilder::new("peercache").without_file().backend(["disk".parse().unwrap()]).dir(dir);
    if let Some(secret) = secret {
        config = config.secret(secret).secret_old(old.iter().copied());
    }
    config.read_vars(|_| None).unwrap().open().await.unwrap()
}

async fn get(dir: &Path, secret: Option<&str>, old: &[&str]) -> Option<String> {
    let cache = open(dir, secret, old).await;
    let value = cache.get(&key()).await;
    cache.close().await.unwrap();
    value
}

async fn put(dir: &Path, secret: Option<&str>, value: &str) -> bool {
    let cache = open(dir, secret, &[]).await;
    let outcome = cache.put(&key(), value, Ttl::from_secs(600)).await.unwrap();
    cache.close().await.unwrap();
    outcome.is_durable()
}

fn every_file(dir: &Path, bytes: &mut Vec<u8>) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            every_file(&path, bytes);
        } else {
            bytes.extend(path.file_name().unwrap().as_encoded_bytes());
            bytes.extend(fs::read(path).unwrap());
        }
    }
}

fn contains(dir: &Path, text: impl AsRef<[u8]>) -> bool {
    let text = text.as_ref();
    let mut bytes = Vec::new();
    every_file(dir, &mut bytes);
    assert!(!bytes.is_empty());
    bytes.windows(text.len()).any(|window| window == text)
}

#[tokio::test]
async fn each_secret_sees_its_own_and_nobody_sees_it_in_clear() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let (ours, theirs) = (Secret::generate().unwrap(), Secret::generate().unwrap());
    let (full, read_only, other) = (text(&ours), text(&ours.read_only()), text(&theirs));

    assert!(put(dir, Some(&full), VALUE).await);
    assert!(!contains(dir, "secret-plans") && !contains(dir, VALUE));
    assert!(!contains(dir, key().digest()), "nor what names the key where nothing is sealed");

    let ours = Some(VALUE.to_owned());
    assert_eq!(get(dir, Some(&full), &[]).await, ours);
    assert_eq!(get(dir, Some(&read_only), &[]).await, ours);
    assert_eq!(get(dir, Some(&other), &[]).await, None);
    assert_eq!(get(dir, None, &[]).await, None, "without a secret it is a miss");

    assert!(!put(dir, Some(&read_only), "forged").await, "a read-only secret writes nothing");
    assert_eq!(get(dir, Some(&full), &[]).await, ours);

    assert!(put(dir, Some(&other), "theirs").await);
    assert_eq!(get(dir, Some(&other), &[]).await.as_deref(), Some("theirs"), "both lie side by side");
    assert_eq!(get(dir, Some(&full), &[]).await, ours);

    assert_eq!(get(dir, Some(&text(&Secret::generate().unwrap())), &[&full]).await, ours, "rotated");
}

#[tokio::test]
async fn what_lay_there_in_clear_is_not_taken_for_sealed() {
    let dir = tempfile::tempdir().unwrap();
    assert!(put(dir.path(), None, VALUE).await);
    let found = [VALUE.as_bytes(), key().digest()].map(|text| contains(dir.path(), text));
    assert_eq!(found, [true; 2], "so the search finds what is in clear");
    assert_eq!(get(dir.path(), Some(&text(&Secret::generate().unwrap())), &[]).await, None);
    assert_eq!(get(dir.path(), None, &[]).await.as_deref(), Some(VALUE));
}

#[tokio::test]
async fn a_passphrase_is_a_secret_too() {
    let dir = tempfile::tempdir().unwrap();
    let passphrase = Some("correct horse battery staple");
    assert!(put(dir.path(), passphrase, VALUE).await);
    assert!(!contains(dir.path(), VALUE));
    assert_eq!(get(dir.path(), passphrase, &[]).await.as_deref(), Some(VALUE));
}

#[tokio::test]
async fn memory_needs_no_seal_and_a_sealed_disk_is_read_only_with_a_read_only_secret() {
    let dir = tempfile::tempdir().unwrap();
    let secret = text(&Secret::generate().unwrap().read_only());
    let config = ConfigBuilder::new("peercache").without_file().dir(dir.path()).secret(secret);
    let cache = config.read_vars(|_| None).unwrap().open().await.unwrap();
    let report = cache.report().chain;
    let tiers: Vec<_> = report.tiers.iter().map(|tier| (tier.name.as_str(), tier.mode)).collect();
    assert_eq!(tiers, [("memory", "read-write"), ("sealed(disk)", "read-only")]);
    assert!(!cache.put(&key(), VALUE, Ttl::from_secs(60)).await.unwrap().is_durable());
    assert_eq!(cache.get::<String>(&key()).await.as_deref(), Some(VALUE));
}
