//! Devices and applications that keep at it, whatever breaks, and note what they do and see in a [`History`].

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use reqwest::Client as HttpClient;
use serde_json::json;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::api::http_client;
use crate::cloud::Gate;
use crate::events::{EventStream, Query};
use crate::history::{Answer, History, Millis, Operation, now};
use crate::mqtt::{Client, Version};
use crate::secrets::payload;
use crate::tenant::{Device, Tenant};

/// How long a subscribed device is silent, at the longest.
const SILENCE: Duration = Duration::from_secs(40);
/// How long an actor waits before it tries again.
const PAUSE: Duration = Duration::from_millis(50);
/// What the subject of a waiting request begins with; the number of the wait follows.
const WAIT: &str = "wait-";

/// A protocol by which a device waits for commands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// A subscription.
    Mqtt(Version),
    /// One request after the other, each with a `ttd`.
    Http,
}

/// The devices of a run, and what all its actors share.
#[derive(Debug)]
pub struct Stage {
    tenant: Tenant,
    devices: Vec<(Device, Protocol)>,
    /// How long a device waits over HTTP.
    ttd: Duration,
    history: History,
    ready: Ready,
    stop: CancellationToken,
    commands: AtomicU64,
    waits: AtomicU64,
    http: HttpClient,
}

/// The devices that are known to wait for a command.
#[derive(Debug, Default)]
struct Ready(Mutex<Vec<usize>>);

impl Ready {
    fn lock(&self) -> MutexGuard<'_, Vec<usize>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn add(&self, device: usize) {
        self.lock().push(device);
    }

    fn take_any(&self) -> Option<usize> {
        let mut ready = self.lock();
        let count = ready.len();
        (count > 0).then(|| ready.swap_remove(fastrand::usize(..count)))
    }
}

impl Stage {
    /// Registers devices, `each` for every protocol. Over HTTP they wait `ttd` for a command.
    ///
    /// # Panics
    /// Panics if the API refuses.
    pub async fn set(tenant: &Tenant, each: usize, ttd: Duration) -> Arc<Self> {
        let protocols =
            [Protocol::Mqtt(Version::V5), Protocol::Mqtt(Version::V311), Protocol::Http, Protocol::Http];
        let devices: Vec<_> =
            (0..2 * each).map(|number| (tenant.stranger(), protocols[number % protocols.len()])).collect();
        for some in devices.chunks(500) {
            let line = |(device, _): &(Device, Protocol)| {
                json!({"name": device.name, "credentials": [{"token": device.secret}]}).to_string()
            };
            let lines: Vec<_> = some.iter().map(line).collect();
            let path = format!("apps/{}/devices", tenant.app);
            let answer = tenant.api.post(&path, "application/x-ndjson", lines.join("\n")).await;
            answer.expect_status(200);
        }
        let http = HttpClient::builder().no_proxy().build().expect("an HTTP client");
        Arc::new(Self {
            tenant: tenant.clone(),
            devices,
            ttd,
            history: History::default(),
            ready: Ready::default(),
            stop: CancellationToken::new(),
            commands: AtomicU64::new(0),
            waits: AtomicU64::new(1),
            http,
        })
    }

    /// Returns what was done and seen so far.
    pub fn history(&self) -> &History {
        &self.history
    }

    /// Returns how many devices there are.
    pub fn devices(&self) -> usize {
        self.devices.len()
    }

    /// Ends all actors of the stage.
    pub fn stop(&self) {
        self.stop.cancel();
    }

    /// Starts all devices, and an application that follows their waits.
    pub fn start(self: &Arc<Self>) -> JoinSet<()> {
        let mut actors = JoinSet::new();
        for (number, (device, protocol)) in self.devices.iter().enumerate() {
            let (stage, device, protocol) = (self.clone(), device.clone(), *protocol);
            actors.spawn(async move {
                let play = async {
                    match protocol {
                        Protocol::Mqtt(version) => stage.subscribe(number, &device, version).await,
                        Protocol::Http => stage.wait(number, &device).await,
                    }
                };
                stage.stop.run_until_cancelled(play).await;
            });
        }
        let stage = self.clone();
        actors.spawn(async move {
            stage.stop.run_until_cancelled(stage.follow()).await;
        });
        actors
    }

    fn gate(&self, number: u64) -> Gate {
        let gates = self.tenant.cloud.gates();
        gates[number as usize % gates.len()]
    }

    /// Plays a device that subscribes, each time at the next gate.
    async fn subscribe(&self, number: usize, device: &Device, version: Version) {
        for connection in number as u64.. {
            let gate = self.gate(connection);
            let session = Client::connect(gate.mqtt, version, device).await;
            if let Ok(mut client) = session
                && client.subscribe(&[("cmd/#", 1)]).await == Ok(vec![1])
            {
                let name = device.name.clone();
                self.history.note(Operation::Connected { device: name.clone(), connection, at: now() });
                self.ready.add(number);
                self.receive(device, connection, &mut client).await;
                self.history.note(Operation::Disconnected { device: name, connection, at: now() });
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    async fn receive(&self, device: &Device, connection: u64, client: &mut Client) {
        loop {
            let Ok(message) = tokio::time::timeout(SILENCE, client.message()).await else {
                client.ping().await;
                continue;
            };
            let Some(message) = message else { return };
            let command = message.topic.split('/').nth(1).unwrap_or_default().to_owned();
            self.history.note(Operation::Received {
                device: device.name.clone(),
                connection,
                command,
                at: now(),
            });
        }
    }

    /// Plays a device that waits over HTTP, each time at the next gate.
    async fn wait(&self, number: usize, device: &Device) {
        for round in number as u64.. {
            let connection = self.waits.fetch_add(1, Ordering::Relaxed);
            let (subject, at) = (format!("{WAIT}{connection}"), self.gate(round).http);
            let url = format!("http://{at}/v1/{subject}?ttd={}", self.ttd.as_secs());
            let request =
                http_client().post(url).basic_auth(device.user(), Some(&device.secret)).body(payload());
            let answer = request.send().await.ok();
            let name = device.name.clone();
            if let Some(answer) = answer.filter(|answer| answer.status() == 202) {
                self.history.note(Operation::Accepted { device: name.clone(), subject });
                if let Some(command) = answer.headers().get("command") {
                    let command = command.to_str().unwrap_or_default().to_owned();
                    self.history.note(Operation::Received {
                        device: name.clone(),
                        connection,
                        command,
                        at: now(),
                    });
                }
            } else {
                tokio::time::sleep(PAUSE).await;
            }
            self.history.note(Operation::Disconnected { device: name, connection, at: now() });
        }
    }

    /// Plays the application that sees which devices wait, from the stream of events: resumed whenever it ends.
    async fn follow(&self) {
        let numbers: std::collections::HashMap<_, _> = self
            .devices
            .iter()
            .enumerate()
            .map(|(number, (device, _))| (device.name.as_str(), number))
            .collect();
        // Waits that began before the stream did are told of, too.
        let mut query = Query::telemetry().from_earliest();
        loop {
            let (api, app) = (&self.tenant.api, &self.tenant.app);
            if let Some(mut stream) = EventStream::try_open(api, app, &query).await {
                while let Some(event) = stream.try_next().await {
                    query = Query::telemetry().after(&event.position);
                    let wait =
                        event.attribute("subject").strip_prefix(WAIT).and_then(|wait| wait.parse().ok());
                    let device = event.attribute("device");
                    if let (Some(connection), Some(number)) = (wait, numbers.get(device)) {
                        let device = device.to_owned();
                        self.history.note(Operation::Connected { device, connection, at: now() });
                        self.ready.add(*number);
                    }
                }
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// Sends one command to a device, and notes what became of the request. One that is not kept must have a lifetime
    /// of `ttl` by itself.
    async fn command(&self, number: usize, ttl: Duration, kept: bool) -> Answer {
        let device = &self.devices[number].0;
        let command = format!("c{}", self.commands.fetch_add(1, Ordering::Relaxed));
        let query = if kept { format!("?ttl={}s", ttl.as_secs()) } else { String::new() };
        let path = format!("{}/commands/{command}{query}", self.tenant.path(device));
        let url = format!("http://{}/v1/{path}", self.tenant.api.address());
        let at = now();
        let request = self.http.post(url).bearer_auth(self.tenant.api.token()).body(payload());
        let answer = match request.send().await {
            Ok(answer) if answer.status() == 202 => Answer::Accepted,
            Ok(_) | Err(_) => Answer::Doubtful,
        };
        let expires = now() + ttl.as_millis() as Millis;
        let device = device.name.clone();
        self.history.note(Operation::Sent { device, command, kept, at, expires, answer });
        answer
    }

    /// Sends `count` commands to random devices that are known to wait.
    ///
    /// # Panics
    /// Panics if one is refused.
    pub async fn send_to_waiting(self: &Arc<Self>, count: usize, ttl: Duration) {
        let left = Arc::new(AtomicU64::new(count as u64));
        let mut senders = JoinSet::new();
        for _ in 0..16 {
            let (stage, left) = (self.clone(), left.clone());
            senders.spawn(async move {
                let take = |left: u64| left.checked_sub(1);
                while left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).is_ok() {
                    let number = stage.any_ready().await;
                    assert_eq!(stage.command(number, ttl, true).await, Answer::Accepted);
                    if stage.devices[number].1 != Protocol::Http {
                        stage.ready.add(number);
                    }
                }
            });
        }
        while let Some(sender) = senders.join_next().await {
            sender.expect("no command is refused");
        }
    }

    async fn any_ready(&self) -> usize {
        crate::wait::eventually("a device waits", || async { self.ready.take_any() }).await
    }

    /// Sends commands to random devices, whether they are there or not, until `stop` is cancelled: half of them are kept.
    /// Each device has its sender, so that its commands have an order.
    pub fn send_at_random(self: &Arc<Self>, ttl: Duration, stop: &CancellationToken) -> JoinSet<()> {
        const SENDERS: usize = 8;
        let mut senders = JoinSet::new();
        for sender in 0..SENDERS.min(self.devices()) {
            let (stage, stop) = (self.clone(), stop.clone());
            senders.spawn(async move {
                let mine: Vec<_> = (sender..stage.devices()).step_by(SENDERS).collect();
                while !stop.is_cancelled() {
                    let device = mine[fastrand::usize(..mine.len())];
                    stage.command(device, ttl, fastrand::bool()).await;
                    tokio::time::sleep(Duration::from_millis(fastrand::u64(5..40))).await;
                }
            });
        }
        senders
    }

    /// Returns how many connections the devices have been told of.
    pub fn connected(&self) -> usize {
        self.history.count(|operation| matches!(operation, Operation::Connected { .. }))
    }

    /// Returns how many commands were accepted.
    pub fn accepted(&self) -> usize {
        self.history.count(|operation| matches!(operation, Operation::Sent { answer: Answer::Accepted, .. }))
    }

    /// Returns how many commands the devices have received.
    pub fn received(&self) -> usize {
        self.history.count(|operation| matches!(operation, Operation::Received { .. }))
    }
}
