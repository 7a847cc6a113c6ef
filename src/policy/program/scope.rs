//! What the names in a policy mean, and in the functions that it calls.

use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;

use sqlparser::ast;

use super::claims::Setting;
use super::lift;
use super::subquery;
use super::tree;
use crate::expression::compile::{self, Compiled, Opaque, Passed, Place, Scope};
use crate::expression::{Builtin, Collation, Datum, Expr, Is, Node, Phase, Ty};
use crate::policy::relation::RelationQuery;
use crate::postgres::catalog::{
    Body, Catalog, Column, DefaultCollation, Function, Table, TypeKind, Types, Volatility,
};
use crate::postgres::quote_identifier;

/// Functions within functions that are looked into.
const DEEPEST: usize = 16;

/// What the policies of a program have in common while they are compiled.
pub(super) struct Builder<'a> {
    pub(super) table: &'a Table,
    pub(super) catalog: &'a Catalog,
    callable: &'a HashSet<u32>,
    params: Vec<Expr>,
    /// Tells parameters that are the same.
    prints: Vec<String>,
    relations: Vec<Arc<RelationQuery>>,
    /// Parameters that Postgres evaluates while it plans.
    planned: BTreeSet<usize>,
    poison: Option<String>,
    /// That of the policy in hand.
    poisoned: Option<String>,
    /// Functions that are being looked into.
    pub(super) inside: Vec<u32>,
}

/// What was gathered while they were compiled.
pub(super) struct Finished {
    pub(super) params: Vec<Expr>,
    pub(super) relations: Vec<Arc<RelationQuery>>,
    pub(super) planned: BTreeSet<usize>,
    pub(super) poison: Option<String>,
}

impl<'a> Builder<'a> {
    pub(super) fn new(table: &'a Table, catalog: &'a Catalog, callable: &'a HashSet<u32>) -> Self {
        let known = matches!(
            catalog.collation,
            DefaultCollation::C | DefaultCollation::Plain | DefaultCollation::Turkic
        );
        let casts = catalog.functions.values().find(|function| function.is_cast);
        let poison = match casts {
            _ if !known => Some("the database's text is not what is known here".to_owned()),
            // Where it is called cannot be read from an expression.
            Some(cast) => Some(format!("casts by {}.{}", cast.schema, cast.name)),
            None => None,
        };
        Self {
            table,
            catalog,
            callable,
            params: Vec::new(),
            prints: Vec::new(),
            relations: Vec::new(),
            planned: BTreeSet::new(),
            poison,
            poisoned: None,
            inside: Vec::new(),
        }
    }

    /// Begins a policy.
    pub(super) fn begin(&mut self) {
        self.poisoned = None;
    }

    /// Why the policy in hand can only be asked as a whole.
    pub(super) fn poisoned(&self) -> Option<&str> {
        self.poisoned.as_deref()
    }

    pub(super) fn finish(self) -> Finished {
        Finished {
            params: self.params,
            relations: self.relations,
            planned: self.planned,
            poison: self.poison,
        }
    }

    /// The number of a parameter.
    pub(super) fn param(&mut self, expr: &Expr) -> usize {
        let print = format!("{expr:?}");
        if let Some(found) = self.prints.iter().position(|known| *known == print) {
            return found;
        }
        self.prints.push(print);
        self.params.push(expr.clone());
        self.params.len() - 1
    }

    pub(super) fn lift(&mut self, expr: &Expr) -> Expr {
        lift::lift(expr, &mut |part| self.param(part))
    }

    /// The number of a relation.
    pub(super) fn relation(&mut self, query: RelationQuery) -> usize {
        if let Some(found) = self.relations.iter().position(|known| **known == query) {
            return found;
        }
        self.relations.push(Arc::new(query));
        self.relations.len() - 1
    }

    pub(super) fn poison(&mut self, why: String) {
        self.poison.get_or_insert_with(|| why.clone());
        self.poisoned.get_or_insert(why);
    }

    /// A table by its name.
    pub(super) fn table_named(&self, schema: &str, name: &str) -> Option<Arc<Table>> {
        let is = |table: &&Arc<Table>| &*table.name.schema == schema && &*table.name.table == name;
        let published = self.catalog.tables.values().find(is);
        published
            .or_else(|| self.catalog.others.values().find(is))
            .cloned()
    }

    /// The one function of this name with these argument types.
    pub(super) fn function(&self, schema: &str, name: &str, types: &[Ty]) -> Result<Arc<Function>, Opaque> {
        let fits = |function: &&Arc<Function>| {
            &*function.schema == schema
                && &*function.name == name
                && function.arguments.len() == types.len()
                && function
                    .arguments
                    .iter()
                    .zip(types)
                    .all(|(oid, ty)| Ty::of(*oid, &self.catalog.types).as_ref() == Some(ty))
        };
        let mut found = self.catalog.functions.values().filter(fits);
        match (found.next(), found.next()) {
            (Some(function), None) => Ok(Arc::clone(function)),
            _ => Err(Opaque(format!("calls {schema}.{name}"))),
        }
    }

    /// Whether the role may call it, and finds what its body says.
    pub(super) fn may_call(&self, function: &Function) -> bool {
        self.callable.contains(&function.oid)
    }
}

/// What unqualified and qualified names are.
enum Columns {
    /// Columns of the policy's table.
    Row,
    /// Arguments of a function.
    Arguments(Vec<Argument>),
    /// Nothing: only claims are looked for.
    None,
}

/// An argument of a function that is looked into.
#[derive(Clone, Debug)]
pub(super) struct Argument {
    /// The column of [`Body::ALIAS`] that stands for it.
    pub(super) name: Arc<str>,
    /// What was passed.
    pub(super) value: Expr,
}

/// The scope of a policy or of a function's body.
pub(super) struct Names<'b, 'a> {
    pub(super) builder: &'b mut Builder<'a>,
    columns: Columns,
    /// The owner of the SECURITY DEFINER function that this is in.
    pub(super) owner: Option<Arc<str>>,
    phase: Phase,
    /// Only tries: what it meets is not held against the policy.
    trying: bool,
}

impl<'b, 'a> Names<'b, 'a> {
    /// Of a policy.
    pub(super) fn of_row(builder: &'b mut Builder<'a>) -> Self {
        Self {
            builder,
            columns: Columns::Row,
            owner: None,
            phase: Phase::Planned,
            trying: false,
        }
    }

    /// Of what reads nothing but claims.
    pub(super) fn of_claims(builder: &'b mut Builder<'a>, owner: Option<Arc<str>>) -> Self {
        Self {
            builder,
            columns: Columns::None,
            owner,
            phase: Phase::Unsure,
            trying: true,
        }
    }

    /// The value of `(SELECT expression)`: it is not a constant to Postgres' planner, whatever it is.
    pub(super) fn selected(&mut self, tree: &ast::Expr) -> Compiled {
        let outer = std::mem::replace(&mut self.phase, Phase::Unsure);
        let compiled = compile::value(tree, self);
        self.phase = outer;
        let expr = compiled?;
        if expr.as_constant().is_none() {
            return Ok(expr);
        }
        let builtin = Builtin {
            returns: expr.ty.clone(),
            strict: false,
            immutable: false,
            call: Arc::new(|values| Ok(values.first().cloned().flatten())),
        };
        let (collation, phase) = (expr.collation.clone(), self.phase);
        Ok(Expr::call(builtin, "select".into(), vec![expr], collation, phase))
    }

    /// What an argument of the body is.
    pub(super) fn argument(&self, name: &str) -> Option<&Argument> {
        match &self.columns {
            Columns::Arguments(arguments) => arguments.iter().find(|argument| &*argument.name == name),
            _ => None,
        }
    }

    fn special(&mut self, name: &str, arguments: &[Expr]) -> Compiled {
        match (name, arguments) {
            ("current_setting", [setting, rest @ ..]) if rest.len() < 2 => {
                let missing_ok = rest.first().map_or(Some(false), |r| r.as_truth().flatten());
                let (Some(Some(Datum::Text(name))), Some(missing_ok)) = (setting.as_constant(), missing_ok)
                else {
                    return Err(Opaque("a setting whose name is computed".into()));
                };
                match Setting::named(name) {
                    Some(Setting::Unset) if !missing_ok => Err(Opaque(format!("the setting {name}"))),
                    Some(setting) => Ok(setting.expr()),
                    None => Err(Opaque(format!("the setting {name}"))),
                }
            }
            ("current_user" | "current_role" | "user", []) => Ok(match &self.owner {
                Some(owner) => Expr::constant(Some(Datum::Text(Arc::clone(owner))), Ty::Name),
                None => Setting::User.expr(),
            }),
            _ => Err(Opaque(format!("calls {name}"))),
        }
    }

    /// What Postgres evaluates while it plans, wherever that stands: where it says something else to every reader, it is
    /// evaluated when those are known.
    fn planned(&mut self, name: &str, compiled: &Compiled) {
        match compiled {
            Ok(expr) if expr.as_constant().is_some() => {}
            Ok(expr) if lift::is_of_claims(expr) => {
                if !self.trying {
                    let param = self.builder.param(expr);
                    self.builder.planned.insert(param);
                }
            }
            Ok(_) => self.poison(format!("calls {name} while it plans")),
            Err(Opaque(why)) => self.poison(why.clone()),
        }
    }

    /// The body of a function in place of its call.
    fn inlined(&mut self, function: &Function, arguments: Vec<Expr>, texts: Vec<Option<String>>) -> Compiled {
        let called = format!("calls {}.{}", function.schema, function.name);
        if !self.builder.may_call(function) {
            // Postgres refuses before it evaluates anything.
            self.poison(format!("{called}, which the role may not call"));
        }
        let body = match &function.body {
            Some(body) if function.volatility != Volatility::Volatile && !function.returns_set => body,
            _ => return Err(Opaque(called)),
        };
        let deep = self.builder.inside.len() >= DEEPEST;
        if deep || self.builder.inside.contains(&function.oid) {
            return Err(Opaque(format!("{called}, which calls itself")));
        }
        let query = compile::parse_query(&body.query, &|alias, name| {
            let place = body.parameters.iter().position(|parameter| &**parameter == name);
            texts.get(place.filter(|_| alias == Body::ALIAS)?)?.clone()
        })?;
        let passed = body
            .parameters
            .iter()
            .zip(&arguments)
            .map(|(name, value)| Argument {
                name: Arc::clone(name),
                value: value.clone(),
            });
        let passed = passed.collect();
        let owner = match function.security_definer {
            true => Some(Arc::clone(&function.owner)),
            false => self.owner.clone(),
        };
        self.builder.inside.push(function.oid);
        let mut inner = Names {
            builder: self.builder,
            columns: Columns::Arguments(passed),
            owner,
            phase: Phase::Unsure,
            trying: self.trying,
        };
        let compiled = match sole_expression(&query) {
            Some(tree) => compile::value(tree, &mut inner),
            None => inner.subquery(Place::First, &query),
        };
        self.builder.inside.pop();
        let compiled = compiled.map_err(|Opaque(why)| Opaque(format!("{called}: {why}")))?;
        if Ty::of(function.returns, &self.builder.catalog.types).as_ref() != Some(&compiled.ty) {
            return Err(Opaque(format!("{called}, whose result has another type")));
        }
        Ok(guarded(compiled, function.strict, arguments))
    }
}

/// The text of an argument that means the same inside the function: then a subquery there is narrowed by it. Who the
/// current user is may be another matter inside.
fn text(passed: &Passed<'_>) -> Option<String> {
    let user = |part: &Expr| matches!(part.node, Node::Param(setting) if setting == Setting::User as usize);
    let fixed = passed.value.as_constant().is_some() || lift::is_of_claims(&passed.value);
    let usable = fixed && !passed.value.contains(&mut { user }) && tree::is_closed(passed.tree);
    usable.then(|| passed.tree.to_string())
}

/// A function's arguments are evaluated before its body, unless the planner puts it in place of the call and the body has
/// no use for them; and NULL among them is the answer of a strict one.
fn guarded(body: Expr, strict: bool, arguments: Vec<Expr>) -> Expr {
    let (ty, collation) = (body.ty.clone(), body.collation.clone());
    let null = |argument: Expr| Expr::is(Is::Null, argument);
    // True as soon as the argument has a value.
    let forced = |argument: &Expr| Expr::is(Is::Unknown, null(Expr::unsure(argument.clone()))).negated();
    let forced: Vec<Expr> = arguments
        .iter()
        .filter(|a| !a.is_harmless())
        .map(forced)
        .collect();
    let mut branches = Vec::new();
    if strict {
        let nulls = arguments.into_iter().map(null).collect();
        let nothing = Expr {
            node: Node::Const(None),
            ..body.clone()
        };
        branches.push((Expr::or(nulls, Phase::Executed), nothing));
    }
    let guarded = Expr::case(branches, Some(body), ty.clone(), collation.clone());
    let condition = Expr::and(forced, Phase::Executed);
    Expr::case(vec![(condition, guarded)], None, ty, collation)
}

/// The expression of a SELECT that has nothing else.
pub(super) fn sole_expression(query: &ast::Query) -> Option<&ast::Expr> {
    let select = subquery::plain_select(query)?;
    let plain = select.from.is_empty()
        && select.selection.is_none()
        && select.having.is_none()
        && select.distinct.is_none()
        && subquery::is_ungrouped(select)
        && subquery::is_unordered(query);
    match select.projection.as_slice() {
        [ast::SelectItem::UnnamedExpr(expr) | ast::SelectItem::ExprWithAlias { expr, .. }] if plain => {
            Some(expr)
        }
        _ => None,
    }
}

impl Scope for Names<'_, '_> {
    fn column(&self, qualifier: Option<&str>, name: &str) -> Option<Expr> {
        match &self.columns {
            Columns::Row => {
                let table = self.builder.table;
                if qualifier.is_some_and(|qualifier| qualifier != &*table.name.table) {
                    return None;
                }
                let index = table.column(name)?;
                let column = table.columns.get(index)?;
                column_expr(index, column, &self.builder.catalog.types)
            }
            Columns::Arguments(_) => {
                if qualifier.is_some_and(|qualifier| qualifier != Body::ALIAS) {
                    return None;
                }
                self.argument(name).map(|argument| argument.value.clone())
            }
            Columns::None => None,
        }
    }

    fn ty(&self, name: &str) -> Option<Ty> {
        type_named(name, &self.builder.catalog.types)
    }

    fn collation(&self) -> DefaultCollation {
        self.builder.catalog.collation
    }

    fn phase(&self) -> Phase {
        self.phase
    }

    fn call(&mut self, schema: Option<&str>, name: &str, passed: Vec<Passed<'_>>) -> Compiled {
        let texts = passed.iter().map(text).collect();
        let arguments: Vec<Expr> = passed.into_iter().map(|passed| passed.value).collect();
        let Some(schema) = schema else {
            return self.special(name, &arguments);
        };
        let types: Vec<Ty> = arguments.iter().map(|argument| argument.ty.clone()).collect();
        let constant = arguments.iter().all(|argument| argument.as_constant().is_some());
        let null = arguments.iter().any(Expr::is_null);
        let found = self.builder.function(schema, name, &types);
        let immutable = |function: &Arc<Function>| function.volatility == Volatility::Immutable;
        // Postgres calls it while it plans, or knows without a call what it answers to a NULL.
        let planned = found.as_ref().map_or(constant || null, |function| {
            (constant && immutable(function)) || (null && function.strict)
        });
        let compiled = found.and_then(|function| self.inlined(&function, arguments, texts));
        if planned {
            self.planned(name, &compiled);
        }
        compiled
    }

    fn subquery(&mut self, place: Place, query: &ast::Query) -> Compiled {
        if let (Place::Scalar, Some(tree)) = (&place, sole_expression(query)) {
            return self.selected(tree);
        }
        if self.trying {
            return Err(Opaque("a subquery".into()));
        }
        let compiled = subquery::relation(place, query, self);
        if let Err(Opaque(why)) = &compiled {
            // The rights on what it reads decide over the whole policy, and are not known here.
            self.poison(why.clone());
        }
        compiled
    }

    fn poison(&mut self, why: String) {
        if !self.trying {
            self.builder.poison(why);
        }
    }
}

/// A type by its qualified name, unless it is a domain: a cast to one has more to check.
pub(super) fn type_named(name: &str, types: &Types) -> Option<Ty> {
    let named = |ty: &&crate::postgres::catalog::Type| requoted(&ty.sql) == name;
    let found = types.0.values().find(named)?;
    match found.kind {
        TypeKind::Domain { .. } => None,
        _ => Ty::of(found.oid, types),
    }
}

/// A qualified name with quotes around all of its parts.
fn requoted(name: &str) -> String {
    let mut parts = vec![String::new()];
    let mut quoted = false;
    for c in name.chars() {
        match c {
            '"' => quoted = !quoted,
            '.' if !quoted => parts.push(String::new()),
            c => parts.last_mut().into_iter().for_each(|part| part.push(c)),
        }
    }
    let parts: Vec<_> = parts.iter().map(|part| quote_identifier(part)).collect();
    parts.join(".")
}

/// A column as an expression; `None` if its type is not computed with.
pub(super) fn column_expr(index: usize, column: &Column, types: &Types) -> Option<Expr> {
    let ty = Ty::of(column.type_oid, types)?;
    let domain = types
        .0
        .get(&column.type_oid)
        .is_some_and(|ty| matches!(ty.kind, TypeKind::Domain { .. }));
    let collation = match column.collation.as_deref() {
        _ if !column.deterministic => Collation::Nondeterministic,
        Some("pg_catalog.\"C\"" | "pg_catalog.\"POSIX\"" | "\"C\"" | "\"POSIX\"") => Collation::C,
        Some(name) => Collation::Named(name.into()),
        None if ty == Ty::Name => Collation::C,
        // A domain may have a collation of its own.
        None if domain => Collation::Named("a domain's".into()),
        None => Collation::Default,
    };
    Some(Expr {
        node: Node::Column(index),
        ty,
        collation,
    })
}
