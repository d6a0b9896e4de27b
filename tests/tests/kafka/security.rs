//! TLS and SASL to Kafka, against a real broker.

use common::channel::Channel;
use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use tests::binary::run_directory;
use tests::brokers::Brokers;
use tests::devices::{DeviceDriver, HttpDevice};
use tests::secrets::{payload, told_in};
use tests::secured::{Secured, USER};
use tests::server::Server;
use tests::waiting::{LONG, Waiting};

fn options(secured: &Secured, mechanism: &str) -> Vec<String> {
    let address = match mechanism {
        "PLAIN" => secured.plain,
        "OAUTHBEARER" => secured.oauth,
        _ => secured.scram,
    };
    let mut options = vec![
        format!("--kafka-bootstrap-servers={address}"),
        "--kafka-security-protocol=SASL_SSL".to_owned(),
        format!("--kafka-sasl-mechanism={mechanism}"),
        format!("--kafka-ssl-ca-location={}", secured.file("ca.pem")),
        format!("--kafka-topic-prefix={}.", mechanism.to_lowercase()),
    ];
    if mechanism == "OAUTHBEARER" {
        options.push(format!("--kafka-sasl-oauthbearer-token-endpoint-url=file://{}", secured.file("token")));
    } else {
        options.push(format!("--kafka-sasl-username={USER}"));
        options.push(format!("--kafka-sasl-password-file={}", secured.file("password")));
    }
    options
}

fn borrowed(options: &[String]) -> Vec<&str> {
    options.iter().map(String::as_str).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn tls_and_each_sasl_mechanism_let_in_who_is_right_and_nobody_else() {
    let secured = Secured::new(&run_directory().join("secured"));
    let Some(brokers) = Brokers::start_secured("TLS and SASL", &secured).await else { return };
    make_topics(&brokers.servers(), "oauthbearer.").await;
    for mechanism in ["SCRAM-SHA-256", "PLAIN", "OAUTHBEARER"] {
        let server = Server::start(&borrowed(&options(&secured, mechanism))).await;
        let tenant = server.cloud().tenant().await;
        let device = tenant.device().await;
        assert_eq!(HttpDevice.publish(tenant.gate(), &device, "a", b"x").await, Ok(()), "{mechanism}");
        let waiting = Waiting::begin(HttpDevice, &tenant, &device, LONG).await;
        tenant.command(&device, "set-temp", &payload()).await;
        assert!(waiting.end().await.is_some(), "{mechanism}");
    }
    assert_refused(&secured, "--kafka-sasl-password-file", "wrong-password", "uthentication").await;
    assert_refused(&secured, "--kafka-ssl-ca-location", "other-ca.pem", "certificate").await;
}

/// With OAUTHBEARER, the topics have to be there.
async fn make_topics(servers: &str, prefix: &str) {
    let admin: AdminClient<DefaultClientContext> =
        ClientConfig::new().set("bootstrap.servers", servers).create().unwrap();
    let names = Channel::ALL.map(|channel| format!("{prefix}{channel}"));
    let topics: Vec<_> =
        names.iter().map(|name| NewTopic::new(name, 3, TopicReplication::Fixed(1))).collect();
    let made = admin.create_topics(&topics, &AdminOptions::new()).await.unwrap();
    assert!(made.iter().all(Result::is_ok), "{made:?}");
}

/// A server with one other file ends, and says why, without the password.
async fn assert_refused(secured: &Secured, option: &str, file: &str, reason: &str) {
    let mut options = options(secured, "SCRAM-SHA-256");
    options.retain(|given| !given.starts_with(option));
    options.push(format!("{option}={}", secured.file(file)));
    let directory = run_directory().join(format!("refused-{file}"));
    let mut command = std::process::Command::new(tests::binary::drogue());
    command.arg("up").arg("--data-dir").arg(directory).args(&options);
    let output = tokio::task::spawn_blocking(move || command.output()).await.unwrap().unwrap();
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{told}");
    assert!(told.contains("error: Kafka at") && told.contains(reason), "{told}");
    assert!(told_in(&told).is_empty(), "{told}");
}
