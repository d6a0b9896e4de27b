//! Marks: records by which a tracker finds out that it has read what was in the logs when it began.

use common::channel::{Channel, EventSink, Partition, PublishError};
use common::event::{Event, OCTET_STREAM};
use common::id::{DeviceKey, EventId};
use common::service::{Clock, new_event_id};

const MARK_TYPE: &str = "io.drogue.tracker.mark.v1";

/// Identifies the replica that wrote a mark.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Mark(String);

impl Mark {
    /// Makes the marks of a replica.
    pub(super) fn of(replica: &EventId) -> Self {
        Self(replica.to_string())
    }
}

/// Reads a mark, if the event is one.
pub(super) fn read(event: &Event) -> Option<Mark> {
    (event.kind == MARK_TYPE).then(|| Mark(event.subject.clone()))
}

/// Writes a mark into a partition of a channel.
pub(super) async fn write(
    sink: &dyn EventSink,
    clock: &Clock,
    mark: &Mark,
    channel: Channel,
    partition: Partition,
) -> Result<(), PublishError> {
    let time = clock.wall();
    let event = Event {
        id: new_event_id(time),
        kind: MARK_TYPE.into(),
        source: None,
        device: DeviceKey::all(),
        subject: mark.0.clone(),
        time,
        content_type: OCTET_STREAM.into(),
        extensions: Vec::new(),
        data: Default::default(),
    };
    sink.publish_in(channel, partition, event).await
}
