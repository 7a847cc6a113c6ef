//! Evaluation, in the order of Postgres' executor: left to right, no further than needed.
//!
//! <https://www.postgresql.org/docs/current/sql-expressions.html#SYNTAX-EXPRESS-EVAL>

use std::sync::Arc;

use super::{
    Array, Builtin, Comparison, Context, Datum, ElementTest, Evaluated, Expr, Is, Key, Node, Relation, Stop,
    compare, equal,
};

impl Expr {
    /// Its value.
    ///
    /// # Errors
    /// Why there is none.
    pub fn evaluate(&self, context: &dyn Context) -> Evaluated {
        match &self.node {
            Node::Const(value) => Ok(value.clone()),
            Node::Stop(stop) => Err(stop.clone()),
            Node::Column(index) => context.column(*index),
            Node::Param(index) => context.param(*index),
            Node::Now => Ok(Some(Datum::Timestamp(context.now()))),
            Node::Call(builtin, _, arguments) => call(builtin, arguments, context),
            Node::Case(branches, otherwise) => {
                for (condition, result) in branches {
                    if condition.truth(context)? == Some(true) {
                        return result.evaluate(context);
                    }
                }
                otherwise
                    .as_ref()
                    .map_or(Ok(None), |result| result.evaluate(context))
            }
            Node::Unsure(inner) => inner.evaluate(context).map_err(|stop| match stop {
                Stop::Raise(_) | Stop::Raised(_) => {
                    Stop::ask("an argument that raises, which may not be used")
                }
                stop => stop,
            }),
            Node::Coalesce(arguments) => {
                for argument in arguments {
                    if let Some(value) = argument.evaluate(context)? {
                        return Ok(Some(value));
                    }
                }
                Ok(None)
            }
            Node::NullIf(left, right) => {
                let (left, right) = (left.evaluate(context)?, right.evaluate(context)?);
                match (&left, &right) {
                    (Some(l), Some(r)) if equal(l, r)? => Ok(None),
                    _ => Ok(left),
                }
            }
            Node::Array(elements) => {
                let elements = elements
                    .iter()
                    .map(|element| element.evaluate(context))
                    .collect::<Result<Vec<_>, _>>()?;
                Ok(Some(array(elements)))
            }
            Node::Scalar(relation) => scalar(context.relation(*relation)?),
            Node::ArrayOf(relation) => {
                let rows = context.relation(*relation)?.rows();
                let first = |row: &Vec<Option<Datum>>| row.first().cloned().flatten();
                Ok(Some(array(rows.iter().map(first).collect())))
            }
            _ => Ok(self.boolean(context)?.map(Datum::Bool)),
        }
    }

    /// Its value, if it is a boolean.
    ///
    /// # Errors
    /// As [`Expr::evaluate`].
    pub fn truth(&self, context: &dyn Context) -> Result<Option<bool>, Stop> {
        match &self.node {
            Node::Compare(..)
            | Node::Distinct(..)
            | Node::Is(..)
            | Node::And(_)
            | Node::Or(_)
            | Node::Not(_)
            | Node::AnyElement { .. }
            | Node::In { .. }
            | Node::Exists(_) => self.boolean(context),
            _ => truth(self.evaluate(context)?),
        }
    }

    /// Whether it is true, as a condition on a row. Of the operands of a top-level AND, Postgres evaluates whichever it
    /// likes first; so one that is false or NULL decides even where another has no value.
    ///
    /// # Errors
    /// Why that cannot be told.
    pub fn passes(&self, context: &dyn Context) -> Result<bool, Stop> {
        let Node::And(conjuncts) = &self.node else {
            return Ok(self.truth(context)? == Some(true));
        };
        let mut stopped: Option<Stop> = None;
        for conjunct in conjuncts {
            match conjunct.passes(context) {
                Ok(true) => {}
                Ok(false) => return Ok(false),
                Err(stop) => stopped = Some(stopped.map_or(stop.clone(), |earlier| graver(earlier, stop))),
            }
        }
        stopped.map_or(Ok(true), Err)
    }

    /// The nodes whose values are truth values.
    fn boolean(&self, context: &dyn Context) -> Result<Option<bool>, Stop> {
        match &self.node {
            Node::Compare(comparison, left, right) => {
                match (left.evaluate(context)?, right.evaluate(context)?) {
                    (Some(left), Some(right)) => comparison.of(&left, &right).map(Some),
                    _ => Ok(None),
                }
            }
            Node::Distinct(left, right) => match (left.evaluate(context)?, right.evaluate(context)?) {
                (Some(left), Some(right)) => Ok(Some(!equal(&left, &right)?)),
                (left, right) => Ok(Some(left.is_some() != right.is_some())),
            },
            Node::Is(Is::Null, argument) => Ok(Some(argument.evaluate(context)?.is_none())),
            Node::Is(is, argument) => {
                let value = argument.truth(context)?;
                Ok(Some(match is {
                    Is::True => value == Some(true),
                    Is::False => value == Some(false),
                    Is::Null | Is::Unknown => value.is_none(),
                }))
            }
            Node::And(operands) => until(operands, false, context),
            Node::Or(operands) => until(operands, true, context),
            Node::Not(operand) => Ok(operand.truth(context)?.map(|value| !value)),
            Node::AnyElement {
                left,
                test,
                array,
                all,
            } => {
                let left = left.evaluate(context)?;
                any_element(left, test, array.evaluate(context)?, *all)
            }
            Node::In {
                keys,
                relation,
                exists,
            } => is_in(keys, context.relation(*relation)?, *exists, context),
            Node::Exists(relation) => Ok(Some(!context.relation(*relation)?.rows().is_empty())),
            _ => truth(self.evaluate(context)?),
        }
    }
}

impl Comparison {
    /// Whether it is true of two values, of types that [`super::comparable`] knows to compare like this.
    ///
    /// # Errors
    /// Their order is not known here.
    pub fn of(self, left: &Datum, right: &Datum) -> Result<bool, Stop> {
        Ok(match self {
            Self::Eq => equal(left, right)?,
            Self::Ne => !equal(left, right)?,
            Self::Lt => compare(left, right)?.is_lt(),
            Self::Le => compare(left, right)?.is_le(),
            Self::Gt => compare(left, right)?.is_gt(),
            Self::Ge => compare(left, right)?.is_ge(),
        })
    }
}

fn truth(value: Option<Datum>) -> Result<Option<bool>, Stop> {
    match value {
        None => Ok(None),
        Some(Datum::Bool(value)) => Ok(Some(value)),
        Some(_) => Err(Stop::ask("a condition that is not boolean")),
    }
}

/// AND (`decides` is false) and OR (true): ends at the first operand that decides.
fn until(operands: &[Expr], decides: bool, context: &dyn Context) -> Result<Option<bool>, Stop> {
    let mut null = false;
    for operand in operands {
        match operand.truth(context)? {
            Some(value) if value == decides => return Ok(Some(decides)),
            Some(_) => {}
            None => null = true,
        }
    }
    Ok((!null).then_some(!decides))
}

/// Which of two reasons is told: what is certain not to become a yes needs no asking.
fn graver(first: Stop, second: Stop) -> Stop {
    let rank = |stop: &Stop| match stop {
        Stop::Raise(_) | Stop::Raised(_) => 0,
        Stop::Missing(_) => 1,
        Stop::Unavailable(_) => 2,
        Stop::Ask(_) => 3,
    };
    if rank(&second) < rank(&first) {
        second
    } else {
        first
    }
}

/// All arguments are evaluated before a strict function is left out for a NULL among them.
fn call(builtin: &Builtin, arguments: &[Expr], context: &dyn Context) -> Evaluated {
    let apply = |values: &[Option<Datum>]| {
        if builtin.strict && values.iter().any(Option::is_none) {
            return Ok(None);
        }
        (builtin.call)(values)
    };
    // Nearly all calls have one or two arguments: no allocation for those.
    match arguments {
        [one] => apply(&[one.evaluate(context)?]),
        [one, two] => apply(&[one.evaluate(context)?, two.evaluate(context)?]),
        more => {
            let values: Vec<_> = more
                .iter()
                .map(|argument| argument.evaluate(context))
                .collect::<Result<_, _>>()?;
            apply(&values)
        }
    }
}

fn array(elements: Vec<Option<Datum>>) -> Datum {
    let dimensions = match elements.len() {
        0 => Vec::new(),
        length => vec![(length, 1)],
    };
    Datum::Array(Arc::new(Array { dimensions, elements }))
}

/// `ExecEvalScalarArrayOp`: an empty array decides even for NULL on the left.
fn any_element(
    left: Option<Datum>,
    test: &ElementTest,
    array: Option<Datum>,
    all: bool,
) -> Result<Option<bool>, Stop> {
    let array = match array {
        None => return Ok(None),
        Some(Datum::Array(array)) => array,
        Some(_) => return Err(Stop::ask("ANY of what is no array")),
    };
    if array.elements.is_empty() {
        return Ok(Some(all));
    }
    let strict = match test {
        ElementTest::Compare(_) => true,
        ElementTest::Call(builtin, _) => builtin.strict,
    };
    if left.is_none() && strict {
        return Ok(None);
    }
    let mut null = false;
    for element in &array.elements {
        match element_test(&left, test, element)? {
            Some(value) if value != all => return Ok(Some(value)),
            Some(_) => {}
            None => null = true,
        }
    }
    Ok((!null).then_some(all))
}

fn element_test(
    left: &Option<Datum>,
    test: &ElementTest,
    element: &Option<Datum>,
) -> Result<Option<bool>, Stop> {
    match test {
        ElementTest::Compare(comparison) => match (left, element) {
            (Some(left), Some(element)) => comparison.of(left, element).map(Some),
            _ => Ok(None),
        },
        ElementTest::Call(builtin, _) => {
            if builtin.strict && (left.is_none() || element.is_none()) {
                return Ok(None);
            }
            truth((builtin.call)(&[left.clone(), element.clone()])?)
        }
    }
}

fn is_in(
    keys: &[Expr],
    relation: &Relation,
    exists: bool,
    context: &dyn Context,
) -> Result<Option<bool>, Stop> {
    // Postgres looks at the left side once there is a row to compare it with.
    if relation.rows().is_empty() {
        return Ok(Some(false));
    }
    let mut wanted: Vec<Key> = Vec::with_capacity(keys.len());
    let mut null = false;
    for key in keys {
        match key.evaluate(context)? {
            Some(value) => wanted.push(value.key(&key.ty)?),
            None => null = true,
        }
    }
    if !null && relation.contains(&wanted) {
        return Ok(Some(true));
    }
    if exists {
        return Ok(Some(false));
    }
    // Of several columns a row with a NULL may still be unequal by another one.
    match (null, relation.has_null()) {
        (false, false) => Ok(Some(false)),
        _ if keys.len() == 1 => Ok(None),
        _ => Err(Stop::ask("IN over several columns with NULL among them")),
    }
}

fn scalar(relation: &Relation) -> Evaluated {
    match relation.rows() {
        [] => Ok(None),
        [row] => Ok(row.first().cloned().flatten()),
        _ => Err(Stop::Raise("21000")),
    }
}
