//! `drogue command`: commands to devices, and what becomes of them.

mod send;

use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{Args, Subcommand};
use common::id::{AppId, DEFAULT_APPLICATION, DeviceId, EventId};
use common::outcome::State;
use reqwest::{Method, RequestBuilder};
use serde_json::Value;

use super::{ApiOptions, Client};
use crate::output;

/// Send commands to devices, and see what becomes of them.
#[derive(Debug, Args)]
pub struct Commands {
    #[command(subcommand)]
    verb: Verb,
    /// The application
    #[arg(long, global = true, default_value = DEFAULT_APPLICATION)]
    app: AppId,
    #[command(flatten)]
    api: ApiOptions,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Send a command to a device, and print the command's id, or what --wait asks for
    Send(Box<send::Send>),
    /// List the commands of a device
    List {
        /// The device
        device: DeviceId,
        /// Only those in this state
        #[arg(long, value_parser = state_by_name())]
        state: Option<State>,
    },
    /// Show a command and its history
    Show {
        /// The device
        device: DeviceId,
        /// The command's id
        id: EventId,
    },
    /// Cancel a command that is pending
    Cancel {
        /// The device
        device: DeviceId,
        /// The command's id
        id: EventId,
    },
}

/// Takes a state by its name, and lists the names in the help.
fn state_by_name() -> impl TypedValueParser<Value = State> {
    let names = PossibleValuesParser::new(State::ALL.iter().map(|state| state.as_str()));
    names.try_map(|name| State::from_name(&name).ok_or("there is no such state"))
}

impl Commands {
    /// Does what was asked for.
    ///
    /// # Errors
    /// Fails unless the server did it; and with --wait, unless the command came to what was waited for.
    pub async fn run(self) -> anyhow::Result<()> {
        let client = Client::open(&self.api)?;
        match &self.verb {
            Verb::Send(send) => send.run(&client, &self.app, self.api.json).await,
            Verb::List { device, state } => self.list(&client, device, *state).await,
            Verb::Show { device, id } => {
                let command: Value = client.fetch(self.request(&client, Method::GET, device, id)).await?;
                Ok(output::line(format!("{command:#}"))?)
            }
            Verb::Cancel { device, id } => {
                let command: Value = client.fetch(self.request(&client, Method::DELETE, device, id)).await?;
                self.api.done(format!("command {id} is cancelled"), &command)
            }
        }
    }

    async fn list(&self, client: &Client, device: &DeviceId, state: Option<State>) -> anyhow::Result<()> {
        let query: Vec<_> = state.iter().map(|state| ("state", state.to_string())).collect();
        let path = format!("v1/apps/{}/devices/{device}/commands", self.app);
        let commands = client.list_with(&path, &query).await?;
        if self.api.json {
            return Ok(output::line(Value::from(commands))?);
        }
        let rows: Vec<_> = commands.iter().map(row).collect();
        Ok(output::table(&rows)?)
    }

    fn request(&self, client: &Client, method: Method, device: &DeviceId, id: &EventId) -> RequestBuilder {
        client.request(method, &format!("v1/apps/{}/devices/{device}/commands/{id}", self.app))
    }
}

fn row(command: &Value) -> [String; 4] {
    ["id", "name", "state", "reason"].map(|member| command[member].as_str().unwrap_or_default().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_states_are_those_of_the_events() {
        let state = clap::Arg::new("state").value_parser(state_by_name());
        let command = clap::Command::new("list").arg(state);
        for state in State::ALL {
            let matches = command.clone().try_get_matches_from(["list", state.as_str()]).unwrap();
            assert_eq!(matches.get_one("state"), Some(state));
        }
        assert_eq!(State::ALL.len(), 8);
        assert!(command.try_get_matches_from(["list", "lost"]).is_err());
    }
}
