use std::path::{Path, PathBuf};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};

use crate::postgres::testing::Cluster;
use crate::postgres::{ConnectSettings, ErrorKind, Session, SslMode, Tls, connect};
use crate::secret::Secret;

type Authority = CertifiedIssuer<'static, KeyPair>;

fn authority(name: &str) -> Authority {
    let mut params = CertificateParams::new(Vec::new()).expect("parameters");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.distinguished_name.push(DnType::CommonName, name);
    CertifiedIssuer::self_signed(params, KeyPair::generate().expect("a key")).expect("an authority")
}

fn write(folder: &Path, name: &str, text: &str) -> PathBuf {
    use std::os::unix::fs::PermissionsExt;
    let path = folder.join(name);
    std::fs::write(&path, text).expect("a file");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).expect("its mode");
    path
}

/// A cluster that serves this certificate; `hba.conf` lets `app` in only encrypted and `plain` only in the clear.
fn serving(certificate: &str, key: &str) -> Cluster {
    Cluster::start(|folder| {
        let file = |name: &str, text: &str| write(folder, name, text).display().to_string();
        let hba =
            "local all postgres trust\nhostnossl all plain all trust\nhostssl all app all scram-sha-256\n";
        vec![
            "ssl=on".into(),
            format!("ssl_cert_file={}", file("server.crt", certificate)),
            format!("ssl_key_file={}", file("server.key", key)),
            format!("hba_file={}", file("hba.conf", hba)),
        ]
    })
}

async fn users(cluster: &Cluster) {
    let mut settings = cluster.settings("postgres");
    settings.host = cluster.folder.display().to_string();
    cluster
        .superuser_at(&settings)
        .await
        .batch_execute("CREATE ROLE app LOGIN PASSWORD 'pässword'; CREATE ROLE plain LOGIN")
        .await
        .expect("two users");
}

fn settings(cluster: &Cluster, mode: SslMode, host: &str, root: Option<&Path>) -> ConnectSettings {
    ConnectSettings {
        host: host.into(),
        user: "app".into(),
        password: Secret::new("pässword"),
        ssl_mode: mode,
        ssl_root_cert: root.map(Path::to_owned),
        ..cluster.settings("postgres")
    }
}

/// Whether the session came up encrypted, or what kind of failure it was.
async fn outcome(settings: &ConnectSettings) -> Result<bool, ErrorKind> {
    let connection = connect(settings, &Session::new("test"))
        .await
        .map_err(|e| e.kind())?;
    let row = connection
        .query_one("SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()", &[])
        .await
        .expect("a row");
    Ok(row.get(0))
}

#[tokio::test]
async fn a_certificate_of_an_authority_in_every_mode() {
    let (ours, theirs) = (authority("ours"), authority("theirs"));
    let key = KeyPair::generate().expect("a key");
    let leaf = CertificateParams::new(vec!["localhost".to_owned()])
        .and_then(|params| params.signed_by(&key, &ours))
        .expect("a certificate");
    let cluster = serving(&leaf.pem(), &key.serialize_pem());
    users(&cluster).await;
    let roots = tempfile::tempdir().expect("a folder");
    let good = write(roots.path(), "good.pem", &ours.pem());
    let bad = write(roots.path(), "bad.pem", &theirs.pem());
    let both = write(roots.path(), "both.pem", &(theirs.pem() + &ours.pem()));
    let (good, bad, both) = (Some(good.as_path()), Some(bad.as_path()), Some(both.as_path()));
    for (mode, host, root, expected) in [
        (
            SslMode::Disable,
            "localhost",
            None,
            Err(ErrorKind::Authentication),
        ),
        (SslMode::Prefer, "127.0.0.1", None, Ok(true)),
        (SslMode::Prefer, "127.0.0.1", bad, Ok(true)),
        (SslMode::Require, "127.0.0.1", None, Ok(true)),
        (SslMode::Require, "127.0.0.1", good, Ok(true)),
        (SslMode::Require, "127.0.0.1", bad, Err(ErrorKind::Tls)),
        (SslMode::VerifyCa, "127.0.0.1", good, Ok(true)),
        (SslMode::VerifyCa, "localhost", both, Ok(true)),
        (SslMode::VerifyCa, "localhost", bad, Err(ErrorKind::Tls)),
        (SslMode::VerifyCa, "localhost", None, Err(ErrorKind::Tls)),
        (SslMode::VerifyFull, "localhost", good, Ok(true)),
        (SslMode::VerifyFull, "127.0.0.1", good, Err(ErrorKind::Tls)),
        (SslMode::VerifyFull, "localhost", bad, Err(ErrorKind::Tls)),
    ] {
        let settings = settings(&cluster, mode, host, root);
        assert_eq!(outcome(&settings).await, expected, "{mode:?} {host} {root:?}");
    }
    let mut wrong = settings(&cluster, SslMode::Prefer, "localhost", None);
    wrong.password = Secret::new("wrong");
    assert_eq!(outcome(&wrong).await, Err(ErrorKind::Authentication));
    // The server's rules refuse this user encrypted, so `prefer` comes again without.
    wrong.user = "plain".into();
    assert_eq!(outcome(&wrong).await, Ok(false));
    wrong.ssl_mode = SslMode::Require;
    assert_eq!(outcome(&wrong).await, Err(ErrorKind::Authentication));
}

/// What the manual's own recipe makes: one self-signed certificate, which is an authority, with nothing but a common name.
#[tokio::test]
async fn a_self_signed_certificate_in_every_mode() {
    let server = authority("localhost");
    let cluster = serving(&server.pem(), &server.key().serialize_pem());
    users(&cluster).await;
    let roots = tempfile::tempdir().expect("a folder");
    let itself = write(roots.path(), "itself.pem", &server.pem());
    let bad = write(roots.path(), "bad.pem", &authority("localhost").pem());
    let (itself, bad) = (Some(itself.as_path()), Some(bad.as_path()));
    for (mode, host, root, expected) in [
        (SslMode::Require, "localhost", None, Ok(true)),
        (SslMode::VerifyCa, "127.0.0.1", itself, Ok(true)),
        (SslMode::VerifyCa, "localhost", bad, Err(ErrorKind::Tls)),
        (SslMode::VerifyFull, "localhost", itself, Ok(true)),
        (SslMode::VerifyFull, "127.0.0.1", itself, Err(ErrorKind::Tls)),
        (SslMode::VerifyFull, "localhost", bad, Err(ErrorKind::Tls)),
    ] {
        let settings = settings(&cluster, mode, host, root);
        assert_eq!(outcome(&settings).await, expected, "{mode:?} {host} {root:?}");
    }
}

#[tokio::test]
async fn a_server_without_tls() {
    let mut settings = Cluster::shared().settings(&Cluster::shared().database().await.0);
    for (mode, expected) in [
        (SslMode::Disable, Ok(false)),
        (SslMode::Prefer, Ok(false)),
        (SslMode::Require, Err(ErrorKind::Tls)),
    ] {
        settings.ssl_mode = mode;
        assert_eq!(outcome(&settings).await, expected, "{mode:?}");
    }
}

#[test]
fn root_certificates_that_cannot_be_used_are_named() {
    let folder = tempfile::tempdir().expect("a folder");
    let empty = write(folder.path(), "empty.pem", "no certificate here");
    let broken = write(
        folder.path(),
        "broken.pem",
        "-----BEGIN CERTIFICATE-----\n!!\n-----END CERTIFICATE-----\n",
    );
    for path in [Path::new("/no/such/ca.pem"), &empty, &broken] {
        let settings = settings(Cluster::shared(), SslMode::VerifyCa, "h", Some(path));
        let error = Tls::new(&settings).expect_err("a refusal").to_string();
        assert!(error.contains(&*path.to_string_lossy()), "{error}");
    }
}
