//! Every channel adapter passes the same contract.

use std::sync::Arc;

use anyhow::Result;
use common::BoxFuture;
use common::embedded::{EmbeddedLog, LogSettings};
use common::kafka::{KafkaChannels, KafkaSettings};
use common::service::Clock;
use tests::contract::{Adapter, Channels};
use tests::kafka::Topics;

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

/// Topics of a check's own, on the broker that the environment names.
struct Kafka {
    topics: Topics,
}

impl Kafka {
    fn new() -> Option<Self> {
        Some(Self { topics: Topics::new(tests::kafka::given("the contract on Kafka")?) })
    }
}

impl Adapter for Kafka {
    fn open(&self) -> BoxFuture<'_, Result<Channels>> {
        Box::pin(async {
            let settings = KafkaSettings { queue_bytes: 4 << 20, ..self.topics.settings() };
            let kafka = KafkaChannels::open(settings, Clock::system()).await?;
            Ok(Channels { sink: Arc::new(kafka.clone()), source: Arc::new(kafka) })
        })
    }
}

mod embedded {
    tests::channel_contract!(super::Embedded::new()?);
}

mod kafka {
    tests::channel_contract!(match super::Kafka::new() {
        Some(adapter) => adapter,
        None => return Ok(()),
    });
}
