use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};

use super::cluster::Cluster;
use super::follower::{Follower, settings};
use crate::postgres::SslMode;
use crate::secret::Secret;

/// A cluster that serves a certificate for `localhost`, and lets `app` in only encrypted, `plain` only in the clear.
/// The authority's certificate is in `root.crt` beside its data.
async fn serving() -> Cluster {
    let cluster = Cluster::start("");
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    let key = KeyPair::generate().unwrap();
    let leaf = CertificateParams::new(vec!["localhost".to_owned()])
        .and_then(|params| params.signed_by(&key, &authority))
        .unwrap();
    let client = cluster.client().await;
    client
        .batch_execute(
            "create role app login replication password 'pä ss'; create role plain login replication",
        )
        .await
        .unwrap();
    let hba = "hostssl all app all scram-sha-256\nhostnossl all plain all trust\nhostnossl all postgres all trust\n";
    for (name, text) in [
        ("root.crt", authority.pem()),
        ("server.crt", leaf.pem()),
        ("server.key", key.serialize_pem()),
        ("pg_hba.conf", hba.to_owned()),
    ] {
        cluster.write(name, &text);
    }
    for sql in ["alter system set ssl = on", "select pg_reload_conf()"] {
        client.batch_execute(sql).await.unwrap();
    }
    // Reloading takes effect when the postmaster has read the signal.
    while client
        .query_one("show ssl", &[])
        .await
        .unwrap()
        .get::<_, String>(0)
        != "on"
    {
        client.batch_execute("select pg_sleep(0.01)").await.unwrap();
    }
    cluster
}

#[tokio::test]
async fn every_sslmode_streams_or_says_why_not() {
    let cluster = serving().await;
    let root = Some(cluster.data().join("root.crt"));
    for (user, mode, host, root, works) in [
        // SCRAM binds to the certificate in these, since the server offers it.
        ("app", SslMode::Prefer, "127.0.0.1", None, true),
        ("app", SslMode::Require, "127.0.0.1", None, true),
        ("app", SslMode::VerifyCa, "127.0.0.1", root.clone(), true),
        ("app", SslMode::VerifyFull, "localhost", root.clone(), true),
        ("app", SslMode::VerifyFull, "127.0.0.1", root, false),
        ("app", SslMode::Disable, "127.0.0.1", None, false),
        ("plain", SslMode::Prefer, "127.0.0.1", None, true),
        ("plain", SslMode::Require, "127.0.0.1", None, false),
    ] {
        let mut settings = settings(&cluster);
        settings.connect.user = user.to_owned();
        settings.connect.host = host.to_owned();
        settings.connect.password = Secret::new("pä ss");
        settings.connect.ssl_mode = mode;
        settings.connect.ssl_root_cert = root;
        let mut follower = Follower::start(settings, &[]);
        if works {
            follower.until_live().await;
            let client = cluster.client().await;
            let encrypted = "select ssl from pg_stat_ssl join pg_stat_replication using (pid)";
            let encrypted: bool = client.query_one(encrypted, &[]).await.unwrap().get(0);
            assert_eq!(encrypted, user == "app", "{user} {mode:?}");
        } else {
            let why = follower.interruption().await;
            assert!(
                why.contains("tls failed") || why.contains("login was refused"),
                "{why}"
            );
        }
        follower.stop().await;
    }
}
