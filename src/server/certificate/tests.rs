use std::time::Duration;

use rcgen::{CertificateParams, KeyPair};
use tempfile::TempDir;
use tokio::sync::Notify;
use tokio::task::JoinHandle;

use super::*;
use crate::shutdown::Shutdown;
use crate::telemetry::Metrics;

/// How long a test waits for what must happen.
const PATIENCE: Duration = Duration::from_secs(20);

/// Certificate and key for this name, as PEM.
fn issue(name: &str) -> (String, String) {
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new(vec![name.to_owned()]).unwrap();
    (params.self_signed(&key).unwrap().pem(), key.serialize_pem())
}

fn files(folder: &TempDir) -> CertificateFiles {
    CertificateFiles {
        certificate: folder.path().join("tls.crt"),
        key: folder.path().join("tls.key"),
    }
}

impl CertificateFiles {
    fn write(&self, (certificate, key): &(String, String)) {
        std::fs::write(&self.certificate, certificate).unwrap();
        std::fs::write(&self.key, key).unwrap();
    }
}

#[test]
fn a_certificate_says_what_it_is_for() {
    let folder = tempfile::tempdir().unwrap();
    let files = files(&folder);
    let key = KeyPair::generate().unwrap();
    let names = ["rows.example", "*.rows.example"].map(str::to_owned);
    let mut params = CertificateParams::new(names.to_vec()).unwrap();
    params.not_before = rcgen::date_time_ymd(2020, 1, 1);
    params.not_after = rcgen::date_time_ymd(2021, 1, 1);
    let certificate = params.self_signed(&key).unwrap();
    // Others may stand behind it, and text around them.
    let chain = format!("rows\n{}\nauthority\n{}", certificate.pem(), issue("ca").0);
    files.write(&(chain, key.serialize_pem()));
    let identity = files.read().unwrap();
    assert_eq!(identity.names, names);
    assert_eq!(identity.certified.cert.len(), 2);
    let (from, until) = identity.validity.unwrap();
    assert_eq!(from.to_rfc3339(), "2020-01-01T00:00:00+00:00");
    // It is used all the same: clients decide, and a server that does not start helps nobody.
    let expired = identity.warning(until + Duration::from_secs(1));
    assert_eq!(expired.as_deref(), Some("expired on 2021-01-01"));
    assert_eq!(identity.warning(until), None);
    assert_eq!(identity.warning(from), None);
}

#[test]
fn what_is_wrong_names_the_setting_and_the_file() {
    let (good, other) = (issue("a"), issue("b"));
    let key_in_certificate = (good.1.clone(), good.1.clone());
    let encrypted = good.1.replace("PRIVATE KEY", "ENCRYPTED PRIVATE KEY");
    let rubbish = "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n";
    let certificate = "listen.tls_certificate FOLDER/tls.crt: ";
    let key = "listen.tls_key FOLDER/tls.key: ";
    for ((written, setting), expected) in [
        (
            (("".into(), good.1.clone()), certificate),
            "there is no certificate in it",
        ),
        ((key_in_certificate, certificate), "there is no certificate in it"),
        (
            ((good.0[..200].to_owned(), good.1.clone()), certificate),
            "section end",
        ),
        (((good.0.clone(), "".into()), key), "there is no key in it"),
        (
            ((good.0.clone(), encrypted), key),
            "there is no key in it that is not encrypted",
        ),
        (
            ((good.0.clone(), good.1[..60].to_owned()), key),
            "not well-formed PEM",
        ),
        (((good.0.clone(), rubbish.into()), key), ""),
        (
            (
                (good.0.clone(), other.1.clone()),
                "listen.tls_key FOLDER/tls.key ",
            ),
            "is not the key of the certificate in listen.tls_certificate FOLDER/tls.crt",
        ),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let files = files(&folder);
        files.write(&written);
        let error = files.read().unwrap_err().to_string();
        let error = error.replace(&folder.path().display().to_string(), "FOLDER");
        assert!(error.starts_with(setting) && error.contains(expected), "{error}");
        let secret = good.1.lines().nth(1).unwrap();
        assert!(
            !error.contains(secret) && !error.contains(&secret[..20]),
            "{error}"
        );
    }
    let nowhere = files(&tempfile::tempdir().unwrap())
        .read()
        .unwrap_err()
        .to_string();
    assert!(nowhere.starts_with("listen.tls_certificate /"), "{nowhere}");
    assert!(nowhere.contains("No such file"), "{nowhere}");
}

#[test]
fn both_files_are_named_or_neither() {
    let mut config = Config::from_pairs(&[("auth.jwt_secret", "x".repeat(32).as_str())]).unwrap();
    assert!(CertificateFiles::of(&config).unwrap().is_none());
    config.listen.tls_certificate = Some("a".into());
    assert!(CertificateFiles::of(&config).is_err());
    config.listen.tls_key = Some("b".into());
    assert!(CertificateFiles::of(&config).unwrap().is_some());
}

struct Followed {
    files: CertificateFiles,
    shown: Shown,
    asked: Arc<Notify>,
    metrics: Arc<Metrics>,
    shutdown: Shutdown,
    following: JoinHandle<()>,
    _folder: TempDir,
}

fn follow(first: &(String, String)) -> Followed {
    let folder = tempfile::tempdir().unwrap();
    let files = files(&folder);
    files.write(first);
    let identity = files.read().unwrap();
    let (asked, metrics, shutdown) = (Arc::<Notify>::default(), Metrics::new(), Shutdown::new());
    let shown = Shown::new(&identity);
    let follower = Follower {
        files: files.clone(),
        shown: shown.clone(),
        asked: Arc::clone(&asked),
        metrics: Arc::clone(&metrics),
        shutdown: shutdown.clone(),
    };
    Followed {
        files,
        shown,
        asked,
        metrics,
        shutdown,
        following: tokio::spawn(follower.run(identity)),
        _folder: folder,
    }
}

impl Followed {
    fn shows(&self, issued: &(String, String)) -> bool {
        let shown = self.shown.0.read().unwrap();
        shown.cert[0] == CertificateDer::from_pem_slice(issued.0.as_bytes()).unwrap()
    }

    fn count(&self, outcome: &'static str) -> u64 {
        let reloads = &self.metrics.certificate_reloads;
        reloads.get_or_create(&[("outcome", outcome)]).get()
    }

    async fn until(&self, what: &str, holds: impl Fn(&Self) -> bool) {
        let waiting = async {
            while !holds(self) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        let waited = tokio::time::timeout(PATIENCE, waiting).await;
        assert!(waited.is_ok(), "waited for: {what}");
    }
}

#[tokio::test]
async fn a_new_certificate_is_taken_over_and_a_broken_one_is_not() {
    let (first, second, third) = (issue("a"), issue("b"), issue("c"));
    let followed = follow(&first);
    assert!(followed.shows(&first));
    // As certbot and Kubernetes do: beside, and then put in its place.
    let beside = followed.files.key.with_extension("new");
    std::fs::write(&beside, &second.1).unwrap();
    std::fs::rename(&beside, &followed.files.key).unwrap();
    std::fs::write(&followed.files.certificate, &second.0).unwrap();
    followed.until("the second", |f| f.shows(&second)).await;

    let broken = followed.count("broken");
    std::fs::write(&followed.files.certificate, "half a certifi").unwrap();
    followed
        .until("it to be refused", |f| f.count("broken") > broken)
        .await;
    assert!(followed.shows(&second));
    followed.files.write(&third);
    followed.until("the third", |f| f.shows(&third)).await;
    assert!(followed.metrics.certificate_expiry.get() > 0);

    followed.shutdown.cancel();
    let ended = tokio::time::timeout(PATIENCE, followed.following).await;
    ended.unwrap().unwrap();
}

#[tokio::test]
async fn who_asks_is_answered_although_nothing_changed() {
    let first = issue("a");
    let followed = follow(&first);
    for expected in 1..=2 {
        followed.asked.notify_one();
        followed.until("a reading", |f| f.count("ok") == expected).await;
    }
    std::fs::remove_file(&followed.files.key).unwrap();
    followed.asked.notify_one();
    followed.until("a refusal", |f| f.count("broken") > 0).await;
    assert!(followed.shows(&first));
}
