//! `drogue token`: the tokens of an application.

use clap::{Args, Subcommand, ValueEnum};
use common::id::{AppId, DEFAULT_APPLICATION};
use reqwest::Method;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{ApiOptions, Client};
use crate::output;

/// Create, list and revoke tokens of applications.
#[derive(Debug, Args)]
pub struct Tokens {
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
    /// Create a token, which is shown this once
    Create {
        /// What the token may do; give it again for more
        #[arg(long = "scope", value_enum, required = true)]
        scopes: Vec<ScopeName>,
        /// What it is for, as `drogue token list` shows it
        #[arg(long, default_value = "")]
        description: String,
    },
    /// List the tokens, by their ids
    List,
    /// Revoke a token; it opens nothing any more
    Revoke {
        /// The token's id, as `drogue token list` shows it
        id: String,
    },
}

#[derive(Debug, Clone, Copy, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
enum ScopeName {
    /// Send commands
    Command,
    /// Read events
    Events,
    /// Change devices
    Registry,
}

/// What is known of a token after it was made.
#[derive(Debug, Deserialize)]
struct Listed {
    id: String,
    created: String,
    scopes: Vec<String>,
    description: String,
}

impl Tokens {
    /// Does what was asked for.
    ///
    /// # Errors
    /// Fails unless the server did it.
    pub async fn run(self) -> anyhow::Result<()> {
        let client = Client::open(&self.api)?;
        let path = format!("v1/apps/{}/tokens", self.app);
        match &self.verb {
            Verb::Create { scopes, description } => {
                let request = client
                    .request(Method::POST, &path)
                    .json(&json!({ "scopes": scopes, "description": description }));
                let made: Value = client.fetch(request).await?;
                match made["token"].as_str() {
                    Some(token) if !self.api.json => {
                        let id = made["id"].as_str().unwrap_or_default();
                        eprintln!("token {id} is created; it is shown this once:");
                        Ok(output::line(token)?)
                    }
                    _ => Ok(output::line(made)?),
                }
            }
            Verb::List => {
                let tokens: Vec<Value> = client.list(&path).await?;
                self.list(tokens)
            }
            Verb::Revoke { id } => {
                client.send(client.request(Method::DELETE, &format!("{path}/{id}"))).await?;
                self.api.done(format!("token {id} is revoked"), &json!({ "id": id }))
            }
        }
    }

    fn list(&self, tokens: Vec<Value>) -> anyhow::Result<()> {
        if self.api.json {
            return Ok(output::line(Value::from(tokens))?);
        }
        let listed = tokens.into_iter().map(serde_json::from_value::<Listed>);
        let row = |token: Listed| [token.id, token.created, token.scopes.join(" "), token.description];
        let rows = listed.map(|token| token.map(row)).collect::<Result<Vec<_>, _>>()?;
        Ok(output::table(&rows)?)
    }
}
