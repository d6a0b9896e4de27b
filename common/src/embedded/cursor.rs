//! Positions in the log, as clients see them: `e1-{log id}-{position}`.

use crate::channel::{Cursor, SourceError};

/// A place in the one order of all channels; the first record has 1. SQLite's integers are signed.
pub(super) type Position = i64;

const VERSION: &str = "e1";

/// Writes a position of the log `log`.
pub(super) fn format(log: &str, position: Position) -> Cursor {
    Cursor(format!("{VERSION}-{log}-{position}"))
}

/// Reads a position of the log `log`, of which `newest` is the last.
pub(super) fn parse(cursor: &Cursor, log: &str, newest: Position) -> Result<Position, SourceError> {
    let digits = cursor.0.rsplit('-').next().unwrap_or_default();
    let position = digits.parse().map_err(|_| SourceError::InvalidCursor)?;
    // Comparing with what would have been given out refuses other logs, other versions, and other spellings at once.
    if (0..=newest).contains(&position) && format(log, position) == *cursor {
        Ok(position)
    } else {
        Err(SourceError::InvalidCursor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_given_out_is_taken() {
        assert_eq!(parse(&format("abc", 7), "abc", 7), Ok(7));
        for bad in
            ["", "7", "e1-abc-8", "e1-abc-07", "e1-abc-+7", "e1-abc--7", "e1-abd-7", "e2-abc-7", "e1-abc-"]
        {
            let cursor = Cursor(bad.into());
            assert_eq!(parse(&cursor, "abc", 7), Err(SourceError::InvalidCursor), "{bad:?}");
        }
    }
}
