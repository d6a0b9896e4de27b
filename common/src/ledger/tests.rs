//! The ledger as a whole: on a real file, and on a real server where there is one.

mod commit;
mod leases;
mod read;
mod submit;
mod waiting;

use std::time::Duration;

use super::*;
use crate::channel::{Partition, Place};
use crate::command::Command;
use crate::id::{DeviceKey, EventId};
use crate::outcome::{Reason, State};
use crate::registry::tests::database::{Database, on_each_store};
use crate::registry::tests::settings;
use crate::time::Timestamp;
use crate::tracker::{Change, Places, Row, Step};

const NOW: Timestamp = Timestamp::from_millis(1_700_000_000_000);
const TTL: Duration = Duration::from_secs(5);
const P0: Partition = Partition(0);

/// A ledger of its own, of which `lease` is held.
struct Fixture {
    ledger: Ledger,
    lease: Lease,
    database: Database,
}

impl std::ops::Deref for Fixture {
    type Target = Ledger;

    fn deref(&self) -> &Ledger {
        &self.ledger
    }
}

impl Fixture {
    /// Tells which device a command is for, and its state.
    async fn device_of(&self, id: &EventId) -> Result<Option<(DeviceKey, State)>, LedgerError> {
        let row = self.find(vec![id.clone()]).await?.pop();
        Ok(row.map(|row| (row.device, row.state)))
    }

    async fn state(&self, id: &str) -> State {
        self.device_of(&event(id)).await.unwrap().expect("it is there").1
    }

    /// Writes rows and nothing else.
    async fn write(&self, rows: Vec<Row>) -> Result<(), LedgerError> {
        self.commit(self.lease, batch(rows)).await
    }

    /// Submits a kept command, and reads it in the log.
    async fn pending(&self, id: &str, place: u64) -> Row {
        self.submit(kept(id)).await.unwrap();
        let row = Row { place: Some(Place(place)), ..row(kept(id)) };
        self.write(vec![row.clone()]).await.unwrap();
        row
    }
}

async fn fixture(database: Database) -> Fixture {
    let ledger = open(&database).await;
    let lease = ledger.acquire(P0, 0, "me", NOW, TTL).await.unwrap().expect("it is free");
    Fixture { ledger, lease, database }
}

/// Opens the ledger as one more process does.
async fn open(database: &Database) -> Ledger {
    Ledger::of(&database.open(settings()).await)
}

fn event(id: &str) -> EventId {
    id.parse().unwrap()
}

fn key(text: &str) -> DeviceKey {
    DeviceKey::from_bytes(text.as_bytes()).unwrap()
}

fn later(seconds: u64) -> Timestamp {
    NOW.saturating_add(Duration::from_secs(seconds))
}

fn plain(id: &str) -> Submission {
    Submission {
        command: Command {
            id: event(id),
            device: key("a/d"),
            name: "set".parse().unwrap(),
            expires: later(60),
            kept: false,
            content_type: "text/plain".to_owned(),
            payload: format!("payload of {id}").into(),
        },
        accepted: NOW,
        idempotency: None,
        supersede: None,
        max_pending: 50,
    }
}

fn kept(id: &str) -> Submission {
    let plain = plain(id);
    Submission { command: Command { kept: true, ..plain.command }, ..plain }
}

fn row(submission: Submission) -> Row {
    Row::accepted(&submission.command, submission.accepted)
}

/// Brings a row into a state, one second after its last.
fn step(row: &Row, state: State, reason: Option<Reason>, attempt: u32) -> Row {
    let mut row = row.clone();
    let time = row.history.last().unwrap().time.saturating_add(Duration::from_secs(1));
    row.history.push(Step { state, time, reason, attempt });
    Row { state, reason, told: state.is_settled(), ..row }
}

fn batch(rows: Vec<Row>) -> Batch {
    Batch { changes: rows.into_iter().map(|row| write(row, None)).collect(), saved: None, now: NOW }
}

/// Writes a row; `returned` is an attempt that has ended.
fn write(row: Row, returned: Option<u32>) -> Change {
    Change::Write { row: Box::new(row), returned }
}

/// Returns a row as it is read where what it carries is not wanted.
fn bare(row: &Row) -> Row {
    Row { content: None, ..row.clone() }
}

fn ids(rows: &[Row]) -> Vec<&str> {
    rows.iter().map(|row| row.id.as_str()).collect()
}
