//! The endpoints as separate processes, several of each kind, on the same channels and one registry.

use std::fs::{self, File};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::api::{Api, http_client};
use crate::binary;
use crate::cloud::{Addresses, Cloud, Gate};
use crate::daemon::Daemon;
use crate::kafka::Topics;
use crate::postgres::Database;
use crate::process::Signal;
use crate::secrets;
use crate::wait::eventually;
use crate::{kafka, ports};

/// A kind of endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// `http-endpoint`.
    Http,
    /// `mqtt-endpoint`.
    Mqtt,
    /// `command-endpoint`.
    Command,
}

impl Kind {
    /// Returns the program's name.
    pub fn program(self) -> &'static str {
        match self {
            Self::Http => "http-endpoint",
            Self::Mqtt => "mqtt-endpoint",
            Self::Command => "command-endpoint",
        }
    }
}

/// How many there are of each kind.
#[derive(Debug, Clone, Copy)]
pub struct Shape {
    /// `http-endpoint`.
    pub http: usize,
    /// `mqtt-endpoint`.
    pub mqtt: usize,
    /// `command-endpoint`.
    pub command: usize,
}

/// Returns two of each kind on the Kafka that the environment names, which all tests of this process share. Their
/// registry is in PostgreSQL if it names such a server, and else in SQLite.
///
/// Says visibly that `test` is skipped if it names no Kafka.
///
/// # Panics
/// Panics if the fleet does not start.
pub fn shared(test: &str) -> Option<&'static Fleet> {
    static SHARED: OnceLock<Option<Fleet>> = OnceLock::new();
    let servers = kafka::given(test)?;
    share(&SHARED, || async {
        let database = Database::create("a registry in PostgreSQL for separate processes").await;
        let shape = Shape { http: 2, mqtt: 2, command: 2 };
        Some(Fleet::start_on(database, Topics::new(servers), shape, &[]).await)
    })
}

/// Returns a fleet that all tests of this process share; the first that asks starts it, if it can be had.
///
/// # Panics
/// Panics if the fleet does not start.
pub fn share<G: Send + Sync, F: Future<Output = Option<Fleet<G>>>>(
    shared: &'static OnceLock<Option<Fleet<G>>>,
    start: impl FnOnce() -> F + Send,
) -> Option<&'static Fleet<G>> {
    let start = || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.expect("a runtime starts").block_on(start())
    };
    // On a thread of its own, because a test's runtime cannot be blocked on from within.
    let on_a_thread = || std::thread::scope(|scope| scope.spawn(start).join());
    shared.get_or_init(|| on_a_thread().expect("the shared fleet starts")).as_ref()
}

/// What has the channels of a fleet.
pub trait Ground {
    /// Returns the options by which the process of a kind with a number of its own finds the channels.
    fn options(&self, kind: Kind, number: usize) -> Vec<String>;

    /// Returns further variables for all processes.
    fn environment(&self) -> Vec<(String, String)> {
        Vec::new()
    }
}

impl Ground for Topics {
    fn options(&self, _kind: Kind, _number: usize) -> Vec<String> {
        vec![
            format!("--kafka-bootstrap-servers={}", self.servers()),
            format!("--kafka-topic-prefix={}", self.prefix()),
        ]
    }
}

/// Endpoints as separate processes. They are killed when this is dropped.
#[derive(Debug)]
pub struct Fleet<G = Topics> {
    // Dropped before the channels and the database are deleted.
    parts: Vec<Part>,
    cloud: Cloud,
    ground: G,
    _database: Option<Database>,
}

/// One process, which comes back in the same place when it is started again.
#[derive(Debug)]
pub struct Part {
    kind: Kind,
    directory: PathBuf,
    arguments: Vec<String>,
    environment: Vec<(String, String)>,
    token: String,
    address: SocketAddr,
    admin: SocketAddr,
    daemon: Option<Daemon>,
    starts: u32,
}

impl Fleet {
    /// Returns its topics.
    pub fn topics(&self) -> &Topics {
        &self.ground
    }
}

impl<G: Ground> Fleet<G> {
    /// Starts all processes, with further options, and waits until each is ready. Their registry is a SQLite file.
    ///
    /// # Panics
    /// Panics with the log of one that does not become ready.
    pub async fn start(ground: G, shape: Shape, options: &[&str]) -> Self {
        Self::start_on(None, ground, shape, options).await
    }

    async fn start_on(database: Option<Database>, ground: G, shape: Shape, options: &[&str]) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let directory = binary::run_directory().join(format!("fleet-{number}"));
        fs::create_dir_all(&directory).expect("the target directory can be written");
        let token = secrets::token();
        let file = format!("sqlite://{}", directory.join("registry.sqlite").display());
        let registry = format!("--database-url={}", database.as_ref().map_or(file, Database::url));
        let arguments: Vec<_> =
            [registry].into_iter().chain(options.iter().map(ToString::to_string)).collect();
        let kinds = [(Kind::Command, shape.command), (Kind::Http, shape.http), (Kind::Mqtt, shape.mqtt)];
        let kinds = kinds.into_iter().flat_map(|(kind, count)| (0..count).map(move |number| (kind, number)));
        let part = |(kind, number)| {
            let arguments = [&arguments[..], &ground.options(kind, number)].concat();
            Part::new(kind, number, &directory, &arguments, ground.environment(), &token)
        };
        let mut parts: Vec<_> = kinds.map(part).collect();
        parts.iter_mut().for_each(Part::launch);
        for part in &mut parts {
            part.wait_until_ready().await;
        }
        let cloud = cloud_of(&parts, &token);
        Self { parts, cloud, ground, _database: database }
    }

    /// Returns the running cloud.
    pub fn cloud(&self) -> &Cloud {
        &self.cloud
    }

    /// Returns what has its channels.
    pub fn ground(&self) -> &G {
        &self.ground
    }

    /// Returns the processes of a kind.
    pub fn of(&mut self, kind: Kind) -> Vec<&mut Part> {
        self.parts.iter_mut().filter(|part| part.kind == kind).collect()
    }

    /// Returns all processes.
    pub fn parts(&mut self) -> &mut [Part] {
        &mut self.parts
    }

    /// Waits until all are ready, or none is.
    ///
    /// # Panics
    /// Panics if that does not come to be.
    pub async fn wait_until_ready(&self, ready: bool) {
        for part in &self.parts {
            let what = format!("{} is ready: {ready}", part.kind.program());
            eventually(&what, || async { (part.is_ready().await == ready).then_some(()) }).await;
        }
    }

    /// Sums a metric over all processes; see [`Part::metric`].
    pub async fn metric(&self, name: &str) -> f64 {
        let mut sum = 0.0;
        for part in &self.parts {
            sum += part.metric(name).await;
        }
        sum
    }
}

fn cloud_of(parts: &[Part], token: &str) -> Cloud {
    let of = |kind| parts.iter().filter(move |part| part.kind == kind).map(|part| part.address);
    let off = SocketAddr::from(([127, 0, 0, 1], 0));
    let (http, mqtt): (Vec<_>, Vec<_>) = (of(Kind::Http).collect(), of(Kind::Mqtt).collect());
    let api: Vec<_> = of(Kind::Command).collect();
    let at = |all: &[SocketAddr], number: usize| all.get(number % all.len().max(1)).copied().unwrap_or(off);
    let gates = (0..http.len().max(mqtt.len()))
        .map(|number| Gate { http: at(&http, number), mqtt: at(&mqtt, number) });
    let addresses = Addresses {
        http: at(&http, 0),
        https: off,
        mqtt: at(&mqtt, 0),
        mqtts: off,
        api: at(&api, 0),
        api_tls: off,
        admin: parts.first().map_or(off, |part| part.admin),
        ca: PathBuf::new(),
    };
    Cloud::new(addresses, Api::over(&api, token), gates.collect())
}

impl Part {
    fn new(
        kind: Kind,
        number: usize,
        directory: &Path,
        arguments: &[String],
        environment: Vec<(String, String)>,
        token: &str,
    ) -> Self {
        let directory = directory.join(format!("{}-{number}", kind.program()));
        fs::create_dir_all(&directory).expect("the target directory can be written");
        let (address, admin) = (ports::free(), ports::free());
        let own =
            [format!("--listen={address}"), "--tls-listen=off".to_owned(), format!("--admin-listen={admin}")];
        let mut arguments = [&own, arguments].concat();
        if !arguments.iter().any(|argument| argument.starts_with("--log")) {
            arguments.push("--log=trace".to_owned());
        }
        let token = token.to_owned();
        Self { kind, directory, arguments, environment, token, address, admin, daemon: None, starts: 0 }
    }

    fn launch(&mut self) {
        let log = File::create(self.log_file(self.starts)).expect("the directory can be written");
        let mut command = Command::new(binary::endpoint(self.kind.program()));
        let environment = self.environment.iter().map(|(name, value)| (name, value));
        command.args(&self.arguments).envs(environment).env("DROGUE_ADMIN_TOKEN", &self.token);
        if self.kind != Kind::Command {
            command.env_remove("DROGUE_ADMIN_TOKEN");
        }
        self.daemon = Some(Daemon::spawn(command.stderr(log)));
        self.starts += 1;
    }

    async fn wait_until_ready(&mut self) {
        let program = self.kind.program();
        eventually(&format!("{program} is ready"), || {
            let ended = self.daemon.as_mut().and_then(Daemon::status);
            assert!(ended.is_none(), "{program} has ended: {}", self.log());
            let ready = self.is_ready();
            async move { ready.await.then_some(()) }
        })
        .await;
    }

    /// Starts it again, killing it if it still runs, and waits until it is ready.
    ///
    /// # Panics
    /// Panics with its log if it does not become ready.
    pub async fn restart(&mut self) {
        self.kill();
        self.launch();
        self.wait_until_ready().await;
    }

    /// Starts it again, and lets it become ready or end.
    ///
    /// # Panics
    /// Panics if it cannot be started.
    pub fn relaunch(&mut self) {
        self.kill();
        self.launch();
    }

    /// Waits until it has ended by itself, and tells whether that was without an error.
    ///
    /// # Panics
    /// Panics if it does not end.
    pub async fn ended(&mut self) -> bool {
        let daemon = self.daemon.as_mut().expect("it was started");
        daemon.ended().await.success()
    }

    /// Ends it at once, as a crash does.
    pub fn kill(&mut self) {
        self.daemon = None;
    }

    /// Sends it a signal.
    ///
    /// # Panics
    /// Panics if it does not run.
    pub fn signal(&self, signal: Signal) {
        self.daemon.as_ref().expect("it runs").signal(signal);
    }

    /// Returns where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Returns the process id.
    ///
    /// # Panics
    /// Panics if it does not run.
    pub fn pid(&self) -> u32 {
        self.daemon.as_ref().expect("it runs").pid()
    }

    /// Tells whether it says that it is ready.
    pub fn is_ready(&self) -> impl Future<Output = bool> + use<> {
        let answer = http_client().get(format!("http://{}/readyz", self.admin)).send();
        async { answer.await.is_ok_and(|answer| answer.status().is_success()) }
    }

    /// Reads a metric, summed over its labels. One that is not there, or of a process that does not run, is 0.
    pub async fn metric(&self, name: &str) -> f64 {
        let answer = http_client().get(format!("http://{}/metrics", self.admin)).send().await;
        let Ok(answer) = answer else { return 0.0 };
        crate::cloud::sum_of(&answer.text().await.unwrap_or_default(), name, &[])
    }

    /// Returns what all its starts have logged.
    pub fn log(&self) -> String {
        let logs = (0..self.starts).map(|start| fs::read(self.log_file(start)).unwrap_or_default());
        logs.map(|log| String::from_utf8_lossy(&log).into_owned()).collect()
    }

    fn log_file(&self, start: u32) -> PathBuf {
        self.directory.join(format!("{start}.log"))
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        self.kill();
        let log = self.log();
        let told = secrets::told_in(&log);
        assert!(told.is_empty() || std::thread::panicking(), "the log tells secrets: {told:#?}");
    }
}
