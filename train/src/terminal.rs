//! What the program says to people: nothing that a terminal would obey, and no end of the program when
//! nobody listens any more.

use std::borrow::Cow;
use std::fmt;
use std::io::{ErrorKind, IsTerminal as _, Write as _};

/// Tells people something on stderr, like `eprintln!`; names of files and the like lose what would steer
/// a terminal.
#[macro_export]
macro_rules! tell {
    ($($text:tt)*) => { $crate::terminal::tell(format_args!($($text)*)) };
}

/// See [`tell!`](crate::tell).
pub fn tell(text: fmt::Arguments<'_>) {
    // Training goes on when nobody reads.
    let _ = writeln!(std::io::stderr(), "{}", printable(&text.to_string()));
}

/// Prints the result of a command to stdout. That nobody reads it to its end is no error.
///
/// # Errors
/// When it cannot be written.
pub fn say(text: &str) -> anyhow::Result<()> {
    let mut stdout = std::io::stdout();
    // A program that reads gets names as they are.
    let text = if stdout.is_terminal() { printable(text) } else { text.into() };
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        written => Ok(written?),
    }
}

/// An error and its causes on one line, each said once.
#[must_use]
pub fn causes(error: &anyhow::Error) -> String {
    let mut text = String::new();
    for cause in error.chain() {
        let cause = cause.to_string();
        if !text.ends_with(&cause) {
            let before = if text.is_empty() { "" } else { ": " };
            text += before;
            text += &cause;
        }
    }
    text
}

/// With control characters but the ends of lines and tabs spelled out.
#[must_use]
pub fn printable(text: &str) -> Cow<'_, str> {
    let steers = |c: char| c.is_control() && !matches!(c, '\n' | '\t');
    if !text.contains(steers) {
        return text.into();
    }
    let spell = |c: char| if steers(c) { c.escape_default().to_string() } else { c.into() };
    text.chars().map(spell).collect::<String>().into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::anyhow;

    #[test]
    fn what_steers_a_terminal_is_spelled_out() {
        assert_eq!(printable("a\u{1b}[2J\r\u{9b}b\n\tc"), "a\\u{1b}[2J\\r\\u{9b}b\n\tc");
        assert!(matches!(printable("häufig"), Cow::Borrowed("häufig")));
    }

    #[test]
    fn a_cause_is_said_once() {
        let error = anyhow!("CRC error").context("x.png: CRC error").context("skipped");
        assert_eq!(causes(&error), "skipped: x.png: CRC error");
        assert_eq!(causes(&anyhow!("one").context("two")), "two: one");
        assert_eq!(causes(&anyhow!("same").context("same")), "same");
    }
}
