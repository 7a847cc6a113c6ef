//! What a subquery reads: tables, claims, functions. All of it must be known, or the subquery is not answered here.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;

use sqlparser::ast::{self, Expr as E};

use super::lift;
use super::scope::{Builder, Names};
use super::typed::{Named, Types};
use crate::expression::compile::parts;
use crate::expression::compile::{self, Opaque};
use crate::expression::{Collation, Expr, Node, Ty};
use crate::postgres::catalog::{Body, Function, Volatility};

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
    pub(super) builder: &'b mut Builder<'a>,
    /// Whose rights it is read with, if not the subscriber's.
    pub(super) owner: Option<Arc<str>>,
    /// The relations whose columns can be named, outermost first.
    pub(super) frames: Vec<Vec<Named>>,
    params: BTreeSet<usize>,
    /// Tables, and how often each is named.
    pub(super) reads: BTreeMap<u32, usize>,
    /// Functions and policies of tables that were looked into.
    pub(super) seen: HashSet<(u32, Option<Arc<str>>)>,
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

pub(super) fn unknown(what: &str) -> Opaque {
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

    pub(super) fn all<'e>(&mut self, trees: impl IntoIterator<Item = &'e E>) -> Result<(), Opaque> {
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
    pub(super) fn claims(&mut self, tree: &E) -> Option<(usize, Expr)> {
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
        let passed = arguments.len();
        self.all(arguments)?;
        match schema {
            Some(schema) if schema != "pg_catalog" => self.called(&schema, &name, passed).map(drop),
            // What is known of settings was taken for claims before: this could be any of them.
            _ if name == "current_setting" => Err(unknown("a setting that is not known")),
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
    /// if it is one. Arguments that were not passed have defaults, which may read anything and are not seen here.
    pub(super) fn called(
        &mut self,
        schema: &str,
        name: &str,
        passed: usize,
    ) -> Result<Option<Vec<Output>>, Opaque> {
        let is = |function: &&Arc<Function>| &*function.schema == schema && &*function.name == name;
        let found: Vec<_> = self
            .builder
            .catalog
            .functions
            .values()
            .filter(is)
            .cloned()
            .collect();
        if found.is_empty() || found.iter().any(|function| function.arguments.len() > passed) {
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
}
