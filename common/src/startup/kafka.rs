//! The options of Kafka. Their names follow the Kafka client's.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use super::limits::at_least_1;
use super::{BadConfiguration, LimitOptions, secret};
use crate::kafka::{KafkaSettings, Property, TopicSettings};
use crate::time::parse_duration;

const PASSWORD: (&str, &str) = ("--kafka-sasl-password-file", "DROGUE_KAFKA_SASL_PASSWORD");
const KEY_PASSWORD: (&str, &str) = ("--kafka-ssl-key-password-file", "DROGUE_KAFKA_SSL_KEY_PASSWORD");

/// What a record takes beside its payload, at most.
const ATTRIBUTES: usize = 16 << 10;

/// Returns how long a payload is in a record that gives its command to a connection: there it is in base64.
const fn carried(payload: usize) -> usize {
    payload.div_ceil(3) * 4
}

/// Returns the largest event in bytes.
pub(super) fn max_event(limits: &LimitOptions) -> usize {
    (carried(limits.max_payload) + ATTRIBUTES).max(1 << 20)
}

/// Where Kafka is, and how to speak to it.
#[derive(Debug, Clone, Default, Args)]
#[group(skip)]
#[command(next_help_heading = "Kafka")]
pub struct KafkaOptions {
    /// Keep events on this Kafka cluster: host:port of some of its brokers, by commas.
    #[arg(long, env = "DROGUE_KAFKA_BOOTSTRAP_SERVERS", value_name = "SERVERS")]
    pub kafka_bootstrap_servers: Option<String>,

    /// What the names of the topics begin with.
    #[arg(long, env = "DROGUE_KAFKA_TOPIC_PREFIX", value_name = "PREFIX", default_value = "drogue.")]
    pub kafka_topic_prefix: String,

    /// A property of the Kafka client, by librdkafka's name; may be repeated. The variable has one on each line.
    ///
    /// Give passwords by their own files or variables: others can see the command line.
    #[arg(
        long,
        env = "DROGUE_KAFKA_PROPERTY",
        value_name = "KEY=VALUE",
        value_delimiter = '\n',
        hide_env_values = true
    )]
    pub kafka_property: Vec<String>,

    /// How a missing topic is made.
    #[command(flatten)]
    pub topics: KafkaTopicOptions,

    /// TLS and SASL.
    #[command(flatten)]
    pub security: KafkaSecurityOptions,
}

/// How a missing topic is made. Existing ones are never changed.
#[derive(Debug, Clone, Default, Args)]
#[group(skip)]
#[command(next_help_heading = "Kafka topics that are missing")]
pub struct KafkaTopicOptions {
    /// Into how many partitions a missing topic is divided.
    #[arg(long, env = "DROGUE_KAFKA_PARTITIONS", value_name = "COUNT", default_value = "12", value_parser = count)]
    pub kafka_partitions: i32,

    /// On how many brokers a missing topic is kept. Default: 3, or as many as there are
    #[arg(long, env = "DROGUE_KAFKA_REPLICATION_FACTOR", value_name = "COUNT", value_parser = count)]
    pub kafka_replication_factor: Option<i32>,

    /// How many brokers must have an event before it is acknowledged; an existing topic with fewer is refused.
    /// Default: one fewer than there are replicas
    #[arg(long, env = "DROGUE_KAFKA_MIN_INSYNC_REPLICAS", value_name = "COUNT", value_parser = count)]
    pub kafka_min_insync_replicas: Option<i32>,

    /// How long a missing topic keeps events.
    #[arg(
        long,
        env = "DROGUE_KAFKA_RETENTION",
        value_name = "DURATION",
        default_value = "7d",
        value_parser = parse_duration
    )]
    pub kafka_retention: Duration,
}

/// TLS and SASL, in a program that was built with the feature kafka-tls.
#[derive(Debug, Clone, Default, Args)]
#[group(skip)]
#[command(next_help_heading = "Kafka TLS and SASL (needs a build with the feature kafka-tls)")]
pub struct KafkaSecurityOptions {
    /// PLAINTEXT, SSL, SASL_PLAINTEXT or SASL_SSL.
    #[arg(
        long,
        env = "DROGUE_KAFKA_SECURITY_PROTOCOL",
        value_name = "PROTOCOL",
        value_parser = ["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"],
        ignore_case = true
    )]
    pub kafka_security_protocol: Option<String>,

    /// PLAIN, SCRAM-SHA-256, SCRAM-SHA-512 or OAUTHBEARER.
    #[arg(
        long,
        env = "DROGUE_KAFKA_SASL_MECHANISM",
        value_name = "MECHANISM",
        value_parser = ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", "OAUTHBEARER"],
        ignore_case = true
    )]
    pub kafka_sasl_mechanism: Option<String>,

    /// The user, for PLAIN and SCRAM.
    #[arg(long, env = "DROGUE_KAFKA_SASL_USERNAME", value_name = "NAME")]
    pub kafka_sasl_username: Option<String>,

    /// A file with the user's password; or give the password itself in DROGUE_KAFKA_SASL_PASSWORD.
    #[arg(long, env = "DROGUE_KAFKA_SASL_PASSWORD_FILE", value_name = "FILE")]
    pub kafka_sasl_password_file: Option<PathBuf>,

    /// The file with the bearer token for OAUTHBEARER, as file:///PATH; it is read anew before the token expires.
    ///
    /// With OAUTHBEARER the topics must be there already: this program then cannot make them.
    #[arg(long, env = "DROGUE_KAFKA_SASL_OAUTHBEARER_TOKEN_ENDPOINT_URL", value_name = "URL", value_parser = file_url)]
    pub kafka_sasl_oauthbearer_token_endpoint_url: Option<PathBuf>,

    /// The certificates that the brokers' are checked by, PEM. Default: the system's
    #[arg(long, env = "DROGUE_KAFKA_SSL_CA_LOCATION", value_name = "FILE")]
    pub kafka_ssl_ca_location: Option<String>,

    /// The client's own certificate, PEM.
    #[arg(long, env = "DROGUE_KAFKA_SSL_CERTIFICATE_LOCATION", value_name = "FILE")]
    pub kafka_ssl_certificate_location: Option<String>,

    /// The key of the client's certificate, PEM.
    #[arg(long, env = "DROGUE_KAFKA_SSL_KEY_LOCATION", value_name = "FILE")]
    pub kafka_ssl_key_location: Option<String>,

    /// A file with the key's password; or give the password itself in DROGUE_KAFKA_SSL_KEY_PASSWORD.
    #[arg(long, env = "DROGUE_KAFKA_SSL_KEY_PASSWORD_FILE", value_name = "FILE")]
    pub kafka_ssl_key_password_file: Option<PathBuf>,
}

impl KafkaOptions {
    /// Returns the settings, if Kafka was chosen.
    ///
    /// # Errors
    /// Fails if a secret cannot be read, or names the option that is bad.
    pub(super) fn settings(&self, limits: &LimitOptions) -> Result<Option<KafkaSettings>, BadConfiguration> {
        let Some(servers) = &self.kafka_bootstrap_servers else { return Ok(None) };
        let mut properties = self.security.properties()?;
        for text in self.kafka_property.iter().filter(|text| !text.is_empty()) {
            // Parsed here and not by clap, whose errors repeat what was given: it may be a secret.
            let parsed =
                text.parse().map_err(|form| BadConfiguration(format!("{form} (option --kafka-property)")));
            properties.push(parsed?);
        }
        let settings = KafkaSettings {
            properties,
            oauth_token_file: self.security.kafka_sasl_oauthbearer_token_endpoint_url.clone(),
            topic_prefix: self.kafka_topic_prefix.clone(),
            topics: self.topics.settings(),
            publish_timeout: limits.publish_timeout,
            max_event: max_event(limits),
            ..KafkaSettings::new(servers)
        };
        settings.check().map_err(|error| BadConfiguration(error.to_string()))?;
        Ok(Some(settings))
    }
}

impl KafkaTopicOptions {
    fn settings(&self) -> TopicSettings {
        TopicSettings {
            partitions: self.kafka_partitions,
            replication_factor: self.kafka_replication_factor,
            min_insync_replicas: self.kafka_min_insync_replicas,
            retention: self.kafka_retention,
        }
    }
}

impl KafkaSecurityOptions {
    /// Returns the options as properties of the client.
    fn properties(&self) -> Result<Vec<Property>, BadConfiguration> {
        let plain = [
            ("security.protocol", &self.kafka_security_protocol),
            ("sasl.mechanism", &self.kafka_sasl_mechanism),
            ("sasl.username", &self.kafka_sasl_username),
            ("ssl.ca.location", &self.kafka_ssl_ca_location),
            ("ssl.certificate.location", &self.kafka_ssl_certificate_location),
            ("ssl.key.location", &self.kafka_ssl_key_location),
        ];
        let plain =
            plain.into_iter().filter_map(|(name, value)| Some(Property::new(name, value.as_deref()?)));
        let mut properties: Vec<_> = plain.collect();
        for (name, file, (option, variable)) in [
            ("sasl.password", &self.kafka_sasl_password_file, PASSWORD),
            ("ssl.key.password", &self.kafka_ssl_key_password_file, KEY_PASSWORD),
        ] {
            let value = secret::read(file.as_deref(), option, variable)?;
            properties.extend(value.map(|value| Property { name: name.to_owned(), value }));
        }
        Ok(properties)
    }
}

fn count(text: &str) -> Result<i32, String> {
    at_least_1(text)?.try_into().map_err(|_| "the number is too large".to_owned())
}

fn file_url(text: &str) -> Result<PathBuf, String> {
    let path = text.strip_prefix("file://").filter(|path| path.starts_with('/'));
    path.map(PathBuf::from).ok_or_else(|| "expected file:///PATH".to_owned())
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Options {
        #[command(flatten)]
        kafka: KafkaOptions,
        #[command(flatten)]
        limits: LimitOptions,
    }

    fn settings(arguments: &[&str]) -> Result<Option<KafkaSettings>, String> {
        let options = Options::try_parse_from([&["test"], arguments].concat());
        let options = options.map_err(|error| error.to_string())?;
        options.kafka.settings(&options.limits).map_err(|error| error.to_string())
    }

    #[test]
    fn the_defaults_are_those_of_the_adapter() {
        assert!(settings(&[]).unwrap().is_none());
        let parsed = settings(&["--kafka-bootstrap-servers", "a:1"]).unwrap().unwrap();
        assert_eq!(format!("{parsed:?}"), format!("{:?}", KafkaSettings::new("a:1")));
    }

    #[test]
    fn secrets_come_from_files_and_are_not_shown() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("password");
        std::fs::write(&file, "hunter2\n").unwrap();
        let options = KafkaSecurityOptions {
            kafka_sasl_username: Some("me".to_owned()),
            kafka_sasl_password_file: Some(file),
            ..KafkaSecurityOptions::default()
        };
        let properties = options.properties().unwrap();
        assert!(properties.contains(&Property::new("sasl.password", "hunter2")));
        assert!(!format!("{properties:?}").contains("hunter2"));
        let missing = KafkaSecurityOptions { kafka_sasl_password_file: Some("/none".into()), ..options };
        assert!(missing.properties().unwrap_err().to_string().contains("--kafka-sasl-password-file"));
    }

    #[test]
    fn a_bad_value_names_the_option() {
        for (option, value) in [
            ("--kafka-bootstrap-servers", "localhost"),
            ("--kafka-topic-prefix", "a/b"),
            ("--kafka-property", "linger.ms"),
            ("--kafka-property", "acks=1"),
            ("--kafka-partitions", "0"),
            ("--kafka-retention", "7"),
            ("--kafka-security-protocol", "TLS"),
            ("--kafka-sasl-mechanism", "GSSAPI"),
            ("--kafka-sasl-oauthbearer-token-endpoint-url", "https://x"),
        ] {
            let servers = ["--kafka-bootstrap-servers", "a:1"];
            let given = if option == servers[0] { &[][..] } else { &servers };
            let error = settings(&[given, &[option, value]].concat()).unwrap_err();
            assert!(error.contains(option), "{error}");
        }
        let servers = ["--kafka-bootstrap-servers", "a:1"];
        let error =
            settings(&[&servers[..], &["--kafka-property", "sasl.password:hunter2"]].concat()).unwrap_err();
        assert!(!error.contains("hunter2"), "{error}");
    }
}
