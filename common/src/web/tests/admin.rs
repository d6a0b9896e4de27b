//! The admin server.

use std::sync::atomic::AtomicBool;

use super::*;
use crate::web::admin::{self, Part};

#[tokio::test]
async fn the_admin_server_tells_health_readiness_and_metrics() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let live = Arc::new(AtomicBool::new(false));
    let seen = live.clone();
    let readiness = Arc::new(move || {
        vec![
            Part { name: "http", ready: true },
            Part { name: "commands", ready: seen.load(Ordering::SeqCst) },
        ]
    });
    let handle = admin::install_metrics().unwrap();
    assert!(admin::install_metrics().is_err());
    metrics::counter!("drogue_test_total").increment(3);
    let shutdown = Shutdown::new();
    let server = tokio::spawn(admin::run(Some(listener), readiness, handle, shutdown.clone()));

    let mut client = HttpClient::connect(address).await.unwrap();
    let mut get = async |path: &str| {
        client.send(format!("GET {path} HTTP/1.1\r\nhost: x\r\n\r\n")).await.unwrap();
        client.response().await.unwrap()
    };
    assert_eq!(get("/healthz").await.status, 200);
    let response = get("/readyz").await;
    assert_eq!(response.status, 503);
    let expected =
        r#"{"ready":false,"parts":[{"name":"http","ready":true},{"name":"commands","ready":false}]}"#;
    assert_eq!(response.text(), expected);
    live.store(true, Ordering::SeqCst);
    assert_eq!(get("/readyz").await.status, 200);
    let metrics = get("/metrics").await;
    assert!(metrics.header("content-type").is_some_and(|kind| kind.starts_with("text/plain; version=0.0.4")));
    assert!(metrics.text().contains("drogue_test_total 3"), "{}", metrics.text());
    assert!(metrics.text().contains(r#"drogue_open_connections{server="admin"} 1"#), "{}", metrics.text());
    shutdown.cancel();
    server.await.unwrap().unwrap();
}
