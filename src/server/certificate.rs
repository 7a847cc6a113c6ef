//! The server's certificate and key: read from their files, held to each other, and shown to clients.

mod follow;
#[cfg(test)]
mod tests;

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

use chrono::{DateTime, Utc};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{Error, ServerConfig};
use sha2::{Digest, Sha256};
use tokio_rustls::TlsAcceptor;
use x509_cert::Certificate;
use x509_cert::der::Decode;
use x509_cert::ext::pkix::SubjectAltName;
use x509_cert::ext::pkix::name::GeneralName;

pub(super) use follow::Follower;

use crate::config::Config;

/// The protocols that are offered, best first.
const PROTOCOLS: [&[u8]; 2] = [super::http::H2, b"http/1.1"];

/// The two files, both PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateFiles {
    /// `listen.tls_certificate`: the certificate, then those that lead from it to an authority.
    pub certificate: PathBuf,
    /// `listen.tls_key`.
    pub key: PathBuf,
}

/// Why there is no certificate to show. Names the setting.
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    /// Only one of the two is set.
    #[error("listen.tls_certificate and listen.tls_key are set together or not at all")]
    Half,
    /// A file cannot be read.
    #[error("{setting} {path}: {cause}")]
    Unreadable {
        /// Of the file.
        setting: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system said.
        cause: io::Error,
    },
    /// What is in a file cannot be used.
    #[error("{setting} {path}: {what}")]
    Unusable {
        /// Of the file.
        setting: &'static str,
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        what: String,
    },
    /// The two do not belong together.
    #[error("listen.tls_key {key} is not the key of the certificate in listen.tls_certificate {certificate}")]
    Mismatch {
        /// The file with the key.
        key: PathBuf,
        /// The file with the certificate.
        certificate: PathBuf,
    },
    /// The TLS library refused its configuration.
    #[error("tls cannot be set up")]
    Config(#[source] Error),
}

/// A certificate with its key, and what it says of itself.
pub struct Identity {
    certified: Arc<CertifiedKey>,
    /// Of both files.
    digest: [u8; 32],
    /// The DNS names that it is for.
    pub names: Vec<String>,
    /// From when and until when it holds; `None` where it could not be read.
    pub validity: Option<(DateTime<Utc>, DateTime<Utc>)>,
}

impl CertificateFiles {
    /// The files that the settings name, if any.
    ///
    /// # Errors
    /// Only one is named.
    pub fn of(config: &Config) -> Result<Option<Self>, CertificateError> {
        match (&config.listen.tls_certificate, &config.listen.tls_key) {
            (Some(certificate), Some(key)) => Ok(Some(Self {
                certificate: certificate.clone(),
                key: key.clone(),
            })),
            (None, None) => Ok(None),
            _ => Err(CertificateError::Half),
        }
    }

    /// Reads both as they stand.
    ///
    /// # Errors
    /// One cannot be read or used, or the key is that of another certificate.
    pub fn read(&self) -> Result<Identity, CertificateError> {
        let certificate = File::read("listen.tls_certificate", &self.certificate)?;
        let key = File::read("listen.tls_key", &self.key)?;
        let chain = certificate.chain()?;
        let (names, validity) = chain.first().map(describe).unwrap_or_default();
        let certified = CertifiedKey::from_der(chain, key.private_key()?, &provider());
        let certified = certified.map_err(|error| match error {
            Error::InconsistentKeys(_) => CertificateError::Mismatch {
                key: self.key.clone(),
                certificate: self.certificate.clone(),
            },
            Error::InvalidCertificate(_) => certificate.unusable(error.to_string()),
            error => key.unusable(error.to_string()),
        })?;
        let digest = Sha256::new()
            .chain_update(&certificate.text)
            .chain_update(&key.text);
        Ok(Identity {
            certified: Arc::new(certified),
            digest: digest.finalize().into(),
            names,
            validity,
        })
    }
}

impl Identity {
    /// What clients would say against it at this time.
    pub fn warning(&self, now: DateTime<Utc>) -> Option<String> {
        let (from, until) = self.validity?;
        if until < now {
            return Some(format!("expired on {}", until.date_naive()));
        }
        (now < from).then(|| format!("does not hold before {}", from.date_naive()))
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("Identity");
        shown
            .field("names", &self.names)
            .field("validity", &self.validity);
        shown.finish_non_exhaustive()
    }
}

/// What clients are shown from now on. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Shown(Arc<RwLock<Arc<CertifiedKey>>>);

impl Shown {
    pub(super) fn new(identity: &Identity) -> Self {
        Self(Arc::new(RwLock::new(Arc::clone(&identity.certified))))
    }

    fn replace(&self, identity: &Identity) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Arc::clone(&identity.certified);
    }

    /// Takes handshakes with whatever is shown at that moment.
    pub(super) fn acceptor(&self) -> Result<TlsAcceptor, CertificateError> {
        let mut config = ServerConfig::builder_with_provider(Arc::new(provider()))
            .with_safe_default_protocol_versions()
            .map_err(CertificateError::Config)?
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(self.clone()));
        config.alpn_protocols = PROTOCOLS.map(<[u8]>::to_vec).into();
        // Who comes back spares both sides a signature; nothing is kept here for it.
        config.ticketer = rustls::crypto::aws_lc_rs::Ticketer::new().map_err(CertificateError::Config)?;
        Ok(TlsAcceptor::from(Arc::new(config)))
    }
}

impl ResolvesServerCert for Shown {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner)))
    }
}

/// Named here rather than taken from the process: a library must not depend on who installed a default first.
fn provider() -> CryptoProvider {
    rustls::crypto::aws_lc_rs::default_provider()
}

/// A file's text, and what to call it.
struct File<'a> {
    setting: &'static str,
    path: &'a Path,
    text: Vec<u8>,
}

impl<'a> File<'a> {
    fn read(setting: &'static str, path: &'a Path) -> Result<Self, CertificateError> {
        let text = std::fs::read(path).map_err(|cause| CertificateError::Unreadable {
            setting,
            path: path.to_owned(),
            cause,
        })?;
        Ok(Self { setting, path, text })
    }

    fn unusable(&self, what: impl Into<String>) -> CertificateError {
        CertificateError::Unusable {
            setting: self.setting,
            path: self.path.to_owned(),
            what: what.into(),
        }
    }

    fn chain(&self) -> Result<Vec<CertificateDer<'static>>, CertificateError> {
        let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&self.text).collect();
        let chain = chain.map_err(|error| self.unusable(error.to_string()))?;
        match chain.is_empty() {
            true => Err(self.unusable("there is no certificate in it (PEM, BEGIN CERTIFICATE)")),
            false => Ok(chain),
        }
    }

    fn private_key(&self) -> Result<PrivateKeyDer<'static>, CertificateError> {
        PrivateKeyDer::from_pem_slice(&self.text).map_err(|error| match error {
            pem::Error::NoItemsFound => {
                self.unusable("there is no key in it that is not encrypted (PEM, BEGIN PRIVATE KEY)")
            }
            // Not in its own words: they would show what is in the file.
            _ => self.unusable("it is not well-formed PEM"),
        })
    }
}

type Description = (Vec<String>, Option<(DateTime<Utc>, DateTime<Utc>)>);

/// Names and validity, as far as they can be read.
fn describe(certificate: &CertificateDer<'_>) -> Description {
    let Ok(parsed) = Certificate::from_der(certificate) else {
        return Description::default();
    };
    let alternatives = parsed.tbs_certificate.get::<SubjectAltName>().ok().flatten();
    let names = alternatives.map(|(_, names)| names.0).unwrap_or_default();
    let names = names.into_iter().filter_map(|name| match name {
        GeneralName::DnsName(name) => Some(name.to_string()),
        _ => None,
    });
    let time = |time: x509_cert::time::Time| {
        let seconds = i64::try_from(time.to_unix_duration().as_secs()).ok()?;
        DateTime::from_timestamp(seconds, 0)
    };
    let validity = parsed.tbs_certificate.validity;
    let validity = time(validity.not_before).zip(time(validity.not_after));
    (names.collect(), validity)
}
