//! What a process has in memory, as Linux tells it (`VmRSS` and `VmHWM` of `/proc/PID/status`,
//! proc(5)).

use std::io;

/// The resident memory of process `id` now, in KiB.
///
/// # Errors
/// Where there is no such process, or no `/proc`.
pub fn resident_kib(id: u32) -> io::Result<u64> {
    status(id, "VmRSS:")
}

/// The most resident memory that process `id` has ever had, in KiB.
///
/// # Errors
/// As [`resident_kib`].
pub fn peak_kib(id: u32) -> io::Result<u64> {
    status(id, "VmHWM:")
}

fn status(id: u32, name: &str) -> io::Result<u64> {
    let path = format!("/proc/{id}/status");
    let status = std::fs::read_to_string(&path)?;
    let number =
        status.lines().find_map(|line| line.strip_prefix(name)?.split_whitespace().next()?.parse().ok());
    number.ok_or_else(|| {
        io::Error::new(io::ErrorKind::InvalidData, format!("{path} has no number behind {name}"))
    })
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn this_process_has_memory_and_a_peak_and_nobody_has_none() {
        let (now, peak) = (resident_kib(std::process::id()).unwrap(), peak_kib(std::process::id()).unwrap());
        assert!(now > 100 && peak > 100, "{now} {peak}");
        assert_eq!(resident_kib(u32::MAX).unwrap_err().kind(), io::ErrorKind::NotFound);
        assert_eq!(status(std::process::id(), "VmNothing:").unwrap_err().kind(), io::ErrorKind::InvalidData);
    }
}
