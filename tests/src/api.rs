//! The API, as an application or the operator uses it.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use reqwest::header::HeaderMap;
use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};

use crate::wait::within;

/// A client of the API with a token. Of several servers each request asks the next.
#[derive(Debug, Clone)]
pub struct Api {
    addresses: Arc<[SocketAddr]>,
    next: Arc<AtomicUsize>,
    token: String,
    client: reqwest::Client,
}

/// An answer of the API.
#[derive(Debug, Clone)]
pub struct Answer {
    /// The status code.
    pub status: u16,
    /// The media type of the body, without parameters.
    pub content_type: String,
    /// All headers.
    pub headers: HeaderMap,
    /// The body.
    pub body: Bytes,
}

impl Answer {
    /// Checks that this is a problem (RFC 9457) of a status.
    ///
    /// # Panics
    /// Panics if it is not.
    #[track_caller]
    pub fn expect_problem(&self, status: u16) {
        assert_eq!(self.status, status, "{}", String::from_utf8_lossy(&self.body));
        assert_eq!(self.content_type, "application/problem+json");
        assert_eq!(self.json()["status"], status);
    }

    /// Checks the status.
    ///
    /// # Panics
    /// Panics with the body if it is another one.
    #[track_caller]
    pub fn expect_status(&self, status: u16) -> &Self {
        assert_eq!(self.status, status, "{}", String::from_utf8_lossy(&self.body));
        self
    }

    /// Returns a header.
    ///
    /// # Panics
    /// Panics if it is not there, or is no ASCII.
    #[track_caller]
    pub fn header(&self, name: &str) -> &str {
        let header = self.headers.get(name).unwrap_or_else(|| panic!("there is no header {name}"));
        header.to_str().expect("it is ASCII")
    }

    /// Parses the body.
    ///
    /// # Panics
    /// Panics if it is no JSON.
    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).expect("the body is JSON")
    }
}

impl Api {
    /// Makes a client with a token.
    pub fn new(address: SocketAddr, token: impl Into<String>) -> Self {
        Self::over(&[address], token)
    }

    /// Makes a client of several servers, with a token.
    pub fn over(addresses: &[SocketAddr], token: impl Into<String>) -> Self {
        Self { addresses: addresses.into(), next: Arc::default(), token: token.into(), client: http_client() }
    }

    /// Returns this client with another token.
    #[must_use]
    pub fn with_token(&self, token: impl Into<String>) -> Self {
        Self { token: token.into(), ..self.clone() }
    }

    /// Makes a token of an application and returns this client with it.
    ///
    /// # Panics
    /// Panics if the API refuses.
    pub async fn with_token_for(&self, app: &str, scopes: &[&str]) -> Self {
        let body = json!({"scopes": scopes});
        let answer = self.post(&format!("apps/{app}/tokens"), "application/json", body.to_string()).await;
        let token = answer.expect_status(201).json()["token"].as_str().map(str::to_owned);
        self.with_token(token.expect("a new token is shown once"))
    }

    /// Returns the address of the next request.
    pub fn address(&self) -> SocketAddr {
        self.addresses[self.next.fetch_add(1, Ordering::Relaxed) % self.addresses.len()]
    }

    /// Returns the token.
    pub fn token(&self) -> &str {
        &self.token
    }

    /// Begins a request; `path` is that behind `/v1/`.
    pub fn request(&self, method: Method, path: &str) -> RequestBuilder {
        let url = format!("http://{}/v1/{path}", self.address());
        self.client.request(method, url).bearer_auth(&self.token)
    }

    /// GETs a path.
    pub async fn get(&self, path: &str) -> Answer {
        send(self.request(Method::GET, path)).await
    }

    /// PUTs JSON.
    pub async fn put(&self, path: &str, body: &Value) -> Answer {
        send(
            self.request(Method::PUT, path).header("content-type", "application/json").body(body.to_string()),
        )
        .await
    }

    /// DELETEs a path.
    pub async fn delete(&self, path: &str) -> Answer {
        send(self.request(Method::DELETE, path)).await
    }

    /// POSTs a body.
    pub async fn post(&self, path: &str, content_type: &str, body: impl Into<reqwest::Body>) -> Answer {
        send(self.request(Method::POST, path).header("content-type", content_type).body(body)).await
    }
}

/// Returns the HTTP client of this process. Each request has a connection of its own: a kept one would end with the
/// runtime of the test that made it, and dropping a request must close its connection.
///
/// # Panics
/// Panics if the machine cannot make one.
pub fn http_client() -> reqwest::Client {
    static CLIENT: OnceLock<reqwest::Client> = OnceLock::new();
    let make = || {
        // Whoever is first installs it for the process; that another one was is no failure.
        drop(tokio_rustls::rustls::crypto::ring::default_provider().install_default());
        let builder = reqwest::Client::builder().no_proxy().pool_max_idle_per_host(0);
        builder.build().expect("an HTTP client")
    };
    CLIENT.get_or_init(make).clone()
}

/// Sends a request and reads its answer.
///
/// # Panics
/// Panics if there is no whole answer in time.
pub async fn send(request: RequestBuilder) -> Answer {
    within("an answer of the API", async {
        let response = request.send().await.expect("the API answers");
        let status = response.status().as_u16();
        let content_type = response.headers().get("content-type").and_then(|value| value.to_str().ok());
        let content_type =
            content_type.and_then(|value| value.split(';').next()).unwrap_or_default().to_owned();
        let headers = response.headers().clone();
        Answer { status, content_type, headers, body: response.bytes().await.expect("the answer is whole") }
    })
    .await
}
