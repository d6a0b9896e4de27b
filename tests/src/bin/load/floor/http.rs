//! A bare actix-web server.

use std::time::Duration;

use actix_web::{App, HttpResponse, HttpServer, web};

use crate::address::Loopback;

/// More than any measurement opens.
const MAX_CONNECTIONS: usize = 100_000;

#[derive(serde::Deserialize)]
struct Wait {
    ttd: Option<u64>,
}

/// Serves HTTP until the process is ended.
///
/// # Errors
/// Fails if the address is not to be had.
pub(super) fn serve(listen: Loopback) -> anyhow::Result<()> {
    let app = || App::new().route("/v1/{subject}", web::post().to(accept));
    let server = HttpServer::new(app).max_connections(MAX_CONNECTIONS).bind(listen.socket())?;
    Ok(actix_web::rt::System::new().block_on(server.run())?)
}

async fn accept(_payload: web::Bytes, wait: web::Query<Wait>) -> HttpResponse {
    if let Some(ttd) = wait.ttd {
        actix_web::rt::time::sleep(Duration::from_secs(ttd)).await;
    }
    HttpResponse::Accepted().finish()
}
