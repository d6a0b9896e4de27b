//! `drogue device`: the devices of an application.

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::bail;
use clap::{Args, Subcommand};
use common::device::{Credential, DeviceSpec};
use common::id::{AppId, DEFAULT_APPLICATION, DeviceId};
use common::startup::BadConfiguration;
use reqwest::{Method, RequestBuilder, StatusCode};
use serde_json::{Value, json};

use super::import::import;
use super::password::PasswordOptions;
use super::{ApiOptions, Client, Refused};
use crate::output;

/// Create, import, list, show, change and delete devices.
#[derive(Debug, Args)]
pub struct Devices {
    #[command(subcommand)]
    verb: Verb,
    /// The application.
    #[arg(long, global = true, default_value = DEFAULT_APPLICATION)]
    app: AppId,
    #[command(flatten)]
    api: ApiOptions,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Create a device
    Create(Create),
    /// Create or change many devices: one JSON object a line, as {"name": "d1", "credentials": [{"token": null}]}
    Import {
        /// The file, or '-' for standard input
        file: PathBuf,
    },
    /// List the devices
    List,
    /// Show a device, and whether it can be reached now
    Show {
        /// The device
        name: DeviceId,
    },
    /// Let a device log in with this password and nothing else; its live sessions end
    SetPassword {
        /// The device
        name: DeviceId,
        #[command(flatten)]
        password: PasswordOptions,
    },
    /// Let a device log in again
    Enable {
        /// The device
        name: DeviceId,
    },
    /// Do not let a device log in any more; its live sessions end
    Disable {
        /// The device
        name: DeviceId,
    },
    /// Delete a device; its live sessions end
    Delete {
        /// The device
        name: DeviceId,
    },
}

#[derive(Debug, Args)]
struct Create {
    /// The device
    name: DeviceId,
    #[command(flatten)]
    password: PasswordOptions,
    /// Make a token for it, which is shown once; best for a fleet, because checking it costs next to nothing
    #[arg(long, conflicts_with = "source")]
    generate: bool,
    /// A label; give it again for more
    #[arg(long = "label", value_name = "KEY=VALUE", value_parser = label)]
    labels: Vec<(String, String)>,
}

fn label(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or("expected KEY=VALUE")?;
    Ok((key.to_owned(), value.to_owned()))
}

impl Devices {
    /// Does what was asked for.
    ///
    /// # Errors
    /// Fails unless the server did it.
    pub async fn run(self) -> anyhow::Result<()> {
        let client = Client::open(&self.api)?;
        match &self.verb {
            Verb::Create(create) => self.create(&client, create).await,
            Verb::Import { file } => import(&client, &self.app, file, self.api.json).await,
            Verb::List => {
                let devices: Vec<Value> = client.list(&format!("v1/apps/{}/devices", self.app)).await?;
                self.api.names(&devices)
            }
            Verb::Show { name } => {
                let mut device: Value = client.fetch(self.request(&client, Method::GET, name)).await?;
                device["connection"] = self.connection(&client, name).await?;
                Ok(output::line(format!("{device:#}"))?)
            }
            Verb::SetPassword { name, password } => {
                self.require(&client, name).await?;
                let credentials = Some(vec![Credential::Password(password.read()?)]);
                self.change(&client, name, DeviceSpec { credentials, ..DeviceSpec::default() }).await
            }
            Verb::Enable { name } => self.set_enabled(&client, name, true).await,
            Verb::Disable { name } => self.set_enabled(&client, name, false).await,
            Verb::Delete { name } => {
                client.send(self.request(&client, Method::DELETE, name)).await?;
                self.api.done(format!("device {name} is deleted"), &json!({ "name": name }))
            }
        }
    }

    fn request(&self, client: &Client, method: Method, name: &DeviceId) -> RequestBuilder {
        client.request(method, &format!("v1/apps/{}/devices/{name}", self.app))
    }

    /// Asks whether the device can be reached. A token for the registry alone is not told.
    async fn connection(&self, client: &Client, name: &DeviceId) -> anyhow::Result<Value> {
        let path = format!("v1/apps/{}/devices/{name}/connection", self.app);
        match client.fetch(client.request(Method::GET, &path)).await {
            Err(error) if has_status(&error, StatusCode::FORBIDDEN) => Ok(Value::Null),
            result => result,
        }
    }

    async fn create(&self, client: &Client, create: &Create) -> anyhow::Result<()> {
        let name = &create.name;
        match self.require(client, name).await {
            Ok(()) => bail!("device {name} is there already; {}", self.instead(create)),
            Err(error) if has_status(&error, StatusCode::NOT_FOUND) => {}
            Err(error) => return Err(error),
        }
        let credential = if create.generate {
            Credential::Token(None)
        } else if create.password.is_given() {
            Credential::Password(create.password.read()?)
        } else {
            bail!(BadConfiguration("give --password, --password-stdin or --generate".to_owned()));
        };
        let labels = create.labels.iter().cloned().collect::<BTreeMap<_, _>>();
        let spec = DeviceSpec {
            labels: Some(labels).filter(|labels| !labels.is_empty()),
            credentials: Some(vec![credential]),
            ..DeviceSpec::default()
        };
        let device: Value = client.fetch(self.request(client, Method::PUT, name).json(&spec)).await?;
        match made_tokens(&device).first() {
            Some(token) if !self.api.json => {
                eprintln!("device {name} is created; its token is shown this once:");
                Ok(output::line(token)?)
            }
            _ => self.api.done(format!("device {name} is created"), &device),
        }
    }

    /// Says what does what was wanted of a device that is there.
    fn instead(&self, create: &Create) -> String {
        let which = format!("{} --app {}", create.name, self.app);
        if create.generate {
            format!("choose another name, or delete it first with `drogue device delete {which}`")
        } else {
            format!("`drogue device set-password {which}` changes its password")
        }
    }

    async fn set_enabled(&self, client: &Client, name: &DeviceId, enabled: bool) -> anyhow::Result<()> {
        self.require(client, name).await?;
        self.change(client, name, DeviceSpec { enabled: Some(enabled), ..DeviceSpec::default() }).await
    }

    async fn change(&self, client: &Client, name: &DeviceId, spec: DeviceSpec) -> anyhow::Result<()> {
        let device: Value = client.fetch(self.request(client, Method::PUT, name).json(&spec)).await?;
        self.api.done(format!("device {name} is changed"), &device)
    }

    /// Fails unless the device is there: a `PUT` would make it.
    async fn require(&self, client: &Client, name: &DeviceId) -> anyhow::Result<()> {
        client.send(self.request(client, Method::GET, name)).await.map(drop)
    }
}

fn has_status(error: &anyhow::Error, status: StatusCode) -> bool {
    error.downcast_ref::<Refused>().is_some_and(|refused| refused.status == status)
}

/// Returns the tokens that the server made for a device and shows this once.
pub(super) fn made_tokens(device: &Value) -> Vec<&str> {
    let credentials = device["credentials"].as_array().map(Vec::as_slice).unwrap_or_default();
    credentials.iter().filter_map(|credential| credential["token"].as_str()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_have_a_key_and_a_value() {
        assert_eq!(label("a=b=c"), Ok(("a".into(), "b=c".into())));
        assert!(label("a").is_err());
    }

    #[test]
    pub(super) fn made_tokens_are_found() {
        let device = json!({ "name": "d1", "credentials": [{ "password": null }, { "token": "drogue_x" }] });
        assert_eq!(made_tokens(&device), ["drogue_x"]);
        assert!(made_tokens(&json!({ "name": "d1" })).is_empty());
    }
}
