//! Lines for standard error, and text of others that is safe to print.

use std::io::{self, Write as _};

/// Prints a line to standard error. Where that cannot be written, the exit code is all that is
/// left.
pub(crate) fn error_line(text: impl std::fmt::Display) {
    let _ = writeln!(io::stderr().lock(), "{text}");
}

/// Without what would move the cursor: values are whatever somebody set, and other members say what
/// they like.
pub(crate) fn on_one_line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() || is_invisible(c) { '\u{fffd}' } else { c }).collect()
}

/// Marks that turn the direction of writing, and what else is not seen.
const fn is_invisible(c: char) -> bool {
    matches!(c, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

#[cfg(test)]
mod tests {
    #[test]
    fn text_that_moves_the_cursor_is_replaced() {
        assert_eq!(super::on_one_line("a\u{1b}[2Jb\n\u{202e}c"), "a\u{fffd}[2Jb\u{fffd}\u{fffd}c");
    }
}
