//! From the text that `pg_get_expr` prints under an empty `search_path` to a typed tree.
//!
//! Postgres prints every operator in parentheses and every cast, so that an operator or function is chosen here by the
//! exact types of its arguments. Whatever is not recognised makes the condition around it [`Stop::Ask`].

mod array;
mod call;
mod literal;
mod operator;
mod parts;
mod tokens;
mod type_names;

use sqlparser::ast;
use sqlparser::keywords::Keyword;
use sqlparser::parser::Parser;
use sqlparser::tokenizer::Token;

pub use call::{arguments, is_star, names, type_name};
pub use parts::parts;

use super::fold::Phase;
use super::{Collation, Expr, Is, Stop, Ty};
use crate::postgres::catalog::DefaultCollation;

/// Why an expression is not computed here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Opaque(pub String);

/// A typed tree, or why there is none.
pub type Compiled = Result<Expr, Opaque>;

/// An argument of a call: what it became, and as it was written.
#[derive(Debug)]
pub struct Passed<'t> {
    /// What it became.
    pub value: Expr,
    /// As it was written.
    pub tree: &'t ast::Expr,
}

/// A subquery's place in an expression.
#[derive(Debug)]
pub enum Place {
    /// `left IN (…)`
    In(Expr),
    /// `EXISTS (…)`
    Exists,
    /// `(…)` as a value.
    Scalar,
    /// The first row's value: what a function in SQL returns.
    First,
    /// `ARRAY(…)`
    Array,
}

/// What the names in an expression mean.
pub trait Scope {
    /// A column, by the name of its relation where that is written, and its own.
    fn column(&self, qualifier: Option<&str>, name: &str) -> Option<Expr>;
    /// A type that is not built in, by its qualified name as SQL needs it; no domains.
    fn ty(&self, name: &str) -> Option<Ty>;
    /// How the default collation compares.
    fn collation(&self) -> DefaultCollation;
    /// When Postgres sees the constants of the expression.
    fn phase(&self) -> Phase;
    /// A call of what is no builtin: of `pg_catalog` (`CURRENT_USER` and its like are such calls) without a schema.
    ///
    /// # Errors
    /// It is not known.
    fn call(&mut self, schema: Option<&str>, name: &str, arguments: Vec<Passed<'_>>) -> Compiled;
    /// A subquery.
    ///
    /// # Errors
    /// It cannot be told what it returns.
    fn subquery(&mut self, place: Place, query: &ast::Query) -> Compiled;
    /// Evaluating a constant raised, or may raise where Postgres plans the expression: then nothing of it can be
    /// answered here.
    fn poison(&mut self, why: String);
}

/// More joined conditions are not computed here: a tree of them would be too deep for the stack.
const MOST_JOINED: usize = 1000;

/// Compiles a condition; what cannot be compiled is a [`Stop::Ask`] in its place.
pub fn compile(text: &str, scope: &mut dyn Scope) -> Expr {
    match parse(text) {
        Ok(tree) => condition(&tree, scope),
        Err(Opaque(why)) => {
            scope.poison(why.clone());
            Expr::stop(Stop::ask(why))
        }
    }
}

/// Parses the text of an expression.
///
/// # Errors
/// It is too long, or not understood.
pub fn parse(text: &str) -> Result<ast::Expr, Opaque> {
    let mut parser = parser(tokens::of(text)?)?;
    let tree = parser.parse_expr().map_err(not_understood)?;
    match parser.peek_token().token {
        Token::EOF => Ok(tree),
        _ => Err(Opaque("the expression is not understood".into())),
    }
}

/// Parses the text of a query. `replace` says what stands for `alias.name`, if something does.
///
/// # Errors
/// It is too long, or not understood.
pub fn parse_query(text: &str, replace: &dyn Fn(&str, &str) -> Option<String>) -> Result<ast::Query, Opaque> {
    let text = text.trim().trim_end_matches(';');
    let tokens = tokens::replaced(tokens::of(text)?, replace)?;
    let mut parser = parser(tokens)?;
    let tree = parser.parse_query().map_err(not_understood)?;
    match parser.peek_token().token {
        Token::EOF => Ok(*tree),
        _ => Err(Opaque("the query is not understood".into())),
    }
}

fn not_understood(_: sqlparser::parser::ParserError) -> Opaque {
    Opaque("the expression is not understood".into())
}

fn parser(tokens: Vec<Token>) -> Result<Parser<'static>, Opaque> {
    let joins = |token: &&Token| match token {
        Token::Word(word) => matches!(word.keyword, Keyword::AND | Keyword::OR),
        Token::DoubleColon | Token::LBracket => true,
        _ => false,
    };
    if tokens.iter().filter(joins).count() > MOST_JOINED {
        return Err(Opaque("the expression has too many parts".into()));
    }
    Ok(Parser::new(&tokens::DIALECT).with_tokens(tokens::readable(tokens)))
}

/// A condition: what is not known of it is a [`Stop::Ask`] in its place.
pub fn condition(tree: &ast::Expr, scope: &mut dyn Scope) -> Expr {
    match value(tree, scope) {
        Ok(expr) if expr.ty == Ty::Bool => expr,
        Ok(_) => Expr::stop(Stop::ask("a condition that is not boolean")),
        Err(Opaque(why)) => {
            // Postgres knows while it plans whether this constant is true, and may leave out what stands beside it.
            if parts::is_constant(tree, scope) {
                scope.poison(format!("{why}, of a constant"));
            }
            Expr::stop(Stop::ask(why))
        }
    }
}

/// An expression of any type.
///
/// # Errors
/// Its type or its meaning is not known. What it is made of has been looked at all the same, or the whole is poisoned.
pub fn value(tree: &ast::Expr, scope: &mut dyn Scope) -> Compiled {
    let compiled = known_value(tree, scope);
    if let Err(Opaque(why)) = &compiled
        && parts::is_computed_while_planning(tree, scope)
    {
        scope.poison(format!("{why}, of constants"));
    }
    compiled
}

fn known_value(tree: &ast::Expr, scope: &mut dyn Scope) -> Compiled {
    use ast::Expr as E;
    match tree {
        E::Nested(inner) => value(inner, scope),
        E::Value(literal) => literal::plain(&literal.value),
        E::Identifier(name) => identifier(name, scope),
        E::CompoundIdentifier(path) => column(path, scope),
        E::Cast {
            kind: ast::CastKind::DoubleColon | ast::CastKind::Cast,
            expr,
            data_type,
            format: None,
        } => literal::cast(expr, data_type, scope),
        E::BinaryOp {
            left,
            op: op @ (ast::BinaryOperator::And | ast::BinaryOperator::Or),
            right,
        } => Ok(joined(left, op, right, scope)),
        E::BinaryOp { left, op, right } => operator::binary(left, op, right, scope),
        E::UnaryOp {
            op: ast::UnaryOperator::Not,
            expr,
        } => Ok(condition(primary(expr, scope)?, scope).negated()),
        E::UnaryOp { op, expr } => operator::prefix(op, expr, scope),
        E::AnyOp {
            left,
            compare_op,
            right,
            is_some: false,
        } => operator::element(left, compare_op, right, false, scope),
        E::AllOp {
            left,
            compare_op,
            right,
        } => operator::element(left, compare_op, right, true, scope),
        E::IsDistinctFrom(left, right) => operator::distinct(left, right, scope),
        E::IsNotDistinctFrom(left, right) => operator::distinct(left, right, scope).map(Expr::negated),
        E::IsNull(expr) => Ok(Expr::is(Is::Null, value(primary(expr, scope)?, scope)?)),
        E::IsNotNull(expr) => Ok(Expr::is(Is::Null, value(primary(expr, scope)?, scope)?).negated()),
        E::IsTrue(expr) => test(Is::True, expr, scope),
        E::IsNotTrue(expr) => test(Is::True, expr, scope).map(Expr::negated),
        E::IsFalse(expr) => test(Is::False, expr, scope),
        E::IsNotFalse(expr) => test(Is::False, expr, scope).map(Expr::negated),
        E::IsUnknown(expr) => test(Is::Unknown, expr, scope),
        E::IsNotUnknown(expr) => test(Is::Unknown, expr, scope).map(Expr::negated),
        E::Collate { expr, collation } => collate(expr, collation, scope),
        E::Case { .. } => call::case(tree, scope),
        E::Array(array) => array::constructor(&array.elem, scope),
        E::CompoundFieldAccess { root, access_chain } => array::subscript(root, access_chain, scope),
        E::InSubquery {
            expr,
            subquery,
            negated,
        } => {
            let left = operator::searching(expr, scope)?;
            let found = scope.subquery(Place::In(left), subquery)?;
            Ok(if *negated { found.negated() } else { found })
        }
        E::Exists { subquery, negated } => {
            let found = scope.subquery(Place::Exists, subquery)?;
            Ok(if *negated { found.negated() } else { found })
        }
        E::Subquery(query) => scope.subquery(Place::Scalar, query),
        _ => call::call(tree, scope),
    }
}

/// The operands of a chain of ANDs or ORs in their order. Chains lean to the left and can be long, hence the loop.
fn joined(left: &ast::Expr, op: &ast::BinaryOperator, right: &ast::Expr, scope: &mut dyn Scope) -> Expr {
    let mut operands = vec![right];
    let mut rest = left;
    loop {
        match rest {
            ast::Expr::BinaryOp {
                left,
                op: inner,
                right,
            } if inner == op => {
                operands.push(right);
                rest = left;
            }
            other => {
                operands.push(other);
                break;
            }
        }
    }
    let decides = *op == ast::BinaryOperator::Or;
    let mut compiled = Vec::with_capacity(operands.len());
    for operand in operands.into_iter().rev() {
        let operand = match primary(operand, scope) {
            Ok(operand) => condition(operand, scope),
            Err(Opaque(why)) => Expr::stop(Stop::ask(why)),
        };
        let ends = operand.as_truth() == Some(Some(decides)) && scope.phase() == Phase::Planned;
        compiled.push(operand);
        // Postgres' planner does not look at what comes behind.
        if ends {
            break;
        }
    }
    if decides {
        Expr::or(compiled, scope.phase())
    } else {
        Expr::and(compiled, scope.phase())
    }
}

/// An operand that binds tighter than any operator. Postgres prints parentheses around every other one, so a bare one
/// would mean that the parser and Postgres disagree.
fn primary<'t>(tree: &'t ast::Expr, scope: &mut dyn Scope) -> Result<&'t ast::Expr, Opaque> {
    use ast::Expr as E;
    match tree {
        E::Nested(_)
        | E::Value(_)
        | E::Identifier(_)
        | E::CompoundIdentifier(_)
        | E::CompoundFieldAccess { .. }
        | E::Cast { .. }
        | E::Function(_)
        | E::Case { .. }
        | E::Array(_)
        | E::Subquery(_)
        | E::Exists { negated: false, .. }
        | E::Extract { .. }
        | E::Position { .. }
        | E::Substring { .. }
        | E::Trim { .. }
        | E::Overlay { .. }
        | E::Ceil { .. }
        | E::Floor { .. } => Ok(tree),
        _ => Err(call::unread("an operator without parentheses".into(), scope)),
    }
}

fn test(is: Is, tree: &ast::Expr, scope: &mut dyn Scope) -> Compiled {
    Ok(Expr::is(is, condition(primary(tree, scope)?, scope)))
}

/// A column, or one of the words that look like one.
fn identifier(name: &ast::Ident, scope: &mut dyn Scope) -> Compiled {
    if name.quote_style.is_none() && name.value.chars().any(|c| c.is_ascii_uppercase()) {
        return scope.call(None, &name.value.to_ascii_lowercase(), Vec::new());
    }
    let found = scope.column(None, &name.value);
    found.ok_or_else(|| Opaque(format!("reads {}", name.value)))
}

fn column(path: &[ast::Ident], scope: &mut dyn Scope) -> Compiled {
    let [qualifier, name] = path else {
        return Err(Opaque("a name of more than two parts".into()));
    };
    scope
        .column(Some(&qualifier.value), &name.value)
        .ok_or_else(|| Opaque(format!("reads {}.{}", qualifier.value, name.value)))
}

/// `COLLATE`. Only where nothing below has another collation: which of two wins depends on more than is known here.
fn collate(tree: &ast::Expr, collation: &ast::ObjectName, scope: &mut dyn Scope) -> Compiled {
    let mut expr = value(primary(tree, scope)?, scope)?;
    let wanted = match type_names::name(collation)?.as_str() {
        "\"C\"" | "\"POSIX\"" | "pg_catalog.\"C\"" | "pg_catalog.\"POSIX\"" => Collation::C,
        other => return Err(Opaque(format!("collation {other}"))),
    };
    if !matches!(expr.ty, Ty::Text | Ty::Varchar | Ty::Bpchar) {
        return Err(Opaque("a collation of what is no text".into()));
    }
    if !matches!(expr.collation, Collation::Default | Collation::C) {
        return Err(Opaque("more than one collation".into()));
    }
    expr.collation = wanted;
    Ok(expr)
}

#[cfg(test)]
mod tests;
