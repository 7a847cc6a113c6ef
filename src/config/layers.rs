//! Values as text, from everywhere they can be given, and which of them wins.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use super::database_url;
use super::error::{ConfigError, Problem};
use super::settings::SETTINGS;
use super::suggest::closest;
use super::table::Setting;

/// Where values are looked for. The environment is passed in, so that tests have their own.
#[derive(Clone, Debug, Default)]
pub struct Inputs {
    /// The TOML file, if any.
    pub file: Option<PathBuf>,
    /// Environment variables, name and value.
    pub environment: Vec<(String, String)>,
    /// Flags that were given, as key (`database.host`) and value.
    pub flags: Vec<(String, String)>,
}

/// Where a value came from, weakest first.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Origin {
    /// Nobody gave one.
    Default,
    /// The file at this path.
    File(String),
    /// A variable that other servers read as well.
    Alias(&'static str),
    /// Our own variable.
    Environment(String),
    /// A flag.
    Flag(String),
}

impl Origin {
    fn rank(&self) -> u8 {
        match self {
            Self::Default => 0,
            Self::File(_) => 1,
            Self::Alias(_) => 2,
            Self::Environment(_) => 3,
            Self::Flag(_) => 4,
        }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("the default"),
            Self::File(path) => f.write_str(path),
            Self::Alias(name) => write!(f, "environment variable {name}"),
            Self::Environment(name) => write!(f, "environment variable {name}"),
            Self::Flag(flag) => write!(f, "--{flag}"),
        }
    }
}

/// A value as given. No `Debug`: it may be a secret.
#[derive(Clone)]
pub(super) struct Given {
    pub text: String,
    pub origin: Origin,
}

/// The winning texts by key; what is not in it has its default.
pub(super) type Layers = BTreeMap<&'static str, Given>;

/// Reads all sources and lets the strongest win.
pub(super) fn collect(inputs: &Inputs) -> Result<Layers, ConfigError> {
    let mut layers = Layers::new();
    if let Some(path) = &inputs.file {
        read_file(path, &mut layers)?;
    }
    for setting in SETTINGS {
        if let Some(given) = from_environment(setting, &inputs.environment) {
            layers.insert(setting.key, given);
        }
    }
    for (key, text) in &inputs.flags {
        if let Some(setting) = SETTINGS.iter().find(|setting| setting.key == key) {
            let origin = Origin::Flag(setting.flag());
            let text = text.clone();
            layers.insert(setting.key, Given { text, origin });
        }
    }
    spread_url(&mut layers).map_err(|problem| ConfigError::Invalid(vec![problem]))?;
    Ok(layers)
}

/// Variables of ours that mean nothing but look like a setting's: most likely a slip.
pub(super) fn suspicious_variables(environment: &[(String, String)]) -> Vec<String> {
    let known: Vec<String> = SETTINGS.iter().map(Setting::variable).collect();
    environment
        .iter()
        .filter(|(name, _)| name.starts_with("ROWCAST_") && !known.contains(name))
        .filter_map(|(name, _)| {
            let similar = closest(name, known.iter().map(String::as_str))?;
            Some(format!(
                "environment variable {name} means nothing, did you mean {similar}?"
            ))
        })
        .collect()
}

fn from_environment(setting: &Setting, environment: &[(String, String)]) -> Option<Given> {
    // Compose files pass `NAME=` for what is unset.
    let get = |name: &str| {
        let found = environment.iter().find(|(key, _)| key == name);
        found
            .map(|(_, value)| value.clone())
            .filter(|value| !value.is_empty())
    };
    let variable = setting.variable();
    if let Some(text) = get(&variable) {
        let origin = Origin::Environment(variable);
        return Some(Given { text, origin });
    }
    setting.aliases.iter().find_map(|alias| {
        let mut text = get(alias)?;
        // Those names say their unit, whatever ours is.
        if alias.ends_with("_MS") && text.bytes().all(|byte| byte.is_ascii_digit()) {
            text.push_str("ms");
        }
        let origin = Origin::Alias(alias);
        Some(Given { text, origin })
    })
}

fn read_file(path: &std::path::Path, layers: &mut Layers) -> Result<(), ConfigError> {
    let shown = path.display().to_string();
    let text = std::fs::read_to_string(path).map_err(|error| ConfigError::Unreadable {
        path: shown.clone(),
        reason: error.to_string(),
    })?;
    let document: toml::Table = toml::from_str(&text).map_err(|error| ConfigError::Syntax {
        path: shown.clone(),
        line: line_of(&text, error.span().map_or(0, |span| span.start)),
        // Only the message: the whole error quotes the line, which may hold a secret.
        reason: error.message().to_owned(),
    })?;
    for (section, value) in document {
        let toml::Value::Table(entries) = value else {
            return Err(unknown(&shown, section));
        };
        for (name, value) in entries {
            let key = format!("{section}.{name}");
            let Some(setting) = SETTINGS.iter().find(|setting| setting.key == key) else {
                return Err(unknown(&shown, key));
            };
            let origin = Origin::File(shown.clone());
            let text = as_text(&value);
            layers.insert(setting.key, Given { text, origin });
        }
    }
    Ok(())
}

fn line_of(text: &str, offset: usize) -> usize {
    let before = text.as_bytes().iter().take(offset);
    before.filter(|byte| **byte == b'\n').count() + 1
}

fn as_text(value: &toml::Value) -> String {
    match value {
        toml::Value::String(text) => text.clone(),
        // Tables and lists: JSON is what those settings are written in elsewhere.
        other => serde_json::to_string(other).unwrap_or_default(),
    }
}

fn unknown(path: &str, key: String) -> ConfigError {
    let suggestion = closest(&key, SETTINGS.iter().map(|setting| setting.key));
    ConfigError::UnknownKey {
        path: path.to_owned(),
        key,
        suggestion,
    }
}

/// Puts the parts of `database.url` in the place of the separate settings, except of those from a stronger source.
fn spread_url(layers: &mut Layers) -> Result<(), Problem> {
    let Some(url) = layers.get("database.url").cloned() else {
        return Ok(());
    };
    if url.text.is_empty() {
        return Ok(());
    }
    let parts = database_url::parse(&url.text).map_err(|expected| Problem {
        key: "database.url",
        origin: url.origin.clone(),
        expected,
    })?;
    for (key, text) in parts {
        let stronger = layers
            .get(key)
            .is_some_and(|part| part.origin.rank() > url.origin.rank());
        if !stronger {
            let origin = url.origin.clone();
            layers.insert(key, Given { text, origin });
        }
    }
    Ok(())
}
