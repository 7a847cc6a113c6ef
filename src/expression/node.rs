//! The tree that an expression becomes.

use std::sync::Arc;

use super::{Builtin, Collation, Datum, Evaluated, Relation, Stop, Ty};

/// A typed expression.
#[derive(Clone, Debug)]
pub struct Expr {
    /// What it does.
    pub node: Node,
    /// The type of its value.
    pub ty: Ty,
    /// How its value compares, if it is text.
    pub collation: Collation,
}

/// One node of the tree. Arguments are evaluated from left to right and no further than Postgres would.
#[derive(Clone, Debug)]
pub enum Node {
    /// A constant.
    Const(Option<Datum>),
    /// Has no value: what could not be compiled, or raised when it was folded.
    Stop(Stop),
    /// A column of the row, as index into `Table::columns`.
    Column(usize),
    /// What the claims say, fixed for a class of subscribers: index into what they were bound to.
    Param(usize),
    /// `now()`
    Now,
    /// An operator, function or cast. The name is for people.
    Call(Builtin, Arc<str>, Vec<Expr>),
    /// `=`, `<>`, `<`, `<=`, `>`, `>=`
    Compare(Comparison, Box<Expr>, Box<Expr>),
    /// `IS DISTINCT FROM`
    Distinct(Box<Expr>, Box<Expr>),
    /// `IS NULL`, `IS TRUE`, `IS FALSE`, `IS UNKNOWN`: the last three of booleans only.
    Is(Is, Box<Expr>),
    /// `AND` of any number.
    And(Vec<Expr>),
    /// `OR` of any number.
    Or(Vec<Expr>),
    /// `NOT`
    Not(Box<Expr>),
    /// `CASE WHEN … THEN … ELSE … END` (one with an operand is compiled to comparisons).
    Case(Vec<(Expr, Expr)>, Option<Box<Expr>>),
    /// The value of this; but where it raises, only Postgres knows whether it would have been looked at.
    Unsure(Box<Expr>),
    /// `COALESCE`
    Coalesce(Vec<Expr>),
    /// `NULLIF`
    NullIf(Box<Expr>, Box<Expr>),
    /// `ARRAY[…]` of one dimension.
    Array(Vec<Expr>),
    /// `left op ANY (array)`; `ALL` if `all`.
    AnyElement {
        /// The left side.
        left: Box<Expr>,
        /// The test, if it is a comparison…
        test: ElementTest,
        /// An array.
        array: Box<Expr>,
        /// `ALL` instead of `ANY`.
        all: bool,
    },
    /// `(keys) IN (relation)`: NULL where SQL says NULL. Of several keys only where none can be NULL matters; see
    /// `exists`.
    In {
        /// What is looked for; as many as the relation has columns.
        keys: Vec<Expr>,
        /// Index into the relations.
        relation: usize,
        /// Never NULL: a key or a row with NULL is just not found (a correlated `EXISTS`).
        exists: bool,
    },
    /// `EXISTS (relation)`, not correlated.
    Exists(usize),
    /// `(relation)` as a value: NULL without rows, 21000 with more than one.
    Scalar(usize),
    /// `ARRAY(relation)`
    ArrayOf(usize),
}

/// What `ANY` and `ALL` do with each element.
#[derive(Clone, Debug)]
pub enum ElementTest {
    /// A comparison.
    Compare(Comparison),
    /// Another operator that returns `bool`.
    Call(Builtin, Arc<str>),
}

/// A comparison that [`super::comparable`] knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Comparison {
    /// `=`
    Eq,
    /// `<>`
    Ne,
    /// `<`
    Lt,
    /// `<=`
    Le,
    /// `>`
    Gt,
    /// `>=`
    Ge,
}

/// What `IS` tests.
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

/// What an expression is evaluated in.
pub trait Context {
    /// The value of a column of the row.
    ///
    /// # Errors
    /// [`Stop::Missing`], or [`Stop::Ask`] for a value that is not understood here.
    fn column(&self, index: usize) -> Evaluated;
    /// What the claims say.
    ///
    /// # Errors
    /// What evaluating it came to.
    fn param(&self, index: usize) -> Evaluated;
    /// A relation.
    ///
    /// # Errors
    /// What reading it came to.
    fn relation(&self, index: usize) -> Result<&Relation, Stop>;
    /// `now()`: microseconds since 2000-01-01 00:00 UTC.
    fn now(&self) -> i64;
}
