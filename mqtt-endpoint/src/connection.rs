//! Commands on their way to the device: what a session subscribed to, and what is not yet acknowledged.

use std::collections::VecDeque;
use std::num::{NonZeroU16, NonZeroU32};
use std::ops::ControlFlow;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use common::command::Command;
use common::outcome::{Confirmation, Outcome, Reason};
use common::service::{Clock, Connection, Delivery, Overdue};
use ntex::io::IoBoxed;
use ntex::util::ByteString;
use ntex_mqtt::QoS;

use crate::packet::{CommandPublish, Outbound};
use crate::reply::{Goodbye, Granted};
use crate::wire::Wire;

/// The filters that a session holds, with the quality of service that was granted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Filters {
    /// `cmd`.
    plain: Option<QoS>,
    /// `cmd/#`.
    named: Option<QoS>,
}

impl Filters {
    /// Adds a filter, if it is one of commands.
    pub(crate) fn add(&mut self, filter: &str, qos: QoS) -> Granted {
        let qos = qos.min(QoS::AtLeastOnce);
        match self.held(filter) {
            Some(held) => {
                *held = Some(qos);
                Granted::At(qos)
            }
            None if filter.starts_with("$share/") => Granted::Shared,
            None => Granted::NotAllowed,
        }
    }

    /// Removes a filter. Tells whether it was held.
    pub(crate) fn remove(&mut self, filter: &str) -> bool {
        self.held(filter).is_some_and(|held| held.take().is_some())
    }

    /// Tells whether no filter is held.
    pub(crate) fn is_empty(self) -> bool {
        self == Self::default()
    }

    /// Tells whether commands come on topics that name them.
    fn are_named(self) -> bool {
        self.named.is_some()
    }

    /// Returns the quality of service of commands: the highest of the filters held (section 3.3.5).
    fn qos(self) -> QoS {
        self.plain.max(self.named).unwrap_or(QoS::AtMostOnce)
    }

    fn held(&mut self, filter: &str) -> Option<&mut Option<QoS>> {
        match filter {
            "cmd" => Some(&mut self.plain),
            "cmd/#" => Some(&mut self.named),
            _ => None,
        }
    }
}

/// How many commands may be under way at once, and for how long.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Window {
    pub(crate) size: usize,
    pub(crate) ack_timeout: Duration,
}

/// The commands of a session.
///
/// A command is taken from its queue only when it can be written at once, so that a device that reads slowly fills
/// its own queue and nothing else.
pub(crate) struct CommandFlow {
    filters: Filters,
    connection: Option<Connection>,
    window: Window,
    unacknowledged: VecDeque<Unacknowledged>,
    /// Commands at QoS 0 that are in the buffer of the connection.
    unflushed: Vec<Delivery>,
    last_id: u16,
    /// Whether the connection may hold a command.
    has_more: bool,
}

/// A command at QoS 1 without PUBACK.
struct Unacknowledged {
    id: NonZeroU16,
    deadline: Instant,
    delivery: Under,
}

/// How it is with a command that was written.
enum Under {
    /// It is on its way.
    Way(Delivery),
    /// The time was up: the device may still acknowledge, and until then its window is that much smaller.
    Overdue(Option<Overdue>),
}

impl Unacknowledged {
    fn is_overdue(&self) -> bool {
        match self.delivery {
            Under::Way(_) => false,
            Under::Overdue(_) => true,
        }
    }

    /// Says that the device did not acknowledge in time.
    fn give_up(&mut self) {
        if let Under::Way(delivery) = std::mem::replace(&mut self.delivery, Under::Overdue(None)) {
            self.delivery = Under::Overdue(delivery.give_up());
        }
    }
}

impl CommandFlow {
    /// Makes the flow of a session that subscribes to nothing yet.
    pub(crate) fn new(window: Window) -> Self {
        Self {
            filters: Filters::default(),
            connection: None,
            window,
            unacknowledged: VecDeque::new(),
            unflushed: Vec::new(),
            last_id: 0,
            has_more: false,
        }
    }

    /// Returns the filters held.
    pub(crate) fn filters(&self) -> Filters {
        self.filters
    }

    /// Tells whether the session is registered for commands.
    pub(crate) fn is_connected(&self) -> bool {
        self.connection.is_some()
    }

    /// Registers the session for commands.
    pub(crate) fn connect(&mut self, connection: Connection) {
        self.connection = Some(connection);
        self.has_more = true;
    }

    /// Changes the filters. Without any the connection ends, and what it held is given back.
    pub(crate) fn set_filters(&mut self, filters: Filters) {
        self.filters = filters;
        if filters.is_empty() {
            self.connection = None;
        }
    }

    /// Takes note that the connection may have a command.
    pub(crate) fn notice(&mut self) {
        self.has_more = true;
    }

    /// Writes what there is to write, and finishes what is written. `context` is woken when a command comes.
    ///
    /// Breaks off if the connection was lost.
    pub(crate) fn pump(
        &mut self,
        io: &IoBoxed,
        wire: &Wire,
        clock: &Clock,
        task: &mut Context<'_>,
        commands: &mut Context<'_>,
    ) -> ControlFlow<()> {
        loop {
            self.flush(io, task)?;
            let Some(connection) = &self.connection else { return ControlFlow::Continue(()) };
            if !self.has_more || !self.has_room() || io.is_wr_backpressure() {
                return ControlFlow::Continue(());
            }
            match connection.poll_receive(commands) {
                Poll::Ready(Some(delivery)) => self.write(delivery, io, wire, clock),
                Poll::Ready(None) => self.connection = None,
                Poll::Pending => self.has_more = false,
            }
        }
    }

    fn has_room(&self) -> bool {
        self.unacknowledged.len() + self.unflushed.len() < self.window.size
    }

    /// Waits for the buffer to drain, where somebody waits for that.
    fn flush(&mut self, io: &IoBoxed, task: &mut Context<'_>) -> ControlFlow<()> {
        if self.unflushed.is_empty() {
            return ControlFlow::Continue(());
        }
        match io.poll_flush(task, true) {
            Poll::Ready(Ok(())) => {
                let written = Outcome::Delivered(Confirmation::Written);
                self.unflushed.drain(..).for_each(|delivery| delivery.finish(written));
                ControlFlow::Continue(())
            }
            Poll::Ready(Err(_)) => ControlFlow::Break(()),
            Poll::Pending => ControlFlow::Continue(()),
        }
    }

    fn write(&mut self, mut delivery: Delivery, io: &IoBoxed, wire: &Wire, clock: &Clock) {
        let Some(command) = delivery.begin() else { return };
        let id = match self.filters.qos() {
            QoS::AtMostOnce => None,
            QoS::AtLeastOnce | QoS::ExactlyOnce => Some(self.next_id()),
        };
        let expiry = rest_of_life(&command, clock);
        let publish = CommandPublish { id, named: self.filters.are_named(), command, expiry };
        if io.encode(Outbound::Command(Box::new(publish)), wire).is_err() {
            // Longer than the device's Maximum Packet Size: nothing was written.
            return delivery.finish(Outcome::Undelivered(Reason::Overflow));
        }
        match id {
            None => self.unflushed.push(delivery),
            Some(id) => self.unacknowledged.push_back(Unacknowledged {
                id,
                deadline: clock.instant() + self.window.ack_timeout,
                delivery: Under::Way(delivery),
            }),
        }
    }

    /// Returns the next packet identifier that is not in use. The window is far smaller than their number.
    fn next_id(&mut self) -> NonZeroU16 {
        loop {
            self.last_id = self.last_id.wrapping_add(1);
            if let Some(id) = NonZeroU16::new(self.last_id)
                && self.unacknowledged.iter().all(|other| other.id != id)
            {
                return id;
            }
        }
    }

    /// Takes a PUBACK. One that nobody waits for is ignored; one that is late is told of all the same.
    pub(crate) fn acknowledge(&mut self, id: NonZeroU16, accepted: bool) {
        let Some(place) = self.unacknowledged.iter().position(|other| other.id == id) else { return };
        let Some(acknowledged) = self.unacknowledged.remove(place) else { return };
        match (acknowledged.delivery, accepted) {
            (Under::Way(delivery), true) => delivery.finish(Outcome::Delivered(Confirmation::Puback)),
            (Under::Way(delivery), false) => delivery.finish(Outcome::Undelivered(Reason::NoAck)),
            (Under::Overdue(Some(overdue)), true) => overdue.acknowledged(),
            (Under::Overdue(_), _) => {}
        }
    }

    /// Gives up on what was not acknowledged in time.
    ///
    /// Breaks off if the whole window was given up: this device would never get another command.
    pub(crate) fn expire(&mut self, now: Instant) -> ControlFlow<Goodbye> {
        let late = self.unacknowledged.iter_mut().filter(|one| one.deadline <= now);
        late.for_each(Unacknowledged::give_up);
        let given_up = self.unacknowledged.iter().filter(|one| one.is_overdue()).count();
        if given_up >= self.window.size {
            return ControlFlow::Break(Goodbye::NoAcknowledgement);
        }
        ControlFlow::Continue(())
    }

    /// Returns when [`CommandFlow::expire`] has something to do.
    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        self.unacknowledged.iter().find(|one| !one.is_overdue()).map(|one| one.deadline)
    }
}

/// Returns the whole seconds that a command has left, and 1 if it has less.
fn rest_of_life(command: &Command, clock: &Clock) -> NonZeroU32 {
    let seconds = command.expires.saturating_since(clock.wall()).as_secs();
    NonZeroU32::new(u32::try_from(seconds).unwrap_or(u32::MAX)).unwrap_or(NonZeroU32::MIN)
}

/// Answers a SUBSCRIBE: what becomes of each filter, and which filters are then held.
pub(crate) fn subscribe(
    held: Filters,
    requested: &[(ByteString, QoS)],
    identified: bool,
) -> (Filters, Vec<Granted>) {
    let mut filters = held;
    let granted = requested
        .iter()
        .map(|(filter, qos)| match identified {
            true => Granted::Identified,
            false => filters.add(filter, *qos),
        })
        .collect();
    (filters, granted)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn granted(filters: &[&'static str]) -> (Filters, Vec<Granted>) {
        let requested: Vec<_> =
            filters.iter().map(|filter| (ByteString::from_static(filter), QoS::ExactlyOnce)).collect();
        subscribe(Filters::default(), &requested, false)
    }

    #[test]
    fn only_commands_can_be_subscribed_to() {
        let (filters, codes) = granted(&["cmd", "cmd/#"]);
        assert_eq!(codes, [Granted::At(QoS::AtLeastOnce); 2]);
        assert!(filters.are_named());
        let others = ["#", "+", "cmd/+", "cmd/", "cmd/x", "cmd/+/+", "temperature", "", "$SYS/#", "+/#"];
        let (filters, codes) = granted(&others);
        assert_eq!(codes, [Granted::NotAllowed; 10]);
        assert!(filters.is_empty());
        assert_eq!(granted(&["$share/g/cmd"]).1, [Granted::Shared]);
    }

    #[test]
    fn the_highest_quality_of_the_filters_counts() {
        let mut filters = Filters::default();
        filters.add("cmd", QoS::AtLeastOnce);
        filters.add("cmd/#", QoS::AtMostOnce);
        assert_eq!(filters.qos(), QoS::AtLeastOnce);
        assert!(filters.remove("cmd") && !filters.remove("cmd"));
        assert_eq!(filters.qos(), QoS::AtMostOnce);
        assert!(filters.remove("cmd/#") && filters.is_empty());
    }

    #[test]
    fn an_identified_subscription_is_refused() {
        let requested = [(ByteString::from_static("cmd"), QoS::AtMostOnce)];
        let (filters, granted) = subscribe(Filters::default(), &requested, true);
        assert_eq!((filters.is_empty(), granted), (true, vec![Granted::Identified]));
    }
}
