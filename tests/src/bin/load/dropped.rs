//! The cost of a command that is for a device which is connected elsewhere, in-process.

use std::hint::black_box;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Context;
use common::BoxFuture;
use common::auth::{Login, Secret};
use common::channel::{
    Channel, Cursor, EventSource, Partition, Place, Record, RecordHandler, SourceError, Start, Subscription,
};
use common::event::{Event, Malformed};
use common::service::{Clock, Connection, DeviceService, Limits, Protocol, Session};
use common::testing::{MemorySentCommands, StaticAuthenticator};

use crate::discard::Discard;
use crate::drive::run;
use crate::pace::now;
use crate::progress;
use crate::report::Figure;

/// Keys of foreign devices: more than a processor's caches hold.
const FOREIGN: usize = 200_000;

const CONNECTIONS: usize = 200_000;
const COMMANDS: usize = 10_000_000;

/// How many devices are connected.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Options {
    /// How many devices hold a connection to the replica.
    #[arg(long, default_value_t = CONNECTIONS)]
    pub(crate) connections: usize,

    /// How many commands for other devices are read.
    #[arg(long, default_value_t = COMMANDS)]
    pub(crate) commands: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self { connections: CONNECTIONS, commands: COMMANDS }
    }
}

/// Measures what the shell of all device endpoints does with a record of a device that is not here.
///
/// # Errors
/// Fails if the devices cannot be connected.
pub(crate) fn measure(options: &Options) -> anyhow::Result<Figure> {
    run(async {
        let (tap, authenticator) = (Tap::default(), Arc::new(StaticAuthenticator::new()));
        let (sink, limits, clock) = (Arc::new(Discard), Limits::default(), Clock::system());
        let sent = Arc::new(MemorySentCommands::new());
        let service = DeviceService::start(sink, &tap, authenticator.clone(), sent, limits, clock).await?;
        let held = hold(&service, &authenticator, options.connections).await?;
        let handler = tap.handler.lock().unwrap_or_else(PoisonError::into_inner).take();
        let nanos = nanos_each(options.commands, &mut *handler.context("the service did not subscribe")?);
        let note = format!("{} connections here", held.len());
        Ok(Figure::new("command that is not for this replica", nanos, "ns").with_note(note))
    })
}

/// Connects devices to a replica, which they are as long as what is returned is kept.
///
/// # Errors
/// Fails if they cannot be connected.
pub(crate) async fn hold(
    service: &DeviceService,
    authenticator: &StaticAuthenticator,
    connections: usize,
) -> anyhow::Result<Vec<(Session, Connection)>> {
    let mut held = Vec::with_capacity(connections);
    for number in 0..connections {
        let login = Login::parse(&format!("here-{number}"), Secret::new(""))?;
        authenticator.set(&login.device, "");
        let session = service.log_in(Protocol::Mqtt, &login, None).await?;
        let connection = session.connect(session.queue()).await?;
        held.push((session, connection));
    }
    Ok(held)
}

fn nanos_each(commands: usize, handler: &mut dyn RecordHandler) -> f64 {
    let records: Vec<_> = (0..FOREIGN).map(|number| Foreign(format!("default/elsewhere-{number}"))).collect();
    let progress = progress::running("commands that are not for this replica");
    let start = now();
    for record in records.iter().cycle().take(commands) {
        black_box(handler.record(black_box(record)));
    }
    let nanos = (now() - start).as_nanos() as f64 / commands as f64;
    progress.finish_and_clear();
    nanos
}

/// A record of which only the key may be read.
struct Foreign(String);

impl Record for Foreign {
    fn channel(&self) -> Channel {
        Channel::Commands
    }

    fn key(&self) -> &[u8] {
        self.0.as_bytes()
    }

    fn partition(&self) -> Partition {
        unreachable!("nothing but the key of a foreign command is looked at")
    }

    fn place(&self) -> Place {
        unreachable!("nothing but the key of a foreign command is looked at")
    }

    fn event(&self) -> Result<Event, Malformed> {
        unreachable!("nothing but the key of a foreign command is decoded")
    }

    fn cursor(&self) -> Cursor {
        unreachable!("nothing but the key of a foreign command is decoded")
    }
}

/// Keeps whoever subscribes.
#[derive(Default)]
struct Tap {
    handler: Mutex<Option<Box<dyn RecordHandler>>>,
}

impl EventSource for Tap {
    fn subscribe(
        &self,
        _channels: &[Channel],
        _start: Start,
        handler: Box<dyn RecordHandler>,
    ) -> BoxFuture<'_, Result<Subscription, SourceError>> {
        *self.handler.lock().unwrap_or_else(PoisonError::into_inner) = Some(handler);
        Box::pin(async { Ok(Subscription::new(Arc::new(AtomicBool::new(true)), ())) })
    }
}
