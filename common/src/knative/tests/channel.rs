//! A channel that answers as it is told.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;

use socket2::SockRef;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::*;

/// What a channel does with a request.
#[derive(Debug, Clone)]
pub(super) enum Answer {
    Status(u16),
    /// None, ever.
    Silence,
    /// The connection is reset.
    Reset,
    /// A status, once it is let go.
    Held(Shutdown, u16),
}

/// A request that a channel got.
#[derive(Debug, Clone)]
pub(super) struct Posted {
    pub(super) path: String,
    pub(super) headers: Vec<(String, String)>,
    pub(super) body: Bytes,
}

impl Posted {
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    pub(super) fn subject(&self) -> &str {
        self.header("ce-subject").unwrap_or_default()
    }
}

type Answering = dyn FnMut(&Posted) -> Answer + Send;

/// A channel on a real socket.
pub(super) struct FakeChannel {
    address: SocketAddr,
    posted: mpsc::Receiver<Posted>,
}

impl FakeChannel {
    /// Starts a channel that gives some answers, and then 202.
    pub(super) async fn scripted(answers: impl IntoIterator<Item = Answer>) -> Self {
        let mut answers: VecDeque<_> = answers.into_iter().collect();
        Self::answering(move |_| answers.pop_front().unwrap_or(Answer::Status(202))).await
    }

    pub(super) async fn answering(answer: impl FnMut(&Posted) -> Answer + Send + 'static) -> Self {
        Self::listening(TcpListener::bind("127.0.0.1:0").await.unwrap(), answer)
    }

    pub(super) fn listening(
        listener: TcpListener,
        answer: impl FnMut(&Posted) -> Answer + Send + 'static,
    ) -> Self {
        let answer: Arc<std::sync::Mutex<Answering>> = Arc::new(std::sync::Mutex::new(answer));
        let (sender, posted) = mpsc::channel(1024);
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (answer, sender) = (answer.clone(), sender.clone());
                // A connection ends however its client ends it.
                tokio::spawn(async move { serve(stream, &answer, &sender).await.ok() });
            }
        });
        Self { address, posted }
    }

    pub(super) fn url(&self, channel: Channel) -> Url {
        Url::parse(&format!("http://{}/{channel}", self.address)).unwrap()
    }

    /// Waits for the next request.
    pub(super) async fn posted(&mut self) -> Posted {
        soon("a request to the channel", self.posted.recv()).await.unwrap()
    }

    /// Returns how many requests came that were not asked for.
    pub(super) fn unread(&self) -> usize {
        self.posted.len()
    }
}

async fn serve(
    mut stream: TcpStream,
    answer: &std::sync::Mutex<Answering>,
    posted: &mpsc::Sender<Posted>,
) -> io::Result<()> {
    let mut received = Vec::new();
    while let Some(request) = read(&mut stream, &mut received).await? {
        let answer = (answer.lock().unwrap())(&request);
        posted.try_send(request).unwrap();
        let status = match answer {
            Answer::Status(status) => status,
            Answer::Silence => return std::future::pending().await,
            Answer::Reset => return SockRef::from(&stream).set_linger(Some(Duration::ZERO)),
            Answer::Held(go, status) => {
                go.cancelled().await;
                status
            }
        };
        let response = format!("HTTP/1.1 {status} Told\r\ncontent-length: 0\r\n\r\n");
        stream.write_all(response.as_bytes()).await?;
    }
    Ok(())
}

/// Reads the next request; `None` at the end of the connection.
async fn read(stream: &mut TcpStream, received: &mut Vec<u8>) -> io::Result<Option<Posted>> {
    let end = loop {
        if let Some(at) = received.windows(4).position(|four| four == b"\r\n\r\n") {
            break at;
        }
        if stream.read_buf(received).await? == 0 {
            return Ok(None);
        }
    };
    let head = String::from_utf8_lossy(&received[..end]).into_owned();
    let mut lines = head.split("\r\n");
    let path = lines.next().and_then(|line| line.split(' ').nth(1)).unwrap_or_default().to_owned();
    let header = |line: &str| line.split_once(": ").map(|(name, value)| (name.to_owned(), value.to_owned()));
    let mut posted = Posted { path, headers: lines.filter_map(header).collect(), body: Bytes::new() };
    let length = posted.header("content-length").map_or(0, |length| length.parse().unwrap());
    let body = end + 4..end + 4 + length;
    while received.len() < body.end {
        if stream.read_buf(received).await? == 0 {
            return Ok(None);
        }
    }
    posted.body = Bytes::copy_from_slice(&received[body.clone()]);
    received.drain(..body.end);
    Ok(Some(posted))
}
