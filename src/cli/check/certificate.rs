//! The certificate that clients are shown.

use chrono::{DateTime, TimeDelta, Utc};

use super::{Level, Report};
use crate::server::{CertificateFiles, Identity};

/// A certificate that expires sooner is one whose renewal has failed.
const SOON: TimeDelta = TimeDelta::days(7);

const SUBJECT: &str = "certificate";

/// Looks at the files as they stand.
pub(super) fn judge(files: &CertificateFiles, now: DateTime<Utc>, report: &mut Report) {
    match files.read() {
        Ok(identity) => judge_identity(&identity, now, report),
        Err(error) => report.add(Level::Failure, SUBJECT, error.to_string(), None),
    }
}

fn judge_identity(identity: &Identity, now: DateTime<Utc>, report: &mut Report) {
    if let Some(warning) = identity.warning(now) {
        let text = format!("{warning}: clients will refuse it");
        return report.add(Level::Warning, SUBJECT, text, None);
    }
    let names = match identity.names.is_empty() {
        true => "no host name".to_owned(),
        false => identity.names.join(", "),
    };
    let Some((_, until)) = identity.validity else {
        return report.add(Level::Ok, SUBJECT, names, None);
    };
    let text = format!("{names}; expires on {}", until.date_naive());
    let level = match until - now < SOON {
        true => Level::Warning,
        false => Level::Ok,
    };
    report.add(level, SUBJECT, text, None);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(files: &CertificateFiles, now: DateTime<Utc>) -> (Level, String) {
        let mut report = Report::default();
        judge(files, now, &mut report);
        let line = report.lines.pop().unwrap();
        assert!(report.lines.is_empty());
        (line.level, line.text)
    }

    #[test]
    fn a_certificate_is_looked_at_before_its_clients_do() {
        let folder = tempfile::tempdir().unwrap();
        let mut params = rcgen::CertificateParams::new(vec!["rows.example".to_owned()]).unwrap();
        params.not_before = rcgen::date_time_ymd(2026, 1, 10);
        params.not_after = rcgen::date_time_ymd(2026, 4, 10);
        let key = rcgen::KeyPair::generate().unwrap();
        let files = CertificateFiles {
            certificate: folder.path().join("tls.crt"),
            key: folder.path().join("tls.key"),
        };
        std::fs::write(&files.certificate, params.self_signed(&key).unwrap().pem()).unwrap();
        std::fs::write(&files.key, key.serialize_pem()).unwrap();
        let on = |month, day| {
            let date = chrono::NaiveDate::from_ymd_opt(2026, month, day).unwrap();
            date.and_hms_opt(12, 0, 0).unwrap().and_utc()
        };
        let expires = "rows.example; expires on 2026-04-10".to_owned();
        assert_eq!(line(&files, on(2, 1)), (Level::Ok, expires.clone()));
        assert_eq!(line(&files, on(4, 5)), (Level::Warning, expires));
        let (level, text) = line(&files, on(4, 11));
        assert_eq!(level, Level::Warning);
        assert_eq!(text, "expired on 2026-04-10: clients will refuse it");
        let (level, text) = line(&files, on(1, 9));
        assert_eq!(level, Level::Warning);
        assert_eq!(text, "does not hold before 2026-01-10: clients will refuse it");
        std::fs::remove_file(&files.key).unwrap();
        let (level, text) = line(&files, on(2, 1));
        assert_eq!(level, Level::Failure);
        assert!(text.starts_with("listen.tls_key "), "{text}");
    }
}
