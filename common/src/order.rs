//! Whose turn it is: the connections of one device in the order of the log.
//!
//! A state machine that is fed with the records of a device's partition, and nothing else: every replica that holds a
//! connection of the device runs it, and the tracker for all devices. As they read the same order, they agree which
//! connection owns a command. See `docs/events.md`, "Who delivers".
//!
//! Invariants: connections stand in the order of their records; one that takes a single command is ended by it; a
//! connection of a client ends the one that the same client had before.

use serde::{Deserialize, Serialize};

use crate::channel::Place;
use crate::id::{ConnectionId, ConnectionRef, EventId};
use crate::records::{Connected, Takes};

/// A connection that may own commands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Live {
    /// The connection.
    pub id: ConnectionRef,
    /// The place of its record.
    pub place: Place,
    /// The client id of its session, if its protocol has such.
    pub client: Option<Box<str>>,
    /// How many commands it takes.
    pub takes: Takes,
}

/// What the record of a new connection meant.
#[derive(Debug, PartialEq, Eq)]
pub enum Began {
    /// Nothing: it was known, or a newer one of its client was.
    Ignored,
    /// The connection is live; that of the same client from before, if any, is ended.
    Live(Option<Live>),
}

/// The live connections of one device, the oldest first.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct DeviceOrder {
    live: Vec<Live>,
    /// The highest connection that was seen of each incarnation: what is not above it is a repeat.
    seen: Vec<(EventId, ConnectionId)>,
}

impl DeviceOrder {
    /// Returns the live connections, the oldest first.
    pub fn live(&self) -> &[Live] {
        &self.live
    }

    /// Returns the newest connection.
    pub fn newest(&self) -> Option<&Live> {
        self.live.last()
    }

    /// Returns a connection, if it is live.
    pub fn get(&self, id: &ConnectionRef) -> Option<&Live> {
        self.live.iter().find(|live| live.id == *id)
    }

    /// Takes the record of a connection that lies at `place`.
    pub fn connected(&mut self, record: &Connected, place: Place) -> Began {
        if !self.is_new(&record.id) {
            return Began::Ignored;
        }
        self.begin(record, record.repeats.unwrap_or(place))
    }

    /// Takes a record that [repeats](Connected::repeats) one that lay at `place`, before the first that the reader has read:
    /// the replica may have begun newer connections since, whose records were read first.
    pub fn repeated(&mut self, record: &Connected, place: Place) -> Began {
        self.is_new(&record.id);
        if self.get(&record.id).is_some() { Began::Ignored } else { self.begin(record, place) }
    }

    fn begin(&mut self, record: &Connected, place: Place) -> Began {
        let at = self.live.partition_point(|live| live.place < place);
        let client = record.client.as_deref();
        let is_same = |live: &Live| client.is_some() && live.client.as_deref() == client;
        if self.live[at..].iter().any(is_same) {
            return Began::Ignored;
        }
        let live = Live { id: record.id.clone(), place, client: client.map(Into::into), takes: record.takes };
        self.live.insert(at, live);
        let older = self.live[..at].iter().position(is_same);
        Began::Live(older.map(|older| self.live.remove(older)))
    }

    /// Takes the record that a connection has ended. Returns it, if it was live.
    pub fn disconnected(&mut self, id: &ConnectionRef) -> Option<Live> {
        let at = self.live.iter().position(|live| live.id == *id)?;
        Some(self.live.remove(at))
    }

    /// Takes a command that is not kept, and returns the connection that owns it.
    pub fn command(&mut self) -> Option<ConnectionRef> {
        let newest = self.live.last()?.id.clone();
        self.given(&newest);
        Some(newest)
    }

    /// Takes the record by which a connection is given commands. Tells whether it has effect: the connection owns them.
    pub fn handover(&mut self, id: &ConnectionRef) -> bool {
        let is_live = self.get(id).is_some();
        if is_live {
            self.given(id);
        }
        is_live
    }

    /// Takes the record that a replica has lapsed. Returns its connections, which have ended.
    pub fn lapsed(&mut self, incarnation: &EventId) -> Vec<Live> {
        self.seen.retain(|(seen, _)| seen != incarnation);
        self.live.extract_if(.., |live| live.id.incarnation == *incarnation).collect()
    }

    /// Tells whether nothing is known of the device.
    pub fn is_empty(&self) -> bool {
        self.live.is_empty() && self.seen.is_empty()
    }

    fn is_new(&mut self, id: &ConnectionRef) -> bool {
        match self.seen.iter_mut().find(|(incarnation, _)| *incarnation == id.incarnation) {
            Some((_, seen)) if *seen >= id.connection => return false,
            Some((_, seen)) => *seen = id.connection,
            None => self.seen.push((id.incarnation.clone(), id.connection)),
        }
        true
    }

    fn given(&mut self, id: &ConnectionRef) {
        self.live.retain(|live| live.id != *id || live.takes == Takes::Many);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sessions::SessionId;

    fn id(replica: &str, connection: u64) -> ConnectionRef {
        ConnectionRef { incarnation: replica.parse().unwrap(), connection: ConnectionId(connection) }
    }

    fn record(replica: &str, connection: u64, takes: Takes) -> Connected {
        Connected {
            id: id(replica, connection),
            session: SessionId(connection),
            client: None,
            protocol: "test".to_owned(),
            takes,
            until: None,
            repeats: None,
        }
    }

    fn of_client(replica: &str, connection: u64) -> Connected {
        Connected { client: Some("c".to_owned()), ..record(replica, connection, Takes::Many) }
    }

    #[test]
    fn the_newest_owns_and_one_that_takes_one_is_ended_by_it() {
        let mut order = DeviceOrder::default();
        order.connected(&record("r1", 1, Takes::One), Place(1));
        order.connected(&record("r2", 1, Takes::One), Place(2));
        assert_eq!(order.command(), Some(id("r2", 1)));
        assert_eq!(order.command(), Some(id("r1", 1)));
        assert_eq!(order.command(), None);
        order.connected(&record("r1", 2, Takes::Many), Place(3));
        assert_eq!((order.command(), order.command()), (Some(id("r1", 2)), Some(id("r1", 2))));
    }

    #[test]
    fn a_record_that_comes_again_means_nothing() {
        let mut order = DeviceOrder::default();
        assert_eq!(order.connected(&record("r1", 2, Takes::One), Place(1)), Began::Live(None));
        assert!(order.disconnected(&id("r1", 2)).is_some());
        assert!(order.disconnected(&id("r1", 2)).is_none());
        for older in [1, 2] {
            assert_eq!(order.connected(&record("r1", older, Takes::One), Place(5)), Began::Ignored);
        }
        assert_eq!(order.command(), None);
    }

    #[test]
    fn the_newer_connection_of_a_client_ends_the_older_one_wherever_it_is() {
        let mut order = DeviceOrder::default();
        order.connected(&of_client("r1", 1), Place(1));
        let Began::Live(Some(ended)) = order.connected(&of_client("r2", 1), Place(2)) else {
            panic!("the older one goes")
        };
        assert_eq!(ended.id, id("r1", 1));
        // The late end of the old one ends no other.
        assert!(order.disconnected(&id("r1", 1)).is_none());
        assert_eq!(order.command(), Some(id("r2", 1)));
    }

    #[test]
    fn a_repeated_record_takes_the_place_that_it_had() {
        let mut order = DeviceOrder::default();
        order.connected(&record("r1", 1, Takes::Many), Place(7));
        let repeated = |connected: Connected, place| Connected { repeats: Some(Place(place)), ..connected };
        order.connected(&repeated(record("r2", 1, Takes::Many), 3), Place(8));
        assert_eq!(order.command(), Some(id("r1", 1)));
        order.connected(&of_client("r1", 2), Place(9));
        assert_eq!(order.connected(&repeated(of_client("r3", 1), 4), Place(10)), Began::Ignored);
        assert_eq!(order.live().len(), 3);
    }

    #[test]
    fn what_is_repeated_to_a_reader_without_a_past_may_be_older_than_what_it_knows() {
        let mut order = DeviceOrder::default();
        order.connected(&record("r1", 2, Takes::Many), Place(7));
        let older = record("r1", 1, Takes::Many);
        assert_eq!(order.connected(&older, Place(8)), Began::Ignored);
        assert_eq!(order.repeated(&older, Place(3)), Began::Live(None));
        assert_eq!(order.repeated(&older, Place(3)), Began::Ignored);
        assert_eq!(order.newest().map(|live| live.id.clone()), Some(id("r1", 2)));
    }

    #[test]
    fn a_handover_has_effect_on_a_live_connection_only() {
        let mut order = DeviceOrder::default();
        order.connected(&record("r1", 1, Takes::Batch(5)), Place(1));
        assert!(order.handover(&id("r1", 1)));
        assert!(!order.handover(&id("r1", 1)), "a batch is one");
    }

    #[test]
    fn with_its_replica_a_connection_lapses() {
        let mut order = DeviceOrder::default();
        order.connected(&record("r1", 1, Takes::Many), Place(1));
        order.connected(&record("r2", 1, Takes::Many), Place(2));
        assert_eq!(order.lapsed(&"r2".parse().unwrap()).len(), 1);
        assert_eq!(order.command(), Some(id("r1", 1)));
        // The replica was only paused: its connection is announced anew.
        order.connected(&record("r2", 2, Takes::Many), Place(4));
        assert_eq!(order.command(), Some(id("r2", 2)));
    }
}
