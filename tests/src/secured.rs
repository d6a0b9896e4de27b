//! Listeners of a broker that want TLS and SASL, and what a client needs for them.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use base64::prelude::{BASE64_URL_SAFE_NO_PAD, Engine as _};

use crate::history::now;
use crate::ports;
use crate::secrets;

/// The user that the broker knows, for PLAIN and SCRAM.
pub const USER: &str = "somebody";
const LOGIN: &str = "org.apache.kafka.common.security";

/// A listener for each SASL mechanism, all with TLS.
#[derive(Debug)]
pub struct Secured {
    directory: PathBuf,
    /// Where SCRAM-SHA-256 is spoken.
    pub scram: SocketAddr,
    /// Where PLAIN is spoken.
    pub plain: SocketAddr,
    /// Where OAUTHBEARER is spoken.
    pub oauth: SocketAddr,
    /// The user's password.
    pub password: String,
}

impl Secured {
    /// Makes a certificate, a password and a token, in files of the directory.
    ///
    /// # Panics
    /// Panics if the directory cannot be written.
    pub fn new(directory: &Path) -> Self {
        fs::create_dir_all(directory).expect("it can be made");
        let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).expect("a certificate");
        let (certificate, key) = (made.cert.pem(), made.signing_key.serialize_pem());
        let write =
            |name: &str, text: &str| fs::write(directory.join(name), text).expect("it can be written");
        write("ca.pem", &certificate);
        write("keystore.pem", &format!("{key}{certificate}"));
        let password = secrets::password();
        write("password", &password);
        write("wrong-password", &secrets::password());
        let other = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).expect("a certificate");
        write("other-ca.pem", &other.cert.pem());
        write("token", &unsecured_token());
        let (scram, plain, oauth) = (ports::free(), ports::free(), ports::free());
        Self { directory: directory.to_owned(), scram, plain, oauth, password }
    }

    /// Returns a file that was made: `ca.pem`, `other-ca.pem`, `password`, `wrong-password` or `token`.
    pub fn file(&self, name: &str) -> String {
        self.directory.join(name).display().to_string()
    }

    /// Returns the settings of the broker, beside its plain listeners.
    pub(crate) fn settings(&self, plain: &str) -> Vec<String> {
        let Self { scram, plain: by_plain, oauth, password, .. } = self;
        vec![
            format!("listeners={plain},SCRAM://{scram},PLAIN://{by_plain},OAUTH://{oauth}"),
            format!(
                "advertised.listeners={},SCRAM://{scram},PLAIN://{by_plain},OAUTH://{oauth}",
                plain.split(',').next().unwrap_or_default()
            ),
            "listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,SCRAM:SASL_SSL,PLAIN:SASL_SSL,\
             OAUTH:SASL_SSL"
                .to_owned(),
            "inter.broker.listener.name=PLAINTEXT".to_owned(),
            "sasl.enabled.mechanisms=SCRAM-SHA-256,PLAIN,OAUTHBEARER".to_owned(),
            "listener.name.scram.sasl.enabled.mechanisms=SCRAM-SHA-256".to_owned(),
            format!("listener.name.scram.scram-sha-256.sasl.jaas.config={LOGIN}.scram.ScramLoginModule required;"),
            "listener.name.plain.sasl.enabled.mechanisms=PLAIN".to_owned(),
            format!(
                "listener.name.plain.plain.sasl.jaas.config={LOGIN}.plain.PlainLoginModule required \
                 user_{USER}=\"{password}\";"
            ),
            "listener.name.oauth.sasl.enabled.mechanisms=OAUTHBEARER".to_owned(),
            format!(
                "listener.name.oauth.oauthbearer.sasl.jaas.config={LOGIN}.oauthbearer.OAuthBearerLoginModule required \
                 unsecuredLoginStringClaim_sub=\"broker\";"
            ),
            "ssl.keystore.type=PEM".to_owned(),
            format!("ssl.keystore.location={}", self.file("keystore.pem")),
        ]
    }

    /// Returns the user as the storage tool takes it.
    pub(crate) fn scram(&self) -> String {
        format!("SCRAM-SHA-256=[name={USER},password={}]", self.password)
    }
}

/// Makes a JWT without a signature, which a broker without a validator of its own takes (RFC 7519, section 6).
fn unsecured_token() -> String {
    let seconds = now() / 1000;
    let part = |json: String| BASE64_URL_SAFE_NO_PAD.encode(json);
    let header = part(r#"{"alg":"none"}"#.to_owned());
    let claims = part(format!(r#"{{"sub":"{}","iat":{seconds},"exp":{}}}"#, secrets::MARK, seconds + 3_600));
    format!("{header}.{claims}.")
}
