//! The servers over real sockets: limits, malformed requests, shutdown, TLS, admin.

mod admin;
mod limits;
mod smuggling;

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use actix_web::web::{self, Bytes, Data, Payload, ServiceConfig};
use actix_web::{HttpRequest, HttpResponse};
use futures_util::{StreamExt, stream};
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;
use tokio_rustls::TlsConnector;

use super::{Problem, WebConfig, WebError, read_body, serve};
use crate::net::Listeners;
use crate::process::{Clock, Shutdown};
use crate::testing::{HttpClient, eventually, tls};

/// The time limit that a test means to reach.
const SHORT: Duration = Duration::from_millis(200);
/// A request that waits until it is let go.
const WAIT: &str = "POST /wait HTTP/1.1\r\nhost: x\r\n\r\n";
/// The most bytes of a body.
const LIMIT: usize = 1_000;

/// A server with three routes: `/echo` answers the body, `/wait` answers when it is let go, `/stream` never ends.
struct TestServer {
    address: SocketAddr,
    waiting: Arc<Waiting>,
    shutdown: Shutdown,
    task: JoinHandle<Result<(), WebError>>,
}

fn plain(listener: TcpListener) -> Listeners {
    Listeners { plain: Some(listener), tls: None }
}

struct Waiting {
    count: AtomicUsize,
    go: Semaphore,
}

impl TestServer {
    fn start(config: WebConfig) -> Self {
        Self::start_on(config, Duration::from_secs(20), plain)
    }

    fn start_on(
        config: WebConfig,
        grace: Duration,
        listeners: impl FnOnce(TcpListener) -> Listeners,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let waiting = Arc::new(Waiting { count: AtomicUsize::new(0), go: Semaphore::new(0) });
        let shared = Data::from(waiting.clone());
        let routes = move |app: &mut ServiceConfig| {
            app.app_data(shared.clone())
                .route("/echo", web::post().to(echo))
                .route("/stream", web::get().to(stream))
                .service(web::resource("/wait").route(web::post().to(wait)));
        };
        let shutdown = Shutdown::new();
        let server = serve("test", config, listeners(listener), routes, shutdown.clone(), grace);
        Self { address, waiting, shutdown, task: tokio::spawn(server) }
    }

    async fn connect(&self) -> HttpClient {
        HttpClient::connect(self.address).await.unwrap()
    }

    async fn waiting(&self, count: usize) {
        let waiting = self.waiting.clone();
        eventually("requests wait", || waiting.count.load(Ordering::SeqCst) == count).await;
    }

    async fn stop(self) {
        self.shutdown.cancel();
        self.task.await.unwrap().unwrap();
    }
}

async fn echo(request: HttpRequest, mut payload: Payload) -> Result<Bytes, Problem> {
    Ok(read_body(request.headers(), &mut payload, LIMIT, SHORT).await?)
}

async fn wait(waiting: Data<Waiting>) -> HttpResponse {
    waiting.count.fetch_add(1, Ordering::SeqCst);
    let _waits = Counted(&waiting.count);
    drop(waiting.go.acquire().await);
    HttpResponse::Ok().body("done")
}

/// Answers a head and a first piece, and then nothing more.
async fn stream() -> HttpResponse {
    let first = stream::once(async { Ok::<_, Problem>(Bytes::from_static(b"first")) });
    HttpResponse::Ok().streaming(first.chain(stream::pending()))
}

struct Counted<'a>(&'a AtomicUsize);

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

#[tokio::test]
async fn a_request_is_answered_and_another_follows() {
    let server = TestServer::start(WebConfig::default());
    let mut client = server.connect().await;
    for body in ["hello", "again"] {
        client
            .send(format!("POST /echo HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\n\r\n{body}"))
            .await
            .unwrap();
        assert_eq!(client.response().await.unwrap().text(), body);
    }
    client
        .send("POST /echo HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n2;x=y\r\nde\r\n0\r\n\r\n")
        .await
        .unwrap();
    assert_eq!(client.response().await.unwrap().text(), "abcde");
    server.stop().await;
}

#[tokio::test]
async fn what_the_router_refuses_is_a_problem() {
    let server = TestServer::start(WebConfig::default());
    let mut client = server.connect().await;
    client.send("POST /nothing HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    let response = client.response().await.unwrap();
    assert_eq!((response.status, response.header("content-type")), (404, Some(super::PROBLEM_JSON)));
    assert!(response.text().contains(r#""status":404"#), "{response:?}");
    client.send("GET /wait HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    let response = client.response().await.unwrap();
    assert_eq!((response.status, response.header("allow")), (405, Some("POST")));
    assert_eq!(response.header("content-type"), Some(super::PROBLEM_JSON));
    server.stop().await;
}

#[tokio::test]
async fn tls_offers_http_1_1_only() {
    let (config, mut client) = tls().unwrap();
    client.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    let connector = TlsConnector::from(Arc::new(client));
    let server = TestServer::start_on(WebConfig::default(), SHORT, |listener| Listeners {
        plain: None,
        tls: Some((listener, config)),
    });
    let socket = TcpStream::connect(server.address).await.unwrap();
    let stream = connector.connect(ServerName::try_from("localhost").unwrap(), socket).await.unwrap();
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"http/1.1"[..]));
    let mut client = HttpClient::new(stream);
    client.send("POST /echo HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n\r\nhi").await.unwrap();
    assert_eq!(client.response().await.unwrap().text(), "hi");
    server.stop().await;
}

#[tokio::test]
async fn shutdown_lets_requests_end_and_closes_their_connections() {
    let server = TestServer::start(WebConfig::default());
    let (mut idle, mut busy) = (server.connect().await, server.connect().await);
    idle.send("POST /echo HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    idle.response().await.unwrap();
    busy.send(WAIT).await.unwrap();
    server.waiting(1).await;
    server.shutdown.cancel();
    assert_eq!(idle.response().await, None);
    assert!(!server.task.is_finished());
    server.waiting.go.add_permits(1);
    let response = busy.response().await.unwrap();
    assert_eq!((response.text().as_str(), response.header("connection")), ("done", Some("close")));
    assert_eq!(busy.response().await, None);
    let address = server.address;
    server.stop().await;
    assert!(HttpClient::connect(address).await.is_err());
}

#[tokio::test]
async fn shutdown_answers_what_still_waits() {
    let grace = SHORT * 10;
    for request in [WAIT, "POST /wait HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\n\r\nhe"] {
        let server = TestServer::start_on(WebConfig::default(), grace, plain);
        let mut client = server.connect().await;
        client.send(request).await.unwrap();
        server.waiting(1).await;
        server.shutdown.cancel();
        let response = client.response().await.expect("an answer");
        assert_eq!((response.status, response.header("content-type")), (503, Some(super::PROBLEM_JSON)));
        assert_eq!(
            (response.header("connection"), response.header("retry-after")),
            (Some("close"), Some("1"))
        );
        assert!(response.text().contains("the server shuts down, try again later"), "{response:?}");
        assert_eq!(client.response().await, None);
        server.waiting(0).await;
        server.stop().await;
    }
}

#[tokio::test]
async fn shutdown_takes_no_longer_than_the_grace_time() {
    let server = TestServer::start_on(WebConfig::default(), SHORT, plain);
    let mut client = server.connect().await;
    client.send("GET /stream HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    assert_eq!(client.response().await.unwrap().status, 200);
    server.stop().await;
    // What has sent its head is cut off, not answered a second time.
    assert_eq!(client.closed().await, "5\r\nfirst\r\n");
}

#[tokio::test]
async fn a_client_that_hangs_up_frees_its_request() {
    let server = TestServer::start(WebConfig::default());
    let mut client = server.connect().await;
    client.send(WAIT).await.unwrap();
    server.waiting(1).await;
    drop(client);
    server.waiting(0).await;
    server.stop().await;
}
