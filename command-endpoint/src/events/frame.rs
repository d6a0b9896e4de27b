//! The wire form of server-sent events (HTML standard, section 9.2.5).

use common::channel::Cursor;
use common::event::Event;

/// Writes an event as a message: its position as `id`, its JSON as `data`.
pub(super) fn event(position: &Cursor, event: &Event) -> serde_json::Result<Vec<u8>> {
    let json = serde_json::to_vec(event)?;
    let mut frame = Vec::with_capacity(json.len() + position.0.len() + 16);
    put_id(&mut frame, position);
    for line in lines(&json) {
        frame.extend_from_slice(b"data: ");
        frame.extend_from_slice(line);
        frame.push(b'\n');
    }
    frame.push(b'\n');
    Ok(frame)
}

/// Writes a position without an event: clients note it as their last event's, and show nothing.
pub(super) fn position(position: &Cursor) -> Vec<u8> {
    let mut frame = Vec::with_capacity(position.0.len() + 8);
    put_id(&mut frame, position);
    frame.push(b'\n');
    frame
}

/// Writes a comment of one line, which clients ignore and people read.
pub(super) fn comment(text: &str) -> Vec<u8> {
    format!(": {text}\n\n").into_bytes()
}

/// Writes where to resume. A channel without positions has none: a client that comes again then starts with what is new.
fn put_id(frame: &mut Vec<u8>, position: &Cursor) {
    if position.0.is_empty() {
        return;
    }
    frame.extend_from_slice(b"id: ");
    frame.extend_from_slice(position.0.as_bytes());
    frame.push(b'\n');
}

/// Splits a text at what ends a line in a stream: LF, CR, or both. In JSON these are between tokens only.
fn lines(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    text.split(|byte| *byte == b'\n').flat_map(|line| {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        line.split(|byte| *byte == b'\r')
    })
}

#[cfg(test)]
mod tests {
    use common::event::TELEMETRY_TYPE;
    use common::id::DeviceKey;
    use common::time::Timestamp;

    use super::*;

    fn framed(data: &'static [u8]) -> String {
        let event = Event {
            id: "1".parse().unwrap(),
            kind: TELEMETRY_TYPE.into(),
            source: None,
            device: DeviceKey::from_bytes(b"a/d").unwrap(),
            subject: "temp".into(),
            time: Timestamp::from_millis(0),
            content_type: "application/json".into(),
            extensions: Vec::new(),
            data: data.into(),
        };
        String::from_utf8(super::event(&Cursor("7".into()), &event).unwrap()).unwrap()
    }

    #[test]
    fn json_of_several_lines_takes_several_lines_of_data() {
        let frame = framed(b"{\n \"a\":\r\n1,\r\"b\":2}");
        let tail = "\"data\":{\ndata:  \"a\":\ndata: 1,\ndata: \"b\":2}}\n\n";
        assert!(frame.starts_with("id: 7\ndata: {\"specversion\"") && frame.ends_with(tail), "{frame:?}");
    }

    #[test]
    fn a_message_has_no_blank_line_but_its_last() {
        let frame = framed(b"{\n\n\r\r\"a\":1}");
        assert_eq!(frame.matches("\n\n").count(), 1, "{frame:?}");
        assert!(!frame.contains('\r'));
        assert_eq!(position(&Cursor("7".into())), b"id: 7\n\n");
    }

    #[test]
    fn where_there_are_no_positions_there_is_no_id() {
        assert_eq!(position(&Cursor(String::new())), b"\n");
    }
}
