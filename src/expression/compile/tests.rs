//! Texts, what they come to over a row, and what is folded.

use sqlparser::ast;

use super::{Compiled, Opaque, Passed, Place, Scope, compile};
use crate::expression::{Collation, Context, Datum, Evaluated, Expr, Node, Phase, Relation, Stop, Ty};
use crate::postgres::catalog::DefaultCollation;

/// Columns `t`, `f`, `u` (true, false, NULL), `one`, `zero`, `none` (1, 0, NULL), `gone` (not carried), `name` (text).
/// `r`, `n`, `e` are relations of one row, of a row and a NULL, of nothing.
struct Row {
    phase: Phase,
    poison: Vec<String>,
    relations: [Relation; 3],
}

const COLUMNS: &[(&str, Ty)] = &[
    ("t", Ty::Bool),
    ("f", Ty::Bool),
    ("u", Ty::Bool),
    ("one", Ty::Int4),
    ("zero", Ty::Int4),
    ("none", Ty::Int4),
    ("gone", Ty::Bool),
    ("name", Ty::Text),
];

fn row(phase: Phase) -> Row {
    let read = |rows: &[Option<&str>]| {
        let rows = rows.iter().map(|text| vec![text.map(str::to_owned)]).collect();
        Relation::read(&[Ty::Int4], rows).expect("numbers")
    };
    Row {
        phase,
        poison: Vec::new(),
        relations: [read(&[Some("1")]), read(&[Some("7"), None]), read(&[])],
    }
}

impl Scope for Row {
    fn column(&self, qualifier: Option<&str>, name: &str) -> Option<Expr> {
        let index = COLUMNS.iter().position(|(known, _)| *known == name)?;
        let expr = Expr::new(Node::Column(index), COLUMNS[index].1.clone());
        qualifier.is_none_or(|alias| alias == "row").then_some(expr)
    }
    fn ty(&self, _: &str) -> Option<Ty> {
        None
    }
    fn collation(&self) -> DefaultCollation {
        DefaultCollation::Plain
    }
    fn phase(&self) -> Phase {
        self.phase
    }
    fn call(&mut self, _: Option<&str>, name: &str, _: Vec<Passed<'_>>) -> Compiled {
        Err(Opaque(format!("calls {name}")))
    }
    fn subquery(&mut self, place: Place, query: &ast::Query) -> Compiled {
        let relation = match query.to_string().as_str() {
            "SELECT r" => 0,
            "SELECT n" => 1,
            _ => 2,
        };
        Ok(match place {
            Place::In(left) => Expr::new(
                Node::In {
                    keys: vec![left],
                    relation,
                    exists: false,
                },
                Ty::Bool,
            ),
            Place::Exists => Expr::new(Node::Exists(relation), Ty::Bool),
            Place::Scalar | Place::First => Expr::new(Node::Scalar(relation), Ty::Int4),
            Place::Array => Expr::new(Node::ArrayOf(relation), Ty::Array(Box::new(Ty::Int4))),
        })
    }
    fn poison(&mut self, why: String) {
        self.poison.push(why);
    }
}

impl Context for Row {
    fn column(&self, index: usize) -> Evaluated {
        match COLUMNS[index].0 {
            "t" => Ok(Some(Datum::Bool(true))),
            "f" => Ok(Some(Datum::Bool(false))),
            "one" => Ok(Some(Datum::Int(1))),
            "zero" => Ok(Some(Datum::Int(0))),
            "gone" => Err(Stop::Missing(index)),
            "name" => Ok(Some(Datum::Text("x".into()))),
            _ => Ok(None),
        }
    }
    fn param(&self, _: usize) -> Evaluated {
        Err(Stop::ask("no parameters"))
    }
    fn relation(&self, index: usize) -> Result<&Relation, Stop> {
        Ok(&self.relations[index])
    }
    fn now(&self) -> i64 {
        0
    }
}

/// `t`, `f`, `u`: its truth value; `!`: raises; `?`: asks; `-`: the row lacks a column.
fn outcome(value: Result<Option<bool>, Stop>) -> char {
    match value {
        Ok(Some(true)) => 't',
        Ok(Some(false)) => 'f',
        Ok(None) => 'u',
        Err(Stop::Raise(_) | Stop::Raised(_)) => '!',
        Err(Stop::Ask(_) | Stop::Unavailable(_)) => '?',
        Err(Stop::Missing(_)) => '-',
    }
}

#[test]
fn truth_values_come_as_postgres_computes_them() {
    // The truth value, and whether it passes as a condition.
    for (text, truth, passes) in [
        ("t", 't', 't'),
        ("u", 'u', 'f'),
        ("(t AND u)", 'u', 'f'),
        ("(u AND f)", 'f', 'f'),
        ("(u OR t)", 't', 't'),
        ("(f OR u)", 'u', 'f'),
        ("(NOT u)", 'u', 'f'),
        ("row.t", 't', 't'),
        // A raise is not passed by, but where the one before it decides.
        ("(t OR ((1 / zero) = 1))", 't', 't'),
        ("(((1 / zero) = 1) OR t)", '!', '!'),
        ("(f AND ((1 / zero) = 1))", 'f', 'f'),
        // Of a top-level AND any operand may be first.
        ("(((1 / zero) = 1) AND f)", '!', 'f'),
        ("(((1 / zero) = 1) AND u)", '!', 'f'),
        ("(((1 / zero) = 1) AND t)", '!', '!'),
        ("(gone AND f)", '-', 'f'),
        ("(gone AND ((1 / zero) = 1))", '-', '!'),
        ("(opaque(one) AND gone)", '?', '-'),
        ("(NOT (((1 / zero) = 1) AND f))", '!', '!'),
        ("((((1 / zero) = 1) AND f) OR t)", '!', '!'),
        // What is not known is asked, unless it does not matter.
        ("opaque(one)", '?', '?'),
        ("(t OR opaque(one))", 't', 't'),
        ("(opaque(one) OR t)", '?', '?'),
        ("((opaque(one) + 1) = 2)", '?', '?'),
        ("(opaque(one) IS TRUE)", '?', '?'),
        // IS.
        ("(u IS UNKNOWN)", 't', 't'),
        ("(u IS NOT TRUE)", 't', 't'),
        ("(f IS NOT FALSE)", 'f', 'f'),
        ("(none IS NULL)", 't', 't'),
        ("(none IS NOT NULL)", 'f', 'f'),
        ("(one IS DISTINCT FROM none)", 't', 't'),
        ("(none IS NOT DISTINCT FROM NULL::integer)", 't', 't'),
        // Strict, and all arguments before that.
        ("((none + one) IS NULL)", 't', 't'),
        ("(((1 / zero) + none) IS NULL)", '!', '!'),
        ("((none = (1 / zero)) IS NULL)", '!', '!'),
        // The planner leaves out what a constant NULL decides.
        ("((NULL::integer = (1 / zero)) IS NULL)", 't', 't'),
        ("(((1 / zero) = 1) AND false)", 'f', 'f'),
        // CASE and its relatives stop early.
        ("CASE WHEN t THEN f ELSE ((1 / zero) = 1) END", 'f', 'f'),
        ("CASE WHEN u THEN t END", 'u', 'f'),
        ("CASE one WHEN 2 THEN f WHEN 1 THEN t END", 't', 't'),
        ("(COALESCE(none, one, (1 / zero)) = 1)", 't', 't'),
        ("(NULLIF(one, 1) IS NULL)", 't', 't'),
        ("(GREATEST(zero, none, one) = 1)", 't', 't'),
        ("(LEAST(zero, none, one) = 0)", 't', 't'),
        // ANY and ALL.
        ("(one = ANY (ARRAY[1, 2]))", 't', 't'),
        ("(one = ANY (ARRAY[2, NULL::integer]))", 'u', 'f'),
        ("(one <> ALL (ARRAY[2, NULL::integer]))", 'u', 'f'),
        ("(one <> ALL (ARRAY[1, NULL::integer]))", 'f', 'f'),
        ("(none = ANY ('{}'::integer[]))", 'f', 'f'),
        ("(none <> ALL ('{}'::integer[]))", 't', 't'),
        ("(one = ANY (NULL::integer[]))", 'u', 'f'),
        ("((ARRAY[one, 5])[2] = 5)", 't', 't'),
        ("((ARRAY[one, 5])[3] IS NULL)", 't', 't'),
        // Relations.
        ("(one IN ( SELECT r))", 't', 't'),
        ("(zero IN ( SELECT r))", 'f', 'f'),
        ("(one IN ( SELECT n))", 'u', 'f'),
        ("(NOT (one IN ( SELECT n)))", 'u', 'f'),
        ("(none IN ( SELECT r))", 'u', 'f'),
        ("(none IN ( SELECT e))", 'f', 'f'),
        ("((1 / zero) IN ( SELECT e))", 'f', 'f'),
        ("(one <> ALL ( SELECT r))", 'f', 'f'),
        ("(EXISTS ( SELECT n))", 't', 't'),
        ("(NOT (EXISTS ( SELECT e)))", 't', 't'),
        ("(( SELECT r) = 1)", 't', 't'),
        ("(( SELECT e) IS NULL)", 't', 't'),
        ("(( SELECT n) = 1)", '!', '!'),
        ("(one = ANY (ARRAY( SELECT r)))", 't', 't'),
    ] {
        let mut scope = row(Phase::Planned);
        let expr = compile(text, &mut scope);
        assert_eq!(outcome(expr.truth(&scope)), truth, "{text}: {expr:?}");
        assert_eq!(outcome(expr.passes(&scope).map(Some)), passes, "{text}: {expr:?}");
        assert!(scope.poison.is_empty(), "{text}: {:?}", scope.poison);
    }
}

#[test]
fn what_postgres_may_leave_out_inside_a_function_is_asked() {
    for (text, planned, unsure, executed) in [
        ("(((1 / zero) = 1) AND false)", 'f', '?', '!'),
        ("(((1 / zero) = 1) OR true)", 't', '?', '!'),
        ("(((1 / zero) = NULL::integer) IS NULL)", 't', '?', '!'),
        ("((one = NULL::integer) IS NULL)", 't', 't', 't'),
        ("(t OR true)", 't', 't', 't'),
    ] {
        for (phase, expected) in [
            (Phase::Planned, planned),
            (Phase::Unsure, unsure),
            (Phase::Executed, executed),
        ] {
            let mut scope = row(phase);
            let expr = compile(text, &mut scope);
            assert_eq!(outcome(expr.truth(&scope)), expected, "{text} {phase:?}");
        }
    }
}

#[test]
fn constants_that_have_no_value_spoil_everything() {
    for text in [
        "(t OR ((1 / 0) = 1))",
        "(((1 / 0) = 1) OR true)",
        "(t OR (unknown_to_us(1) = 1))",
        "(t OR (('x'::text)::integer = 1))",
        "CASE WHEN t THEN t ELSE ((1 / 0) = 1) END",
        // Postgres knows what these come to, and drops what stands beside them if they are true.
        "(t OR ('a'::text < 'b'::text))",
        "(t OR ('a'::text < ANY (ARRAY['b'::text])))",
        "(t OR ('(0,0)'::point ~= '(0,0)'::point))",
        "(t OR 'yes'::agreed)",
        "(t OR (GREATEST('a'::text, 'b'::text) = 'b'::text))",
        "(t OR ((one ? NULL::integer) IS NULL))",
        "(t OR ((opaque(one) = (NULL::integer + 1)) IS NULL))",
        "(t OR (public.opaque(opaque(one), (NULL::integer + 1)) IS NULL))",
        // Nothing of these is looked into.
        "(t OR (('{1,2}'::integer[])[1:(1 / 0)] IS NULL))",
        "(t OR (one OPERATOR(public.=) ANY (ARRAY[(1 / 0)])))",
        "(t OR (opaque(one) IN ( SELECT r)))",
        "(t OR (one < ANY ( SELECT r)))",
        "not understood (",
        // What is not known stands in front of what raises.
        "(t OR ((opaque(name) AT TIME ZONE (('x'::text)::integer)::text) IS NULL))",
        "(t OR (SUBSTRING(opaque(name) FROM (1 / 0)) IS NULL))",
        "(t OR CASE opaque(one) WHEN (1 / 0) THEN true END)",
        "(t OR CASE opaque(one) WHEN 1 THEN true ELSE ((1 / 0) = 1) END)",
        "(t OR CASE one WHEN opaque(one) THEN true WHEN (1 / 0) THEN false END)",
    ] {
        let mut scope = row(Phase::Planned);
        compile(text, &mut scope);
        assert!(!scope.poison.is_empty(), "{text}");
    }
    // Not looked at while planning, or nothing that comes to something there.
    for text in [
        "(t OR (point = '(0,0)'::point))",
        "(t OR (name < 'b'::text))",
        "(t OR (public.opaque(1) = one))",
        "(t OR (current_setting('x'::text) < 'b'::text))",
        "(true OR ((1 / 0) = 1))",
        "(false AND ((1 / 0) = 1))",
        "CASE WHEN true THEN t ELSE ((1 / 0) = 1) END",
        "CASE WHEN false THEN ((1 / 0) = 1) ELSE t END",
        "(COALESCE(1, (1 / 0)) = 1)",
    ] {
        let mut scope = row(Phase::Planned);
        compile(text, &mut scope);
        assert!(scope.poison.is_empty(), "{text}: {:?}", scope.poison);
    }
}

#[test]
fn constants_are_folded_and_chains_are_flat() {
    let folded = |text: &str| {
        let mut scope = row(Phase::Planned);
        compile(text, &mut scope)
    };
    assert_eq!(folded("((1 + 1) = 2)").as_truth(), Some(Some(true)));
    assert_eq!(
        folded("((5 = ANY (ARRAY[4, 5])) AND true)").as_truth(),
        Some(Some(true))
    );
    assert!(matches!(folded("(true AND t)").node, Node::Column(0)));
    assert!(matches!(&folded("((t AND f) AND (u AND true))").node, Node::And(all) if all.len() == 3));
    let long = vec!["t"; 900].join(" AND ");
    assert!(matches!(&folded(&long).node, Node::And(all) if all.len() == 900));
    let endless = vec!["t"; 10_000].join(" AND ");
    assert!(matches!(folded(&endless).node, Node::Stop(Stop::Ask(_))));
    let deep = format!("{}t{}", "(NOT ".repeat(5_000), ")".repeat(5_000));
    assert!(matches!(folded(&deep).node, Node::Stop(Stop::Ask(_))));
}

#[test]
fn only_what_postgres_prints_is_understood() {
    for text in [
        // Operators of others, or without the parentheses that would tell how they bind.
        "(one OPERATOR(public.=) 1)",
        "one + one = 2",
        "NOT t IS NULL",
        // Types that Postgres would have made equal with a cast in sight.
        "(name = 1)",
        "(ARRAY[1, 'x'::text] IS NULL)",
        "(one = 'untyped')",
        // Names that are not columns.
        "(ctid IS NULL)",
        "(row.* IS NULL)",
        "(other.t)",
        "(one = $1)",
        "(sum(one) > 1)",
        "(count(*) OVER () > 1)",
    ] {
        let mut scope = row(Phase::Planned);
        let expr = compile(text, &mut scope);
        assert_eq!(outcome(expr.passes(&scope).map(Some)), '?', "{text}: {expr:?}");
    }
    let mut scope = row(Phase::Planned);
    let expr = compile("(one OPERATOR(pg_catalog.=) 1)", &mut scope);
    assert_eq!(outcome(expr.passes(&scope).map(Some)), 't');
}

#[test]
fn two_collations_are_too_many() {
    let mut scope = row(Phase::Planned);
    let expr = compile("((name COLLATE \"C\") < 'y'::text)", &mut scope);
    assert_eq!(outcome(expr.truth(&scope)), 't');
    let Node::Compare(_, left, _) = &expr.node else {
        panic!("a comparison, not {expr:?}");
    };
    assert_eq!(left.collation, Collation::C);
    let expr = compile("((name COLLATE \"en_US\") < 'y'::text)", &mut scope);
    assert_eq!(outcome(expr.truth(&scope)), '?');
}
