use serde_json::json;

use super::{Map, Rehearsal, RehearsalError, Value};
use crate::change;
use crate::postgres::catalog;
use crate::postgres::testing::Cluster;

fn object(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(map) => map,
        other => panic!("{other} is no object"),
    }
}

#[tokio::test]
async fn values_are_in_text_output_form_and_nothing_stays() {
    let (_, mut db) = Cluster::shared().database().await;
    db.batch_execute(
        "create type pair as (a int, b text);
         create domain small as int check (value < 10);
         create table t (\"a B\" bool, c char(4), i inet, l text[], j jsonb, z timestamptz, p pair, e pair, n numeric,
                         s small, x bytea, \"%\" text);
         create table other (v int);
         create publication p for table t;",
    )
    .await
    .unwrap();
    let catalog = catalog::load(&mut db, "p").await.unwrap();
    let table = catalog.tables.values().next().unwrap();
    let rehearsal = Rehearsal::begin(&mut db).await.unwrap();
    let setup = "insert into other values (1)".to_owned();
    rehearsal.prepare(&[setup]).await.unwrap();
    let row = rehearsal
        .row(
            table,
            &object(json!({
                "a B": true, "c": "x", "i": "10.0.0.1", "l": ["a", null], "j": {"k": [1]},
                "z": "2026-01-02T03:04:05+02:00", "p": {"a": 1, "b": null}, "e": {"a": null, "b": null},
                "n": "1.50", "x": "\\x00ff", "%": "%s",
            })),
        )
        .await
        .unwrap();
    let expected = [
        ("a B", Some("t")),
        ("c", Some("x   ")),
        ("i", Some("10.0.0.1")),
        ("l", Some("{a,NULL}")),
        ("j", Some("{\"k\": [1]}")),
        ("z", Some("2026-01-02 01:04:05+00")),
        ("p", Some("(1,)")),
        ("e", Some("(,)")),
        ("n", Some("1.50")),
        ("s", None),
        ("x", Some("\\x00ff")),
        ("%", Some("%s")),
    ];
    for (column, value) in expected {
        let value = value.map_or(change::Value::Null, change::Value::Text);
        assert_eq!(row.get(column), Some(value), "{column}");
    }
    let writes = rehearsal
        .transaction
        .batch_execute("insert into other values (2)")
        .await;
    assert!(writes.is_err(), "only a setup writes");
    rehearsal.reset().await.unwrap();

    for (values, text) in [
        (json!({"nothing": 1}), "public.t has no column nothing"),
        (json!({"s": 11}), "violates check constraint"),
        (json!({"n": "x"}), "invalid input syntax for type numeric"),
    ] {
        rehearsal.prepare(&[]).await.unwrap();
        let error = rehearsal.row(table, &object(values)).await.unwrap_err();
        assert!(error.to_string().contains(text), "{error}");
        rehearsal.reset().await.unwrap();
    }
    // One statement at a time, so that none can end the transaction behind another.
    let two = "select 1; commit".to_owned();
    let error = rehearsal.prepare(&[two]).await.unwrap_err();
    assert!(matches!(error, RehearsalError::Refused { .. }), "{error}");
    rehearsal.reset().await.unwrap();
    drop(rehearsal);
    let left = "select count(*)::int, to_regnamespace('rowcast') is null from other";
    let row = db.query_one(left, &[]).await.unwrap();
    assert_eq!((row.get::<_, i32>(0), row.get::<_, bool>(1)), (0, true));
}
