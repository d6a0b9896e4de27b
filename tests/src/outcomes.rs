//! What the channel `outcomes` says of the commands of a device, held against what the API says of them.

use std::collections::{HashMap, HashSet};

use common::outcome::State;

use crate::events::{EventStream, Query, Received};
use crate::tenant::{Device, Tenant};

/// The outcomes of one device's commands, from the first on.
#[derive(Debug)]
pub struct Outcomes {
    tenant: Tenant,
    device: Device,
    stream: EventStream,
    told: HashMap<String, Vec<Received>>,
    seen: HashSet<String>,
}

impl Outcomes {
    /// Opens the stream.
    ///
    /// # Panics
    /// Panics if the API refuses.
    pub async fn of(tenant: &Tenant, device: &Device) -> Self {
        let stream = tenant.events(&Query::outcomes().of(&device.name).from_earliest()).await;
        let (told, seen) = (HashMap::new(), HashSet::new());
        Self { tenant: tenant.clone(), device: device.clone(), stream, told, seen }
    }

    /// Waits until a command has come to its end, and the API says the same. Returns what was told of it, in order and
    /// without repeats, as `delivered: puback` or `undelivered: no-ack`.
    ///
    /// # Panics
    /// Panics if there is no end in time, or two.
    pub async fn until_settled(&mut self, id: &str) -> Vec<String> {
        while !self.told.get(id).is_some_and(|told| told.iter().any(|one| state(one).is_settled())) {
            self.read_one().await;
        }
        let told = &self.told[id];
        let end = told.iter().rfind(|one| state(one).is_settled()).expect("it is settled");
        let command = self.tenant.command_in(&self.device, id, state(end).as_str()).await;
        assert_eq!(command["reason"].as_str().unwrap_or_default(), end.attribute("reason"), "{command}");
        told.iter().map(in_words).collect()
    }

    /// Waits until a command has come to its end, and returns only that.
    pub async fn end(&mut self, id: &str) -> String {
        self.until_settled(id).await.pop().unwrap_or_default()
    }

    /// Returns an event that was told of a command.
    ///
    /// # Panics
    /// Panics if it was not told so far.
    pub fn event(&self, id: &str, state: State) -> &Received {
        let wanted = |one: &&Received| one.attribute("type") == format!("io.drogue.command.{state}.v1");
        self.told.get(id).and_then(|told| told.iter().find(wanted)).expect("it was told")
    }

    async fn read_one(&mut self) {
        let one = self.stream.next().await;
        let (id, command) = (one.attribute("id").to_owned(), one.attribute("correlationid").to_owned());
        let attempt = one.attribute("attempt");
        assert_eq!(id, format!("{command}.{}.{attempt}", state(&one)), "the id follows from what is told");
        if !self.seen.insert(id) {
            return;
        }
        let told = self.told.entry(command).or_default();
        let end = told.iter().map(state).find(|state| state.is_settled());
        // That it waits again may have been told by a tracker that had not read of the end yet: it is history only.
        let fits = end.is_none_or(|end| end.admits(state(&one)) || !state(&one).is_settled());
        told.push(one);
        assert!(fits, "two ends: {:?}", told.iter().map(in_words).collect::<Vec<_>>());
    }
}

/// Returns the state that an outcome tells of.
///
/// # Panics
/// Panics if it is no outcome.
pub fn state(one: &Received) -> State {
    let name = one.attribute("type").strip_prefix("io.drogue.command.");
    let name = name.and_then(|rest| rest.strip_suffix(".v1"));
    name.and_then(State::from_name).expect("the channel holds outcomes")
}

fn in_words(one: &Received) -> String {
    let details = ["reason", "confirmation", "status"].map(|name| one.attribute(name));
    let details = details.into_iter().find(|detail| !detail.is_empty());
    details.map_or_else(|| state(one).to_string(), |detail| format!("{}: {detail}", state(one)))
}
