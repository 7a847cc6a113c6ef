mod policies;

use std::sync::Arc;

use proptest::prelude::*;

use super::lookup::Lookup;
use super::paths::paths;
use crate::change::{Layout, LayoutColumn, Row, RowBuilder};
use crate::expression::{
    Array, Collation, Comparison, Datum, ElementTest, Expr, Is, Node, Relation, RowView, Stop, Ty,
};
use crate::postgres::catalog::testing::table as fixture;
use crate::postgres::catalog::{Column, Table};

/// Columns 0 and 1 are int4, 2 is bool, 3 is int4[].
fn types() -> Vec<Option<Ty>> {
    vec![
        Some(Ty::Int4),
        Some(Ty::Int4),
        Some(Ty::Bool),
        Some(Ty::Array(Box::new(Ty::Int4))),
    ]
}

fn table() -> Table {
    let column = |(i, name): (usize, &&str)| Column {
        attnum: i16::try_from(i).unwrap() + 1,
        name: Arc::from(*name),
        type_oid: 23,
        type_name: "int4".into(),
        collation: None,
        deterministic: true,
        not_null: false,
        generated: None,
    };
    Table {
        columns: ["a", "b", "c", "d"].iter().enumerate().map(column).collect(),
        ..fixture(1, "t")
    }
}

/// `None` in a cell is NULL, no cell is one that the row does not carry.
fn row(cells: &[Option<Option<String>>]) -> Row {
    let mut builder = RowBuilder::default();
    let mut columns = Vec::new();
    for (cell, name) in cells.iter().zip(["a", "b", "c", "d"]) {
        let Some(cell) = cell else { continue };
        columns.push(LayoutColumn {
            name: name.into(),
            type_oid: 0,
        });
        match cell {
            Some(text) => builder.text(text),
            None => builder.null(),
        }
    }
    builder.finish(Arc::new(Layout { columns }))
}

fn expr(node: Node, ty: Ty) -> Expr {
    Expr {
        node,
        ty,
        collation: Collation::Default,
    }
}

fn boolean(node: Node) -> Expr {
    expr(node, Ty::Bool)
}

fn int(value: Option<i64>) -> Expr {
    expr(Node::Const(value.map(Datum::Int)), Ty::Int4)
}

fn column(index: usize) -> Expr {
    expr(Node::Column(index), types()[index].clone().unwrap())
}

fn relation() -> Relation {
    let rows = [Some("1"), Some("3"), None].map(|cell| vec![cell.map(str::to_owned)]);
    Relation::read(&[Ty::Int4], rows.into()).unwrap()
}

fn pairs() -> Relation {
    let rows = [("1", "1"), ("2", "3")].map(|(a, b)| vec![Some(a.to_owned()), Some(b.to_owned())]);
    Relation::read(&[Ty::Int4, Ty::Int4], rows.into()).unwrap()
}

fn leaf() -> impl Strategy<Value = Expr> {
    let constant = || prop::option::weighted(0.9, 0..5_i64);
    let comparison = prop::sample::select(vec![
        Comparison::Eq,
        Comparison::Ne,
        Comparison::Lt,
        Comparison::Le,
        Comparison::Gt,
        Comparison::Ge,
    ]);
    prop_oneof![
        4 => (comparison, 0..2_usize, constant(), any::<bool>()).prop_map(|(comparison, index, value, flip)| {
            let (left, right) = (Box::new(column(index)), Box::new(int(value)));
            boolean(match flip {
                false => Node::Compare(comparison, left, right),
                true => Node::Compare(comparison, right, left),
            })
        }),
        1 => Just(boolean(Node::Compare(Comparison::Eq, Box::new(column(0)), Box::new(column(1))))),
        1 => any::<Option<bool>>().prop_map(|value| boolean(Node::Const(value.map(Datum::Bool)))),
        2 => Just(column(2)),
        1 => any::<bool>().prop_map(|value| {
            let default = boolean(Node::Const(Some(Datum::Bool(value))));
            boolean(Node::Coalesce(vec![column(2), default]))
        }),
        1 => (any::<bool>(), any::<bool>()).prop_map(|(value, unequal)| {
            let comparison = if unequal { Comparison::Ne } else { Comparison::Eq };
            let value = boolean(Node::Const(Some(Datum::Bool(value))));
            boolean(Node::Compare(comparison, Box::new(column(2)), Box::new(value)))
        }),
        3 => (0..4_usize).prop_map(|index| boolean(Node::Is(Is::Null, Box::new(column(index))))),
        1 => (0..2_usize, constant(), any::<bool>()).prop_map(|(index, value, flip)| {
            let (left, right) = (Box::new(column(index)), Box::new(int(value)));
            boolean(match flip {
                false => Node::Distinct(left, right),
                true => Node::Distinct(right, left),
            })
        }),
        1 => (0..2_usize, prop::collection::vec(constant(), 0..3)).prop_map(|(index, values)| {
            let dimensions = if values.is_empty() { Vec::new() } else { vec![(values.len(), 1)] };
            let elements = values.into_iter().map(|value| value.map(Datum::Int)).collect();
            let array = Node::Const(Some(Datum::Array(Arc::new(Array { dimensions, elements }))));
            any_element(column(index), expr(array, Ty::Array(Box::new(Ty::Int4))))
        }),
        1 => constant().prop_map(|value| any_element(int(value), column(3))),
        1 => (0..2_usize, any::<bool>()).prop_map(|(index, exists)| {
            boolean(Node::In { keys: vec![column(index)], relation: 0, exists })
        }),
        1 => constant().prop_map(|value| {
            boolean(Node::In { keys: vec![column(0), int(value)], relation: 1, exists: true })
        }),
        1 => Just(boolean(Node::In { keys: vec![column(0), column(1)], relation: 1, exists: true })),
    ]
}

fn any_element(left: Expr, array: Expr) -> Expr {
    boolean(Node::AnyElement {
        left: Box::new(left),
        test: ElementTest::Compare(Comparison::Eq),
        array: Box::new(array),
        all: false,
    })
}

fn predicate() -> impl Strategy<Value = Expr> {
    leaf().prop_recursive(4, 24, 4, |inner| {
        let several = || prop::collection::vec(inner.clone(), 1..4);
        prop_oneof![
            several().prop_map(|all| boolean(Node::And(all))),
            several().prop_map(|any| boolean(Node::Or(any))),
            inner.clone().prop_map(|one| boolean(Node::Not(Box::new(one)))),
            (is(), inner.clone()).prop_map(|(is, one)| boolean(Node::Is(is, Box::new(one)))),
        ]
    })
}

fn is() -> impl Strategy<Value = Is> {
    prop::sample::select(vec![Is::Null, Is::True, Is::False, Is::Unknown])
}

struct Whole<'a> {
    row: RowView<'a>,
    relations: [Relation; 2],
}

impl crate::expression::Context for Whole<'_> {
    fn column(&self, index: usize) -> crate::expression::Evaluated {
        self.row.value(index)
    }

    fn param(&self, _: usize) -> crate::expression::Evaluated {
        Err(Stop::ask("none"))
    }

    fn relation(&self, index: usize) -> Result<&Relation, Stop> {
        self.relations.get(index).ok_or_else(|| Stop::ask("none"))
    }

    fn now(&self) -> i64 {
        0
    }
}

/// Whether looking the row up leads to the predicate; `None` if it is looked at for every row.
fn found(predicate: &Expr, row: &RowView<'_>, relations: &[Relation; 2]) -> Option<bool> {
    let held = |index: usize| relations.get(index).ok_or_else(|| Stop::ask("none"));
    let ways = paths(predicate, &held)?;
    let mut found = Vec::new();
    for path in &ways {
        let mut lookup = Lookup::new(path.by().clone());
        lookup.insert(path, 7);
        lookup.find(row, &mut found);
        lookup.remove(path, 7);
        assert!(lookup.is_empty(), "{path:?}");
    }
    Some(!found.is_empty())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4096))]

    #[test]
    fn what_passes_is_found(
        predicate in predicate(),
        a in prop::option::of(prop::option::of(0..5_i64)),
        b in prop::option::of(prop::option::of(0..5_i64)),
        c in prop::option::of(prop::option::of(any::<bool>())),
        d in prop::option::of(prop::option::of(prop::collection::vec(0..5_i64, 0..3))),
    ) {
        let (table, types) = (table(), types());
        let d = d.map(|d| d.map(|d| format!("{{{}}}", d.iter().map(i64::to_string).collect::<Vec<_>>().join(","))));
        let row = row(&[
            a.map(|a| a.map(|a| a.to_string())),
            b.map(|b| b.map(|b| b.to_string())),
            c.map(|c| c.map(|c| if c { "t" } else { "f" }.to_owned())),
            d,
        ]);
        let whole = Whole { row: RowView::new(&table, &types, &row), relations: [relation(), pairs()] };
        if predicate.passes(&whole) == Ok(true) {
            prop_assert_ne!(found(&predicate, &whole.row, &whole.relations), Some(false));
        }
    }
}

#[test]
fn rows_are_looked_up_where_that_is_possible() {
    let equal = |index, value| {
        boolean(Node::Compare(
            Comparison::Eq,
            Box::new(column(index)),
            Box::new(int(Some(value))),
        ))
    };
    let above = |value| {
        boolean(Node::Compare(
            Comparison::Gt,
            Box::new(column(1)),
            Box::new(int(Some(value))),
        ))
    };
    let below = |value| {
        boolean(Node::Compare(
            Comparison::Lt,
            Box::new(column(1)),
            Box::new(int(Some(value))),
        ))
    };
    let member = boolean(Node::In {
        keys: vec![column(0)],
        relation: 0,
        exists: false,
    });
    let relations = [relation(), pairs()];
    let (table, types) = (table(), types());
    let hit = |predicate: &Expr, a: &str, b: &str| {
        let row = row(&[Some(Some(a.to_owned())), Some(Some(b.to_owned()))]);
        found(predicate, &RowView::new(&table, &types, &row), &relations)
    };
    let and = |all: Vec<Expr>| boolean(Node::And(all));
    let or = |any: Vec<Expr>| boolean(Node::Or(any));
    assert_eq!(hit(&equal(0, 1), "1", "0"), Some(true));
    assert_eq!(hit(&equal(0, 1), "2", "0"), Some(false));
    assert_eq!(hit(&and(vec![above(1), equal(0, 1)]), "2", "9"), Some(false));
    assert_eq!(hit(&or(vec![equal(0, 1), equal(1, 2)]), "3", "2"), Some(true));
    assert_eq!(hit(&or(vec![equal(0, 1), equal(1, 2)]), "3", "3"), Some(false));
    for (b, inside) in [("1", false), ("2", true), ("4", true), ("5", false)] {
        assert_eq!(hit(&and(vec![above(1), below(5)]), "0", b), Some(inside), "{b}");
    }
    assert_eq!(hit(&member, "3", "0"), Some(true));
    assert_eq!(hit(&member, "2", "0"), Some(false));
    // What the row does not carry may be anything.
    let nothing = row(&[]);
    let nothing = RowView::new(&table, &types, &nothing);
    for predicate in [equal(0, 1), above(1), member, or(vec![equal(0, 1), equal(1, 2)])] {
        assert_eq!(
            found(&predicate, &nothing, &relations),
            Some(true),
            "{predicate:?}"
        );
    }
}

fn equals(left: Expr, right: Expr) -> Expr {
    boolean(Node::Compare(Comparison::Eq, Box::new(left), Box::new(right)))
}

/// Which rows of `(a, c)` are found: `a` 1, 2 and NULL, each with `c` true, false and NULL; `None` if all are looked at.
fn found_of(predicate: &Expr) -> Option<Vec<String>> {
    let (table, types) = (table(), types());
    let relations = [relation(), pairs()];
    let mut all = Vec::new();
    for a in [Some("1"), Some("2"), None] {
        for c in [Some("t"), Some("f"), None] {
            let text = |cell: Option<&str>| Some(cell.map(str::to_owned));
            let row = row(&[text(a), None, text(c)]);
            if found(predicate, &RowView::new(&table, &types, &row), &relations)? {
                all.push(format!("{}{}", a.unwrap_or("-"), c.unwrap_or("-")));
            }
        }
    }
    Some(all)
}

#[test]
fn rows_are_looked_up_by_null_and_by_truth() {
    let is = |is, of| boolean(Node::Is(is, Box::new(of)));
    let not = |one| boolean(Node::Not(Box::new(one)));
    let or = |any: [Expr; 2]| boolean(Node::Or(any.into()));
    let own = || equals(column(0), int(Some(1)));
    let truth = |value| boolean(Node::Const(Some(Datum::Bool(value))));
    let cases = [
        (or([is(Is::Null, column(0)), own()]), "1t 1f 1- -t -f --"),
        (or([column(2), own()]), "1t 1f 1- 2t -t"),
        (or([not(column(2)), own()]), "1t 1f 1- 2f -f"),
        (or([equals(column(2), truth(true)), own()]), "1t 1f 1- 2t -t"),
        (or([not(is(Is::True, column(2))), own()]), "1t 1f 1- 2f 2- -f --"),
        (or([is(Is::False, column(2)), own()]), "1t 1f 1- 2f -f"),
        (or([is(Is::Unknown, column(2)), own()]), "1t 1f 1- 2- --"),
        (not(or([not(column(2)), not(own())])), "1t 1f 1-"),
        (boolean(Node::Coalesce(vec![column(2), truth(false)])), "1t 2t -t"),
        (not(is(Is::Null, column(2))), "1t 1f 2t 2f -t -f"),
    ];
    for (predicate, expected) in cases {
        let found = found_of(&predicate).expect("a way").join(" ");
        assert_eq!(found, expected, "{predicate:?}");
    }
    assert_eq!(found_of(&or([not(own()), is(Is::Null, column(0))])), None);
}

#[test]
fn rows_are_looked_up_by_what_fewer_have() {
    let and = |all: [Expr; 2]| boolean(Node::And(all.into()));
    let own = || equals(column(0), int(Some(1)));
    let not_archived = || boolean(Node::Not(Box::new(column(2))));
    let not_deleted = || boolean(Node::Is(Is::Null, Box::new(column(1))));
    for common in [not_archived(), not_deleted()] {
        for both in [and([common.clone(), own()]), and([own(), common])] {
            assert_eq!(found_of(&both).expect("a way").join(" "), "1t 1f 1-", "{both:?}");
        }
    }
}

#[test]
fn rows_are_looked_up_by_a_filter_and_a_policy_together() {
    let and = |all: Vec<Expr>| boolean(Node::And(all));
    let equal = |index, value| equals(column(index), int(Some(value)));
    let member = |index, relation| {
        boolean(Node::In {
            keys: vec![column(index)],
            relation,
            exists: true,
        })
    };
    let relations = [relation(), pairs()];
    let (table, types) = (table(), types());
    let hit = |predicate: &Expr, a: Option<&str>, b: Option<&str>| {
        let row = row(&[Some(a.map(str::to_owned)), Some(b.map(str::to_owned))]);
        found(predicate, &RowView::new(&table, &types, &row), &relations)
    };
    let with_policy = and(vec![equal(0, 1), above(1), equal(1, 2)]);
    let with_membership = and(vec![equal(1, 2), member(0, 0)]);
    let never = and(vec![equal(0, 1), equals(column(1), int(None)), equal(1, 2)]);
    for (a, b, both, of) in [
        (Some("1"), Some("2"), true, true),
        (Some("1"), Some("3"), false, false),
        (Some("3"), Some("2"), false, true),
        (Some("2"), Some("2"), false, false),
        (None, Some("2"), false, false),
        (Some("1"), None, false, false),
    ] {
        assert_eq!(hit(&with_policy, a, b), Some(both), "{a:?} {b:?}");
        assert_eq!(hit(&with_membership, a, b), Some(of), "{a:?} {b:?}");
        assert_eq!(hit(&never, a, b), Some(false), "{a:?} {b:?}");
    }
    assert_eq!(
        hit(&and(vec![equal(0, 1), equal(0, 2)]), Some("3"), None),
        Some(false)
    );
}

fn above(value: i64) -> Expr {
    boolean(Node::Compare(
        Comparison::Gt,
        Box::new(column(1)),
        Box::new(int(Some(value))),
    ))
}
