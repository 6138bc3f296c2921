//! What a Linux binary says of itself: for which processor it is, and whether it needs shared
//! libraries.

use crate::failure::Failure;

/// A processor that we pack for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Arch {
    /// 64-bit x86.
    X86_64,
    /// 64-bit ARM.
    Aarch64,
}

impl Arch {
    /// As `uname -m`, Rust and Python name it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::X86_64 => "x86_64",
            Self::Aarch64 => "aarch64",
        }
    }

    /// As Node.js names it, in `process.arch`.
    pub(crate) fn node_name(self) -> &'static str {
        match self {
            Self::X86_64 => "x64",
            Self::Aarch64 => "arm64",
        }
    }

    /// Whether its programs run on this machine.
    pub(crate) fn is_of_this_machine(self) -> bool {
        cfg!(target_os = "linux") && std::env::consts::ARCH == self.name()
    }
}

/// What a package has to know of a binary.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Linkage {
    pub(crate) arch: Arch,
    /// It names no loader, so it needs no library of the system and runs on any Linux.
    pub(crate) is_static: bool,
}

/// Reads the headers of `bytes`, which are the file `name`. `elf(5)` and the System V gABI have the
/// offsets.
pub(crate) fn linkage(name: &str, bytes: &[u8]) -> Result<Linkage, Failure> {
    let refused = |why: &str| {
        Failure::new(
            format!("{name} is no program that can be packed: {why}"),
            "name a 64-bit Linux binary for x86-64 or aarch64, such as that of `cargo xtask prepare static-binary`",
        )
    };
    let short = || refused("its headers are cut off");
    let read_u16 = |at: usize| -> Option<u16> { Some(u16::from_le_bytes(field(bytes, at)?)) };
    // 64 bits, least byte first.
    if bytes.get(..6) != Some(b"\x7fELF\x02\x01") {
        return Err(refused("it is not ELF of 64 bits"));
    }
    let arch = match read_u16(18).ok_or_else(short)? {
        62 => Arch::X86_64,
        183 => Arch::Aarch64,
        other => return Err(refused(&format!("its machine is {other}"))),
    };
    let table = u64::from_le_bytes(field(bytes, 32).ok_or_else(short)?);
    let size = u64::from(read_u16(54).ok_or_else(short)?);
    let count = u64::from(read_u16(56).ok_or_else(short)?);
    let mut is_static = true;
    for index in 0..count {
        let at = size.checked_mul(index).and_then(|skip| table.checked_add(skip)).ok_or_else(short)?;
        let at = usize::try_from(at).map_err(|_| short())?;
        // PT_INTERP: the path of the loader of shared libraries.
        is_static &= u32::from_le_bytes(field(bytes, at).ok_or_else(short)?) != 3;
    }
    Ok(Linkage { arch, is_static })
}

fn field<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..at.checked_add(N)?)?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A header with a table of two rows, the second of type `last`.
    fn sample(machine: u16, last: u32) -> Vec<u8> {
        let mut bytes = vec![0; 64];
        bytes[..6].copy_from_slice(b"\x7fELF\x02\x01");
        bytes[18..20].copy_from_slice(&machine.to_le_bytes());
        bytes[32..40].copy_from_slice(&64_u64.to_le_bytes());
        bytes[54..56].copy_from_slice(&56_u16.to_le_bytes());
        bytes[56..58].copy_from_slice(&2_u16.to_le_bytes());
        for kind in [1, last] {
            bytes.extend(kind.to_le_bytes());
            bytes.extend([0; 52]);
        }
        bytes
    }

    #[test]
    fn binary_with_a_loader_is_not_static() {
        let read = |machine, last| linkage("x", &sample(machine, last)).unwrap();
        assert_eq!(read(62, 2), Linkage { arch: Arch::X86_64, is_static: true });
        assert_eq!(read(62, 3), Linkage { arch: Arch::X86_64, is_static: false });
        assert_eq!(read(183, 2), Linkage { arch: Arch::Aarch64, is_static: true });
    }

    #[test]
    fn this_test_is_read_as_what_it_is() {
        if !cfg!(all(target_os = "linux", target_env = "gnu")) {
            eprintln!("skipped: the tests are no ELF with a loader here");
            return;
        }
        let bytes = std::fs::read(std::env::current_exe().unwrap()).unwrap();
        let linkage = linkage("this", &bytes).unwrap();
        assert!(linkage.arch.is_of_this_machine() && !linkage.is_static, "{linkage:?}");
    }

    #[test]
    fn what_is_no_binary_is_refused_with_the_reason() {
        let message = |bytes: &[u8]| linkage("file", bytes).unwrap_err().to_string();
        assert!(message(b"#!/bin/sh\n").contains("file is no program that can be packed: it is not ELF"));
        assert!(message(&sample(40, 2)).contains("its machine is 40"));
        assert!(message(&sample(62, 2)[..100]).contains("cut off"));
    }
}
