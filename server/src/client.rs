//! The command line's side of the application interface.

pub mod apps;
pub mod body;
pub mod commands;
pub mod devices;
pub mod events;
pub mod import;
pub mod password;
pub mod sse;
pub mod tokens;

use std::error::Error;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;
use clap::Args;
use common::auth::Secret;
use common::startup::BadConfiguration;
use reqwest::{Certificate, Method, RequestBuilder, Response, StatusCode};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::addresses::Addresses;
use crate::certificates::CA_CERTIFICATE;
use crate::data_dir::DataDir;
use crate::first_start::ADMIN_TOKEN;
use crate::output;

/// Where servers listen for applications by default.
pub const DEFAULT_API: &str = "http://127.0.0.1:8081";

/// How long the server may take to let itself be connected to.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Where the server is, and who asks.
#[derive(Debug, Clone, Args)]
#[group(skip)]
#[command(next_help_heading = "Connection")]
pub struct ApiOptions {
    /// The server's application interface; else that of the server in the data directory [default:
    /// http://127.0.0.1:8081].
    #[arg(long, env = "DROGUE_API", value_name = "URL", global = true)]
    pub api: Option<String>,

    /// The token to ask with; else the operator's, from the file admin-token in the data directory.
    #[arg(long, env = "DROGUE_TOKEN", value_name = "TOKEN", hide_env_values = true, global = true, value_parser = secret)]
    pub token: Option<Secret>,

    /// A PEM file of the CA to trust for https; else the development CA of the data directory, and the system's.
    #[arg(long, env = "DROGUE_CA_CERT", value_name = "FILE", global = true)]
    pub ca_cert: Option<PathBuf>,

    /// The directory in which the server keeps its addresses, its CA and the operator's token.
    #[arg(long, env = "DROGUE_DATA_DIR", value_name = "DIR", default_value = "./drogue-data", global = true)]
    data_dir: PathBuf,

    /// Print JSON, for scripts.
    #[arg(long, global = true)]
    pub json: bool,
}

impl ApiOptions {
    /// Names the data directory.
    ///
    /// # Errors
    /// See [`DataDir::at`].
    pub fn data(&self) -> anyhow::Result<DataDir> {
        DataDir::at(&self.data_dir)
    }

    /// Returns the token to ask with, if there is one: the given one, else the operator's.
    ///
    /// # Errors
    /// Names the file that cannot be read.
    pub fn token(&self, data: &DataDir) -> anyhow::Result<Option<Secret>> {
        match &self.token {
            Some(token) => Ok(Some(token.clone())),
            None => data.read_token(ADMIN_TOKEN),
        }
    }

    /// Says that something was done: in words on a terminal, as the server's JSON for scripts.
    fn done(&self, words: String, answer: &Value) -> anyhow::Result<()> {
        if self.json {
            output::line(answer)?;
        } else {
            output::line(words)?;
        }
        Ok(())
    }

    /// Prints things that have a name: the names, or the server's JSON for scripts.
    fn names(&self, things: &[Value]) -> anyhow::Result<()> {
        if self.json {
            return Ok(output::line(Value::from(things))?);
        }
        let names = things.iter().filter_map(|thing| thing["name"].as_str());
        Ok(names.into_iter().try_for_each(output::line)?)
    }
}

fn secret(text: &str) -> Result<Secret, std::convert::Infallible> {
    Ok(Secret::new(text))
}

/// A connection to the application interface.
#[derive(Debug, Clone)]
pub struct Client {
    http: reqwest::Client,
    base: String,
    token: Secret,
}

impl Client {
    /// Makes a client of the interface at the URL `base`; nothing is sent.
    pub fn new(http: reqwest::Client, base: String, token: Secret) -> Self {
        Self { http, base: base.trim_end_matches('/').to_owned(), token }
    }

    /// Makes the client that the options ask for; nothing is sent.
    ///
    /// # Errors
    /// Fails if there is no token, or if the CA is unreadable.
    pub fn open(options: &ApiOptions) -> anyhow::Result<Self> {
        let data = options.data()?;
        let base = match &options.api {
            Some(api) => api.clone(),
            None => api_of(&data)?,
        };
        let token = options.token(&data)?.ok_or_else(|| no_token(&data))?;
        let development = data.file(CA_CERTIFICATE);
        let trust = match &options.ca_cert {
            Some(path) => Trust::Only(path),
            None if development.exists() => Trust::Also(&development),
            None => Trust::System,
        };
        Ok(Self::new(http_client(trust)?, base, token))
    }

    /// Starts a request to a path below the interface's root, as `v1/apps`.
    pub fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.http.request(method, format!("{}/{path}", self.base)).bearer_auth(self.token.expose())
    }

    /// Sends a request and returns the answer if it is a success.
    ///
    /// # Errors
    /// Says what the server said, or how to reach it.
    pub async fn send(&self, request: RequestBuilder) -> anyhow::Result<Response> {
        let response = request.send().await.map_err(|error| self.unreachable(error))?;
        if response.status().is_success() {
            return Ok(response);
        }
        Err(Refused::read(response).await.into())
    }

    /// Sends a request and returns the answer's JSON.
    ///
    /// # Errors
    /// As for [`Self::send`]; or the answer is not the expected one.
    pub async fn fetch<T: DeserializeOwned>(&self, request: RequestBuilder) -> anyhow::Result<T> {
        read_json(self.send(request).await?).await
    }

    /// Fetches a whole list, page by page.
    ///
    /// # Errors
    /// As for [`Self::fetch`].
    pub async fn list(&self, path: &str) -> anyhow::Result<Vec<Value>> {
        self.list_with(path, &[]).await
    }

    /// Fetches a whole list that parameters choose, page by page.
    ///
    /// # Errors
    /// As for [`Self::fetch`].
    pub async fn list_with(&self, path: &str, query: &[(&str, String)]) -> anyhow::Result<Vec<Value>> {
        let mut things = Vec::new();
        let mut after: Option<String> = None;
        loop {
            let request =
                self.request(Method::GET, path).query(query).query(&after.map(|name| [("after", name)]));
            let page: Page = self.fetch(request).await?;
            things.extend(page.items);
            after = page.after;
            if after.is_none() {
                return Ok(things);
            }
        }
    }

    fn unreachable(&self, error: reqwest::Error) -> anyhow::Error {
        if error.is_builder() {
            return BadConfiguration(format!("'{}' is no http or https URL (option --api)", self.base))
                .into();
        }
        let what = format!("cannot reach {}: {}", self.base, innermost(&error));
        if is_refused(&error) {
            anyhow::anyhow!(
                "{what}; is the server running? start it with `drogue`, or name another with --api"
            )
        } else {
            anyhow::anyhow!(what)
        }
    }
}

/// Reads the JSON of an answer.
async fn read_json<T: DeserializeOwned>(answer: Response) -> anyhow::Result<T> {
    answer
        .json()
        .await
        .context("the answer is not what this version expects; is the server of another version?")
}

/// Returns where the server of a data directory listens, or where servers listen by default.
fn api_of(data: &DataDir) -> anyhow::Result<String> {
    let addresses = Addresses::load(data)?.unwrap_or_default();
    Ok(addresses.api_url().unwrap_or_else(|| DEFAULT_API.to_owned()))
}

fn no_token(data: &DataDir) -> BadConfiguration {
    BadConfiguration(format!(
        "there is no token in {}: start a server there with `drogue`, name its data directory with --data-dir, or \
         give --token or DROGUE_TOKEN",
        data.path().display()
    ))
}

/// Which CAs a client trusts.
#[derive(Debug, Clone, Copy)]
pub enum Trust<'a> {
    /// Those of the system.
    System,
    /// Those in the file, and those of the system.
    Also(&'a Path),
    /// Those in the file.
    Only(&'a Path),
}

/// Makes an HTTP client.
///
/// # Errors
/// Names the file that is of no use.
pub fn http_client(trust: Trust<'_>) -> anyhow::Result<reqwest::Client> {
    // Fails only if a provider is there already, which is as good.
    drop(rustls::crypto::ring::default_provider().install_default());
    let builder = reqwest::Client::builder().connect_timeout(CONNECT_TIMEOUT);
    let builder = match trust {
        Trust::System => builder,
        Trust::Also(path) => builder.tls_certs_merge(read_certificates(path)?),
        Trust::Only(path) => builder.tls_certs_only(read_certificates(path)?),
    };
    builder.build().context("cannot prepare TLS")
}

fn read_certificates(path: &Path) -> anyhow::Result<Vec<Certificate>> {
    let pem = fs::read(path).with_context(|| format!("cannot read the CA from {}", path.display()))?;
    Certificate::from_pem_bundle(&pem).with_context(|| format!("{} holds no certificate", path.display()))
}

fn sources<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |error| (**error).source())
}

fn innermost(error: &reqwest::Error) -> String {
    sources(error).last().map(ToString::to_string).unwrap_or_default()
}

fn is_refused(error: &reqwest::Error) -> bool {
    sources(error)
        .filter_map(|error| error.downcast_ref::<io::Error>())
        .any(|error| error.kind() == io::ErrorKind::ConnectionRefused)
}

/// A part of a list.
#[derive(Debug, Deserialize)]
struct Page {
    items: Vec<Value>,
    /// Where to go on, unless this is the end.
    after: Option<String>,
}

/// What the server answered instead of a success.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{text} (HTTP {status})")]
pub struct Refused {
    /// The status code.
    pub status: StatusCode,
    text: String,
}

/// RFC 9457.
#[derive(Debug, Default, Deserialize)]
struct Problem {
    title: Option<String>,
    detail: Option<String>,
}

impl Refused {
    async fn read(response: Response) -> Self {
        let status = response.status();
        let problem = response.json::<Problem>().await.unwrap_or_default();
        Self { status, text: explain(status, problem) }
    }
}

fn explain(status: StatusCode, problem: Problem) -> String {
    let said = problem.detail.or(problem.title);
    let said = said.unwrap_or_else(|| status.canonical_reason().unwrap_or("refused").to_lowercase());
    if status == StatusCode::UNAUTHORIZED {
        format!("{said}; give a valid token with --token or DROGUE_TOKEN")
    } else {
        said
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_detail_of_a_problem_is_shown() {
        let problem = |detail: Option<&str>| Problem {
            title: Some("not found".into()),
            detail: detail.map(Into::into),
        };
        assert_eq!(explain(StatusCode::NOT_FOUND, problem(Some("no device d1"))), "no device d1");
        assert_eq!(explain(StatusCode::NOT_FOUND, problem(None)), "not found");
        assert_eq!(explain(StatusCode::BAD_GATEWAY, Problem::default()), "bad gateway");
        assert!(explain(StatusCode::UNAUTHORIZED, Problem::default()).contains("--token"));
    }
}
