//! How a subscription ends, and what it may not do to others.

use anyhow::{Context, Result, ensure};
use common::channel::{Channel, Flow, Record, RecordHandler, SourceError, Start};
use std::time::Duration;
use tokio::sync::oneshot;
use tokio::time::timeout;

use super::stream::ensure_same;
use super::{Adapter, event};

const PATIENCE: Duration = Duration::from_secs(30);

/// Stops at the first record. Dropping it resolves the receiver.
struct StopAtOnce {
    seen: usize,
    _dropped: oneshot::Sender<()>,
}

impl RecordHandler for StopAtOnce {
    fn record(&mut self, _record: &dyn Record) -> Flow {
        self.seen += 1;
        assert_eq!(self.seen, 1, "a handler that stopped was called again");
        Flow::Stop
    }

    fn interrupted(&mut self, _error: &SourceError) -> Flow {
        Flow::Stop
    }
}

/// A handler that says stop is not called again and is dropped, and its subscription is no longer live.
pub async fn a_handler_that_stops_ends_its_subscription(adapter: &impl Adapter) -> Result<()> {
    let channels = adapter.open().await?;
    let (handler, dropped) = oneshot::channel();
    let handler = StopAtOnce { seen: 0, _dropped: handler };
    let subscription =
        channels.source.subscribe(&[Channel::Commands], Start::Latest, Box::new(handler)).await?;
    for _ in 0..5 {
        channels.publish(Channel::Commands, &event("d", "a")?).await?;
    }
    let ended = timeout(PATIENCE, dropped).await.context("the handler was not dropped")?;
    ensure!(ended.is_err(), "nobody sends");
    let not_live = async {
        while subscription.is_live() {
            tokio::task::yield_now().await;
        }
    };
    timeout(PATIENCE, not_live).await.context("the subscription stayed live")
}

/// Dropping a subscription ends it, be it idle, busy or blocked, and leaves the others alone.
pub async fn a_subscription_that_is_dropped_ends(adapter: &impl Adapter) -> Result<()> {
    let channels = adapter.open().await?;
    let mut other = channels.subscribe(&Channel::ALL, Start::Latest).await?;
    let idle = channels.subscribe(&[Channel::Outcomes], Start::Latest).await?;
    idle.close().await?;
    let mut busy = channels.subscribe(&[Channel::Commands], Start::Latest).await?;
    let blocked = channels.subscribe(&[Channel::Commands], Start::Latest).await?;
    let expected = channels.publish_some(&[Channel::Commands], 20).await?;
    busy.next().await?;
    busy.close().await?;
    blocked.close().await?;
    ensure_same(&other.take(expected.len()).await?, &expected)?;
    ensure!(other.subscription.is_live());
    Ok(())
}

/// A handler that blocks delays neither publishers nor other subscriptions, and misses nothing.
pub async fn a_blocked_handler_slows_only_itself(adapter: &impl Adapter) -> Result<()> {
    let channels = adapter.open().await?;
    let mut blocked = channels.subscribe(&Channel::ALL, Start::Latest).await?;
    let mut free = channels.subscribe(&Channel::ALL, Start::Latest).await?;
    let mut expected = Vec::new();
    for _ in 0..20 {
        let published = channels.publish_some(&Channel::ALL, 30).await?;
        ensure_same(&free.take(published.len()).await?, &published)?;
        expected.extend(published);
    }
    ensure_same(&blocked.take(expected.len()).await?, &expected)
}
