//! Row 8: kill -9 in the middle of a load loses no acknowledged event.

use std::collections::HashSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use tests::api::http_client;
use tests::devices::{DeviceDriver, HttpDevice};
use tests::mqtt::{Client, Version};
use tests::scenarios::telemetry_until;
use tests::secrets::payload;
use tests::server::Server;
use tests::tenant::{Device, Tenant};
use tests::wait::eventually;

/// How often the server is killed.
const KILLS: usize = 20;
/// How many acknowledgements there must be between two kills, so that each is in the middle of a load.
const BETWEEN: usize = 150;

/// The subjects of what was acknowledged.
#[derive(Clone, Default)]
struct Acknowledged {
    subjects: Arc<Mutex<HashSet<String>>>,
    counter: Arc<AtomicUsize>,
}

impl Acknowledged {
    fn next(&self) -> String {
        format!("n{}", self.counter.fetch_add(1, Ordering::Relaxed))
    }

    fn add(&self, subject: String) {
        self.subjects.lock().unwrap().insert(subject);
    }

    fn count(&self) -> usize {
        self.subjects.lock().unwrap().len()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn row_08_kill_9_loses_no_acknowledged_event() {
    let mut server = Server::start(&["--log=info"]).await;
    let mut tenant = server.cloud().tenant().await;
    let device = tenant.device().await;
    let acknowledged = Acknowledged::default();
    for kill in 1..=KILLS {
        let load = load(&tenant, &device, &acknowledged);
        let before = acknowledged.count();
        eventually("the load is under way", || async {
            (acknowledged.count() >= before + BETWEEN).then_some(())
        })
        .await;
        server.kill();
        for device in load {
            device.await.unwrap();
        }
        server.restart().await;
        tenant = tenant.moved_to(server.cloud());
        assert_eq!(server.cloud().admin("readyz").await.0, 200, "after kill {kill}");
    }
    assert_eq!(HttpDevice.publish(tenant.gate(), &device, "last", b"x").await, Ok(()));
    let events = telemetry_until(&tenant, "last").await;
    let kept: HashSet<_> = events.iter().map(|event| event.attribute("subject").to_owned()).collect();
    let acknowledged = acknowledged.subjects.lock().unwrap();
    let lost: Vec<_> = acknowledged.difference(&kept).collect();
    assert!(
        lost.is_empty(),
        "{} of {} acknowledged events are lost: {lost:?}",
        lost.len(),
        acknowledged.len()
    );
    assert_eq!(kept.len(), events.len(), "nobody sent anything twice");
}

/// Publishes as fast as it is acknowledged, over every protocol, until the server is gone.
fn load(tenant: &Tenant, device: &Device, acknowledged: &Acknowledged) -> Vec<tokio::task::JoinHandle<()>> {
    let mqtt = [Version::V311, Version::V5, Version::V311, Version::V5].map(|version| {
        let (gate, acknowledged) = (tenant.gate(), acknowledged.clone());
        let (address, device) = (gate.mqtt, Device { ..device.clone() });
        tokio::spawn(async move { publish_over_mqtt(address, version, &device, &acknowledged).await })
    });
    let http = [(); 2].map(|()| {
        let (gate, device, acknowledged) = (tenant.gate(), device.clone(), acknowledged.clone());
        tokio::spawn(async move {
            let client = http_client();
            loop {
                let subject = acknowledged.next();
                let request = client.post(format!("http://{}/v1/{subject}", gate.http));
                let request = request.basic_auth(device.user(), Some(&device.secret)).body(payload());
                let Ok(answer) = request.send().await else { return };
                assert_eq!(answer.status(), 202);
                acknowledged.add(subject);
            }
        })
    });
    mqtt.into_iter().chain(http).collect()
}

async fn publish_over_mqtt(
    address: std::net::SocketAddr,
    version: Version,
    device: &Device,
    acknowledged: &Acknowledged,
) {
    let connect = tests::mqtt::wire::Connect {
        client_id: tests::secrets::unique(),
        ..tests::mqtt::wire::Connect::of(version, device)
    };
    let Ok(mut client) = Client::connect_with(address, &connect).await else { return };
    // Several in flight, so that some are acknowledged and some not when the server is killed.
    let mut in_flight = std::collections::VecDeque::new();
    loop {
        while in_flight.len() < 8 {
            let subject = acknowledged.next();
            let id = client.send_publish(&subject, 1, payload().as_bytes()).await;
            in_flight.push_back((id, subject));
        }
        let Some((id, subject)) = in_flight.pop_front() else { return };
        if client.acknowledged(id).await.is_err() {
            return;
        }
        acknowledged.add(subject);
    }
}
