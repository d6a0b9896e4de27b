//! The way of a connection: from the accepted socket through TLS and time limits to the routes.

use std::io;
use std::net::SocketAddr;

use actix_http::error::DispatchError;
use actix_http::{HttpService, KeepAlive};
use actix_server::GracefulShutdownSignal;
use actix_service::{IntoServiceFactory, ServiceFactory, ServiceFactoryExt, fn_service, map_config};
use actix_web::dev::AppConfig;
use actix_web::middleware::from_fn;
use actix_web::web::{self, ServiceConfig};
use actix_web::{App, Error};
use metrics::Gauge;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;

use super::guard::guard;
use super::problem::Problem;
use super::server::WebConfig;
use super::stream::{Stream, StreamLimits};
use crate::error::ErrorKind;
use crate::process::Shutdown;

/// Makes the services of a worker, for plain and for TLS connections.
#[derive(Clone)]
pub(super) struct Front<R> {
    pub(super) config: WebConfig,
    pub(super) routes: R,
    /// Tells connections that the server shuts down.
    pub(super) drain: GracefulShutdownSignal,
    /// Is cancelled when handlers are waited for no longer.
    pub(super) give_up: Shutdown,
    /// Counts connections.
    pub(super) open: Gauge,
}

impl<R: Fn(&mut ServiceConfig) + Clone + Send + 'static> Front<R> {
    /// Serves plain connections.
    pub(super) fn plain(
        &self,
    ) -> impl ServiceFactory<TcpStream, Config = (), Response = (), Error = DispatchError, InitError = ()> + use<R>
    {
        let (limits, open) = (self.limits(), self.open.clone());
        let accept = fn_service(move |socket: TcpStream| {
            let open = open.clone();
            async move {
                let peer = prepare(&socket)?;
                Ok::<_, DispatchError>((Stream::new(socket, limits, open), peer))
            }
        });
        accept.and_then(self.http())
    }

    /// Serves TLS connections.
    pub(super) fn tls(
        &self,
        tls: TlsAcceptor,
    ) -> impl ServiceFactory<TcpStream, Config = (), Response = (), Error = DispatchError, InitError = ()> + use<R>
    {
        let (limits, open, timeout) = (self.limits(), self.open.clone(), self.config.tls_timeout);
        let accept = fn_service(move |socket: TcpStream| {
            let (tls, open) = (tls.clone(), open.clone());
            async move {
                let peer = prepare(&socket)?;
                let handshake = tokio::time::timeout(timeout, tls.accept(socket));
                let socket = handshake.await.map_err(io::Error::from)??;
                Ok::<_, DispatchError>((Stream::new(socket, limits, open), peer))
            }
        });
        accept.and_then(self.http())
    }

    fn limits(&self) -> StreamLimits {
        StreamLimits {
            head: self.config.head_timeout,
            idle: self.config.idle_timeout,
            write: self.config.write_timeout,
        }
    }

    /// Speaks HTTP/1.1 on a transport and leads requests to the routes.
    fn http<T>(
        &self,
    ) -> impl ServiceFactory<
        (Stream<T>, Option<SocketAddr>),
        Config = (),
        Response = (),
        Error = DispatchError,
        InitError = (),
    > + use<R, T>
    where
        T: AsyncRead + AsyncWrite + Unpin + 'static,
    {
        // One for each worker, so that workers do not contend for its lock.
        let give_up = self.give_up.child_token();
        let app = App::new()
            .app_data(web::PathConfig::default().error_handler(|error, _| invalid(&error)))
            .app_data(web::QueryConfig::default().error_handler(|error, _| invalid(&error)))
            .app_data(web::JsonConfig::default().error_handler(|error, _| invalid(&error)))
            .configure(&self.routes)
            .wrap(from_fn(move |request, next| guard(request, next, give_up.clone())))
            .into_factory()
            .map_err(|error: Error| error.error_response());
        let drain = self.drain.clone();
        HttpService::build()
            .graceful_shutdown_signal(move || {
                let drain = drain.clone();
                async move { drain.notified().await }
            })
            .keep_alive(KeepAlive::Timeout(self.config.idle_timeout))
            .client_request_timeout(self.config.head_timeout)
            .client_disconnect_timeout(self.config.head_timeout)
            // A client that hangs up must free its wait at once.
            .h1_allow_half_closed(false)
            .on_connect_ext(|stream: &Stream<T>, extensions| {
                extensions.insert(stream.activity());
            })
            .h1(map_config(app, |()| AppConfig::default()))
    }
}

/// Readies an accepted socket, and returns whose it is.
fn prepare(socket: &TcpStream) -> io::Result<Option<SocketAddr>> {
    // A response is written whole; there is nothing to wait for.
    socket.set_nodelay(true)?;
    Ok(socket.peer_addr().ok())
}

fn invalid(error: &dyn std::error::Error) -> Error {
    Problem::new(ErrorKind::Invalid, error.to_string()).into()
}
