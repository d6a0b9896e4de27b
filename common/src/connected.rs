//! The record of a new connection: written under the device's key into the channel that has its commands.
//!
//! There, one order holds for all that concerns a device, and every replica reads it. So all of them agree which
//! commands a connection may take, those behind its record, and from which on a newer session of the same client has
//! taken an older one over, whichever replicas hold the two.

use serde::{Deserialize, Serialize};

use crate::event::{Event, Malformed};
use crate::id::{ConnectionId, DeviceKey, EventId};
use crate::sessions::SessionId;
use crate::time::Timestamp;

/// The `type` of the record.
pub const CONNECTED_TYPE: &str = "io.drogue.connection.connected.v1";
const JSON: &str = "application/json";

/// A connection by which commands reach a device from its place in the log on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Connected {
    /// The start of the replica that holds it.
    pub incarnation: EventId,
    /// Its session there.
    pub session: SessionId,
    /// The connection there.
    pub connection: ConnectionId,
    /// The client id of the session, if its protocol has such; it belongs to the device alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client: Option<String>,
    /// The protocol by which the device came.
    pub protocol: String,
}

impl Connected {
    /// Makes the record's event.
    pub fn into_event(self, id: EventId, device: DeviceKey, now: Timestamp) -> Event {
        Event {
            id,
            kind: CONNECTED_TYPE.into(),
            source: None,
            device,
            subject: "connected".to_owned(),
            time: now,
            content_type: JSON.into(),
            extensions: Vec::new(),
            // Texts and numbers always have a JSON form. A client id is any text, and so no attribute.
            data: serde_json::to_vec(&self).unwrap_or_default().into(),
        }
    }

    /// Reads the record.
    ///
    /// # Errors
    /// Fails if the event's data has another form.
    pub fn from_event(event: &Event) -> Result<Self, Malformed> {
        serde_json::from_slice(&event.data).map_err(|_| Malformed::Invalid("data"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::example;

    #[test]
    fn a_record_survives_its_event() {
        let connected = Connected {
            incarnation: "i1".parse().unwrap(),
            session: SessionId(1),
            connection: ConnectionId(2),
            client: Some("any text: ü/#+ ".into()),
            protocol: "mqtt".to_owned(),
        };
        let mut event = connected.clone().into_event("e1".parse().unwrap(), example().device, example().time);
        assert_eq!(Connected::from_event(&event), Ok(connected));
        event.data = bytes::Bytes::from_static(b"{}");
        assert_eq!(Connected::from_event(&event), Err(Malformed::Invalid("data")));
    }
}
