//! The outcomes of commands as an application follows them: server-sent events of the channel `outcomes`.

use std::cell::RefCell;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use serde::Deserialize;
use tokio::task::JoinHandle;

use crate::fleet::{APPLICATION, FleetOptions};
use crate::pace::now;
use crate::process::POLL;

/// What is looked at of an event.
#[derive(Debug, Deserialize)]
struct Outcome {
    #[serde(rename = "type")]
    kind: String,
    #[serde(rename = "correlationid")]
    command: Option<String>,
}

/// When each command was first told to be in a state.
type Told = HashMap<String, HashMap<String, Instant>>;

/// Follows outcomes until it is dropped.
#[derive(Debug)]
pub(crate) struct OutcomeStream {
    told: Rc<RefCell<Told>>,
    reader: JoinHandle<anyhow::Result<()>>,
}

impl OutcomeStream {
    /// Follows the outcomes of the load's application from now on. Runs on a `LocalSet`.
    ///
    /// # Errors
    /// Fails if the API does not give them.
    pub(crate) async fn open(fleet: &FleetOptions) -> anyhow::Result<Self> {
        let url = format!("http://{}/v1/apps/{APPLICATION}/events?channel=outcomes", fleet.api);
        let request = reqwest::Client::new().get(url).header("authorization", fleet.authorization()?);
        let response = request.send().await?.error_for_status()?;
        let told = Rc::new(RefCell::new(Told::new()));
        let reader = tokio::task::spawn_local(read(response, told.clone()));
        Ok(Self { told, reader })
    }

    /// Waits until so many commands have been told to be in a state, and returns when the first was of each.
    ///
    /// # Errors
    /// Fails if the stream ends, or they are not all told in time.
    pub(crate) async fn all(
        &self,
        state: &str,
        count: usize,
        patience: Duration,
    ) -> anyhow::Result<Vec<Instant>> {
        let (kind, deadline) = (format!("io.drogue.command.{state}.v1"), now() + patience);
        loop {
            let times: Vec<_> = self
                .told
                .borrow()
                .get(&kind)
                .map(|told| told.values().copied().collect())
                .unwrap_or_default();
            if times.len() >= count {
                return Ok(times);
            }
            ensure!(!self.reader.is_finished(), "the stream of outcomes ended");
            ensure!(now() < deadline, "{} of {count} commands are {state} after {patience:?}", times.len());
            tokio::time::sleep(POLL).await;
        }
    }
}

impl Drop for OutcomeStream {
    fn drop(&mut self) {
        self.reader.abort();
    }
}

async fn read(mut response: reqwest::Response, told: Rc<RefCell<Told>>) -> anyhow::Result<()> {
    let mut input = Vec::new();
    while let Some(chunk) = response.chunk().await? {
        input.extend_from_slice(&chunk);
        let Some(end) = input.iter().rposition(|byte| *byte == b'\n') else { continue };
        let (lines, now) = (input.drain(..=end).collect::<Vec<u8>>(), now());
        for line in lines.split(|byte| *byte == b'\n') {
            let Some(data) = line.strip_prefix(b"data:") else { continue };
            let outcome: Outcome = serde_json::from_slice(data).context("an event has another form")?;
            let Some(command) = outcome.command else { continue };
            let mut told = told.borrow_mut();
            if let Entry::Vacant(first) = told.entry(outcome.kind).or_default().entry(command) {
                first.insert(now);
            }
        }
    }
    Ok(())
}
