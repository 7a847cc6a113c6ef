use std::sync::Arc;

use super::*;
use crate::change::{Layout, LayoutColumn, Row, RowBuilder, Value};
use crate::expression::column_types;
use crate::postgres::catalog::testing::table as fixture;
use crate::postgres::catalog::{Column, Type, TypeKind};

fn types() -> Types {
    let t = |oid, sql: &str, kind| {
        (
            oid,
            Type {
                oid,
                name: Arc::from(sql),
                sql: Arc::from(sql),
                kind,
                json_cast: false,
            },
        )
    };
    Types(
        [
            t(16, "pg_catalog.bool", TypeKind::Base),
            t(23, "pg_catalog.int4", TypeKind::Base),
            t(25, "pg_catalog.text", TypeKind::Base),
            t(1184, "pg_catalog.timestamptz", TypeKind::Base),
            t(1700, "pg_catalog.\"numeric\"", TypeKind::Base),
            t(
                1007,
                "pg_catalog._int4",
                TypeKind::Array {
                    element: 23,
                    delimiter: ',',
                },
            ),
            t(3802, "pg_catalog.jsonb", TypeKind::Base),
        ]
        .into(),
    )
}

fn table(type_oid: u32) -> Table {
    Table {
        columns: vec![Column {
            attnum: 1,
            name: Arc::from("va\"l"),
            type_oid,
            type_name: Arc::from("t"),
            collation: None,
            deterministic: true,
            not_null: false,
            generated: None,
        }],
        primary_key: vec![0],
        ..fixture(1, "t")
    }
}

fn row(value: Value<'_>) -> Row {
    let layout = Layout {
        columns: vec![LayoutColumn {
            name: Arc::from("va\"l"),
            type_oid: 0,
        }],
    };
    let mut row = RowBuilder::default();
    match value {
        Value::Null => row.null(),
        Value::Unchanged => row.unchanged(),
        Value::Text(text) => row.text(text),
    }
    row.finish(Arc::new(layout))
}

fn condition(operator: Operator, values: &[Option<&str>]) -> Condition {
    let values: Vec<_> = values.iter().map(|v| v.map(str::to_owned)).collect();
    Condition {
        column: 0,
        operator,
        negate: false,
        canonical: values.clone(),
        values,
        is: None,
    }
}

fn outcome(condition: &Condition, type_oid: u32, value: Value<'_>) -> Outcome {
    outcome_of(condition, type_oid, &row(value))
}

fn outcome_of(condition: &Condition, type_oid: u32, row: &Row) -> Outcome {
    let (table, types) = (table(type_oid), types());
    let expr = condition.expr(&table, &types, DefaultCollation::Plain);
    judge(&expr, &RowView::new(&table, &column_types(&table, &types), row))
}

#[test]
fn null_never_passes_a_comparison_nor_its_negation() {
    for negate in [false, true] {
        for operator in [Operator::Eq, Operator::Neq, Operator::Lt, Operator::In] {
            let condition = Condition {
                negate,
                ..condition(operator, &[Some("1")])
            };
            assert_eq!(
                outcome(&condition, 23, Value::Null),
                Outcome::Fail,
                "{operator:?} {negate}"
            );
        }
    }
}

#[test]
fn distinct_treats_null_as_a_value() {
    let distinct = condition(Operator::IsDistinct, &[Some("1")]);
    assert_eq!(outcome(&distinct, 23, Value::Null), Outcome::Pass);
    assert_eq!(outcome(&distinct, 23, Value::Text("1")), Outcome::Fail);
    let same = Condition {
        negate: true,
        ..distinct
    };
    assert_eq!(outcome(&same, 23, Value::Null), Outcome::Fail);
    assert_eq!(outcome(&same, 23, Value::Text("1")), Outcome::Pass);
}

#[test]
fn a_null_in_the_list_makes_not_in_unknown() {
    let list = condition(Operator::In, &[Some("1"), None]);
    assert_eq!(outcome(&list, 23, Value::Text("1")), Outcome::Pass);
    assert_eq!(outcome(&list, 23, Value::Text("2")), Outcome::Fail);
    let not = Condition { negate: true, ..list };
    assert_eq!(outcome(&not, 23, Value::Text("2")), Outcome::Fail);
}

#[test]
fn an_absent_column_fails_whatever_is_asked() {
    let is_null = Condition {
        is: Some(Is::Null),
        operator: Operator::Is,
        ..condition(Operator::Eq, &[])
    };
    assert_eq!(outcome(&is_null, 23, Value::Null), Outcome::Pass);
    for negate in [false, true] {
        let condition = Condition {
            negate,
            ..is_null.clone()
        };
        assert_eq!(outcome(&condition, 23, Value::Unchanged), Outcome::Fail);
        let empty = RowBuilder::default().finish(Arc::new(Layout { columns: Vec::new() }));
        assert_eq!(outcome_of(&condition, 23, &empty), Outcome::Fail);
    }
}

#[test]
fn is_true_and_false_and_unknown() {
    let is = |is, negate| Condition {
        is: Some(is),
        negate,
        operator: Operator::Is,
        ..condition(Operator::Eq, &[])
    };
    for (asked, negate, t, f, null) in [
        (Is::True, false, true, false, false),
        (Is::False, false, false, true, false),
        (Is::Unknown, false, false, false, true),
        (Is::True, true, false, true, true),
        (Is::Null, true, true, true, false),
    ] {
        let condition = is(asked, negate);
        let got = |value| outcome(&condition, 16, value) == Outcome::Pass;
        assert_eq!(
            (got(Value::Text("t")), got(Value::Text("f")), got(Value::Null)),
            (t, f, null),
            "{asked:?} {negate}"
        );
    }
}

#[test]
fn numbers_compare_by_value() {
    let at_least = condition(Operator::Gte, &[Some("1.50")]);
    assert_eq!(outcome(&at_least, 1700, Value::Text("1.5")), Outcome::Pass);
    assert_eq!(
        outcome(&at_least, 1700, Value::Text("1.49999999999999999999")),
        Outcome::Fail
    );
    assert_eq!(
        outcome(&condition(Operator::Lt, &[Some("10")]), 23, Value::Text("9")),
        Outcome::Pass
    );
}

#[test]
fn what_is_not_proven_equal_is_asked() {
    // Text orders by the database's locale.
    let less = condition(Operator::Lt, &[Some("x")]);
    assert_eq!(outcome(&less, 25, Value::Text("x")), Outcome::Ask);
    let unknown = condition(Operator::Eq, &[Some("x")]);
    assert_eq!(outcome(&unknown, 9999, Value::Text("x")), Outcome::Ask);
}

#[test]
fn sql_binds_values_and_quotes_names() {
    let sql = |type_oid, operator, values: &[Option<&str>], negate| {
        let condition = Condition {
            negate,
            ..condition(operator, values)
        };
        condition.sql(&table(type_oid), &types(), "v", 3)
    };
    assert_eq!(
        sql(25, Operator::Like, &[Some("'; drop")], true).as_deref(),
        Some(r#"not ("va""l" ~~ (v[3])::pg_catalog.text)"#)
    );
    assert_eq!(
        sql(23, Operator::In, &[Some("1"), None], false).as_deref(),
        Some(r#"("va""l" = any (array[(v[3])::pg_catalog.int4, (v[4])::pg_catalog.int4]))"#)
    );
    assert_eq!(
        sql(1007, Operator::In, &[Some("{1}"), Some("{2}")], false).as_deref(),
        Some(r#"("va""l" = (v[3])::pg_catalog._int4 or "va""l" = (v[4])::pg_catalog._int4)"#)
    );
}
