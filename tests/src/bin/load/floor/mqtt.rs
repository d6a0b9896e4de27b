//! A bare ntex-mqtt server.

use ntex::service::cfg::SharedCfg;
use ntex::service::{fn_factory_with_config, fn_service};
use ntex_mqtt::v3::{
    Handshake, HandshakeAck, MqttServer, ProtocolMessage, ProtocolMessageAck, Publish, Session,
};
use ntex_mqtt::{MqttServiceConfig, QoS};

use crate::address::Loopback;

/// More than any measurement opens.
const MAX_CONNECTIONS: usize = 100_000;

/// Packets of one connection that are dispatched at the same time: more than any window.
const IN_FLIGHT: u16 = 1_000;

/// Nothing can go wrong but the connection.
#[derive(Debug)]
struct Failed;

impl From<()> for Failed {
    fn from((): ()) -> Self {
        Self
    }
}

/// Serves MQTT 3.1.1 until the process is ended.
///
/// # Errors
/// Fails if the address is not to be had.
pub(super) fn serve(listen: Loopback) -> anyhow::Result<()> {
    let server = async move {
        ntex::server::build()
            .maxconn(MAX_CONNECTIONS)
            .bind("floor", listen.socket(), async |_| {
                MqttServer::new(accept)
                    .protocol(fn_factory_with_config(async |_: Session<()>| {
                        Ok::<_, Failed>(fn_service(async |message| Ok::<_, Failed>(answer(message))))
                    }))
                    .publish(async |_: Publish| Ok::<_, Failed>(()))
            })?
            .config("floor", SharedCfg::new("floor").add(MqttServiceConfig::new().set_max_receive(IN_FLIGHT)))
            .run()
            .await
    };
    Ok(ntex::rt::System::new("floor", ntex::rt::DefaultRuntime).block_on(server)?)
}

async fn accept(handshake: Handshake) -> Result<HandshakeAck<()>, Failed> {
    Ok(handshake.ack((), false))
}

fn answer(message: ProtocolMessage) -> ProtocolMessageAck {
    match message {
        ProtocolMessage::Subscribe(mut subscribe) => {
            subscribe.iter_mut().for_each(|mut subscription| subscription.confirm(QoS::AtLeastOnce));
            subscribe.ack()
        }
        other @ (ProtocolMessage::PublishRelease(_)
        | ProtocolMessage::Unsubscribe(_)
        | ProtocolMessage::Disconnect(_)
        | ProtocolMessage::Ping(_)) => other.ack(),
    }
}
