//! Kafka brokers of a test's own, to be killed, paused and restarted.
//!
//! They are started as the broker that the environment names was: with its Java, its class path and its options, which
//! the kernel tells of a process on this machine. That one is left alone.

use std::fmt::Write;
use std::fs::{self, File};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};

use crate::clients::skip;
use crate::daemon::Daemon;
use crate::process::Signal;
use crate::secured::Secured;
use crate::wait::eventually;
use crate::{binary, kafka, ports};

/// The class of a broker, and of the tool that prepares its directory.
const BROKER: &str = "kafka.Kafka";
const STORAGE: &str = "kafka.tools.StorageTool";
const CLUSTER_ID: &str = "dGVzdC1vZi1kcm9ndWUhIQ";

/// One broker or three, each of which is a controller too.
#[derive(Debug)]
pub struct Brokers {
    java: Java,
    nodes: Vec<Node>,
}

/// How the given broker is run.
#[derive(Debug, Clone)]
struct Java {
    program: PathBuf,
    options: Vec<String>,
}

#[derive(Debug)]
struct Node {
    directory: PathBuf,
    address: SocketAddr,
    daemon: Option<Daemon>,
    starts: u32,
}

impl Brokers {
    /// Starts brokers. Says visibly that `test` is skipped if there is nothing to start them like.
    ///
    /// # Panics
    /// Panics if they do not start, or if `DROGUE_TEST_REQUIRE` lists `kafka` and they cannot.
    pub async fn start(test: &str, count: usize) -> Option<Self> {
        Self::start_with(test, count, None).await
    }

    /// Starts one broker that also listens with TLS and SASL, like [`Brokers::start`].
    ///
    /// # Panics
    /// Panics if it does not start.
    pub async fn start_secured(test: &str, secured: &Secured) -> Option<Self> {
        Self::start_with(test, 1, Some(secured)).await
    }

    async fn start_with(test: &str, count: usize, secured: Option<&Secured>) -> Option<Self> {
        let given = kafka::given(test)?;
        let Some(java) = Java::of_the_broker_at(&given) else {
            skip(
                test,
                "kafka",
                &format!("the broker at {given} is no process of this machine to start others like"),
            );
            return None;
        };
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let directory = binary::run_directory().join(format!("brokers-{number}"));
        let mut nodes: Vec<_> = (1..=count).map(|id| Node::new(&directory, id)).collect();
        let controllers: Vec<_> = nodes.iter().map(|_| ports::free()).collect();
        for (id, node) in (1..).zip(&nodes) {
            let text = configuration(id, node, &controllers, secured);
            fs::write(node.configuration(), text).expect("the directory can be written");
            java.format(node, secured);
        }
        nodes.iter_mut().for_each(|node| node.launch(&java));
        let brokers = Self { java, nodes };
        brokers.wait_until_alive(count).await;
        Some(brokers)
    }

    /// Returns where they are.
    pub fn servers(&self) -> String {
        let addresses: Vec<_> = self.nodes.iter().map(|node| node.address.to_string()).collect();
        addresses.join(",")
    }

    /// Ends a broker at once, as a crash does. The first is 1.
    pub fn kill(&mut self, id: usize) {
        self.nodes[id - 1].daemon = None;
    }

    /// Asks a broker to end, and waits until it has: its partitions move first.
    ///
    /// # Panics
    /// Panics if it does not run or does not end.
    pub async fn stop(&mut self, id: usize) {
        let node = &mut self.nodes[id - 1];
        let mut daemon = node.daemon.take().expect("it runs");
        daemon.signal(Signal::Terminate);
        daemon.ended().await;
    }

    /// Starts a broker again, on its data. It serves a moment later.
    pub fn restart(&mut self, id: usize) {
        self.nodes[id - 1].launch(&self.java);
    }

    /// Makes a broker stand still: its connections stay open, and nothing answers.
    ///
    /// # Panics
    /// Panics if it does not run.
    pub fn pause(&self, id: usize) {
        self.nodes[id - 1].daemon.as_ref().expect("it runs").signal(Signal::Stop);
    }

    /// Lets a paused broker go on.
    ///
    /// # Panics
    /// Panics if it does not run.
    pub fn resume(&self, id: usize) {
        self.nodes[id - 1].daemon.as_ref().expect("it runs").signal(Signal::Continue);
    }

    /// Waits until a client is told of so many brokers that are alive.
    ///
    /// # Panics
    /// Panics with the end of their logs if that does not come to be.
    pub async fn wait_until_alive(&self, count: usize) {
        let servers = self.servers();
        eventually(&format!("{count} brokers of {servers} are alive"), || {
            let servers = servers.clone();
            async move { (alive(&servers).await == count).then_some(()) }
        })
        .await;
    }
}

/// Returns how many brokers are alive, as one of them says.
async fn alive(servers: &str) -> usize {
    let servers = servers.to_owned();
    let ask = move || {
        let client: Result<BaseConsumer, _> = ClientConfig::new().set("bootstrap.servers", servers).create();
        let metadata = client.ok()?.fetch_metadata(None, Duration::from_secs(2)).ok()?;
        Some(metadata.brokers().len())
    };
    tokio::task::spawn_blocking(ask).await.ok().flatten().unwrap_or(0)
}

impl Node {
    fn new(directory: &Path, id: usize) -> Self {
        let directory = directory.join(id.to_string());
        fs::create_dir_all(&directory).expect("the target directory can be written");
        Self { directory, address: ports::free(), daemon: None, starts: 0 }
    }

    fn configuration(&self) -> PathBuf {
        self.directory.join("server.properties")
    }

    fn launch(&mut self, java: &Java) {
        let log =
            File::create(self.directory.join(format!("{}.log", self.starts))).expect("it can be written");
        let mut command = java.command(BROKER);
        command.arg(self.configuration()).current_dir(&self.directory);
        command.stdout(log.try_clone().expect("a descriptor is free")).stderr(log);
        self.daemon = Some(Daemon::spawn(&mut command));
        self.starts += 1;
    }
}

/// Writes the settings of a broker.
fn configuration(id: usize, node: &Node, controllers: &[SocketAddr], secured: Option<&Secured>) -> String {
    let replicas = controllers.len();
    let in_sync = replicas.min(2);
    let voters: Vec<_> = (1..).zip(controllers).map(|(id, address)| format!("{id}@{address}")).collect();
    let (client, controller) = (node.address, controllers[id - 1]);
    let mut text = String::new();
    let lines = [
        format!("node.id={id}"),
        "process.roles=broker,controller".to_owned(),
        format!("listeners=PLAINTEXT://{client},CONTROLLER://{controller}"),
        format!("advertised.listeners=PLAINTEXT://{client}"),
        "listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT".to_owned(),
        "controller.listener.names=CONTROLLER".to_owned(),
        format!("controller.quorum.voters={}", voters.join(",")),
        format!("log.dirs={}", node.directory.join("data").display()),
        "auto.create.topics.enable=false".to_owned(),
        format!("default.replication.factor={replicas}"),
        format!("min.insync.replicas={in_sync}"),
        format!("offsets.topic.replication.factor={replicas}"),
        "offsets.topic.num.partitions=1".to_owned(),
        format!("transaction.state.log.replication.factor={replicas}"),
        format!("transaction.state.log.min.isr={in_sync}"),
        // A killed broker counts as dead after this time, also for itself when it comes back.
        "broker.session.timeout.ms=3000".to_owned(),
        "broker.heartbeat.interval.ms=500".to_owned(),
        "log.cleaner.dedupe.buffer.size=4194304".to_owned(),
    ];
    // What comes last wins.
    let plain = format!("PLAINTEXT://{client},CONTROLLER://{controller}");
    for line in lines.into_iter().chain(secured.map(|secured| secured.settings(&plain)).into_iter().flatten())
    {
        writeln!(text, "{line}").expect("a string takes everything");
    }
    text
}

impl Java {
    /// Reads how the process was started that listens at one of the addresses.
    fn of_the_broker_at(servers: &str) -> Option<Self> {
        let port = servers.split(',').next()?.rsplit_once(':')?.1.parse().ok()?;
        let process = process_that_listens_at(port)?;
        let arguments = fs::read(process.join("cmdline")).ok()?;
        let mut arguments =
            arguments.split(|byte| *byte == 0).map(|text| String::from_utf8_lossy(text).into_owned());
        let program = PathBuf::from(arguments.next()?);
        let options: Vec<_> = arguments.by_ref().take_while(|argument| argument != BROKER).collect();
        // Without a configuration behind the class it was none.
        arguments.next().filter(|configuration| !configuration.is_empty())?;
        Some(Self { program, options })
    }

    fn command(&self, class: &str) -> Command {
        let mut command = Command::new(&self.program);
        command.args(&self.options).arg(class);
        command
    }

    /// Prepares the directory of a node.
    fn format(&self, node: &Node, secured: Option<&Secured>) {
        let mut command = self.command(STORAGE);
        command.args(["format", "--cluster-id", CLUSTER_ID, "--config"]).arg(node.configuration());
        if let Some(secured) = secured {
            command.arg("--add-scram").arg(secured.scram());
        }
        let output = command.output().expect("Java can be run");
        let told = [output.stdout, output.stderr].concat();
        assert!(output.status.success(), "the storage is not formatted: {}", String::from_utf8_lossy(&told));
    }
}

/// Finds the directory in /proc of the process that listens at a port.
fn process_that_listens_at(port: u16) -> Option<PathBuf> {
    let inodes: Vec<_> = ["tcp", "tcp6"].into_iter().flat_map(|table| listeners(table, port)).collect();
    let sockets: Vec<_> = inodes.iter().map(|inode| PathBuf::from(format!("socket:[{inode}]"))).collect();
    let holds = |process: &PathBuf| {
        let descriptors = fs::read_dir(process.join("fd")).into_iter().flatten().filter_map(Result::ok);
        descriptors
            .into_iter()
            .any(|fd| fs::read_link(fd.path()).is_ok_and(|target| sockets.contains(&target)))
    };
    let processes = fs::read_dir("/proc").ok()?.filter_map(Result::ok).map(|entry| entry.path());
    processes.into_iter().find(holds)
}

/// Returns the inodes of the sockets that listen at a port, from a table of /proc/net.
fn listeners(table: &str, port: u16) -> Vec<String> {
    const LISTENS: &str = "0A";
    let text = fs::read_to_string(format!("/proc/net/{table}")).unwrap_or_default();
    let inode = |line: &str| {
        let fields: Vec<_> = line.split_whitespace().collect();
        let (address, state, inode) = (fields.get(1)?, fields.get(3)?, fields.get(9)?);
        let found = address.rsplit_once(':').and_then(|(_, hex)| u16::from_str_radix(hex, 16).ok());
        (found == Some(port) && *state == LISTENS).then(|| (*inode).to_owned())
    };
    text.lines().filter_map(inode).collect()
}
