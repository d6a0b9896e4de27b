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
    /// Names the address that is not to be had.
    pub(super) fn bind(options: &ListenOptions, certificate: &Arc<ServerConfig>) -> Result<Self, NetError> {
        let certificate = Some(certificate);
        Ok(Self {
            http: Listeners::bind(options.http_listen, options.https_listen, certificate)?,
            mqtt: Listeners::bind(options.mqtt_listen, options.mqtts_listen, certificate)?,
            api: Listeners::bind(options.api_listen, options.api_tls_listen, certificate)?,
            admin: options.admin_listen.bind()?,
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
