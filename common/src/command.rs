//! A command as a device endpoint sees it.

use std::time::Duration;

use bytes::Bytes;

use crate::event::{COMMAND_TYPE, Event, Malformed, extension, is_content_type};
use crate::id::{CommandName, DeviceKey, EventId, MAX_ID_LEN};
use crate::time::Timestamp;

/// How long a command lives where nothing else was said.
pub const DEFAULT_LIFETIME: Duration = Duration::from_secs(30);

/// A command that can be delivered: its event's attributes, checked.
#[derive(Debug, Clone, PartialEq)]
pub struct Command {
    /// Identifies the command.
    pub id: EventId,
    /// The device that it is for.
    pub device: DeviceKey,
    /// What it asks for.
    pub name: CommandName,
    /// From this time on it is not delivered.
    pub expires: Timestamp,
    /// While its device is away it is kept for it, until it expires.
    pub kept: bool,
    /// The content type of the payload, as the application sent it.
    pub content_type: String,
    /// The payload, byte for byte.
    pub payload: Bytes,
}

impl Command {
    /// Reads a command's event. Without `expirytime` it lapses `lifetime` after its `time`.
    ///
    /// # Errors
    /// Names what makes the event no command.
    pub fn from_event(event: Event, lifetime: Duration) -> Result<Self, Malformed> {
        if event.kind != COMMAND_TYPE {
            return Err(Malformed::Invalid("type"));
        }
        if !is_content_type(&event.content_type) {
            return Err(Malformed::Invalid("datacontenttype"));
        }
        if event.id.as_str().len() > MAX_ID_LEN {
            return Err(Malformed::Invalid("id"));
        }
        let kept = match event.extension(extension::KEPT) {
            None | Some("false") => false,
            Some("true") => true,
            Some(_) => return Err(Malformed::Invalid(extension::KEPT)),
        };
        let expires = match event.extension(extension::EXPIRY_TIME) {
            Some(time) => time.parse().map_err(|_| Malformed::Invalid(extension::EXPIRY_TIME))?,
            None => event.time.saturating_add(lifetime),
        };
        Ok(Self {
            name: event.subject.parse().map_err(|_| Malformed::Invalid("subject"))?,
            id: event.id,
            device: event.device,
            expires,
            kept,
            content_type: event.content_type.into_owned(),
            payload: event.data,
        })
    }

    /// Makes the event of a command that is accepted now.
    pub fn into_event(self, accepted: Timestamp, traceparent: Option<String>) -> Event {
        let mut extensions = vec![(extension::EXPIRY_TIME.into(), self.expires.to_string())];
        if self.kept {
            extensions.push((extension::KEPT.into(), "true".to_owned()));
        }
        extensions.extend(traceparent.map(|value| (extension::TRACEPARENT.into(), value)));
        Event {
            id: self.id,
            kind: COMMAND_TYPE.into(),
            source: None,
            device: self.device,
            subject: self.name.as_str().to_owned(),
            time: accepted,
            content_type: self.content_type.into(),
            extensions,
            data: self.payload,
        }
    }

    /// Tells whether it is too late to deliver the command.
    pub fn is_expired(&self, now: Timestamp) -> bool {
        now >= self.expires
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::example;

    #[test]
    fn a_command_survives_its_event() {
        let command = Command::from_event(example(), DEFAULT_LIFETIME).unwrap();
        assert_eq!(command.clone().into_event(example().time, None), example());
        let kept = Command { kept: true, ..command.clone() };
        assert_eq!(
            Command::from_event(kept.clone().into_event(example().time, None), DEFAULT_LIFETIME),
            Ok(kept)
        );
        assert!(!command.is_expired(Timestamp::from_millis(command.expires.as_millis() - 1)));
        assert!(command.is_expired(command.expires));
    }

    #[test]
    fn without_an_expiry_it_lapses_after_the_lifetime() {
        let mut event = example();
        event.extensions.clear();
        let command = Command::from_event(event, Duration::from_secs(2)).unwrap();
        assert_eq!(command.expires, example().time.saturating_add(Duration::from_secs(2)));
    }

    #[test]
    fn malformed_commands_name_the_attribute() {
        type Spoil = fn(&mut Event);
        let spoil: [(&str, Spoil); 6] = [
            ("id", |event| event.id = "x".repeat(129).parse().unwrap()),
            ("kept", |event| event.extensions.push(("kept".into(), "yes".into()))),
            ("type", |event| event.kind = "x".into()),
            ("subject", |event| event.subject = "a/b".into()),
            ("datacontenttype", |event| event.content_type = "a\r\nb".into()),
            ("expirytime", |event| event.extensions[0].1 = "soon".into()),
        ];
        for (attribute, spoil) in spoil {
            let mut event = example();
            spoil(&mut event);
            let result = Command::from_event(event, DEFAULT_LIFETIME);
            assert_eq!(result, Err(Malformed::Invalid(attribute)));
        }
    }
}
