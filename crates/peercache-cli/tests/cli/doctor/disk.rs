//! A directory that cannot be used. What takes root, a mount, is made in a mount namespace.

use super::fault::Fault;
use super::fault::Mend::Hand;
use super::fault::Status::Fails;
use super::fault::plant_each;
use super::machine::Machine;
use crate::part::missing;

pub(super) const FAULTS: &[Fault<()>] = &[
    Fault {
        name: "a file where the directory should be",
        check: "disk",
        status: Fails,
        found: "the cache directory is a file",
        remedy: "CACHE_DIR",
        plant: |machine, ()| {
            let file = machine.file("file", "", 0o600);
            machine.set("CACHE_DIR", file);
        },
        mend: Hand(other_directory),
    },
    Fault {
        name: "a directory that cannot be made",
        check: "disk",
        status: Fails,
        found: "/proc/nothing",
        remedy: "set CACHE_DIR to a directory that this user can write",
        plant: |machine, ()| machine.set("CACHE_DIR", "/proc/nothing"),
        mend: Hand(other_directory),
    },
    Fault {
        name: "a directory that everybody can write",
        check: "disk",
        status: Fails,
        found: "the cache directory is writable by others",
        remedy: "run `chmod go-w ",
        plant: |machine, ()| {
            machine.file("open/file", "", 0o600);
            chmod(&machine.path("open"), 0o777);
            machine.set("CACHE_DIR", machine.path("open"));
        },
        mend: Hand(|machine, ()| chmod(&machine.path("open"), 0o700)),
    },
];

/// Those that take a file system of their own.
pub(super) const MOUNTED: &[Fault<()>] = &[
    Fault {
        name: "a read-only file system",
        check: "disk",
        status: Fails,
        found: "Read-only file system",
        remedy: "CACHE_DIR",
        plant: |machine, ()| mount(machine, "-o ro", ""),
        mend: Hand(|machine, ()| mount(machine, "-o rw", "")),
    },
    Fault {
        name: "a full file system",
        check: "disk",
        status: Fails,
        found: "the file system of CACHE_DIR is full",
        remedy: "make room there, or set CACHE_DIR to a directory on another file system",
        plant: |machine, ()| mount(machine, "-o size=1m", "cat /dev/zero > fill 2> /dev/null || true"),
        mend: Hand(|machine, ()| mount(machine, "-o size=256m", "")),
    },
    Fault {
        name: "a file system that has no more files",
        check: "disk",
        status: Fails,
        found: "the file system of CACHE_DIR is full",
        remedy: "make room there, or set CACHE_DIR to a directory on another file system",
        plant: |machine, ()| mount(machine, "-o size=256m,nr_inodes=3", "touch a b 2> /dev/null || true"),
        mend: Hand(|machine, ()| mount(machine, "-o size=256m,nr_inodes=4096", "")),
    },
    Fault {
        name: "a file system that is nearly full",
        check: "disk room",
        status: super::fault::Status::Warns,
        found: "are free at",
        remedy: "make room there, or set CACHE_DIR to a directory on another file system",
        plant: |machine, ()| mount(machine, "-o size=32m", ""),
        mend: Hand(|machine, ()| mount(machine, "-o size=256m", "")),
    },
    Fault {
        name: "a directory of another user",
        check: "disk",
        status: Fails,
        found: "Permission denied",
        remedy: "CACHE_DIR",
        plant: |machine, ()| as_nobody(machine, "chown 0:0"),
        mend: Hand(|machine, ()| as_nobody(machine, "chown 65534:65534")),
    },
];

fn other_directory(machine: &mut Machine, (): &mut ()) {
    machine.set("CACHE_DIR", machine.path("another"));
}

fn chmod(path: &str, mode: u32) {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
}

/// Each command has its cache on a file system with these options, prepared by `script`.
fn mount(machine: &mut Machine, options: &str, script: &str) {
    let dir = machine.path("mounted");
    std::fs::create_dir_all(&dir).unwrap();
    machine.set("CACHE_DIR", dir.clone());
    let script = match script {
        "" => String::new(),
        script => format!("(cd '{dir}' && {script})"),
    };
    machine.before_each_command(&format!("mount -t tmpfs -o mode=700 {options} none '{dir}'\n{script}"));
}

/// Each command runs as a user without rights, and `owner` decides about the directory.
fn as_nobody(machine: &mut Machine, owner: &str) {
    let dir = machine.path("owned");
    std::fs::create_dir_all(&dir).unwrap();
    chmod(&machine.path(""), 0o755);
    chmod(&dir, 0o700);
    machine.set("CACHE_DIR", dir.clone());
    // The binary may lie where that user cannot reach it, so it is mounted at a place of its own.
    let home = machine.path("");
    machine.before_each_command(&format!(
        "{owner} '{dir}'\n\
         touch '{home}/peercache'\nmount --bind \"$0\" '{home}/peercache'\n\
         exec setpriv --reuid 65534 --regid 65534 --clear-groups '{home}/peercache' \"$@\""
    ));
}

/// Whether mounts can be made here; if not, it was said that the test is skipped.
pub(super) fn can_mount() -> bool {
    let tried = std::process::Command::new("unshare").args(["--mount", "true"]).status();
    let can = tried.is_ok_and(|status| status.success()) && rustix::process::geteuid().is_root();
    if !can {
        missing("file systems and networks of a test's own need root and unshare", "run it as root");
    }
    can
}

#[test]
fn directories_that_cannot_be_used_are_named_and_mended() {
    plant_each(&mut (), |()| Machine::new(), FAULTS);
}

#[test]
fn file_systems_that_cannot_be_used_are_named_and_mended() {
    if can_mount() {
        plant_each(&mut (), |()| Machine::new(), MOUNTED);
    }
}
