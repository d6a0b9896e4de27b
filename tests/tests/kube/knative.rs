//! Channels in memory of a real Knative carry telemetry and commands between real processes.

mod contract;
mod replicas;

use tests::cloud::Cloud;
use tests::knative;

fn cloud(test: &str) -> Option<&'static Cloud> {
    Some(knative::shared(test)?.cloud())
}

// What needs a log is not promised on channels that push: commands that are kept, and what became of them. Nor is order, by
// channels that answer at once.
tests::scenario_tests! {
    super::cloud =>
    telemetry_is_in_the_stream_as_it_was_sent,
    a_command_reaches_the_device_that_waits,
    a_command_that_answers_telemetry_is_not_too_early,
    a_wait_without_a_command_ends_empty,
    a_command_comes_once,
    row_26_a_revoked_device_is_out_within_two_seconds,
    a_deleted_application_takes_its_devices_along,
    a_device_with_a_password_is_let_in_and_with_another_is_not,
    a_disabled_device_is_not_let_in,
    attack_malformed_credentials_fail_closed,
    attack_crossing_tenants_by_command_reaches_nobody,
    a_payload_above_the_limit_is_refused,
    a_new_device_can_log_in_at_once,
}
