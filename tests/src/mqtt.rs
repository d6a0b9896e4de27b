//! An MQTT client of 3.1.1 and 5 that shows every packet and can send any bytes.

pub mod wire;

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;

use bytes::BytesMut;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::tenant::Device;
use crate::wait::within;
use wire::{Connect, Packet, Properties};

/// A version of the protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    /// 3.1.1.
    V311,
    /// 5.
    V5,
}

/// Says how the server refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refused {
    /// CONNACK with this code.
    Connect(u8),
    /// PUBACK with this code.
    Publish(u8),
    /// DISCONNECT with this code.
    Disconnect(u8),
    /// The connection was closed.
    Closed,
}

/// A client on one connection. Dropping it closes the connection without DISCONNECT.
#[derive(Debug)]
pub struct Client {
    stream: TcpStream,
    version: Version,
    buffer: BytesMut,
    inbox: VecDeque<Packet>,
    next_id: u16,
    /// The properties of the CONNACK.
    pub connected: Properties,
}

impl Client {
    /// Opens a TCP connection and sends nothing.
    ///
    /// # Panics
    /// Panics if nobody listens.
    pub async fn open(address: SocketAddr, version: Version) -> Self {
        Self::try_open(address, version).await.expect("somebody listens")
    }

    async fn try_open(address: SocketAddr, version: Version) -> io::Result<Self> {
        let stream = within("a TCP connection", TcpStream::connect(address)).await?;
        stream.set_nodelay(true).expect("the stream is open");
        let (buffer, inbox, connected) = (BytesMut::new(), VecDeque::new(), Properties::default());
        Ok(Self { stream, version, buffer, inbox, next_id: 0, connected })
    }

    /// Connects as a device, with its name as client id.
    ///
    /// # Errors
    /// Returns how the server refused.
    pub async fn connect(address: SocketAddr, version: Version, device: &Device) -> Result<Self, Refused> {
        Self::connect_with(address, &Connect::of(version, device)).await
    }

    /// Connects under the device's own client id, and subscribes with QoS 1.
    ///
    /// # Panics
    /// Panics if the device is refused.
    pub async fn subscribed(address: SocketAddr, version: Version, device: &Device, filter: &str) -> Self {
        let mut client = Self::connect(address, version, device).await.expect("the device is let in");
        assert_eq!(client.subscribe(&[(filter, 1)]).await, Ok(vec![1]));
        client
    }

    /// Connects with full say about the CONNECT.
    ///
    /// # Errors
    /// Returns how the server refused; where nobody listens, that it closed.
    pub async fn connect_with(address: SocketAddr, connect: &Connect) -> Result<Self, Refused> {
        let Ok(mut client) = Self::try_open(address, connect.version).await else {
            return Err(Refused::Closed);
        };
        client.send(&connect.encode()).await;
        match client.next().await {
            Some(Packet::ConnAck { code: 0, session_present, properties }) => {
                assert!(!session_present, "no session outlives its connection");
                client.connected = properties;
                Ok(client)
            }
            Some(Packet::ConnAck { code, .. }) => Err(Refused::Connect(code)),
            Some(Packet::Disconnect { code, .. }) => Err(Refused::Disconnect(code)),
            None => Err(Refused::Closed),
            Some(packet) => panic!("{packet:?} in answer to CONNECT"),
        }
    }

    /// Sends bytes. That the server has closed is found out by reading.
    pub async fn send(&mut self, bytes: &[u8]) {
        drop(within("the server reads", self.try_send(bytes)).await);
    }

    /// Sends bytes.
    ///
    /// # Errors
    /// Fails if the server has closed.
    pub async fn try_send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes).await
    }

    /// Returns the next packet, or `None` if the server closed.
    ///
    /// # Panics
    /// Panics if there is neither in time.
    pub async fn next(&mut self) -> Option<Packet> {
        if let Some(packet) = self.inbox.pop_front() {
            return Some(packet);
        }
        within("a packet or the end", self.receive()).await
    }

    /// Publishes and waits for the acknowledgement, of which QoS 0 has none.
    ///
    /// # Errors
    /// Returns how the server refused.
    pub async fn publish(&mut self, topic: &str, qos: u8, payload: &[u8]) -> Result<(), Refused> {
        let id = self.send_publish(topic, qos, payload).await;
        if qos == 0 { Ok(()) } else { self.acknowledged(id).await }
    }

    /// Publishes, waits for nothing, and returns the packet id.
    pub async fn send_publish(&mut self, topic: &str, qos: u8, payload: &[u8]) -> u16 {
        let id = self.new_id();
        let packet = wire::publish(self.version, topic.as_bytes(), qos, id, payload);
        self.send(&packet).await;
        id
    }

    /// Waits for the acknowledgement of a publish; what else comes is kept.
    ///
    /// # Errors
    /// Returns how the server refused.
    pub async fn acknowledged(&mut self, id: u16) -> Result<(), Refused> {
        let is_answer = |packet: &Packet| {
            matches!(packet, Packet::PubAck { id: of, .. } if *of == id)
                || matches!(packet, Packet::Disconnect { .. })
        };
        match self.find(is_answer).await {
            Some(Packet::PubAck { code: 0, .. }) => Ok(()),
            Some(Packet::PubAck { code, .. }) => Err(Refused::Publish(code)),
            Some(Packet::Disconnect { code, .. }) => Err(Refused::Disconnect(code)),
            _ => Err(Refused::Closed),
        }
    }

    /// Subscribes and returns the codes of the SUBACK.
    ///
    /// # Errors
    /// Returns how the server refused, if not by a code.
    pub async fn subscribe(&mut self, filters: &[(&str, u8)]) -> Result<Vec<u8>, Refused> {
        let id = self.new_id();
        self.send(&wire::subscribe(self.version, id, filters)).await;
        let is_answer = |packet: &Packet| matches!(packet, Packet::SubAck { .. } | Packet::Disconnect { .. });
        match self.find(is_answer).await {
            Some(Packet::SubAck { codes, .. }) => Ok(codes),
            Some(Packet::Disconnect { code, .. }) => Err(Refused::Disconnect(code)),
            _ => Err(Refused::Closed),
        }
    }

    /// Unsubscribes and waits for the UNSUBACK.
    ///
    /// # Panics
    /// Panics if there is none.
    pub async fn unsubscribe(&mut self, filter: &str) {
        let id = self.new_id();
        self.send(&wire::unsubscribe(self.version, id, filter)).await;
        self.find(|packet| matches!(packet, Packet::UnsubAck { .. })).await.expect("an UNSUBACK");
    }

    /// Returns the next message and acknowledges it; `None` if the server closed.
    pub async fn message(&mut self) -> Option<wire::Publish> {
        let message = self.unacknowledged_message().await?;
        if let Some(id) = message.id {
            self.send(&wire::puback(id)).await;
        }
        Some(message)
    }

    /// Returns the next message without acknowledging it; `None` if the server closed.
    pub async fn unacknowledged_message(&mut self) -> Option<wire::Publish> {
        let packet = self.find(|packet| matches!(packet, Packet::Publish(_))).await?;
        if let Packet::Publish(publish) = packet { Some(publish) } else { None }
    }

    /// Sends a PINGREQ and waits for the answer: the connection is alive, and all before was read.
    ///
    /// # Panics
    /// Panics if there is no answer.
    pub async fn ping(&mut self) {
        self.send(&wire::PINGREQ).await;
        self.find(|packet| *packet == Packet::PingResp).await.expect("a PINGRESP");
    }

    /// Waits until the server has closed, and returns the code of its DISCONNECT if it sent one.
    pub async fn closed(&mut self) -> Option<u8> {
        let mut code = None;
        while let Some(packet) = self.next().await {
            if let Packet::Disconnect { code: said, .. } = packet {
                code = Some(said);
            }
        }
        code
    }

    /// Says DISCONNECT and closes.
    pub async fn disconnect(mut self) {
        self.send(&wire::DISCONNECT).await;
        drop(self.stream.shutdown().await);
    }

    /// Says DISCONNECT, or just closes, while its successor connects.
    pub async fn give_way(self, says_so: bool, successor: impl Future<Output = Self>) -> Self {
        let end = async {
            if says_so {
                self.disconnect().await;
            } else {
                drop(self);
            }
        };
        tokio::join!(successor, end).0
    }

    /// Returns the messages that came while something else was waited for.
    pub fn waiting_messages(&self) -> usize {
        self.inbox.iter().filter(|packet| matches!(packet, Packet::Publish(_))).count()
    }

    fn new_id(&mut self) -> u16 {
        self.next_id = self.next_id % 60_000 + 1;
        self.next_id
    }

    async fn find(&mut self, wanted: impl Fn(&Packet) -> bool) -> Option<Packet> {
        if let Some(index) = self.inbox.iter().position(&wanted) {
            return self.inbox.remove(index);
        }
        loop {
            let packet = within("a packet or the end", self.receive()).await?;
            if wanted(&packet) {
                return Some(packet);
            }
            self.inbox.push_back(packet);
        }
    }

    /// Cancelling this loses nothing.
    async fn receive(&mut self) -> Option<Packet> {
        loop {
            if let Some(packet) = wire::decode(&mut self.buffer, self.version) {
                return Some(packet);
            }
            match self.stream.read_buf(&mut self.buffer).await {
                Ok(0) | Err(_) => return None,
                Ok(_) => {}
            }
        }
    }
}
