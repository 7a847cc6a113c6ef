//! From the winning texts to a [`Config`].

use super::error::{ConfigError, Problem};
use super::layers::{self, Inputs, Layers, Origin};
use super::settings::{Config, SETTINGS};
use super::table::Setting;
use super::validate::validate;
use super::value::FromText;

/// A configuration and what is worth knowing about how it came about.
#[derive(Debug)]
pub struct Loaded {
    /// The values.
    pub config: Config,
    /// Things that look like mistakes but stop nothing, one sentence each.
    pub warnings: Vec<String>,
    values: Values,
}

/// Texts by key. `Debug` shows none of them.
pub(super) struct Values(Layers);

impl std::fmt::Debug for Values {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

impl Values {
    pub(super) fn parse<T: FromText>(&self, setting: &Setting) -> Result<T, Problem> {
        let text = self.text(setting);
        T::from_text(text, setting.unit).ok_or_else(|| {
            let value = if setting.secret {
                String::new()
            } else {
                format!(", found {text:?}")
            };
            self.problem(setting.key, format!("expected {}{value}", expected(setting)))
        })
    }

    /// Parses the next setting of the table.
    pub(super) fn parse_next<'a, T: FromText>(
        &self,
        settings: &mut impl Iterator<Item = &'a Setting>,
    ) -> Result<T, Problem> {
        match settings.next() {
            Some(setting) => self.parse(setting),
            None => Err(self.problem("", "expected another setting in the table".to_owned())),
        }
    }

    pub(super) fn problem(&self, key: &'static str, expected: String) -> Problem {
        let origin = self
            .0
            .get(key)
            .map_or(Origin::Default, |given| given.origin.clone());
        Problem {
            key,
            origin,
            expected,
        }
    }

    fn text<'a>(&'a self, setting: &'a Setting) -> &'a str {
        self.0
            .get(setting.key)
            .map_or(setting.default, |given| given.text.as_str())
    }
}

/// What a value looks like, with the meaning of a bare number.
fn expected(setting: &Setting) -> String {
    match setting.unit.name() {
        "" => setting.expected.to_owned(),
        "bytes" => format!("{} of bytes, or a size such as 64KiB or 8MiB", setting.expected),
        unit => format!("{}, or a number of {unit}", setting.expected),
    }
}

impl Config {
    /// Reads, converts and validates all settings.
    ///
    /// # Errors
    /// An unreadable file, an unknown key in it, or every value that cannot be used.
    pub fn load(inputs: &Inputs) -> Result<Loaded, ConfigError> {
        let values = Values(layers::collect(inputs)?);
        let problems: Vec<Problem> = SETTINGS
            .iter()
            .filter_map(|setting| (setting.check)(&values, setting).err())
            .collect();
        if !problems.is_empty() {
            return Err(ConfigError::Invalid(problems));
        }
        let config = Self::from_values(&values).map_err(|problem| ConfigError::Invalid(vec![problem]))?;
        let problems: Vec<Problem> = validate(&config)
            .into_iter()
            .map(|(key, expected)| values.problem(key, expected))
            .collect();
        if !problems.is_empty() {
            return Err(ConfigError::Invalid(problems));
        }
        let mut warnings = layers::suspicious_variables(&inputs.environment);
        if config.metrics.token.is_empty()
            && inputs
                .environment
                .iter()
                .any(|(name, _)| name == "METRICS_JWT_SECRET")
        {
            warnings.push(
                "METRICS_JWT_SECRET is not read: set ROWCAST_METRICS_TOKEN to protect /metrics".to_owned(),
            );
        }
        Ok(Loaded {
            config,
            warnings,
            values,
        })
    }

    /// The settings with these values, given as by flags (`("database.host", "127.0.0.1")`), the rest by default.
    ///
    /// # Errors
    /// As for [`Config::load`].
    pub fn from_pairs(pairs: &[(&str, &str)]) -> Result<Self, ConfigError> {
        let flags = pairs
            .iter()
            .map(|(key, text)| ((*key).to_owned(), (*text).to_owned()))
            .collect();
        let inputs = Inputs {
            flags,
            ..Inputs::default()
        };
        Self::load(&inputs).map(|loaded| loaded.config)
    }
}

impl Loaded {
    /// The settings as a file that would give the same ones, with the origin of each, secrets masked.
    pub fn print(&self) -> String {
        let mut text = String::new();
        let mut section = "";
        for setting in SETTINGS {
            if setting.section != section {
                section = setting.section;
                let gap = if text.is_empty() { "" } else { "\n" };
                text.push_str(&format!("{gap}[{section}]\n"));
            }
            let value = match self.values.text(setting) {
                "" => "\"\"".to_owned(),
                _ if setting.secret => "\"***\"".to_owned(),
                value => toml::Value::String(value.to_owned()).to_string(),
            };
            let origin = self.values.problem(setting.key, String::new()).origin;
            text.push_str(&format!("{} = {value}  # {origin}\n", setting.name));
        }
        text
    }
}

#[cfg(test)]
mod tests;
