//! Bytes over TCP, for what no client would send.

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::wait::within;

/// A TCP connection.
#[derive(Debug)]
pub struct Raw {
    stream: TcpStream,
}

impl Raw {
    /// Connects.
    ///
    /// # Panics
    /// Panics if nobody listens.
    pub async fn connect(address: SocketAddr) -> Self {
        let stream = within("a TCP connection", TcpStream::connect(address)).await.expect("somebody listens");
        Self { stream }
    }

    /// Sends bytes; tells whether the server took them all.
    pub async fn send(&mut self, bytes: impl AsRef<[u8]>) -> bool {
        within("the server reads or closes", self.stream.write_all(bytes.as_ref())).await.is_ok()
    }

    /// Says that nothing more is sent.
    pub async fn finish(&mut self) {
        drop(self.stream.shutdown().await);
    }

    /// Reads until the server closes and returns all of it.
    pub async fn read_to_end(&mut self) -> String {
        let mut bytes = Vec::new();
        // A reset is an end as well: what came before it counts.
        drop(within("the server closes", self.stream.read_to_end(&mut bytes)).await);
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// Reads one HTTP response with a content length: its head and body. Empty if the server closed instead.
    ///
    /// # Panics
    /// Panics if the server stalls.
    pub async fn response(&mut self) -> String {
        let mut bytes = Vec::new();
        while !is_whole(&bytes) {
            let mut chunk = [0; 4096];
            match within("a response or the end", self.stream.read(&mut chunk)).await {
                Ok(0) | Err(_) => break,
                Ok(length) => bytes.extend_from_slice(&chunk[..length]),
            }
        }
        String::from_utf8_lossy(&bytes).into_owned()
    }
}

/// Returns the status code of a response; 0 if there is none.
pub fn status(response: &str) -> u16 {
    response.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap_or(0)
}

/// Returns a header of a response.
pub fn header<'a>(response: &'a str, name: &str) -> Option<&'a str> {
    let head = response.split("\r\n\r\n").next().unwrap_or_default();
    let headers = head.lines().skip(1).filter_map(|line| line.split_once(':'));
    headers.into_iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim())
}

fn is_whole(bytes: &[u8]) -> bool {
    let text = String::from_utf8_lossy(bytes);
    let Some((head, body)) = text.split_once("\r\n\r\n") else { return false };
    let length = header(head, "content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
    body.len() >= length
}
