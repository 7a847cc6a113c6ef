//! FROM: which relations a subquery names, and what their columns are.

use std::sync::Arc;

use sqlparser::ast::{self, Expr as E};

use super::reach::{Reach, unknown};
use super::subquery::plain_select;
use super::typed::Named;
use crate::expression::compile::{self, Opaque};
use crate::postgres::catalog::{RelationKind, Table};

impl Reach<'_, '_> {
    /// Brings the relations of FROM in sight.
    pub(super) fn open(&mut self, from: &[ast::TableWithJoins]) -> Result<(), Opaque> {
        self.frames.push(Vec::new());
        from.iter().try_for_each(|joined| self.joined(joined))
    }

    fn joined(&mut self, joined: &ast::TableWithJoins) -> Result<(), Opaque> {
        use ast::JoinOperator as J;
        self.factor(&joined.relation)?;
        for join in &joined.joins {
            self.factor(&join.relation)?;
            match &join.join_operator {
                J::CrossJoin(ast::JoinConstraint::None) => {}
                J::Join(ast::JoinConstraint::On(on))
                | J::Inner(ast::JoinConstraint::On(on))
                | J::Left(ast::JoinConstraint::On(on))
                | J::LeftOuter(ast::JoinConstraint::On(on))
                | J::Right(ast::JoinConstraint::On(on))
                | J::RightOuter(ast::JoinConstraint::On(on))
                | J::FullOuter(ast::JoinConstraint::On(on)) => self.walk(on)?,
                _ => return Err(unknown("a join by USING")),
            }
        }
        Ok(())
    }

    fn factor(&mut self, factor: &ast::TableFactor) -> Result<(), Opaque> {
        let named = match factor {
            ast::TableFactor::Table {
                name,
                alias,
                args: None,
                with_ordinality: false,
                sample: None,
                version: None,
                ..
            } => {
                let (schema, table) = compile::names(name)?;
                let schema = schema.ok_or_else(|| unknown(&format!("{table}, which is no table")))?;
                let found = self.table(&schema, &table)?;
                let alias = match alias {
                    Some(alias) if alias.columns.is_empty() => &alias.name.value,
                    Some(_) => return Err(unknown("columns renamed")),
                    None => &table,
                };
                Named::of_table(alias, &found, self.builder, false)
            }
            ast::TableFactor::Derived {
                subquery,
                alias: Some(alias),
                sample: None,
                ..
            } if alias.columns.is_empty() => {
                let outputs = self.query(subquery)?;
                let names = plain_select(subquery).map(output_names).unwrap_or_default();
                let columns = names.into_iter().zip(outputs);
                Named {
                    alias: alias.name.value.clone(),
                    table: None,
                    columns: columns.filter_map(|(name, o)| Some((name?, Some(o)))).collect(),
                    bare: false,
                }
            }
            ast::TableFactor::Table {
                name,
                alias: Some(alias),
                args: Some(call),
                with_ordinality: false,
                ..
            } => self.call_in_from(name, &call.args, alias)?,
            ast::TableFactor::Function {
                name,
                alias: Some(alias),
                args,
                with_ordinality: false,
                ..
            } => self.call_in_from(name, args, alias)?,
            ast::TableFactor::NestedJoin {
                table_with_joins,
                alias: None,
            } => return self.joined(table_with_joins),
            _ => return Err(unknown("FROM what is no table")),
        };
        if let Some(frame) = self.frames.last_mut() {
            frame.push(named);
        }
        Ok(())
    }

    /// A function that returns a set: of as many columns as Postgres names behind its alias.
    fn call_in_from(
        &mut self,
        name: &ast::ObjectName,
        arguments: &[ast::FunctionArg],
        alias: &ast::TableAlias,
    ) -> Result<Named, Opaque> {
        let call = |name: &ast::ObjectName| {
            E::Function(ast::Function {
                name: name.clone(),
                uses_odbc_syntax: false,
                parameters: ast::FunctionArguments::None,
                args: ast::FunctionArguments::List(ast::FunctionArgumentList {
                    duplicate_treatment: None,
                    args: arguments.to_vec(),
                    clauses: Vec::new(),
                }),
                filter: None,
                null_treatment: None,
                over: None,
                within_group: Vec::new(),
            })
        };
        let call = call(name);
        let outputs = match compile::names(name)? {
            (Some(schema), name) if schema != "pg_catalog" => {
                for argument in arguments {
                    match argument {
                        ast::FunctionArg::Unnamed(ast::FunctionArgExpr::Expr(tree)) => self.walk(tree)?,
                        _ => return Err(unknown("an argument by name")),
                    }
                }
                self.called(&schema, &name, arguments.len())?
            }
            _ => {
                self.walk(&call)?;
                self.typed(&call).ok().map(|output| vec![output])
            }
        };
        let mut outputs = outputs.unwrap_or_default().into_iter();
        let mut column = |name: &ast::TableAliasColumnDef| (name.name.value.clone(), outputs.next());
        Ok(Named {
            alias: alias.name.value.clone(),
            table: None,
            columns: alias.columns.iter().map(&mut column).collect(),
            bare: false,
        })
    }

    fn table(&mut self, schema: &str, name: &str) -> Result<Arc<Table>, Opaque> {
        let table = self
            .builder
            .table_named(schema, name)
            .filter(|table| table.kind == RelationKind::Table)
            .ok_or_else(|| unknown(&format!("{schema}.{name}, whose changes are not followed")))?;
        *self.reads.entry(table.oid).or_default() += 1;
        if table.rls && self.seen.insert((table.oid, self.owner.clone())) {
            let named = Named::of_table(&table.name.table, &table, self.builder, true);
            let outer = std::mem::replace(&mut self.frames, vec![vec![named]]);
            for using in table.policies.iter().filter_map(|policy| policy.using.as_deref()) {
                self.walk(&compile::parse(using)?)?;
            }
            self.frames = outer;
        }
        Ok(table)
    }
}

/// The names of a SELECT's columns.
fn output_names(select: &ast::Select) -> Vec<Option<String>> {
    let name = |item: &ast::SelectItem| match item {
        ast::SelectItem::ExprWithAlias { alias, .. } => Some(alias.value.clone()),
        ast::SelectItem::UnnamedExpr(E::CompoundIdentifier(path)) => {
            path.last().map(|name| name.value.clone())
        }
        _ => None,
    };
    select.projection.iter().map(name).collect()
}
