//! `drogue app`: applications.

use clap::{Args, Subcommand};
use common::id::AppId;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use super::{ApiOptions, Client, read_json};
use crate::output;

/// Create, list, show and delete applications.
#[derive(Debug, Args)]
pub struct Apps {
    #[command(subcommand)]
    verb: Verb,
    #[command(flatten)]
    api: ApiOptions,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Create an application
    Create {
        /// The application
        name: AppId,
    },
    /// List the applications that the token may see
    List,
    /// Show an application
    Show {
        /// The application
        name: AppId,
    },
    /// Delete an application with all its devices and tokens
    Delete {
        /// The application
        name: AppId,
    },
}

impl Apps {
    /// Does what was asked for.
    ///
    /// # Errors
    /// Fails unless the server did it.
    pub async fn run(self) -> anyhow::Result<()> {
        let client = Client::open(&self.api)?;
        let request = |method, name: &AppId| client.request(method, &format!("v1/apps/{name}"));
        match &self.verb {
            Verb::Create { name } => {
                let answer = client.send(request(Method::PUT, name).json(&json!({}))).await?;
                let made = answer.status() == StatusCode::CREATED;
                let words = if made { "is made" } else { "was there already" };
                self.api.done(format!("application {name} {words}"), &read_json(answer).await?)
            }
            Verb::List => {
                let apps: Vec<Value> = client.list("v1/apps").await?;
                self.api.names(&apps)
            }
            Verb::Show { name } => {
                let app: Value = client.fetch(request(Method::GET, name)).await?;
                Ok(output::line(format!("{app:#}"))?)
            }
            Verb::Delete { name } => {
                client.send(request(Method::DELETE, name)).await?;
                self.api.done(format!("application {name} is deleted"), &json!({ "name": name }))
            }
        }
    }
}
