//! What start-up prints, run as printed: in bash and zsh, with HTTPie, curl and mosquitto_sub, in a terminal.

use std::fs::{self, File};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};

use tests::binary::run_directory;
use tests::clients::have;
use tests::events::{EventStream, Query};
use tests::secrets::unique;
use tests::server::{HEADING, Server};
use tests::wait::eventually;

const SHELLS: [&str; 2] = ["bash", "zsh"];

/// The lines that start-up printed, without their indentation.
struct Lines(Vec<String>);

impl Lines {
    fn of(server: &Server) -> Self {
        let printed = server.printed();
        let (_, section) = printed.split_once(HEADING).expect("the section is printed");
        Self(section.lines().filter_map(|line| line.strip_prefix("  ")).map(str::to_owned).collect())
    }

    fn of_program(&self, start: &str) -> &str {
        let mut lines = self.0.iter().filter(|line| line.starts_with(start));
        let line = lines.next().unwrap_or_else(|| panic!("a line that starts with '{start}': {:?}", self.0));
        assert!(lines.next().is_none(), "one line that starts with '{start}'");
        line
    }

    fn command(&self) -> &str {
        self.of_program("http -A bearer")
    }
}

/// A line that runs in a shell, in a terminal, as a person runs it. When this is dropped, its terminal is closed.
///
/// In a test that fails, it prints what became of it.
struct Running {
    line: String,
    process: Child,
    output: PathBuf,
}

impl Running {
    fn start(shell: &str, line: &str) -> Self {
        let output = run_directory().join(format!("{}.terminal", unique()));
        let file = File::create(&output).expect("the run directory can be written");
        // Under `nohup` a line would outlive its terminal, and its client take the session back from the next one.
        let mut script = Command::new("env");
        // `script` gives the line a terminal, in which clients print what they show to people.
        script.args(["--default-signal=HUP", "script", "--quiet", "--flush", "--return"]);
        script.args(["--command", line, "/dev/null"]);
        script.env("SHELL", shell).env("TERM", "dumb").env_remove("DROGUE_TOKEN");
        let script = script.stdin(Stdio::null()).stdout(file.try_clone().expect("a file")).stderr(file);
        Self { line: line.to_owned(), process: script.spawn().expect("script runs"), output }
    }

    /// Returns the status of the line if it has ended.
    fn status(&mut self) -> Option<ExitStatus> {
        self.process.try_wait().expect("it is a child")
    }

    /// Returns what the terminal shows, without colours.
    fn shown(&self) -> String {
        let shown = String::from_utf8_lossy(&fs::read(&self.output).unwrap_or_default()).into_owned();
        without_escapes(&shown).replace('\r', "")
    }

    async fn ended(mut self) -> String {
        let status = eventually("the line ends", || {
            let status = self.status();
            async move { status }
        })
        .await;
        assert!(status.success(), "the line fails");
        self.shown()
    }

    /// Tells whether the terminal shows a text yet.
    ///
    /// # Panics
    /// Panics if it does not and the line has ended.
    fn shows(&mut self, text: &str) -> bool {
        let ended = self.status().is_some();
        let shows = self.shown().contains(text);
        assert!(shows || !ended, "the line has ended without {text:?}");
        shows
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let status = self.status().map_or("runs".to_owned(), |status| status.to_string());
        drop(self.process.kill());
        drop(self.process.wait());
        if std::thread::panicking() {
            eprintln!("{}\n({status}) shows: {}", self.line, self.shown());
        }
    }
}

/// Takes out what switches colours: ESC [ … letter.
fn without_escapes(text: &str) -> String {
    let mut parts = text.split("\u{1b}[");
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |shown, part| {
        let end =
            part.find(|character: char| character.is_ascii_alphabetic()).map_or(part.len(), |end| end + 1);
        shown + &part[end..]
    })
}

async fn telemetry_of_default(server: &Server) -> EventStream {
    let query = Query::telemetry().of("device_id");
    EventStream::open(&server.cloud().operator, "default", &query).await.expect("the stream opens")
}

/// Runs a line that waits for a command, then the line that sends one, and returns what the first showed.
async fn exchange(server: &Server, shell: &str, line: &str) -> String {
    let mut stream = telemetry_of_default(server).await;
    let device = Running::start(shell, line);
    let telemetry = stream.next().await;
    assert_eq!(telemetry.attribute("subject"), "temperature");
    assert_eq!(telemetry.event["data"], serde_json::json!({"temp": 42}));
    send_command(server, shell).await;
    device.ended().await
}

/// Runs the line that sends a command.
async fn send_command(server: &Server, shell: &str) {
    let sent = Running::start(shell, Lines::of(server).command()).ended().await;
    assert!(sent.contains("HTTP/1.1 202 Accepted"), "{sent}");
}

#[tokio::test]
async fn the_http_lines_work_as_printed() {
    if !have("the_http_lines_work_as_printed", &["http", "curl", "bash", "zsh", "script"]) {
        return;
    }
    let server = Server::start(&[]).await;
    let lines = Lines::of(&server);
    for shell in SHELLS {
        let shown = exchange(&server, shell, lines.of_program("http --auth device_id:foobar POST")).await;
        for expected in ["HTTP/1.1 202 Accepted", "command: set-temp", "command-id: "] {
            assert!(shown.contains(expected), "{shell}: {expected:?} is not in {shown}");
        }
        // HTTPie prints JSON with spaces of its own in a terminal.
        let packed: String = shown.split_whitespace().collect();
        assert!(packed.contains(r#"{"set-temp":40}"#), "{shell}: {shown}");
        let shown = exchange(&server, shell, lines.of_program("curl -u device_id:foobar --json")).await;
        assert_eq!(shown.trim(), r#"{"set-temp": 40}"#, "{shell}");
    }
}

/// Runs a line that subscribes, sends commands until it shows one, and ends it.
async fn subscribe(server: &Server, shell: &str, line: &str) {
    let mut device = Running::start(shell, line);
    eventually("the device prints the command", || {
        let printed = device.shows("cmd {\"set-temp\": 40}");
        async move {
            // One that comes before the subscription is nobody's: hence again.
            if !printed {
                send_command(server, shell).await;
            }
            printed.then_some(())
        }
    })
    .await;
}

#[tokio::test]
async fn the_mosquitto_line_works_as_printed() {
    if !have("the_mosquitto_line_works_as_printed", &["mosquitto_sub", "http", "bash", "zsh", "script"]) {
        return;
    }
    let server = Server::start(&[]).await;
    let lines = Lines::of(&server);
    for shell in SHELLS {
        subscribe(&server, shell, lines.of_program("mosquitto_sub -v ")).await;
    }
}

#[tokio::test]
async fn mosquitto_sub_works_plain_and_with_tls_in_both_versions_at_qos_0_and_1() {
    if !have("mosquitto_sub in its variants", &["mosquitto_sub", "http", "bash", "script"]) {
        return;
    }
    let server = Server::start(&[]).await;
    let printed = Lines::of(&server).of_program("mosquitto_sub -v ").to_owned();
    let addresses = &server.cloud().addresses;
    let tls = format!("-p {}", addresses.mqtts.port());
    assert!(printed.contains(&tls), "{printed}");
    let without_ca = printed.split_once(" --cafile ").map(|(before, after)| {
        let after = after.split_once(" -t ").expect("the topic is last").1;
        format!("{before} -t {after}").replace(&tls, &format!("-p {}", addresses.mqtt.port()))
    });
    let plain = without_ca.expect("the printed line has a CA");
    let variants = [&plain, &printed].map(|line| {
        ["311", "5"].map(|version| ["0", "1"].map(|qos| format!("{line} -V {version} -q {qos}")))
    });
    for line in variants.as_flattened().as_flattened() {
        subscribe(&server, "bash", line).await;
    }
}

#[tokio::test]
async fn mosquitto_pub_publishes_what_the_application_reads() {
    if !have("mosquitto_pub_publishes_what_the_application_reads", &["mosquitto_pub"]) {
        return;
    }
    let server = Server::start(&[]).await;
    let mut stream = telemetry_of_default(&server).await;
    let addresses = &server.cloud().addresses;
    for version in ["311", "5"] {
        for qos in ["0", "1"] {
            let line = format!(
                "mosquitto_pub -h 127.0.0.1 -p {} --cafile {} -u device_id -P foobar -V {version} -q {qos} -t t -m 42",
                addresses.mqtts.port(),
                addresses.ca.display(),
            );
            Running::start("bash", &line).ended().await;
            assert_eq!(stream.next().await.attribute("subject"), "t");
        }
    }
}

#[tokio::test]
async fn the_section_has_the_promised_form() {
    let server = Server::start(&[]).await;
    let printed = server.printed();
    let (_, section) = printed.split_once(HEADING).unwrap();
    let addresses = &server.cloud().addresses;
    let token = fs::read_to_string(server.data_directory().join("default-token")).unwrap();
    let (http, mqtts, api) = (addresses.http, addresses.mqtts.port(), addresses.api);
    let (ca, token) = (addresses.ca.display(), token.trim());
    // The line of HiveMQ's `mqtt` is only looked at: that client cannot be installed everywhere.
    let expected = format!(
        r#"

Publish data from the device, and say how long you will wait for a command with 'ttd' (seconds):
  http --auth device_id:foobar POST 'http://{http}/v1/temperature?ttd=30' temp:=42
  curl -u device_id:foobar --json '{{"temp": 42}}' 'http://{http}/v1/temperature?ttd=30'
Or subscribe with an MQTT client:
  mqtt sub -v -h 127.0.0.1 -p {mqtts} -u device_id -pw foobar -i device_id -s --cafile {ca} -t cmd -V 3
  mosquitto_sub -v -h 127.0.0.1 -p {mqtts} -u device_id -P foobar -i device_id --cafile {ca} -t cmd
Send a command to that device from another terminal:
  http -A bearer -a {token} POST http://{api}/v1/apps/default/devices/device_id/commands/set-temp set-temp:=40
"#
    );
    assert!(section.starts_with(&expected), "printed: {section}\nexpected: {expected}");
    let status = server.drogue(&["status"]);
    assert!(status.contains(&format!("{HEADING}{expected}")), "{status}");
}

#[tokio::test]
async fn status_prints_placeholders_for_what_it_does_not_know() {
    let server = Server::start(&[]).await;
    server.drogue(&["device", "set-password", "device_id", "--password", "another"]);
    fs::remove_file(server.data_directory().join("default-token")).unwrap();
    let status = server.drogue(&["status"]);
    assert!(status.contains("http -A bearer -a $DROGUE_TOKEN POST "), "{status}");
    assert!(status.contains("http --auth device_id:PASSWORD POST "), "{status}");
    assert!(!status.contains("foobar"), "{status}");
}
