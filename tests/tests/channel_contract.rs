//! Every channel adapter passes the same contract.

use std::sync::Arc;

use anyhow::Result;
use common::BoxFuture;
use common::embedded::{EmbeddedLog, LogOptions};
use common::service::Clock;
use tests::contract::{Adapter, Channels};

/// The embedded log, in a directory of its own.
struct Embedded {
    dir: tempfile::TempDir,
}

impl Embedded {
    fn new() -> std::io::Result<Self> {
        Ok(Self { dir: tempfile::tempdir()? })
    }
}

impl Adapter for Embedded {
    fn open(&self) -> BoxFuture<'_, Result<Channels>> {
        Box::pin(async {
            let options = LogOptions { queue_bytes: 4 << 20, ..LogOptions::default() };
            let log = EmbeddedLog::open(&self.dir.path().join("log.sqlite"), options, Clock::system())?;
            Ok(Channels { sink: Arc::new(log.clone()), source: Arc::new(log) })
        })
    }
}

mod embedded {
    tests::channel_contract!(super::Embedded::new()?);
}
