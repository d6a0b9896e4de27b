//! Every channel adapter passes the same contract.

use std::sync::Arc;

use anyhow::Result;
use common::BoxFuture;
use common::embedded::{EmbeddedLog, LogSettings};
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
            let settings = LogSettings { queue_bytes: 4 << 20, ..LogSettings::default() };
            let log = EmbeddedLog::open(&self.dir.path().join("log.sqlite"), settings, Clock::system())?;
            Ok(Channels { sink: Arc::new(log.clone()), source: Arc::new(log) })
        })
    }
}

mod embedded {
    tests::channel_contract!(super::Embedded::new()?);
}
