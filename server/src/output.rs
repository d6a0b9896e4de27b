//! What the command line prints on standard output.

use std::fmt::Display;
use std::io::{self, Write};

/// Prints a line.
///
/// # Errors
/// Fails if nobody reads it, which ends the command: see [`is_unread`].
pub fn line(text: impl Display) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "{text}")?;
    out.flush()
}

/// Prints rows in columns that are as wide as their widest cell, two spaces apart.
///
/// # Errors
/// Fails if nobody reads them.
pub fn table<const N: usize>(rows: &[[String; N]]) -> io::Result<()> {
    columns(rows).into_iter().try_for_each(line)
}

fn columns<const N: usize>(rows: &[[String; N]]) -> Vec<String> {
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: [usize; N] = std::array::from_fn(width);
    let join = |row: &[String; N]| {
        let cells = row.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}"));
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    rows.iter().map(join).collect()
}

/// Tells whether a command failed because the reader of its output is gone, as in `drogue events | head`.
pub fn is_unread(error: &anyhow::Error) -> bool {
    error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}

/// Escapes what a terminal would obey: a device must not move the reader's cursor.
pub fn printable(text: &str) -> String {
    let escape = |c: char| if c.is_control() { c.escape_default().to_string() } else { c.to_string() };
    text.chars().map(escape).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let rows = [["a".to_owned(), "b".to_owned()], ["ccc".to_owned(), String::new()]];
        assert_eq!(columns(&rows), ["a    b", "ccc"]);
    }

    #[test]
    fn terminal_sequences_are_shown_and_not_obeyed() {
        assert_eq!(printable("\u{1b}[2J ä\n"), r"\u{1b}[2J ä\n");
    }
}
