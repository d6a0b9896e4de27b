//! Channels on Kafka: published to over HTTP, and read from the topics that their resources name, so that every promise holds.

use std::sync::OnceLock;

use common::testing::skip;
use tests::cloud::Cloud;
use tests::fleet::{Fleet, Shape, share};
use tests::knative::kafka_channels::{KafkaChannels, given};
use tests::scenario_tests;

fn cloud(test: &str) -> Option<&'static Cloud> {
    static SHARED: OnceLock<Option<Fleet<KafkaChannels>>> = OnceLock::new();
    let shape = Shape { http: 2, mqtt: 2, command: 2 };
    let started = share(&SHARED, || async { Some(Fleet::start(given(test).await?, shape, &[]).await) });
    if started.is_none() {
        skip(test, "kube", "there are no KafkaChannels");
    }
    Some(started?.cloud())
}

scenario_tests!(super::cloud);
