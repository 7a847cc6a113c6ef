//! TLS, by clients that trust the test's own certificate.

use rcgen::{CertificateParams, KeyPair};
use reqwest::{Certificate, Client, Version};
use tempfile::TempDir;

use super::*;
use crate::server::certificate::{CertificateFiles, Shown};

struct Secured {
    served: Served,
    trusted: Certificate,
    _files: TempDir,
}

async fn secured(bounds: Bounds) -> Secured {
    let folder = tempfile::tempdir().unwrap();
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    let certificate = params.self_signed(&key).unwrap();
    let files = CertificateFiles {
        certificate: folder.path().join("tls.crt"),
        key: folder.path().join("tls.key"),
    };
    std::fs::write(&files.certificate, certificate.pem()).unwrap();
    std::fs::write(&files.key, key.serialize_pem()).unwrap();
    let shown = Shown::new(&files.read().unwrap());
    let trusted = Certificate::from_pem(certificate.pem().as_bytes()).unwrap();
    Secured {
        served: served_over(bounds, Some(shown.acceptor().unwrap())).await,
        trusted,
        _files: folder,
    }
}

impl Secured {
    fn client(&self) -> reqwest::ClientBuilder {
        Client::builder().tls_certs_only([self.trusted.clone()])
    }

    /// Asks, and is answered: in which version.
    async fn asks(&self) -> Version {
        let answer = self.client().build().unwrap().get(self.url()).send().await;
        let answer = answer.unwrap();
        let version = answer.version();
        assert_eq!(answer.text().await.unwrap(), "here");
        version
    }

    fn url(&self) -> String {
        format!("https://localhost:{}/", self.served.address.port())
    }

    /// Waits until this many handshakes have come to nothing for this reason.
    async fn failed(&self, reason: &'static str, count: u64) {
        let failed = &self.served.metrics.handshakes_failed;
        let waiting = async {
            while failed.get_or_create(&[("reason", reason)]).get() < count {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        let waited = tokio::time::timeout(PATIENCE, waiting).await;
        assert!(waited.is_ok(), "not {count} that are {reason}");
        assert_eq!(failed.get_or_create(&[("reason", reason)]).get(), count);
    }
}

#[tokio::test]
async fn the_best_protocol_that_both_speak_is_spoken() {
    let server = secured(Bounds::default()).await;
    assert_eq!(server.asks().await, Version::HTTP_2);
    let old = server.client().http1_only().build().unwrap();
    let answer = old.get(server.url()).send().await.unwrap();
    assert_eq!(answer.version(), Version::HTTP_11);
    assert_eq!(answer.text().await.unwrap(), "here");
}

#[tokio::test]
async fn who_speaks_something_else_is_sent_away() {
    let server = secured(Bounds::default()).await;
    let answer = rest(server.served.send("GET / HTTP/1.1\r\nhost: x\r\n\r\n").await).await;
    assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
    assert!(answer.ends_with("This port speaks TLS: use https:// or wss://.\r\n"));
    server.failed("plain_http", 1).await;
    for rubbish in [
        "\u{0}\u{0}\u{0}\u{0}\u{0}\u{0}\u{0}",
        "\u{16}\u{3}\u{1}~~rubbish~~",
        "hello",
    ] {
        let mut socket = server.served.send(rubbish).await;
        socket.shutdown().await.unwrap();
        let mut answer = Vec::new();
        let ended = tokio::time::timeout(PATIENCE, socket.read_to_end(&mut answer)).await;
        // A reset is an end, too.
        drop(ended.expect("the connection ends"));
    }
    server.failed("failed", 3).await;
    server.asks().await;
}

#[tokio::test]
async fn a_slow_handshake_keeps_nobody_waiting_and_ends() {
    let server = secured(Bounds {
        handshake: Duration::from_millis(500),
        ..Bounds::default()
    })
    .await;
    let mut slow = Vec::new();
    for said in ["", "\u{16}\u{3}\u{1}"].repeat(50) {
        slow.push(server.served.send(said).await);
    }
    server.asks().await;
    for socket in slow {
        assert_eq!(rest(socket).await, "");
    }
    server.failed("timeout", 100).await;
}

#[tokio::test]
async fn the_end_does_not_wait_for_handshakes() {
    let server = secured(Bounds::default()).await;
    let slow = server.served.send("\u{16}").await;
    server.served.shutdown.cancel();
    assert_eq!(rest(slow).await, "");
    tokio::time::timeout(PATIENCE, server.served.serving)
        .await
        .unwrap()
        .unwrap();
}
