//! What the log counts.

use metrics::{Counter, Gauge, Histogram, counter, gauge, histogram};

/// Metrics that are touched for every commit, looked up once.
#[derive(Debug)]
pub(super) struct Meters {
    /// Rows that shared a transaction.
    pub(super) commit_rows: Histogram,
    /// Seconds from the first row of a transaction to its commit.
    pub(super) commit_seconds: Histogram,
    /// Transactions that failed.
    pub(super) commit_errors: Counter,
    /// Records that retention deleted.
    pub(super) retired: Counter,
    /// Bytes that the records of all channels take.
    pub(super) bytes: Gauge,
}

impl Meters {
    pub(super) fn new() -> Self {
        Self {
            commit_rows: histogram!("drogue_log_commit_rows"),
            commit_seconds: histogram!("drogue_log_commit_seconds"),
            commit_errors: counter!("drogue_log_commit_errors_total"),
            retired: counter!("drogue_log_retired_records_total"),
            bytes: gauge!("drogue_log_bytes"),
        }
    }
}
