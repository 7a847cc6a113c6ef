use super::cluster::Cluster;
use super::follower::{Follower, pgoutput, settings};
use crate::change::{Action, Row, Value};
use crate::replication::{PGOUTPUT, Settings};

const SCHEMA: &str = r#"
create extension if not exists hstore;
create schema "My Schema";
create type mood as enum ('sad', 'ok "q"');
create type "My Schema"."we ird" as enum ('a b');
create type comp as (a int, b text);
create domain dbool as bool; create domain ddbool as dbool; create domain dint as int8;
create domain dbytea as bytea; create domain dnum as numeric(10,2); create domain dfloat as float8;
create domain dtext as text; create domain dts as timestamptz; create domain darr as int[];
create domain dbit as bit(3); create domain doid as oid; create domain djson as jsonb;
"#;

/// Type, then SQL expressions of values.
const TYPES: &[(&str, &[&str])] = &[
    ("bool", &["true", "false"]),
    ("int2", &["-32768"]),
    ("int4", &["2147483647"]),
    (
        "int8",
        &["9223372036854775807", "-9223372036854775808", "9007199254740993"],
    ),
    ("float4", &["1.5", "1e-30", "'-0'"]),
    ("float8", &["1e300", "0.1", "5e-324", "123456789012345678"]),
    (
        "numeric",
        &["1.10", "1e40", "'-0.000000000000000000000000000001'", "100"],
    ),
    ("numeric(10,3)", &["2"]),
    ("money", &["12.34", "'-1234567.89'"]),
    (
        "text",
        &[
            "''",
            r#"E'line\nx\t\"\\ \u0001 é 😀 ''q'''"#,
            "'null'",
            "'true'",
            "'1'",
        ],
    ),
    ("varchar(9)", &["'vä'"]),
    ("char(5)", &["'ab'"]),
    ("\"char\"", &["'c'", "'\"'"]),
    ("name", &["'na me'"]),
    ("bytea", &[r"'\x0001ff'", "''", r"'\x5c78'"]),
    ("bit(5)", &["'10101'"]),
    ("varbit", &["'1'", "''"]),
    ("uuid", &["'6b1fb5c7-4d9b-4f2b-8b6a-000000000001'"]),
    ("date", &["'0044-03-15 BC'", "'infinity'", "'2026-11-22'"]),
    ("time", &["'24:00'", "'01:02:03.5'"]),
    ("timetz", &["'01:02:03.5+02'"]),
    ("timestamp", &["'infinity'", "'2026-11-22 05:56:01.5'"]),
    (
        "timestamptz",
        &[
            "'2026-11-22 05:56:01.123456+01'",
            "'-infinity'",
            "'0044-03-15 12:00 BC'",
        ],
    ),
    (
        "interval",
        &["'1 year 2 mons -3 days 04:05:06.7'", "'0'", "'-1 sec'"],
    ),
    ("json", &[r#"'{"a": 1.0, "a":"\u00e9"}'"#, "'null'", "'\" \"'"]),
    ("jsonb", &[r#"'{"a": 1.0, "b":[null, "\""]}'"#, "'null'"]),
    ("jsonpath", &["'$.a'"]),
    ("xml", &["'<a>x</a>'"]),
    ("inet", &["'10.0.0.1/8'", "'::1'"]),
    ("cidr", &["'10.0.0.0/8'"]),
    ("macaddr", &["'08:00:2b:01:02:03'"]),
    ("macaddr8", &["'08:00:2b:01:02:03:04:05'"]),
    ("point", &["'(1,2.5)'"]),
    ("line", &["'{1,2,3}'"]),
    ("lseg", &["'[(0,0),(1,1)]'"]),
    ("box", &["'((0,0),(1,1))'"]),
    ("path", &["'((0,0),(1,1))'", "'[(0,0),(1,1)]'"]),
    ("polygon", &["'((0,0),(1,1),(1,0))'"]),
    ("circle", &["'<(0,0),1>'"]),
    ("tsvector", &["'a b:1A'"]),
    ("tsquery", &["'a & !b'"]),
    ("oid", &["4294967295", "0"]),
    ("regclass", &["'pg_class'"]),
    ("regtype", &["'int4[]'"]),
    ("regproc", &["'now'"]),
    ("regrole", &["'postgres'"]),
    ("xid", &["'77'"]),
    ("xid8", &["'99'"]),
    ("cid", &["'9'"]),
    ("tid", &["'(0,1)'"]),
    ("pg_lsn", &["'1/AB'"]),
    ("txid_snapshot", &["'10:20:10,14,15'"]),
    ("int2vector", &["'1 2'"]),
    ("oidvector", &["'1 2'"]),
    ("aclitem", &["'postgres=r/postgres'"]),
    ("int4range", &["'[1,3)'", "'empty'"]),
    ("numrange", &["'(1.10,)'"]),
    ("tstzrange", &["'[\"2020-01-01 00:00:00+02\",)'"]),
    ("int4multirange", &["'{[1,3),[5,7)}'", "'{}'"]),
    ("hstore", &[r#"'k=>v, n=>NULL, "q\""=>""'"#]),
    ("comp", &["row(1,'x \"y')::comp", "row(null,'')::comp"]),
    ("mood", &["'ok \"q\"'"]),
    ("\"My Schema\".\"we ird\"", &["'a b'"]),
    (
        "int[]",
        &["'{1,NULL,3}'", "'{}'", "'{{1,2},{3,4}}'", "'[0:1]={1,2}'"],
    ),
    ("text[]", &[r#"array['a', 'b "c', null, 'NULL', '', '\x']"#]),
    ("bool[]", &["'{t,f,NULL}'"]),
    ("bytea[]", &[r"array['\x00ff'::bytea]"]),
    ("numeric[]", &["'{1.10,NaN}'"]),
    ("timestamptz[]", &["'{2020-01-01 00:00:00+02}'"]),
    ("jsonb[]", &[r#"array['{"a":1}'::jsonb]"#]),
    ("comp[]", &["array[row(1,'x\"y')::comp]"]),
    ("mood[]", &["array['sad','ok \"q\"']::mood[]"]),
    ("\"My Schema\".\"we ird\"[]", &["'{a b}'"]),
    ("int4range[]", &["'{\"[1,3)\"}'"]),
    ("dbool", &["true", "false"]),
    ("ddbool", &["false"]),
    ("dint", &["9007199254740993"]),
    ("dbytea", &[r"'\xab'"]),
    ("dnum", &["1.1"]),
    ("dfloat", &["'Infinity'", "'NaN'"]),
    ("dtext", &[r"'x''\b'"]),
    ("dts", &["'2020-01-01 00:00:00+02'"]),
    ("darr", &["'{1}'"]),
    ("dbit", &["'101'"]),
    ("doid", &["5"]),
    ("djson", &["'{\"a\":1}'"]),
    ("dbool[]", &["'{t}'"]),
];

/// Plain floats and numerics lose these in wal2json 2.5; the module says so. pgoutput does not.
const LOST: &[(&str, &str)] = &[
    ("float4", "'NaN'"),
    ("float8", "'-Infinity'"),
    ("numeric", "'NaN'"),
    ("numeric", "'Infinity'"),
];

struct Column {
    name: String,
    kind: &'static str,
    value: &'static str,
    lost: bool,
}

fn columns() -> Vec<Column> {
    let kept = TYPES
        .iter()
        .flat_map(|(kind, values)| values.iter().map(move |value| (*kind, *value, false)));
    let lost = LOST.iter().map(|(kind, value)| (*kind, *value, true));
    kept.chain(lost)
        .enumerate()
        .map(|(i, (kind, value, lost))| Column {
            name: format!("c{i}"),
            kind,
            value,
            lost,
        })
        .collect()
}

/// Every type, as its output function prints it, whatever the defaults of database and role are.
#[tokio::test]
async fn every_type_comes_out_as_postgres_prints_it() {
    every_type_comes_out_as_postgres_prints_it_with(settings).await;
}

#[tokio::test]
async fn every_type_comes_out_as_postgres_prints_it_of_pgoutput() {
    every_type_comes_out_as_postgres_prints_it_with(pgoutput).await;
}

async fn every_type_comes_out_as_postgres_prints_it_with(settings: fn(&Cluster) -> Settings) {
    let cluster = Cluster::start("");
    let client = cluster.client().await;
    client.batch_execute(SCHEMA).await.unwrap();
    client
        .batch_execute(
            "alter database postgres set timezone = 'Asia/Kathmandu'; alter role postgres set datestyle = 'German';
             alter database postgres set intervalstyle = 'iso_8601'; alter role postgres set bytea_output = 'escape';
             alter database postgres set extra_float_digits = 0; alter role postgres set client_encoding = 'LATIN1'",
        )
        .await
        .unwrap();
    let columns = columns();
    let definitions: Vec<String> = columns.iter().map(|c| format!("{} {}", c.name, c.kind)).collect();
    let table = format!("create table t (id int primary key, {})", definitions.join(", "));
    client.batch_execute(&table).await.unwrap();
    client
        .batch_execute("alter table t replica identity full")
        .await
        .unwrap();

    let loses = !settings(&cluster).slot.plugins.contains(&PGOUTPUT.to_owned());
    let mut follower = Follower::start(settings(&cluster), &["t"]);
    follower.until_live().await;
    let values: Vec<&str> = columns.iter().map(|c| c.value).collect();
    let insert = format!("insert into t values (1, {})", values.join(", "));
    client.batch_execute(&insert).await.unwrap();
    client
        .batch_execute("update t set id = 2; delete from t")
        .await
        .unwrap();

    client
        .batch_execute(
            "set timezone = 'UTC'; set datestyle = 'ISO'; set intervalstyle = 'postgres'; set bytea_output = 'hex';
             set extra_float_digits = 1; set client_encoding = 'UTF8'",
        )
        .await
        .unwrap();
    client.batch_execute(&insert).await.unwrap();
    let printed: Vec<String> = columns
        .iter()
        .map(|c| format!("format('%s', {})", c.name))
        .collect();
    let expected = client
        .query_one(&format!("select {} from t", printed.join(", ")), &[])
        .await
        .unwrap();
    let oids =
        "select atttypid from pg_attribute where attrelid = 't'::regclass and attnum > 1 order by attnum";
    let oids: Vec<u32> = client
        .query(oids, &[])
        .await
        .unwrap()
        .iter()
        .map(|row| row.get(0))
        .collect();

    let check = |row: &Row| {
        assert_eq!(row.layout().columns.len(), columns.len() + 1);
        for (i, column) in columns.iter().enumerate() {
            let text: &str = expected.get(i);
            let wanted = if column.lost && loses {
                Value::Null
            } else {
                Value::Text(text)
            };
            let got = row.get(&column.name);
            assert_eq!(got, Some(wanted), "{} {}", column.kind, column.value);
            assert_eq!(row.layout().columns[i + 1].type_oid, oids[i], "{}", column.kind);
        }
    };
    let insert = follower.change().await;
    check(insert.new.as_ref().unwrap());
    let update = follower.change().await;
    assert_eq!(update.action, Action::Update);
    check(update.new.as_ref().unwrap());
    check(update.old.as_ref().unwrap());
    let delete = follower.change().await;
    assert_eq!(delete.action, Action::Delete);
    check(delete.old.as_ref().unwrap());
    follower.stop().await;
}

/// What replica identity and TOAST leave of a row.
#[tokio::test]
async fn unchanged_toast_values_are_filled_where_the_old_row_is_whole() {
    unchanged_toast_values_are_filled_where_the_old_row_is_whole_with(settings).await;
}

#[tokio::test]
async fn unchanged_toast_values_are_filled_where_the_old_row_is_whole_of_pgoutput() {
    unchanged_toast_values_are_filled_where_the_old_row_is_whole_with(pgoutput).await;
}

async fn unchanged_toast_values_are_filled_where_the_old_row_is_whole_with(
    settings: fn(&Cluster) -> Settings,
) {
    let cluster = Cluster::start("");
    let client = cluster.client().await;
    let table = "create table t (id int primary key, big text, gone int, n int); alter table t alter big set storage external;
                 alter table t drop column gone";
    client.batch_execute(table).await.unwrap();
    let mut follower = Follower::start(settings(&cluster), &["t"]);
    follower.until_live().await;
    client
        .batch_execute(
            "insert into t values (1, repeat('x', 5000), 1); update t set n = 2;
             alter table t replica identity full; update t set n = 3; update t set n = null; delete from t",
        )
        .await
        .unwrap();
    let big = "x".repeat(5000);
    assert_eq!(
        follower.change().await.new.unwrap().get("big"),
        Some(Value::Text(&big))
    );
    let keyed = follower.change().await;
    let big_of = keyed.new.as_ref().unwrap().get("big");
    assert!(matches!(big_of, None | Some(Value::Unchanged)), "{big_of:?}");
    assert_eq!(keyed.new.as_ref().unwrap().get("n"), Some(Value::Text("2")));
    let old: Vec<_> = keyed
        .old
        .as_ref()
        .unwrap()
        .iter()
        .map(|(c, _)| c.name.to_string())
        .collect();
    assert_eq!(old, ["id"]);
    for n in [Value::Text("3"), Value::Null] {
        let full = follower.change().await;
        let new = full.new.unwrap();
        let names: Vec<_> = new.layout().columns.iter().map(|c| c.name.to_string()).collect();
        assert_eq!(names, ["id", "big", "n"]);
        assert_eq!(new.get("big"), Some(Value::Text(&big)));
        assert_eq!(new.get("n"), Some(n));
        assert_eq!(full.old.unwrap().get("big"), Some(Value::Text(&big)));
    }
    assert_eq!(
        follower.change().await.old.unwrap().get("big"),
        Some(Value::Text(&big))
    );
    follower.stop().await;
}

/// Names that wal2json's table list has to be escaped for.
#[tokio::test]
async fn odd_names_are_followed() {
    odd_names_are_followed_with(settings).await;
}

#[tokio::test]
async fn odd_names_are_followed_of_pgoutput() {
    odd_names_are_followed_with(pgoutput).await;
}

async fn odd_names_are_followed_with(settings: fn(&Cluster) -> Settings) {
    let cluster = Cluster::start("");
    let client = cluster.client().await;
    let names = [
        "plain",
        "T y.p,e",
        "*",
        "it's",
        "back\\slash",
        "q\"uote",
        "ünï cødé 表",
        "new\nline\ttab",
        "a*b",
        "%_like",
    ];
    for name in names {
        let quoted = name.replace('"', "\"\"");
        let create = format!("create table \"{quoted}\" (\"we\"\"ird é\" int primary key, id int)");
        client.batch_execute(&create).await.unwrap();
    }
    client.batch_execute("create table other (id int)").await.unwrap();
    let mut follower = Follower::start(settings(&cluster), &names);
    follower.until_live().await;
    for name in names {
        let quoted = name.replace('"', "\"\"");
        let insert = format!("insert into other values (0); insert into \"{quoted}\" values (1, 2)");
        client.batch_execute(&insert).await.unwrap();
    }
    for name in names {
        let change = follower.change().await;
        assert_eq!(&*change.table.table, name);
        assert_eq!(change.new.unwrap().get("we\"ird é"), Some(Value::Text("1")));
    }
    follower.stop().await;
}
