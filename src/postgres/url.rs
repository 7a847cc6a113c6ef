//! `postgres://` URLs (manual, "Connection URIs"), as far as one server and one login need them.

use std::path::PathBuf;
use std::time::Duration;

use super::settings::{ConnectSettings, SslMode};
use crate::secret::Secret;

/// A URL that does not describe a database. The text names the part and never repeats a password.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the database url is not usable: {0}")]
pub struct InvalidUrl(String);

fn invalid<T>(why: impl Into<String>) -> Result<T, InvalidUrl> {
    Err(InvalidUrl(why.into()))
}

/// What a URL or its query may set.
#[derive(Default)]
struct Parts {
    host: Option<String>,
    port: Option<u16>,
    user: Option<String>,
    password: Option<String>,
    database: Option<String>,
    ssl_mode: Option<SslMode>,
    ssl_root_cert: Option<PathBuf>,
    connect_timeout: Option<Duration>,
}

impl ConnectSettings {
    /// Reads `postgres://user:password@host:port/database?sslmode=…&sslrootcert=…` (or `postgresql://`).
    ///
    /// User, password, host and database are percent-decoded; a host that starts with `/` (written `%2F…`, or given as
    /// the parameter `host`) is the directory of a Unix socket. Parameters: `host`, `port`, `user`, `password`,
    /// `dbname`, `sslmode`, `sslrootcert`, `connect_timeout` (seconds). Left out, the port is 5432, the database has
    /// the user's name, `sslmode` is `prefer` and the timeout 10 s.
    ///
    /// # Errors
    /// [`InvalidUrl`] names the part that is missing, unknown or malformed.
    pub fn from_url(url: &str) -> Result<Self, InvalidUrl> {
        let Some(rest) = url
            .strip_prefix("postgres://")
            .or_else(|| url.strip_prefix("postgresql://"))
        else {
            return invalid("it must start with postgres:// or postgresql://");
        };
        let rest = rest.split('#').next().unwrap_or_default();
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (authority, database) = rest.split_once('/').unwrap_or((rest, ""));
        let mut parts = Parts::default();
        parts.authority(authority)?;
        if !database.is_empty() {
            parts.database = Some(decode("database", database)?);
        }
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            parts.parameter(&decode("query", name)?, value)?;
        }
        parts.finish()
    }
}

impl Parts {
    fn authority(&mut self, authority: &str) -> Result<(), InvalidUrl> {
        let (login, address) = match authority.rsplit_once('@') {
            Some((login, address)) => (Some(login), address),
            None => (None, authority),
        };
        if let Some(login) = login {
            let (user, password) = match login.split_once(':') {
                Some((user, password)) => (user, Some(password)),
                None => (login, None),
            };
            if !user.is_empty() {
                self.user = Some(decode("user", user)?);
            }
            self.password = password.map(|text| decode("password", text)).transpose()?;
        }
        self.address(address)
    }

    fn address(&mut self, address: &str) -> Result<(), InvalidUrl> {
        if address.contains(',') {
            return invalid("the host is a list, and one server can be followed at a time");
        }
        let (host, port) = match address.strip_prefix('[') {
            Some(rest) => {
                let Some((host, after)) = rest.split_once(']') else {
                    return invalid("the host starts with [ and lacks the closing ]");
                };
                match after.strip_prefix(':') {
                    Some(port) => (host, port),
                    None if after.is_empty() => (host, ""),
                    None => return invalid("the host is followed by something that is not a port"),
                }
            }
            None => address.split_once(':').unwrap_or((address, "")),
        };
        if !host.is_empty() {
            self.host = Some(decode("host", host)?);
        }
        if !port.is_empty() {
            self.port = Some(parse_port(port)?);
        }
        Ok(())
    }

    fn parameter(&mut self, name: &str, value: &str) -> Result<(), InvalidUrl> {
        let value = decode(name, value)?;
        match name {
            "host" => self.host = Some(value),
            "port" => self.port = Some(parse_port(&value)?),
            "user" => self.user = Some(value),
            "password" => self.password = Some(value),
            "dbname" => self.database = Some(value),
            "sslmode" => match SslMode::from_name(&value) {
                Some(mode) => self.ssl_mode = Some(mode),
                None => {
                    return invalid("sslmode must be disable, prefer, require, verify-ca or verify-full");
                }
            },
            "sslrootcert" => {
                self.ssl_root_cert = Some(PathBuf::from(value)).filter(|path| path.as_os_str() != "system")
            }
            "connect_timeout" => match value.parse() {
                Ok(seconds @ 1..=3600) => self.connect_timeout = Some(Duration::from_secs(seconds)),
                _ => return invalid("connect_timeout must be whole seconds from 1 to 3600"),
            },
            // Every session names itself.
            "application_name" => {}
            other => return invalid(format!("it has the parameter {other:?}, which is not known here")),
        }
        Ok(())
    }

    fn finish(self) -> Result<ConnectSettings, InvalidUrl> {
        let Some(host) = self.host.filter(|host| !host.is_empty()) else {
            return invalid("it names no host");
        };
        let Some(user) = self.user.filter(|user| !user.is_empty()) else {
            return invalid("it names no user");
        };
        let texts = [
            Some(&host),
            Some(&user),
            self.password.as_ref(),
            self.database.as_ref(),
        ];
        if texts.into_iter().flatten().any(|text| text.contains('\0')) {
            return invalid("it contains a zero byte");
        }
        Ok(ConnectSettings {
            database: self
                .database
                .filter(|name| !name.is_empty())
                .unwrap_or_else(|| user.clone()),
            host,
            port: self.port.unwrap_or(5432),
            user,
            password: Secret::new(self.password.unwrap_or_default()),
            ssl_mode: self.ssl_mode.unwrap_or(SslMode::Prefer),
            ssl_root_cert: self.ssl_root_cert,
            connect_timeout: self.connect_timeout.unwrap_or(Duration::from_secs(10)),
        })
    }
}

fn parse_port(text: &str) -> Result<u16, InvalidUrl> {
    match text.parse() {
        Ok(port @ 1..) if text.bytes().all(|b| b.is_ascii_digit()) => Ok(port),
        _ => invalid("the port must be a number from 1 to 65535"),
    }
}

/// Percent-decoding of one part. `+` is itself: this is not a web form.
fn decode(part: &str, text: &str) -> Result<String, InvalidUrl> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let mut digit = || rest.next().and_then(|b| char::from(b).to_digit(16));
        match (digit(), digit()) {
            // Two hexadecimal digits stay below 256.
            (Some(high), Some(low)) => bytes.push((high * 16 + low) as u8),
            _ => {
                return invalid(format!(
                    "the {part} has a % that two hexadecimal digits do not follow"
                ));
            }
        }
    }
    String::from_utf8(bytes).or_else(|_| invalid(format!("the {part} is not UTF-8 once decoded")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn parse(url: &str) -> ConnectSettings {
        ConnectSettings::from_url(url).unwrap_or_else(|e| panic!("{url}: {e}"))
    }

    #[test]
    fn a_full_url_fills_every_setting() {
        let s = parse(
            "postgres://me%40x:p%3Aw%2F%25@db.example:6543/my%20db?sslmode=verify-full&sslrootcert=/etc/ca.pem&connect_timeout=3",
        );
        assert_eq!((s.user.as_str(), s.password.expose()), ("me@x", "p:w/%"));
        assert_eq!(
            (s.host.as_str(), s.port, s.database.as_str()),
            ("db.example", 6543, "my db")
        );
        assert_eq!(s.ssl_mode, SslMode::VerifyFull);
        assert_eq!(s.ssl_root_cert, Some(PathBuf::from("/etc/ca.pem")));
        assert_eq!(s.connect_timeout, Duration::from_secs(3));
    }

    #[test]
    fn what_is_left_out_has_libpqs_default() {
        let s = parse("postgresql://me@db");
        assert_eq!(
            (s.port, s.database.as_str(), s.ssl_mode),
            (5432, "me", SslMode::Prefer)
        );
        assert!(s.password.is_empty());
        assert_eq!(parse("postgres://u:a@b@h/d").password.expose(), "a@b");
        assert_eq!(
            parse("postgres://u@h/?sslmode=require&sslrootcert=system").ssl_root_cert,
            None
        );
    }

    #[test]
    fn addresses_of_every_family() {
        let s = parse("postgres://u@[::1]:5433/d");
        assert_eq!((s.host.as_str(), s.port), ("::1", 5433));
        assert_eq!(parse("postgres://u@[fe80::1]/d").host, "fe80::1");
        for url in [
            "postgres://u@%2Frun%2Fpg:5433/d",
            "postgres://u@/d?host=/run/pg&port=5433",
        ] {
            let s = parse(url);
            assert_eq!(
                (s.host.as_str(), s.port, s.is_unix_socket()),
                ("/run/pg", 5433, true)
            );
        }
    }

    #[test]
    fn a_bad_url_is_told_by_its_part() {
        for (url, part) in [
            ("mysql://x", "postgres://"),
            ("postgres://u@/d", "host"),
            ("postgres://h/d", "user"),
            ("postgres://u@h:0/d", "port"),
            ("postgres://u@h:99999/d", "port"),
            ("postgres://u@h:+1/d", "port"),
            ("postgres://u@[::1/d", "host"),
            ("postgres://u@[::1]x/d", "port"),
            ("postgres://u@a,b/d", "list"),
            ("postgres://u:secret%zz@h/d", "password"),
            ("postgres://u:%ff@h/d", "password"),
            ("postgres://u:a%00b@h/d", "zero byte"),
            ("postgres://u@h/d?sslmode=on", "sslmode"),
            ("postgres://u@h/d?connect_timeout=x", "connect_timeout"),
            ("postgres://u@h/d?schema=public", "schema"),
        ] {
            let text = ConnectSettings::from_url(url).expect_err(url).to_string();
            assert!(text.contains(part), "{url}: {text}");
            assert!(!text.contains("secret"), "{text}");
        }
    }

    proptest! {
        #[test]
        fn never_panics(url in "(postgres://)?[ -~é\\x00%@:/?&=\\[\\],]{0,60}") {
            let _ = ConnectSettings::from_url(&url);
        }

        #[test]
        fn what_is_encoded_comes_back(user in "\\PC{1,12}", password in "\\PC{0,12}", database in "\\PC{1,12}") {
            let encode = |text: &str| text.bytes().map(|b| format!("%{b:02X}")).collect::<String>();
            let url = format!("postgres://{}:{}@h/{}", encode(&user), encode(&password), encode(&database));
            let s = parse(&url);
            prop_assert_eq!((s.user, s.password.expose().to_owned(), s.database), (user, password, database));
        }
    }
}
