//! Every scenario for every protocol, in separate processes on Kafka.

use tests::cloud::Cloud;
use tests::fleet::shared;
use tests::scenario_tests;

fn cloud(test: &str) -> Option<&'static Cloud> {
    Some(shared(test)?.cloud())
}

scenario_tests!(crate::scenarios::cloud);
