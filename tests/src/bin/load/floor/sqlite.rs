//! SQLite by rusqlite: durable rows in groups.

use std::path::Path;
use std::time::Duration;

use rusqlite::{Connection, params};

use crate::histogram::Histogram;
use crate::pace::now;
use crate::progress;
use crate::report::Figure;

/// The bytes of a row, about those of a telemetry event.
const ROW: usize = 450;

/// Measures groups of several sizes, in a file of its own that is deleted afterwards.
///
/// # Errors
/// Fails if SQLite cannot write.
pub(super) fn measure(seconds: f64, disk: &Path) -> anyhow::Result<Vec<Figure>> {
    let duration = Duration::from_secs_f64(seconds);
    [1, 10, 100, 1_000].into_iter().map(|group| measure_group(group, duration, disk)).collect()
}

fn measure_group(group: usize, duration: Duration, disk: &Path) -> anyhow::Result<Figure> {
    let directory = tempfile::Builder::new().prefix(".load-").tempdir_in(disk)?;
    let mut database = Connection::open(directory.path().join("floor.sqlite"))?;
    database.pragma_update(None, "journal_mode", "wal")?;
    database.pragma_update(None, "synchronous", "full")?;
    database.execute("create table log (id integer primary key, event blob not null)", [])?;
    let progress = progress::running(&format!("SQLite, groups of {group}"));
    let (row, start) = ([7u8; ROW], now());
    let (mut rows, mut latency) = (0, Histogram::default());
    while now() - start < duration {
        let begin = now();
        let transaction = database.transaction()?;
        let mut insert = transaction.prepare_cached("insert into log (event) values (?)")?;
        for _ in 0..group {
            insert.execute(params![row])?;
        }
        drop(insert);
        transaction.commit()?;
        rows += group;
        latency.record(now() - begin);
    }
    let rate = rows as f64 / (now() - start).as_secs_f64();
    progress.finish_and_clear();
    let what = format!("durable rows in groups of {group}");
    Ok(Figure::new(what, rate, "1/s").with_latency(&latency))
}
