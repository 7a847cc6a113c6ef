//! Logging in to a walsender: the start-up message and the authentication exchange (manual, "Start-up").

use std::io;

use bytes::BytesMut;
use postgres_protocol::authentication::md5_hash;
use postgres_protocol::authentication::sasl::{
    ChannelBinding, SCRAM_SHA_256, SCRAM_SHA_256_PLUS, ScramSha256,
};
use postgres_protocol::message::frontend;

use super::failure::Failure;
use crate::postgres::ConnectSettings;

/// Settings of the session, fixed whatever the role's and the database's defaults are: values are printed in exactly
/// one form ([`crate::change::Value`]), and nothing limits how long the stream may run.
const SESSION: [(&str, &str); 8] = [
    ("client_encoding", "UTF8"),
    ("DateStyle", "ISO"),
    ("TimeZone", "UTC"),
    ("IntervalStyle", "postgres"),
    ("extra_float_digits", "1"),
    ("bytea_output", "hex"),
    ("statement_timeout", "0"),
    ("idle_session_timeout", "0"),
];

/// Writes the start-up message of a logical replication connection.
pub(super) fn write_startup(
    settings: &ConnectSettings,
    application_name: &str,
    out: &mut BytesMut,
) -> io::Result<()> {
    let own = [
        ("user", settings.user.as_str()),
        ("database", settings.database.as_str()),
        ("replication", "database"),
        ("application_name", application_name),
    ];
    frontend::startup_message(own.into_iter().chain(SESSION), out)
}

/// The authentication exchange: server messages in, answers out. No socket.
pub(super) struct Login<'a> {
    settings: &'a ConnectSettings,
    /// The hash of the server's certificate, on a TLS connection.
    binding: Option<Vec<u8>>,
    encrypted: bool,
    scram: Option<ScramSha256>,
}

impl<'a> Login<'a> {
    pub(super) fn new(settings: &'a ConnectSettings, encrypted: bool, binding: Option<Vec<u8>>) -> Self {
        Self {
            settings,
            binding,
            encrypted,
            scram: None,
        }
    }

    /// Answers the body of an authentication message. Writes nothing where no answer is due.
    pub(super) fn answer(&mut self, body: &[u8], out: &mut BytesMut) -> Result<(), Failure> {
        let (kind, rest) = body
            .split_first_chunk::<4>()
            .ok_or(Failure::Protocol("short authentication message"))?;
        match i32::from_be_bytes(*kind) {
            0 => self.finished(),
            3 => self.cleartext(out),
            5 => self.md5(rest, out),
            10 => self.start_sasl(rest, out),
            11 => self.continue_sasl(rest, out),
            12 => self.finish_sasl(rest),
            _ => Err(Failure::Login(
                "it wants a method other than password, md5 and scram-sha-256".to_owned(),
            )),
        }
    }

    /// A server that skips the last message of SCRAM has not proved that it knows the password.
    fn finished(&self) -> Result<(), Failure> {
        match self.scram {
            Some(_) => Err(Failure::Protocol("authentication ended early")),
            None => Ok(()),
        }
    }

    fn password(&self) -> Result<&'a str, Failure> {
        let password = &self.settings.password;
        if password.is_empty() {
            return Err(Failure::Login("it wants a password and none is set".to_owned()));
        }
        Ok(password.expose())
    }

    fn cleartext(&self, out: &mut BytesMut) -> Result<(), Failure> {
        Ok(frontend::password_message(self.password()?.as_bytes(), out)?)
    }

    fn md5(&self, salt: &[u8], out: &mut BytesMut) -> Result<(), Failure> {
        let salt = *salt.first_chunk().ok_or(Failure::Protocol("short md5 salt"))?;
        let hash = md5_hash(self.settings.user.as_bytes(), self.password()?.as_bytes(), salt);
        Ok(frontend::password_message(hash.as_bytes(), out)?)
    }

    fn start_sasl(&mut self, mechanisms: &[u8], out: &mut BytesMut) -> Result<(), Failure> {
        let offers = |name: &str| {
            mechanisms
                .split(|byte| *byte == 0)
                .any(|offer| offer == name.as_bytes())
        };
        let (mechanism, binding) = match (offers(SCRAM_SHA_256_PLUS), self.binding.take()) {
            (true, Some(hash)) => (SCRAM_SHA_256_PLUS, ChannelBinding::tls_server_end_point(hash)),
            // "y" would say that the server does not offer binding, which it then knows to be a forgery.
            (true, None) => (SCRAM_SHA_256, ChannelBinding::unsupported()),
            (false, Some(_)) if self.encrypted => (SCRAM_SHA_256, ChannelBinding::unrequested()),
            (false, _) => (SCRAM_SHA_256, ChannelBinding::unsupported()),
        };
        if !offers(mechanism) {
            return Err(Failure::Login("it offers no scram-sha-256".to_owned()));
        }
        let scram = ScramSha256::new(self.password()?.as_bytes(), binding);
        frontend::sasl_initial_response(mechanism, scram.message(), out)?;
        self.scram = Some(scram);
        Ok(())
    }

    fn continue_sasl(&mut self, data: &[u8], out: &mut BytesMut) -> Result<(), Failure> {
        let scram = self
            .scram
            .as_mut()
            .ok_or(Failure::Protocol("scram out of order"))?;
        scram.update(data).map_err(refused)?;
        Ok(frontend::sasl_response(scram.message(), out)?)
    }

    fn finish_sasl(&mut self, data: &[u8]) -> Result<(), Failure> {
        let mut scram = self.scram.take().ok_or(Failure::Protocol("scram out of order"))?;
        scram.finish(data).map_err(refused)
    }
}

fn refused(error: io::Error) -> Failure {
    Failure::Login(format!("scram failed: {error}"))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;
    use crate::postgres::SslMode;
    use crate::secret::Secret;

    fn settings(password: &str) -> ConnectSettings {
        ConnectSettings {
            host: "db".to_owned(),
            port: 5432,
            user: "me".to_owned(),
            password: Secret::new(password),
            database: "app".to_owned(),
            ssl_mode: SslMode::Disable,
            ssl_root_cert: None,
            connect_timeout: Duration::from_secs(1),
        }
    }

    fn answer(password: &str, binding: Option<&[u8]>, message: &[u8]) -> Result<Vec<u8>, String> {
        let settings = settings(password);
        let mut login = Login::new(&settings, binding.is_some(), binding.map(<[u8]>::to_vec));
        let mut out = BytesMut::new();
        login.answer(message, &mut out).map_err(|e| e.to_string())?;
        Ok(out.to_vec())
    }

    #[test]
    fn passwords_are_answered_and_their_absence_is_told() {
        assert_eq!(answer("pw", None, b"\0\0\0\0").unwrap(), b"");
        assert_eq!(answer("pw", None, b"\0\0\0\x03").unwrap(), b"p\0\0\0\x07pw\0");
        let md5 = answer("pw", None, b"\0\0\0\x05salt").unwrap();
        assert!(md5.starts_with(b"p\0\0\0\x28md5"), "{md5:?}");
        for message in [
            &b"\0\0\0\x03"[..],
            b"\0\0\0\x05salt",
            b"\0\0\0\x0aSCRAM-SHA-256\0\0",
        ] {
            assert!(answer("", None, message).unwrap_err().contains("none is set"));
        }
        assert!(
            answer("pw", None, b"\0\0\0\x07")
                .unwrap_err()
                .contains("scram-sha-256")
        );
    }

    #[test]
    fn scram_binds_to_the_certificate_where_both_sides_can() {
        let both = b"\0\0\0\x0aSCRAM-SHA-256-PLUS\0SCRAM-SHA-256\0\0";
        let plain = b"\0\0\0\x0aSCRAM-SHA-256\0\0";
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        let bound = text(answer("pw", Some(b"hash"), both).unwrap());
        assert!(
            bound.contains("SCRAM-SHA-256-PLUS\0") && bound.contains("p=tls-server-end-point,,"),
            "{bound}"
        );
        let no_hash = text(answer("pw", None, both).unwrap());
        assert!(
            no_hash.contains("SCRAM-SHA-256\0") && no_hash.contains("n,,"),
            "{no_hash}"
        );
        let not_offered = text(answer("pw", Some(b"hash"), plain).unwrap());
        assert!(not_offered.contains("y,,"), "{not_offered}");
        assert!(
            answer("pw", None, b"\0\0\0\x0aOAUTHBEARER\0\0")
                .unwrap_err()
                .contains("no scram")
        );
    }

    #[test]
    fn a_server_that_skips_its_own_proof_is_refused() {
        let settings = settings("pw");
        let mut login = Login::new(&settings, false, None);
        let mut out = BytesMut::new();
        login.answer(b"\0\0\0\x0aSCRAM-SHA-256\0\0", &mut out).unwrap();
        assert!(login.answer(b"\0\0\0\0", &mut out).is_err());
    }

    proptest! {
        #[test]
        fn arbitrary_messages_never_panic(
            messages in proptest::collection::vec(
                (0_u8..14, proptest::collection::vec(any::<u8>(), 0..40)), 0..5
            ),
        ) {
            let settings = settings("pw");
            let mut login = Login::new(&settings, false, None);
            let mut out = BytesMut::new();
            for (kind, rest) in messages {
                let mut body = vec![0, 0, 0, kind];
                body.extend(rest);
                let _ = login.answer(&body, &mut out);
            }
        }
    }
}
