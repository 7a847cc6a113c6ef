//! Every form of policy, for every reader and row, against a SELECT as that reader.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use tokio_postgres::Client;

use super::forms::FORMS;
use crate::auth::Claims;
use crate::change::TableName;
use crate::expression::{Context, Datum, Evaluated, Relation, Stop, Ty};
use crate::policy::program::{Bound, Judged, Program};
use crate::policy::relation::{RelationQuery, RelationRequest};
use crate::postgres::catalog::{self, Catalog, RoleAccess, Table};
use crate::postgres::testing::Cluster;
use crate::postgres::{Connection, InstallOptions, install, quote_identifier};

pub(super) const ALICE: &str = "a0000000-0000-4000-8000-000000000001";
pub(super) const BOB: &str = "b0000000-0000-4000-8000-000000000002";

const SCHEMA: &str = r#"
    create type mood as enum ('sad', 'ok', 'Happy');
    create domain kind as int check (value > -1000);
    create table teams (id int primary key, open bool);
    create table members (team int, member uuid, name text, rank int, maybe int, since timestamptz default now());
    create table guarded (team int, member uuid);
    create table secret (team int);
    create table admins (member uuid primary key);
    create view members_view as select * from members;
    alter table members replica identity full;
    alter table guarded replica identity full;
    alter table secret replica identity full;
    grant select on teams, members, guarded, members_view to authenticated, anon;
    alter table guarded enable row level security;
    create policy mine on guarded using (member = auth.uid());
    create function is_owner(uuid) returns bool language sql stable as 'select $1 = auth.uid()';
    create function is_owner_strict(o uuid) returns bool language sql stable strict as 'select coalesce(o = auth.uid(), true)';
    create function half(n int) returns int language sql immutable as 'select n / 2';
    create function unused(n int, m int) returns int language sql immutable as 'select n';
    create function nested(n int, o uuid) returns bool language sql stable as 'select half(n) = 1 or is_owner(o)';
    create function claim(name text) returns text language sql stable as 'select auth.jwt() ->> name';
    create function claim_of_me() returns text language sql stable security definer as 'select claim(''plan'')';
    create function runs_as() returns text language sql stable security definer as 'select current_user::text';
    create function in_plpgsql(n int) returns bool language plpgsql stable as 'begin return n = 1; end';
    create function changing(n int) returns int language sql volatile as 'select n';
    create function forbidden(n int) returns int language sql stable as 'select n';
    revoke execute on function forbidden from public;
    create function of_team(t int) returns bool language sql stable as
        'select exists (select from members where team = t and member = auth.uid())';
    create function of_team_strict(t int) returns bool language sql stable strict as
        'select exists (select from members where team = t and member = auth.uid())';
    create function of_team_as_owner(t int) returns bool language sql stable security definer as
        'select exists (select from guarded g where g.team = t and g.member = auth.uid())';
    create function is_in(u uuid, t int) returns bool language sql stable as
        'select exists (select from members m where m.team = t and m.member = u)';
    create function is_in_2(u uuid, t int) returns bool language sql stable security definer as 'select is_in(u, t)';
    create function has_name(n text) returns bool language sql stable as
        'select exists (select from members m where m.name = n and m.member = auth.uid())';
    create table watched (team int, member uuid);
    alter table watched replica identity full;
    create function recursive_team(t int) returns bool language sql stable security definer as
        'select exists (select from watched w where w.team = t and w.member = auth.uid())';
    alter table watched enable row level security;
    create policy mine on watched using (recursive_team(team));
    create function is_admin() returns bool language sql stable security definer set search_path = '' as
        'select exists (select from public.admins where member = auth.uid())';
    create function my_team() returns int language sql stable as
        'select team from members where member = auth.uid() order by team limit 1';
    create function my_teams() returns setof int language sql stable security definer as
        'select team from members where member = auth.uid()';
    create function definer_teams() returns table (team int) language sql stable security definer as
        'select team from members where member = auth.uid()';
    create function my_team_array() returns int[] language sql stable as
        'select array(select team from members where member = auth.uid())';
    create table docs (
        id int primary key, owner uuid, team int, level int, n numeric, x float8, status text, mood mood, title varchar(20),
        codes text collate "C", tags text[], editors uuid[], data jsonb, at timestamptz, d date, b bool, ch char(4),
        kind kind, tenant text, ip inet, date date, key text, type int, "Odd Name" text, public bool);
"#;

/// Possible values of each column behind `id`.
const VALUES: &[&[&str]] = &[
    &[
        "null",
        "'a0000000-0000-4000-8000-000000000001'",
        "'b0000000-0000-4000-8000-000000000002'",
    ],
    &["1", "2", "3", "null"],
    &["1", "2", "3", "null", "4"],
    &["1.5", "null", "-1.5", "12345678901234567890.123", "1.50"],
    &["0", "null", "-2.5", "'NaN'"],
    &["'public'", "'draft'", "'Public'", "null"],
    &["'ok'", "'sad'", "null", "'Happy'"],
    &["'a'", "'ab'", "null", "'B'", "'a,b'", "'é☃'", "''"],
    &["'a'", "'B'", "null", "'b'"],
    &["'{x,y}'", "'{}'", "null", "'{null}'", "'{public}'"],
    &[
        "'{a0000000-0000-4000-8000-000000000001}'",
        "null",
        "'{}'",
        "'{b0000000-0000-4000-8000-000000000002,null}'",
    ],
    &[
        "'{\"visible\": \"yes\", \"n\": 2}'",
        "null",
        "'null'",
        "'{\"a\": {\"b\": \"c\"}, \"owner\": \"a0000000-0000-4000-8000-000000000001\"}'",
        "'{\"n\": \"x\"}'",
        "'{\"readers\": [\"b0000000-0000-4000-8000-000000000002\"]}'",
    ],
    &[
        "'2026-01-01 00:00:00+00'",
        "null",
        "'2199-01-01 00:00:00+00'",
        "'infinity'",
    ],
    &["'2026-06-01'", "null", "'1999-12-31'"],
    &["true", "null", "false"],
    &["'ab'", "null", "'ab c'"],
    &["3", "null", "-7"],
    &["'t1'", "null", "'t2'"],
    &["'10.1.2.3'", "null", "'192.168.0.1'"],
    &["'2026-06-01'", "null", "'1999-12-31'"],
    &["E'a\\\\b'", "'it''s'", "null"],
    &["1", "2", "null"],
    &["'x'", "null"],
    &["true", "null", "false"],
];

pub(super) fn readers() -> Vec<Arc<Claims>> {
    let of = |role: &str, sub: Option<&str>, rest: serde_json::Value| {
        let mut json = rest;
        json["role"] = role.into();
        if let Some(sub) = sub {
            json["sub"] = sub.into();
        }
        Arc::new(Claims {
            role: role.into(),
            sub: sub.map(Arc::from),
            exp: 4_102_444_800,
            scope: None,
            json: json.to_string().into(),
        })
    };
    use serde_json::json;
    vec![
        of(
            "authenticated",
            Some(ALICE),
            json!({"plan": "pro", "team": "1", "app": {"team": 1}, "teams": [1, 2], "email": "a@example.com", "tenant": "t1"}),
        ),
        of(
            "authenticated",
            Some(BOB),
            json!({"app": {"team": 2}, "teams": ["2"], "admin": true, "team": 3}),
        ),
        of(
            "authenticated",
            None,
            json!({"team": "x", "admin": "maybe", "teams": 7, "email": 5}),
        ),
        of("authenticated", Some("not a uuid"), json!({"app": null})),
        of("anon", None, json!({})),
    ]
}

/// A row, as the stream carries it.
pub(super) struct Row(pub(super) Vec<Evaluated>);

pub(super) struct Seen<'a> {
    pub(super) row: &'a Row,
    pub(super) relations: &'a [Result<Relation, Stop>],
    pub(super) now: i64,
}

impl Context for Seen<'_> {
    fn column(&self, index: usize) -> Evaluated {
        self.row
            .0
            .get(index)
            .cloned()
            .unwrap_or(Err(Stop::Missing(index)))
    }
    fn param(&self, _: usize) -> Evaluated {
        panic!("no parameter is left in a residual")
    }
    fn relation(&self, index: usize) -> Result<&Relation, Stop> {
        self.relations[index].as_ref().map_err(Clone::clone)
    }
    fn now(&self) -> i64 {
        self.now
    }
}

pub(super) async fn installed() -> (Connection, String) {
    let (name, mut db) = Cluster::shared().database().await;
    let options = InstallOptions {
        publication: "p".into(),
        create_roles: true,
        lock_timeout: std::time::Duration::from_secs(20),
    };
    install(&mut db, &options)
        .await
        .unwrap_or_else(|e| panic!("{}", e.chain()));
    db.batch_execute(SCHEMA).await.expect("the schema");
    db.batch_execute("grant select on docs to authenticated, anon")
        .await
        .expect("a grant");
    db.batch_execute(&format!(
        "insert into teams values (1, true), (2, false), (3, true);
         insert into members values (1, '{ALICE}', 't1', 2, null), (2, '{BOB}', 't2', 1, 2), (3, '{BOB}', 'public', 3, 1),
             (null, '{ALICE}', null, 1, 3);
         insert into guarded select team, member from members;
         insert into watched select team, member from members;
         insert into admins values ('{BOB}');
         insert into secret values (1);"
    ))
    .await
    .expect("the rows beside");
    (db, name)
}

/// One table for each form, all with the same rows.
async fn tables(db: &Connection) {
    for i in 0..24 {
        let values: Vec<_> = VALUES
            .iter()
            .enumerate()
            .map(|(c, all)| all[(i + i * c / 3) % all.len()])
            .collect();
        let insert = format!("insert into docs values ({i}, {})", values.join(", "));
        db.batch_execute(&insert)
            .await
            .unwrap_or_else(|e| panic!("{insert}: {e:?}"));
    }
    for (i, (_, form)) in FORMS.iter().enumerate() {
        let form = form.replace("docs", &format!("docs{i}"));
        let table = format!(
            "create table docs{i} (like docs including all); insert into docs{i} select * from docs;
             alter table docs{i} enable row level security; grant select on docs{i} to authenticated, anon;
             create policy mine on docs{i} for select using ({form});
             do $$ begin alter publication p add table docs{i}; exception when duplicate_object then null; end $$"
        );
        db.batch_execute(&table)
            .await
            .unwrap_or_else(|e| panic!("{form}: {e:?}"));
    }
}

/// The rows of `docs`, each column from its text output.
async fn rows(db: &Connection, table: &Table, catalog: &Catalog) -> Vec<Row> {
    let columns: Vec<_> = table.columns.iter().map(|c| quote_identifier(&c.name)).collect();
    let sql = format!("select {} from docs order by id", columns.join(", "));
    let found = db.simple_query(&sql).await.expect("the rows");
    let value = |text: Option<&str>, oid: u32| match (text, Ty::of(oid, &catalog.types)) {
        (None, _) => Ok(None),
        (Some(text), Some(ty)) => Datum::parse(text, &ty).map(Some),
        (Some(_), None) => Err(Stop::ask("a type")),
    };
    let row = |message: &tokio_postgres::SimpleQueryMessage| match message {
        tokio_postgres::SimpleQueryMessage::Row(row) => {
            let columns = table.columns.iter().enumerate();
            Some(Row(columns.map(|(i, c)| value(row.get(i), c.type_oid)).collect()))
        }
        _ => None,
    };
    found.iter().filter_map(row).collect()
}

async fn become_reader(db: &Client, claims: &Claims, role: &str) {
    let email = serde_json::from_str::<serde_json::Value>(&claims.json).expect("claims");
    let scope = claims.scope.as_deref();
    let settings = [
        ("request.jwt.claims", &*claims.json),
        ("request.jwt.claim.sub", claims.sub.as_deref().unwrap_or("")),
        ("request.jwt.claim.role", &claims.role),
        ("request.jwt.claim.email", email["email"].as_str().unwrap_or("")),
        ("realtime.topic", scope.map_or("", |scope| &scope.topic)),
        ("request.headers", scope.map_or("{}", |scope| &scope.headers)),
        ("role", role),
    ];
    for (name, value) in settings {
        db.query("select set_config($1, $2, false)", &[&name, &value])
            .await
            .expect("a setting");
    }
}

async fn back(db: &Client) {
    db.batch_execute("reset role").await.expect("the superuser");
}

async fn read(db: &Client, request: &RelationRequest) -> Result<Relation, Stop> {
    let query: &RelationQuery = &request.query;
    become_reader(
        db,
        &request.claims,
        query.owner.as_deref().unwrap_or(&request.claims.role),
    )
    .await;
    let found = db.simple_query(&query.sql).await;
    back(db).await;
    let messages = found.map_err(|error| {
        let code = error
            .code()
            .unwrap_or_else(|| panic!("{}: {error:?}", query.sql))
            .code();
        assert!(
            matches!(code, "42501" | "22P02" | "22023"),
            "{}: {error:?}",
            query.sql
        );
        Stop::Raised(code.into())
    })?;
    let rows = messages.iter().filter_map(|message| match message {
        tokio_postgres::SimpleQueryMessage::Row(row) => {
            Some((0..row.len()).map(|i| row.get(i).map(str::to_owned)).collect())
        }
        _ => None,
    });
    Relation::read(&query.columns, rows.collect())
}

/// Which rows a SELECT as the reader returns; one by one where some of them raise.
async fn selected(db: &Client, claims: &Claims, table: &str) -> HashSet<i32> {
    become_reader(db, claims, &claims.role).await;
    let mut ids = HashSet::new();
    match db.query(&format!("select id from {table}"), &[]).await {
        Ok(rows) => ids.extend(rows.iter().map(|row| row.get::<_, i32>(0))),
        Err(_) => {
            for id in 0..24 {
                let one = format!("select id from {table} where id = {id}");
                if let Ok(rows) = db.query(&one, &[]).await {
                    ids.extend(rows.iter().map(|row| row.get::<_, i32>(0)));
                }
            }
        }
    }
    back(db).await;
    ids
}

/// Whether an expression that the planner sees only as a value is true: it estimates no conditions there, for which it
/// would evaluate what claims decide, and that may raise where the condition itself would not.
async fn evaluated(db: &Client, claims: &Claims, using: &str, table: &str, id: usize) -> bool {
    become_reader(db, claims, &claims.role).await;
    let found = db
        .query_one(
            &format!("select ({using}) is true from docs {table} where id = {id}"),
            &[],
        )
        .await;
    back(db).await;
    found.is_ok_and(|row| row.get(0))
}

/// Programs with what was read for them.
struct Judge<'a> {
    db: &'a Client,
    read: BTreeMap<String, Result<Relation, Stop>>,
}

impl Judge<'_> {
    async fn relations(
        &mut self,
        program: &Program,
        bound: &Bound,
        claims: &Arc<Claims>,
    ) -> Vec<Result<Relation, Stop>> {
        let mut found: Vec<Result<Relation, Stop>> = program
            .relations()
            .iter()
            .map(|_| Err(Stop::ask("not requested")))
            .collect();
        for request in program.requests(bound, claims) {
            let key = format!(
                "{} {:?} {:?} {}",
                request.query.sql, request.query.owner, request.params, claims.role
            );
            if !self.read.contains_key(&key) {
                let relation = read(self.db, &request).await;
                self.read.insert(key.clone(), relation);
            }
            let index = program
                .relations()
                .iter()
                .position(|query| *query == request.query);
            found[index.expect("one of its relations")] = self.read[&key].clone();
        }
        found
    }
}

/// Microseconds since 2000-01-01 UTC.
pub(super) fn now() -> i64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    i64::try_from(now.expect("now").as_micros()).expect("now") - 946_684_800_000_000
}

#[tokio::test]
async fn memory_answers_as_a_select_does() {
    let (mut db, _) = installed().await;
    tables(&db).await;
    let catalog = catalog::load(&mut db, "p")
        .await
        .unwrap_or_else(|e| panic!("{}", e.chain()));
    let mut accesses: BTreeMap<&str, RoleAccess> = BTreeMap::new();
    for role in ["authenticated", "anon"] {
        let access = catalog::role_access(&db, role, &catalog)
            .await
            .unwrap_or_else(|e| panic!("{}", e.chain()));
        accesses.insert(role, access.expect("the role"));
    }
    let first = &catalog.tables[&TableName::new("public", "docs0")];
    let rows = rows(&db, first, &catalog).await;
    let now = now();
    let mut judge = Judge {
        db: &db,
        read: BTreeMap::new(),
    };
    let mut wrong = Vec::new();
    let (mut answered, mut asked) = (0, 0);
    for (i, (kind, form)) in FORMS.iter().enumerate() {
        let name = format!("docs{i}");
        let table = &catalog.tables[&TableName::new("public", name.as_str())];
        let using = table.policies[0].using.as_deref().expect("an expression");
        for (r, claims) in readers().iter().enumerate() {
            let access = &accesses[&*claims.role];
            let program = Program::new(table, &access.tables[&table.oid], &access.functions, &catalog);
            let verdict = &program.policies()[0].verdict;
            let expected = matches!(
                (kind, verdict),
                ('c', Judged::Compiled) | ('s', Judged::Sets(_)) | ('a', Judged::Asks(_)) | ('?', _)
            );
            if !expected && r == 0 {
                wrong.push(format!(
                    "{form}\n    {:?}\n    is {verdict:?}, not {kind}",
                    table.policies[0].using
                ));
            }
            let bound = program.bind(claims);
            let residual = program.residual(&bound);
            let relations = judge.relations(&program, &bound, claims).await;
            let unreadable = relations.iter().any(|r| matches!(r, Err(Stop::Raised(_))));
            let allowed = selected(&db, claims, &name).await;
            for (id, row) in rows.iter().enumerate() {
                let seen = Seen {
                    row,
                    relations: &relations,
                    now,
                };
                let by_postgres = allowed.contains(&i32::try_from(id).expect("an id"));
                match residual.passes(&seen) {
                    _ if unreadable => {}
                    Ok(here) if here == by_postgres => answered += 1,
                    Err(Stop::Ask(_)) => asked += 1,
                    Err(_) if !by_postgres => answered += 1,
                    Ok(true) if evaluated(&db, claims, using, &name, id).await => answered += 1,
                    other => wrong.push(format!(
                        "{form}\n    reader {r}, row {id}: {other:?}, but {by_postgres} by Postgres\n    {:?}",
                        table.policies[0].using
                    )),
                }
            }
        }
    }
    assert!(
        wrong.is_empty(),
        "{answered} answered, {asked} asked, {} wrong:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
    assert!(answered > asked * 4, "{answered} answered, {asked} asked");
}
