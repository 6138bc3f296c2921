//! Printing: one place that knows that standard output may be gone.

use std::io::{self, Write as _};

use serde::Serialize;

use crate::exit::Failure;

/// Prints one line.
pub(crate) fn line(text: impl std::fmt::Display) -> Result<(), Failure> {
    write(format!("{text}\n").as_bytes())
}

/// Prints `value` as one line of JSON.
pub(crate) fn json(value: &impl Serialize) -> Result<(), Failure> {
    let mut text =
        serde_json::to_vec(value).map_err(|error| Failure::failed(format!("cannot print JSON: {error}")))?;
    text.push(b'\n');
    write(&text)
}

/// Prints bytes as they are.
pub(crate) fn write(bytes: &[u8]) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    match out.write_all(bytes).and_then(|()| out.flush()) {
        // The reader has seen enough, as `head` does: not a failure.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        Err(error) => Err(Failure::failed(format!("cannot write to standard output: {error}"))),
        Ok(()) => Ok(()),
    }
}

/// A byte count as people read it.
pub(crate) fn bytes(count: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut unit = 0;
    let mut scaled = count;
    while scaled >= 10_240 && unit + 1 < UNITS.len() {
        scaled /= 1024;
        unit += 1;
    }
    format!("{scaled} {}", UNITS[unit])
}

#[cfg(test)]
mod tests {
    #[test]
    fn byte_counts_are_short() {
        assert_eq!(super::bytes(0), "0 B");
        assert_eq!(super::bytes(10_239), "10239 B");
        assert_eq!(super::bytes(10_240), "10 KiB");
        assert_eq!(super::bytes(u64::MAX), "16777215 TiB");
    }
}
