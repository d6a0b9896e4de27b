//! Subscriptions of this replica that are slow, late or gone.

use super::*;

fn push(hub: &Hub, event: &Event) {
    let text = serde_json::to_vec(&Event { data: Bytes::new(), ..event.clone() }).unwrap();
    let foreign = Foreign { data: event.data.clone(), ..Foreign::from_json(&text).unwrap() };
    hub.push(Channel::Commands, Arc::new(foreign), Clock::system().wall());
}

fn gone() -> Option<Told> {
    Some(Told::Interrupted(SourceError::Gone))
}

fn large(subject: usize) -> Event {
    Event { data: Bytes::from(vec![0; 1 << 20]), ..event("default/d1", &subject.to_string()) }
}

#[tokio::test]
async fn a_handler_that_falls_behind_is_told_of_its_gap_and_no_other_is() {
    let hub = Hub::new();
    let (mut slow, mut quick) = (Stream::of(&hub, &Channel::ALL), Stream::of(&hub, &Channel::ALL));
    for subject in 0..30 {
        push(&hub, &large(subject));
        assert_eq!(quick.next().await, command(&subject.to_string()));
    }
    // What fits into the queue waits, and then come the gap and what is pushed behind it.
    let mut told = Vec::new();
    while told.iter().filter(|each| matches!(each, Told::Record(..))).count() < 15 {
        told.extend(slow.next().await);
    }
    push(&hub, &event("default/d1", "behind"));
    while told.last() != command("behind").as_ref() {
        told.extend(slow.next().await);
    }
    let gaps = told.iter().filter(|each| matches!(each, Told::Interrupted(SourceError::Gone))).count();
    assert_eq!(gaps, 1, "{told:?}");
    assert!(told.len() < 30, "{told:?}");
    assert_eq!(quick.next().await, command("behind"));
}

#[tokio::test]
async fn what_never_fits_in_is_a_gap_though_nothing_comes_behind_it() {
    let hub = Hub::new();
    let mut stream = Stream::of(&hub, &Channel::ALL);
    push(&hub, &Event { data: Bytes::from(vec![0; (16 << 20) + 1]), ..event("default/d1", "huge") });
    assert_eq!(stream.next().await, gone());
    push(&hub, &event("default/d1", "behind"));
    assert_eq!(stream.next().await, command("behind"));
}

#[tokio::test]
async fn events_that_arrive_again_are_a_gap_for_who_was_there_and_for_nobody_later() {
    let hub = Hub::new();
    assert!(!hub.is_live());
    hub.set_live(true);
    assert!(hub.is_live());
    let mut early = Stream::of(&hub, &Channel::ALL);
    assert!(early.subscription.is_live());
    hub.set_live(true);
    hub.set_live(false);
    assert!(!early.subscription.is_live() && !hub.is_live());
    hub.set_live(true);
    assert!(early.subscription.is_live() && hub.is_live());
    let mut late = Stream::of(&hub, &Channel::ALL);
    assert!(late.subscription.is_live());
    push(&hub, &event("default/d1", "on"));
    assert_eq!((early.next().await, early.next().await), (gone(), command("on")));
    assert_eq!(late.next().await, command("on"));
}

#[tokio::test]
async fn a_subscription_that_is_dropped_ends_its_thread_also_behind_a_full_queue() {
    let hub = Hub::new();
    let Stream { mut told, subscription } = Stream::of(&hub, &Channel::ALL);
    drop(subscription);
    assert_eq!(soon("the handler goes", told.recv()).await, None);
    let Stream { mut told, subscription } = Stream::of(&hub, &Channel::ALL);
    // More than wait for a handler, which takes two.
    for subject in 0..(16 << 10) + 2 {
        push(&hub, &event("default/d1", &subject.to_string()));
    }
    drop(subscription);
    let mut handed = 0;
    while soon("the handler goes", told.recv()).await.is_some() {
        handed += 1;
    }
    assert!(handed <= 2, "{handed}");
}

#[tokio::test]
async fn a_handler_that_stops_is_not_live_and_is_handed_no_more() {
    let hub = Hub::new();
    hub.set_live(true);
    let Stream { mut told, subscription } = Stream::of(&hub, &Channel::ALL);
    told.close();
    push(&hub, &event("default/d1", "on"));
    eventually("the subscription ends", || !subscription.is_live()).await;
    hub.set_live(false);
    hub.set_live(true);
    assert!(!subscription.is_live());
}

/// Says that events arrive again while its subscription ends.
struct Reviver(Arc<Hub>, mpsc::Sender<()>);

impl RecordHandler for Reviver {
    fn record(&mut self, _: &dyn Record) -> Flow {
        Flow::Stop
    }

    fn interrupted(&mut self, _: &SourceError) -> Flow {
        Flow::Stop
    }
}

impl Drop for Reviver {
    fn drop(&mut self) {
        self.0.set_live(true);
        self.1.try_send(()).unwrap();
    }
}

#[tokio::test]
async fn what_has_ended_is_never_live_again() {
    let hub = Arc::new(Hub::new());
    let (dropped, mut is_dropped) = mpsc::channel(1);
    let handler = Box::new(Reviver(hub.clone(), dropped));
    let subscription = hub.subscribe(vec![Channel::Commands], handler).unwrap();
    push(&hub, &event("default/d1", "on"));
    soon("the handler goes", is_dropped.recv()).await.unwrap();
    assert!(!subscription.is_live());
}
