//! What a source promises of its start and its records.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::{Result, ensure};
use common::channel::{Channel, Flow, Record, RecordHandler, SourceError, Start};
use common::id::DeviceKey;
use tokio::sync::mpsc;

use super::stream::ensure_same;
use super::{Adapter, event};

/// A subscription reads the channels that it names, each once, and no other.
pub async fn a_subscription_reads_only_its_channels(adapter: &impl Adapter) -> Result<()> {
    let channels = adapter.open().await?;
    for channel in Channel::ALL {
        channels.publish(channel, &event("d", channel.as_str())?).await?;
    }
    for wanted in [&[Channel::Commands][..], &[Channel::Outcomes, Channel::Telemetry, Channel::Outcomes]] {
        let mut stream = channels.subscribe(wanted, Start::Earliest).await?;
        for channel in Channel::ALL {
            channels.publish(channel, &event("d", "later")?).await?;
        }
        let mut expected: Vec<_> = Channel::ALL.into_iter().filter(|each| wanted.contains(each)).collect();
        let mut first = Vec::new();
        while first.len() < expected.len() {
            let seen = stream.next().await?;
            ensure!(wanted.contains(&seen.channel), "{seen:?}");
            if seen.event.subject != "later" {
                ensure!(seen.event.subject == seen.channel.as_str(), "{seen:?}");
                first.push(seen.channel);
            }
        }
        first.sort_unstable();
        expected.sort_unstable();
        ensure!(first == expected, "{first:?} instead of {expected:?}");
    }
    Ok(())
}

/// Drops what is not for its device after a look at the key, as a device endpoint does.
struct OnlyFor {
    device: DeviceKey,
    dropped: Arc<AtomicUsize>,
    found: mpsc::Sender<String>,
}

impl RecordHandler for OnlyFor {
    fn record(&mut self, record: &dyn Record) -> Flow {
        if record.key() != self.device.as_str().as_bytes() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
            return Flow::Continue;
        }
        let subject = record.event().map_or_else(|error| error.to_string(), |event| event.subject);
        // The key is still there after the event was taken.
        let same = record.key() == self.device.as_str().as_bytes();
        let found = if same { subject } else { "the key changed".into() };
        self.found.blocking_send(found).map_or(Flow::Stop, |()| Flow::Continue)
    }

    fn interrupted(&mut self, _error: &SourceError) -> Flow {
        Flow::Stop
    }
}

/// A record's key is the device's, whether its event is ever decoded or not.
pub async fn the_key_is_read_without_the_event(adapter: &impl Adapter) -> Result<()> {
    const FOREIGN: usize = 20;
    let channels = adapter.open().await?;
    let ours = event("ours", "ours")?;
    let dropped = Arc::new(AtomicUsize::new(0));
    let (found, mut subjects) = mpsc::channel(1);
    let handler = OnlyFor { device: ours.device.clone(), dropped: dropped.clone(), found };
    let subscription =
        channels.source.subscribe(&[Channel::Commands], Start::Latest, Box::new(handler)).await?;
    for number in 0..FOREIGN {
        channels.publish(Channel::Commands, &event("ours2", &number.to_string())?).await?;
    }
    channels.publish(Channel::Commands, &ours).await?;
    ensure!(subjects.recv().await.as_deref() == Some("ours"));
    while dropped.load(Ordering::Relaxed) < FOREIGN {
        tokio::task::yield_now().await;
    }
    drop(subscription);
    Ok(())
}

/// The start `Earliest` reads all that is kept, in any number of subscriptions, and then what is new.
pub async fn earliest_reads_everything(adapter: &impl Adapter) -> Result<()> {
    let channels = adapter.open().await?;
    // More than an adapter reads at once.
    let mut expected = channels.publish_some(&Channel::ALL, 30).await?;
    let mut unpolled = Vec::new();
    for number in 0..2_000 {
        let event = event("many", &number.to_string())?;
        unpolled.push(channels.sink.publish(Channel::Telemetry, event.clone()));
        expected.push(event);
    }
    futures_util::future::try_join_all(unpolled).await?;
    let mut streams = Vec::new();
    for _ in 0..3 {
        streams.push(channels.subscribe(&Channel::ALL, Start::Earliest).await?);
    }
    let new = event("new", "new")?;
    channels.publish(Channel::Outcomes, &new).await?;
    expected.push(new);
    for mut stream in streams {
        ensure_same(&stream.take(expected.len()).await?, &expected)?;
    }
    Ok(())
}

/// The start `Latest` reads nothing that was acknowledged before, and the very next event.
pub async fn latest_reads_what_is_accepted_later(adapter: &impl Adapter) -> Result<()> {
    let channels = adapter.open().await?;
    for number in 0..20 {
        let (before, after) = (format!("before/{number}"), format!("after/{number}"));
        channels.publish(Channel::Commands, &event("d", &before)?).await?;
        let mut stream = channels.subscribe(&[Channel::Commands], Start::Latest).await?;
        channels.publish(Channel::Commands, &event("d", &after)?).await?;
        let seen = stream.next().await?;
        ensure!(seen.event.subject == after, "{:?} instead of {after}", seen.event.subject);
    }
    Ok(())
}

/// While others publish, the start `Latest` reads everything that was published after the subscription had resolved.
pub async fn latest_reads_without_a_gap_under_load(adapter: &impl Adapter) -> Result<()> {
    let channels = adapter.open().await?;
    let called = Arc::new(AtomicUsize::new(0));
    let publisher = tokio::spawn({
        let (channels, called) = (channels.clone(), called.clone());
        async move {
            loop {
                let number = called.fetch_add(1, Ordering::SeqCst);
                channels.publish(Channel::Commands, &event("d", &number.to_string())?).await?;
            }
            #[expect(unreachable_code, reason = "tells the type of the task")]
            anyhow::Ok(())
        }
    });
    for _ in 0..20 {
        let mut stream = channels.subscribe(&[Channel::Commands], Start::Latest).await?;
        let resolved = called.load(Ordering::SeqCst);
        let seen = stream.take(20).await?;
        let numbers = seen.iter().map(|seen| seen.event.subject.parse::<usize>());
        let numbers = numbers.collect::<Result<Vec<_>, _>>()?;
        ensure!(numbers[0] <= resolved, "{} was missed, the first is {}", resolved, numbers[0]);
        let gapless: Vec<_> = (numbers[0]..).take(numbers.len()).collect();
        ensure!(numbers == gapless, "{numbers:?}");
    }
    publisher.abort();
    Ok(())
}
