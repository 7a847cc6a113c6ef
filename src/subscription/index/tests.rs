use std::sync::Arc;

use proptest::prelude::*;

use super::lookup::Lookup;
use super::paths::{Path, paths};
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
        1 => Just(column(2)),
        1 => (0..2_usize).prop_map(|index| boolean(Node::Is(Is::Null, Box::new(column(index))))),
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
            inner
                .clone()
                .prop_map(|one| boolean(Node::Is(Is::True, Box::new(one)))),
        ]
    })
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
        let (Path::Equal { by, .. } | Path::Range { by, .. }) = path;
        let mut lookup = Lookup::new(by.clone());
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
