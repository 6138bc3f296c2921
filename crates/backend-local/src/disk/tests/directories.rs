//! Which directories are taken and which refused, and how private they are.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};

use super::*;

fn refused(path: &Path) -> Error {
    Disk::open(path).expect_err("this directory must be refused")
}

#[test]
fn a_file_is_refused_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    fs::write(&file, "x").unwrap();
    let error = refused(&file);
    assert_eq!(error.kind(), ErrorKind::Config);
    assert_eq!(
        error.to_string(),
        format!(
            "disk: open failed (configuration): the cache directory is a file [dir={}]; remove it, or set CACHE_DIR \
             to a directory that this user owns and can write",
            file.display()
        )
    );
    let below = refused(&file.join("below"));
    assert_eq!(below.kind(), ErrorKind::Config, "{below}");
}

#[test]
fn what_others_can_write_is_refused_with_the_mode_and_the_cure() {
    let dir = tempfile::tempdir().unwrap();
    for mode in [0o777, 0o770, 0o702, 0o1777] {
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(mode)).unwrap();
        let error = refused(dir.path());
        assert_eq!(error.kind(), ErrorKind::Denied);
        let text = error.to_string();
        assert!(text.contains(&format!("mode={mode:04o}")) && text.contains("chmod go-w"), "{text}");
        assert!(text.contains(&dir.path().display().to_string()), "{text}");
    }
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
    Disk::open(dir.path()).unwrap();
}

#[test]
fn what_cannot_be_written_is_refused_at_once() {
    // Mode bits do not stop root; these two do.
    for path in ["/proc", "/proc/self/peercache"] {
        if Path::new("/proc/self").exists() {
            let error = refused(Path::new(path));
            assert!(!matches!(error.kind(), ErrorKind::Corrupt | ErrorKind::TooLarge), "{error}");
            assert!(error.to_string().contains(path) && error.help().is_some(), "{error}");
        }
    }
    let dir = tempfile::tempdir().unwrap();
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o500)).unwrap();
    if !rustix::process::geteuid().is_root() {
        assert_eq!(refused(dir.path()).kind(), ErrorKind::Denied);
    }
}

#[test]
fn a_capacity_that_holds_nothing_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let error = Disk::builder(dir.path().join("new")).capacity(1000).open().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
    assert!(!dir.path().join("new").exists());
}

#[tokio::test]
async fn everything_is_private() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("a/b/cache");
    let disk = open(&root);
    disk.put(&key(1), entry(1, 10)).await.unwrap();
    disk.put(&key(2), entry(2, 200_000)).await.unwrap();
    let found = files(&root);
    for part in ["index.sqlite", "index.sqlite-wal", "index.sqlite-shm", "lock"] {
        assert!(found.contains(&root.join(part)), "{part} is missing from {found:?}");
    }
    for file in &found {
        assert_eq!(fs::metadata(file).unwrap().mode() & 0o777, 0o600, "{}", file.display());
    }
    for path in [
        &root,
        &root.join("blobs"),
        &found.iter().find(|file| file.starts_with(root.join("blobs"))).unwrap().parent().unwrap().to_owned(),
    ] {
        assert_eq!(fs::metadata(path).unwrap().mode() & 0o777, 0o700, "{}", path.display());
    }
}
