//! Records that were read in one snapshot and wait for their subscription's handler.
//!
//! They are copied out of SQLite's pages, a few hundred bytes each, rather than decoded or handed over in place: a
//! snapshot that stays open while a handler blocks would keep the write-ahead log from being reused.

use std::ops::Range;

use rusqlite::{CachedStatement, Row};

use super::cursor::{self, Position};
use super::row;
use crate::channel::{Channel, Cursor, Partition, Place, Record};
use crate::event::{Event, Malformed};

/// Where a batch ends: what a subscription holds in memory is this and one record.
const MAX_RECORDS: usize = 512;
const MAX_BYTES: usize = 256 << 10;

/// Records in order, in one buffer that is used again for the next batch.
#[derive(Debug, Default)]
pub(super) struct Batch {
    bytes: Vec<u8>,
    records: Vec<Span>,
}

/// Where in the buffer the parts of a record lie, one after the other.
#[derive(Debug)]
struct Span {
    channel: Channel,
    position: Position,
    key: Range<usize>,
    attributes_end: usize,
    data_end: usize,
}

impl Batch {
    /// Returns the query that [`Batch::fill`] reads: the records of the channels behind a position, in order.
    pub(super) fn query(channels: &[Channel]) -> String {
        let select = |channel: &Channel| {
            let number = *channel as usize;
            format!("SELECT {number}, position, key, attributes, data FROM {channel} WHERE position > ?1")
        };
        let selects: Vec<_> = channels.iter().map(select).collect();
        // Each part is in the order of its table, so that SQLite merges them and sorts nothing.
        format!("{} ORDER BY position", selects.join(" UNION ALL "))
    }

    /// Replaces the content by what follows `position`. Returns whether more may follow.
    pub(super) fn fill(
        &mut self,
        query: &mut CachedStatement<'_>,
        position: Position,
    ) -> rusqlite::Result<bool> {
        self.bytes.clear();
        self.records.clear();
        // One huge record must not be paid for until the end of the subscription.
        self.bytes.shrink_to(2 * MAX_BYTES);
        let mut rows = query.query([position])?;
        while let Some(row) = rows.next()? {
            self.push(row)?;
            if self.records.len() >= MAX_RECORDS || self.bytes.len() >= MAX_BYTES {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn push(&mut self, row: &Row<'_>) -> rusqlite::Result<()> {
        let channel = Channel::ALL[usize::from(row.get::<_, u8>(0)?)];
        let mut append = |column| -> rusqlite::Result<usize> {
            // A value of another type was written by somebody else; the record will turn out to be malformed.
            self.bytes.extend_from_slice(row.get_ref(column)?.as_bytes().unwrap_or_default());
            Ok(self.bytes.len())
        };
        let start = self.records.last().map_or(0, |span| span.data_end);
        let key = start..append(2)?;
        let (attributes_end, data_end) = (append(3)?, append(4)?);
        self.records.push(Span { channel, position: row.get(1)?, key, attributes_end, data_end });
        Ok(())
    }

    /// Returns the records of the log `log`, in order.
    pub(super) fn records<'a>(&'a self, log: &'a str) -> impl Iterator<Item = Stored<'a>> {
        self.records.iter().map(move |span| Stored { log, bytes: &self.bytes, span })
    }
}

/// A record of the log.
#[derive(Debug)]
pub(super) struct Stored<'a> {
    log: &'a str,
    bytes: &'a [u8],
    span: &'a Span,
}

impl Stored<'_> {
    pub(super) fn position(&self) -> Position {
        self.span.position
    }
}

impl Record for Stored<'_> {
    fn channel(&self) -> Channel {
        self.span.channel
    }

    fn key(&self) -> &[u8] {
        &self.bytes[self.span.key.clone()]
    }

    fn partition(&self) -> Partition {
        Partition(0)
    }

    fn place(&self) -> Place {
        Place(u64::try_from(self.span.position).unwrap_or(0))
    }

    fn event(&self) -> Result<Event, Malformed> {
        let Span { key, attributes_end, data_end, .. } = self.span;
        let attributes = &self.bytes[key.end..*attributes_end];
        row::decode(self.key(), attributes, &self.bytes[*attributes_end..*data_end])
    }

    fn cursor(&self) -> Cursor {
        cursor::format(self.log, self.span.position)
    }
}
