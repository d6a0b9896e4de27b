//! Which events are in a stream.

use common::channel::Channel;
use common::event::Event;
use common::id::{AppId, DeviceId, DeviceKey};

/// Types of events that applications follow without asking for a channel. Other types in the channels are the system's
/// records of who is connected.
const FOLLOWED: [&str; 2] = ["io.drogue.telemetry.", "io.drogue.command."];

/// Chooses events: of one application, perhaps of one device, perhaps of chosen channels.
#[derive(Debug)]
pub(super) struct Filter {
    key: Key,
    channels: Vec<Channel>,
    chosen: bool,
}

#[derive(Debug)]
enum Key {
    /// All keys of an application: they begin with its id and a slash, which is in no id.
    Application(String),
    Device(DeviceKey),
}

impl Filter {
    /// Chooses the events of an application, or of one of its devices. No channels are all, connection records
    /// excepted.
    pub(super) fn new(application: &AppId, device: Option<&DeviceId>, channels: Vec<Channel>) -> Self {
        let key = match device {
            Some(device) => Key::Device(DeviceKey::new(application, device)),
            None => Key::Application(format!("{application}/")),
        };
        let chosen = !channels.is_empty();
        Self { key, channels: if chosen { channels } else { Channel::ALL.to_vec() }, chosen }
    }

    /// Returns the channels to subscribe to.
    pub(super) fn channels(&self) -> &[Channel] {
        &self.channels
    }

    /// Decides by a record's key alone, so that what belongs to others is not decoded.
    pub(super) fn admits_key(&self, key: &[u8]) -> bool {
        match &self.key {
            Key::Application(prefix) => key.starts_with(prefix.as_bytes()),
            Key::Device(device) => key == device.as_str().as_bytes(),
        }
    }

    /// Decides on an event whose key is admitted.
    pub(super) fn admits(&self, event: &Event) -> bool {
        self.chosen || FOLLOWED.iter().any(|prefix| event.kind.starts_with(prefix))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filter(device: Option<&str>) -> Filter {
        let device = device.map(|device| device.parse().unwrap());
        Filter::new(&"app".parse().unwrap(), device.as_ref(), Vec::new())
    }

    #[test]
    fn the_key_alone_keeps_tenants_apart() {
        for foreign in ["app2/d", "ap/d", "App/d", "app", "", "x/app/d", "%61pp/d"] {
            assert!(!filter(None).admits_key(foreign.as_bytes()), "{foreign}");
            assert!(!filter(Some("d")).admits_key(foreign.as_bytes()), "{foreign}");
        }
        assert!(filter(None).admits_key(b"app/d") && filter(None).admits_key(b"app/d2"));
        assert!(filter(Some("d")).admits_key(b"app/d") && !filter(Some("d")).admits_key(b"app/d2"));
    }

    #[test]
    fn no_channel_is_all_of_them() {
        assert_eq!(filter(None).channels(), Channel::ALL);
        let commands = Filter::new(&"app".parse().unwrap(), None, vec![Channel::Commands]);
        assert_eq!(commands.channels(), [Channel::Commands]);
    }
}
