//! What is asked of the server's certificate, and the hash of it that SCRAM binds to.

use std::sync::Arc;
use std::time::Duration;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{verify_server_cert_signed_by_trust_anchor, verify_server_name};
use rustls::crypto::{
    CryptoProvider, WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature,
};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{DigitallySignedStruct, Error, RootCertStore, SignatureScheme};
use sha2::{Digest, Sha256, Sha384, Sha512};
use x509_cert::Certificate;
use x509_cert::der::oid::ObjectIdentifier;
use x509_cert::der::oid::db::rfc4519::COMMON_NAME;
use x509_cert::der::oid::db::rfc5912::{
    ECDSA_WITH_SHA_256, ECDSA_WITH_SHA_384, ECDSA_WITH_SHA_512, SHA_1_WITH_RSA_ENCRYPTION,
    SHA_256_WITH_RSA_ENCRYPTION, SHA_384_WITH_RSA_ENCRYPTION, SHA_512_WITH_RSA_ENCRYPTION,
};
use x509_cert::der::{Decode, asn1::PrintableStringRef, asn1::Utf8StringRef};
use x509_cert::ext::pkix::SubjectAltName;

/// How much of the certificate is checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Check {
    /// Encryption only.
    Nothing,
    /// Signed by a trusted authority.
    Chain,
    /// And issued for the host that was asked for.
    ChainAndName,
}

/// libpq's rules as a rustls verifier. It differs from the WebPKI one in three things that Postgres installations rely
/// on: nothing at all is asked under `require`, a self-signed certificate may be its own authority, and a certificate
/// without alternative names is matched by its common name.
#[derive(Debug)]
pub(super) struct Verifier {
    check: Check,
    roots: RootCertStore,
    trusted: Vec<CertificateDer<'static>>,
    algorithms: WebPkiSupportedAlgorithms,
}

impl Verifier {
    pub(super) fn new(
        check: Check,
        roots: RootCertStore,
        trusted: Vec<CertificateDer<'static>>,
        provider: &Arc<CryptoProvider>,
    ) -> Self {
        Self {
            check,
            roots,
            trusted,
            algorithms: provider.signature_verification_algorithms,
        }
    }

    /// A trusted file may hold the server's own self-signed certificate, which is then both authority and server.
    fn is_trusted_itself(&self, certificate: &CertificateDer<'_>, now: UnixTime) -> bool {
        self.trusted
            .iter()
            .any(|trusted| trusted.as_ref() == certificate.as_ref())
            && Certificate::from_der(certificate).is_ok_and(|parsed| {
                let validity = parsed.tbs_certificate.validity;
                let now = Duration::from_secs(now.as_secs());
                validity.not_before.to_unix_duration() <= now && now <= validity.not_after.to_unix_duration()
            })
    }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        if self.check == Check::Nothing {
            return Ok(ServerCertVerified::assertion());
        }
        let parsed = ParsedCertificate::try_from(end_entity)?;
        if !self.is_trusted_itself(end_entity, now) {
            verify_server_cert_signed_by_trust_anchor(
                &parsed,
                &self.roots,
                intermediates,
                now,
                self.algorithms.all,
            )?;
        }
        if self.check == Check::ChainAndName {
            verify_server_name(&parsed, server_name).or_else(|refusal| {
                let named = common_name_without_alternatives(end_entity)
                    .is_some_and(|name| common_name_matches(&name, &server_name.to_str()));
                if named { Ok(()) } else { Err(refusal) }
            })?;
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        match self.check {
            // A certificate that proves nothing needs no proof of its key, and may be too old in form to parse.
            Check::Nothing => Ok(HandshakeSignatureValid::assertion()),
            _ => verify_tls12_signature(message, certificate, signed, &self.algorithms),
        }
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        match self.check {
            Check::Nothing => Ok(HandshakeSignatureValid::assertion()),
            _ => verify_tls13_signature(message, certificate, signed, &self.algorithms),
        }
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

/// The subject's common name, if the certificate has no alternative names that would take its place (RFC 6125, 6.4.4).
fn common_name_without_alternatives(certificate: &CertificateDer<'_>) -> Option<String> {
    let parsed = Certificate::from_der(certificate).ok()?;
    if parsed.tbs_certificate.get::<SubjectAltName>().ok()?.is_some() {
        return None;
    }
    parsed
        .tbs_certificate
        .subject
        .0
        .iter()
        .flat_map(|relative| relative.0.iter())
        .find(|attribute| attribute.oid == COMMON_NAME)
        .and_then(|attribute| {
            let value = &attribute.value;
            Utf8StringRef::try_from(value)
                .map(|text| text.as_str().to_owned())
                .or_else(|_| PrintableStringRef::try_from(value).map(|text| text.as_str().to_owned()))
                .ok()
        })
}

/// libpq's comparison: without case, and a leading `*.` stands for exactly one label.
fn common_name_matches(name: &str, host: &str) -> bool {
    let (name, host) = (name.to_ascii_lowercase(), host.to_ascii_lowercase());
    match name.strip_prefix("*.") {
        Some(rest) => host
            .split_once('.')
            .is_some_and(|(label, tail)| !label.is_empty() && tail == rest),
        None => name == host,
    }
}

/// Channel binding data of type `tls-server-end-point` (RFC 5929, 4.1): the hash of the server's certificate by the
/// hash of its own signature, SHA-256 in place of MD5 and SHA-1. `None` where the signature names no hash (Ed25519,
/// RSA-PSS): SCRAM then goes on without binding.
pub fn tls_server_end_point(certificate: &CertificateDer<'_>) -> Option<Vec<u8>> {
    const MD5_WITH_RSA_ENCRYPTION: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.4");
    let parsed = Certificate::from_der(certificate).ok()?;
    let bytes = certificate.as_ref();
    match parsed.signature_algorithm.oid {
        MD5_WITH_RSA_ENCRYPTION
        | SHA_1_WITH_RSA_ENCRYPTION
        | SHA_256_WITH_RSA_ENCRYPTION
        | ECDSA_WITH_SHA_256 => Some(Sha256::digest(bytes).to_vec()),
        SHA_384_WITH_RSA_ENCRYPTION | ECDSA_WITH_SHA_384 => Some(Sha384::digest(bytes).to_vec()),
        SHA_512_WITH_RSA_ENCRYPTION | ECDSA_WITH_SHA_512 => Some(Sha512::digest(bytes).to_vec()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_common_name_stands_for_one_host_or_one_label() {
        assert!(common_name_matches("DB.example", "db.EXAMPLE"));
        assert!(common_name_matches("*.example", "db.example"));
        assert!(!common_name_matches("*.example", "a.db.example"));
        assert!(!common_name_matches("*.example", ".example"));
        assert!(!common_name_matches("db.example", "db.example.evil"));
    }

    #[test]
    fn rubbish_has_no_binding() {
        assert_eq!(
            tls_server_end_point(&CertificateDer::from(vec![0x30, 0x03, 1])),
            None
        );
        assert_eq!(tls_server_end_point(&CertificateDer::from(Vec::new())), None);
    }

    #[test]
    fn the_binding_is_the_hash_of_the_certificates_own_signature() {
        use rcgen::{
            CertificateParams, KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384, PKCS_ED25519,
        };
        for (algorithm, length) in [
            (&PKCS_ECDSA_P256_SHA256, Some(32)),
            (&PKCS_ECDSA_P384_SHA384, Some(48)),
            (&PKCS_ED25519, None),
        ] {
            let key = KeyPair::generate_for(algorithm).expect("a key");
            let params = CertificateParams::new(vec!["db".to_owned()]).expect("parameters");
            let certificate = params.self_signed(&key).expect("a certificate");
            let binding = tls_server_end_point(certificate.der());
            assert_eq!(binding.as_ref().map(Vec::len), length);
            if length == Some(32) {
                assert_eq!(binding, Some(Sha256::digest(certificate.der()).to_vec()));
            }
        }
    }

    #[test]
    fn a_trusted_certificate_is_trusted_while_it_is_valid() {
        let key = rcgen::KeyPair::generate().expect("a key");
        let mut params = rcgen::CertificateParams::new(vec!["db".to_owned()]).expect("parameters");
        params.not_before = rcgen::date_time_ymd(2020, 1, 1);
        params.not_after = rcgen::date_time_ymd(2021, 1, 1);
        let certificate = params.self_signed(&key).expect("a certificate").der().clone();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut roots = RootCertStore::empty();
        roots.add(certificate.clone()).expect("a root");
        let verifier = Verifier::new(Check::ChainAndName, roots, vec![certificate.clone()], &provider);
        let name = ServerName::try_from("db").expect("a name");
        let at = |seconds| {
            let now = UnixTime::since_unix_epoch(Duration::from_secs(seconds));
            verifier.verify_server_cert(&certificate, &[], &name, &[], now)
        };
        assert!(at(1_590_000_000).is_ok());
        assert!(at(1_570_000_000).is_err());
        assert!(at(1_640_000_000).is_err());
        let rubbish = CertificateDer::from(vec![0x30]);
        let now = UnixTime::since_unix_epoch(Duration::from_secs(1_590_000_000));
        assert!(
            verifier
                .verify_server_cert(&rubbish, &[], &name, &[], now)
                .is_err()
        );
    }
}
