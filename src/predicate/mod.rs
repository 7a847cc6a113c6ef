//! Conditions on one row: evaluated here where the answer is proven to be Postgres' own, otherwise as SQL by the judge.
//!
//! Three-valued, as in SQL: only `true` lets a row pass. Client text never becomes SQL text: values are bound,
//! operators come from the table below, columns and types from the catalog.

mod local;
mod sql;

pub use local::Comparable;

use crate::change::{Row, Value};
use crate::postgres::catalog::{Table, Types};

/// The operators of a filter (protocol: eq, neq, lt, lte, gt, gte, in, like, ilike, is, match, imatch, isdistinct).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Operator {
    /// `=`
    Eq,
    /// `!=`
    Neq,
    /// `<`
    Lt,
    /// `<=`
    Lte,
    /// `>`
    Gt,
    /// `>=`
    Gte,
    /// `= ANY (…)`
    In,
    /// `LIKE`
    Like,
    /// `ILIKE`
    Ilike,
    /// `IS NULL`, `IS TRUE`, `IS FALSE`, `IS UNKNOWN`
    Is,
    /// `~`
    Match,
    /// `~*`
    Imatch,
    /// `IS DISTINCT FROM`
    IsDistinct,
}

impl Operator {
    /// The operator of a name in a filter.
    pub fn parse(name: &str) -> Option<Self> {
        Some(match name {
            "eq" => Self::Eq,
            "neq" => Self::Neq,
            "lt" => Self::Lt,
            "lte" => Self::Lte,
            "gt" => Self::Gt,
            "gte" => Self::Gte,
            "in" => Self::In,
            "like" => Self::Like,
            "ilike" => Self::Ilike,
            "is" => Self::Is,
            "match" => Self::Match,
            "imatch" => Self::Imatch,
            "isdistinct" => Self::IsDistinct,
            _ => return None,
        })
    }

    /// Its name in a filter.
    pub fn name(self) -> &'static str {
        match self {
            Self::Eq => "eq",
            Self::Neq => "neq",
            Self::Lt => "lt",
            Self::Lte => "lte",
            Self::Gt => "gt",
            Self::Gte => "gte",
            Self::In => "in",
            Self::Like => "like",
            Self::Ilike => "ilike",
            Self::Is => "is",
            Self::Match => "match",
            Self::Imatch => "imatch",
            Self::IsDistinct => "isdistinct",
        }
    }
}

/// What `is` compares with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Is {
    /// `IS NULL`
    Null,
    /// `IS TRUE`
    True,
    /// `IS FALSE`
    False,
    /// `IS UNKNOWN`
    Unknown,
}

impl Is {
    /// `null`, `true`, `false` or `unknown`, in any case.
    pub fn parse(value: &str) -> Option<Self> {
        [
            ("null", Self::Null),
            ("true", Self::True),
            ("false", Self::False),
            ("unknown", Self::Unknown),
        ]
        .into_iter()
        .find_map(|(name, is)| value.eq_ignore_ascii_case(name).then_some(is))
    }
}

/// One condition on one column of one table, checked against the catalog and against Postgres when it was made.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Condition {
    /// Index into [`Table::columns`].
    pub column: usize,
    /// The operator.
    pub operator: Operator,
    /// `not.` stood before the operator.
    pub negate: bool,
    /// The values as the client wrote them: one, or the elements of an `in` list (`None` is NULL); none for `is`.
    pub values: Vec<Option<String>>,
    /// What `is` compares with.
    pub is: Option<Is>,
    /// How to compare without Postgres, with the values in text output form; `None` if only Postgres can.
    pub comparable: Option<Comparable>,
}

/// What a condition says of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// True.
    Pass,
    /// False, or NULL, or the row does not carry the column: the row does not pass.
    Fail,
    /// Only Postgres can say.
    Ask,
}

impl Condition {
    /// Judges a row of `table`.
    pub fn evaluate(&self, table: &Table, row: &Row) -> Outcome {
        let Some(column) = table.columns.get(self.column) else {
            return Outcome::Fail;
        };
        let value = match row.get(&column.name) {
            None | Some(Value::Unchanged) => return Outcome::Fail,
            Some(Value::Null) => None,
            Some(Value::Text(text)) => Some(text),
        };
        let truth = match self.is {
            Some(is) => Some(Some(is_true(is, value))),
            None => self.compare(value),
        };
        match truth {
            None => Outcome::Ask,
            Some(Some(truth)) if truth != self.negate => Outcome::Pass,
            Some(_) => Outcome::Fail,
        }
    }

    /// `None`: ask. `Some(None)`: NULL.
    fn compare(&self, value: Option<&str>) -> Option<Option<bool>> {
        let Some(value) = value else {
            // NULL compares to NULL under every operator but this one; the filter's own value is never NULL.
            return Some((self.operator == Operator::IsDistinct).then_some(true));
        };
        self.comparable.as_ref()?.compare(self.operator, value)
    }

    /// The condition as a boolean SQL expression over unqualified columns; its values are `values[first]`,
    /// `values[first + 1]`, … of the `text[]` parameter called `values`. `None` if the catalog lacks the type.
    pub fn sql(&self, table: &Table, types: &Types, values: &str, first: usize) -> Option<String> {
        sql::condition(self, table, types, values, first)
    }
}

fn is_true(is: Is, value: Option<&str>) -> bool {
    match is {
        Is::Null | Is::Unknown => value.is_none(),
        Is::True => value == Some("t"),
        Is::False => value == Some("f"),
    }
}

pub use sql::operator_symbol;

#[cfg(test)]
mod tests;
