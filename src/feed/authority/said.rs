//! What a verdict on the probe means for a right.

use super::AuthorityError;
use crate::policy::{Class, Failure, Verdict};

/// What the policies say of one right.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Said {
    Granted,
    Denied,
    /// Nothing: they could not be asked.
    Failed(AuthorityError),
}

impl Said {
    /// A policy that raises says no, as does one that reads what a message to be does not have.
    pub(super) fn of(verdict: Verdict, class: &Class) -> Self {
        let failure = match verdict {
            Verdict::Allow => return Self::Granted,
            Verdict::Deny => return Self::Denied,
            Verdict::Failed(failure) => failure,
        };
        match failure {
            Failure::Timeout => Self::Failed(AuthorityError::Canceled),
            Failure::Unavailable(why) => Self::Failed(AuthorityError::Unavailable(why)),
            Failure::Raised(code) if Failure::is_of_the_moment(&code) => {
                Self::Failed(AuthorityError::Unavailable(format!("SQLSTATE {code}")))
            }
            failure => {
                tracing::debug!(role = %class.rule.role, %failure, "a right on a private channel is denied");
                Self::Denied
            }
        }
    }

    /// Metric label.
    pub(super) fn label(&self) -> &'static str {
        match self {
            Self::Granted => "granted",
            Self::Denied => "denied",
            Self::Failed(_) => "failed",
        }
    }
}
