//! A device with several connections at once, over several protocols.

use crate::cloud::Cloud;
use crate::devices::{HttpDevice, MqttDevice};
use crate::outcomes::Outcomes;
use crate::secrets::payload;
use crate::waiting::{LONG, Waiting};

/// A device that waits over HTTP and MQTT at once gets each command once, by its newest connection, whichever replica
/// holds that.
pub async fn row_19_a_device_on_several_protocols_gets_each_command_once(cloud: &Cloud) {
    let tenant = cloud.tenant().await;
    let gates = cloud.gates();
    for round in 0..gates.len() {
        let (here, elsewhere) = (gates[round], gates[(round + 1) % gates.len()]);
        let (here, elsewhere) = (tenant.through(here), tenant.through(elsewhere));
        let device = tenant.device().await;
        let mut outcomes = Outcomes::of(&tenant, &device).await;
        let http = Waiting::begin(HttpDevice, &here, &device, LONG).await;
        let mqtt = Waiting::begin(MqttDevice::<true>, &elsewhere, &device, LONG).await;
        let first = tenant.command(&device, "first", &payload()).await;
        assert_eq!(mqtt.end().await.map(|command| command.id).as_ref(), Some(&first));
        assert_eq!(outcomes.until_settled(&first).await, ["delivered: puback"]);
        assert!(!http.is_over(), "the older wait stays");
        let again = Waiting::begin(HttpDevice, &elsewhere, &device, LONG).await;
        let second = tenant.command(&device, "second", &payload()).await;
        assert_eq!(again.end().await.map(|command| command.id).as_ref(), Some(&second));
        assert_eq!(outcomes.until_settled(&second).await, ["delivered: written"]);
        assert!(!http.is_over(), "the older wait stays");
        // The subscription was closed by its device, which may or may not be known by now.
        let kept = tenant.command_with_ttl(&device, "kept", "10m").await;
        assert_eq!(http.end().await.map(|command| command.id).as_ref(), Some(&kept));
        assert_eq!(outcomes.end(&kept).await, "delivered: written");
    }
}
