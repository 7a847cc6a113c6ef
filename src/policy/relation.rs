//! What a policy's subquery is: a question that is put to Postgres once per class of subscribers, and again when the
//! tables change that it reads.

use std::sync::Arc;

use crate::auth::Claims;
use crate::expression::{Stop, Ty};

/// A subquery that reads nothing of the row that is judged.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct RelationQuery {
    /// One SELECT of as many columns as `columns`, every name in it qualified. Claims reach it through settings, as they
    /// do in a policy (sql/rowcast/judge.sql).
    pub sql: Arc<str>,
    /// The types of its columns, domains looked through.
    pub columns: Vec<Ty>,
    /// Read with the rights of this role (a SECURITY DEFINER function's owner); `None` for the subscriber's own.
    pub owner: Option<Arc<str>>,
    /// The parameters of the program that decide what it returns, ascending.
    pub params: Vec<usize>,
    /// Every table whose changes can change what it returns, by oid, ascending: those it names and those that their
    /// policies and the functions it calls read.
    pub reads: Vec<u32>,
    /// Where changes of the table can be told apart by what they concern.
    pub probe: Option<Probe>,
}

/// The subquery depends only on those rows of a table in which a column equals a parameter.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Probe {
    /// Its oid. A change of any other table in `reads` concerns the relation whatever it says.
    pub table: u32,
    /// The column, as index into `Table::columns`.
    pub column: usize,
    /// The type that column and parameter are compared in.
    pub ty: Ty,
    /// The parameter of the program.
    pub param: usize,
}

/// A parameter's value, so that two can be compared: text output, NULL, or why there is none.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum ParamKey {
    /// SQL NULL.
    Null,
    /// Its text output.
    Text(Arc<str>),
    /// Evaluating it raises like this.
    Stop(Stop),
    /// It has a value that only Postgres knows, for these claims: for all that is known, for no others.
    Unknown(Arc<Claims>),
}

/// A relation of one class: all classes with an equal one share what was read.
#[derive(Clone, Debug)]
pub struct RelationRequest {
    /// What to read.
    pub query: Arc<RelationQuery>,
    /// The values of `query.params`, in that order.
    pub params: Vec<ParamKey>,
    /// Somebody who has these parameters; it is read as them.
    pub claims: Arc<Claims>,
}
