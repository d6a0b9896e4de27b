//! The development CA, and the certificate that it gives the server.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use common::time::Timestamp;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, date_time_ymd,
};
use rustls::RootCertStore;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};

use crate::data_dir::DataDir;

/// The development CA's certificate, which clients are told to trust.
pub const CA_CERTIFICATE: &str = "tls.crt";
/// The server's certificate.
pub const SERVER_CERTIFICATE: &str = "server.crt";
/// The server's key.
pub const SERVER_KEY: &str = "server.key";

const CA_KEY: &str = "ca.key";
const NAMES: [&str; 3] = ["127.0.0.1", "::1", "localhost"];

const DAY: Duration = Duration::from_secs(24 * 60 * 60);
const CA_LIFE: Duration = DAY.saturating_mul(20 * 365);
const SERVER_LIFE: Duration = DAY.saturating_mul(365);
/// A certificate that ends sooner is renewed.
const RESERVE: Duration = DAY.saturating_mul(30);

/// Sees to it that the data directory has a CA, and a server certificate of that CA which is good for a month or more.
///
/// # Errors
/// Names the file that cannot be read or written.
pub fn ensure(data: &DataDir, now: Timestamp) -> anyhow::Result<()> {
    let issuer = ensure_ca(data, now)?;
    let kept = [SERVER_CERTIFICATE, SERVER_KEY].iter().all(|name| data.file(name).exists());
    if kept && is_good(data, now.saturating_add(RESERVE)) {
        return Ok(());
    }
    let key = KeyPair::generate()?;
    let mut server = valid(CertificateParams::new(NAMES.map(str::to_owned))?, now, SERVER_LIFE);
    server.distinguished_name = named("Drogue development server");
    server.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    server.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    server.use_authority_key_identifier_extension = true;
    let certificate = server.signed_by(&key, &issuer)?;
    data.write_private(SERVER_KEY, &key.serialize_pem())?;
    data.write_public(SERVER_CERTIFICATE, &certificate.pem())?;
    tracing::info!(
        days = SERVER_LIFE.as_secs() / DAY.as_secs(),
        "made a development certificate for this machine"
    );
    Ok(())
}

fn ensure_ca(data: &DataDir, now: Timestamp) -> anyhow::Result<Issuer<'static, KeyPair>> {
    let mut ca = valid(CertificateParams::default(), now, CA_LIFE);
    ca.distinguished_name = named("Drogue development CA");
    ca.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    ca.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    if data.file(CA_CERTIFICATE).exists() {
        let path = data.file(CA_KEY);
        let pem = fs::read_to_string(&path).with_context(|| {
            format!("cannot read {}; remove {CA_CERTIFICATE} too for a new CA", path.display())
        })?;
        let key = KeyPair::from_pem(&pem).with_context(|| format!("{} is no key", path.display()))?;
        return Ok(Issuer::new(ca, key));
    }
    let key = KeyPair::generate()?;
    let certificate = ca.self_signed(&key)?;
    data.write_private(CA_KEY, &key.serialize_pem())?;
    data.write_public(CA_CERTIFICATE, &certificate.pem())?;
    Ok(Issuer::new(ca, key))
}

fn named(name: &str) -> rcgen::DistinguishedName {
    let mut distinguished = rcgen::DistinguishedName::new();
    distinguished.push(DnType::CommonName, name);
    distinguished
}

/// Makes the certificate valid from a day ago, for clients whose clock is behind.
fn valid(mut certificate: CertificateParams, now: Timestamp, life: Duration) -> CertificateParams {
    let now = date_time_ymd(1970, 1, 1) + since_epoch(now);
    certificate.not_before = now - DAY;
    certificate.not_after = now + life;
    certificate
}

fn since_epoch(time: Timestamp) -> Duration {
    time.saturating_since(Timestamp::from_millis(0))
}

/// Tells whether a client that trusts the CA will take the server's certificate at the given time, by any of its names.
fn is_good(data: &DataDir, at: Timestamp) -> bool {
    NAMES.iter().all(|name| {
        let name = ServerName::try_from(*name);
        name.is_ok_and(|name| {
            verify(&data.file(CA_CERTIFICATE), &data.file(SERVER_CERTIFICATE), &name, since_epoch(at)).is_ok()
        })
    })
}

fn verify(ca: &Path, certificate: &Path, name: &ServerName<'_>, at: Duration) -> anyhow::Result<()> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(ca)?)?;
    let certificate = CertificateDer::from_pem_file(certificate)?;
    let provider = Arc::new(ring::default_provider());
    let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider).build()?;
    verifier.verify_server_cert(&certificate, &[], name, &[], UnixTime::since_unix_epoch(at))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use common::net::load_tls;

    use super::*;

    const NOW: Timestamp = Timestamp::from_millis(1_800_000_000_000);

    fn fresh() -> (tempfile::TempDir, DataDir) {
        let directory = tempfile::tempdir().unwrap();
        let data = DataDir::at(directory.path()).unwrap();
        ensure(&data, NOW).unwrap();
        (directory, data)
    }

    fn read(data: &DataDir, name: &str) -> String {
        fs::read_to_string(data.file(name)).unwrap()
    }

    #[test]
    fn a_client_that_trusts_the_ca_takes_the_certificate() {
        let (_directory, data) = fresh();
        load_tls(&data.file(SERVER_CERTIFICATE), &data.file(SERVER_KEY)).unwrap();
        assert!(is_good(&data, NOW));
        assert!(is_good(&data, NOW.saturating_add(SERVER_LIFE - DAY)));
        assert!(!is_good(&data, NOW.saturating_add(SERVER_LIFE + DAY)));
        let (_other_directory, other) = fresh();
        fs::copy(other.file(CA_CERTIFICATE), data.file(CA_CERTIFICATE)).unwrap();
        assert!(!is_good(&data, NOW));
    }

    #[test]
    fn a_certificate_is_renewed_in_time_by_the_same_ca() {
        let (_directory, data) = fresh();
        let (ca, certificate) = (read(&data, CA_CERTIFICATE), read(&data, SERVER_CERTIFICATE));
        ensure(&data, NOW.saturating_add(SERVER_LIFE - RESERVE - DAY)).unwrap();
        assert_eq!(read(&data, SERVER_CERTIFICATE), certificate);

        let late = NOW.saturating_add(SERVER_LIFE - RESERVE + DAY);
        ensure(&data, late).unwrap();
        assert_ne!(read(&data, SERVER_CERTIFICATE), certificate);
        assert_eq!(read(&data, CA_CERTIFICATE), ca);
        assert!(is_good(&data, late.saturating_add(SERVER_LIFE - DAY)));
    }

    #[test]
    fn a_lost_ca_key_is_an_error_and_a_lost_server_key_is_not() {
        let (_directory, data) = fresh();
        fs::remove_file(data.file(SERVER_KEY)).unwrap();
        ensure(&data, NOW).unwrap();
        assert!(data.file(SERVER_KEY).exists());
        fs::remove_file(data.file(CA_KEY)).unwrap();
        assert!(ensure(&data, NOW).unwrap_err().to_string().contains("ca.key"));
    }
}
