//! What a sink promises.

use std::collections::HashMap;

use anyhow::{Result, bail, ensure};
use bytes::Bytes;
use common::channel::{Channel, PublishError, Start};
use common::event::{Event, OCTET_STREAM, extension};
use common::time::Timestamp;
use futures_util::future::{join_all, try_join_all};

use super::{Adapter, event};

/// Every attribute and every byte of the data is read back as it was published, from every channel.
pub async fn every_attribute_is_read_back(adapter: &impl Adapter) -> Result<()> {
    let channels = adapter.open().await?;
    for channel in Channel::ALL {
        let events = unusual_events()?;
        let mut stream = channels.subscribe(&[channel], Start::Latest).await?;
        for event in &events {
            channels.publish(channel, event).await?;
            let mut seen = stream.next().await?;
            ensure!(seen.channel == channel, "{seen:?}");
            ensure!(seen.key == event.device.as_str().as_bytes(), "{seen:?}");
            // Extensions are a set: not every wire keeps their order.
            let mut expected = event.clone();
            expected.extensions.sort();
            seen.event.extensions.sort();
            ensure!(seen.event == expected, "read {:?} instead of {expected:?}", seen.event);
        }
    }
    Ok(())
}

/// Returns events of one device that differ in every attribute from those which are usual.
fn unusual_events() -> Result<Vec<Event>> {
    // Each has an id of its own: what comes twice under one id may be read once.
    let plain = || event("A.b_c~d-e", "plain");
    let any_byte: Vec<u8> = (0..=u8::MAX).collect();
    Ok(vec![
        Event { source: Some("urn:somebody:else".into()), ..plain()? },
        Event { kind: "com.example.other.v7".into(), id: "not.a~UUID_1".parse()?, ..plain()? },
        Event { subject: "a/b:c/~d".into(), time: Timestamp::from_millis(1), ..plain()? },
        Event { content_type: "text/plain; charset=\"utf-8\"".into(), ..plain()? },
        Event { content_type: OCTET_STREAM.into(), data: Bytes::new(), ..plain()? },
        Event { data: any_byte.into(), ..plain()? },
        Event { data: Bytes::from(vec![0xff; 512 << 10]), ..plain()? },
        Event {
            extensions: vec![
                (extension::TTD.into(), "2.5".into()),
                (extension::TRACEPARENT.into(), format!("00-{}-{}-01", "a".repeat(32), "b".repeat(16))),
                ("custom".into(), "!\"#$&'()*+,-./:;<=>?@[\\]^_`{|}~".into()),
            ],
            ..plain()?
        },
        plain()?,
    ])
}

/// Events of a device are read in the order in which they were published, also without waiting for acknowledgements.
pub async fn concurrent_publishers_keep_the_order_of_each_device(adapter: &impl Adapter) -> Result<()> {
    const DEVICES: usize = 16;
    const EVENTS: usize = 50;
    let channels = adapter.open().await?;
    let mut stream = channels.subscribe(&[Channel::Telemetry], Start::Latest).await?;
    let publishers = (0..DEVICES).map(|device| {
        let channels = channels.clone();
        tokio::spawn(async move {
            let mut published = Vec::new();
            for number in 0..EVENTS {
                let event = event(&format!("d{device}"), &number.to_string())?;
                published.push(channels.sink.publish(Channel::Telemetry, event));
            }
            anyhow::Ok(try_join_all(published).await?)
        })
    });
    let publishers: Vec<_> = publishers.collect();
    let mut next: HashMap<Vec<u8>, usize> = HashMap::new();
    for seen in stream.take(DEVICES * EVENTS).await? {
        let expected = next.entry(seen.key).or_default();
        ensure!(seen.event.subject == expected.to_string(), "{:?} instead of {expected}", seen.event);
        *expected += 1;
    }
    for publisher in publishers {
        publisher.await??;
    }
    Ok(())
}

/// An event is published when the sink is called, whether its future is polled or dropped.
pub async fn a_publish_that_nobody_awaits_is_not_withdrawn(adapter: &impl Adapter) -> Result<()> {
    let channels = adapter.open().await?;
    let mut stream = channels.subscribe(&[Channel::Commands], Start::Latest).await?;
    drop(channels.sink.publish(Channel::Commands, event("d", "dropped")?));
    let unpolled = channels.sink.publish(Channel::Commands, event("d", "unpolled")?);
    channels.publish(Channel::Commands, &event("d", "awaited")?).await?;
    unpolled.await?;
    for expected in ["dropped", "unpolled", "awaited"] {
        let seen = stream.next().await?;
        ensure!(seen.event.subject == expected, "{:?} instead of {expected}", seen.event.subject);
    }
    Ok(())
}

/// A full queue is answered at once; what was accepted is read, and the sink takes events again.
pub async fn a_full_queue_is_an_error_and_recovers(adapter: &impl Adapter) -> Result<()> {
    const ENOUGH: usize = 2_000;
    let channels = adapter.open().await?;
    let mut stream = channels.subscribe(&[Channel::Telemetry], Start::Latest).await?;
    // What is not kept must be read as it comes.
    let read = tokio::spawn(async move {
        let mut subjects = Vec::new();
        while subjects.last().is_none_or(|last| last != "recovered") {
            subjects.push(stream.next().await?.event.subject);
        }
        anyhow::Ok(subjects)
    });
    let data = Bytes::from(vec![0; 64 << 10]);
    let published = (0..ENOUGH).map(|number| {
        let event = Event { data: data.clone(), ..event("d", &number.to_string())? };
        anyhow::Ok(channels.sink.publish(Channel::Telemetry, event))
    });
    let results = join_all(published.collect::<Result<Vec<_>>>()?).await;
    let mut accepted = Vec::new();
    for (number, result) in results.into_iter().enumerate() {
        match result {
            Ok(()) => accepted.push(number),
            Err(PublishError::Overloaded) => {}
            Err(error) => bail!("{number}: {error}"),
        }
    }
    ensure!(!accepted.is_empty() && accepted.len() < ENOUGH, "{} were accepted", accepted.len());
    channels.publish(Channel::Telemetry, &event("d", "recovered")?).await?;
    let expected: Vec<_> = accepted.iter().map(ToString::to_string).chain(["recovered".to_owned()]).collect();
    let read = read.await??;
    ensure!(read == expected, "{read:?} instead of {expected:?}");
    Ok(())
}
