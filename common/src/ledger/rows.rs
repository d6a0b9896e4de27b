//! How commands stand in their table.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};
use sqlx::any::{AnyArguments, AnyRow};
use sqlx::query::Query;
use sqlx::{Any, AnyConnection, AssertSqlSafe, Row as _};

use super::error::LedgerError;
use crate::channel::Place;
use crate::id::{DeviceKey, EventId};
use crate::outcome::{Reason, State};
use crate::registry::store;
use crate::time::Timestamp;
use crate::tracker::{Content, Row, Step};

/// The columns that every reader wants, in the order in which [`read`] takes them. The payload may follow them.
macro_rules! columns {
    () => {
        "id, application, device, name, place, state, reason, kept, handed, attempt, accepted, expires, \
         content_type, history, told"
    };
}
pub(super) use columns;

const PAYLOAD: usize = 15;

/// What a command must be to be ended or handed over: it waits.
macro_rules! waits {
    () => {
        "state IN ('accepted', 'pending') AND handed = 0"
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
pub(super) fn read(row: &AnyRow) -> Result<Row, LedgerError> {
    let place: Option<i64> = row.try_get(4)?;
    let reason: Option<&str> = row.try_get(6)?;
    let payload: Option<Vec<u8>> = if row.len() > PAYLOAD { row.try_get(PAYLOAD)? } else { None };
    Ok(Row {
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
        history: history(row.try_get(13)?)?,
        told: row.try_get::<i64, _>(14)? != 0,
        content: match payload {
            Some(payload) => Some(Content { content_type: row.try_get(12)?, payload: payload.into() }),
            None => None,
        },
    })
}

/// Reads rows.
pub(super) fn read_all(rows: &[AnyRow]) -> Result<Vec<Row>, LedgerError> {
    rows.iter().map(read).collect()
}

/// Finds a command of a device.
pub(super) async fn find(
    connection: &mut AnyConnection,
    device: &DeviceKey,
    id: &EventId,
) -> Result<Option<Row>, LedgerError> {
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

/// Whether what commands carry is wanted too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Contents {
    Wanted,
    Left,
}

/// Reads commands in the order of ids. What is not there is left out.
pub(super) async fn select(
    connection: &mut AnyConnection,
    ids: &[EventId],
    contents: Contents,
) -> Result<Vec<Row>, LedgerError> {
    let more = if contents == Contents::Wanted { ", payload" } else { "" };
    let mut found = Vec::with_capacity(ids.len());
    for piece in pieces(ids) {
        let (columns, given) = (columns!(), parameters(1, piece.len(), 1));
        let select = format!("SELECT {columns}{more} FROM commands WHERE id IN {given}");
        let mut statement = sqlx::query(AssertSqlSafe(select));
        for id in piece {
            statement = statement.bind(id.as_str());
        }
        found.extend(read_all(&statement.fetch_all(&mut *connection).await?)?);
    }
    Ok(in_order(found, ids.iter()))
}

/// Returns rows in the order of ids.
fn in_order<'a>(rows: Vec<Row>, ids: impl Iterator<Item = &'a EventId>) -> Vec<Row> {
    let mut rows: HashMap<_, _> = rows.into_iter().map(|row| (row.id.clone(), row)).collect();
    ids.filter_map(|id| rows.remove(id)).collect()
}

/// Reads a device's key.
fn device(application: &str, device: &str) -> Result<DeviceKey, LedgerError> {
    let key = format!("{application}/{device}");
    Ok(DeviceKey::from_bytes(key.as_bytes()).map_err(store::unreadable)?)
}

/// Reads a state.
fn state(name: &str) -> Result<State, LedgerError> {
    State::from_name(name).ok_or_else(|| store::unreadable("a state").into())
}

/// Binds the values of a row in the order of [`columns`].
pub(super) fn bind<'q>(statement: Statement<'q>, row: &Row) -> Result<Statement<'q>, LedgerError> {
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
        .bind(row.content.as_ref().map(|content| content.content_type.clone()).unwrap_or_default())
        .bind(history_text(&row.history)?)
        .bind(i64::from(row.told)))
}

/// Returns a place as it is kept.
pub(super) fn number_of(place: Place) -> i64 {
    i64::try_from(place.0).unwrap_or(i64::MAX)
}

/// Returns a place that was kept.
pub(super) fn place_of(number: i64) -> Place {
    Place(u64::try_from(number).unwrap_or(0))
}

pub(super) fn history_text(history: &[Step]) -> Result<String, LedgerError> {
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

/// Ends a command as wanted, or as undelivered where there is a doubt, if it still waits and nobody else has changed it
/// since `row` was read. Returns it as it then is.
pub(super) async fn end(
    connection: &mut AnyConnection,
    row: Row,
    wanted: State,
    now: Timestamp,
) -> Result<Option<Row>, LedgerError> {
    let before = history_text(&row.history)?;
    let row = row.ended(wanted, now);
    let update = concat!(
        "UPDATE commands SET state = $1, reason = $2, history = $3, payload = NULL, updated = $4 \
         WHERE id = $5 AND history = $6 AND ",
        waits!()
    );
    let ended = sqlx::query(update)
        .bind(row.state.as_str())
        .bind(row.reason.map(Reason::as_str))
        .bind(history_text(&row.history)?)
        .bind(now.as_millis())
        .bind(row.id.as_str())
        .bind(before)
        .execute(connection)
        .await?;
    Ok((ended.rows_affected() > 0).then_some(row))
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
}
