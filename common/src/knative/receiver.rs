//! Where the channels post events to: the server behind this replica's own Subscriptions.

use std::net::TcpListener;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use actix_web::http::StatusCode;
use actix_web::web::{Data, Payload, ServiceConfig, post, resource};
use actix_web::{HttpRequest, HttpResponse};
use metrics::counter;
use subtle::ConstantTimeEq;

use super::binding;
use super::echoes::Echoes;
use super::hub::Hub;
use super::probe::PROBE_TYPE;
use crate::auth::Secret;
use crate::channel::Channel;
use crate::error::ErrorKind;
use crate::event::Foreign;
use crate::net::Listeners;
use crate::process::{Clock, Shutdown};
use crate::web::{Problem, WebConfig, WebError, read_body, serve};

/// How long a body may take.
const BODY: Duration = Duration::from_secs(10);
/// A request may be so many times as large as an event: as JSON one is larger, and several may come in a batch.
pub(super) const BATCH: usize = 4;
/// How long requests may take to end at shutdown.
const GRACE: Duration = Duration::from_secs(2);

/// What takes events in.
pub(super) struct Receiver {
    pub(super) hub: Arc<Hub>,
    pub(super) echoes: Arc<Echoes>,
    /// What the path of every request must end with.
    pub(super) token: Secret,
    /// The largest event in bytes.
    pub(super) max_event: usize,
    pub(super) clock: Clock,
}

impl Receiver {
    /// Takes events in until the shutdown.
    ///
    /// # Errors
    /// Fails if the server's threads cannot be started.
    pub(super) async fn run(self, listener: TcpListener, shutdown: Shutdown) -> Result<(), WebError> {
        let routes = self.routes();
        // Handlers only put into queues.
        let config = WebConfig { workers: NonZeroUsize::new(1), ..WebConfig::default() };
        let listeners = Listeners { plain: Some(listener), tls: None };
        serve("subscriber", config, listeners, routes, shutdown, GRACE).await
    }

    /// Returns what makes an application take events in.
    pub(super) fn routes(self) -> impl Fn(&mut ServiceConfig) + Clone + Send + 'static {
        let receiver = Data::new(self);
        move |app: &mut ServiceConfig| {
            let path = resource("/v1/channels/{channel}/{token}").route(post().to(receive));
            app.app_data(receiver.clone()).service(path);
        }
    }
}

/// Takes the events of a request in: 202 for all that are well formed, whether anybody here wants them or not. What is no
/// CloudEvent is 400, which is not sent again.
async fn receive(
    request: HttpRequest,
    mut payload: Payload,
    receiver: Data<Receiver>,
) -> Result<HttpResponse, Problem> {
    let segment = |name: &str| request.match_info().get(name).unwrap_or_default();
    let is_ours: bool = segment("token").as_bytes().ct_eq(receiver.token.expose().as_bytes()).into();
    let channel = Channel::from_name(segment("channel")).filter(|_| is_ours);
    // 404 would be sent again.
    let channel = channel.ok_or_else(|| {
        Problem::new(ErrorKind::Forbidden, "this address is for the replica's own subscriptions")
    })?;
    let limit = receiver.max_event.saturating_mul(BATCH);
    let body = read_body(request.headers(), &mut payload, limit, BODY).await?;
    let events = binding::read(request.headers(), body).map_err(|error| {
        counter!("drogue_knative_malformed_total", "channel" => channel.as_str()).increment(1);
        Problem::new(ErrorKind::Invalid, error.to_string())
    })?;
    for event in events {
        receiver.take(channel, event);
    }
    Ok(HttpResponse::new(StatusCode::ACCEPTED))
}

impl Receiver {
    /// Puts an event into the queues here, and then says that it has come. Probes are for who posted them.
    fn take(&self, channel: Channel, event: Foreign) {
        let event = Arc::new(event);
        if event.attribute("type") != Some(PROBE_TYPE) {
            self.hub.push(channel, event.clone(), self.clock.wall());
        }
        self.echoes.came(channel, &event);
    }
}
