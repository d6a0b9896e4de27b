//! How commands stand in their table.

use std::collections::HashMap;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use sqlx::any::{AnyArguments, AnyRow};
use sqlx::query::Query;
use sqlx::{Any, AnyConnection, Row};

use super::error::LedgerError;
use super::model::{CommandRow, Step};
use crate::channel::Place;
use crate::id::{DeviceKey, EventId};
use crate::outcome::{Reason, State};
use crate::registry::store;
use crate::time::Timestamp;

/// The columns that every reader wants, in the order in which [`read`] takes them. The payload may follow them.
macro_rules! columns {
    () => {
        "id, application, device, name, place, state, reason, kept, handed, attempt, accepted, expires, \
         traceparent, content_type, history"
    };
}
pub(super) use columns;

const PAYLOAD: usize = 15;

/// What ends a statement that changes several rows by compare-and-set.
macro_rules! waits {
    () => {
        "state = 'pending' AND handed = 0"
    };
}
pub(super) use waits;

/// How many rows a statement is for. Few sizes make few statements to prepare. With more parameters than this makes,
/// SQLite, which finds each by its name, takes longer than it saves.
const SIZES: [usize; 3] = [16, 4, 1];

/// A statement and its parameters.
pub(super) type Statement<'q> = Query<'q, Any, AnyArguments>;

/// A step as it is kept.
#[derive(Serialize, Deserialize)]
struct Kept {
    state: State,
    time: i64,
    attempt: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    reason: Option<Reason>,
}

/// Reads a row of [`columns`], and its payload if that was asked for.
pub(super) fn read(row: &AnyRow) -> Result<CommandRow, LedgerError> {
    let place: Option<i64> = row.try_get(4)?;
    let reason: Option<&str> = row.try_get(6)?;
    let payload: Option<Vec<u8>> = if row.len() > PAYLOAD { row.try_get(PAYLOAD)? } else { None };
    Ok(CommandRow {
        id: store::parse(row.try_get(0)?)?,
        device: device(row.try_get(1)?, row.try_get(2)?)?,
        name: store::parse(row.try_get(3)?)?,
        place: place.map(place_of),
        state: state(row.try_get(5)?)?,
        reason: match reason {
            Some(name) => Some(Reason::from_name(name).ok_or_else(|| store::unreadable("a reason"))?),
            None => None,
        },
        kept: row.try_get::<i64, _>(7)? != 0,
        handed: row.try_get::<i64, _>(8)? != 0,
        attempt: u32::try_from(row.try_get::<i64, _>(9)?).map_err(store::unreadable)?,
        accepted: Timestamp::from_millis(row.try_get(10)?),
        expires: Timestamp::from_millis(row.try_get(11)?),
        traceparent: row.try_get(12)?,
        content_type: row.try_get(13)?,
        history: history(row.try_get(14)?)?,
        payload: payload.map(Bytes::from),
    })
}

/// Reads rows.
pub(super) fn read_all(rows: &[AnyRow]) -> Result<Vec<CommandRow>, LedgerError> {
    rows.iter().map(read).collect()
}

/// Finds a command of a device.
pub(super) async fn find(
    connection: &mut AnyConnection,
    device: &DeviceKey,
    id: &EventId,
) -> Result<Option<CommandRow>, LedgerError> {
    let select =
        concat!("SELECT ", columns!(), " FROM commands WHERE id = $1 AND application = $2 AND device = $3");
    let row = sqlx::query(select)
        .bind(id.as_str())
        .bind(device.application())
        .bind(device.device())
        .fetch_optional(connection)
        .await?;
    row.as_ref().map(read).transpose()
}

/// Returns rows in the order of ids.
pub(super) fn in_order<'a>(rows: Vec<CommandRow>, ids: impl Iterator<Item = &'a EventId>) -> Vec<CommandRow> {
    let mut rows: HashMap<_, _> = rows.into_iter().map(|row| (row.id.clone(), row)).collect();
    ids.filter_map(|id| rows.remove(id)).collect()
}

/// Reads a device's key.
pub(super) fn device(application: &str, device: &str) -> Result<DeviceKey, LedgerError> {
    let key = format!("{application}/{device}");
    Ok(DeviceKey::from_bytes(key.as_bytes()).map_err(store::unreadable)?)
}

/// Reads a state.
pub(super) fn state(name: &str) -> Result<State, LedgerError> {
    State::from_name(name).ok_or_else(|| store::unreadable("a state").into())
}

/// Binds the values of a row in the order of [`columns`].
pub(super) fn bind<'q>(statement: Statement<'q>, row: &CommandRow) -> Result<Statement<'q>, LedgerError> {
    Ok(statement
        .bind(row.id.to_string())
        .bind(row.device.application().to_owned())
        .bind(row.device.device().to_owned())
        .bind(row.name.to_string())
        .bind(row.place.map(number_of))
        .bind(row.state.as_str())
        .bind(row.reason.map(Reason::as_str))
        .bind(i64::from(row.kept))
        .bind(i64::from(row.handed))
        .bind(i64::from(row.attempt))
        .bind(row.accepted.as_millis())
        .bind(row.expires.as_millis())
        .bind(row.traceparent.clone())
        .bind(row.content_type.clone())
        .bind(history_text(&row.history)?))
}

/// Returns a place as it is kept.
pub(super) fn number_of(place: Place) -> i64 {
    i64::try_from(place.0).unwrap_or(i64::MAX)
}

/// Returns a place that was kept.
pub(super) fn place_of(number: i64) -> Place {
    Place(u64::try_from(number).unwrap_or(0))
}

fn history_text(history: &[Step]) -> Result<String, LedgerError> {
    let kept: Vec<_> = history
        .iter()
        .map(|step| Kept {
            state: step.state,
            time: step.time.as_millis(),
            attempt: step.attempt,
            reason: step.reason,
        })
        .collect();
    Ok(store::to_json(&kept)?)
}

fn history(text: &str) -> Result<Vec<Step>, LedgerError> {
    let kept: Vec<Kept> = store::from_json(text)?;
    let step = |kept: Kept| Step {
        state: kept.state,
        time: Timestamp::from_millis(kept.time),
        reason: kept.reason,
        attempt: kept.attempt,
    };
    Ok(kept.into_iter().map(step).collect())
}

/// Returns the assignments that settle a command that waits: parameter `$1` is the state, `$2` now, and `$3` is
/// [`step_before_attempt`]. A history has a step, so it ends with `}]`.
macro_rules! settle {
    () => {
        "state = $1, reason = NULL, payload = NULL, updated = $2, \
         history = substr(history, 1, length(history) - 1) || $3 || CAST(attempt + 1 AS TEXT) || '}]'"
    };
}
pub(super) use settle;

/// Returns the beginning of a further step in a kept history, up to the number of its attempt.
pub(super) fn step_before_attempt(state: State, now: Timestamp) -> String {
    format!(r#",{{"state":"{state}","time":{},"attempt":"#, now.as_millis())
}

/// Splits what is to be written into pieces of few lengths.
pub(super) fn pieces<T>(mut all: &[T]) -> impl Iterator<Item = &[T]> {
    std::iter::from_fn(move || {
        let size = SIZES.into_iter().find(|size| *size <= all.len())?;
        let (piece, rest) = all.split_at(size);
        all = rest;
        Some(piece)
    })
}

/// Writes the parameters of so many rows: `($1, $2), ($3, $4)`, the first of which has the number `first`.
pub(super) fn parameters(rows: usize, columns: usize, first: usize) -> String {
    let row = |row: usize| {
        let numbers = (0..columns).map(|column| format!("${}", first + row * columns + column));
        format!("({})", numbers.collect::<Vec<_>>().join(", "))
    };
    (0..rows).map(row).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_rows_are_written_by_few_kinds_of_statements() {
        let all: Vec<_> = (0..39).collect();
        let lengths: Vec<_> = pieces(&all).map(<[i32]>::len).collect();
        assert_eq!(lengths, [16, 16, 4, 1, 1, 1]);
        assert_eq!(pieces(&all).flatten().copied().collect::<Vec<_>>(), all);
        assert_eq!(parameters(2, 2, 3), "($3, $4), ($5, $6)");
    }

    #[test]
    fn a_step_that_the_store_adds_is_read() {
        let time = Timestamp::from_millis(5);
        let first = Step { state: State::Accepted, time, reason: None, attempt: 0 };
        let text = history_text(&[first]).unwrap();
        let text = format!(
            "{}{}{}}}]",
            text.strip_suffix(']').unwrap(),
            step_before_attempt(State::Expired, time),
            2
        );
        let second = Step { state: State::Expired, attempt: 2, ..first };
        assert_eq!(history(&text), Ok(vec![first, second]));
    }
}
