//! A record of a topic, decoded only as far as it is asked to.

use rdkafka::Message;
use rdkafka::message::BorrowedMessage;

use super::binding;
use super::cluster::{Topic, partition_of};
use super::positions::Positions;
use crate::channel::{Channel, Cursor, Partition, Place, Record};
use crate::event::{Event, Malformed};
use crate::id::DeviceKey;
use crate::time::Timestamp;

/// A record in the client's memory.
#[derive(Debug)]
pub(super) struct Stored<'a> {
    pub(super) topic: &'a Topic,
    pub(super) message: &'a BorrowedMessage<'a>,
    /// The positions of its subscription, behind this record.
    pub(super) positions: &'a Positions,
    pub(super) fingerprint: u64,
}

impl Record for Stored<'_> {
    fn channel(&self) -> Channel {
        self.topic.channel
    }

    fn key(&self) -> &[u8] {
        self.message.key().unwrap_or_default()
    }

    fn partition(&self) -> Partition {
        Partition(u32::try_from(self.message.partition()).unwrap_or(0))
    }

    fn place(&self) -> Place {
        Place(u64::try_from(self.message.offset()).unwrap_or(0))
    }

    fn event(&self) -> Result<Event, Malformed> {
        let key = self.key();
        let device = DeviceKey::from_bytes(key).map_err(|_| Malformed::NoEvent)?;
        // One partition gives the commands of a device their order. Telemetry may have been written when there were
        // fewer partitions.
        let is_ordered = self.topic.channel == Channel::Commands && device != DeviceKey::all();
        if is_ordered && partition_of(key, self.topic.partitions) != self.message.partition() {
            return Err(Malformed::WrongPartition);
        }
        let recorded = Timestamp::from_millis(self.message.timestamp().to_millis().unwrap_or_default());
        binding::decode(self.message, device, recorded)
    }

    fn cursor(&self) -> Cursor {
        self.positions.cursor(self.fingerprint)
    }
}
