//! Channels on Kafka: published to over HTTP, and read from the topics that their resources name, so that every promise holds.

use std::sync::OnceLock;

use tests::cloud::Cloud;
use tests::fleet::{Fleet, Shape};
use tests::knative::kafka_channels::{KafkaChannels, given};
use tests::scenario_tests;

fn cloud(test: &str) -> Option<&'static Cloud> {
    static SHARED: OnceLock<Option<Fleet<KafkaChannels>>> = OnceLock::new();
    let start = || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let start = async {
            let channels = given(test).await?;
            Some(Fleet::start(channels, Shape { http: 2, mqtt: 2, command: 2 }, &[]).await)
        };
        runtime.expect("a runtime starts").block_on(start)
    };
    // On a thread of its own, because a test's runtime cannot be blocked on from within.
    let started = SHARED.get_or_init(|| {
        std::thread::scope(|scope| scope.spawn(start).join().expect("the shared fleet starts"))
    });
    if started.is_none() {
        common::testing::skip(test, "kube", "there are no KafkaChannels");
    }
    Some(started.as_ref()?.cloud())
}

scenario_tests!(super::cloud);
