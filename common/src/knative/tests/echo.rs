//! Events that must come back before they count as taken.

use futures_util::FutureExt as _;

use super::*;

/// A sink whose commands come back to an inbox.
fn sink(channel: &FakeChannel, inbox: &Inbox, patience: Duration) -> Sink {
    let echoes = inbox.echoes.clone();
    Sink::new(SinkSettings { echoes, patience, ..settings(channel) }, Clock::system())
}

/// Pushes what a channel got to the replica, as the channel got it.
async fn push_back(inbox: &Inbox, posted: &Posted) {
    let is_of_event = |name: &str| name.starts_with("ce-") || name == "content-type";
    let headers = posted.headers.iter().filter(|(name, _)| is_of_event(name));
    let headers: Vec<_> = headers.map(|(name, value)| (name.as_str(), value.as_str())).collect();
    assert_eq!(inbox.push(&format!("commands/{TOKEN}"), &headers, posted.body.clone()).await, 202);
}

#[tokio::test]
async fn an_event_is_published_once_it_has_come_back() {
    let (mut channel, inbox) = (FakeChannel::scripted([]).await, Inbox::open(1 << 20));
    let sink = sink(&channel, &inbox, LONG);
    let mut stream = Stream::of(&inbox.hub, &[Channel::Commands]);
    let mut published = sink.publish(Channel::Commands, event("default/d1", "on"));
    let posted = channel.posted().await;
    // The second post says that the first was taken.
    let again = channel.posted().await;
    assert_eq!((&mut published).now_or_never(), None);
    assert_eq!(posted.header("ce-id"), again.header("ce-id"));
    push_back(&inbox, &posted).await;
    assert_eq!(soon("it has come back", published).await, Ok(()));
    // It is read from then on.
    assert_eq!(stream.next().await, command("on"));
    push_back(&inbox, &again).await;
    let next = event("default/d1", "next");
    assert_eq!(inbox.push_command(&next).await, 202);
    assert_eq!(stream.next().await, command("next"), "the second arrival is handed to nobody");
}

#[tokio::test]
async fn what_another_sent_and_what_comes_by_another_channel_is_no_echo() {
    let (mut channel, inbox) = (FakeChannel::scripted([]).await, Inbox::open(1 << 20));
    let sink = sink(&channel, &inbox, LONG);
    let on = event("default/d1", "on");
    let mut published = sink.publish(Channel::Commands, on.clone());
    let posted = channel.posted().await;
    assert_eq!(inbox.push_command(&event("default/d1", "on")).await, 202);
    let text = serde_json::to_string(&on).unwrap();
    let json = [("content-type", "application/cloudevents+json")];
    assert_eq!(inbox.push(&format!("outcomes/{TOKEN}"), &json, text).await, 202);
    channel.posted().await;
    assert_eq!((&mut published).now_or_never(), None);
    push_back(&inbox, &posted).await;
    assert_eq!(soon("it has come back", published).await, Ok(()));
}

#[tokio::test]
async fn what_never_comes_back_is_said_not_to_arrive() {
    let (channel, inbox) = (FakeChannel::scripted([]).await, Inbox::open(1 << 20));
    let sink = sink(&channel, &inbox, Duration::from_secs(3));
    let heard = publish(&sink, &event("default/d1", "on")).await;
    let said = "does not arrive at this replica";
    assert!(matches!(&heard, Err(PublishError::Unavailable(why)) if why.contains(said)), "{heard:?}");
    // Other channels are not waited for.
    let published = sink.publish(Channel::Telemetry, event("default/d1", "on"));
    assert_eq!(soon("the channel's word is enough", published).await, Ok(()));
}

#[tokio::test]
async fn a_channel_is_not_believed_before_the_event_came_nor_an_echo_before_the_channel_has_it() {
    // The event comes at once, and the channel says so only at the second attempt.
    let (mut channel, inbox) = (FakeChannel::scripted([Answer::Status(503)]).await, Inbox::open(1 << 20));
    let sink = sink(&channel, &inbox, LONG);
    let published = sink.publish(Channel::Commands, event("default/d1", "on"));
    push_back(&inbox, &channel.posted().await).await;
    assert_eq!(soon("the channel has it", published).await, Ok(()));
    assert_eq!(channel.posted().await.subject(), "on");
    assert_eq!(channel.unread(), 0);
}
