//! Why an expression has no value.

use super::Datum;

/// A value, SQL NULL, or why there is neither.
pub type Evaluated = Result<Option<Datum>, Stop>;

/// Evaluation ended without a value.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Stop {
    /// Postgres would raise this SQLSTATE.
    Raise(&'static str),
    /// As [`Stop::Raise`], with a code that Postgres itself gave.
    Raised(std::sync::Arc<str>),
    /// Only Postgres can say; why, for operators.
    Ask(std::borrow::Cow<'static, str>),
    /// Postgres had to be asked before and did not answer; why, for operators. Asking again would take as long.
    Unavailable(std::sync::Arc<str>),
    /// The row does not carry this column (index into `Table::columns`).
    Missing(usize),
}

impl Stop {
    /// [`Stop::Ask`] with its reason.
    pub fn ask(why: impl Into<std::borrow::Cow<'static, str>>) -> Self {
        Self::Ask(why.into())
    }
}
