//! What start-up and `drogue status` print: lines for the shell that send a first command to a device.

pub(crate) mod lines;

use std::path::Path;

use crate::addresses::{Addresses, reachable};
use lines::Section;

/// The example device that the first start makes.
pub const EXAMPLE_DEVICE: &str = "device_id";
/// The password of the example device. It is public, which is why the device exists on loopback only.
pub const EXAMPLE_PASSWORD: &str = "foobar";

/// What there is of the example device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Example {
    /// It has the public password.
    Public,
    /// It has a password that only its owner knows.
    Private,
    /// It may not log in.
    Disabled,
    /// There is no such device.
    Missing,
}

/// What the printed lines are filled with.
#[derive(Debug, Clone)]
pub struct Quickstart<'a> {
    /// Where the server listens.
    pub addresses: &'a Addresses,
    /// The server's data directory, in which the command line finds the server.
    pub data: &'a Path,
    /// The token of the application `default`, if it is known and valid.
    pub token: Option<&'a str>,
    /// What there is of the example device.
    pub example: Example,
}

impl Quickstart<'_> {
    /// Writes the section "Send commands to the device". Each line that is indented can be pasted into bash and zsh.
    pub fn section(&self) -> String {
        let section = Section {
            before: self.prepare().unwrap_or_default(),
            publish: self.publish(),
            subscribe: self.subscribe(),
            command: self.command(),
        };
        section.text()
    }

    /// The line without which the others cannot work, and why it is needed.
    fn prepare(&self) -> Option<String> {
        self.addresses.api_url()?;
        let data = format!("--data-dir {}", quote(&self.data.to_string_lossy()));
        let password = format!("--password {}", self.password());
        match self.example {
            Example::Public | Example::Private => None,
            Example::Missing => Some(format!(
                "There is no device '{EXAMPLE_DEVICE}': it was deleted, or never made because others can connect. Make \
                 it, with a password of your own:\n  \
                 drogue device create {EXAMPLE_DEVICE} {password} {data}\n"
            )),
            Example::Disabled => Some(format!(
                "The device '{EXAMPLE_DEVICE}' is disabled. Give it a password of your own, and enable it:\n  \
                 drogue device set-password {EXAMPLE_DEVICE} {password} {data} && \
                 drogue device enable {EXAMPLE_DEVICE} {data}\n"
            )),
        }
    }

    /// Lines that publish and wait over HTTP, or over HTTPS where that alone is on.
    fn publish(&self) -> Option<String> {
        let base = self.addresses.http_url()?;
        Some(lines::publish(&base, self.password(), self.trusted(&base).as_deref()))
    }

    /// Lines that subscribe over MQTT: with TLS, unless that is off or needs a name that only its owner knows.
    fn subscribe(&self) -> Option<String> {
        let Addresses { mqtt, mqtts, development, .. } = self.addresses;
        let prefers_tls = *development || mqtt.is_none();
        let (address, ca) = match (mqtt, mqtts) {
            (_, Some(address)) if prefers_tls => (address, Some(self.ca())),
            (Some(address), _) => (address, None),
            (None, _) => return None,
        };
        let host = reachable(*address).ip().to_string();
        Some(lines::subscribe(&host, address.port(), self.password(), ca.as_deref()))
    }

    /// The line that sends a command.
    fn command(&self) -> Option<String> {
        let base = self.addresses.api_url()?;
        let token = self.token.map_or_else(|| "$DROGUE_TOKEN".to_owned(), quote);
        Some(lines::command(&base, &token, self.trusted(&base).as_deref()))
    }

    /// Returns the file by which clients trust the server at a URL.
    fn trusted(&self, url: &str) -> Option<String> {
        url.starts_with("https:").then(|| self.ca())
    }

    fn ca(&self) -> String {
        self.addresses.ca.to_string_lossy().into_owned()
    }

    fn password(&self) -> &'static str {
        match self.example {
            Example::Public => EXAMPLE_PASSWORD,
            Example::Private | Example::Disabled | Example::Missing => "PASSWORD",
        }
    }
}

/// Quotes a word for bash and zsh, unless it means itself in both.
pub fn quote(word: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_-./:@%+,".contains(&byte);
    if !word.is_empty() && word.bytes().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addresses() -> Addresses {
        Addresses {
            http: "127.0.0.1:8080".parse().ok(),
            https: "127.0.0.1:8443".parse().ok(),
            mqtt: "127.0.0.1:1883".parse().ok(),
            mqtts: "127.0.0.1:8883".parse().ok(),
            api: "127.0.0.1:8081".parse().ok(),
            api_tls: "127.0.0.1:8444".parse().ok(),
            admin: "127.0.0.1:9090".parse().ok(),
            ca: "/data/tls.crt".into(),
            development: true,
        }
    }

    fn section(addresses: &Addresses) -> String {
        with_example(addresses, Example::Public)
    }

    fn with_example(addresses: &Addresses, example: Example) -> String {
        Quickstart { addresses, data: Path::new("/my data"), token: Some("drogue_abc"), example }.section()
    }

    #[test]
    fn the_section_is_the_promised_one() {
        assert_eq!(
            section(&addresses()),
            r#"Send commands to the device

Publish data from the device, and say how long you will wait for a command with 'ttd' (seconds):
  http --auth device_id:foobar POST 'http://127.0.0.1:8080/v1/temperature?ttd=30' temp:=42
  curl -u device_id:foobar --json '{"temp": 42}' 'http://127.0.0.1:8080/v1/temperature?ttd=30'
Or subscribe with an MQTT client:
  mqtt sub -v -h 127.0.0.1 -p 8883 -u device_id -pw foobar -i device_id -s --cafile /data/tls.crt -t cmd -V 3
  mosquitto_sub -v -h 127.0.0.1 -p 8883 -u device_id -P foobar -i device_id --cafile /data/tls.crt -t cmd
Send a command to that device from another terminal:
  http -A bearer -a drogue_abc POST http://127.0.0.1:8081/v1/apps/default/devices/device_id/commands/set-temp set-temp:=40
"#
        );
    }

    #[test]
    fn what_is_unknown_has_a_placeholder() {
        let (addresses, data, example) = (&addresses(), Path::new("/data"), Example::Private);
        let text = Quickstart { addresses, data, token: None, example }.section();
        assert!(text.contains("-a $DROGUE_TOKEN POST"), "{text}");
        assert!(text.contains("--auth device_id:PASSWORD ") && text.contains("-P PASSWORD "), "{text}");
    }

    #[test]
    fn a_device_that_cannot_log_in_is_first_made_to() {
        let create = "  drogue device create device_id --password PASSWORD --data-dir '/my data'\n";
        let enable = "  drogue device set-password device_id --password PASSWORD --data-dir '/my data' && \
                      drogue device enable device_id --data-dir '/my data'\n";
        for (example, line) in [(Example::Missing, create), (Example::Disabled, enable)] {
            let text = with_example(&addresses(), example);
            assert!(text.find(line).unwrap() < text.find("Publish data").unwrap(), "{text}");
            assert_eq!(text.matches("  drogue ").count(), 1, "{text}");
            assert!(text.contains("-u device_id:PASSWORD"), "{text}");
        }
    }

    #[test]
    fn what_is_off_is_left_out() {
        let without_http = Addresses { http: None, https: None, ..addresses() };
        let text = section(&without_http);
        assert!(!text.contains("curl") && text.contains("\nSubscribe with an MQTT client:\n"), "{text}");
        let text = section(&Addresses { mqtt: None, mqtts: None, ..addresses() });
        assert!(!text.contains("mosquitto_sub") && text.contains("curl"), "{text}");
        let text = section(&Addresses { api: None, api_tls: None, ..addresses() });
        assert!(!text.contains("Send a command to that device"), "{text}");
    }

    #[test]
    fn tls_stands_in_where_plain_is_off() {
        let text = section(&Addresses { http: None, api: None, ..addresses() });
        assert!(text.contains("http --verify /data/tls.crt --auth"), "{text}");
        assert!(text.contains("curl --cacert /data/tls.crt -u"), "{text}");
        assert!(text.contains("'https://127.0.0.1:8443/v1/temperature?ttd=30'"), "{text}");
        assert!(text.contains("http --verify /data/tls.crt -A bearer"), "{text}");
    }

    #[test]
    fn mqtt_is_plain_where_tls_is_off_or_has_another_name() {
        for addresses in
            [Addresses { mqtts: None, ..addresses() }, Addresses { development: false, ..addresses() }]
        {
            let text = section(&addresses);
            assert!(text.contains("-p 1883 -u device_id -P foobar -i device_id -t cmd\n"), "{text}");
            assert!(!text.contains("--cafile"), "{text}");
        }
    }

    #[test]
    fn ipv6_and_all_addresses_are_reachable() {
        let text = section(&Addresses {
            http: "[::]:8080".parse().ok(),
            mqtts: "[::1]:8883".parse().ok(),
            api: "0.0.0.0:8081".parse().ok(),
            ..addresses()
        });
        assert!(text.contains("'http://[::1]:8080/v1/temperature?ttd=30'"), "{text}");
        assert!(text.contains("-h ::1 -p 8883"), "{text}");
        assert!(text.contains("POST http://127.0.0.1:8081/"), "{text}");
    }

    #[test]
    fn words_are_quoted_for_the_shell() {
        assert_eq!(quote("/data/tls.crt"), "/data/tls.crt");
        assert_eq!(quote("/my data/it's"), r"'/my data/it'\''s'");
        for special in ["a b", "~", "$x", "`x`", "a*", "[::1]", "=ls", "!", "#", "{a,b}", "a\\b", ""] {
            assert_eq!(quote(special), format!("'{special}'"));
        }
    }
}
