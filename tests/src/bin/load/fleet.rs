//! The devices under which load comes: made over the server's API, each with a token of its own.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, bail};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::rand::{SecureRandom, SystemRandom};
use serde_json::json;

use crate::address::Loopback;
use crate::progress;

/// The application that the devices belong to.
pub(crate) const APPLICATION: &str = "load";

/// The operator's token, in a server's data directory.
pub(crate) const TOKEN_FILE: &str = "admin-token";

/// How many devices are made with one request.
const BATCH: usize = 1_000;

/// How long the API may take for one request.
const PATIENCE: Duration = Duration::from_secs(60);

/// What a device logs in with.
#[derive(Clone)]
pub(crate) struct Login {
    /// The MQTT client id, which is also the device's id.
    pub(crate) client_id: String,
    /// The user, if there is one.
    pub(crate) user: Option<String>,
    /// The password or token, if there is one.
    pub(crate) password: Option<String>,
}

impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Login").field("client_id", &self.client_id).finish_non_exhaustive()
    }
}

/// Who the devices are.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct FleetOptions {
    /// Where the server's API listens, over which devices are made.
    #[arg(long, env = "DROGUE_API_ADDRESS", default_value = "127.0.0.1:8081")]
    pub(crate) api: Loopback,

    /// The operator's token [default: the one in {data-dir}/admin-token].
    #[arg(long, env = "DROGUE_TOKEN", hide_env_values = true)]
    pub(crate) token: Option<String>,

    /// The server's data directory.
    #[arg(long, env = "DROGUE_DATA_DIR", default_value = "./drogue-data")]
    pub(crate) data_dir: PathBuf,

    /// The target is any MQTT broker or HTTP server: make no devices.
    #[arg(long)]
    pub(crate) foreign: bool,

    /// The user name at a foreign broker [default: anonymous].
    #[arg(long, requires = "foreign")]
    pub(crate) user: Option<String>,

    /// The password at a foreign broker.
    #[arg(long, requires = "user")]
    pub(crate) password: Option<String>,
}

impl FleetOptions {
    /// Makes no devices and logs in anonymously.
    pub(crate) fn foreign() -> Self {
        let (api, data_dir) = (Loopback::port(8081), PathBuf::new());
        Self { api, token: None, data_dir, foreign: true, user: None, password: None }
    }

    /// Returns the logins of `count` devices, after they were made.
    ///
    /// # Errors
    /// Fails if the API does not take the devices.
    pub(crate) async fn enrol(&self, count: usize) -> anyhow::Result<Vec<Login>> {
        if self.foreign {
            let (user, password) = (self.user.clone(), self.password.clone());
            let login = |client_id| Login { client_id, user: user.clone(), password: password.clone() };
            return Ok((0..count).map(device).map(login).collect());
        }
        let api = Api::new(self)?;
        api.put_application().await?;
        let logins = (0..count).map(|number| Ok(login(number, new_token()?)));
        let logins = logins.collect::<anyhow::Result<Vec<_>>>()?;
        let progress = progress::count("making devices", count);
        for batch in logins.chunks(BATCH) {
            api.put_devices(batch).await?;
            progress.inc(batch.len() as u64);
        }
        progress.finish_and_clear();
        Ok(logins)
    }

    /// Returns the `authorization` of the operator.
    ///
    /// # Errors
    /// Fails if there is no token.
    pub(crate) fn authorization(&self) -> anyhow::Result<String> {
        let file = self.data_dir.join(TOKEN_FILE);
        let token = match &self.token {
            Some(token) => token.clone(),
            None => std::fs::read_to_string(&file).with_context(|| {
                format!(
                    "no token of the operator in {}; say --data-dir, --token or --foreign",
                    file.display()
                )
            })?,
        };
        Ok(format!("Bearer {}", token.trim()))
    }
}

/// Names a device.
fn device(number: usize) -> String {
    format!("load-{number}")
}

fn login(number: usize, token: String) -> Login {
    let client_id = device(number);
    Login { user: Some(format!("{client_id}@{APPLICATION}")), client_id, password: Some(token) }
}

/// Tells whether a line of a bulk answer says that the device was written.
fn is_success(line: &str) -> bool {
    let answer: Option<serde_json::Value> = serde_json::from_str(line).ok();
    answer.and_then(|answer| answer.get("status")?.as_u64()).is_some_and(|status| status / 100 == 2)
}

/// Makes a token as the server would: 256 bits from the system's generator.
///
/// # Errors
/// Fails if the system gives no random numbers.
pub(crate) fn new_token() -> anyhow::Result<String> {
    let mut bytes = [0; 32];
    SystemRandom::new().fill(&mut bytes).ok().context("the system gives no random numbers")?;
    Ok(format!("drogue_{}", URL_SAFE_NO_PAD.encode(bytes)))
}

/// The server's API.
struct Api {
    client: reqwest::Client,
    base: String,
    authorization: String,
}

impl Api {
    fn new(options: &FleetOptions) -> anyhow::Result<Self> {
        let client = reqwest::Client::builder().timeout(PATIENCE).build()?;
        let base = format!("http://{}/v1/apps/{APPLICATION}", options.api);
        Ok(Self { client, base, authorization: options.authorization()? })
    }

    async fn put_application(&self) -> anyhow::Result<()> {
        let request = self.client.put(&self.base).json(&json!({}));
        self.send(request).await?;
        Ok(())
    }

    async fn put_devices(&self, logins: &[Login]) -> anyhow::Result<()> {
        let lines: String = logins
            .iter()
            .map(|login| {
                let credentials = json!([{ "token": login.password }]);
                format!("{}\n", json!({ "name": login.client_id, "credentials": credentials }))
            })
            .collect();
        let request = self.client.post(format!("{}/devices", self.base));
        let request = request.header("content-type", "application/x-ndjson").body(lines);
        let answer = self.send(request).await?;
        match answer.lines().find(|line| !is_success(line)) {
            None => Ok(()),
            Some(line) => bail!("the API refused a device: {line}"),
        }
    }

    async fn send(&self, request: reqwest::RequestBuilder) -> anyhow::Result<String> {
        let response = request.header("authorization", &self.authorization).send().await?;
        let (status, url) = (response.status(), response.url().to_string());
        let body = response.text().await?;
        if !status.is_success() {
            bail!("{url} answered {status}: {body}");
        }
        Ok(body)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_have_the_form_of_the_server() {
        let (one, other) = (new_token().unwrap(), new_token().unwrap());
        assert_ne!(one, other);
        assert_eq!(one.len(), "drogue_".len() + 43);
    }

    #[test]
    fn a_device_that_was_refused_is_noticed() {
        assert!(is_success(r#"{"line":1,"name":"load-1","status":201}"#));
        for bad in [r#"{"line":1,"name":"load-1","status":409}"#, r#"{"line":1}"#, "refused"] {
            assert!(!is_success(bad), "{bad}");
        }
    }

    #[test]
    fn a_foreign_server_needs_no_devices() {
        let logins = crate::drive::run(FleetOptions::foreign().enrol(2)).unwrap();
        assert_eq!(logins[1].client_id, "load-1");
        assert_eq!(logins[1].user, None);
    }
}
