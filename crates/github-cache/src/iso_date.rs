//! Dates as GitHub's JSON has them: `2026-11-30T12:00:00Z`.

use std::time::Duration;

use peercache::backend::Timestamp;

/// The moment that a date in UTC names (RFC 3339, whole seconds). `None` for every other form.
pub(crate) fn parse_iso_date(text: &str) -> Option<Timestamp> {
    let bytes = text.as_bytes();
    let shape = [(4, b'-'), (7, b'-'), (10, b'T'), (13, b':'), (16, b':'), (19, b'Z')];
    if bytes.len() != 20 || shape.iter().any(|(at, mark)| bytes[*at] != *mark) {
        return None;
    }
    let number = |from: usize, to: usize| {
        let digits = text.get(from..to).filter(|part| part.bytes().all(|byte| byte.is_ascii_digit()))?;
        digits.parse::<u64>().ok()
    };
    let (year, month, day) = (number(0, 4)?, number(5, 7)?, number(8, 10)?);
    let (hour, minute, second) = (number(11, 13)?, number(14, 16)?, number(17, 19)?);
    let valid = year >= 1970
        && (1..=12).contains(&month)
        && (1..=31).contains(&day)
        && hour < 24
        && minute < 60
        && second <= 60;
    if !valid {
        return None;
    }
    // Years begin in March, so that the leap day is the last one.
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let days = year * 365 + year / 4 - year / 100 + year / 400 + (month * 153 + 2) / 5 + day - 1;
    let since_1970 = days.checked_sub(719_468)?;
    let seconds = since_1970 * 86_400 + hour * 3600 + minute * 60 + second;
    Some(Timestamp::EPOCH.saturating_add(Duration::from_secs(seconds)))
}

/// A moment in that form, whole seconds.
pub(crate) fn format_iso_date(at: Timestamp) -> String {
    let seconds = at.as_millis() / 1000;
    let (days, second) = (seconds / 86_400 + 719_468, seconds % 86_400);
    // Years begin in March here, too; 400 of them have always the same number of days.
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let (year, month) = if month < 10 { (year, month + 3) } else { (year + 1, month - 9) };
    let year = era * 400 + year;
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_read_as_gnu_date_reads_them() {
        for (text, seconds) in [
            ("1970-01-01T00:00:00Z", 0),
            ("2000-02-29T12:34:56Z", 951_827_696),
            ("2026-11-30T06:33:49Z", 1_796_020_429),
            ("2100-03-01T00:00:00Z", 4_107_542_400),
        ] {
            assert_eq!(parse_iso_date(text).map(Timestamp::as_millis), Some(seconds * 1000), "{text}");
            assert_eq!(format_iso_date(Timestamp::from_millis(seconds * 1000)), text);
        }
    }

    #[test]
    fn what_is_no_such_date_is_none() {
        for text in [
            "",
            "2026-13-01T00:00:00Z",
            "2026-01-01T00:00:00+01:00",
            "2026-01-01 00:00:00Z",
            "1969-12-31T23:59:59Z",
            "2026-01-01T24:00:00Z",
            "2026-0\u{e9}-01T00:00:0Z",
            "+026-01-01T00:00:00Z",
        ] {
            assert_eq!(parse_iso_date(text), None, "{text}");
        }
    }

    #[test]
    fn every_day_of_four_centuries_is_written_as_it_is_read() {
        for day in (0..146_097).step_by(7) {
            let at = Timestamp::from_millis(day * 86_400_000 + 86_399_000);
            assert_eq!(parse_iso_date(&format_iso_date(at)), Some(at));
        }
    }
}
