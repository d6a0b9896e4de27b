//! An HTTP/1.1 client that sends what it is told, however wrong.

use std::io;
use std::net::SocketAddr;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::PATIENCE;

/// A connection to a server.
#[derive(Debug)]
pub struct HttpClient<S = TcpStream> {
    stream: S,
    received: Vec<u8>,
}

/// A response.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpResponse {
    /// The status code.
    pub status: u16,
    /// The headers, names in lower case.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Vec<u8>,
}

impl HttpResponse {
    /// Returns a header.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// Returns the body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

impl HttpClient {
    /// Connects without TLS.
    ///
    /// # Errors
    /// Fails if nobody listens.
    pub async fn connect(address: SocketAddr) -> io::Result<Self> {
        Ok(Self::new(TcpStream::connect(address).await?))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> HttpClient<S> {
    /// Takes over a connection.
    pub fn new(stream: S) -> Self {
        Self { stream, received: Vec::new() }
    }

    /// Sends bytes.
    ///
    /// # Errors
    /// Fails if the connection is closed.
    pub async fn send(&mut self, bytes: impl AsRef<[u8]>) -> io::Result<()> {
        self.stream.write_all(bytes.as_ref()).await?;
        self.stream.flush().await
    }

    /// Receives the next response, whose length `content-length` tells. `None`: the server has closed the connection.
    ///
    /// # Panics
    /// Panics if no response comes within [`PATIENCE`], or none that can be read.
    pub async fn response(&mut self) -> Option<HttpResponse> {
        let end = loop {
            if let Some(at) = self.received.windows(4).position(|four| four == b"\r\n\r\n") {
                break at;
            }
            if !self.receive().await {
                assert!(self.received.is_empty(), "cut off: {:?}", String::from_utf8_lossy(&self.received));
                return None;
            }
        };
        let head = String::from_utf8_lossy(&self.received[..end]).into_owned();
        let mut response = parse_head(&head).unwrap_or_else(|| panic!("no response: {head:?}"));
        let length = response.header("content-length").map_or(Some(0), |length| length.parse().ok());
        let body = end + 4..end + 4 + length.unwrap_or_else(|| panic!("no length: {head:?}"));
        while self.received.len() < body.end {
            assert!(self.receive().await, "the body is cut off");
        }
        response.body = self.received[body.clone()].to_vec();
        self.received.drain(..body.end);
        Some(response)
    }

    /// Waits until the server closes the connection, and returns what it sent before.
    pub async fn closed(&mut self) -> String {
        while self.receive().await {}
        String::from_utf8_lossy(&std::mem::take(&mut self.received)).into_owned()
    }

    /// Receives some bytes. Returns false at the end, be it orderly or not.
    async fn receive(&mut self) -> bool {
        let received = timeout(PATIENCE, self.stream.read_buf(&mut self.received)).await;
        received.unwrap_or_else(|_| panic!("nothing came")).is_ok_and(|count| count > 0)
    }
}

fn parse_head(head: &str) -> Option<HttpResponse> {
    let mut lines = head.split("\r\n");
    let status = lines.next()?.strip_prefix("HTTP/1.")?.get(2..5)?.parse().ok()?;
    let headers = lines.map(|line| {
        let (name, value) = line.split_once(':')?;
        Some((name.to_ascii_lowercase(), value.trim().to_owned()))
    });
    Some(HttpResponse { status, headers: headers.collect::<Option<_>>()?, body: Vec::new() })
}
