//! Random policies, filters, claims and rows, with Postgres as the oracle: what each reader is sent is what a SELECT as
//! that reader returns. A failure names its seed; `ROWCAST_SEED` runs it again.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rowcast::postgres::Connection;
use serde_json::{Value, json};

use super::random::Random;
use crate::support::{Client, Database, Server, Version, token, version};

const ALICE: &str = "a0000000-0000-4000-8000-000000000001";
const BOB: &str = "b0000000-0000-4000-8000-000000000002";

/// How long new rounds are begun; `ROWCAST_ORACLE_SECONDS` for a longer search.
const SECONDS: u64 = 4;

const SCHEMA: &str = r#"
    create schema hidden;
    create type mood as enum ('sad', 'ok', 'Happy');
    create domain level as int check (value > -1000);
    create table members (team int, member uuid, primary key (team, member));
    create table hidden.admins (member uuid primary key);
    grant select on members to authenticated, anon;
    create function hidden.is_admin() returns bool language sql stable security definer set search_path = '' as
        'select exists (select from hidden.admins where member = auth.uid())';
    create function of_team(t int) returns bool language sql stable as
        'select exists (select from members where team = t and member = auth.uid())';
    create table r (id int primary key, rev int, "Te am" int, owner uuid, n numeric, x float8, l level, t text,
                    c text collate "C", v varchar(12), b bool, at timestamptz, d date, m mood, tags text[], j jsonb,
                    ch char(4), by bytea, twice int generated always as ("Te am" * 2) stored);
    create function whole(it r) returns bool language sql stable as 'select it."Te am" = 1 or it.t is null';
    grant select on r to authenticated, anon, service_role;
    alter table r enable row level security;
    alter publication supabase_realtime add table r;
"#;

const ATOMS: &[&str] = &[
    "true",
    "false",
    "null",
    "owner = auth.uid()",
    "owner <> (select auth.uid())",
    "owner is distinct from auth.uid()",
    "owner is not distinct from auth.uid()",
    "owner is null",
    "owner is null or owner = auth.uid()",
    "b or owner = auth.uid()",
    "not b",
    "b is unknown",
    "\"Te am\" = 1 and owner = auth.uid()",
    "auth.role() = 'authenticated'",
    "current_user = 'anon'",
    "(auth.jwt() ->> 'team')::int = \"Te am\"",
    "\"Te am\" in (select m.team from members m where m.member = auth.uid())",
    "exists (select from members where team = r.\"Te am\" and member = auth.uid())",
    "\"Te am\" = any (array(select team from members where member = auth.uid()))",
    "of_team(\"Te am\")",
    "hidden.is_admin()",
    "whole(r.*)",
    "r.* is not null",
    "twice > 2",
    "rev = 1",
    "n < 2",
    "n between -1.50 and 10",
    "x >= 0",
    "l = 3",
    "coalesce(l, 7) > 5",
    "t like 'a%'",
    "t < 'b'",
    "c < 'b'",
    "c = v",
    "v ~ '[''\\\\\"]'",
    "b",
    "b is not true",
    "at < '2026-06-01 00:00:00+02'",
    "extract(year from d) = 2026",
    "m = 'Happy'",
    "m > 'sad'",
    "'x' = any (tags)",
    "tags && array['y', 'null']",
    "cardinality(tags) = 0",
    "j ->> 'k' = 'v'",
    "j is null",
    "j = 'null'",
    "ch = 'ab'",
    "by = '\\x00ff'",
    "length(t) = octet_length(t)",
];

/// Filters, and the conditions that they mean.
const FILTERS: &[(&str, &str)] = &[
    ("rev=gte.1", "rev >= 1"),
    ("Te am=eq.1", "\"Te am\" = 1"),
    ("Te am=not.in.(1,2)", "\"Te am\" not in (1, 2)"),
    ("n=eq.1.5", "n = 1.5"),
    ("n=lt.2", "n < 2"),
    ("x=neq.0", "x <> 0"),
    ("l=gt.2", "l > 2"),
    ("t=eq.\"a,b\"", "t = 'a,b'"),
    ("t=like.a*", "t like 'a*'"),
    ("t=ilike.A%", "t ilike 'A%'"),
    ("t=lt.b", "t < 'b'"),
    ("c=lt.b", "c < 'b'"),
    ("v=match.^[a-c]", "v ~ '^[a-c]'"),
    ("b=is.true", "b is true"),
    ("b=not.is.null", "b is not null"),
    (
        "at=gte.2026-06-01T00:00:00+02:00",
        "at >= '2026-06-01 00:00:00+02'",
    ),
    ("d=lte.2026-01-01", "d <= '2026-01-01'"),
    ("m=in.(sad,Happy)", "m in ('sad', 'Happy')"),
    ("m=gt.sad", "m > 'sad'"),
    (
        "owner=isdistinct.a0000000-0000-4000-8000-000000000001",
        "owner is distinct from 'a0000000-0000-4000-8000-000000000001'",
    ),
    ("j=eq.{\"k\": \"v\"}", "j = '{\"k\":\"v\"}'"),
    ("tags=eq.\"{x,y}\"", "tags = '{x,y}'"),
    ("ch=eq.ab", "ch = 'ab'"),
    ("by=eq.\\x00ff", "by = '\\x00ff'"),
    ("t=not.eq.a,b=is.false", "t <> 'a' and b is false"),
];

/// Possible values of each column of `r` behind `id` and `rev`, as SQL.
const VALUES: &[&[&str]] = &[
    &["null", "1", "2", "3"],
    &[
        "null",
        "'a0000000-0000-4000-8000-000000000001'",
        "'b0000000-0000-4000-8000-000000000002'",
    ],
    &[
        "null",
        "0",
        "-0.0",
        "1.50",
        "1.5",
        "-1.5",
        "12345678901234567890.123",
    ],
    &["null", "0", "'-0'", "1e-300", "-2.5", "0.1"],
    &["null", "3", "-7", "999"],
    &[
        "null",
        "''",
        "'a'",
        "'A'",
        "'a,b'",
        "'B'",
        "'é☃'",
        "'null'",
        "E'\\\\n\\n\\t'",
    ],
    &["null", "'a'", "'B'", "'b'", "'ä'"],
    &["null", "'a'", "'b''b'", "E'\"\\\\'", "'$1'"],
    &["null", "true", "false"],
    &[
        "null",
        "'2026-05-31 23:00:00+00'",
        "'0044-03-15 12:00:00+00 BC'",
        "'infinity'",
        "'20260-01-01'",
    ],
    &["null", "'2026-01-01'", "'2025-12-31'", "'-infinity'"],
    &["null", "'sad'", "'ok'", "'Happy'"],
    &[
        "null",
        "'{}'",
        "'{x,y}'",
        "'{NULL,\"null\"}'",
        "'{\"a\\\\\\\\b\",\"c,d\"}'",
    ],
    &["null", "'null'", "'{\"k\": \"v\"}'", "'[1, null]'", "'\"s\"'"],
    &["null", "'ab'", "''", "'abcd'"],
    &["null", "'\\x00ff'", "'\\x'"],
];

impl Random {
    fn expression(&mut self, depth: usize) -> String {
        match self.below(if depth == 0 { 1 } else { 6 }) {
            0..=2 => self.of(ATOMS).to_owned(),
            3 => format!(
                "(({}) and ({}))",
                self.expression(depth - 1),
                self.expression(depth - 1)
            ),
            4 => format!(
                "(({}) or ({}))",
                self.expression(depth - 1),
                self.expression(depth - 1)
            ),
            _ => format!("(not ({}))", self.expression(depth - 1)),
        }
    }

    fn policies(&mut self) -> String {
        (0..1 + self.below(3))
            .map(|i| {
                let kind = self.of(&["permissive", "permissive", "restrictive"]);
                let command = self.of(&["all", "select", "select"]);
                let role = self.of(&["public", "public", "authenticated", "anon"]);
                let using = self.expression(2);
                format!("create policy p{i} on r as {kind} for {command} to {role} using ({using});\n")
            })
            .collect()
    }

    fn values(&mut self) -> String {
        VALUES
            .iter()
            .map(|column| format!(", {}", self.of(column)))
            .collect()
    }
}

struct Reader {
    role: &'static str,
    claims: Value,
    client: Client,
    /// A session as this reader.
    connection: Connection,
    /// Topic and SQL condition of each channel.
    channels: Vec<(String, &'static str)>,
}

async fn readers(db: &Database, server: &Server, random: &mut Random) -> Vec<Reader> {
    let mut readers = Vec::new();
    for (role, claims) in [
        ("authenticated", json!({"sub": ALICE, "team": 1})),
        ("authenticated", json!({"sub": BOB, "team": "2"})),
        ("authenticated", json!({})),
        ("anon", json!({})),
        ("service_role", json!({})),
    ] {
        let mut client = Client::connect(server, Version::V2, &token::token(role, claims.clone())).await;
        let mut channels = vec![("plain".to_owned(), "true")];
        client
            .subscribe("plain", json!([{"event": "*", "schema": "public", "table": "r"}]))
            .await;
        for i in 0..3 {
            let (filter, condition) = random.of(FILTERS);
            let topic = format!("f{i}");
            let binding = json!([{"event": "*", "schema": "public", "table": "r", "filter": filter}]);
            client.subscribe(&topic, binding).await;
            channels.push((topic, condition));
        }
        readers.push(Reader {
            role,
            connection: session(db, role, &claims).await,
            claims,
            client,
            channels,
        });
    }
    readers
}

async fn session(db: &Database, role: &str, claims: &Value) -> Connection {
    let mut claims = claims.clone();
    claims["role"] = json!(role);
    let connection = db.connection().await;
    let set = "select set_config('request.jwt.claims', $1, false)";
    connection
        .execute(set, &[&claims.to_string()])
        .await
        .expect("claims");
    connection
        .batch_execute(&format!("set role {role}"))
        .await
        .expect("role");
    connection
}

/// Compares what came for revision `rev` with what the reader may SELECT of it.
async fn compare(reader: &mut Reader, rev: usize, context: &str) {
    reader.client.round_trip().await;
    for (topic, condition) in &reader.channels {
        let query = format!("select id from r where rev = {rev} and ({condition}) order by id");
        let expected: Vec<i32> = match reader.connection.query(&query, &[]).await {
            Ok(rows) => rows.iter().map(|row| row.get(0)).collect(),
            Err(error) => panic!("{context}\n{query}: {error:?}"),
        };
        let full = format!("realtime:{topic}");
        let mut got: Vec<i64> = Vec::new();
        for message in reader.client.pending() {
            if message.event == "postgres_changes" && message.topic == full {
                let data = &message.payload["data"];
                assert_eq!(
                    data["errors"],
                    Value::Null,
                    "{context}\n{} {condition}",
                    reader.role
                );
                assert_eq!(data["record"]["rev"], rev, "{context}");
                got.extend(data["record"]["id"].as_i64());
            }
        }
        got.sort_unstable();
        let expected: Vec<i64> = expected.into_iter().map(i64::from).collect();
        assert_eq!(
            got, expected,
            "{context}\n{} {} where {condition}",
            reader.role, reader.claims
        );
    }
    reader.client.forget("postgres_changes");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_sent_is_what_a_select_returns() {
    // The table has a generated column, which policies read.
    if !version::streams_generated() {
        return;
    }
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970");
    let number = |name| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let seed = number("ROWCAST_SEED").unwrap_or(u64::from(now.subsec_nanos()));
    let time = Duration::from_secs(number("ROWCAST_ORACLE_SECONDS").unwrap_or(SECONDS));
    let mut random = Random(seed);
    let db = Database::new().await;
    db.execute(SCHEMA).await;
    if random.below(2) == 0 {
        db.execute(
            "grant usage on schema hidden to public; alter table members enable row level security;
             create policy own on members using (member = auth.uid() or team = 3)",
        )
        .await;
    }
    db.execute(&format!("insert into hidden.admins values ('{BOB}')"))
        .await;
    let in_memory = random.below(3) > 0;
    let server = Server::start_with(&db, |config| config.policy.in_memory = in_memory).await;
    let mut readers = readers(&db, &server, &mut random).await;
    let started = Instant::now();
    let mut round = 0;
    while started.elapsed() < time {
        round += 1;
        let policies = random.policies();
        let members = format!(
            "delete from members; insert into members values ({}, '{ALICE}'), ({}, '{BOB}'), (3, '{BOB}') on conflict do nothing",
            1 + random.below(3),
            1 + random.below(3)
        );
        let rows: Vec<String> = (1..=60)
            .map(|id| format!("({id}, 1{})", random.values()))
            .collect();
        let columns = "id, rev, \"Te am\", owner, n, x, l, t, c, v, b, at, d, m, tags, j, ch, by";
        let insert = format!("insert into r ({columns}) values {}", rows.join(",\n "));
        let context = format!("ROWCAST_SEED={seed} round {round}\n{policies}{members};\n{insert}");
        db.execute("drop policy if exists p0 on r; drop policy if exists p1 on r; drop policy if exists p2 on r; truncate r")
            .await;
        db.execute(&policies).await;
        db.execute(&members).await;
        db.execute(&insert).await;
        server.passed(&db).await;
        for reader in &mut readers {
            compare(reader, 1, &context).await;
        }
        let update = format!(
            "update r set rev = 2, \"Te am\" = {}, t = {}, owner = {} where id % 2 = 0",
            random.of(VALUES[0]),
            random.of(VALUES[5]),
            random.of(VALUES[1])
        );
        db.execute(&update).await;
        server.passed(&db).await;
        for reader in &mut readers {
            compare(reader, 2, &format!("{context};\n{update}")).await;
        }
    }
    eprintln!("ROWCAST_SEED={seed}: {round} rounds");
    server.stop().await;
}
