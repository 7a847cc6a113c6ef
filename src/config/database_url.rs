//! `postgres://user:password@host:port/name?sslmode=…` (manual, "Connection URIs") as separate settings.

/// Keys of the table and their texts, for the parts that the URL has.
///
/// # Errors
/// What was expected; never a part of the URL that could be its password.
pub(super) fn parse(url: &str) -> Result<Vec<(&'static str, String)>, String> {
    let rest = url
        .strip_prefix("postgres://")
        .or_else(|| url.strip_prefix("postgresql://"))
        .ok_or("expected postgres://user:password@host:port/name")?;
    let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
    let (authority, name) = rest.split_once('/').unwrap_or((rest, ""));
    // A password with a bare @ in it is common, so the last one counts.
    let (user, address) = authority.rsplit_once('@').unwrap_or(("", authority));
    let (user, password) = user.split_once(':').unwrap_or((user, ""));
    let (host, port) = split_address(address)?;

    let mut parts = Vec::new();
    let mut add = |key, text: &str| -> Result<(), String> {
        if !text.is_empty() {
            parts.push((key, decode(text)?));
        }
        Ok(())
    };
    add("database.user", user)?;
    add("database.password", password)?;
    add("database.host", host)?;
    add("database.port", port)?;
    add("database.name", name)?;
    for parameter in query.split('&').filter(|parameter| !parameter.is_empty()) {
        let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
        if let Some(key) = key_of(name)? {
            add(key, value)?;
        }
    }
    Ok(parts)
}

fn key_of(parameter: &str) -> Result<Option<&'static str>, String> {
    Ok(Some(match parameter {
        "host" => "database.host",
        "port" => "database.port",
        "user" => "database.user",
        "password" => "database.password",
        "dbname" => "database.name",
        "sslmode" => "database.sslmode",
        "sslrootcert" => "database.sslrootcert",
        "connect_timeout" => "database.connect_timeout",
        // Connections name themselves, and channel binding is used whenever the server offers it.
        "application_name" | "channel_binding" => return Ok(None),
        _ => {
            return Err(
                "expected no parameters in the URL but host, port, user, password, dbname, sslmode, sslrootcert and \
                 connect_timeout"
                    .to_owned(),
            );
        }
    }))
}

fn split_address(address: &str) -> Result<(&str, &str), String> {
    if address.contains(',') {
        return Err("expected one host in the URL, found several".to_owned());
    }
    let Some(bracketed) = address.strip_prefix('[') else {
        return Ok(address.split_once(':').unwrap_or((address, "")));
    };
    let (host, rest) = bracketed
        .split_once(']')
        .ok_or("expected ] after the IPv6 address in the URL")?;
    Ok((host, rest.strip_prefix(':').unwrap_or(rest)))
}

fn decode(text: &str) -> Result<String, String> {
    let bad = "expected %XX with two hexadecimal digits, in UTF-8, for special characters in the URL";
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, tail)) = rest.split_first() {
        rest = tail;
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let (digits, tail) = tail.split_first_chunk::<2>().ok_or(bad)?;
        let digits = std::str::from_utf8(digits).map_err(|_| bad)?;
        bytes.push(u8::from_str_radix(digits, 16).map_err(|_| bad)?);
        rest = tail;
    }
    String::from_utf8(bytes).map_err(|_| bad.to_owned())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn shown(url: &str) -> String {
        let parts = parse(url).unwrap();
        let parts = parts
            .iter()
            .map(|(key, text)| format!("{}={text}", key.trim_start_matches("database.")));
        parts.collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn takes_urls_apart() {
        assert_eq!(
            shown("postgres://u:p@db.example:6543/app?sslmode=require&connect_timeout=3"),
            "user=u password=p host=db.example port=6543 name=app sslmode=require connect_timeout=3"
        );
        assert_eq!(shown("postgresql://localhost"), "host=localhost");
        assert_eq!(
            shown("postgres://u:p%40ss%3A@h@[::1]:5433/"),
            "user=u password=p@ss:@h host=::1 port=5433"
        );
        assert_eq!(
            shown("postgres:///app?host=/run/postgresql"),
            "name=app host=/run/postgresql"
        );
        assert_eq!(
            shown("postgres://u@%2Frun%2Fpg/app"),
            "user=u host=/run/pg name=app"
        );
    }

    #[test]
    fn says_what_it_expected_without_the_password() {
        for url in [
            "mysql://u:hunter2@h/db",
            "u:hunter2@h",
            "postgres://u:hunter2@a,b/db",
            "postgres://u:hunter2@[::1/db",
            "postgres://u:hunter2%zz@h/db",
            "postgres://u:hunter2@h/db?schema=public",
        ] {
            let error = parse(url).unwrap_err();
            assert!(
                error.contains("expected") && !error.contains("hunter2"),
                "{url}: {error}"
            );
        }
    }

    proptest! {
        #[test]
        fn never_panics(text in "\\PC{0,80}") {
            let _ = parse(&text);
            let _ = parse(&format!("postgres://{text}"));
        }
    }
}
