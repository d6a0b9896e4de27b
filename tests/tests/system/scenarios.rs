//! Every scenario for every protocol, in one process.

use tests::cloud::Cloud;
use tests::scenario_tests;
use tests::server::shared;

fn cloud(_test: &str) -> Option<&'static Cloud> {
    Some(shared().cloud())
}

scenario_tests!(crate::scenarios::cloud);
