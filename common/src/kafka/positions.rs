//! Positions in topics, as readers keep them and as clients see them: `k1-` and base64url.

use base64::prelude::{BASE64_URL_SAFE_NO_PAD, Engine};
use serde::{Deserialize, Serialize};

use crate::channel::{Channel, Cursor, SourceError};

const VERSION: &str = "k1-";

/// The next offset of each partition of each channel that is read.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Positions {
    channels: Vec<(Channel, Vec<i64>)>,
}

/// What a cursor holds. The fingerprint tells one cluster and prefix from another.
#[derive(Serialize, Deserialize)]
struct Content {
    fingerprint: u64,
    channels: Vec<(u8, Vec<u64>)>,
}

impl Positions {
    pub(super) fn new(channels: Vec<(Channel, Vec<i64>)>) -> Self {
        Self { channels }
    }

    /// Returns the channels with the next offset of each partition.
    pub(super) fn channels(&self) -> &[(Channel, Vec<i64>)] {
        &self.channels
    }

    /// Returns the next offset of a partition, if it is read.
    pub(super) fn get_mut(&mut self, channel: Channel, partition: usize) -> Option<&mut i64> {
        let (_, offsets) = self.channels.iter_mut().find(|(each, _)| *each == channel)?;
        offsets.get_mut(partition)
    }

    /// Writes the positions for clients.
    pub(super) fn cursor(&self, fingerprint: u64) -> Cursor {
        let number = |offset: &i64| u64::try_from(*offset).unwrap_or(0);
        let channel =
            |(channel, offsets): &(Channel, Vec<i64>)| (*channel as u8, offsets.iter().map(number).collect());
        let content = Content { fingerprint, channels: self.channels.iter().map(channel).collect() };
        // Numbers always have a form.
        let bytes = postcard::to_allocvec(&content).unwrap_or_default();
        Cursor(format!("{VERSION}{}", BASE64_URL_SAFE_NO_PAD.encode(bytes)))
    }

    /// Reads the positions of `channels` from a cursor. A partition that the cursor does not know is new: it begins at 0.
    ///
    /// # Errors
    /// Fails if the cursor is of another cluster, lacks a channel, or has more partitions than there are.
    pub(super) fn parse(
        cursor: &Cursor,
        fingerprint: u64,
        channels: &[(Channel, usize)],
    ) -> Result<Self, SourceError> {
        let content = decode(cursor).filter(|content| content.fingerprint == fingerprint);
        let content = content.ok_or(SourceError::InvalidCursor)?;
        let of = |&(channel, partitions): &(Channel, usize)| {
            let (_, offsets) = content.channels.iter().find(|(number, _)| *number == channel as u8)?;
            let mut offsets: Vec<_> =
                offsets.iter().map(|offset| i64::try_from(*offset).ok()).collect::<Option<_>>()?;
            if offsets.len() > partitions {
                return None;
            }
            offsets.resize(partitions, 0);
            Some((channel, offsets))
        };
        let channels = channels.iter().map(of).collect::<Option<_>>();
        Ok(Self { channels: channels.ok_or(SourceError::InvalidCursor)? })
    }
}

fn decode(cursor: &Cursor) -> Option<Content> {
    let bytes = BASE64_URL_SAFE_NO_PAD.decode(cursor.0.strip_prefix(VERSION)?).ok()?;
    let (content, rest) = postcard::take_from_bytes(&bytes).ok()?;
    rest.is_empty().then_some(content)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PRINT: u64 = 0xfeed;

    fn positions() -> Positions {
        Positions::new(vec![(Channel::Telemetry, vec![0, 300, 70_000]), (Channel::Commands, vec![5])])
    }

    fn parse(cursor: &Cursor, channels: &[(Channel, usize)]) -> Result<Positions, SourceError> {
        Positions::parse(cursor, PRINT, channels)
    }

    #[test]
    fn only_what_was_given_out_is_taken() {
        let cursor = positions().cursor(PRINT);
        let both = [(Channel::Telemetry, 3), (Channel::Commands, 1)];
        assert_eq!(parse(&cursor, &both), Ok(positions()));
        assert_eq!(Positions::parse(&cursor, 1, &both), Err(SourceError::InvalidCursor));
        for bad in
            [format!("{}A", cursor.0), cursor.0[..cursor.0.len() - 1].to_owned(), format!("x{}", cursor.0)]
        {
            assert_eq!(parse(&Cursor(bad.clone()), &both), Err(SourceError::InvalidCursor), "{bad}");
        }
    }

    #[test]
    fn a_channel_may_be_left_out_but_not_added() {
        let cursor = positions().cursor(PRINT);
        let commands = parse(&cursor, &[(Channel::Commands, 1)]).unwrap();
        assert_eq!(commands.channels(), [(Channel::Commands, vec![5])]);
        assert_eq!(parse(&cursor, &[(Channel::Outcomes, 1)]), Err(SourceError::InvalidCursor));
    }

    #[test]
    fn a_topic_may_have_grown_and_is_read_from_its_new_beginning() {
        let cursor = positions().cursor(PRINT);
        let grown = parse(&cursor, &[(Channel::Commands, 3)]).unwrap();
        assert_eq!(grown.channels(), [(Channel::Commands, vec![5, 0, 0])]);
        assert_eq!(parse(&cursor, &[(Channel::Telemetry, 2)]), Err(SourceError::InvalidCursor));
    }
}
