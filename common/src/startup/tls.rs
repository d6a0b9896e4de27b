//! The server's certificate.

use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;
use rustls::ServerConfig;

use super::BadConfiguration;
use crate::net::load_tls;

/// The certificate of the TLS listeners.
#[derive(Debug, Clone, Args)]
#[group(skip)]
#[command(next_help_heading = "TLS")]
pub struct TlsOptions {
    /// The server's certificate chain, PEM.
    #[arg(long, env = "DROGUE_TLS_CERT", value_name = "FILE", requires = "tls_key")]
    pub tls_cert: Option<PathBuf>,

    /// The key of the certificate, PEM.
    #[arg(long, env = "DROGUE_TLS_KEY", value_name = "FILE", requires = "tls_cert")]
    pub tls_key: Option<PathBuf>,
}

impl TlsOptions {
    /// Loads the certificate, if one is given.
    ///
    /// # Errors
    /// Names the file that is of no use.
    pub fn load(&self) -> Result<Option<Arc<ServerConfig>>, BadConfiguration> {
        let (Some(certificate), Some(key)) = (&self.tls_cert, &self.tls_key) else { return Ok(None) };
        let loaded = load_tls(certificate, key);
        loaded
            .map(Some)
            .map_err(|error| BadConfiguration(format!("{error} (options --tls-cert and --tls-key)")))
    }
}
