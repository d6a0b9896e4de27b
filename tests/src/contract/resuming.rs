//! What a source promises of positions.

use anyhow::{Context, Result, ensure};
use common::channel::{Channel, Cursor, SourceError, Start};

use super::stream::{Stream, ensure_same};
use super::{Adapter, Channels, event};

/// The channels that a client may read together.
const SUBSETS: [&[Channel]; 3] =
    [&[Channel::Commands], &[Channel::Telemetry, Channel::Outcomes], &Channel::ALL];

/// Behind each cursor comes exactly what followed it, for every set of channels.
pub async fn a_cursor_resumes_without_gap_or_repetition(adapter: &impl Adapter) -> Result<()> {
    let channels = adapter.open().await?;
    channels.publish_some(&Channel::ALL, 24).await?;
    for subset in SUBSETS {
        let count = 24 / Channel::ALL.len() * subset.len();
        let all = channels.subscribe(subset, Start::Earliest).await?.take(count).await?;
        for read in 1..=count {
            let mut resumed = channels.subscribe(subset, Start::After(all[read - 1].cursor.clone())).await?;
            let events: Vec<_> = all[read..].iter().map(|seen| seen.event.clone()).collect();
            ensure_same(&resumed.take(count - read).await?, &events)
                .with_context(|| format!("after {read}"))?;
        }
    }
    // At the end of the channels, a cursor waits for what is new.
    let all = channels.subscribe(&Channel::ALL, Start::Earliest).await?.take(24).await?;
    let mut resumed = channels.subscribe(&Channel::ALL, Start::After(all[23].cursor.clone())).await?;
    channels.publish(Channel::Commands, &event("d0", "new")?).await?;
    ensure!(resumed.next().await?.event.subject == "new");
    Ok(())
}

/// A cursor outlives the process that gave it out.
pub async fn a_cursor_resumes_after_a_restart(adapter: &impl Adapter) -> Result<()> {
    let mut channels = adapter.open().await?;
    let mut expected = Vec::new();
    let mut stream = channels.subscribe(&Channel::ALL, Start::Earliest).await?;
    let mut cursor = None;
    for _ in 0..3 {
        expected.extend(channels.publish_some(&Channel::ALL, 6).await?);
        // It reads half of what is there; the rest is left for the next run.
        let half = expected.len() / 2;
        for _ in 0..half {
            let seen = stream.next().await?;
            let at = expected.iter().position(|event| event.id == seen.event.id);
            expected.remove(at.with_context(|| format!("{seen:?} came twice"))?);
            cursor = Some(seen.cursor);
        }
        stream.close().await?;
        drop(channels);
        channels = adapter.open().await?;
        let start = Start::After(cursor.clone().context("nothing was read")?);
        stream = channels.subscribe(&Channel::ALL, start).await?;
    }
    ensure_same(&stream.take(expected.len()).await?, &expected)
}

/// What is no cursor, or none of this source, is refused rather than taken for some place.
pub async fn unknown_cursors_are_refused(adapter: &impl Adapter) -> Result<()> {
    let channels = adapter.open().await?;
    channels.publish(Channel::Commands, &event("d", "a")?).await?;
    let mut stream = channels.subscribe(&[Channel::Commands], Start::Earliest).await?;
    let Cursor(valid) = stream.next().await?.cursor;
    let ahead = format!("{valid}0");
    let (short, version) = (&valid[..valid.len() - 1], format!("x{valid}"));
    for bad in ["", "0", "latest", "\u{1f980}", "-", &" ".repeat(10_000), &ahead, short, &version] {
        let error = resume(&channels, bad).await.err();
        let error = error.with_context(|| format!("{bad:?} was taken"))?;
        ensure!(error.downcast_ref() == Some(&SourceError::InvalidCursor), "{bad:?}: {error}");
    }
    resume(&channels, &valid).await?;
    Ok(())
}

async fn resume(channels: &Channels, cursor: &str) -> Result<Stream> {
    channels.subscribe(&[Channel::Commands], Start::After(Cursor(cursor.into()))).await
}

/// A source that keeps nothing says so to whoever asks for what was before, and gives no position.
pub async fn what_is_not_kept_cannot_be_asked_for(adapter: &impl Adapter) -> Result<()> {
    let channels = adapter.open().await?;
    for start in [Start::Earliest, Start::After(Cursor("1".into()))] {
        let refused = channels.subscribe(&[Channel::Commands], start.clone()).await;
        let error = refused.err().context("it was not refused")?;
        let error = error.downcast::<SourceError>()?;
        ensure!(error == SourceError::Unsupported, "{start:?}: {error}");
    }
    let behind = channels.source.cursor_behind(&[(Channel::Commands, vec![None])]);
    ensure!(behind == Err(SourceError::Unsupported), "{behind:?}");
    let mut stream = channels.subscribe(&[Channel::Commands], Start::Latest).await?;
    ensure!(stream.subscription.start().is_none());
    channels.publish(Channel::Commands, &event("d", "new")?).await?;
    ensure!(stream.next().await?.cursor == Cursor(String::new()));
    Ok(())
}
