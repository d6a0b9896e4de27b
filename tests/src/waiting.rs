//! A device that waits for a command, and an application that knows it.

use std::time::Duration;

use tokio::task::JoinHandle;

use crate::devices::{Command, DeviceDriver, Refused};
use crate::events::{Query, Received};
use crate::secrets::payload;
use crate::tenant::{Device, Tenant};
use crate::wait::within;

/// A wait that a command ends.
pub const LONG: Duration = Duration::from_secs(50);
/// A wait that ends without a command.
pub const SHORT: Duration = Duration::from_secs(1);

/// A device that waits for a command, seen by its telemetry: the application knows that it is reachable.
#[derive(Debug)]
pub struct Waiting {
    exchange: JoinHandle<Result<Option<Command>, Refused>>,
    /// The telemetry.
    pub telemetry: Received,
}

impl Waiting {
    /// Begins a wait and returns once the application sees the telemetry.
    pub async fn begin<D: DeviceDriver>(driver: D, tenant: &Tenant, device: &Device, wait: Duration) -> Self {
        let mut stream = tenant.events(&Query::telemetry().of(&device.name)).await;
        let (gate, device) = (tenant.gate(), device.clone());
        let exchange = tokio::spawn(async move {
            driver.exchange(gate, &device, "temperature", payload().as_bytes(), wait).await
        });
        Self { exchange, telemetry: stream.next().await }
    }

    /// Waits for the end of the wait.
    ///
    /// # Panics
    /// Panics if the telemetry was refused.
    pub async fn end(self) -> Option<Command> {
        let exchange = within("the end of a wait", self.exchange).await;
        exchange.expect("the device does not fail").expect("telemetry is accepted")
    }

    /// Drops the connection as a device does that loses its network.
    pub async fn hang_up(self) {
        self.exchange.abort();
        assert!(self.exchange.await.is_err_and(|error| error.is_cancelled()));
    }

    /// Tells whether the device has the answer.
    pub fn is_over(&self) -> bool {
        self.exchange.is_finished()
    }
}
