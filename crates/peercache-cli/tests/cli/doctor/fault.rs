//! Faults in tables: each is planted alone, has to be named and no other, and its remedy has to
//! mend it.

use std::collections::BTreeSet;

use super::machine::Machine;

/// One fault, in a world `W` of servers that faults of one kind share.
pub(super) struct Fault<W> {
    /// What is wrong, in the words of who would report it.
    pub(super) name: &'static str,
    /// The check that has to name it.
    pub(super) check: &'static str,
    /// Whether it has to fail or to warn.
    pub(super) status: Status,
    /// Part of what is found, or of the cause.
    pub(super) found: &'static str,
    /// Part of the remedy, or of the line for a shell.
    pub(super) remedy: &'static str,
    pub(super) plant: fn(&mut Machine, &mut W),
    pub(super) mend: Mend<W>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Status {
    Fails,
    Warns,
}

/// How the remedy is applied.
pub(super) enum Mend<W> {
    /// By the script of `peercache doctor --fix`.
    Script,
    /// By doing what the remedy says, where it takes a person.
    Hand(fn(&mut Machine, &mut W)),
}

/// What each table planted, by the check that named it.
pub(super) struct Planted {
    pub(super) check: &'static str,
}

/// Plants each fault on a machine of its own, which is healthy before and after.
#[track_caller]
pub(super) fn plant_each<W>(world: &mut W, healthy: impl Fn(&mut W) -> Machine, faults: &[Fault<W>]) {
    // What was well where nothing was planted: later, each of these checks has to be there again.
    let well: BTreeSet<String> =
        healthy(world).is_green().named("ok").into_iter().map(str::to_owned).collect();
    for fault in faults {
        let mut machine = healthy(world);
        (fault.plant)(&mut machine, world);
        let found = machine.doctor();
        let (is, is_not, code) = match fault.status {
            Status::Fails => ("failed", "warning", 1),
            Status::Warns => ("warning", "failed", 0),
        };
        let about = || format!("{}: {}", fault.name, found.report);
        assert_eq!(found.named(is), [fault.check], "{}", about());
        assert_eq!(found.named(is_not), [""; 0], "{}", about());
        assert_eq!(found.code, code, "{}", about());
        // The subject of a check that failed is well nowhere else.
        assert!(!found.named("ok").contains(&fault.check) || fault.check == "settings", "{}", about());
        let said = found.told(is, &["found", "cause"]);
        assert!(said.contains(fault.found), "{}: {said}", fault.name);
        let proposed = found.told(is, &["remedy", "command"]);
        assert!(proposed.contains(fault.remedy), "{}: {proposed}", fault.name);
        match fault.mend {
            Mend::Script => machine.run_fix(),
            Mend::Hand(mend) => mend(&mut machine, world),
        }
        let after = machine.doctor();
        assert_eq!(after.named("failed"), [""; 0], "{} is mended: {}", fault.name, after.report);
        assert_eq!(after.named("warning"), [""; 0], "{} is mended: {}", fault.name, after.report);
        let again: BTreeSet<String> = after.named("ok").into_iter().map(str::to_owned).collect();
        let lost: Vec<_> = well.difference(&again).collect();
        assert!(lost.is_empty(), "{}: {lost:?} was examined before: {}", fault.name, after.report);
        eprintln!("named and mended: {} ({})", fault.name, fault.check);
    }
}

/// The checks of a table, for the test that no check is without a fault.
pub(super) fn planted<W>(faults: &[Fault<W>]) -> Vec<Planted> {
    faults.iter().map(|fault| Planted { check: fault.check }).collect()
}
