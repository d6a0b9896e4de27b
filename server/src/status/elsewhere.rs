//! The state of a server of which only the application interface is known.

use common::startup::BadConfiguration;
use reqwest::{Method, StatusCode};
use serde_json::Value;

use super::{COMMANDS, PATIENCE, Part, State, Status};
use crate::addresses::{Addresses, Listener};
use crate::client::{Client, Refused};
use crate::output;

impl Status {
    /// Asks the application interface at `api`, and says that the rest is not known here.
    ///
    /// # Errors
    /// Says why the interface is of no use.
    pub(super) async fn elsewhere(&self, api: &str) -> anyhow::Result<()> {
        let client = Client::open(&self.api)?;
        let asked = client.fetch::<Value>(client.request(Method::GET, "v1/apps").timeout(PATIENCE)).await;
        let failure = asked.err();
        if let Some(error) = failure.as_ref().filter(|error| error.is::<BadConfiguration>()) {
            return Err(BadConfiguration(error.to_string()).into());
        }
        let state = if failure.as_ref().is_none_or(is_refused_token) { State::Up } else { State::Down };
        self.print(&parts(api, state))?;
        if !self.api.json {
            output::line(
                "\nThe other parts are known to the server's machine only: run `drogue status` there, with its data \
                 directory and without --api.",
            )?;
        }
        failure.map_or(Ok(()), Err)
    }
}

/// Tells whether a server answered that knows tokens, but not this one.
fn is_refused_token(error: &anyhow::Error) -> bool {
    let refused = error.downcast_ref::<Refused>().map(|refused| refused.status);
    matches!(refused, Some(StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN))
}

fn parts(api: &str, state: State) -> Vec<Part> {
    let scheme = if api.starts_with("https:") { "https" } else { "http" };
    let listeners = Addresses::default().listeners();
    let part = |listener: &Listener| {
        if listener.part == Some("api") && listener.scheme == scheme {
            Part { name: listener.name, state, address: Some(api.to_owned()) }
        } else {
            Part { name: listener.name, state: State::Unknown, address: None }
        }
    };
    let commands = Part { name: COMMANDS, state: State::Unknown, address: None };
    listeners.iter().map(part).chain([commands]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_interface_that_was_asked_is_known() {
        for (url, name) in [("http://h:1", "applications"), ("https://h:1", "applications, TLS")] {
            let parts = parts(url, State::Up);
            assert_eq!(parts.len(), 8);
            let known: Vec<_> = parts.iter().filter(|part| part.state != State::Unknown).collect();
            assert_eq!(known, [&Part { name, state: State::Up, address: Some(url.to_owned()) }]);
        }
    }
}
