//! The queue to the channels, and what order it keeps.

use futures_util::FutureExt as _;

use super::*;

#[tokio::test]
async fn a_device_keeps_its_order_across_a_retry_and_holds_up_no_other() {
    let go = Shutdown::new();
    let mut first = Some(Answer::Held(go.clone(), 503));
    let answer = move |posted: &Posted| match posted.subject() {
        "first" => first.take().unwrap_or(Answer::Status(202)),
        _ => Answer::Status(202),
    };
    let mut channel = FakeChannel::answering(answer).await;
    let sink = Sink::new(settings(&channel), Clock::system());
    let first = sink.publish(Channel::Commands, event("default/d1", "first"));
    assert_eq!(channel.posted().await.subject(), "first");
    let second = sink.publish(Channel::Commands, event("default/d1", "second"));
    assert_eq!(publish(&sink, &event("default/d2", "other")).await, Ok(()));
    let elsewhere = sink.publish(Channel::Outcomes, event("default/d1", "elsewhere"));
    assert_eq!(soon("another channel is not held up", elsewhere).await, Ok(()));
    go.cancel();
    assert_eq!(soon("both are published", async { (first.await, second.await) }).await, (Ok(()), Ok(())));
    let mut order = Vec::new();
    while channel.unread() > 0 {
        order.push(channel.posted().await.subject().to_owned());
    }
    assert_eq!(order, ["other", "elsewhere", "first", "second"]);
}

#[tokio::test]
async fn one_whose_channel_is_silent_fails_and_the_next_goes_on() {
    let answer = |posted: &Posted| match posted.subject() {
        "first" => Answer::Silence,
        _ => Answer::Status(202),
    };
    let channel = FakeChannel::answering(answer).await;
    let sink = Sink::new(SinkSettings { patience: SHORT, ..settings(&channel) }, Clock::system());
    let first = publish(&sink, &event("default/d1", "first")).await;
    assert_eq!(first, Err(PublishError::TimedOut(LONG)));
    assert_eq!(publish(&sink, &event("default/d1", "second")).await, Ok(()));
    assert!(channel.unread() > 2, "what heard nothing is posted again");
}

#[tokio::test]
async fn a_full_queue_refuses_at_once_and_recovers() {
    let go = Shutdown::new();
    let held = go.clone();
    let channel = FakeChannel::answering(move |_| Answer::Held(held.clone(), 202)).await;
    let sink = Sink::new(SinkSettings { max_event: 2 << 20, ..settings(&channel) }, Clock::system());
    let data = Bytes::from(vec![0; 1 << 20]);
    let large = |device: usize| Event { data: data.clone(), ..event(&format!("default/d{device}"), "large") };
    let mut waiting = Vec::new();
    loop {
        let mut published = sink.publish(Channel::Commands, large(waiting.len()));
        match (&mut published).now_or_never() {
            None => waiting.push(published),
            Some(heard) => {
                assert_eq!(heard, Err(PublishError::Overloaded));
                break;
            }
        }
        assert!(waiting.len() < 100, "the queue has no end");
    }
    assert_eq!(waiting.len(), 15);
    go.cancel();
    for published in waiting {
        assert_eq!(soon("what waited is published", published).await, Ok(()));
    }
    assert_eq!(publish(&sink, &large(0)).await, Ok(()));
}

#[tokio::test]
async fn one_channel_that_is_down_takes_no_turn_of_another() {
    let answer = |posted: &Posted| match posted.path.as_str() {
        "/telemetry" => Answer::Silence,
        _ => Answer::Status(202),
    };
    let channel = FakeChannel::answering(answer).await;
    let sink = Sink::new(settings(&channel), Clock::system());
    let hang = |device| sink.publish(Channel::Telemetry, event(&format!("default/d{device}"), "on"));
    let waiting: Vec<_> = (0..300).map(hang).collect();
    eventually("all turns of the channel are taken", || channel.unread() == 256).await;
    assert_eq!(publish(&sink, &event("default/d1", "on")).await, Ok(()));
    drop(waiting);
}

#[tokio::test]
async fn a_publisher_that_goes_withdraws_nothing() {
    let mut channel = FakeChannel::scripted([Answer::Status(503)]).await;
    let sink = Sink::new(settings(&channel), Clock::system());
    drop(sink.publish(Channel::Commands, event("default/d1", "first")));
    drop(sink.publish(Channel::Commands, event("default/d1", "second")));
    drop(sink);
    for subject in ["first", "first", "second"] {
        assert_eq!(channel.posted().await.subject(), subject);
    }
}
