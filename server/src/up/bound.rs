//! The bound sockets of the whole cloud.

use std::net::TcpListener;
use std::path::PathBuf;
use std::sync::Arc;

use common::net::{Listeners, NetError};
use rustls::ServerConfig;

use super::options::ListenOptions;
use crate::addresses::Addresses;

/// The sockets of all servers.
#[derive(Debug)]
pub(super) struct Bound {
    pub(super) http: Listeners,
    pub(super) mqtt: Listeners,
    pub(super) api: Listeners,
    pub(super) admin: Option<TcpListener>,
}

impl Bound {
    /// Binds what is not off.
    ///
    /// # Errors
    /// Names the address that is not to be had, and the option that gave it.
    pub(super) fn bind(options: &ListenOptions, certificate: &Arc<ServerConfig>) -> Result<Self, NetError> {
        let bind = |plain, tls| Listeners::bind(plain, tls, Some(certificate));
        Ok(Self {
            http: bind((options.http_listen, "--http-listen"), (options.https_listen, "--https-listen"))?,
            mqtt: bind((options.mqtt_listen, "--mqtt-listen"), (options.mqtts_listen, "--mqtts-listen"))?,
            api: bind((options.api_listen, "--api-listen"), (options.api_tls_listen, "--api-tls-listen"))?,
            admin: options.admin_listen.bind("--admin-listen")?,
        })
    }

    /// Returns where the sockets are, with the ports that the system chose.
    pub(super) fn addresses(&self, ca: PathBuf, development: bool) -> Addresses {
        let ((http, https), (mqtt, mqtts)) = (self.http.addresses(), self.mqtt.addresses());
        let (api, api_tls) = self.api.addresses();
        let admin = self.admin.as_ref().and_then(|listener| listener.local_addr().ok());
        Addresses { http, https, mqtt, mqtts, api, api_tls, admin, ca, development }
    }
}
