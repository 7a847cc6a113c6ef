//! Conditions on one row: evaluated here where the answer is proven to be Postgres' own, otherwise as SQL by the judge.
//!
//! Three-valued, as in SQL: only `true` lets a row pass. Client text never becomes SQL text: values are bound,
//! operators come from the table below, columns and types from the catalog.

mod expr;
mod sql;

pub use crate::expression::Is;
use crate::expression::{Expr, RowView, Stop};
use crate::postgres::catalog::{DefaultCollation, Table, Types};

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
    /// The values in the text output form of the column's type, as Postgres printed them.
    pub canonical: Vec<Option<String>>,
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
    /// The condition as an expression over a row of `table`, to be judged with [`judge`].
    pub fn expr(&self, table: &Table, types: &Types, collation: DefaultCollation) -> Expr {
        expr::condition(self, table, types, collation)
    }

    /// The condition as a boolean SQL expression over unqualified columns; its values are `values[first]`,
    /// `values[first + 1]`, … of the `text[]` parameter called `values`. `None` if the catalog lacks the type.
    pub fn sql(&self, table: &Table, types: &Types, values: &str, first: usize) -> Option<String> {
        sql::condition(self, table, types, values, first)
    }
}

/// What a condition's expression says of a row.
pub fn judge(expr: &Expr, row: &RowView<'_>) -> Outcome {
    match expr.passes(row) {
        Ok(true) => Outcome::Pass,
        Ok(false) | Err(Stop::Missing(_)) => Outcome::Fail,
        // What raises here has been proven not to raise in Postgres, so it has the last word.
        Err(_) => Outcome::Ask,
    }
}

pub use sql::operator_symbol;

#[cfg(test)]
mod tests;
