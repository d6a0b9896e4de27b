//! The lines of the section, each for the shell, wherever the server is.

use super::{EXAMPLE_DEVICE, quote};

/// The section "Send commands to the device"; what is not there is left out.
#[derive(Debug, Default)]
pub(crate) struct Section {
    /// What has to be known or done first, ended by a line break.
    pub(crate) before: String,
    /// Lines that publish.
    pub(crate) publish: Option<String>,
    /// Lines that subscribe.
    pub(crate) subscribe: Option<String>,
    /// The line that sends a command.
    pub(crate) command: Option<String>,
}

impl Section {
    /// Writes it.
    pub(crate) fn text(&self) -> String {
        let mut text = format!("Send commands to the device\n\n{}", self.before);
        if let Some(lines) = &self.publish {
            text += "Publish data from the device, and say how long you will wait for a command with 'ttd' (seconds):\n";
            text += lines;
        }
        if let Some(lines) = &self.subscribe {
            text += if self.publish.is_some() {
                "Or subscribe with an MQTT client:\n"
            } else {
                "Subscribe with an MQTT client:\n"
            };
            text += lines;
        }
        if let Some(line) = &self.command {
            text += "Send a command to that device from another terminal:\n";
            text += line;
        }
        text
    }
}

/// Lines that publish and wait over HTTP at a URL, which is trusted by the file `ca` if one is needed.
pub(crate) fn publish(base: &str, password: &str, ca: Option<&str>) -> String {
    let url = quote(&format!("{base}/v1/temperature?ttd=30"));
    let user = format!("{EXAMPLE_DEVICE}:{password}");
    let (httpie, curl) = trust(ca);
    format!(
        "  http {httpie}--auth {user} POST {url} temp:=42\n  \
         curl {curl}-u {user} --json '{{\"temp\": 42}}' {url}\n"
    )
}

/// Lines that subscribe over MQTT, with TLS if there is a file `ca` to trust.
pub(crate) fn subscribe(host: &str, port: u16, password: &str, ca: Option<&str>) -> String {
    let (hive, mosquitto) = ca.map_or_else(Default::default, |ca| {
        let ca = quote(ca);
        (format!(" -s --cafile {ca}"), format!(" --cafile {ca}"))
    });
    format!(
        "  mqtt sub -v -h {host} -p {port} -u {EXAMPLE_DEVICE} -pw {password} -i {EXAMPLE_DEVICE}{hive} -t cmd -V 3\n  \
         mosquitto_sub -v -h {host} -p {port} -u {EXAMPLE_DEVICE} -P {password} -i {EXAMPLE_DEVICE}{mosquitto} -t cmd\n"
    )
}

/// The line that sends a command; `token` is as the shell is to read it.
pub(crate) fn command(base: &str, token: &str, ca: Option<&str>) -> String {
    let path = format!("v1/apps/default/devices/{EXAMPLE_DEVICE}/commands/set-temp");
    let url = quote(&format!("{base}/{path}"));
    let (httpie, _) = trust(ca);
    format!("  http {httpie}-A bearer -a {token} POST {url} set-temp:=40\n")
}

/// The options by which HTTPie and curl trust the server, each with a space behind it.
fn trust(ca: Option<&str>) -> (String, String) {
    ca.map_or_else(Default::default, |ca| {
        let ca = quote(ca);
        (format!("--verify {ca} "), format!("--cacert {ca} "))
    })
}
