use std::time::Duration;

use common::channel::{Channel, EventSink};
use common::embedded::LogSettings;
use common::event::TELEMETRY_TYPE;
use common::testing::PATIENCE;

use super::{PATH, Streams, event};
use crate::Config;

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_resumes_with_nothing_missed_and_nothing_twice_also_across_a_restart() {
    const COUNT: usize = 400;
    let mut streams = Streams::start().await;
    let log = streams.log.clone();
    let publisher = tokio::spawn(async move {
        for i in 0..COUNT {
            let (mine, foreign) = (format!("n{i}"), format!("x{i}"));
            for (key, subject) in [("app/d", &mine), ("other/d", &foreign)] {
                let event = event(key, TELEMETRY_TYPE, subject, "");
                log.publish(Channel::Telemetry, event).await.unwrap();
            }
        }
    });
    let mut seen = Vec::new();
    let mut position: Option<String> = None;
    let mut run = 0;
    while seen.len() < COUNT {
        let mut reader = streams.open("?from=earliest", position.as_deref()).await;
        for _ in 0..(run % 7 * 5 + 1).min(COUNT - seen.len()) {
            let message = reader.next().await;
            seen.push(message.json()["subject"].as_str().unwrap().to_owned());
        }
        position = reader.position.clone();
        drop(reader);
        run += 1;
        if run == 10 {
            streams.fixture.restart().await;
        }
    }
    publisher.await.unwrap();
    assert!(run > 10);
    assert_eq!(seen, (0..COUNT).map(|i| format!("n{i}")).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_is_cut_off_before_its_first_event_resumes() {
    let streams = Streams::start().await;
    streams.publish("app/d", "before").await;
    let mut reader = streams.open("", None).await;
    let start = reader.next_position().await;
    drop(reader);
    streams.publish("app/d", "missed").await;
    let mut resumed = streams.open("", Some(&start)).await;
    assert_eq!(resumed.next().await.json()["subject"], "missed");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_position_of_a_quiet_device_advances_with_the_others() {
    let streams = Streams::start().await;
    let mut reader = streams.open("?device=quiet", None).await;
    let start = reader.next_position().await;
    streams.publish("app/d", "loud").await;
    // The first sign of life asks for it; were it to miss the record, the next one would not.
    let advanced = tokio::select! {
        position = reader.next_position() => position,
        () = keep_publishing(&streams) => unreachable!(),
    };
    assert_ne!(advanced, start);
    drop(reader);
    streams.publish("app/quiet", "missed").await;
    let mut resumed = streams.open("?device=quiet", Some(&advanced)).await;
    assert_eq!(resumed.next().await.json()["subject"], "missed");
}

async fn keep_publishing(streams: &Streams) {
    loop {
        streams.publish("other/d", "loud").await;
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn last_event_id_wins_over_from() {
    let streams = Streams::start().await;
    for subject in ["a", "b", "c"] {
        streams.publish("app/d", subject).await;
    }
    let mut reader = streams.open("?from=earliest", Some("")).await;
    assert_eq!(reader.next().await.json()["subject"], "a");
    let position = reader.position.unwrap();
    for query in ["?from=earliest", "?from=latest", ""] {
        let mut resumed = streams.open(query, Some(&position)).await;
        assert_eq!(resumed.next().await.json()["subject"], "b", "{query}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_position_that_was_not_given_out_is_400() {
    let streams = Streams::start().await;
    for bad in ["1", "e1-x-1", "%"] {
        let detail = streams.refused("", Some(bad), 400).await;
        assert!(detail.contains("position"), "{detail}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_position_that_retention_has_passed_is_410() {
    let settings = LogSettings { retention_size: 300_000, ..LogSettings::default() };
    let streams = Streams::start_with(Config::default(), settings).await;
    streams.publish("app/d", "old").await;
    let mut reader = streams.open("?from=earliest", None).await;
    assert_eq!(reader.next().await.json()["subject"], "old");
    let position = reader.position.clone().unwrap();
    let long: &'static str = Box::leak("x".repeat(10_000).into_boxed_str());
    let retired = async {
        loop {
            for _ in 0..20 {
                let event = event("app/d", TELEMETRY_TYPE, "new", long);
                streams.publish_event(Channel::Telemetry, event).await;
            }
            let response = streams.fixture.open(PATH, &streams.token, Some(&position)).await;
            if response.status() != 200 {
                break response;
            }
        }
    };
    let response = tokio::time::timeout(PATIENCE, retired).await.unwrap();
    assert_eq!(response.status(), 410);
    assert!(response.text().await.unwrap().contains("from=earliest"));
}
