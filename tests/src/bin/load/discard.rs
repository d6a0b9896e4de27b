//! Channels that discard what they take: what is measured over them is all but the channel.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use common::BoxFuture;
use common::channel::{
    Channel, Cursor, EventSink, EventSource, Place, PublishError, RecordHandler, SourceError, Start,
    Subscription,
};
use common::event::Event;

/// Acknowledges each event at once, forgets it, and has no records.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Discard;

impl EventSink for Discard {
    fn publish(&self, _channel: Channel, _event: Event) -> BoxFuture<'static, Result<(), PublishError>> {
        Box::pin(async { Ok(()) })
    }
}

impl EventSource for Discard {
    fn subscribe(
        &self,
        _channels: &[Channel],
        _start: Start,
        handler: Box<dyn RecordHandler>,
    ) -> BoxFuture<'_, Result<Subscription, SourceError>> {
        // A handler that goes says that the subscription has ended, so it is kept as long as that.
        let guard = std::sync::Mutex::new(handler);
        Box::pin(async { Ok(Subscription::new(Arc::new(AtomicBool::new(true)), guard)) })
    }

    fn cursor_behind(&self, _places: &[(Channel, Vec<Option<Place>>)]) -> Result<Cursor, SourceError> {
        Ok(Cursor("nothing is here".to_owned()))
    }
}
