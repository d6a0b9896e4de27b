//! A server, and a client that speaks to it.

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use common::auth::Secret;
use common::channel::{Channel, EventSink, EventSource};
use common::event::{COMMAND_TYPE, Event};
use common::net::Listeners;
use common::registry::{PasswordCost, Registry, RegistrySettings, Scope, sqlite_url};
use common::service::{Clock, Limits, Shutdown};
use common::testing::{MemoryChannel, PATIENCE, eventually};
use common::web::WebError;
use reqwest::header::HeaderMap;
use reqwest::{Client, Method, RequestBuilder, Response};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

use crate::{Backends, Config, Tracker, run};

/// The operator's token.
pub(crate) const OPERATOR: &str = "the operator's token, for tests only";

/// A server with the applications `app` and `other`, each with a device `d`.
pub(crate) struct Fixture {
    pub(crate) backends: Backends,
    config: Config,
    address: SocketAddr,
    client: Client,
    shutdown: Shutdown,
    server: JoinHandle<Result<(), WebError>>,
    _dir: tempfile::TempDir,
}

/// What the server answered.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    /// Checks that the answer is a problem, and returns its detail.
    pub(crate) fn problem(&self, status: u16) -> String {
        let problem: Value = serde_json::from_slice(&self.body).unwrap_or_default();
        assert_eq!(self.status, status, "{self:?}");
        assert_eq!(self.headers["content-type"], "application/problem+json", "{self:?}");
        assert_eq!(problem["status"], status);
        problem["detail"].as_str().unwrap().to_owned()
    }
}

impl Fixture {
    /// Starts a server over a channel in memory.
    pub(crate) async fn start(channel: &MemoryChannel) -> Self {
        Self::start_with(channel, Config::default(), Limits::default()).await
    }

    /// Starts a server over a channel.
    pub(crate) async fn start_with<C>(channel: &C, config: Config, limits: Limits) -> Self
    where
        C: EventSink + EventSource + Clone + 'static,
    {
        let dir = tempfile::tempdir().unwrap();
        let options = RegistrySettings {
            admin_token: Some(Secret::new(OPERATOR)),
            password_cost: PasswordCost { memory: 8, passes: 1, lanes: 1 },
            ..RegistrySettings::default()
        };
        let url = sqlite_url(&dir.path().join("registry.sqlite"));
        let registry = Registry::open(&url, options).await.unwrap();
        for application in ["app", "other"] {
            let application = application.parse().unwrap();
            registry.put_application(&application, Default::default()).await.unwrap();
            let device = common::id::DeviceKey::new(&application, &"d".parse().unwrap());
            registry.put_device(&device, Default::default()).await.unwrap();
        }
        let (sink, settings) = (Arc::new(channel.clone()), config.tracker(&limits, None));
        let started = Tracker::start(sink, channel, &registry, settings, Clock::system()).await;
        let (tracker, tracking) = started.unwrap();
        tokio::spawn(tracking.run(Shutdown::new()));
        let watched = tracker.clone();
        eventually("the trackers have caught up", || watched.is_live()).await;
        let backends = Backends {
            sink: Arc::new(channel.clone()),
            source: Arc::new(channel.clone()),
            registry,
            identities: None,
            tracker: Some(tracker),
            clock: Clock::system(),
            limits,
        };
        let (address, shutdown, server) = serve(&config, &backends);
        // The client has TLS built in without a provider for it. Fails only if there is one already.
        drop(rustls::crypto::ring::default_provider().install_default());
        let client = Client::builder().no_proxy().build().unwrap();
        Self { backends, config, address, client, shutdown, server, _dir: dir }
    }

    /// Shuts the server down, and starts another one over the same channel and registry.
    pub(crate) async fn restart(&mut self) {
        self.stop().await;
        (self.address, self.shutdown, self.server) = serve(&self.config, &self.backends);
    }

    /// Shuts the server down.
    pub(crate) async fn stop(&mut self) {
        self.shutdown.cancel();
        let ended = tokio::time::timeout(PATIENCE, &mut self.server).await;
        ended.expect("the server ends").unwrap().unwrap();
    }

    /// Makes a token of an application.
    pub(crate) async fn token(&self, application: &str, scopes: &[Scope]) -> String {
        let application = application.parse().unwrap();
        let scopes = scopes.iter().copied().collect();
        let made = self.backends.registry.create_token(&application, scopes, String::new()).await;
        made.unwrap().1.expose().to_owned()
    }

    /// Begins a request with a token; an empty one is none.
    pub(crate) fn request(&self, method: Method, path: &str, token: &str) -> RequestBuilder {
        let request = self.client.request(method, format!("http://{}{path}", self.address)).timeout(PATIENCE);
        if token.is_empty() { request } else { request.bearer_auth(token) }
    }

    /// Opens a response whose body has no end.
    pub(crate) async fn open(&self, path: &str, token: &str, position: Option<&str>) -> Response {
        let url = format!("http://{}{path}", self.address);
        let mut request = self.client.get(url).bearer_auth(token);
        if let Some(position) = position {
            request = request.header("last-event-id", position);
        }
        request.send().await.unwrap()
    }

    pub(crate) async fn get(&self, path: &str, token: &str) -> Answer {
        answer(self.request(Method::GET, path, token)).await
    }

    pub(crate) async fn delete(&self, path: &str, token: &str) -> Answer {
        answer(self.request(Method::DELETE, path, token)).await
    }

    pub(crate) async fn put(&self, path: &str, token: &str, body: &str) -> Answer {
        answer(self.request(Method::PUT, path, token).body(body.to_owned())).await
    }

    pub(crate) async fn post(&self, path: &str, token: &str, body: &str) -> Answer {
        answer(self.request(Method::POST, path, token).body(body.to_owned())).await
    }

    /// Sends a request whose target no client would send, and returns status and body.
    pub(crate) async fn raw(&self, method: &str, target: &str, token: &str) -> (u16, String) {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        let request = format!(
            "{method} {target} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {token}\r\n\
             content-length: 0\r\nconnection: close\r\n\r\n"
        );
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut text = String::new();
        tokio::time::timeout(PATIENCE, stream.read_to_string(&mut text)).await.unwrap().unwrap();
        let status = text.split(' ').nth(1).unwrap().parse().unwrap();
        (status, text)
    }
}

fn serve(config: &Config, backends: &Backends) -> (SocketAddr, Shutdown, JoinHandle<Result<(), WebError>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let address = listener.local_addr().unwrap();
    let listeners = Listeners { plain: Some(listener), tls: None };
    let config = Config { grace: Duration::from_secs(20), ..config.clone() };
    let shutdown = Shutdown::new();
    let server = tokio::spawn(run(config, listeners, backends.clone(), shutdown.clone()));
    (address, shutdown, server)
}

/// Returns the commands in a channel, without what else is there.
pub(crate) fn commands(channel: &MemoryChannel) -> Vec<Event> {
    channel.events(Channel::Commands).into_iter().filter(|event| event.kind == COMMAND_TYPE).collect()
}

/// Sends a request and reads the whole answer.
pub(crate) async fn answer(request: RequestBuilder) -> Answer {
    let response = request.send().await.unwrap();
    let (status, headers) = (response.status().as_u16(), response.headers().clone());
    Answer { status, headers, body: response.bytes().await.unwrap() }
}

/// Returns a body that no route refuses for its shape.
pub(crate) fn any_body(path: &str) -> String {
    if path.ends_with("/tokens") { json!({ "scopes": ["registry"] }).to_string() } else { "{}".to_owned() }
}
