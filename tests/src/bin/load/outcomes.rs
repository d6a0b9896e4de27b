//! Outcomes: how long an application waits until it knows that a device has its command, and until it has the reply.

use crate::command::{self, Goal};
use crate::fleet::FleetOptions;
use crate::report::Figure;

/// Measures commands that nobody waits for, then those with `wait=delivered`, then those with `wait=reply`, with the same
/// devices on the same server. Of each there are two figures: from submission to the device, and to the API's answer.
///
/// # Errors
/// Fails if devices cannot be made, or the server breaks a protocol.
pub(crate) fn measure(options: &command::Options, fleet: &FleetOptions) -> anyhow::Result<Vec<Figure>> {
    let goals = [Goal::Accepted, Goal::Delivered, Goal::Reply];
    let each = goals.map(|wait| command::Options { wait, ..options.clone() });
    command::measure_each(&each, fleet)
}
