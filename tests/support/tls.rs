//! A certificate authority of the test's own, the files of a server, and clients that trust no other.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use rowcast::config::Config;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tempfile::TempDir;
use tokio::net::{TcpSocket, TcpStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// The authority with the files of one server.
pub struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    folder: TempDir,
}

impl Authority {
    /// A new one, which has issued a certificate for `localhost`.
    pub fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).expect("parameters");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        // Or the certificate would look as if it had issued itself.
        params.distinguished_name.push(DnType::CommonName, "authority");
        let key = KeyPair::generate().expect("a key");
        let authority = Self {
            issuer: CertifiedIssuer::self_signed(params, key).expect("an authority"),
            folder: tempfile::tempdir().expect("a folder"),
        };
        std::fs::write(authority.root(), authority.issuer.pem()).expect("a file");
        authority.issue();
        authority
    }

    /// Puts another certificate and its key into the server's files; returns the certificate.
    pub fn issue(&self) -> CertificateDer<'static> {
        let key = KeyPair::generate().expect("a key");
        let names = ["localhost", "127.0.0.1"].map(str::to_owned);
        let leaf = CertificateParams::new(names.to_vec())
            .and_then(|params| params.signed_by(&key, &self.issuer))
            .expect("a certificate");
        std::fs::write(self.certificate(), leaf.pem()).expect("a file");
        std::fs::write(self.key(), key.serialize_pem()).expect("a file");
        leaf.der().clone()
    }

    /// PEM file of the authority.
    pub fn root(&self) -> PathBuf {
        self.folder.path().join("root.crt")
    }

    /// PEM file of the server's certificate.
    pub fn certificate(&self) -> PathBuf {
        self.folder.path().join("tls.crt")
    }

    /// PEM file of its key.
    pub fn key(&self) -> PathBuf {
        self.folder.path().join("tls.key")
    }

    /// Has a server use the files.
    pub fn configure(&self, config: &mut Config) {
        config.listen.tls_certificate = Some(self.certificate());
        config.listen.tls_key = Some(self.key());
    }

    /// An HTTP client that speaks the best version it is offered.
    pub fn http(&self) -> reqwest::Client {
        let root = reqwest::Certificate::from_pem(self.issuer.pem().as_bytes()).expect("a certificate");
        let client = reqwest::Client::builder().tls_certs_only([root]);
        client.build().expect("a client")
    }

    /// A connection as WebSocket clients make it: they offer no protocols.
    pub async fn connect(&self, address: SocketAddr) -> TlsStream<TcpStream> {
        let socket = TcpStream::connect(address).await.expect("the server listens");
        self.secure(socket).await
    }

    /// The same over a socket that takes in little more than what the test reads.
    pub async fn connect_narrow(&self, address: SocketAddr) -> TlsStream<TcpStream> {
        let socket = TcpSocket::new_v4().expect("a socket");
        socket.set_recv_buffer_size(64 << 10).expect("a small buffer");
        let socket = socket.connect(address).await.expect("the server listens");
        self.secure(socket).await
    }

    async fn secure(&self, socket: TcpStream) -> TlsStream<TcpStream> {
        let mut roots = RootCertStore::empty();
        roots.add(self.issuer.der().clone()).expect("an authority");
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_root_certificates(roots)
            .with_no_client_auth();
        let name = ServerName::try_from("localhost").expect("a name");
        let connecting = TlsConnector::from(Arc::new(config)).connect(name, socket);
        connecting.await.expect("a handshake")
    }
}

/// The certificate that the server has shown.
pub fn shown(stream: &TlsStream<TcpStream>) -> &CertificateDer<'static> {
    let shown = stream.get_ref().1.peer_certificates();
    shown.and_then(<[_]>::first).expect("a certificate")
}
