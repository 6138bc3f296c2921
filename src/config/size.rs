//! Sizes in bytes as people write them.

/// The number of bytes that `text` stands for: a whole number, alone or with a unit. Powers of
/// 1024 are `k`, `KiB`, `m`, `MiB`, `g`, `GiB`, `t`, `TiB`; powers of 1000 are `KB`, `MB`, `GB`,
/// `TB`. Case does not matter. `None` when it is none of these or does not fit.
pub(super) fn parse(text: &str) -> Option<u64> {
    let text = text.trim();
    let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let number: u64 = text[..digits].parse().ok()?;
    let unit: u64 = match text[digits..].trim().to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "k" | "kib" => 1 << 10,
        "m" | "mib" => 1 << 20,
        "g" | "gib" => 1 << 30,
        "t" | "tib" => 1 << 40,
        "kb" => 1_000,
        "mb" => 1_000_000,
        "gb" => 1_000_000_000,
        "tb" => 1_000_000_000_000,
        _ => return None,
    };
    number.checked_mul(unit)
}

/// The size with the largest unit that loses nothing.
pub(super) fn write(count: u64) -> String {
    const UNITS: [(u32, &str); 3] = [(30, "GiB"), (20, "MiB"), (10, "KiB")];
    let fitting = UNITS.into_iter().find(|(shift, _)| count != 0 && count.trailing_zeros() >= *shift);
    fitting.map_or_else(|| count.to_string(), |(shift, unit)| format!("{}{unit}", count >> shift))
}

#[cfg(test)]
mod tests {
    use super::{parse, write};

    #[test]
    fn written_sizes_are_read_again() {
        for (size, text) in [(0, "0"), (1 << 20, "1MiB"), (3_000_000, "3000000"), (1 << 40, "1024GiB")] {
            assert_eq!((write(size).as_str(), parse(text)), (text, Some(size)));
        }
    }

    #[test]
    fn sizes_as_people_write_them() {
        assert_eq!(parse("1048576"), Some(1 << 20));
        assert_eq!(parse(" 64 MiB "), Some(64 << 20));
        assert_eq!(parse("64m"), Some(64 << 20));
        assert_eq!(parse("2GB"), Some(2_000_000_000));
        for bad in ["", "MiB", "-1", "1.5G", "1 parsec", "99999999999999999999", "18014398509481984k", "１"]
        {
            assert_eq!(parse(bad), None, "{bad}");
        }
    }
}
