//! The real server: the `drogue` binary in a process of its own.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::binary;
use crate::cloud::Cloud;
use crate::daemon::Daemon;
use crate::process::Signal;
use crate::secrets;
use crate::wait::eventually;

/// The heading of what a server prints once it serves.
pub const HEADING: &str = "Send commands to the device";

/// Returns a server with default limits that all tests of this process share. Each makes a tenant of its own.
pub fn shared() -> &'static Server {
    static SHARED: OnceLock<Server> = OnceLock::new();
    SHARED.get_or_init(|| {
        // On a thread of its own, because a test's runtime cannot be blocked on from within.
        let start = || runtime().block_on(Server::start(&[]));
        std::thread::spawn(start).join().expect("the shared server starts")
    })
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime starts")
}

/// A server process on free ports, with data of its own. It is killed when this is dropped.
#[derive(Debug)]
pub struct Server {
    process: Daemon,
    directory: PathBuf,
    options: Vec<String>,
    surroundings: Surroundings,
    cloud: Cloud,
    starts: u32,
}

/// What a server is given beside its options.
#[derive(Debug, Clone, Default)]
struct Surroundings {
    descriptors: Option<u32>,
    environment: Vec<(String, String)>,
}

impl Server {
    /// Starts a server with further options and waits until it says that it serves.
    ///
    /// # Panics
    /// Panics with its log if it does not.
    pub async fn start(options: &[&str]) -> Self {
        Self::start_with(options, Surroundings::default()).await
    }

    /// Starts a server with further variables in its environment.
    ///
    /// # Panics
    /// Panics with its log if it does not start.
    pub async fn start_in(environment: &[(&str, &str)], options: &[&str]) -> Self {
        let owned = |&(name, value): &(&str, &str)| (name.to_owned(), value.to_owned());
        let environment = environment.iter().map(owned).collect();
        Self::start_with(options, Surroundings { environment, descriptors: None }).await
    }

    /// Starts a server that may have at most so many open descriptors.
    ///
    /// # Panics
    /// Panics with its log if it does not start.
    pub async fn start_with_descriptors(descriptors: u32, options: &[&str]) -> Self {
        let surroundings = Surroundings { descriptors: Some(descriptors), ..Surroundings::default() };
        Self::start_with(options, surroundings).await
    }

    async fn start_with(options: &[&str], surroundings: Surroundings) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let directory = binary::run_directory().join(format!("server-{number}"));
        fs::create_dir_all(&directory).expect("the target directory can be written");
        let options: Vec<_> = options.iter().map(|option| (*option).to_owned()).collect();
        let mut process = spawn(&directory, &options, &surroundings, 0);
        let cloud = wait_until_serving(&mut process, &directory, 0).await;
        Self { process, directory, options, surroundings, cloud, starts: 1 }
    }

    /// Starts the server anew on the same data, on new ports.
    ///
    /// # Panics
    /// Panics with its log if it does not start.
    pub async fn restart(&mut self) {
        self.kill();
        self.process = spawn(&self.directory, &self.options, &self.surroundings, self.starts);
        self.cloud = wait_until_serving(&mut self.process, &self.directory, self.starts).await;
        self.starts += 1;
    }

    /// Returns the running cloud.
    pub fn cloud(&self) -> &Cloud {
        &self.cloud
    }

    /// Returns the process id.
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// Returns the data directory.
    pub fn data_directory(&self) -> PathBuf {
        data_directory(&self.directory)
    }

    /// Returns what the latest start printed on standard output.
    pub fn printed(&self) -> String {
        read(&output_file(&self.directory, "out", self.starts - 1))
    }

    /// Returns what the latest start logged.
    pub fn log(&self) -> String {
        read(&output_file(&self.directory, "log", self.starts - 1))
    }

    /// Returns what became of a command, as the log of the latest start says: each state with its detail.
    ///
    /// A command that was for nobody here has none: it was dropped after a look at its key.
    pub fn outcomes(&self, command: &str) -> Vec<(String, String)> {
        let quoted = |line: &str, field: &str| {
            let (_, rest) = line.split_once(&format!(" {field}=\""))?;
            rest.split('"').next().map(str::to_owned)
        };
        let log = self.log();
        let about = log.lines().filter(|line| quoted(line, "id").as_deref() == Some(command));
        about.filter_map(|line| quoted(line, "state").zip(quoted(line, "detail"))).collect()
    }

    /// Ends the process at once, as a crash does.
    pub fn kill(&mut self) {
        self.process.kill();
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) {
        self.process.signal(signal);
    }

    /// Waits until the process has ended by itself and returns its status.
    ///
    /// # Panics
    /// Panics if it does not end.
    pub async fn ended(&mut self) -> ExitStatus {
        self.process.ended().await
    }

    /// Runs `drogue` with this server's data directory and returns what it printed.
    ///
    /// # Panics
    /// Panics with what it said if it fails.
    pub fn drogue(&self, arguments: &[&str]) -> String {
        let output = self.command(arguments).output().expect("drogue runs");
        let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "drogue {arguments:?}: {}\n{out}{err}", output.status);
        out.into_owned()
    }

    /// Prepares a run of `drogue` with this server's data directory.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(binary::drogue());
        command.args(arguments).env("DROGUE_DATA_DIR", self.data_directory()).stdin(Stdio::null());
        command
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
        let told = logs(&self.directory);
        let told = secrets::told_in(&told);
        assert!(told.is_empty() || std::thread::panicking(), "the log tells secrets: {told:#?}");
    }
}

/// Returns the logs of all servers that this test process has started so far.
pub fn all_logs() -> String {
    let directories = fs::read_dir(binary::run_directory()).expect("the run has a directory");
    directories.filter_map(Result::ok).map(|entry| logs(&entry.path())).collect()
}

fn logs(directory: &Path) -> String {
    let logs = (0..).map(|start| output_file(directory, "log", start)).take_while(|log| log.exists());
    logs.map(|log| read(&log)).collect()
}

fn data_directory(directory: &Path) -> PathBuf {
    directory.join("data")
}

fn output_file(directory: &Path, kind: &str, start: u32) -> PathBuf {
    directory.join(format!("{start}.{kind}"))
}

fn read(path: &Path) -> String {
    String::from_utf8_lossy(&fs::read(path).unwrap_or_default()).into_owned()
}

/// Every listener on a free port.
const LISTENERS: [&str; 7] = ["http", "https", "mqtt", "mqtts", "api", "api-tls", "admin"];

fn spawn(directory: &Path, options: &[String], surroundings: &Surroundings, start: u32) -> Daemon {
    let create =
        |kind| File::create(output_file(directory, kind, start)).expect("the directory can be written");
    let limit = surroundings.descriptors.map_or_else(String::new, |limit| format!("ulimit -n {limit} && "));
    let mut command = Command::new("sh");
    command.arg("-c").arg(format!("{limit}exec \"$@\"")).arg("sh").arg(binary::drogue()).arg("up");
    command.args(LISTENERS.map(|name| format!("--{name}-listen=127.0.0.1:0")));
    command.arg("--data-dir").arg(data_directory(directory));
    command.envs(surroundings.environment.iter().cloned());
    if !options.iter().any(|option| option.starts_with("--log")) {
        command.arg("--log=trace");
    }
    Daemon::spawn(command.args(options).stdout(create("out")).stderr(create("log")))
}

async fn wait_until_serving(process: &mut Daemon, directory: &Path, start: u32) -> Cloud {
    let printed = output_file(directory, "out", start);
    eventually("the server serves", || {
        let ended = process.status();
        let log = || read(&output_file(directory, "log", start));
        assert!(ended.is_none(), "the server has ended: {}", log());
        let serving = read(&printed).contains(HEADING);
        async move { serving.then_some(()) }
    })
    .await;
    Cloud::of_data_directory(&data_directory(directory))
}
