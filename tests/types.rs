//! Rows arrive as `to_jsonb` prints them, for every family of types.

use std::collections::HashMap;

use serde_json::{Value, json};

use crate::support::{Client, Database, Server, Version, token};

/// Column type and values, as SQL literals. NaN and infinities of numbers are left out: wal2json 2.5 prints null.
const TYPES: &[(&str, &[&str])] = &[
    ("bool", &["true", "false"]),
    ("int2", &["-32768", "32767"]),
    ("int4", &["-2147483648", "0"]),
    ("int8", &["9007199254740993", "-9223372036854775808"]),
    (
        "numeric",
        &[
            "1.50",
            "-0.000",
            "123456789012345678901234567890.123456789",
            "1e10",
        ],
    ),
    ("numeric(10,2)", &["3.1", "-7"]),
    ("float4", &["1.5", "1e20", "1.17549435e-38", "-0"]),
    (
        "float8",
        &["0.1", "1e300", "5e-324", "-1.7e308", "123456789.125", "-0"],
    ),
    ("money", &["12.34"]),
    (
        "text",
        &[
            "''",
            "'a'",
            r#"E'tab\t newline\n quote\" back\\slash \x01 é 漢 😀'"#,
            "'null'",
        ],
    ),
    ("varchar(10)", &["'abc'"]),
    ("char(5)", &["'ab'"]),
    ("\"char\"", &["'x'"]),
    ("name", &["'some_name'"]),
    ("bytea", &["'\\x0102ff'", "''"]),
    ("uuid", &["'A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11'"]),
    ("date", &["'2026-01-02'", "'0044-03-15 BC'", "'infinity'"]),
    ("time", &["'03:04:05.678'", "'24:00:00'"]),
    ("timetz", &["'03:04:05+02'"]),
    (
        "timestamp",
        &[
            "'2026-01-02 03:04:05.678901'",
            "'-infinity'",
            "'0044-03-15 01:02:03 BC'",
        ],
    ),
    (
        "timestamptz",
        &[
            "'2026-01-02 03:04:05+05:30'",
            "'infinity'",
            "'12345-01-01 00:00:00+00'",
        ],
    ),
    ("interval", &["'1 year 2 mons 3 days 04:05:06.7'", "'-1 day'"]),
    (
        "json",
        &[r#"'{"a": [1, 2.50, null, "x"]}'"#, "'null'", "'\"text\"'"],
    ),
    ("jsonb", &[r#"'{"b": {"c": true}, "a": 1e2}'"#, "'null'", "'[]'"]),
    ("xml", &["'<a>1</a>'"]),
    ("inet", &["'10.0.0.1'", "'10.0.0.0/8'", "'::1'"]),
    ("cidr", &["'10.0.0.0/8'"]),
    ("macaddr", &["'08:00:2b:01:02:03'"]),
    ("bit(4)", &["B'1010'"]),
    ("varbit", &["B'101'", "B''"]),
    ("oid", &["42"]),
    ("regclass", &["'pg_class'"]),
    ("pg_lsn", &["'16/B374D848'"]),
    ("point", &["'(1,2.5)'"]),
    ("box", &["'(2,2),(1,1)'"]),
    ("tsvector", &["'a:1 b:2'"]),
    ("int4range", &["'[1,5)'", "'empty'"]),
    ("tstzrange", &["'[2026-01-01 00:00+00,)'"]),
    ("int4multirange", &["'{[1,3),[5,6)}'"]),
    (
        "int4[]",
        &["'{}'", "'{1,NULL,3}'", "'{{1,2},{3,4}}'", "'[0:1]={5,6}'"],
    ),
    ("text[]", &[r#"'{a,"NULL","b,c","d\"e\\f","",NULL," g "}'"#]),
    ("bool[]", &["'{t,f,NULL}'"]),
    ("float8[]", &["'{1e20,0.5,NaN}'"]),
    ("timestamptz[]", &["'{2026-01-02 03:04:05+00,infinity}'"]),
    ("jsonb[]", &[r#"array['{"a": "x,y"}'::jsonb, 'null']"#]),
    ("bytea[]", &[r"array['\x01'::bytea, '\xff']"]),
    ("uuid[]", &["array['a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11'::uuid]"]),
    ("box[]", &["array['(2,2),(1,1)'::box, '(4,4),(3,3)']"]),
    ("mood", &["'so so'", "'happy'"]),
    ("mood[]", &["'{happy,\"so so\"}'"]),
    ("positive", &["7"]),
    ("positive[]", &["'{1,2}'"]),
    ("numbers", &["'{1,2}'"]),
    ("stamp", &["'2026-01-02 03:04:05+00'"]),
    ("document", &[r#"'{"k": null}'"#]),
    ("flag", &["true"]),
    ("blob", &["'\\xab'"]),
    (
        "pair",
        &[
            r#"row(1, 'a "b", \c', '{1,2}', '2026-01-02 03:04:05+00')"#,
            "row(null, '', null, null)",
        ],
    ),
    ("pair[]", &[r#"array[row(1, 'x,y', '{}', null)::pair, null]"#]),
    (
        "nested",
        &["row(row(1, 'x', null, null)::pair, array['happy'::mood])"],
    ),
    ("hstore", &[r#"'a=>1, b=>NULL'"#]),
    ("citext", &["'MiXed'"]),
];

const SCHEMA: &str = r#"
    create extension hstore; create extension citext;
    create type mood as enum ('happy', 'so so');
    create domain whole as int4; create domain positive as whole check (value > 0);
    create domain numbers as int4[]; create domain stamp as timestamptz; create domain document as jsonb;
    create domain flag as bool; create domain blob as bytea;
    create type pair as (n int4, t text, a int4[], "At Time" timestamptz);
    create type nested as (p pair, m mood[]);
"#;

#[tokio::test(flavor = "multi_thread")]
async fn every_type_arrives_as_to_jsonb_prints_it() {
    let db = Database::new().await;
    db.execute(SCHEMA).await;
    db.execute("create table t (id int primary key)").await;
    for (i, (ty, _)) in TYPES.iter().enumerate() {
        db.execute(&format!("alter table t add c{i} {ty}")).await;
    }
    db.execute("alter table t replica identity full; alter publication supabase_realtime add table t")
        .await;
    let server = Server::start(&db).await;
    let mut client = Client::connect(&server, Version::V2, &token::token("service_role", json!({}))).await;
    client
        .subscribe("t", json!([{"event": "*", "schema": "public", "table": "t"}]))
        .await;

    let mut id = 0;
    let mut live = HashMap::new();
    for (i, (ty, values)) in TYPES.iter().enumerate() {
        for value in *values {
            id += 1;
            db.execute(&format!("insert into t (id, c{i}) values ({id}, {value})"))
                .await;
            let expected = as_postgres_prints(&db, id, i, ty).await;
            let data = client.data().await;
            assert_eq!(data["record"][format!("c{i}")], expected, "{ty} {value}");
            live.insert(i64::from(id), data["record"].clone());
            let columns = data["columns"].as_array().expect("columns");
            let typname = db
                .text(&format!("select atttypid::regtype::oid::text from pg_attribute where attrelid = 't'::regclass and attname = 'c{i}'"))
                .await;
            let typname = db
                .text(&format!(
                    "select typname::text from pg_type where oid = {typname}"
                ))
                .await;
            assert!(
                columns.contains(&json!({"name": format!("c{i}"), "type": typname})),
                "{ty} {columns:?}"
            );
        }
    }
    // The same values as rows of a snapshot.
    let mut other = Client::connect(&server, Version::V2, &token::token("service_role", json!({}))).await;
    let binding = json!({"event": "*", "schema": "public", "table": "t", "snapshot": true});
    other.join("t", json!({"postgres_changes": [binding]})).await;
    for _ in 0..id {
        let mut data = other.data().await;
        let id = data["record"]["id"].as_i64().expect("an id");
        assert_eq!(data["snapshot"], true, "{data}");
        assert_eq!(Some(&data["record"].take()), live.get(&id));
    }
    // And once more as old rows.
    db.execute("delete from t").await;
    let mut deleted = 0;
    while deleted < id {
        let data = client.data().await;
        assert_eq!(data["type"], "DELETE");
        deleted += 1;
    }
    server.stop().await;
}

/// The column as `to_jsonb` prints it, but for bytea, which clients of this protocol know as bare hex.
async fn as_postgres_prints(db: &Database, id: i32, column: usize, ty: &str) -> Value {
    let expression = if matches!(ty, "bytea" | "blob") {
        format!("to_jsonb(encode(c{column}, 'hex'))")
    } else {
        format!("to_jsonb(c{column})")
    };
    let sql =
        format!("set timezone = 'UTC'; select coalesce({expression}, 'null')::text from t where id = {id}");
    let (set, select) = sql.split_once("; ").expect("two statements");
    db.execute(set).await;
    serde_json::from_str(&db.text(select).await).expect("json")
}

#[tokio::test(flavor = "multi_thread")]
async fn digits_are_not_lost() {
    let db = Database::new().await;
    db.execute(
        "create table n (id int8 primary key, v numeric); alter publication supabase_realtime add table n",
    )
    .await;
    let server = Server::start(&db).await;
    let mut client = Client::connect(&server, Version::V1, &token::token("service_role", json!({}))).await;
    client
        .subscribe(
            "n",
            json!([{"event": "INSERT", "schema": "public", "table": "n"}]),
        )
        .await;
    db.execute("insert into n values (9007199254740993, 1.10)").await;
    let frame = client.raw_text_containing("9007199254740993").await;
    assert!(frame.contains("\"id\":9007199254740993"), "{frame}");
    assert!(frame.contains("\"v\":1.10"), "{frame}");
    server.stop().await;
}
