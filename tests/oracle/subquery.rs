//! Random conditions that look into other tables.

use super::expression::{Expression, Scope, claims_of, comparison, condition, value};
use super::kinds::Kind;
use super::random::Random;

/// The tables that subqueries read: name, and columns of which each has a type.
pub const READ: [(&str, &[(&str, Kind)]); 3] = [
    (
        "members",
        &[
            ("team", Kind::Int4),
            ("member", Kind::Uuid),
            ("level", Kind::Int4),
            ("label", Kind::Text),
            ("since", Kind::Timestamptz),
        ],
    ),
    (
        "teams",
        &[
            ("id", Kind::Int4),
            ("owner", Kind::Uuid),
            ("name", Kind::Text),
            ("tags", Kind::TextArray),
        ],
    ),
    ("admins", &[("who", Kind::Uuid)]),
];

/// Joins, groups, sets of rows together, values of one row, and keys on both sides of IN. In capitals is what is the same
/// in all of a form, in braces what stands for itself.
const FORMS: &[&str] = &[
    "exists (select 1 from ONE JOIN OTHER on PICKED = SAME where SECOND = {second} and {both})",
    "NOT exists (select from ONE JOIN OTHER on PICKED = SAME where {both})",
    "{value} NOT in (select PICKED from ONE JOIN OTHER on PICKED = SAME where {both})",
    "{value} NOT in (select PICKED from ONE where SECOND = {second} and {one})",
    "({value}, {second}) NOT in (select PICKED, SECOND from ONE where {one})",
    "exists (select 1 from ONE where PICKED = {value} and SECOND = {second} and {one})",
    // More than one row raises.
    "{value} = (select PICKED from ONE where {one})",
    "{value} = (select PICKED from ONE where {one} order by PICKED ORDER LIMIT)",
    "{value} in (select PICKED from ONE where {one} order by PICKED ORDER LIMIT)",
    "NOT exists (select 1 from ONE where {one} order by PICKED ORDER LIMIT)",
    "{value} NOT in (select PICKED from ONE where {one} SET select SAME from OTHER where {other})",
    "{value} NOT in (select PICKED from ONE where {one} SET select {of one} from ONE)",
    "{value} in (select PICKED from ONE where {one} group by PICKED having count(*) > 1)",
    "{value} >= (select max(PICKED) from ONE where {one})",
    "(select bool_or({test}) from ONE where {one})",
    "NOT (select bool_and({test}) from ONE where {one})",
    "{value} <> all (select PICKED from ONE where {one})",
    "{value} < any (select PICKED from ONE where {one})",
    "{value} NOT in (select v.found from (select PICKED as found from ONE where {one}) v)",
    "{value} in (select distinct PICKED from ONE where {one} or SECOND = {second})",
];

/// A condition that looks into other tables.
pub fn subquery(random: &mut Random, scope: &Scope, depth: usize) -> Expression {
    match random.percent(60) {
        true => of_one_table(random, scope, depth),
        false => of_several(random, scope, depth),
    }
}

/// What people write most: one table, and rows of it.
fn of_one_table(random: &mut Random, scope: &Scope, depth: usize) -> Expression {
    let (table, columns) = random.of(&[READ[0], READ[0], READ[1], READ[2]]);
    let alias = format!("q{}", scope.columns.len());
    let inner = Scope {
        columns: columns
            .iter()
            .map(|(name, kind)| (format!("{alias}.{name}"), *kind))
            .collect(),
        share: scope.share,
    };
    let (picked, kind) = random.one(&inner.columns).clone();
    let from = format!("from world.{table} {alias} where");
    let rest = filter(random, &inner, depth);
    let new = |text: String, arguments| Expression::new(Kind::Bool, text, arguments);
    let outer = value(random, scope, kind, depth.min(1));
    let not = random.of(&["", "", "", "not "]);
    match random.below(9) {
        0 | 1 => new(
            format!("{{}} {not}in (select {picked} {from} {{}})"),
            vec![outer, rest],
        ),
        2 => new(
            format!("{{}} = any (select {picked} {from} {{}})"),
            vec![outer, rest],
        ),
        3 if kind.is_ordered() && kind != Kind::TextArray => new(
            format!("{{}} = any (array(select {picked} {from} {{}}))"),
            vec![outer, rest],
        ),
        4 => new(format!("{not}exists (select 1 {from} {{}})"), vec![rest]),
        5..8 => {
            // Correlated: now and then the condition may name everything on both sides.
            let both = Scope {
                columns: scope.columns.iter().chain(&inner.columns).cloned().collect(),
                share: scope.share,
            };
            let rest = if random.percent(20) {
                condition(random, &both, depth.min(1))
            } else {
                rest
            };
            let text = match random.below(4) {
                0 => format!("{not}exists (select {from} {{}} and {{}} = {picked})"),
                _ => format!("{not}exists (select 1 {from} {picked} = {{}} and {{}})"),
            };
            let arguments = if text.contains("= {}") {
                vec![outer, rest]
            } else {
                vec![rest, outer]
            };
            new(text, arguments)
        }
        _ => {
            let outer = value(random, scope, Kind::Int8, depth.min(1));
            new(format!("(select count(*) {from} {{}}) > {{}}"), vec![rest, outer])
        }
    }
}

/// A condition of one of the [`FORMS`].
fn of_several(random: &mut Random, scope: &Scope, depth: usize) -> Expression {
    let alias = format!("q{}", scope.columns.len());
    let (table, columns) = random.of(&[READ[0], READ[0], READ[1], READ[2]]);
    let one = named(columns, &alias, scope);
    let (picked, kind) = random.one(&one.columns).clone();
    let (second, second_kind) = random.one(&one.columns).clone();
    // A column of the same type, of any of the tables.
    let alike = |(_, columns): &(&str, &[(&str, Kind)])| columns.iter().any(|column| column.1 == kind);
    let all: Vec<_> = READ.into_iter().filter(alike).collect();
    let (other_table, columns) = *random.one(&all);
    let other = named(columns, &format!("{alias}j"), scope);
    let same: Vec<_> = other.columns.iter().filter(|column| column.1 == kind).collect();
    let same = random.one(&same).0.clone();
    let both = Scope {
        columns: one.columns.iter().chain(&other.columns).cloned().collect(),
        share: scope.share,
    };
    let (mut text, mut arguments) = (String::new(), Vec::new());
    for (i, piece) in random.of(FORMS).split(['{', '}']).enumerate() {
        if i % 2 == 0 {
            text.push_str(piece);
            continue;
        }
        text.push_str("{}");
        arguments.push(match piece {
            "value" => value(random, scope, kind, depth.min(1)),
            "second" => value(random, scope, second_kind, 0),
            "of one" => value(random, &one, kind, 0),
            "other" => filter(random, &other, 0),
            "both" => filter(random, &both, depth),
            "test" => comparison(random, &one, 1),
            _ => filter(random, &one, depth),
        });
    }
    for (name, stands_for) in [
        ("NOT", random.of(&["", "", "not"])),
        ("JOIN", random.of(&["join", "left join", "right join"])),
        (
            "ORDER",
            random.of(&["", "desc", "nulls first", "desc nulls last"]),
        ),
        (
            "LIMIT",
            random.of(&["limit 1", "limit 1", "limit 1 offset 1", "limit 0"]),
        ),
        ("SET", random.of(&["union", "union all", "intersect", "except"])),
        ("ONE", &format!("world.{table} {alias}")),
        ("OTHER", &format!("world.{other_table} {alias}j")),
        ("PICKED", &picked),
        ("SECOND", &second),
        ("SAME", &same),
    ] {
        text = text.replace(name, stands_for);
    }
    Expression::new(Kind::Bool, text, arguments)
}

/// What a subquery may name of a table.
fn named(columns: &[(&str, Kind)], alias: &str, scope: &Scope) -> Scope {
    let named = |(name, kind): &(&str, Kind)| (format!("{alias}.{name}"), *kind);
    Scope {
        columns: columns.iter().map(named).collect(),
        share: scope.share,
    }
}

/// What a subquery asks of its own rows: mostly who is meant.
fn filter(random: &mut Random, inner: &Scope, depth: usize) -> Expression {
    let users: Vec<&(String, Kind)> = inner
        .columns
        .iter()
        .filter(|column| column.1 == Kind::Uuid)
        .collect();
    let user = random.one(&users).0.clone();
    let mine = |random: &mut Random| {
        let template = claims_of(random, Kind::Uuid);
        let column = Expression::new(Kind::Uuid, user.clone(), Vec::new());
        Expression::new(
            Kind::Bool,
            "{} = {}",
            vec![column, Expression::new(Kind::Uuid, template.1, Vec::new())],
        )
    };
    match random.below(6) {
        0 => Expression::new(Kind::Bool, "true", Vec::new()),
        1 => condition_without_subqueries(random, inner),
        2 if depth > 0 => {
            let more = condition(random, inner, 0);
            Expression::new(Kind::Bool, "{} and {}", vec![mine(random), more])
        }
        _ => mine(random),
    }
}

fn condition_without_subqueries(random: &mut Random, scope: &Scope) -> Expression {
    comparison(random, scope, 1)
}
