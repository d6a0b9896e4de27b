//! What is known of a device.

use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::reach::{Reach, Way};
use crate::channel::Place;
use crate::id::{ConnectionRef, EventId};
use crate::order::{DeviceOrder, Live};
use crate::records::Connected;
use crate::time::Timestamp;

/// The share that the newest interval has in the mean.
const WEIGHT: f32 = 0.3;
/// So many connections make a pattern.
const PATTERN: u8 = 3;

#[derive(Debug, Default)]
pub(super) struct Device {
    pub(super) order: DeviceOrder,
    pub(super) about: Vec<About>,
    pub(super) past: Past,
    /// The commands that are kept for it and not settled, in the order of the log.
    pub(super) kept: Vec<(Place, EventId)>,
    /// How many attempts failed since one succeeded or it connected.
    pub(super) failures: u32,
    pub(super) pause: Option<Pause>,
}

/// A while in which nothing is tried.
#[derive(Debug)]
pub(super) struct Pause {
    pub(super) until: Instant,
    /// Only while this is the newest connection.
    pub(super) on: Option<ConnectionRef>,
}

/// What people want to know of a connection.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct About {
    id: ConnectionRef,
    protocol: Box<str>,
    since: i64,
    until: Option<i64>,
}

/// When a device was connected, in milliseconds since the Unix epoch.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub(super) struct Past {
    began: i64,
    ended: i64,
    interval: f32,
    begun: u8,
}

impl Past {
    fn begin(&mut self, at: i64) {
        let interval = at.saturating_sub(self.began).max(0) as f32;
        match self.begun {
            0 => {}
            1 => self.interval = interval,
            _ => self.interval += WEIGHT * (interval - self.interval),
        }
        self.began = at;
        self.begun = self.begun.saturating_add(1);
    }

    fn expected(self, now: Timestamp) -> Option<Timestamp> {
        let next = Timestamp::from_millis(self.began.saturating_add(self.interval as i64));
        (self.begun >= PATTERN && next > now).then_some(next)
    }
}

impl Device {
    /// Notes a connection that began; a repeated record is no new beginning.
    pub(super) fn began(&mut self, record: &Connected, at: Timestamp) {
        let since = at.as_millis();
        if record.repeats.is_none() {
            self.past.begin(since);
        }
        let (id, protocol) = (record.id.clone(), record.protocol.as_str().into());
        self.about.push(About { id, protocol, since, until: record.until });
    }

    /// Forgets connections that are no longer live.
    pub(super) fn ended(&mut self, at: Timestamp) {
        let live = self.order.live();
        self.about.retain(|about| live.iter().any(|live| live.id == about.id));
        self.past.ended = at.as_millis();
    }

    /// Tells whether nothing is known of it that would be missed.
    pub(super) fn is_empty(&self, forget: Timestamp) -> bool {
        self.order.is_empty() && self.kept.is_empty() && self.past.ended < forget.as_millis()
    }

    pub(super) fn is_paused(&self, newest: &Live, now: Instant) -> bool {
        let holds = |pause: &Pause| now < pause.until && pause.on.as_ref().is_none_or(|on| *on == newest.id);
        self.pause.as_ref().is_some_and(holds)
    }

    /// Notes that an attempt failed, and returns until when nothing is tried.
    pub(super) fn pause(
        &mut self,
        on: Option<ConnectionRef>,
        first: Duration,
        longest: Duration,
        now: Instant,
    ) -> Instant {
        if let Some(pause) = self.pause.as_ref().filter(|pause| pause.on == on && now < pause.until) {
            // Commands that were given at once fail at once.
            return pause.until;
        }
        let pause = first.saturating_mul(1 << self.failures.min(16)).min(longest);
        self.failures = self.failures.saturating_add(1);
        let until = now + pause;
        self.pause = Some(Pause { until, on });
        until
    }

    pub(super) fn resume(&mut self) {
        self.failures = 0;
        self.pause = None;
    }

    pub(super) fn keep(&mut self, place: Place, id: &EventId) {
        let at = self.kept.partition_point(|(other, name)| (other, name) < (&place, id));
        self.kept.insert(at, (place, id.clone()));
    }

    pub(super) fn drop_kept(&mut self, id: &EventId) {
        self.kept.retain(|(_, other)| other != id);
    }

    pub(super) fn reach(&self, now: Timestamp) -> Reach {
        let way = |live: &Live| {
            let about = self.about.iter().find(|about| about.id == live.id)?;
            Some(Way {
                id: about.id.clone(),
                protocol: about.protocol.clone(),
                since: Timestamp::from_millis(about.since),
                until: about.until.map(Timestamp::from_millis),
            })
        };
        let ways: Vec<Way> = self.order.live().iter().rev().filter_map(way).collect();
        let away = ways.is_empty() && self.past.ended > 0;
        Reach {
            away_since: away.then(|| Timestamp::from_millis(self.past.ended)),
            expected: if away { self.past.expected(now) } else { None },
            ways,
        }
    }
}
