//! How an expression came to its value, for people.

use std::sync::Arc;

use super::relation::RelationQuery;
use crate::expression::{
    Comparison, Context, Datum, ElementTest, Evaluated, Expr, Is, Node, Relation, Stop, Ty,
};
use crate::postgres::catalog::Table;

/// A part of an expression and its value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// How far inside it is; the whole is 0.
    pub depth: usize,
    /// The part in the words of SQL, with what the claims say in the place of what asks them.
    pub text: String,
    /// Its value, or why it has none.
    pub value: String,
}

/// What names are taken from.
pub(super) struct Trace<'a> {
    pub(super) table: &'a Table,
    pub(super) relations: &'a [Arc<RelationQuery>],
    pub(super) context: &'a dyn Context,
}

impl Trace<'_> {
    /// The parts from the top down, as far as they decide: what stands behind the operand that settles an AND or OR is
    /// left out, and so are constants.
    pub(super) fn steps(&self, expr: &Expr) -> Vec<Step> {
        let mut steps = Vec::new();
        self.step(expr, 0, &mut steps);
        steps
    }

    fn step(&self, expr: &Expr, depth: usize, steps: &mut Vec<Step>) {
        let value = expr.evaluate(self.context);
        steps.push(Step {
            depth,
            text: self.text(expr),
            value: shown(&value, &expr.ty),
        });
        for part in parts(expr) {
            if matches!(part.node, Node::Const(_)) {
                continue;
            }
            self.step(part, depth + 1, steps);
            let settles = match &expr.node {
                Node::And(_) => false,
                Node::Or(_) => true,
                _ => continue,
            };
            if part.truth(self.context) == Ok(Some(settles)) {
                break;
            }
        }
    }

    fn text(&self, expr: &Expr) -> String {
        let inner = |expr: &Expr| self.inner(expr);
        let list = |all: &[Expr], between: &str| all.iter().map(inner).collect::<Vec<_>>().join(between);
        match &expr.node {
            Node::Const(value) => constant(value.as_ref(), &expr.ty),
            Node::Stop(Stop::Ask(_)) => "(left to Postgres)".to_owned(),
            Node::Stop(_) => "(what the claims say)".to_owned(),
            Node::Column(index) => self
                .table
                .columns
                .get(*index)
                .map_or("?", |column| &column.name)
                .to_owned(),
            Node::Param(index) => format!("claim {index}"),
            Node::Now => "now()".to_owned(),
            Node::Unsure(only) => inner(only),
            Node::Call(_, name, arguments) => match arguments.as_slice() {
                [left, right] if is_operator(name) => format!("{} {name} {}", inner(left), inner(right)),
                [only] if is_operator(name) => format!("{name} {}", inner(only)),
                _ => format!("{name}({})", list(arguments, ", ")),
            },
            Node::Compare(comparison, left, right) => {
                format!("{} {} {}", inner(left), symbol(*comparison), inner(right))
            }
            Node::Distinct(left, right) => format!("{} is distinct from {}", inner(left), inner(right)),
            Node::Is(is, argument) => {
                let what = match is {
                    Is::Null => "null",
                    Is::True => "true",
                    Is::False => "false",
                    Is::Unknown => "unknown",
                };
                format!("{} is {what}", inner(argument))
            }
            Node::And(operands) => list(operands, " and "),
            Node::Or(operands) => list(operands, " or "),
            Node::Not(operand) => format!("not {}", inner(operand)),
            Node::Case(branches, otherwise) => {
                let mut text = "case".to_owned();
                for (condition, result) in branches {
                    text.push_str(&format!(" when {} then {}", inner(condition), inner(result)));
                }
                if let Some(otherwise) = otherwise {
                    text.push_str(&format!(" else {}", inner(otherwise)));
                }
                text.push_str(" end");
                text
            }
            Node::Coalesce(arguments) => format!("coalesce({})", list(arguments, ", ")),
            Node::NullIf(left, right) => format!("nullif({}, {})", inner(left), inner(right)),
            Node::Array(elements) => format!("array[{}]", list(elements, ", ")),
            Node::AnyElement {
                left,
                test,
                array,
                all,
            } => {
                let operator = match test {
                    ElementTest::Compare(comparison) => symbol(*comparison),
                    ElementTest::Call(_, name) => name,
                };
                let which = if *all { "all" } else { "any" };
                format!("{} {operator} {which} ({})", inner(left), inner(array))
            }
            Node::In { keys, relation, .. } => {
                format!("({}) in {}", list(keys, ", "), self.relation(*relation))
            }
            Node::Exists(relation) => format!("exists {}", self.relation(*relation)),
            Node::Scalar(relation) => self.relation(*relation),
            Node::ArrayOf(relation) => format!("array {}", self.relation(*relation)),
        }
    }

    /// As an operand.
    fn inner(&self, expr: &Expr) -> String {
        let text = self.text(expr);
        match &expr.node {
            Node::And(_)
            | Node::Or(_)
            | Node::Not(_)
            | Node::Compare(..)
            | Node::Distinct(..)
            | Node::Is(..)
            | Node::In { .. }
            | Node::Exists(_)
            | Node::AnyElement { .. } => format!("({text})"),
            Node::Call(_, name, _) if is_operator(name) => format!("({text})"),
            _ => text,
        }
    }

    /// What is read, and how many rows it returned.
    fn relation(&self, index: usize) -> String {
        let sql = self.relations.get(index).map_or("?", |relation| &relation.sql);
        let sql = sql.split_whitespace().collect::<Vec<_>>().join(" ");
        match self.context.relation(index).map(Relation::rows) {
            Ok(rows) => format!("({sql}) [{} rows]", rows.len()),
            Err(_) => format!("({sql})"),
        }
    }
}

/// What an expression is made of, in the order of evaluation.
fn parts(expr: &Expr) -> Vec<&Expr> {
    match &expr.node {
        Node::Const(_)
        | Node::Stop(_)
        | Node::Column(_)
        | Node::Param(_)
        | Node::Now
        | Node::Exists(_)
        | Node::Scalar(_)
        | Node::ArrayOf(_) => Vec::new(),
        Node::Call(_, _, all)
        | Node::And(all)
        | Node::Or(all)
        | Node::Coalesce(all)
        | Node::Array(all)
        | Node::In { keys: all, .. } => all.iter().collect(),
        Node::Compare(_, left, right) | Node::Distinct(left, right) | Node::NullIf(left, right) => {
            vec![left, right]
        }
        Node::AnyElement { left, array, .. } => vec![left, array],
        Node::Is(_, only) | Node::Not(only) | Node::Unsure(only) => vec![only],
        Node::Case(branches, otherwise) => branches
            .iter()
            .flat_map(|(condition, result)| [condition, result])
            .chain(otherwise.as_deref())
            .collect(),
    }
}

fn is_operator(name: &str) -> bool {
    !name.is_empty() && name.chars().all(|c| "+-*/<>=~!@#%^&|`?".contains(c))
}

fn symbol(comparison: Comparison) -> &'static str {
    match comparison {
        Comparison::Eq => "=",
        Comparison::Ne => "<>",
        Comparison::Lt => "<",
        Comparison::Le => "<=",
        Comparison::Gt => ">",
        Comparison::Ge => ">=",
    }
}

fn constant(value: Option<&Datum>, ty: &Ty) -> String {
    match value {
        None => "null".to_owned(),
        Some(Datum::Bool(truth)) => truth.to_string(),
        Some(datum) => match datum.print(ty) {
            Ok(text) if matches!(datum, Datum::Int(_)) => text,
            Ok(text) => format!("'{}'", text.replace('\'', "''")),
            Err(_) => format!("{datum:?}"),
        },
    }
}

/// A value, or why there is none.
fn shown(value: &Evaluated, ty: &Ty) -> String {
    match value {
        Ok(value) => constant(value.as_ref(), ty),
        Err(stop) => why(stop),
    }
}

/// Why there is no value.
pub(super) fn why(stop: &Stop) -> String {
    match stop {
        Stop::Raise(code) => format!("raises SQLSTATE {code}"),
        Stop::Raised(code) => format!("raises SQLSTATE {code}"),
        Stop::Ask(why) => format!("asks Postgres: {why}"),
        Stop::Unavailable(why) => format!("has no answer: {why}"),
        Stop::Missing(_) => "reads a column that the row does not carry".to_owned(),
    }
}
