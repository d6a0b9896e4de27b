//! Limits, endings and counts.

use super::*;
use crate::auth::AuthError;
use crate::connections::{Capacity, Terms};
use crate::sessions::End;

#[tokio::test(start_paused = true)]
async fn a_channel_that_is_silent_is_an_error_in_time() {
    let fixture = Fixture::new(Limits::default()).await;
    let session = fixture.log_in().await.unwrap();
    fixture.channel.hold();
    let error = session.publish(telemetry(), None).await.unwrap_err();
    assert_eq!(error, PublishError::TimedOut(Duration::from_secs(10)).into());
}

#[tokio::test]
async fn a_device_has_so_many_connections_at_most() {
    let fixture = Fixture::new(Limits { max_device_connections: 1, ..Limits::default() }).await;
    let session = fixture.log_in().await.unwrap();
    let first = fixture.connect(&session).await;
    let terms = Terms { capacity: Capacity::One, deadline: None };
    assert_eq!(session.connect(terms).await.unwrap_err(), ServiceError::TooManyConnections(1));
    drop(first);
    assert!(session.connect(terms).await.is_ok());
}

#[tokio::test]
async fn promise_4_readiness_follows_the_command_subscription() {
    let fixture = Fixture::new(Limits::default()).await;
    assert!(fixture.service.is_live());
    fixture.channel.interrupt(&crate::channel::SourceError::Unavailable("down".into()));
    assert!(!fixture.service.is_live());
    fixture.channel.resume();
    assert!(fixture.service.is_live());
}

#[tokio::test]
async fn each_message_is_counted_once_by_what_became_of_it() {
    let recorder = metrics_exporter_prometheus::PrometheusBuilder::new().build_recorder();
    let counts = recorder.handle();
    let _recording = metrics::set_default_local_recorder(&recorder);
    let limits = Limits { max_payload: 10, max_device_connections: 1, ..Limits::default() };
    let fixture = Fixture::new(limits).await;
    let session = fixture.log_in().await.unwrap();

    session.publish(telemetry(), None).await.unwrap();
    fixture.channel.fail_next(PublishError::Overloaded);
    session.publish(telemetry(), None).await.unwrap_err();
    let long = Telemetry { payload: Bytes::from_static(b"12345678901"), ..telemetry() };
    session.publish(long, None).await.unwrap_err();
    // The device leaves; then one is tried twice, and counted by its endpoint.
    drop(session.publish(telemetry(), None));
    fixture.channel.fail_next(PublishError::Overloaded);
    session.offer(telemetry(), None).await.unwrap_err();
    let result = session.offer(telemetry(), None).await;
    session.count(result.map_err(|error| error.kind()).into());

    // One that may not wait is not published.
    let _only = fixture.connect(&session).await;
    session.exchange(telemetry(), ttd("1")).await.unwrap_err();

    let counts = counts.render();
    for (result, expected) in [("accepted", 2), ("overloaded", 2), ("too-large", 1), ("abandoned", 1)] {
        let line = format!("drogue_telemetry_total{{protocol=\"http\",result=\"{result}\"}} {expected}\n");
        assert!(counts.contains(&line), "{line}{counts}");
    }
}

#[tokio::test]
async fn a_session_ends_when_its_device_changes() {
    let fixture = Fixture::new(Limits::default()).await;
    let session = fixture.log_in().await.unwrap();
    let waiting = session.exchange(telemetry(), ttd("30"));
    let change = async { fixture.registry.set(&fixture.device, "another") };
    assert!(tokio::join!(waiting, change).0.unwrap().is_none());
    assert_eq!(session.ended().await, End::Revoked);
    let refused = fixture.log_in().await.unwrap_err();
    assert_eq!(refused, AuthError::Denied.into());
}

#[tokio::test]
async fn a_shutdown_ends_waits_with_their_normal_answer() {
    let fixture = Fixture::new(Limits::default()).await;
    let session = fixture.log_in().await.unwrap();
    let waiting = session.exchange(telemetry(), ttd("30"));
    let shutdown = async { fixture.service.shut_down() };
    assert!(tokio::join!(waiting, shutdown).0.unwrap().is_none());
    assert_eq!(session.ended().await, End::Shutdown);
}
