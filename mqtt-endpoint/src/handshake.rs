//! From the first byte of a connection to CONNACK.

use std::num::NonZeroU16;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use common::auth::{Login, Secret};
use common::error::ErrorKind;
use common::ingest::Telemetry;
use common::service::{self, Protocol, new_event_id};
use common::subject::Subject;
use ntex::codec::Decoder;
use ntex::io::IoBoxed;
use ntex::util::{ByteString, BytesMut};
use ntex_mqtt::QoS;

use crate::closing::hang_up;
use crate::frame::{self, Opening};
use crate::messages::telemetry;
use crate::packet::{Accept, Connect, Inbound, Outbound, Publish, Version};
use crate::reply::{Goodbye, Refusal};
use crate::server::Endpoint;
use crate::session::{Agreed, Session};
use crate::v3::UNACCEPTABLE_VERSION;
use crate::wire::Wire;

/// The longest client id, in bytes.
const MAX_CLIENT_ID_LEN: usize = 256;

/// Serves one connection to its end.
pub(crate) async fn serve(endpoint: Arc<Endpoint>, io: IoBoxed) {
    // Boxed apart: what a handshake needs is not kept for the life of the session.
    let opened = Box::pin(open(endpoint, io)).await;
    if let Some(session) = opened {
        session.run().await;
    }
}

async fn open(endpoint: Arc<Endpoint>, io: IoBoxed) -> Option<Box<Session>> {
    let limit = endpoint.config.mqtt_connect_timeout;
    let opening = tokio::select! {
        opening = tokio::time::timeout(limit, io.recv(&Peek)) => opening.ok()?.ok()??,
        () = endpoint.shutdown.cancelled() => return None,
    };
    let version = match opening {
        Opening::Connect(version) => version,
        Opening::OtherVersion => {
            // A client of an older version understands this answer only.
            io.encode_slice(&UNACCEPTABLE_VERSION).ok()?;
            hang_up(&io, &Wire::new(Version::V3, 0), None).await;
            return None;
        }
        Opening::NotMqtt => return None,
    };
    // How long CONNECT may be is judged already.
    let wire = Wire::new(version, u32::MAX);
    let refusal = match connect(&io, &wire) {
        Ok(connect) => match admit(&endpoint, &io, *connect).await {
            Ok(admitted) => return accept(endpoint, io, wire, admitted),
            Err(Rejection::Refused(refusal)) => refusal,
            Err(Rejection::Gone) => return None,
        },
        Err(refusal) => refusal,
    };
    tracing::debug!(?refusal, "connection refused");
    hang_up(&io, &wire, Some(Outbound::Refuse(refusal))).await;
    None
}

/// Looks at the first packet without taking it.
#[derive(Debug)]
struct Peek;

impl Decoder for Peek {
    type Item = Opening;
    type Error = Goodbye;

    fn decode(&self, buffer: &mut BytesMut) -> Result<Option<Opening>, Goodbye> {
        Ok(frame::opening(buffer))
    }
}

fn connect(io: &IoBoxed, wire: &Wire) -> Result<Box<Connect>, Refusal> {
    // 3.1.1's codec refuses this one thing that has a code of its own (section 3.1.3.1).
    let anonymous =
        wire.version() == Version::V3 && io.with_read_buf(|buffer| asks_for_a_kept_session(buffer));
    match io.decode(wire) {
        Ok(Some(Inbound::Connect(connect))) => Ok(connect),
        Err(_) if anonymous => Err(Refusal::ClientId),
        Ok(_) | Err(_) => Err(Refusal::Malformed),
    }
}

/// Tells whether a whole CONNECT of 3.1.1 has an empty client id and no clean session.
fn asks_for_a_kept_session(connect: &[u8]) -> bool {
    let body = connect.iter().skip(1).position(|byte| byte & 0x80 == 0).map_or(0, |at| at + 2);
    let (flags, id) = (connect.get(body + 7), connect.get(body + 10..body + 12));
    flags.is_some_and(|flags| flags & 0b10 == 0) && id == Some(&[0, 0])
}

enum Rejection {
    Refused(Refusal),
    /// The device did not wait for the answer, or cannot be given one.
    Gone,
}

impl From<Refusal> for Rejection {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

/// What a CONNECT came to.
struct Admitted {
    session: service::Session,
    assigned_client_id: Option<ByteString>,
    keep_alive: u16,
    receive_maximum: u16,
    will: Option<Box<Telemetry>>,
}

async fn admit(endpoint: &Arc<Endpoint>, io: &IoBoxed, connect: Connect) -> Result<Admitted, Rejection> {
    if connect.enhanced_auth {
        return Err(Refusal::EnhancedAuth.into());
    }
    if connect.client_id.len() > MAX_CLIENT_ID_LEN {
        return Err(Refusal::ClientId.into());
    }
    let will = connect.will.map(|will| self::will(endpoint, will)).transpose()?;
    let assigned_client_id = connect.client_id.is_empty().then(|| assign_client_id(endpoint));
    let client = assigned_client_id.as_ref().unwrap_or(&connect.client_id).as_str().into();
    let login = login(connect.user.as_deref(), connect.password.as_deref());
    let refused = || Refusal::Failed(endpoint.service.refuse_login(Protocol::Mqtt).kind());
    let login = login.ok_or_else(refused)?;
    let session = log_in(endpoint, io, &login, client).await?;
    Ok(Admitted {
        session,
        assigned_client_id,
        keep_alive: connect.keep_alive,
        receive_maximum: connect.receive_maximum,
        will,
    })
}

fn assign_client_id(endpoint: &Endpoint) -> ByteString {
    new_event_id(endpoint.service.clock().wall()).as_str().into()
}

/// Reads the credentials. What is not well formed is no login.
fn login(user: Option<&str>, password: Option<&[u8]>) -> Option<Login> {
    let password = std::str::from_utf8(password?).ok()?;
    Login::parse(user?, Secret::new(password)).ok()
}

/// Makes telemetry of a will, so that one that could never be published refuses the CONNECT.
fn will(endpoint: &Endpoint, will: Publish) -> Result<Box<Telemetry>, Refusal> {
    if will.qos == QoS::ExactlyOnce {
        return Err(Refusal::WillQos);
    }
    if will.payload.len() > endpoint.service.limits().max_payload {
        return Err(Refusal::Failed(ErrorKind::TooLarge));
    }
    let subject: Subject = will.topic.as_str().parse().map_err(|invalid| {
        let rejected: common::ingest::Rejected = common::subject::InvalidSubject::into(invalid);
        Refusal::Failed(rejected.kind())
    })?;
    Ok(Box::new(telemetry(subject, will)))
}

/// Logs the device in. A device that hangs up meanwhile is not waited for.
async fn log_in(
    endpoint: &Endpoint,
    io: &IoBoxed,
    login: &Login,
    client: Arc<str>,
) -> Result<service::Session, Rejection> {
    let gone = std::future::poll_fn(|context| {
        io.poll_dispatch(context);
        if io.is_closed() { Poll::Ready(()) } else { Poll::Pending }
    });
    let result = tokio::select! {
        biased;
        result = endpoint.service.log_in(Protocol::Mqtt, login, Some(client)) => result,
        () = gone => return Err(Rejection::Gone),
    };
    result.map_err(|error| Refusal::Failed(error.kind()).into())
}

/// Sends CONNACK and starts the session.
fn accept(endpoint: Arc<Endpoint>, io: IoBoxed, mut wire: Wire, admitted: Admitted) -> Option<Box<Session>> {
    let config = &endpoint.config;
    let longest = config.mqtt_max_keep_alive;
    let keep_alive = match admitted.keep_alive {
        0 => longest,
        seconds => seconds.min(longest),
    };
    let answer = Accept {
        assigned_client_id: admitted.assigned_client_id,
        keep_alive: (keep_alive != admitted.keep_alive).then_some(keep_alive),
        receive_maximum: NonZeroU16::new(config.mqtt_max_in_flight).unwrap_or(NonZeroU16::MIN),
        max_packet_size: endpoint.max_packet_size,
        topic_aliases: config.mqtt_max_topic_aliases,
    };
    io.encode(Outbound::Accept(answer), &wire).ok()?;
    wire.limit_to(endpoint.max_packet_size);
    let agreed = Agreed {
        silence: Duration::from_millis(1500 * u64::from(keep_alive)),
        window: config.mqtt_max_unacknowledged.min(admitted.receive_maximum).into(),
        will: admitted.will,
    };
    Some(Box::new(Session::new(endpoint, admitted.session, io, wire, agreed)))
}
