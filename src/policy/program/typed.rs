//! The types inside a subquery.

use std::sync::Arc;

use sqlparser::ast;

use super::reach::Output;
use super::scope::{self, Builder};
use crate::expression::compile::{Compiled, Opaque, Passed, Place, Scope};
use crate::expression::{Expr, Node, Phase, Ty};
use crate::postgres::catalog::{DefaultCollation, Table};

/// A relation in FROM, by its alias.
#[derive(Clone, Debug)]
pub(super) struct Named {
    pub(super) alias: String,
    /// The table that it is.
    pub(super) table: Option<Arc<Table>>,
    /// Its columns; of which types, where that is known.
    pub(super) columns: Vec<(String, Option<Output>)>,
    /// Its columns may be named without it.
    pub(super) bare: bool,
}

impl Named {
    pub(super) fn of_table(alias: &str, table: &Arc<Table>, builder: &Builder<'_>, bare: bool) -> Self {
        let output = |column: &crate::postgres::catalog::Column| {
            let expr = scope::column_expr(0, column, &builder.catalog.types);
            (column.name.to_string(), expr.map(Output::of))
        };
        Self {
            alias: alias.to_owned(),
            table: Some(Arc::clone(table)),
            columns: table.columns.iter().map(output).collect(),
            bare,
        }
    }

    pub(super) fn column(&self, name: &str) -> Option<&Option<Output>> {
        self.columns
            .iter()
            .find(|(known, _)| known == name)
            .map(|(_, output)| output)
    }
}

/// Types only: what it compiles is never evaluated.
pub(super) struct Types<'t, 'a> {
    pub(super) builder: &'t Builder<'a>,
    pub(super) frames: &'t [Vec<Named>],
}

/// Something of a type.
fn some(ty: Ty) -> Expr {
    Expr::new(Node::Column(0), ty)
}

impl Scope for Types<'_, '_> {
    fn column(&self, qualifier: Option<&str>, name: &str) -> Option<Expr> {
        let mut named = self.frames.iter().rev().flatten();
        let found = match qualifier {
            Some(alias) => named.find(|named| named.alias == alias)?.column(name),
            None => named.find(|named| named.bare)?.column(name),
        };
        found?.as_ref().map(Output::expr)
    }

    fn ty(&self, name: &str) -> Option<Ty> {
        scope::type_named(name, &self.builder.catalog.types)
    }

    fn collation(&self) -> DefaultCollation {
        self.builder.catalog.collation
    }

    fn phase(&self) -> Phase {
        Phase::Executed
    }

    fn call(&mut self, schema: Option<&str>, name: &str, arguments: Vec<Passed<'_>>) -> Compiled {
        let arguments: Vec<Expr> = arguments.into_iter().map(|passed| passed.value).collect();
        let types: Vec<Ty> = arguments.iter().map(|argument| argument.ty.clone()).collect();
        let unknown = || Opaque(format!("the type of {name}"));
        if let Some(schema) = schema {
            let function = self.builder.function(schema, name, &types)?;
            return Ty::of(function.returns, &self.builder.catalog.types)
                .map(some)
                .ok_or_else(unknown);
        }
        let ty = match (name, types.as_slice()) {
            ("current_setting", [Ty::Text, ..]) => Ty::Text,
            ("current_user" | "current_role" | "user", []) => Ty::Name,
            ("count", [] | [_]) => Ty::Int8,
            ("bool_or" | "bool_and" | "every", [Ty::Bool]) => Ty::Bool,
            ("string_agg", [Ty::Text, Ty::Text]) => Ty::Text,
            ("max" | "min", [ty @ (Ty::Int2 | Ty::Int4 | Ty::Int8 | Ty::Numeric | Ty::Date | Ty::Text)]) => {
                ty.clone()
            }
            ("max" | "min", [ty @ (Ty::Timestamp | Ty::Timestamptz)]) => ty.clone(),
            ("sum", [Ty::Int2 | Ty::Int4]) => Ty::Int8,
            ("sum", [Ty::Int8 | Ty::Numeric]) => Ty::Numeric,
            ("array_agg", [ty]) if !matches!(ty, Ty::Array(_)) => Ty::Array(Box::new(ty.clone())),
            ("unnest", [Ty::Array(element)]) => (**element).clone(),
            ("jsonb_array_elements", [Ty::Jsonb]) => Ty::Jsonb,
            ("jsonb_array_elements_text", [Ty::Jsonb]) => Ty::Text,
            ("json_array_elements_text", [Ty::Json]) => Ty::Text,
            ("jsonb_object_keys", [Ty::Jsonb]) => Ty::Text,
            _ => return Err(unknown()),
        };
        // Text takes the collation of what it comes from.
        let from = arguments.into_iter().find(|argument| argument.ty == ty);
        Ok(from.map_or_else(
            || some(ty),
            |argument| Expr {
                node: Node::Column(0),
                ..argument
            },
        ))
    }

    fn subquery(&mut self, place: Place, _: &ast::Query) -> Compiled {
        match place {
            Place::In(_) | Place::Exists => Ok(some(Ty::Bool)),
            Place::Scalar | Place::First | Place::Array => Err(Opaque("the type of a subquery".into())),
        }
    }

    fn poison(&mut self, _: String) {}
}
