//! Mistakes in settings and secrets.

use super::fault::Mend::Hand;
use super::fault::Status::{Fails, Warns};
use super::fault::{Fault, plant_each};
use super::machine::{Machine, SECRET, free_port};

pub(super) const FAULTS: &[Fault<()>] = &[
    Fault {
        name: "a backend that there is not",
        check: "settings",
        status: Fails,
        found: "there is no backend `nonsense`",
        remedy: "disk",
        plant: |machine, ()| machine.set("CACHE_BACKEND", "memory,nonsense"),
        mend: Hand(|machine, ()| machine.set("CACHE_BACKEND", "memory,disk")),
    },
    Fault {
        name: "a variable that is misspelt",
        check: "settings",
        status: Warns,
        found: "CACHE_MEMORY_BYTE is no setting and has no effect; did you mean CACHE_MEMORY_BYTES?",
        remedy: "change or remove that setting",
        plant: |machine, ()| machine.set("CACHE_MEMORY_BYTE", "64MiB"),
        mend: Hand(|machine, ()| {
            machine.unset("CACHE_MEMORY_BYTE");
            machine.set("CACHE_MEMORY_BYTES", "64MiB");
        }),
    },
    Fault {
        name: "a variable of the server that is misspelt",
        check: "settings",
        status: Warns,
        found: "did you mean CACHE_CLIENT_TOKEN?",
        remedy: "change or remove that setting",
        plant: |machine, ()| machine.set("CACHE_CLIENT_TOKN", "0123456789abcdef"),
        mend: Hand(|machine, ()| {
            machine.unset("CACHE_CLIENT_TOKN");
            machine.set("CACHE_CLIENT_TOKEN", "0123456789abcdef");
        }),
    },
    Fault {
        name: "a key of the file that is misspelt",
        check: "settings",
        status: Fails,
        found: "memory_byte",
        remedy: "did you mean `memory_bytes`?",
        plant: |machine, ()| {
            let file = machine.file("peercache.toml", "memory_byte = 5000000\n", 0o600);
            machine.set("CACHE_CONFIG", file);
        },
        mend: Hand(|machine, ()| {
            machine.file("peercache.toml", "memory_bytes = 5000000\n", 0o600);
        }),
    },
    Fault {
        name: "a file that is not there",
        check: "settings",
        status: Fails,
        found: "/nowhere/peercache.toml",
        remedy: "",
        plant: |machine, ()| machine.set("CACHE_CONFIG", "/nowhere/peercache.toml"),
        mend: Hand(|machine, ()| machine.unset("CACHE_CONFIG")),
    },
    Fault {
        name: "a number that is none",
        check: "settings",
        status: Fails,
        found: "CACHE_MEMORY_BYTES=\"lots\"",
        remedy: "64MiB",
        plant: |machine, ()| machine.set("CACHE_MEMORY_BYTES", "lots"),
        mend: Hand(|machine, ()| machine.set("CACHE_MEMORY_BYTES", "64MiB")),
    },
    Fault {
        name: "a placeholder that nobody replaced",
        check: "disk",
        status: Fails,
        found: "CACHE_DIR=\"$RUNNER_TEMP/cache\"",
        remedy: "",
        plant: |machine, ()| machine.set("CACHE_DIR", "$RUNNER_TEMP/cache"),
        mend: Hand(|machine, ()| machine.set("CACHE_DIR", machine.path("cache"))),
    },
    Fault {
        name: "a secret in quotes",
        check: "secret",
        status: Fails,
        found: "quotation mark",
        remedy: "",
        plant: |machine, ()| machine.set("CACHE_SECRET", format!("\"{SECRET}\"")),
        mend: Hand(right_secret),
    },
    Fault {
        name: "a secret that was cut off",
        check: "secret",
        status: Fails,
        found: "damaged",
        remedy: "",
        plant: |machine, ()| machine.set("CACHE_SECRET", &SECRET[..40]),
        mend: Hand(right_secret),
    },
    Fault {
        name: "a job's own token as secret",
        check: "secret",
        status: Fails,
        found: "GitHub token of a job",
        remedy: "peercache keygen",
        plant: |machine, ()| machine.set("CACHE_SECRET", "ghs_0123456789012345678901234567890123456789"),
        mend: Hand(new_secret),
    },
    Fault {
        name: "a secret that was not filled in",
        check: "secret",
        status: Fails,
        found: "placeholder",
        remedy: "",
        plant: |machine, ()| machine.set("CACHE_SECRET", "$CACHE_SECRET"),
        mend: Hand(right_secret),
    },
    Fault {
        name: "a passphrase that is easily guessed",
        check: "secret",
        status: Fails,
        found: "",
        remedy: "peercache keygen",
        plant: |machine, ()| machine.set("CACHE_SECRET", "aaaaaaaaaaaaaaaaaaaa"),
        mend: Hand(new_secret),
    },
    Fault {
        name: "a file of the secret that others can write",
        check: "secret",
        status: Fails,
        found: "other users can write the file",
        remedy: "chmod go-w",
        plant: |machine, ()| {
            let file = machine.file("secret", SECRET, 0o666);
            machine.set("CACHE_SECRET_FILE", file);
        },
        mend: Hand(|machine, ()| {
            machine.file("secret", SECRET, 0o600);
        }),
    },
    Fault {
        name: "a file of the secret that is not there",
        check: "secret",
        status: Fails,
        found: "/nowhere/secret",
        remedy: "",
        plant: |machine, ()| machine.set("CACHE_SECRET_FILE", "/nowhere/secret"),
        mend: Hand(|machine, ()| {
            let file = machine.file("secret", SECRET, 0o600);
            machine.set("CACHE_SECRET_FILE", file);
        }),
    },
    Fault {
        name: "peers without a secret",
        check: "secret",
        status: Fails,
        found: "no secret to seal them with",
        remedy: "peercache keygen",
        plant: |machine, ()| machine.set("CACHE_LISTEN_PORT", free_port().to_string()),
        mend: Hand(new_secret),
    },
];

fn right_secret(machine: &mut Machine, (): &mut ()) {
    machine.set("CACHE_SECRET", SECRET);
}

fn new_secret(machine: &mut Machine, (): &mut ()) {
    let printed = Machine::new().run(&["keygen"]).stdout;
    machine.set("CACHE_SECRET", String::from_utf8(printed).unwrap().trim());
}

#[test]
fn mistakes_in_settings_are_named_and_mended() {
    plant_each(&mut (), |()| Machine::new(), FAULTS);
}

#[test]
fn secrets_of_no_use_are_not_shown() {
    let token = "ghs_0123456789012345678901234567890123456789";
    for value in [format!("\"{SECRET}\"").as_str(), &SECRET[..40], token] {
        let everything = Machine::with(&[("CACHE_SECRET", value)]).doctor().report.to_string();
        assert!(!everything.contains("KioqKioq") && !everything.contains("0123456789"), "{everything}");
    }
}
