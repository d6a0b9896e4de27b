//! A device that speaks MQTT.

use std::time::Duration;

use super::{Command, DeviceDriver, Refused};
use crate::cloud::Gate;
use crate::mqtt::wire::{Connect, Publish};
use crate::mqtt::{self, Client, Version};
use crate::secrets;
use crate::tenant::Device;

/// A device that speaks MQTT in a version, at QoS 1, on a connection for each call.
#[derive(Debug, Clone, Copy)]
pub struct MqttDevice<const V5: bool>;

impl<const V5: bool> MqttDevice<V5> {
    const VERSION: Version = if V5 { Version::V5 } else { Version::V311 };

    /// A version 5 client reads name and id from User Properties, an older one from the topic.
    const FILTER: &'static str = if V5 { "cmd" } else { "cmd/#" };

    async fn connect(gate: Gate, device: &Device) -> Result<Client, Refused> {
        // A client id of its own: connections of one device must not take each other over.
        let connect = Connect { client_id: secrets::unique(), ..Connect::of(Self::VERSION, device) };
        Client::connect_with(gate.mqtt, &connect).await.map_err(|answer| match answer {
            mqtt::Refused::Connect(_) => Refused::Login,
            mqtt::Refused::Publish(_) | mqtt::Refused::Disconnect(_) | mqtt::Refused::Closed => {
                refused(answer)
            }
        })
    }

    fn command(message: Publish) -> Command {
        let (name, id) = if V5 {
            assert_eq!(message.topic, "cmd");
            let user =
                |name| message.properties.user(name).expect("a command has a name and an id").to_owned();
            (user("command"), user("command-id"))
        } else {
            let mut levels = message.topic.split('/').skip(1).map(str::to_owned);
            levels.next().zip(levels.next()).expect("the topic is cmd/{name}/{id}")
        };
        Command { name, id, payload: message.payload }
    }
}

impl<const V5: bool> DeviceDriver for MqttDevice<V5> {
    const NAME: &'static str = if V5 { "MQTT 5" } else { "MQTT 3.1.1" };

    async fn publish(
        self,
        gate: Gate,
        device: &Device,
        subject: &str,
        payload: &[u8],
    ) -> Result<(), Refused> {
        let mut client = Self::connect(gate, device).await?;
        client.publish(subject, 1, payload).await.map_err(refused)?;
        client.disconnect().await;
        Ok(())
    }

    async fn exchange(
        self,
        gate: Gate,
        device: &Device,
        subject: &str,
        payload: &[u8],
        wait: Duration,
    ) -> Result<Option<Command>, Refused> {
        let mut client = Self::connect(gate, device).await?;
        let granted = client.subscribe(&[(Self::FILTER, 1)]).await.map_err(refused)?;
        assert_eq!(granted, [1], "QoS 1 is granted");
        client.publish(subject, 1, payload).await.map_err(refused)?;
        match tokio::time::timeout(wait, client.message()).await {
            Ok(Some(message)) => {
                client.disconnect().await;
                Ok(Some(Self::command(message)))
            }
            // A wait that ends, or a server that ends the session: no command came.
            Ok(None) | Err(_) => Ok(None),
        }
    }

    async fn reply(
        self,
        gate: Gate,
        device: &Device,
        command: &str,
        status: u16,
        payload: &[u8],
    ) -> Result<(), Refused> {
        self.publish(gate, device, &format!("reply/{command}/{status}"), payload).await
    }
}

fn refused(refused: mqtt::Refused) -> Refused {
    Refused::Message(format!("{refused:?}"))
}
