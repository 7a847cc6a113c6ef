//! `rowcast token`.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};

use clap::{Arg, ArgAction, ArgMatches, Command};
use serde_json::{Map, Value};

use super::{Failure, dev::data_dir_argument, print};
use crate::auth::mint;
use crate::config::parse_duration;
use crate::dev::read_jwt_secret;
use crate::secret::Secret;

/// Variables that may hold the secret, strongest first.
const VARIABLES: [&str; 2] = ["ROWCAST_AUTH_JWT_SECRET", "API_JWT_SECRET"];

const EXAMPLES: &str = "\
The secret is taken from --secret, else from --data-dir, else from ROWCAST_AUTH_JWT_SECRET or API_JWT_SECRET, else from
what rowcast dev keeps in .rowcast.

Examples:
  rowcast token --sub 6f1c... --exp 30d
  rowcast token --role service_role
  rowcast token --claim team=7 --claim 'app_metadata={\"plan\":\"pro\"}'
  rowcast token --exp -1h                         a token that has expired";

pub(super) fn command() -> Command {
    Command::new("token")
        .about("Print a signed token for development")
        .after_help(EXAMPLES)
        .arg(
            text("role", "ROLE")
                .default_value("authenticated")
                .help("Postgres role that rows are judged as"),
        )
        .arg(text("sub", "ID").help("Who it is for, what auth.uid() says"))
        .arg(
            text("exp", "DURATION")
                .default_value("1h")
                .allow_hyphen_values(true)
                .help("How long it lasts; negative for one that has expired"),
        )
        .arg(
            text("claim", "NAME=VALUE")
                .action(ArgAction::Append)
                .help("Further claim; the value is JSON, or text if it is not; may be repeated"),
        )
        .arg(
            text("secret", "TEXT")
                .allow_hyphen_values(true)
                .help("Secret to sign with (HS256)"),
        )
        .arg(data_dir_argument().help("Data folder of the rowcast dev whose secret to sign with"))
}

fn text(name: &'static str, placeholder: &'static str) -> Arg {
    Arg::new(name).long(name).value_name(placeholder)
}

pub(super) fn run(matches: &ArgMatches) -> Result<ExitCode, Failure> {
    let claims = claims(matches, now())?;
    let token = mint(&secret(matches)?, &Value::Object(claims)).map_err(Failure::failed)?;
    print(&format!("{token}\n"));
    Ok(ExitCode::SUCCESS)
}

fn claims(matches: &ArgMatches, now: i64) -> Result<Map<String, Value>, Failure> {
    let given = |name: &str| matches.get_one::<String>(name).map(String::as_str);
    let mut claims = Map::new();
    claims.insert("iat".to_owned(), now.into());
    claims.insert(
        "exp".to_owned(),
        expiry(given("exp").unwrap_or_default(), now)?.into(),
    );
    for name in ["role", "sub"] {
        if let Some(value) = given(name) {
            claims.insert(name.to_owned(), value.into());
        }
    }
    for claim in matches.get_many::<String>("claim").into_iter().flatten() {
        let (name, value) = claim
            .split_once('=')
            .ok_or_else(|| Failure::usage(format!("--claim {claim}: expected NAME=VALUE")))?;
        let value = serde_json::from_str(value).unwrap_or_else(|_| Value::from(value));
        claims.insert(name.to_owned(), value);
    }
    Ok(claims)
}

fn expiry(lifetime: &str, now: i64) -> Result<i64, Failure> {
    let (past, length) = match lifetime.strip_prefix('-') {
        Some(length) => (true, length),
        None => (false, lifetime),
    };
    let seconds = parse_duration(length)
        .and_then(|length| i64::try_from(length.as_secs()).ok())
        .ok_or_else(|| {
            Failure::usage(format!(
                "--exp {lifetime}: expected a duration such as 90s, 10m, 1h, 30d or -1h"
            ))
        })?;
    Ok(if past {
        now.saturating_sub(seconds)
    } else {
        now.saturating_add(seconds)
    })
}

fn secret(matches: &ArgMatches) -> Result<Secret, Failure> {
    if let Some(secret) = matches.get_one::<String>("secret") {
        return Ok(Secret::new(secret.as_str()));
    }
    if let Some(dir) = matches.get_one::<PathBuf>("data-dir") {
        return read_jwt_secret(dir).map_err(Failure::failed);
    }
    let from_environment = VARIABLES
        .iter()
        .filter_map(|name| std::env::var(name).ok())
        .find(|secret| !secret.is_empty());
    if let Some(secret) = from_environment {
        return Ok(Secret::new(secret));
    }
    read_jwt_secret(Path::new(".rowcast")).map_err(|_| {
        Failure::usage(
            "no secret to sign with: give --secret, set ROWCAST_AUTH_JWT_SECRET, or run rowcast dev first",
        )
    })
}

fn now() -> i64 {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since_epoch.as_secs()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn claims_of(arguments: &[&str]) -> Result<Value, String> {
        let arguments = ["token"].iter().chain(arguments);
        let matches = command().get_matches_from(arguments);
        match claims(&matches, 1000) {
            Ok(claims) => Ok(Value::Object(claims)),
            Err(Failure::Usage(error) | Failure::Failed(error)) => Err(error.to_string()),
        }
    }

    #[test]
    fn claims_are_json_where_they_can_be() {
        let claims = claims_of(&[
            "--role",
            "anon",
            "--sub",
            "u1",
            "--claim",
            "team=7",
            "--claim",
            "name=Ada=x",
            "--claim",
            "o={\"a\":[1]}",
            "--exp",
            "1m",
        ]);
        let expected = json!({"role": "anon", "sub": "u1", "iat": 1000, "exp": 1060, "team": 7, "name": "Ada=x",
            "o": {"a": [1]}});
        assert_eq!(claims.unwrap(), expected);
        assert_eq!(claims_of(&["--exp", "-1h"]).unwrap()["exp"], -2600);
    }

    #[test]
    fn mistakes_are_explained() {
        assert!(
            claims_of(&["--claim", "team"])
                .unwrap_err()
                .contains("NAME=VALUE")
        );
        assert!(claims_of(&["--exp", "soon"]).unwrap_err().contains("1h"));
    }
}
