//! Rows 9, 27 and 28, and how a server starts: signals, clocks, descriptors. Row 8 is in `crash`.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use common::service::{Clock, Limits};
use common::testing;
use common::time::Timestamp;
use tests::devices::{DeviceDriver, HttpDevice, MqttDevice};
use tests::faults::{Endpoints, key};
use tests::mqtt::{Client, Version};
use tests::process::{Signal, cpu_ticks, descriptors};
use tests::raw::Raw;
use tests::server::Server;
use tests::wait::{eventually, within};
use tests::waiting::{LONG, Waiting};

/// MQTT 5: the server is shutting down.
const SHUTTING_DOWN: u8 = 0x8b;

#[tokio::test]
async fn row_09_sigterm_ends_waits_with_their_normal_answer_and_exits_0() {
    for signal in [Signal::Terminate, Signal::Interrupt] {
        let mut server = Server::start(&[]).await;
        let tenant = server.cloud().tenant().await;
        let device = tenant.device().await;
        let waiting = Waiting::begin(HttpDevice, &tenant, &device, LONG).await;
        let mut v5 = Client::connect(tenant.gate().mqtt, Version::V5, &device).await.unwrap();
        let old = tenant.device().await;
        let mut v311 = Client::connect(tenant.gate().mqtt, Version::V311, &old).await.unwrap();
        // Neither a stream that is open nor a client that says nothing may hold the end up.
        let _stream = tenant.telemetry().await;
        let _silent = Raw::connect(tenant.gate().http).await;
        server.signal(signal);
        assert_eq!(v5.closed().await, Some(SHUTTING_DOWN));
        assert_eq!(v311.closed().await, None);
        assert_eq!(waiting.end().await, None, "202 without a command");
        assert_eq!(server.ended().await.code(), Some(0), "{signal:?}: {}", server.log());
        assert!(tokio::net::TcpStream::connect(tenant.gate().http).await.is_err());
    }
}

#[tokio::test]
async fn what_a_server_prints_is_true_at_once() {
    for _ in 0..5 {
        let server = Server::start(&[]).await;
        assert_eq!(server.cloud().admin("readyz").await.0, 200);
        assert_eq!(server.cloud().admin("healthz").await.0, 200);
        let tenant = server.cloud().tenant().await;
        let device = tenant.device().await;
        let mut client = Client::connect(tenant.gate().mqtt, Version::V5, &device).await.unwrap();
        client.subscribe(&[("cmd", 1)]).await.unwrap();
        tenant.command(&device, "first", "1").await;
        assert!(client.message().await.is_some());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn row_27_waits_and_sessions_do_not_feel_the_wall_clock_jump() {
    const DAY: i64 = 24 * 60 * 60 * 1000;
    let offset = Arc::new(AtomicI64::new(0));
    let (read, system) = (offset.clone(), Clock::system());
    let clock = Clock::with_wall(move || {
        Timestamp::from_millis(system.wall().as_millis() + read.load(Ordering::SeqCst))
    });
    let wall = clock.clone();
    let endpoints = Endpoints::start_with(Limits::default(), clock).await;
    let device = endpoints.device();
    let mut mqtt = Client::connect(endpoints.gate().mqtt, Version::V5, &endpoints.device()).await.unwrap();
    for jump in [DAY, -DAY, -DAY, DAY] {
        let (gate, waits) = (endpoints.gate(), device.clone());
        let exchange = tokio::spawn(async move { HttpDevice.exchange(gate, &waits, "a", b"x", LONG).await });
        eventually("the wait has begun", || async {
            (endpoints.channel.events(common::channel::Channel::Telemetry).len() % 2 == 1).then_some(())
        })
        .await;
        offset.fetch_add(jump, Ordering::SeqCst);
        mqtt.ping().await;
        // A second exchange runs its whole course after the jump: the first is still waiting then.
        let (other, wait) = (endpoints.device(), Duration::from_millis(100));
        let short = HttpDevice.exchange(endpoints.gate(), &other, "b", b"x", wait);
        assert_eq!(short.await, Ok(None), "a wait ends by itself after a jump by {jump} ms");
        assert!(!exchange.is_finished(), "a wait ended early by a jump of {jump} ms");
        let mut command = testing::command(&key(&device), "after-the-jump".parse().unwrap(), b"1");
        command.expires = wall.wall().saturating_add(Duration::from_secs(60));
        endpoints.channel.send(command);
        let received = within("the command", exchange).await.unwrap().unwrap();
        assert_eq!(received.map(|command| command.name), Some("after-the-jump".into()));
    }
    mqtt.ping().await;
}

/// So many descriptors are enough for the server itself and a few clients.
const DESCRIPTORS: u32 = 160;

#[tokio::test]
async fn row_28_accepting_resumes_after_descriptors_were_exhausted_and_nothing_spins() {
    let server = Server::start_with_descriptors(DESCRIPTORS, &[]).await;
    let tenant = server.cloud().tenant().await;
    let device = tenant.device().await;
    for (name, address) in [("HTTP", tenant.gate().http), ("MQTT", tenant.gate().mqtt)] {
        let mut clients = Vec::new();
        // The backlog of the kernel takes those that the server cannot.
        for _ in 0..DESCRIPTORS {
            clients.push(Raw::connect(address).await);
        }
        eventually("the descriptors are used up, or enough clients were turned away", || async {
            let open = descriptors(server.pid());
            (open + 8 >= DESCRIPTORS as usize || server.log().contains("Too many open files")).then_some(())
        })
        .await;
        let before = cpu_ticks(server.pid());
        tokio::time::sleep(Duration::from_secs(2)).await;
        let spent = cpu_ticks(server.pid()) - before;
        // A thread that spins takes 200 ticks in 2 s, and 100 where it shares its core.
        assert!(spent < 60, "{name}: {spent} ticks of 10 ms in 2 s while no descriptor is left");
        drop(clients);
        assert_eq!(
            within("HTTP is served again", HttpDevice.publish(tenant.gate(), &device, "a", b"x")).await,
            Ok(())
        );
        let mqtt = MqttDevice::<true>.publish(tenant.gate(), &device, "a", b"x");
        assert_eq!(within("MQTT is served again", mqtt).await, Ok(()));
    }
}
