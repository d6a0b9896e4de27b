//! A wire to a server that can fail as wires do.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;

/// How connections fail.
#[derive(Debug, Default)]
pub(super) struct Faults {
    made: AtomicUsize,
    /// Connections up to this one neither pass anything on nor end.
    silent: AtomicUsize,
    holds_commit: AtomicBool,
    cut: Notify,
}

impl Faults {
    /// Lets the connections that there are fall silent.
    pub(super) fn silence(&self) {
        self.silent.store(self.made.load(Ordering::SeqCst), Ordering::SeqCst);
    }

    /// Holds the answer to the next commit, until it is cut.
    pub(super) fn hold_commit(&self) {
        self.holds_commit.store(true, Ordering::SeqCst);
    }

    /// Cuts the connection whose answer is held.
    pub(super) fn cut(&self) {
        self.cut.notify_one();
    }
}

/// One connection.
struct Wire {
    number: usize,
    faults: Arc<Faults>,
    is_held: AtomicBool,
}

impl Wire {
    fn is_silent(&self) -> bool {
        self.number <= self.faults.silent.load(Ordering::SeqCst)
    }

    /// Passes on what the client says: a commit also when nothing comes back any more.
    async fn to_server(&self, mut from: OwnedReadHalf, mut to: OwnedWriteHalf) {
        let mut buffer = vec![0; 1 << 16];
        while let Ok(length @ 1..) = from.read(&mut buffer).await {
            let is_commit = buffer[..length].windows(7).any(|text| text == b"COMMIT\0");
            if is_commit && self.faults.holds_commit.swap(false, Ordering::SeqCst) {
                self.is_held.store(true, Ordering::SeqCst);
            }
            if !self.is_silent() && to.write_all(&buffer[..length]).await.is_err() {
                return;
            }
        }
    }

    async fn to_client(&self, mut from: OwnedReadHalf, mut to: OwnedWriteHalf) {
        let mut buffer = vec![0; 1 << 16];
        while let Ok(length @ 1..) = from.read(&mut buffer).await {
            if self.is_held.load(Ordering::SeqCst) {
                return self.faults.cut.notified().await;
            }
            if !self.is_silent() && to.write_all(&buffer[..length]).await.is_err() {
                return;
            }
        }
    }
}

/// Relays connections to a server, and returns where. It ends with the runtime.
pub(super) async fn relay(server: String, faults: Arc<Faults>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (from_client, to_client) = listener.accept().await.unwrap().0.into_split();
            let (from_server, to_server) = TcpStream::connect(&server).await.unwrap().into_split();
            let number = faults.made.fetch_add(1, Ordering::SeqCst) + 1;
            let wire = Arc::new(Wire { number, faults: faults.clone(), is_held: AtomicBool::new(false) });
            let other = wire.clone();
            tokio::spawn(async move { wire.to_server(from_client, to_server).await });
            tokio::spawn(async move { other.to_client(from_server, to_client).await });
        }
    });
    address
}
