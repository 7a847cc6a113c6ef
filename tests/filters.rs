//! Filters mean what SQL means: what a subscription gets is what `SELECT … WHERE` returns.

use serde_json::{Value, json};

use crate::support::{Client, Database, Server, Version, token};

/// Column, filter (after `column=`), and the WHERE clause that means the same.
const FILTERS: &[(&str, &str, &str)] = &[
    ("i", "eq.2", "i = 2"),
    ("i", "neq.2", "i != 2"),
    ("i", "not.eq.2", "not (i = 2)"),
    ("i", "lt.10", "i < 10"),
    ("i", "lte.2", "i <= 2"),
    ("i", "gt.2", "i > 2"),
    ("i", "gte.10", "i >= 10"),
    ("i", "in.(1, 10)", "i = any('{1,10}')"),
    ("i", "not.in.(1,10)", "not (i = any('{1,10}'))"),
    ("i", "in.(1,null)", "i = any('{1,null}')"),
    ("i", "not.in.(1,null)", "not (i = any('{1,null}'))"),
    ("i", "in.()", "i = any('{}')"),
    ("i", "is.null", "i is null"),
    ("i", "not.is.null", "i is not null"),
    ("i", "isdistinct.2", "i is distinct from 2"),
    ("i", "not.isdistinct.2", "i is not distinct from 2"),
    ("n", "eq.1.5", "n = 1.5"),
    ("n", "gt.9.99", "n > 9.99"),
    ("n", "lt.-1", "n < -1"),
    ("n", "in.(1.500,-2)", "n = any('{1.500,-2}')"),
    ("f", "eq.0.1", "f = 0.1"),
    ("f", "gte.1e3", "f >= 1e3"),
    ("f", "eq.0", "f = 0"),
    ("t", "eq.b", "t = 'b'"),
    ("t", "eq.\"a, (b)\"", "t = 'a, (b)'"),
    ("t", "in.(b,\"a, (b)\")", "t = any(array['b', 'a, (b)'])"),
    ("t", "gt.B", "t > 'B'"),
    ("t", "lte.b", "t <= 'b'"),
    ("t", "like.%b%", "t like '%b%'"),
    ("t", "not.like.%b%", "t not like '%b%'"),
    ("t", "ilike.É%", "t ilike 'É%'"),
    ("t", "match.^[a-b]", "t ~ '^[a-b]'"),
    ("t", "imatch.^[A-B]$", "t ~* '^[A-B]$'"),
    ("t", "isdistinct.b", "t is distinct from 'b'"),
    ("t", "eq.", "t = ''"),
    ("v", "eq.b", "v = 'b'"),
    ("c", "eq.b", "c = 'b'"),
    ("b", "eq.true", "b = true"),
    ("b", "is.true", "b is true"),
    ("b", "not.is.true", "b is not true"),
    ("b", "is.false", "b is false"),
    ("b", "is.unknown", "b is unknown"),
    ("b", "lt.true", "b < true"),
    (
        "u",
        "eq.A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11",
        "u = 'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11'",
    ),
    (
        "u",
        "gt.50000000-0000-0000-0000-000000000000",
        "u > '50000000-0000-0000-0000-000000000000'",
    ),
    ("d", "eq.2026-01-02", "d = '2026-01-02'"),
    ("d", "lt.2026-01-02", "d < '2026-01-02'"),
    ("d", "gt.2026-01-02", "d > '2026-01-02'"),
    ("ts", "gte.2026-01-02T03:04:05Z", "ts >= '2026-01-02T03:04:05Z'"),
    ("ts", "eq.2026-01-02 04:04:05+01", "ts = '2026-01-02 04:04:05+01'"),
    ("ts", "lt.2026-01-02", "ts < '2026-01-02'"),
    ("iv", "eq.24 hours", "iv = '24 hours'"),
    ("iv", "gt.1 hour", "iv > '1 hour'"),
    ("j", "eq.{\"a\":1}", "j = '{\"a\":1}'"),
    ("j", "neq.{\"a\":1}", "j != '{\"a\":1}'"),
    ("by", "eq.\\x01ff", "by = '\\x01ff'"),
    ("e", "eq.happy", "e = 'happy'"),
    ("e", "gt.happy", "e > 'happy'"),
    ("e", "in.(happy,sad)", "e = any('{happy,sad}')"),
    ("ip", "eq.10.0.0.1", "ip = '10.0.0.1'"),
    ("ip", "lt.10.0.0.2", "ip < '10.0.0.2'"),
    ("a", "eq.\"{1,2}\"", "a = '{1,2}'"),
    ("a", "gt.{1}", "a > '{1}'"),
    ("p", "eq.7", "p = 7"),
    ("ci", "eq.MIXED", "ci = 'MIXED'"),
    ("ci", "like.mix%", "ci like 'mix%'"),
    ("r", "eq.\"[1,5)\"", "r = '[1,5)'"),
    ("odd \"column\"", "eq.x", "\"odd \"\"column\"\"\" = 'x'"),
    ("i", "gt.1,t=eq.b", "i > 1 and t = 'b'"),
    (
        "i",
        "gt.1, t=like.%b%,b=is.true",
        "i > 1 and t like '%b%' and b is true",
    ),
];

const TABLE: &str = r#"
    create extension citext;
    create type mood as enum ('happy', 'so so', 'sad');
    create domain positive as int4 check (value > 0);
    create table f (
        id int primary key generated always as identity,
        i int4, n numeric, f float8, t text, v varchar(5), c char(3), b bool, u uuid, d date, ts timestamptz,
        iv interval, j jsonb, by bytea, e mood, ip inet, a int4[], p positive, ci citext, r int4range,
        "odd ""column""" text
    );
    alter publication supabase_realtime add table f;
"#;

const ROWS: &str = r#"
    insert into f (i, n, f, t, v, c, b, u, d, ts, iv, j, by, e, ip, a, p, ci, r, "odd ""column""") values
    (1, 1.50, 0.1, 'a', 'a', 'a', true, 'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11', '2026-01-01', '2026-01-02 03:04:05+00',
     '1 day', '{"a": 1}', '\x01ff', 'happy', '10.0.0.1', '{1,2}', 7, 'Mixed', '[1,5)', 'x'),
    (2, -2, 1000, 'b', 'b', 'b', false, '00000000-0000-0000-0000-000000000001', '2026-01-02', '2026-01-01 00:00+00',
     '30 min', '[1]', '', 'so so', '10.0.0.1/8', '{}', 8, 'other', 'empty', 'y'),
    (10, 10.0, -0.0, 'a, (b)', 'ab', 'ab', null, 'ffffffff-ffff-ffff-ffff-ffffffffffff', '0044-03-15 BC', 'infinity',
     '24:00:00', 'null', '\x00', 'sad', '::1', '{3,NULL}', 9, 'MIXED', '[2,3)', ''),
    (null, null, null, null, null, null, null, null, null, null, null, null, null, null, null, null, null, null, null, null),
    (3, 0, 5e-324, 'Ébb', 'B', 'B', true, null, 'infinity', '12345-01-01 00:00+00', '-1 mon', '"a"', null, null, null, null,
     1, '', null, null),
    (4, 99999999999999999999.1, 'NaN', '', '', '', true, null, '10000-01-01', '0001-01-01 00:00+00 BC', '0', '{}', '\xff',
     'happy', '0.0.0.0/0', '{{1},{2}}', 2, 'b', '(,)', 'X')
"#;

#[tokio::test(flavor = "multi_thread")]
async fn every_operator_means_what_sql_means() {
    let db = Database::new().await;
    db.execute(TABLE).await;
    let server = Server::start(&db).await;
    let mut client = Client::connect(&server, Version::V2, &token::token("service_role", json!({}))).await;
    for (i, (column, filter, _)) in FILTERS.iter().enumerate() {
        let binding =
            json!({"event": "*", "schema": "public", "table": "f", "filter": format!("{column}={filter}")});
        client.subscribe(&format!("f{i}"), json!([binding])).await;
    }
    let last = json!([{"event": "*", "schema": "public", "table": "f"}]);
    client.subscribe("last", last.clone()).await;

    db.execute(ROWS).await;
    compare(&db, &mut client, |data| data["record"]["id"].as_i64()).await;

    // Old rows under FULL pass the same filters.
    db.execute("alter table f replica identity full").await;
    let mut expected = Vec::new();
    for (_, _, clause) in FILTERS {
        expected.push(matching(&db, clause).await);
    }
    client.push("last", "phx_leave", json!({})).await;
    client.subscribe("last", last).await;
    db.execute("delete from f").await;
    let got = received(&mut client, 6, |data| data["old_record"]["id"].as_i64()).await;
    check(&got, &expected);
    server.stop().await;
}

async fn compare(db: &Database, client: &mut Client, id: impl Fn(&Value) -> Option<i64>) {
    let mut expected = Vec::new();
    for (_, _, clause) in FILTERS {
        expected.push(matching(db, clause).await);
    }
    let got = received(client, 6, id).await;
    check(&got, &expected);
}

fn check(got: &[Vec<i64>], expected: &[Vec<i64>]) {
    for ((got, expected), (column, filter, clause)) in got.iter().zip(expected).zip(FILTERS) {
        // A float NaN reaches us as null from wal2json 2.5, so row 6 is not compared on that column.
        let known = |ids: &[i64]| {
            ids.iter()
                .copied()
                .filter(|id| *column != "f" || *id != 6)
                .collect::<Vec<_>>()
        };
        assert_eq!(known(got), known(expected), "{column}={filter}: where {clause}");
    }
}

async fn matching(db: &Database, clause: &str) -> Vec<i64> {
    let ids = db
        .text(&format!(
            "select coalesce(json_agg(id order by id), '[]')::text from f where {clause}"
        ))
        .await;
    serde_json::from_str(&ids).expect("ids")
}

/// Ids per filter, once the unfiltered channel, which comes last for each change, has had its `count`.
async fn received(client: &mut Client, count: usize, id: impl Fn(&Value) -> Option<i64>) -> Vec<Vec<i64>> {
    let mut got = vec![Vec::new(); FILTERS.len()];
    let mut last = 0;
    while last < count {
        let message = client.expect("a change", |m| m.event == "postgres_changes").await;
        if message.topic == "realtime:last" {
            last += 1;
            continue;
        }
        let index: usize = message
            .topic
            .trim_start_matches("realtime:f")
            .parse()
            .expect("our topic");
        let data = &message.payload["data"];
        assert_eq!(data["errors"], Value::Null, "{data}");
        got[index].push(id(data).expect("an id"));
    }
    client.round_trip().await;
    for message in client.pending().iter().filter(|m| m.event == "postgres_changes") {
        let index: usize = message
            .topic
            .trim_start_matches("realtime:f")
            .parse()
            .expect("our topic");
        got[index].push(id(&message.payload["data"]).expect("an id"));
    }
    client.forget("postgres_changes");
    got.iter_mut().for_each(|ids| ids.sort_unstable());
    got
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_filters_are_refused_with_the_known_texts() {
    let db = Database::new().await;
    db.execute(TABLE).await;
    db.execute(
        "create table secret (id int primary key, hidden text); grant select (id) on secret to anon;
                alter publication supabase_realtime add table secret",
    )
    .await;
    let server = Server::start(&db).await;
    let mut client = Client::connect(&server, Version::V1, &token::token("anon", json!({}))).await;
    db.execute("grant select on f to anon").await;
    let long = format!(
        "i=in.({})",
        (0..101).map(|n| n.to_string()).collect::<Vec<_>>().join(",")
    );
    let many = vec!["i=gt.1"; 101].join(",");
    let cases: &[(&str, &str, &str)] = &[
        ("f", &many, "too many conditions. Maximum 100"),
        (
            "f",
            "i=gt.1,t=eq.x,i=gt.abc",
            "invalid input syntax for type integer: \"abc\"",
        ),
        ("f", "undefined", "Error parsing `filter` params: [\"undefined\"]"),
        (
            "f",
            "i=eq.1,",
            "Error parsing `filter` params: filter must not contain empty segments (check for extra commas)",
        ),
        (
            "f",
            "i=in.1,2",
            "Error parsing `filter` params: `in` filter value must be wrapped by parentheses",
        ),
        ("f", "nope=eq.1", "invalid column for filter nope"),
        ("f", &long, "too many values for `in` filter. Maximum 100"),
        ("f", "i=eq.abc", "invalid input syntax for type integer: \"abc\""),
        (
            "f",
            "p=eq.-1",
            "value for domain positive violates check constraint",
        ),
        ("f", "a=eq.nope", "malformed array literal: \"nope\""),
        (
            "f",
            "i=is.true",
            "is true filter requires a boolean column, got int4",
        ),
        (
            "f",
            "b=is.maybe",
            "invalid value for is filter: must be null, true, false, or unknown",
        ),
        (
            "f",
            "i=like.1%",
            "operator like requires a text-compatible column type, got int4",
        ),
        ("f", "t=match.(", "invalid regular expression for match filter:"),
        ("secret", "hidden=eq.x", "invalid column for filter hidden"),
        (
            "nope",
            "id=eq.1",
            "Unable to subscribe to changes with given parameters. Please check Realtime is enabled",
        ),
        ("f_", "id=eq.1", "Please check Realtime is enabled"),
    ];
    for (i, (table, filter, text)) in cases.iter().enumerate() {
        let topic = format!("c{i}");
        let binding = json!({"event": "*", "schema": "public", "table": table, "filter": filter});
        let reply = client.join(&topic, json!({"postgres_changes": [binding]})).await;
        assert_eq!(reply["status"], "ok", "{reply}");
        let system = client.system(&topic).await;
        assert_eq!(system["status"], "error", "{filter}: {system}");
        assert_eq!(system["extension"], "postgres_changes");
        assert!(
            system["message"].as_str().is_some_and(|m| m.contains(text)),
            "{filter}: {system}"
        );
    }
    // Nobody was harmed.
    client
        .subscribe(
            "good",
            json!([{"event": "*", "schema": "public", "table": "f", "filter": "i=eq.1"}]),
        )
        .await;
    db.execute(ROWS).await;
    assert_eq!(client.data().await["record"]["i"], 1);
    server.stop().await;
}
