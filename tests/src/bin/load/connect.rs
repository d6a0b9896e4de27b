//! Opens connections.

use std::future::Future;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, bail, ensure};
use bytes::BytesMut;
use futures_util::{StreamExt, TryStreamExt, stream};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

use crate::address::Loopback;
use crate::fleet::Login;
use crate::wire::mqtt::{self, Packet};

/// The filter of devices that want nothing but the payload of commands.
pub(crate) const COMMANDS: &str = "cmd";

/// How many connections are opened at the same time.
const AT_ONCE: usize = 200;

/// A connection, plain or TLS.
pub(crate) trait Stream: AsyncRead + AsyncWrite + Unpin {}

impl<S: AsyncRead + AsyncWrite + Unpin> Stream for S {}

/// Opens a connection for each login, some at the same time, and returns them in the order of the logins.
///
/// # Errors
/// Fails as soon as one does.
pub(crate) async fn all<'a, T, F>(
    logins: &'a [Login],
    open: impl FnMut(&'a Login) -> F,
) -> anyhow::Result<Vec<T>>
where
    F: Future<Output = anyhow::Result<T>>,
{
    stream::iter(logins).map(open).buffered(AT_ONCE).try_collect().await
}

/// Connects.
///
/// # Errors
/// Fails if nobody listens.
pub(crate) async fn tcp(target: Loopback) -> anyhow::Result<TcpStream> {
    let connected = TcpStream::connect(target.socket()).await;
    let stream = connected.with_context(|| format!("cannot connect to {target}"))?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// Connects and logs in over MQTT.
///
/// # Errors
/// Fails if the server does not take the device.
pub(crate) async fn mqtt(target: Loopback, login: &Login) -> anyhow::Result<TcpStream> {
    let mut stream = tcp(target).await?;
    log_in(&mut stream, login).await?;
    Ok(stream)
}

/// Connects, logs in and subscribes to commands over MQTT.
///
/// # Errors
/// Fails if the server does not take the device.
pub(crate) async fn subscribed(target: Loopback, login: &Login) -> anyhow::Result<TcpStream> {
    let mut stream = mqtt(target, login).await?;
    subscribe(&mut stream, COMMANDS).await?;
    Ok(stream)
}

/// Connects, logs in and subscribes to commands by topics that tell their names and ids.
///
/// # Errors
/// Fails if the server does not take the device.
pub(crate) async fn subscribed_by_name(target: Loopback, login: &Login) -> anyhow::Result<TcpStream> {
    let mut stream = mqtt(target, login).await?;
    subscribe(&mut stream, "cmd/#").await?;
    Ok(stream)
}

/// Logs in over MQTT.
///
/// # Errors
/// Fails if the server does not take the device.
pub(crate) async fn log_in(stream: &mut impl Stream, login: &Login) -> anyhow::Result<()> {
    let answer = request(stream, &mqtt::connect(login)).await?;
    match mqtt::parse(&answer)? {
        Some((_, Packet::ConnAck(0))) => Ok(()),
        other => bail!("the server answered CONNECT of {} with {other:?}", login.client_id),
    }
}

/// Subscribes to commands over MQTT, by a filter as [`COMMANDS`].
///
/// # Errors
/// Fails if the server does not grant it.
pub(crate) async fn subscribe(stream: &mut impl Stream, filter: &str) -> anyhow::Result<()> {
    let answer = request(stream, &mqtt::subscribe(filter)).await?;
    match mqtt::parse(&answer)? {
        Some((_, Packet::SubAck(0..=2))) => Ok(()),
        other => bail!("the server answered SUBSCRIBE with {other:?}"),
    }
}

/// Sends a packet and reads the one that answers it.
async fn request(stream: &mut impl Stream, packet: &[u8]) -> anyhow::Result<BytesMut> {
    stream.write_all(packet).await?;
    // TLS may keep back what it has taken.
    stream.flush().await?;
    let mut answer = BytesMut::with_capacity(64);
    while mqtt::parse(&answer)?.is_none() {
        ensure!(stream.read_buf(&mut answer).await? > 0, "the server closed the connection");
    }
    Ok(answer)
}

/// Makes what speaks TLS with a server of the given authority.
///
/// # Errors
/// Fails if the file has no certificate.
pub(crate) fn tls(ca_file: &Path) -> anyhow::Result<TlsConnector> {
    let mut roots = RootCertStore::empty();
    let certificate = CertificateDer::from_pem_file(ca_file)
        .with_context(|| format!("no certificate in {}", ca_file.display()))?;
    roots.add(certificate)?;
    let config = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
    Ok(TlsConnector::from(Arc::new(config)))
}

/// Connects with TLS.
///
/// # Errors
/// Fails if nobody listens, or the server is not of the authority.
pub(crate) async fn tcp_tls(target: Loopback, tls: &TlsConnector) -> anyhow::Result<TlsStream<TcpStream>> {
    let name = ServerName::IpAddress(target.socket().ip().into());
    Ok(tls.connect(name, tcp(target).await?).await?)
}
