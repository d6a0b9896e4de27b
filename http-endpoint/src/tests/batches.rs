//! Several commands in one response.

use actix_web::body::MessageBody;
use common::auth::{Login, Secret};
use common::event::COMMAND_TYPE;
use common::service::{Connection, Delivery, Protocol};
use metrics_exporter_prometheus::PrometheusBuilder;
use serde_json::{Value, json};

use super::*;
use crate::reply;

const BATCH: &str = "accept: application/cloudevents-batch+json";

/// Makes a connection of `d1` that takes any number of commands.
async fn connection(channel: &MemoryChannel) -> (Connection, DeviceService) {
    let (devices, sent) = (StaticAuthenticator::new(), MemorySentCommands::new());
    devices.set(&d1(), "secret");
    let service = device_service(channel, &devices, &sent, Limits::default()).await.unwrap();
    let login = Login { device: d1(), secret: Secret::new("secret") };
    let session = service.log_in(Protocol::Http, &login, None).await.unwrap();
    (session.connect(session.queue()).await.unwrap(), service)
}

async fn deliveries(
    channel: &MemoryChannel,
    connection: &Connection,
    payloads: &[&'static [u8]],
) -> Vec<Delivery> {
    let mut deliveries = Vec::new();
    for payload in payloads {
        let mut command = command(&d1(), "set-temp".parse().unwrap(), payload);
        command.content_type = "application/json".to_owned();
        channel.send(command);
        deliveries.push(connection.receive().await.unwrap());
    }
    deliveries
}

#[tokio::test]
async fn a_device_that_takes_a_batch_gets_one() {
    let endpoint = TestEndpoint::start().await;
    let mut client = endpoint.send(post("/v1/temperature?ttd=90", &[BATCH])).await;
    endpoint.published(1).await;
    let sent = command(&d1(), "set-temp".parse().unwrap(), b"\xff40");
    endpoint.channel.send(sent.clone());
    let response = client.response().await.unwrap();
    assert_eq!((response.status, response.header("command-count")), (202, Some("1")), "{response:?}");
    assert_eq!(response.header("content-type"), Some("application/cloudevents-batch+json"));
    assert_eq!((response.header("command"), response.header("command-id")), (None, None));
    assert_eq!(response.header("ttd"), Some("60"));
    let batch: Value = serde_json::from_slice(&response.body).unwrap();
    let expected = json!([{
        "specversion": "1.0",
        "id": sent.id.as_str(),
        "type": COMMAND_TYPE,
        "source": "drogue://default/d1",
        "subject": "set-temp",
        "datacontenttype": "application/octet-stream",
        "application": "default",
        "device": "d1",
        "partitionkey": "default/d1",
        "expirytime": sent.expires.to_string(),
        "data_base64": "/zQw",
    }]);
    assert_eq!(batch, expected);
    let response = endpoint.ask(post("/v1/temperature?ttd=0.1", &[BATCH])).await;
    assert_eq!((response.status, response.text().as_str()), (202, ""), "{response:?}");
    assert_eq!((response.header("command-count"), response.header("content-type")), (None, None));
    endpoint.stop().await;
}

#[tokio::test]
async fn all_commands_come_in_order_and_are_delivered_with_the_last_byte() {
    let recorder = PrometheusBuilder::new().build_recorder();
    let counts = recorder.handle();
    let _recording = metrics::set_default_local_recorder(&recorder);
    let channel = MemoryChannel::new();
    let (connection, _service) = connection(&channel).await;
    let response = reply::batch(deliveries(&channel, &connection, &[b"1", b"2", b"3"]).await, None);
    assert_eq!(response.headers().get("command-count").unwrap(), "3");
    assert!(!counts.render().contains("drogue_commands_total{"));
    let mut body = Box::pin(response.into_body());
    let mut next = async || std::future::poll_fn(|context| body.as_mut().poll_next(context)).await;
    let batch: Value = serde_json::from_slice(&next().await.unwrap().unwrap()).unwrap();
    let data: Vec<_> = batch.as_array().unwrap().iter().map(|event| &event["data"]).collect();
    assert_eq!(data, [&json!(1), &json!(2), &json!(3)]);
    assert!(!counts.render().contains("drogue_commands_total{"));
    assert!(next().await.is_none());
    assert!(counts.render().contains(r#"{state="delivered",detail="written"} 3"#), "{}", counts.render());

    // Of a response that is not taken to its end nothing is known.
    let response = reply::batch(deliveries(&channel, &connection, &[b"1", b"2"]).await, None);
    drop(response);
    let lost = r#"{state="undelivered",detail="connection-lost"} 2"#;
    assert!(counts.render().contains(lost), "{}", counts.render());
}

#[tokio::test]
async fn what_has_lapsed_is_left_out() {
    let channel = MemoryChannel::new();
    let (connection, _service) = connection(&channel).await;
    let mut all = deliveries(&channel, &connection, &[b"1", b"2"]).await;
    // One that has begun already is as one that has lapsed: there is nothing to write.
    assert!(all[0].begin().is_some());
    let response = reply::batch(all, None);
    assert_eq!(response.headers().get("command-count").unwrap(), "1");
    let mut all = deliveries(&channel, &connection, &[b"1"]).await;
    assert!(all[0].begin().is_some());
    let response = reply::batch(all, None);
    assert_eq!((response.status().as_u16(), response.headers().len()), (202, 0));
}
