//! What can be wrong with settings, said so that one knows where to put it right.

use super::layers::Origin;

/// One value that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The setting, `limits.connections`.
    pub key: &'static str,
    /// Where its value came from.
    pub origin: Origin,
    /// What was expected instead. Never the value of a secret.
    pub expected: String,
}

impl std::fmt::Display for Problem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} (from {}): {}", self.key, self.origin, self.expected)
    }
}

/// Why no configuration could be made.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file is not there or may not be read.
    #[error("cannot read the configuration file {path}: {reason}")]
    Unreadable {
        /// Its path as given.
        path: String,
        /// The system's words.
        reason: String,
    },
    /// The file is not TOML.
    #[error("{path}, line {line}: {reason}")]
    Syntax {
        /// Its path as given.
        path: String,
        /// Line, from 1.
        line: usize,
        /// What the parser expected.
        reason: String,
    },
    /// The file has a key that means nothing.
    #[error("{path}: unknown setting {key}{}; docs/CONFIG.md lists them all", hint(.suggestion))]
    UnknownKey {
        /// Its path as given.
        path: String,
        /// The key, with its section.
        key: String,
        /// A setting with a similar name.
        suggestion: Option<&'static str>,
    },
    /// Values that cannot be used.
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
    Invalid(Vec<Problem>),
}

fn hint(suggestion: &Option<&'static str>) -> String {
    suggestion.map_or_else(String::new, |key| format!(", did you mean {key}?"))
}
