//! Devices that publish as fast as they are answered, and remember what they were told.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::task::JoinSet;

use crate::api::http_client;
use crate::history::Operation;
use crate::mqtt::wire::Connect;
use crate::mqtt::{Client, Version};
use crate::secrets::{self, payload};
use crate::tenant::{Device, Tenant};
use crate::wait::eventually;

/// What an MQTT device has on its way, so that some is acknowledged and some is not when something breaks.
const IN_FLIGHT: usize = 8;
/// How long a device waits before it connects again, or sends after it was refused.
const PAUSE: Duration = Duration::from_millis(20);

/// What publishers were told, by subject. Each message has a subject of its own.
#[derive(Debug, Clone, Default)]
pub struct Told {
    device: String,
    accepted: Arc<Mutex<HashSet<String>>>,
    refused: Arc<AtomicUsize>,
    counter: Arc<AtomicUsize>,
}

impl Told {
    fn lock(&self) -> MutexGuard<'_, HashSet<String>> {
        self.accepted.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn next(&self) -> String {
        format!("n{}", self.counter.fetch_add(1, Ordering::Relaxed))
    }

    fn accept(&self, subject: String) {
        self.lock().insert(subject);
    }

    /// Returns the subjects of what was accepted.
    pub fn accepted(&self) -> HashSet<String> {
        self.lock().clone()
    }

    /// Returns what was accepted, as operations of a history.
    pub fn operations(&self) -> Vec<Operation> {
        let accepted = |subject| Operation::Accepted { device: self.device.clone(), subject };
        self.accepted().into_iter().map(accepted).collect()
    }

    /// Returns how many messages were refused.
    pub fn refused(&self) -> usize {
        self.refused.load(Ordering::Relaxed)
    }

    /// Waits until so many more are accepted.
    ///
    /// # Panics
    /// Panics if they are not.
    pub async fn accept_more(&self, count: usize) {
        let before = self.lock().len();
        eventually("more telemetry is accepted", || async {
            (self.lock().len() >= before + count).then_some(())
        })
        .await;
    }

    /// Waits until so many more are refused.
    ///
    /// # Panics
    /// Panics if they are not.
    pub async fn refuse_more(&self, count: usize) {
        let before = self.refused();
        eventually("telemetry is refused", || async { (self.refused() >= before + count).then_some(()) })
            .await;
    }
}

/// Publishers of a device over every protocol. They end when this is dropped.
#[derive(Debug)]
pub struct Publishers {
    tasks: JoinSet<()>,
    told: Told,
}

impl Publishers {
    /// Starts them at all gates of a cloud: for each, two over HTTP and one over each version of MQTT.
    pub fn start(tenant: &Tenant, device: &Device) -> Self {
        let told = Told { device: device.name.clone(), ..Told::default() };
        let mut tasks = JoinSet::new();
        for gate in tenant.cloud.gates() {
            for _ in 0..2 {
                tasks.spawn(over_http(gate.http, device.clone(), told.clone()));
            }
            for version in [Version::V311, Version::V5] {
                tasks.spawn(over_mqtt(gate.mqtt, version, device.clone(), told.clone()));
            }
        }
        Self { tasks, told }
    }

    /// Returns what they were told so far.
    pub fn told(&self) -> &Told {
        &self.told
    }

    /// Ends them. What was on its way is neither accepted nor refused.
    ///
    /// # Panics
    /// Panics if one has failed.
    pub async fn stop(mut self) -> Told {
        self.tasks.abort_all();
        while let Some(ended) = self.tasks.join_next().await {
            assert!(ended.is_ok() || ended.is_err_and(|error| error.is_cancelled()), "a publisher failed");
        }
        self.told
    }
}

async fn over_http(address: SocketAddr, device: Device, told: Told) {
    loop {
        let subject = told.next();
        let request = http_client().post(format!("http://{address}/v1/{subject}"));
        let request = request.basic_auth(device.user(), Some(&device.secret)).body(payload());
        match request.send().await.map(|answer| answer.status().as_u16()) {
            Ok(202) => told.accept(subject),
            Ok(429 | 503) => {
                told.refused.fetch_add(1, Ordering::Relaxed);
                tokio::time::sleep(PAUSE).await;
            }
            Ok(other) => panic!("telemetry is answered with {other}"),
            // The endpoint is gone for a moment.
            Err(_) => tokio::time::sleep(PAUSE).await,
        }
    }
}

async fn over_mqtt(address: SocketAddr, version: Version, device: Device, told: Told) {
    loop {
        // A session ends with its endpoint, or by its refusal in version 3.1.1.
        session(address, version, &device, &told).await;
        tokio::time::sleep(PAUSE).await;
    }
}

async fn session(address: SocketAddr, version: Version, device: &Device, told: &Told) {
    let connect = Connect { client_id: secrets::unique(), ..Connect::of(version, device) };
    let Ok(mut client) = Client::connect_with(address, &connect).await else { return };
    let mut in_flight = std::collections::VecDeque::new();
    loop {
        while in_flight.len() < IN_FLIGHT {
            let subject = told.next();
            let id = client.send_publish(&subject, 1, payload().as_bytes()).await;
            in_flight.push_back((id, subject));
        }
        let Some((id, subject)) = in_flight.pop_front() else { return };
        match client.acknowledged(id).await {
            Ok(()) => told.accept(subject),
            Err(crate::mqtt::Refused::Publish(_)) => {
                told.refused.fetch_add(1, Ordering::Relaxed);
                tokio::time::sleep(PAUSE).await;
            }
            Err(_) => {
                told.refused.fetch_add(1, Ordering::Relaxed);
                return;
            }
        }
    }
}
