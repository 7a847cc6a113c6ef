//! A `search_path` as the setting is written.

use std::sync::Arc;

use super::tokens::{Token, tokens};
use crate::postgres::quote_identifier;

/// The schema that stands for the current role's own.
pub(super) const USER: &str = "$user";

/// The schemas in order, by name.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Path(Vec<String>);

impl Path {
    /// Takes the setting apart. What is no name is left out: such a path cannot be set either.
    pub(super) fn parse(setting: &str) -> Self {
        let names = tokens(setting).unwrap_or_default();
        Self(
            names
                .into_iter()
                .filter_map(|(_, token)| match token {
                    Token::Name(name) if !name.is_empty() => Some(name),
                    _ => None,
                })
                .collect(),
        )
    }

    /// The setting without the schema that is another one for every role.
    pub(super) fn without_user(&self) -> String {
        let names: Vec<String> = self
            .0
            .iter()
            .filter(|name| *name != USER)
            .map(|name| quote_identifier(name))
            .collect();
        if names.is_empty() {
            return "\"\"".to_owned();
        }
        names.join(", ")
    }

    /// The schemas whose contents depend on who looks.
    pub(super) fn schemas(&self) -> Vec<Arc<str>> {
        self.0
            .iter()
            .filter(|name| !matches!(name.as_str(), "pg_catalog" | "pg_temp"))
            .map(|name| Arc::from(name.as_str()))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_taken_apart() {
        let path = Path::parse("\"$user\", Public, \"Odd \"\"Name\", pg_temp");
        assert_eq!(path.without_user(), "\"public\", \"Odd \"\"Name\", \"pg_temp\"");
        assert_eq!(
            path.schemas(),
            [Arc::from("$user"), Arc::from("public"), Arc::from("Odd \"Name")]
        );
        assert_eq!(Path::parse("\"\"").without_user(), "\"\"");
    }
}
