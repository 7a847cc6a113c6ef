//! Which TLS a connection to Postgres uses, with libpq's meaning of `sslmode`. SQL and replication connections take
//! the same [`Tls`].

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};

use super::certificate::{Check, Verifier};
use super::settings::{ConnectSettings, SslMode};

/// TLS for one set of [`ConnectSettings`].
#[derive(Clone, Debug)]
pub enum Tls {
    /// Never ask for it (also on Unix sockets, where Postgres has none).
    Never,
    /// Ask; go on in plain text if the server says no or the handshake fails.
    IfOffered(Arc<ClientConfig>),
    /// Ask; give up if the server says no.
    Required(Arc<ClientConfig>),
}

/// The TLS settings cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The file of trusted certificates cannot be read.
    #[error("sslrootcert {path:?} cannot be read; name a PEM file of certificate authorities")]
    RootFile {
        /// The file.
        path: PathBuf,
        /// What the file system or the PEM reader said.
        #[source]
        cause: io::Error,
    },
    /// No trusted authority is known.
    #[error("no trusted certificate authority was found in {place}; set sslrootcert to a PEM file")]
    NoRoots {
        /// Where it was looked for.
        place: String,
    },
    /// The host cannot be named in a handshake.
    #[error(
        "host {0:?} is neither a DNS name nor an IP address, which TLS needs; correct it or use sslmode=disable"
    )]
    HostName(String),
    /// The TLS library refused its configuration.
    #[error("tls cannot be set up")]
    Config(#[source] rustls::Error),
}

impl Tls {
    /// Reads the trusted certificates and builds the client configuration.
    ///
    /// # Errors
    /// The certificate file is missing, unreadable or empty.
    pub fn new(settings: &ConnectSettings) -> Result<Self, TlsError> {
        if settings.is_unix_socket() {
            return Ok(Self::Never);
        }
        // libpq: a root certificate that is given is used, also by `require` (manual, "Protection Provided in
        // Different Modes").
        let check = match (settings.ssl_mode, &settings.ssl_root_cert) {
            (SslMode::Disable, _) => return Ok(Self::Never),
            (SslMode::Prefer, _) | (SslMode::Require, None) => Check::Nothing,
            (SslMode::Require, Some(_)) | (SslMode::VerifyCa, _) => Check::Chain,
            (SslMode::VerifyFull, _) => Check::ChainAndName,
        };
        let config = client_config(check, settings)?;
        Ok(match settings.ssl_mode {
            SslMode::Prefer => Self::IfOffered(config),
            _ => Self::Required(config),
        })
    }
}

/// The name to hand to the handshake: for SNI and, under `verify-full`, for the certificate.
///
/// # Errors
/// The host is neither a DNS name nor an IP address.
pub fn server_name(settings: &ConnectSettings) -> Result<ServerName<'static>, TlsError> {
    ServerName::try_from(settings.host.clone()).map_err(|_| TlsError::HostName(settings.host.clone()))
}

fn client_config(check: Check, settings: &ConnectSettings) -> Result<Arc<ClientConfig>, TlsError> {
    // Named here rather than taken from the process: a library must not depend on who installed a default first.
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let verifier = verifier(check, settings, &provider)?;
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(TlsError::Config)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_no_client_auth();
    Ok(Arc::new(config))
}

fn verifier(
    check: Check,
    settings: &ConnectSettings,
    provider: &Arc<CryptoProvider>,
) -> Result<Verifier, TlsError> {
    let trusted = match (check, &settings.ssl_root_cert) {
        (Check::Nothing, _) => Vec::new(),
        (_, Some(path)) => read_roots(path)?,
        (_, None) => rustls_native_certs::load_native_certs().certs,
    };
    let mut roots = RootCertStore::empty();
    let (added, _) = roots.add_parsable_certificates(trusted.iter().cloned());
    if check != Check::Nothing && added == 0 {
        let place = match &settings.ssl_root_cert {
            Some(path) => path.display().to_string(),
            None => "the system's certificate store".to_owned(),
        };
        return Err(TlsError::NoRoots { place });
    }
    Ok(Verifier::new(check, roots, trusted, provider))
}

fn read_roots(path: &PathBuf) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let cause = |e: rustls::pki_types::pem::Error| TlsError::RootFile {
        path: path.clone(),
        cause: match e {
            rustls::pki_types::pem::Error::Io(io) => io,
            other => io::Error::new(io::ErrorKind::InvalidData, other.to_string()),
        },
    };
    CertificateDer::pem_file_iter(path)
        .map_err(cause)?
        .map(|item| item.map_err(cause))
        .collect()
}
