//! A string that cannot be printed by accident.

use std::fmt;

/// A password or key. `Debug` shows that it is set, never what it is; there is no `Display`.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Secret(String);

impl Secret {
    /// Wraps a secret text.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text itself, for the one place that needs it.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Whether a text is this one. The time it takes does not tell how much was right.
    pub fn is(&self, given: &str) -> bool {
        let (ours, given) = (self.0.as_bytes(), given.as_bytes());
        ours.len() == given.len()
            && ours
                .iter()
                .zip(given)
                .fold(0, |difference, (a, b)| difference | (a ^ b))
                == 0
    }

    /// Whether the text is empty.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_empty() {
            "Secret(unset)"
        } else {
            "Secret(set)"
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn does_not_print_itself() {
        assert_eq!(format!("{:?}", Secret::new("hunter2")), "Secret(set)");
    }

    #[test]
    fn is_only_itself() {
        let secret = Secret::new("hunter2");
        assert!(secret.is("hunter2"));
        for other in ["", "hunter", "hunter3", "hunter22", "Hunter2"] {
            assert!(!secret.is(other), "{other}");
        }
    }
}
