//! What a subquery reads: tables, claims, functions. All of it must be known, or the subquery is not answered here.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;

use sqlparser::ast::{self, Expr as E};

use super::lift;
use super::scope::{Builder, Names, sole_expression};
use super::subquery::{conjuncts, found_by, is_ungrouped, plain_select};
use super::typed::{Named, Types};
use crate::expression::compile::{self, Opaque};
use crate::expression::{Collation, Expr, Node, Ty};
use crate::policy::relation::Probe;
use crate::postgres::catalog::{Body, Function, RelationKind, Table, Volatility};

/// What a column of a subquery is.
#[derive(Clone, Debug)]
pub(super) struct Output {
    pub(super) ty: Ty,
    pub(super) collation: Collation,
}

impl Output {
    pub(super) fn of(expr: Expr) -> Self {
        Self {
            ty: expr.ty,
            collation: expr.collation,
        }
    }

    /// Something of this type.
    pub(super) fn expr(&self) -> Expr {
        Expr {
            node: Node::Column(0),
            ty: self.ty.clone(),
            collation: self.collation.clone(),
        }
    }
}

/// Walks a subquery and everything that it reaches.
pub(super) struct Reach<'b, 'a> {
    builder: &'b mut Builder<'a>,
    /// Whose rights it is read with, if not the subscriber's.
    owner: Option<Arc<str>>,
    /// The relations whose columns can be named, outermost first.
    frames: Vec<Vec<Named>>,
    params: BTreeSet<usize>,
    /// Tables, and how often each is named.
    reads: BTreeMap<u32, usize>,
    /// Functions and policies of tables that were looked into.
    seen: HashSet<(u32, Option<Arc<str>>)>,
}

/// Functions that return sets or work on groups; what else may be called must be computed by [`crate::expression`].
const OF_SETS: &[&str] = &[
    "count",
    "max",
    "min",
    "sum",
    "bool_or",
    "bool_and",
    "every",
    "array_agg",
    "string_agg",
    "unnest",
    "jsonb_array_elements",
    "jsonb_array_elements_text",
    "json_array_elements_text",
    "jsonb_object_keys",
    "coalesce",
    "nullif",
    "greatest",
    "least",
];

fn unknown(what: &str) -> Opaque {
    Opaque(format!("a subquery with {what}"))
}

impl<'b, 'a> Reach<'b, 'a> {
    pub(super) fn new(builder: &'b mut Builder<'a>, owner: Option<Arc<str>>) -> Self {
        Self {
            builder,
            owner,
            frames: Vec::new(),
            params: BTreeSet::new(),
            reads: BTreeMap::new(),
            seen: HashSet::new(),
        }
    }

    /// The parameters that decide the subquery, and the tables that it reads with how often each is named.
    pub(super) fn finish(self) -> (BTreeSet<usize>, BTreeMap<u32, usize>) {
        (self.params, self.reads)
    }

    /// Walks a query; what its columns are.
    pub(super) fn query(&mut self, query: &ast::Query) -> Result<Vec<Output>, Opaque> {
        let plain = query.with.is_none()
            && query.fetch.is_none()
            && query.locks.is_empty()
            && query.for_clause.is_none()
            && query.settings.is_none()
            && query.format_clause.is_none()
            && query.pipe_operators.is_empty();
        if !plain {
            return Err(unknown("WITH, FETCH or FOR UPDATE"));
        }
        let depth = self.frames.len();
        let outputs = self.set(&query.body)?;
        self.order(query)?;
        self.frames.truncate(depth);
        Ok(outputs)
    }

    /// ORDER BY and LIMIT, with the columns of the SELECT in sight.
    fn order(&mut self, query: &ast::Query) -> Result<(), Opaque> {
        if let Some(order) = &query.order_by {
            let ast::OrderByKind::Expressions(by) = &order.kind else {
                return Err(unknown("ORDER BY ALL"));
            };
            for by in by {
                // A bare name or number is a column of the result.
                if !matches!(by.expr, E::Identifier(_)) {
                    self.walk(&by.expr)?;
                }
            }
        }
        match &query.limit_clause {
            None => Ok(()),
            Some(ast::LimitClause::LimitOffset {
                limit,
                offset: None,
                limit_by,
            }) if limit_by.is_empty() => limit.iter().try_for_each(|limit| self.walk(limit)),
            Some(_) => Err(unknown("OFFSET")),
        }
    }

    fn set(&mut self, body: &ast::SetExpr) -> Result<Vec<Output>, Opaque> {
        match body {
            ast::SetExpr::Select(select) => self.select(select),
            ast::SetExpr::Query(query) => self.query(query),
            ast::SetExpr::SetOperation { left, right, .. } => {
                let depth = self.frames.len();
                let left = self.set(left)?;
                self.frames.truncate(depth);
                let right = self.set(right)?;
                self.frames.truncate(depth);
                let same = left.len() == right.len()
                    && left
                        .iter()
                        .zip(&right)
                        .all(|(l, r)| l.ty == r.ty && l.collation == r.collation);
                if same {
                    Ok(left)
                } else {
                    Err(unknown("columns of several types"))
                }
            }
            _ => Err(unknown("what is no SELECT")),
        }
    }

    /// Leaves the relations of FROM in sight.
    fn select(&mut self, select: &ast::Select) -> Result<Vec<Output>, Opaque> {
        let plain = select.top.is_none()
            && select.exclude.is_none()
            && select.into.is_none()
            && select.lateral_views.is_empty()
            && select.prewhere.is_none()
            && select.connect_by.is_empty()
            && select.cluster_by.is_empty()
            && select.distribute_by.is_empty()
            && select.sort_by.is_empty()
            && select.named_window.is_empty()
            && select.qualify.is_none()
            && select.value_table_mode.is_none()
            && select.optimizer_hints.is_empty()
            && select.flavor == ast::SelectFlavor::Standard;
        if !plain {
            return Err(unknown("clauses that are not understood"));
        }
        self.open(&select.from)?;
        if let Some(ast::Distinct::On(by)) = &select.distinct {
            self.all(by)?;
        }
        self.all(&select.selection)?;
        self.all(&select.having)?;
        match &select.group_by {
            ast::GroupByExpr::Expressions(by, modifiers) if modifiers.is_empty() => self.all(by)?,
            _ => return Err(unknown("GROUP BY ALL")),
        }
        let mut outputs = Vec::new();
        for item in &select.projection {
            let (ast::SelectItem::UnnamedExpr(item) | ast::SelectItem::ExprWithAlias { expr: item, .. }) =
                item
            else {
                return Err(unknown("*"));
            };
            self.walk(item)?;
            outputs.push(self.typed(item)?);
        }
        Ok(outputs)
    }

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
                self.called(&schema, &name)?
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

    fn all<'e>(&mut self, trees: impl IntoIterator<Item = &'e E>) -> Result<(), Opaque> {
        trees.into_iter().try_for_each(|tree| self.walk(tree))
    }

    /// Walks an expression.
    pub(super) fn walk(&mut self, tree: &E) -> Result<(), Opaque> {
        match tree {
            E::Value(_) => return Ok(()),
            E::Nested(inner) => return self.walk(inner),
            E::CompoundIdentifier(path) => return self.named(path),
            _ => {}
        }
        if let Some((param, _)) = self.claims(tree) {
            self.params.insert(param);
            return Ok(());
        }
        match tree {
            E::Identifier(name) => {
                let bare = self.frames.iter().rev().flatten().find(|named| named.bare);
                match bare.and_then(|named| named.column(&name.value)) {
                    Some(_) => Ok(()),
                    None => Err(unknown(&name.value)),
                }
            }
            E::Subquery(query) | E::Exists { subquery: query, .. } => self.query(query).map(drop),
            E::InSubquery { expr, subquery, .. } => {
                self.walk(expr)?;
                self.query(subquery).map(drop)
            }
            E::Function(function) => self.function(function, tree),
            E::Cast { expr, data_type, .. } => {
                self.cast(expr, data_type)?;
                self.walk(expr)
            }
            _ => {
                let parts = parts(tree).ok_or_else(|| unknown("an expression that is not understood"))?;
                self.all(parts)
            }
        }
    }

    fn named(&self, path: &[ast::Ident]) -> Result<(), Opaque> {
        let [alias, name] = path else {
            return Err(unknown("a name of more than two parts"));
        };
        let found = self
            .frames
            .iter()
            .rev()
            .flatten()
            .find(|named| named.alias == alias.value);
        match found.map(|named| named.column(&name.value)) {
            Some(Some(_)) => Ok(()),
            Some(None) => Err(unknown(&format!("{}.{}", alias.value, name.value))),
            None => Err(Opaque(format!(
                "a subquery that depends on {}.{}",
                alias.value, name.value
            ))),
        }
    }

    /// A part that only claims decide, as a parameter of the program.
    fn claims(&mut self, tree: &E) -> Option<(usize, Expr)> {
        let owner = self.owner.clone();
        let expr = compile::value(tree, &mut Names::of_claims(self.builder, owner)).ok()?;
        if !lift::is_of_claims(&expr) || !lift::reads_claims(&expr) {
            return None;
        }
        Some((self.builder.param(&expr), expr))
    }

    /// Text is read as a moment or a name by what is so now: `'today'`, `'pg_class'`.
    fn cast(&mut self, from: &E, ty: &ast::DataType) -> Result<(), Opaque> {
        let scope = Types {
            builder: self.builder,
            frames: &self.frames,
        };
        let ty = compile::type_name(ty, &scope)?;
        let moment = matches!(ty, Ty::Date | Ty::Time | Ty::Timestamp | Ty::Timestamptz);
        if !moment || matches!(from, E::Value(_)) {
            return Ok(());
        }
        match self.typed(from)?.ty {
            Ty::Date | Ty::Time | Ty::Timestamp | Ty::Timestamptz => Ok(()),
            _ => Err(unknown("text read as a moment")),
        }
    }

    /// The type of an expression inside the subquery.
    pub(super) fn typed(&self, tree: &E) -> Result<Output, Opaque> {
        self.compiled(tree).map(Output::of)
    }

    fn compiled(&self, tree: &E) -> Result<Expr, Opaque> {
        let mut scope = Types {
            builder: self.builder,
            frames: &self.frames,
        };
        compile::value(tree, &mut scope)
    }

    fn function(&mut self, function: &ast::Function, tree: &E) -> Result<(), Opaque> {
        let (schema, name) = compile::names(&function.name)?;
        let arguments = match &function.args {
            ast::FunctionArguments::None => Vec::new(),
            ast::FunctionArguments::Subquery(query) if schema.is_none() && name == "array" => {
                return self.query(query).map(drop);
            }
            ast::FunctionArguments::Subquery(_) => return Err(unknown("a subquery as an argument")),
            // count(*)
            ast::FunctionArguments::List(list) if name == "count" && compile::is_star(list) => Vec::new(),
            ast::FunctionArguments::List(list) => compile::arguments(list)?,
        };
        if function.over.is_some() || function.filter.is_some() || !function.within_group.is_empty() {
            return Err(unknown("a window, FILTER or WITHIN GROUP"));
        }
        self.all(arguments)?;
        match schema {
            Some(schema) if schema != "pg_catalog" => self.called(&schema, &name).map(drop),
            _ if OF_SETS.contains(&name.as_str()) => Ok(()),
            _ => {
                let compiled = self
                    .compiled(tree)
                    .map_err(|_| unknown(&format!("a call of {name}")))?;
                let timeless = !compiled.contains(&mut |part| matches!(part.node, Node::Now));
                if timeless { Ok(()) } else { Err(unknown(&name)) }
            }
        }
    }

    /// Every function of this name: which one is called depends on types that need not be known. What its columns are,
    /// if it is one.
    fn called(&mut self, schema: &str, name: &str) -> Result<Option<Vec<Output>>, Opaque> {
        let is = |function: &&Arc<Function>| &*function.schema == schema && &*function.name == name;
        let found: Vec<_> = self
            .builder
            .catalog
            .functions
            .values()
            .filter(is)
            .cloned()
            .collect();
        if found.is_empty() {
            return Err(unknown(&format!("a call of {schema}.{name}")));
        }
        let mut outputs = None;
        for function in &found {
            outputs = self.body(function)?;
        }
        Ok(outputs.filter(|_| found.len() == 1))
    }

    /// What its columns are, unless it was looked into already.
    fn body(&mut self, function: &Function) -> Result<Option<Vec<Output>>, Opaque> {
        let body = match &function.body {
            Some(body) if function.volatility != Volatility::Volatile => body,
            _ => {
                return Err(unknown(&format!(
                    "a call of {}.{}",
                    function.schema, function.name
                )));
            }
        };
        let owner = match function.security_definer {
            true => Some(Arc::clone(&function.owner)),
            false => self.owner.clone(),
        };
        if !self.seen.insert((function.oid, owner.clone())) {
            return Ok(None);
        }
        let types = &self.builder.catalog.types;
        let column = |(name, oid): (&Arc<str>, &u32)| {
            let expr = Ty::of(*oid, types).map(|ty| Expr::new(Node::Column(0), ty));
            (name.to_string(), expr.map(Output::of))
        };
        let arguments = Named {
            alias: Body::ALIAS.to_owned(),
            table: None,
            columns: body
                .parameters
                .iter()
                .zip(&function.arguments)
                .map(column)
                .collect(),
            bare: true,
        };
        let query = compile::parse_query(&body.query, &|_, _| None)?;
        let frames = std::mem::replace(&mut self.frames, vec![vec![arguments]]);
        let owner = std::mem::replace(&mut self.owner, owner);
        let walked = self.query(&query);
        self.owner = owner;
        self.frames = frames;
        walked.map(Some)
    }

    /// The sides of `inner = outer`: one reads only what is in sight here, the other only what is not.
    pub(super) fn correlated<'q>(&self, tree: &'q E) -> Option<(&'q E, &'q E)> {
        let (left, right) = equality(tree)?;
        match (self.is_inner(left)?, self.is_inner(right)?) {
            (true, false) => Some((left, right)),
            (false, true) => Some((right, left)),
            _ => None,
        }
    }

    /// Whether all columns that it names are in sight (true) or none of them (false).
    fn is_inner(&self, tree: &E) -> Option<bool> {
        let mut inner = None;
        let mut open = vec![tree];
        while let Some(tree) = open.pop() {
            match tree {
                E::CompoundIdentifier(path) => {
                    let alias = &path.first()?.value;
                    let found = self.frames.iter().flatten().any(|named| named.alias == *alias);
                    if *inner.get_or_insert(found) != found {
                        return None;
                    }
                }
                E::Identifier(_) => return None,
                E::Cast { expr, .. } | E::Nested(expr) => open.push(expr),
                E::Value(_) => {}
                E::Function(function) => match &function.args {
                    ast::FunctionArguments::List(list) => open.extend(compile::arguments(list).ok()?),
                    _ => return None,
                },
                other => open.extend(parts(other)?),
            }
        }
        inner
    }

    /// The probe of a query.
    pub(super) fn probe(&mut self, query: &ast::Query) -> Option<Probe> {
        let select = plain_select(query)?;
        let selection = select.selection.as_ref()?;
        if !is_ungrouped(select) && select.having.is_some() {
            return None;
        }
        self.open(&select.from).ok()?;
        let found = self.probe_among(&conjuncts(selection));
        self.frames.pop();
        found
    }

    /// A conjunct `table.column = claims`.
    pub(super) fn probe_among(&mut self, conjuncts: &[&E]) -> Option<Probe> {
        conjuncts.iter().find_map(|conjunct| {
            let (left, right) = equality(conjunct)?;
            self.probed(left, right).or_else(|| self.probed(right, left))
        })
    }

    fn probed(&mut self, column: &E, claims: &E) -> Option<Probe> {
        let E::CompoundIdentifier(path) = column else {
            return None;
        };
        let [alias, name] = path.as_slice() else {
            return None;
        };
        let (param, value) = self.claims(claims)?;
        let named = self
            .frames
            .last()?
            .iter()
            .find(|named| named.alias == alias.value)?;
        let table = named.table.as_ref()?;
        let output = named.column(&name.value)?.as_ref()?;
        let same = value.ty == output.ty && found_by(&output.expr(), &value, self.builder.catalog.collation);
        same.then_some(Probe {
            table: table.oid,
            column: table.column(&name.value)?,
            ty: output.ty.clone(),
            param,
        })
    }
}

/// The sides of `left = right`.
fn equality(tree: &E) -> Option<(&E, &E)> {
    match tree {
        E::Nested(inner) => equality(inner),
        E::BinaryOp {
            left,
            op: ast::BinaryOperator::Eq,
            right,
        } => Some((left, right)),
        _ => None,
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

/// Names no column.
pub(super) fn is_closed(tree: &E) -> bool {
    match tree {
        E::Value(_) => true,
        E::Identifier(_) | E::CompoundIdentifier(_) => false,
        E::Nested(inner) | E::Cast { expr: inner, .. } => is_closed(inner),
        E::Subquery(query) => sole_expression(query).is_some_and(is_closed),
        E::Function(function) => match &function.args {
            ast::FunctionArguments::None => true,
            ast::FunctionArguments::Subquery(_) => false,
            ast::FunctionArguments::List(list) => {
                compile::arguments(list).is_ok_and(|arguments| arguments.into_iter().all(is_closed))
            }
        },
        other => parts(other).is_some_and(|parts| parts.into_iter().all(is_closed)),
    }
}

/// The operands of an expression that is nothing but operators of `pg_catalog`.
fn parts(tree: &E) -> Option<Vec<&E>> {
    Some(match tree {
        E::BinaryOp { left, op, right } => {
            if let ast::BinaryOperator::PGCustomBinaryOperator(path) = op
                && path.first().is_none_or(|schema| schema != "pg_catalog")
            {
                return None;
            }
            vec![left, right]
        }
        E::AnyOp { left, right, .. } | E::AllOp { left, right, .. } => vec![left, right],
        E::IsDistinctFrom(left, right) | E::IsNotDistinctFrom(left, right) => vec![left, right],
        E::UnaryOp { expr, .. }
        | E::IsNull(expr)
        | E::IsNotNull(expr)
        | E::IsTrue(expr)
        | E::IsNotTrue(expr)
        | E::IsFalse(expr)
        | E::IsNotFalse(expr)
        | E::IsUnknown(expr)
        | E::IsNotUnknown(expr)
        | E::Extract { expr, .. }
        | E::Collate { expr, .. } => vec![expr],
        E::AtTimeZone { timestamp, time_zone } => vec![timestamp, time_zone],
        E::Array(array) => array.elem.iter().collect(),
        E::Tuple(elements) => elements.iter().collect(),
        E::Case {
            operand,
            conditions,
            else_result,
            ..
        } => {
            let mut parts: Vec<&E> = operand.iter().chain(else_result).map(|e| &**e).collect();
            for when in conditions {
                parts.push(&when.condition);
                parts.push(&when.result);
            }
            parts
        }
        _ => return None,
    })
}
