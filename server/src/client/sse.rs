//! Server-sent events, as in the HTML standard, section 9.2.6.

use std::time::Duration;

/// The server says something every 15 s; one that was silent for so long is gone.
pub const SILENCE: Duration = Duration::from_secs(45);

/// A message of the stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// The position behind the message, for `Last-Event-ID`.
    pub id: String,
    /// The type; `message` unless the server said otherwise.
    pub event: String,
    /// The data, its lines joined by line feeds.
    pub data: String,
}

/// Takes the stream apart, whatever the pieces in which it arrives.
#[derive(Debug, Default)]
pub struct Decoder {
    line: Vec<u8>,
    after_carriage_return: bool,
    id: String,
    last_id: String,
    event: String,
    data: Option<String>,
}

impl Decoder {
    /// Takes the next piece of the stream and returns the messages that it completes.
    pub fn push(&mut self, piece: &[u8]) -> Vec<Message> {
        let mut messages = Vec::new();
        for &byte in piece {
            match byte {
                b'\n' if self.after_carriage_return => self.after_carriage_return = false,
                b'\n' | b'\r' => {
                    self.after_carriage_return = byte == b'\r';
                    let line = std::mem::take(&mut self.line);
                    messages.extend(self.end_line(&String::from_utf8_lossy(&line)));
                }
                _ => {
                    self.after_carriage_return = false;
                    self.line.push(byte);
                }
            }
        }
        messages
    }

    /// Returns the last position that a complete message named; it may have named nothing else.
    pub fn last_id(&self) -> Option<&str> {
        Some(self.last_id.as_str()).filter(|id| !id.is_empty())
    }

    fn end_line(&mut self, line: &str) -> Option<Message> {
        if line.is_empty() {
            return self.dispatch();
        }
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "event" => self.event = value.to_owned(),
            "data" => {
                let data = self.data.get_or_insert_default();
                data.push_str(value);
                data.push('\n');
            }
            "id" if !value.contains('\0') => self.id = value.to_owned(),
            // A comment, or a field that this client does not know.
            _ => {}
        }
        None
    }

    fn dispatch(&mut self) -> Option<Message> {
        self.last_id.clone_from(&self.id);
        let event = std::mem::take(&mut self.event);
        let mut data = self.data.take()?;
        data.pop();
        let event = if event.is_empty() { "message".to_owned() } else { event };
        Some(Message { id: self.id.clone(), event, data })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(id: &str, event: &str, data: &str) -> Message {
        Message { id: id.into(), event: event.into(), data: data.into() }
    }

    #[test]
    fn messages_are_the_same_whatever_the_pieces() {
        let stream = ":hello\n\nid: 1\ndata: {\"a\":\ndata: \"ä\"}\n\n: alive\n\nid:2\r\nevent: end\r\ndata\r\n\r\nid: 3\n\n";
        let expected = [message("1", "message", "{\"a\":\n\"ä\"}"), message("2", "end", "")];
        for size in 1..=stream.len() {
            let mut decoder = Decoder::default();
            let messages: Vec<_> =
                stream.as_bytes().chunks(size).flat_map(|piece| decoder.push(piece)).collect();
            assert_eq!(messages, expected, "in pieces of {size}");
            assert_eq!(decoder.last_id(), Some("3"));
        }
    }

    #[test]
    fn a_message_that_is_cut_off_is_none() {
        let mut decoder = Decoder::default();
        assert!(decoder.push(b"id: 1\ndata: 1\n").is_empty());
        assert_eq!(decoder.last_id(), None);
    }
}
