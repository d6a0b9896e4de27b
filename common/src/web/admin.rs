//! The admin server: is the process alive, is it ready, what does it count.

use std::net::TcpListener;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use actix_web::http::StatusCode;
use actix_web::http::header::ContentType;
use actix_web::web::{self, Data, ServiceConfig};
use actix_web::{HttpResponse, HttpResponseBuilder};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use serde::Serialize;

use super::server::{WebConfig, WebError, serve};
use crate::net::Listeners;
use crate::process::Shutdown;

/// How often the recorder puts its samples in order, so that they take no more memory while nobody asks for them.
const UPKEEP: Duration = Duration::from_secs(5);

/// Bounds of histograms, in seconds: from a local commit to a long wait.
const BUCKETS: [f64; 14] =
    [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];

/// Bounds of histograms that count things, as the events of a commit.
const COUNT_BUCKETS: [f64; 7] = [1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1000.0];

/// A part of the process that must be ready for the process to be.
#[derive(Debug, Clone, Serialize)]
pub struct Part {
    /// The part's name, as `http` or `commands`.
    pub name: &'static str,
    /// Whether it does its work.
    pub ready: bool,
}

/// Looks at all parts. It must not block.
pub type Readiness = Arc<dyn Fn() -> Vec<Part> + Send + Sync>;

/// Installs the recorder of metrics. What was counted before is lost, so this comes first in a `main`.
///
/// # Errors
/// Fails if a recorder is installed already.
pub fn install_metrics() -> Result<PrometheusHandle, WebError> {
    let counts = Matcher::Suffix("_rows".to_owned());
    let builder = PrometheusBuilder::new().set_buckets(&BUCKETS)?;
    Ok(builder.set_buckets_for_metric(counts, &COUNT_BUCKETS)?.install_recorder()?)
}

/// Serves `/healthz`, `/readyz` and `/metrics` until `shutdown`.
///
/// # Errors
/// Fails if the server cannot be started.
pub async fn run(
    listener: Option<TcpListener>,
    readiness: Readiness,
    metrics: PrometheusHandle,
    shutdown: Shutdown,
) -> Result<(), WebError> {
    let config = WebConfig { workers: Some(NonZeroUsize::MIN), max_connections: 100, ..WebConfig::default() };
    let listeners = Listeners { plain: listener, tls: None };
    let (readiness, scraped) = (Data::from(readiness), Data::new(metrics.clone()));
    let routes = move |app: &mut ServiceConfig| {
        app.app_data(readiness.clone())
            .app_data(scraped.clone())
            .route("/healthz", web::get().to(healthz))
            .route("/readyz", web::get().to(readyz))
            .route("/metrics", web::get().to(render));
    };
    let mut upkeep = tokio::time::interval(UPKEEP);
    let server = serve("admin", config, listeners, routes, shutdown, Duration::from_secs(1));
    tokio::pin!(server);
    loop {
        tokio::select! {
            result = &mut server => return result,
            _ = upkeep.tick() => metrics.run_upkeep(),
        }
    }
}

async fn healthz() -> HttpResponse {
    HttpResponse::Ok().content_type(ContentType::plaintext()).body("ok\n")
}

#[derive(Serialize)]
struct Ready {
    ready: bool,
    parts: Vec<Part>,
}

async fn readyz(readiness: Data<dyn Fn() -> Vec<Part> + Send + Sync>) -> HttpResponse {
    let parts = readiness();
    let ready = parts.iter().all(|part| part.ready);
    let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    HttpResponseBuilder::new(status).json(Ready { ready, parts })
}

async fn render(metrics: Data<PrometheusHandle>) -> HttpResponse {
    HttpResponse::Ok().content_type("text/plain; version=0.0.4; charset=utf-8").body(metrics.render())
}
