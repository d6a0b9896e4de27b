//! The session table: who is logged in on this replica, and why that ends.
//!
//! A state machine without I/O, like the connection table. A session is opened before its credentials are checked
//! and confirmed afterwards, so that a change of the device in between is not missed.

use std::collections::HashMap;
use std::sync::Arc;
use std::task::{Poll, Waker};

use serde::{Deserialize, Serialize};

use crate::auth::Change;
use crate::id::DeviceKey;

/// Identifies a session on this replica.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct SessionId(pub u64);

/// Why a session ends, other than by its device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// The same device connected with the same client id, here or on another replica.
    TakenOver,
    /// The device was changed or deleted.
    Revoked,
    /// The replica shuts down.
    Shutdown,
    /// The replica may have missed commands and records of connections: the device connects anew.
    Interrupted,
}

/// Says why a session was not confirmed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    /// It was ended before it was confirmed.
    Ended(End),
    /// The device has as many sessions as it may.
    TooMany,
}

#[derive(Debug)]
struct Session {
    id: SessionId,
    client: Option<Arc<str>>,
    confirmed: bool,
    end: Option<End>,
    waker: Option<Waker>,
}

impl Session {
    fn end(&mut self, end: End) -> Option<Waker> {
        self.end.get_or_insert(end);
        self.waker.take()
    }
}

/// The sessions of this replica, by device.
#[derive(Debug, Default)]
pub struct SessionTable {
    devices: HashMap<DeviceKey, Vec<Session>>,
    shut_down: bool,
}

impl SessionTable {
    /// Opens a session whose credentials are yet to be checked.
    pub fn open(&mut self, device: DeviceKey, id: SessionId, client: Option<Arc<str>>) {
        let sessions = self.devices.entry(device).or_insert_with(|| Vec::with_capacity(1));
        sessions.push(Session { id, client, confirmed: false, end: None, waker: None });
    }

    /// Confirms a session whose credentials are right. An older one of the same device and client id is taken over;
    /// its waker, if any, is returned.
    ///
    /// # Errors
    /// Fails if the session was ended meanwhile, or if it has a client id and the device has `limit` other such
    /// sessions.
    pub fn confirm(
        &mut self,
        device: &DeviceKey,
        id: SessionId,
        limit: usize,
    ) -> Result<Vec<Waker>, Refused> {
        let shutdown = Refused::Ended(End::Shutdown);
        if self.shut_down {
            return Err(shutdown);
        }
        let sessions = self.devices.get_mut(device).ok_or(shutdown)?;
        let place = sessions.iter().position(|session| session.id == id).ok_or(shutdown)?;
        if let Some(end) = sessions[place].end {
            return Err(Refused::Ended(end));
        }
        let client = sessions[place].client.clone();
        let is_live = |session: &Session| session.confirmed && session.end.is_none();
        let same = |session: &Session| client.is_some() && session.client == client;
        let is_other = |session: &&Session| session.client.is_some() && is_live(session) && !same(session);
        if client.is_some() && sessions.iter().filter(is_other).count() >= limit {
            return Err(Refused::TooMany);
        }
        let old = sessions.iter_mut().filter(|session| is_live(session) && same(session));
        let wakers = old.filter_map(|session| session.end(End::TakenOver)).collect();
        sessions[place].confirmed = true;
        Ok(wakers)
    }

    /// Ends a session whose client has a newer connection, as the log says; returns whom to wake.
    pub fn take_over(&mut self, device: &DeviceKey, id: SessionId) -> Option<Waker> {
        self.find(device, id)?.end(End::TakenOver)
    }

    /// Tells whether a session has not been ended.
    pub fn is_open(&self, device: &DeviceKey, id: SessionId) -> bool {
        let mut sessions = self.devices.get(device).into_iter().flatten();
        sessions.any(|session| session.id == id && session.end.is_none())
    }

    /// Ends all sessions, as records of commands and connections may have been missed; returns whom to wake.
    pub fn interrupt(&mut self) -> Vec<Waker> {
        self.devices.values_mut().flatten().filter_map(|session| session.end(End::Interrupted)).collect()
    }

    /// Returns why a session ended, or leaves a waker.
    pub fn poll_end(&mut self, device: &DeviceKey, id: SessionId, waker: &Waker) -> Poll<End> {
        let Some(session) = self.find(device, id) else { return Poll::Ready(End::Shutdown) };
        match session.end {
            Some(end) => Poll::Ready(end),
            None => {
                session.waker = Some(waker.clone());
                Poll::Pending
            }
        }
    }

    /// Ends the sessions of what was changed; returns whom to wake.
    pub fn change(&mut self, change: &Change) -> Vec<Waker> {
        match change {
            Change::Device(device) => {
                let sessions = self.devices.get_mut(device).into_iter().flatten();
                sessions.filter_map(|session| session.end(End::Revoked)).collect()
            }
            Change::Application(application) => {
                let application = application.as_str();
                let of_it = self.devices.iter_mut().filter(|(device, _)| device.application() == application);
                of_it.flat_map(|(_, all)| all).filter_map(|session| session.end(End::Revoked)).collect()
            }
        }
    }

    /// Ends all sessions, as the replica shuts down, and confirms no more; returns whom to wake.
    pub fn shut_down(&mut self) -> Vec<Waker> {
        self.shut_down = true;
        self.devices.values_mut().flatten().filter_map(|session| session.end(End::Shutdown)).collect()
    }

    /// Forgets a session that its owner has closed, and no other.
    pub fn close(&mut self, device: &DeviceKey, id: SessionId) {
        let Some(sessions) = self.devices.get_mut(device) else { return };
        sessions.retain(|session| session.id != id);
        if sessions.is_empty() {
            self.devices.remove(device);
        }
    }

    /// Returns the number of sessions, checked or not.
    pub fn len(&self) -> usize {
        self.devices.values().map(Vec::len).sum()
    }

    /// Tells whether there is no session.
    pub fn is_empty(&self) -> bool {
        self.devices.is_empty()
    }

    fn find(&mut self, device: &DeviceKey, id: SessionId) -> Option<&mut Session> {
        self.devices.get_mut(device)?.iter_mut().find(|session| session.id == id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn device(name: &str) -> DeviceKey {
        DeviceKey::from_bytes(name.as_bytes()).unwrap()
    }

    fn end(table: &mut SessionTable, name: &str, id: u64) -> Option<End> {
        match table.poll_end(&device(name), SessionId(id), Waker::noop()) {
            Poll::Ready(end) => Some(end),
            Poll::Pending => None,
        }
    }

    fn log_in(table: &mut SessionTable, name: &str, id: u64, client: Option<&str>) -> Result<(), Refused> {
        table.open(device(name), SessionId(id), client.map(Into::into));
        table.confirm(&device(name), SessionId(id), 2).map(drop)
    }

    #[test]
    fn the_same_client_id_takes_over_within_a_device_only() {
        let mut table = SessionTable::default();
        log_in(&mut table, "a/d", 1, Some("c")).unwrap();
        log_in(&mut table, "a/e", 2, Some("c")).unwrap();
        log_in(&mut table, "a/d", 3, Some("other")).unwrap();
        assert_eq!(end(&mut table, "a/d", 1), None);
        log_in(&mut table, "a/d", 4, Some("c")).unwrap();
        assert_eq!(end(&mut table, "a/d", 1), Some(End::TakenOver));
        assert_eq!(end(&mut table, "a/e", 2), None);
        assert_eq!(end(&mut table, "a/d", 4), None);
    }

    #[test]
    fn a_login_that_is_not_confirmed_takes_nothing_over() {
        let mut table = SessionTable::default();
        log_in(&mut table, "a/d", 1, Some("c")).unwrap();
        table.open(device("a/d"), SessionId(2), Some("c".into()));
        table.close(&device("a/d"), SessionId(2));
        assert_eq!(end(&mut table, "a/d", 1), None);
    }

    #[test]
    fn a_change_between_check_and_confirmation_is_not_missed() {
        let mut table = SessionTable::default();
        table.open(device("a/d"), SessionId(1), None);
        table.change(&Change::Device(device("a/d")));
        let refused = table.confirm(&device("a/d"), SessionId(1), 2);
        assert_eq!(refused.map(drop), Err(Refused::Ended(End::Revoked)));
    }

    #[test]
    fn a_device_has_so_many_sessions_at_most() {
        let mut table = SessionTable::default();
        log_in(&mut table, "a/d", 1, Some("b")).unwrap();
        log_in(&mut table, "a/d", 2, Some("c")).unwrap();
        assert_eq!(log_in(&mut table, "a/d", 3, Some("d")), Err(Refused::TooMany));
        table.close(&device("a/d"), SessionId(3));
        log_in(&mut table, "a/d", 4, Some("c")).unwrap();
        table.close(&device("a/d"), SessionId(2));
        assert_eq!(log_in(&mut table, "a/d", 5, Some("d")), Err(Refused::TooMany));
        log_in(&mut table, "a/d", 6, None).unwrap();
    }

    #[test]
    fn an_application_ends_with_all_its_devices() {
        let mut table = SessionTable::default();
        for (name, id) in [("a/d", 1), ("a/e", 2), ("ab/d", 3)] {
            log_in(&mut table, name, id, None).unwrap();
        }
        table.change(&Change::Application("a".parse().unwrap()));
        assert_eq!(end(&mut table, "a/d", 1), Some(End::Revoked));
        assert_eq!(end(&mut table, "a/e", 2), Some(End::Revoked));
        assert_eq!(end(&mut table, "ab/d", 3), None);
        table.shut_down();
        assert_eq!(end(&mut table, "ab/d", 3), Some(End::Shutdown));
        assert_eq!(end(&mut table, "a/d", 1), Some(End::Revoked));
        for (name, id) in [("a/d", 1), ("a/e", 2), ("ab/d", 3)] {
            table.close(&device(name), SessionId(id));
        }
        assert!(table.is_empty());
    }

    #[test]
    fn a_login_behind_the_shutdown_is_not_confirmed() {
        let mut table = SessionTable::default();
        table.open(device("a/d"), SessionId(1), None);
        table.shut_down();
        let shutdown = Err(Refused::Ended(End::Shutdown));
        assert_eq!(table.confirm(&device("a/d"), SessionId(1), 2).map(drop), shutdown);
        assert_eq!(log_in(&mut table, "a/d", 2, None), shutdown);
    }

    #[test]
    fn a_session_that_the_log_ends_is_taken_over() {
        let mut table = SessionTable::default();
        log_in(&mut table, "a/d", 1, Some("c")).unwrap();
        log_in(&mut table, "a/d", 2, Some("other")).unwrap();
        assert!(table.is_open(&device("a/d"), SessionId(1)));
        table.take_over(&device("a/d"), SessionId(1));
        assert!(!table.is_open(&device("a/d"), SessionId(1)));
        assert_eq!(end(&mut table, "a/d", 1), Some(End::TakenOver));
        assert_eq!(end(&mut table, "a/d", 2), None);
    }
}
