//! Random typed expressions, as trees that can be cut.

use std::fmt;

use super::kinds::Kind;
use super::random::Random;
use super::subquery::subquery;
use super::templates::{CLAIMS, CONDITIONS, Template, VALUES};

/// An expression: a text with one `{}` per argument.
#[derive(Clone, Debug)]
pub struct Expression {
    pub kind: Kind,
    text: String,
    arguments: Vec<Expression>,
}

/// What an expression may name.
#[derive(Clone, Debug)]
pub struct Scope {
    /// Qualified columns.
    pub columns: Vec<(String, Kind)>,
    /// Values that are one of them, of a hundred that could be: of constants Postgres' planner makes more.
    pub share: usize,
}

impl fmt::Display for Expression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, text) in self.text.split("{}").enumerate() {
            if let Some(argument) = i.checked_sub(1).and_then(|i| self.arguments.get(i)) {
                if argument.is_atom() {
                    write!(f, "{argument}")?;
                } else {
                    write!(f, "({argument})")?;
                }
            }
            f.write_str(text)?;
        }
        Ok(())
    }
}

impl Expression {
    pub fn new(kind: Kind, text: impl Into<String>, arguments: Vec<Self>) -> Self {
        Self {
            kind,
            text: text.into(),
            arguments,
        }
    }

    fn is_atom(&self) -> bool {
        self.arguments.is_empty() && !self.text.contains(' ')
    }

    /// How many nodes it has.
    pub fn size(&self) -> usize {
        1 + self.arguments.iter().map(Self::size).sum::<usize>()
    }

    /// Expressions of the same type that are smaller, the smallest first.
    pub fn smaller(&self) -> Vec<Self> {
        let mut found = Vec::new();
        if !self.arguments.is_empty() || self.text.contains(' ') {
            found.extend(plain(self.kind));
        }
        self.descendants(self.kind, &mut found);
        for (i, argument) in self.arguments.iter().enumerate() {
            for smaller in argument.smaller() {
                let mut copy = self.clone();
                copy.arguments[i] = smaller;
                found.push(copy);
            }
        }
        let size = self.size();
        found.retain(|other| other.size() < size || (other.size() == size && self.text != other.text));
        found.sort_by_key(Self::size);
        found
    }

    fn descendants(&self, kind: Kind, into: &mut Vec<Self>) {
        for argument in &self.arguments {
            if argument.kind == kind {
                into.push(argument.clone());
            }
            argument.descendants(kind, into);
        }
    }
}

/// The simplest expressions of a type.
fn plain(kind: Kind) -> Vec<Expression> {
    if kind.is_bare() {
        return Vec::new();
    }
    let mut found = vec![Expression::new(kind, format!("null::{}", kind.sql()), vec![])];
    found.extend(kind.values().iter().take(2).map(|value| cast(kind, value)));
    found
}

fn cast(kind: Kind, value: &str) -> Expression {
    let text = match kind {
        Kind::Bool => value.to_owned(),
        _ if kind.is_bare() => value.to_owned(),
        _ => format!("{value}::{}", kind.sql()),
    };
    Expression::new(kind, text, Vec::new())
}

/// A condition.
pub fn condition(random: &mut Random, scope: &Scope, depth: usize) -> Expression {
    let new = |text: &str, arguments| Expression::new(Kind::Bool, text, arguments);
    if depth > 0 && random.percent(45) {
        let mut inner = || condition(random, scope, depth - 1);
        let (a, b) = (inner(), inner());
        return match random.below(18) {
            0..4 => new("{} and {}", vec![a, b]),
            4..8 => new("{} or {}", vec![a, b]),
            8 => new("{} and {} and {}", vec![a, b, condition(random, scope, 0)]),
            9 => new("{} or {} or {}", vec![a, b, condition(random, scope, 0)]),
            10 => new("not {}", vec![a]),
            11 => new("coalesce({}, {})", vec![a, b]),
            12 => new(
                "case when {} then {} else {} end",
                vec![a, b, condition(random, scope, 0)],
            ),
            13 => new("case when {} then {} end", vec![a, b]),
            // The planner takes out what is common to both.
            16 => new("({} and {}) or {}", vec![a, b.clone(), b]),
            17 => new(
                "({} and {}) or ({} and {})",
                vec![a, b.clone(), condition(random, scope, 0), b],
            ),
            14 => {
                let test = random.of(&[
                    "is true",
                    "is not true",
                    "is false",
                    "is not false",
                    "is unknown",
                    "is null",
                ]);
                new(&format!("{{}} {test}"), vec![a])
            }
            _ => new("{} is distinct from {}", vec![a, b]),
        };
    }
    match random.below(20) {
        0..5 => subquery(random, scope, depth),
        5..11 => comparison(random, scope, depth),
        11 => {
            let template = claims_of(random, Kind::Bool);
            apply(random, scope, depth, &template)
        }
        12 => {
            let (name, kind) = random.one(&scope.columns).clone();
            let test = random.of(&["is null", "is not null"]);
            new(&format!("{{}} {test}"), vec![Expression::new(kind, name, vec![])])
        }
        13 => value(random, scope, Kind::Bool, 0),
        _ => {
            let template = *random.one(CONDITIONS);
            apply(random, scope, depth, &template)
        }
    }
}

pub fn claims_of(random: &mut Random, kind: Kind) -> Template {
    let all: Vec<&Template> = CLAIMS.iter().filter(|template| template.0 == kind).collect();
    **random.one(&all)
}

fn apply(random: &mut Random, scope: &Scope, depth: usize, template: &Template) -> Expression {
    let arguments = template
        .2
        .iter()
        .map(|kind| value(random, scope, *kind, depth.min(2)))
        .collect();
    Expression::new(template.0, template.1, arguments)
}

pub fn comparison(random: &mut Random, scope: &Scope, depth: usize) -> Expression {
    let (name, kind) = random.one(&scope.columns).clone();
    let left = match random.percent(scope.share + 20) {
        true => Expression::new(kind, name, Vec::new()),
        false => value(random, scope, kind, depth.min(2)),
    };
    let right = value(random, scope, kind, depth.min(2));
    let operator = match kind.is_ordered() {
        true => random.of(&[
            "=",
            "=",
            "=",
            "<>",
            "<",
            "<=",
            ">",
            ">=",
            "is distinct from",
            "is not distinct from",
        ]),
        false => "=",
    };
    let text = format!("{{}} {operator} {{}}");
    Expression::new(Kind::Bool, text, vec![left, right])
}

/// A value of a type.
pub fn value(random: &mut Random, scope: &Scope, kind: Kind, depth: usize) -> Expression {
    if kind.is_bare() {
        return cast(kind, random.of(kind.values()));
    }
    if depth > 0 && random.percent(40) {
        let all: Vec<&Template> = VALUES.iter().filter(|template| template.0 == kind).collect();
        if !all.is_empty() && random.percent(75) {
            let template = **random.one(&all);
            return apply(random, scope, depth - 1, &template);
        }
        let (a, b) = (
            value(random, scope, kind, depth - 1),
            value(random, scope, kind, depth - 1),
        );
        return match random.below(if kind.is_ordered() { 5 } else { 2 }) {
            0 => Expression::new(kind, "coalesce({}, {})", vec![a, b]),
            1 => {
                let test = condition(random, scope, 0);
                Expression::new(kind, "case when {} then {} else {} end", vec![test, a, b])
            }
            2 => Expression::new(kind, "nullif({}, {})", vec![a, b]),
            3 => Expression::new(kind, "greatest({}, {})", vec![a, b]),
            _ => Expression::new(kind, "least({}, {})", vec![a, b]),
        };
    }
    let columns: Vec<&(String, Kind)> = scope.columns.iter().filter(|column| column.1 == kind).collect();
    if !columns.is_empty() && random.percent(scope.share) {
        return Expression::new(kind, random.one(&columns).0.clone(), Vec::new());
    }
    if random.percent(35) && CLAIMS.iter().any(|template| template.0 == kind) {
        let template = claims_of(random, kind);
        return apply(random, scope, 0, &template);
    }
    if random.percent(4) {
        return Expression::new(kind, format!("null::{}", kind.sql()), Vec::new());
    }
    cast(kind, random.of(kind.values()))
}
