//! Policies that are meant to be told wrong: each row that comes is held against a SELECT as the reader.

use std::time::Duration;

use serde_json::json;

use crate::support::{Client, Database, Server, Version, eventually, token};

const ALICE: &str = "a0000000-0000-4000-8000-000000000001";
const BOB: &str = "b0000000-0000-4000-8000-000000000002";

const SCHEMA: &str = "
    create table members (team int, member uuid, roles text[], secret text, primary key (team, member));
    grant select (team, member, roles) on members to authenticated;
    create table notes (id int primary key, team int, kind text);
    grant select on notes to authenticated;
    alter table notes enable row level security;
    alter publication supabase_realtime add table notes;
    insert into members values
        (1, 'a0000000-0000-4000-8000-000000000001', '{admin}'), (2, 'a0000000-0000-4000-8000-000000000001', '{}'),
        (2, 'b0000000-0000-4000-8000-000000000002', '{admin,user}'), (3, 'b0000000-0000-4000-8000-000000000002', '{}'),
        (4, 'b0000000-0000-4000-8000-000000000002', null);
";

const ROWS: &str =
    "insert into notes values (1, 1, 'sub'), (2, 2, 'sub'), (3, 3, 'role'), (4, 4, null), (5, null, '')";

async fn subscribed(server: &Server, sub: &str) -> Client {
    subscribed_as(server, "authenticated", sub).await
}

async fn subscribed_as(server: &Server, role: &str, sub: &str) -> Client {
    let token = token::token(role, json!({"sub": sub}));
    let mut client = Client::connect(server, Version::V2, &token).await;
    let changes = json!([{"event": "*", "schema": "public", "table": "notes"}]);
    client.subscribe("room", changes).await;
    client
}

/// The ids of the rows that have come, once everything committed has. What raises brings no row.
async fn ids(client: &mut Client, server: &Server, db: &Database) -> Vec<i64> {
    server.passed(db).await;
    client.round_trip().await;
    let changes = client
        .pending()
        .iter()
        .filter(|message| message.event == "postgres_changes");
    let ids = changes.filter_map(|message| message.payload["data"]["record"]["id"].as_i64());
    let mut ids: Vec<i64> = ids.collect();
    ids.sort_unstable();
    client.forget("postgres_changes");
    ids
}

/// The ids up to 5 that SELECTs as somebody return; none where one raises.
async fn selected(db: &Database, sub: &str) -> Vec<i64> {
    selected_as(db, "authenticated", sub).await
}

async fn selected_as(db: &Database, role: &str, sub: &str) -> Vec<i64> {
    let claims = json!({"sub": sub, "role": role}).to_string();
    let client = db.connection().await;
    client
        .batch_execute(&format!(
            "begin; select set_config('request.jwt.claims', '{claims}', true),
                    set_config('request.jwt.claim.sub', '{sub}', true),
                    set_config('request.jwt.claim.role', '{role}', true);
             set local role {role}"
        ))
        .await
        .expect("claims");
    let mut ids = Vec::new();
    // One by one: what raises for one row is no matter of the others.
    for id in 1..=5 {
        client.batch_execute("savepoint one; set local enable_seqscan = off").await.expect("a savepoint");
        let query = "select id from public.notes where id = $1";
        let rows = client.query(query, &[&id]).await.unwrap_or_default();
        ids.extend(rows.iter().map(|row| i64::from(row.get::<_, i32>(0))));
        client.batch_execute("rollback to one").await.expect("a savepoint");
    }
    ids
}

/// Holds policies on `notes` against Postgres, for Alice and Bob.
async fn agrees(schema: &str, policies: &[&str]) {
    let db = Database::new().await;
    db.execute(SCHEMA).await;
    db.execute(schema).await;
    let server = Server::start(&db).await;
    let (mut alice, mut bob) = (subscribed(&server, ALICE).await, subscribed(&server, BOB).await);
    let mut wrong = Vec::new();
    for policy in policies {
        db.execute("drop policy if exists p on notes; truncate notes")
            .await;
        db.execute(&format!("create policy p on notes using ({policy})"))
            .await;
        db.execute(ROWS).await;
        for (client, sub, name) in [(&mut alice, ALICE, "alice"), (&mut bob, BOB, "bob")] {
            let (got, expected) = (ids(client, &server, &db).await, selected(&db, sub).await);
            if got != expected {
                wrong.push(format!(
                    "{policy}: {name} got {got:?}, Postgres shows {expected:?}"
                ));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_exists_selects_counts() {
    agrees(
        "",
        &[
            // A row for each element: none of an empty array.
            "exists (select unnest(m.roles) from members m where m.team = notes.team and m.member = auth.uid())",
            "not exists (select unnest(m.roles) from members m where m.team = notes.team and m.member = auth.uid())",
            // Always one row.
            "exists (select count(*) from members m where m.team = notes.team and m.member = auth.uid())",
            "not exists (select max(m.team) from members m where m.team = notes.team and m.member = auth.uid())",
            // Of a column that may not be read.
            "exists (select m.secret from members m where m.team = notes.team and m.member = auth.uid())",
            "exists (select m.* from members m where m.team = notes.team and m.member = auth.uid())",
            "exists (select m.team, m.roles from members m where m.team = notes.team and m.member = auth.uid())",
            "exists (select 1 / 0 from members m where m.team = notes.team and m.member = auth.uid())",
            "exists (select notes.id from members m where m.team = notes.team and m.member = auth.uid())",
            "notes.team in (select unnest(array[m.team]) from members m where m.member = auth.uid() and m.team = notes.team)",
            "notes.id in (select count(*) from members m where m.team = notes.team and m.member = auth.uid())",
            "exists (select from members m where m.team = notes.team and m.member = auth.uid() group by m.team having count(*) > 1)",
        ],
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_subquery_reads_of_the_claims_is_not_shared() {
    agrees(
        "create function teams_of(u uuid default auth.uid()) returns setof int language sql stable as
             'select team from members where member = u';
         create function in_team(t int, u uuid default auth.uid()) returns bool language sql stable as
             'select exists (select from members where member = u and team = t)';
         create function claim(name text) returns text language sql stable as
             $$ select current_setting('request.jwt.claim.' || name, true) $$;
         create table kinds (kind text primary key); insert into kinds values ('sub'), ('role');
         grant select on kinds to authenticated;",
        &[
            "team in (select teams_of())",
            "team in (select t.id from teams_of() t(id))",
            "exists (select from teams_of() t(id) where t.id = notes.team)",
            "in_team(team)",
            "team in (select m.team from members m where in_team(m.team))",
            "team in (select m.team from members m, kinds k where k.kind = 'sub' and m.member::text = claim(k.kind))",
            "team in (select m.team from members m, kinds k where k.kind = 'sub'
                 and m.member::text = current_setting('request.jwt.claim.' || k.kind, true))",
            "team in (select m.team from members m
                 where m.member::text = current_setting('request.jwt.claim.' || left(auth.role(), 0) || 'sub', true))",
        ],
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn members_policies_follow_the_roles_of_their_readers() {
    for (name, take, give) in [
        (
            "a membership",
            "revoke editors_%s from reader_%s",
            "grant editors_%s to reader_%s",
        ),
        (
            "an owner above policies",
            "alter role keeper_%s nobypassrls",
            "alter role keeper_%s bypassrls",
        ),
    ] {
        let db = Database::new().await;
        let own = |sql: &str| sql.replace("%s", &db.name);
        db.execute(SCHEMA).await;
        db.execute(&own(
            "create role reader_%s; grant authenticated to reader_%s; create role editors_%s; create role keeper_%s nologin bypassrls;
             grant usage on schema public, auth to keeper_%s; grant select on members to keeper_%s;
             alter table members enable row level security;
             create policy m on members to editors_%s using (true);
             create function keeps(t int) returns bool language sql stable security definer as
                 'select exists (select from public.members where team = t and member = auth.uid())';
             alter function keeps(int) owner to keeper_%s;
             grant editors_%s to reader_%s",
        ))
        .await;
        let policy = if name == "a membership" {
            "team in (select m.team from members m where m.member = auth.uid())"
        } else {
            "keeps(team)"
        };
        db.execute(&format!("create policy p on notes using ({policy})"))
            .await;
        let server = Server::start_with(&db, |config| {
            config.database.catalog_interval = Duration::from_millis(50);
        })
        .await;
        let reader = own("reader_%s");
        let mut alice = subscribed_as(&server, &reader, ALICE).await;
        db.execute("insert into notes values (1, 1)").await;
        assert_eq!(ids(&mut alice, &server, &db).await, [1], "{name}");
        db.execute(&own(take)).await;
        assert_eq!(selected_as(&db, &reader, ALICE).await, [0; 0], "{name}");
        readings(&server).await;
        db.execute("insert into notes values (2, 1)").await;
        assert_eq!(ids(&mut alice, &server, &db).await, [0; 0], "{name} was taken");
        db.execute(&own(give)).await;
        readings(&server).await;
        db.execute("insert into notes values (3, 1)").await;
        assert_eq!(ids(&mut alice, &server, &db).await, [3], "{name} was given");
        server.stop().await;
    }
}

/// Waits for two whole readings of the catalog.
async fn readings(server: &Server) {
    let before = server.metric("rowcast_catalog_reads_total").await;
    eventually("the catalog has been read again", || async {
        (server.metric("rowcast_catalog_reads_total").await >= before + 3.0).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_deep_or_long_is_survived() {
    let db = Database::new().await;
    db.execute(
        "create table notes (id int primary key, data jsonb, text json, name text, tags text[]);
         grant select on notes to authenticated;
         alter table notes enable row level security;
         alter publication supabase_realtime add table notes;
         create policy a on notes using (data ->> 'x' = 'y');
         create policy b on notes using ((text -> 'x') ->> 'y' = 'z');
         create policy c on notes using (data @> '{\"a\": [1]}' or name like '%a%a%a%a%a%a%a%a%b');
         create policy d on notes using (name ~ '(a|a)*(b|b)*c' or repeat(name, id) = 'x');
         create policy e on notes using ('x' = any (tags) or id = 7)",
    )
    .await;
    let server = Server::start(&db).await;
    let mut alice = subscribed(&server, ALICE).await;
    db.execute(
        "insert into notes (id, data) select 1, (repeat('[', 5000) || repeat(']', 5000))::jsonb;
         insert into notes (id, text) select 2, (repeat('{\"x\":', 5000) || '1' || repeat('}', 5000))::json;
         insert into notes (id, name) select 3, repeat('a', 1000000);
         insert into notes (id, name) select 2000000000, repeat('a', 1000);
         insert into notes (id, tags) select 5, array_agg(n::text) from generate_series(1, 100000) n;
         insert into notes (id) values (7)",
    )
    .await;
    eventually("the last row has come", || async {
        let (_, health) = server.get("/healthcheck").await;
        (!health.is_empty()).then_some(())
    })
    .await;
    assert_eq!(ids(&mut alice, &server, &db).await, [7]);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_called_without_being_named_is_asked() {
    agrees(
        "create type mood as enum ('sad', 'ok');
         create function mood_number(m mood) returns int language sql stable as
             $$ select case m when 'sad'::mood then 1 when 'ok'::mood then 2 end $$;
         create cast (mood as int) with function mood_number(mood);
         create function upside_down(m mood) returns text language sql stable as
             $$ select case m::int when 1 then 'ok' when 2 then 'sad' end $$;
         create cast (mood as text) with function upside_down(mood) as assignment;
         alter table notes add column mood mood default 'sad';
         create function mine(text) returns uuid language sql stable as 'select auth.uid()';
         create cast (text as uuid) with function mine(text);
         create function even(int) returns bool language sql immutable as 'select $1 % 2 = 0';
         alter table members add column since date default '2020-01-01';
         grant select (since) on members to authenticated;",
        &[
            "mood::text = 'sad'",
            "mood::text = 'ok'",
            "(auth.jwt() ->> 'sub')::uuid = auth.uid()",
            "team in (select m.team from members m where m.member = kind::uuid)",
            "kind::uuid = auth.uid()",
        ],
    )
    .await;
}

/// What may happen to members, each time followed by new notes.
const HAPPENINGS: &[&str] = &[
    "begin; savepoint a; insert into members values (1, 'b0000000-0000-4000-8000-000000000002'); rollback to a; commit",
    "begin; savepoint a; insert into members values (3, 'a0000000-0000-4000-8000-000000000001') on conflict do nothing; release a;
     savepoint b; delete from members where team = 1; rollback to b; commit",
    "begin; update members set team = 5 where team = 3; update members set team = 3 where team = 5; commit",
    "begin; delete from members where team = 2; prepare transaction '%s'",
    "commit prepared '%s'",
    "update members set member = 'a0000000-0000-4000-8000-000000000001' where team = 4",
    "alter table members rename to people",
    "delete from people where team = 1",
    "alter table people rename to members; insert into members values (1, 'b0000000-0000-4000-8000-000000000002') on conflict do nothing",
    "alter table members rename column team to squad; update members set squad = 5 where squad = 3",
    "alter table members rename column squad to team",
    "alter table members replica identity full; update members set team = 3 where team = 5",
    "alter table members replica identity nothing; update members set team = 5 where team = 3",
    "delete from members where team = 2",
    "alter table members replica identity default; insert into members values (2, 'a0000000-0000-4000-8000-000000000001') on conflict do nothing",
    "alter table members add column filler text; update members set filler = repeat('x', 100000)",
    "update members set filler = repeat('y', 100000), roles = '{x}'",
    "create table more () inherits (members); insert into more values (3, 'b0000000-0000-4000-8000-000000000002')",
    "alter table more add primary key (team, member); delete from more; insert into more values (4, 'b0000000-0000-4000-8000-000000000002')",
    "update more set team = 1",
    "truncate only members",
    "alter table more no inherit members",
    "insert into members select n, 'b0000000-0000-4000-8000-000000000002' from generate_series(1, 6000) n",
    "begin; insert into notes select n, 1 from generate_series(1000000, 1005000) n; delete from members where team = 1;
     insert into notes values (2000000, 1), (2000001, 2); commit; delete from notes where id >= 1000000",
    "alter table members set unlogged; delete from members where team = 2",
    "delete from members where team = 3; insert into members values (9005, 'b0000000-0000-4000-8000-000000000002')",
    "alter table members set logged",
    "alter table members alter team type bigint; delete from members where team = 4",
    "alter table members alter team type int",
    "create table elsewhere (m int primary key references notes on delete cascade); truncate members cascade",
];

#[tokio::test(flavor = "multi_thread")]
async fn nothing_that_happens_to_members_goes_unnoticed() {
    for way in [
        "team in (select m.team from members m where m.member = auth.uid())",
        "exists (select from members m where m.team = notes.team and m.member = auth.uid())",
        "is_member(team)",
        "team <> all (select m.team from members m where m.member <> auth.uid())",
    ] {
        let db = Database::new().await;
        db.execute(SCHEMA).await;
        db.execute(
            "create function is_member(t int) returns bool language sql stable as
                 'select exists (select from members where team = t and member = auth.uid())'",
        )
        .await;
        db.execute(&format!("create policy p on notes using ({way})")).await;
        let server = Server::start(&db).await;
        let (mut alice, mut bob) = (subscribed(&server, ALICE).await, subscribed(&server, BOB).await);
        let prepared = db.text("show max_prepared_transactions").await != "0";
        for happening in HAPPENINGS.iter().filter(|h| prepared || !h.contains("prepare")) {
            // A policy holds the names and types of what it reads, a function looks for them.
            let of_policies = happening.contains("rename") || happening.contains("people");
            if (way.contains("is_member") && of_policies)
                || (!way.contains("is_member") && happening.contains("alter team"))
            {
                continue;
            }
            db.execute("delete from notes").await;
            (ids(&mut alice, &server, &db).await, ids(&mut bob, &server, &db).await);
            db.execute(&happening.replace("%s", &db.name)).await;
            (ids(&mut alice, &server, &db).await, ids(&mut bob, &server, &db).await);
            db.execute(ROWS).await;
            for (client, sub, name) in [(&mut alice, ALICE, "alice"), (&mut bob, BOB, "bob")] {
                let (got, expected) = (ids(client, &server, &db).await, selected(&db, sub).await);
                assert_eq!(got, expected, "{way}: {name} after {happening}");
            }
        }
        server.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn functions_are_taken_at_their_word() {
    agrees(
        "create function strict_true(int) returns bool language sql strict stable as 'select true';
         create function with_default(a int, b bool default true) returns bool language sql stable as 'select b or a = 1';
         create function over(a int) returns bool language sql stable as 'select a = 1';
         create function over(a bigint) returns bool language sql stable as 'select a = 2';
         create function over(a text) returns bool language sql stable as 'select a = ''3''';
         create function no_row(a int) returns bool language sql stable as 'select true from members where team = a and false';
         create function two_rows(a int) returns bool language sql stable as
             'select m.roles is null from members m where m.team >= a order by m.team desc, m.member limit 1';
         create function who() returns text language sql stable security definer as 'select current_user::text';
         create function who_in() returns text language sql stable as 'select current_user::text';
         create function who_deep() returns text language sql stable security definer as 'select who_in()';
         create function hidden(a int) returns bool language sql stable as 'select true';
         revoke execute on function hidden from public;
         create function hides(a int) returns bool language sql stable as 'select hidden(a)';
         create function hides_as_owner(a int) returns bool language sql stable security definer as 'select hidden(a)';
         create schema closed; create function closed.of(a int) returns bool language sql stable as 'select a = 1';
         create function enters(a int) returns bool language sql stable as 'select closed.of(a)';
         create function raises(a int) returns bool language sql stable as 'select 1 / (a - 1) > 0';
         create function raises_if(a int, b bool) returns bool language sql stable as 'select b';
         create function lower(text) returns text language sql stable as 'select ''sub''';
         create function volatile_true() returns bool language sql volatile as 'select true';
         create function many(variadic a int[]) returns bool language sql stable as 'select 1 = any (a)';
         create function named(uid uuid, t int) returns bool language sql stable as
             'select exists (select 1 from members m where m.member = uid and m.team = t)';
         create function ambiguous(team int) returns bool language sql stable as
             'select exists (select 1 from members where team = team and member = auth.uid())';
         create function rec(a int) returns bool language sql stable as 'select a > 3';
         create or replace function rec(a int) returns bool language sql stable as 'select case when a > 3 then true else rec(a + 1) end';
         create function set_off() returns bool language sql stable set row_security = on as 'select true';",
        &[
            "strict_true(team)",
            "with_default(team)",
            "with_default(team, false)",
            "with_default(a => team, b => false)",
            "over(team)",
            "over(team::bigint)",
            "over(team::text)",
            "no_row(team)",
            "no_row(team) is null",
            "two_rows(team)",
            "who() = 'authenticated'",
            "who_in() = 'authenticated'",
            "who_deep() = 'authenticated'",
            "hidden(team)",
            "team = 1 or hidden(team)",
            "false and hidden(team)",
            "case when true then team = 1 else hidden(team) end",
            "hides(team)",
            "hides_as_owner(team)",
            "closed.of(team)",
            "enters(team)",
            "team = 1 or raises(team)",
            "raises(team) or team = 2",
            "team = 2 and raises(team)",
            "raises_if(team, true) or 1 / (team - 1) > 0",
            "raises_if(1 / (id - 6), true)",
            "lower(kind) = 'sub'",
            "public.lower(kind) = 'sub'",
            "volatile_true() and team = 1",
            "many(team, 3)",
            "named(auth.uid(), team)",
            "named(t => team, uid => auth.uid())",
            "ambiguous(team)",
            "rec(team)",
            "set_off() and team = 1",
            "kind = 'sub' or exists (select from members m where m.secret = 'x')",
            "kind = 'sub' or team in (select m.team from members m where m.secret = 'x')",
            "kind = 'sub' or (select m.secret from members m limit 1) = 'x'",
            "team = (select m.team from members m where m.member = auth.uid())",
            "team = (select m.team from members m where m.member = auth.uid() and m.roles is null)",
            "team not in (select m.team from members m where m.member = auth.uid())",
            "team not in (select nullif(m.team, 1) from members m where m.member = auth.uid())",
            "id not in (select m.team from members m where m.team = notes.team)",
            "id in (select nullif(m.team, 2) from members m where m.team = notes.team)",
            "(team, kind) in (select m.team, 'sub'::text from members m)",
            "exists (select from members m where m.team = notes.team and m.team = notes.id)",
            "exists (select from members m, notes n where m.team = n.team and n.id = notes.id)",
            "exists (select from members m left join members o on o.team = m.team + 1 where o.team = notes.team and m.member = auth.uid())",
            "exists (select from members m left join members o on o.team = m.team + 1 where o.team is null and m.team = notes.team)",
            "exists (select from members m where m.team = notes.team offset 1)",
            "exists (select from members m where m.team = notes.team limit 0)",
            "exists (select distinct m.member from members m where m.team = notes.team)",
            "exists (select from members m where m.team = notes.team and exists (select from members o where o.team = m.team and o.member = auth.uid()))",
            "exists (select from members m where m.team = notes.team and exists (select from members o where o.team = notes.team and o.member = auth.uid()))",
            "'admin' = any (select unnest(m.roles) from members m where m.team = notes.team and m.member = auth.uid())",
            "'admin' = any ((select m.roles from members m where m.team = notes.team and m.member = auth.uid())::text[])",
            "array(select m.team from members m where m.member = auth.uid()) @> array[team]",
            "team in (select m.team from members m where m.member = auth.uid() union select 4)",
            "team in (select m.team from members m where m.member = auth.uid() except select 2)",
            "team in (with w as (select m.team from members m where m.member = auth.uid()) select w.team from w)",
            "team in (select x.team from (select m.team, m.member from members m) x where x.member = auth.uid())",
            "team in (select max(m.team) from members m where m.member = auth.uid())",
            "team in (select m.team from members m group by m.team having count(*) > 1)",
            "team in (select m.team from members m where m.member = (auth.jwt() ->> 'sub')::uuid)",
            "team in (select m.team from members m where m.member::text = auth.jwt() ->> 'sub')",
            "team in (select m.team from members m where m.team = (auth.jwt() ->> 'sub')::int)",
            "team in (select m.team from members m where current_user = 'authenticated')",
            "team in (select m.team from members m where m.team = any (array[1, 3]) and auth.role() = 'authenticated')",
            "team in (select m.team::bigint from members m where m.member = auth.uid())",
            "team::numeric in (select m.team from members m where m.member = auth.uid())",
            "kind in (select m.roles[1] from members m)",
            "kind::char(5) in (select 'sub  '::char(8))",
            "exists (select from members m where (m.team = notes.team) is not false and m.member = auth.uid())",
            "exists (select from members m where m.team = coalesce(notes.team, 4))",
            "exists (select from members m where m.team = notes.team + 1 and m.member = auth.uid())",
            "exists (select from members m where m.team = 10 / notes.team)",
            "exists (select from members m where m.team = notes.team and 1 / (m.team - 3) > 5)",
        ],
    )
    .await;
}

/// In every round somebody is let into a new team, sent away, and only then is something said there.
#[tokio::test(flavor = "multi_thread")]
async fn who_was_sent_away_hears_nothing_however_many_come_and_go() {
    let db = Database::new().await;
    db.execute(SCHEMA).await;
    db.execute(
        "truncate members;
         create policy p on notes using (exists (select from members m where m.team = notes.team and m.member = auth.uid()))",
    )
    .await;
    let server = Server::start(&db).await;
    let done = std::sync::atomic::AtomicBool::new(false);
    let rounds = async {
        for round in 1..=150 {
            let member = if round % 2 == 0 { ALICE } else { BOB };
            db.execute(&format!("insert into members values ({round}, '{member}')")).await;
            db.execute(&format!("delete from members where team = {round}")).await;
            db.execute(&format!("insert into notes values ({round}, {round})")).await;
        }
        done.store(true, std::sync::atomic::Ordering::Relaxed);
    };
    let visitor = async |sub: &'static str| {
        let mut heard = Vec::new();
        while !done.load(std::sync::atomic::Ordering::Relaxed) {
            let mut client = subscribed(&server, sub).await;
            client.round_trip().await;
            client.round_trip().await;
            let changes = client.pending().iter().filter(|message| message.event == "postgres_changes");
            heard.extend(changes.map(|message| message.payload["data"]["record"]["id"].clone()));
        }
        assert!(heard.is_empty(), "{sub} heard {heard:?}");
    };
    tokio::join!(rounds, visitor(ALICE), visitor(BOB), visitor(ALICE), visitor(BOB));
    eventually("nothing is held for those who left", || async {
        let relations = server.metric("rowcast_policy_relations").await;
        let subscriptions = server.metric("rowcast_subscriptions").await;
        (relations == 0.0 && subscriptions == 0.0).then_some(())
    })
    .await;
    assert_eq!(server.metric("rowcast_policy_relation_rows").await, 0.0);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn enums_and_numbers_are_looked_up_as_postgres_compares_them() {
    agrees(
        "create type size as enum ('s', 'm', 'l');
         alter table notes add column size size generated always as
             (case id when 1 then 's'::size when 2 then 'm'::size when 3 then 'l'::size end) stored,
           add column amount numeric generated always as (case id when 1 then 1.00 when 2 then 1 when 3 then 10.0 when 4 then -5e-30 end) stored,
           add column ratio float8 generated always as (case id when 1 then '-0'::float8 when 3 then 1e-320 when 4 then -1e308 end) stored,
           add column code char(4) generated always as (case id when 1 then 'a' when 2 then 'a ' when 3 then '' end) stored,
           add column at timestamptz generated always as (case id when 1 then 'infinity'::timestamptz when 3 then timestamptz '2020-01-01 00:00:00+00' end) stored;",
        &[
            "size = 'm'",
            "size > 's'",
            "size in ('s', 'l')",
            "size between 'm' and 'l'",
            "amount = 1.0",
            "amount in (1.000, 10)",
            "amount > 1",
            "amount = id",
            "ratio = 0",
            "ratio >= 0",
            "ratio < 1",
            "ratio = id",
            "code = 'a'",
            "code in ('a   ', '')",
            "code = kind",
            "code::text = 'a'",
            "at > '2019-12-31'::date",
            "at = '2020-01-01 00:00:00'::timestamp",
            "at >= '2020-01-01'",
            "at > now()",
            "at < 'infinity'",
            "id = 2.0",
            "id = 2.5::float8",
            "id > 2.5",
            "id::float4 between 1.5 and 3.5",
            "id = any (array[1, null, 3])",
            "id <> all (array[1, null, 3])",
            "id = any ('{}'::int[])",
            "not (id = any (array[2, 3]))",
            "id in (1, 2) and team in (2, 3)",
            "id = 1 or team = 2 or size = 'l'",
            "(id = 1 or team = 2) and size < 'l'",
            "id < 3 and id > 1 or id = 5",
            "id < 1 and id > 3",
            "kind = 'sub' is true",
            "(kind = 'sub') is not false",
            "kind is distinct from 'sub'",
            "nullif(kind, 'sub') is null",
            "coalesce(kind, 'role') = 'role'",
            "lower(kind) = 'sub'",
            "left(kind, 1) in ('s', 'r')",
        ],
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_enum_may_grow_in_the_middle() {
    let db = Database::new().await;
    db.execute(SCHEMA).await;
    db.execute(
        "create type size as enum ('s', 'l'); alter table notes add column size size;
         create policy p on notes using (size < 'l' or size = any (array['l'::size]) and team = 1)",
    )
    .await;
    let server = Server::start(&db).await;
    let mut alice = subscribed(&server, ALICE).await;
    for change in [
        "select 1",
        "alter type size add value 'm' before 'l'",
        "alter type size rename value 's' to 'xl'",
        "alter type size add value 's' after 'l'",
    ] {
        db.execute(change).await;
        db.execute("truncate notes").await;
        db.execute("insert into notes (id, team, size) select row_number() over (), t, s from unnest(enum_range(null::size)) s, generate_series(1, 2) t limit 5").await;
        let got = ids(&mut alice, &server, &db).await;
        assert_eq!(got, selected(&db, ALICE).await, "{change}");
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn large_policies_are_survived() {
    let chain = |what: &str, by: &str, many: usize| {
        let terms: Vec<_> = (1..=many).map(|n| what.replace('#', &n.to_string())).collect();
        terms.join(by)
    };
    let list = chain("#", ",", 100_000);
    let nested = format!("{}team = 1{}", "not (not (".repeat(400), "))".repeat(400));
    let in_a_row = format!("team = {}1", "1 * ".repeat(3000));
    let policies = [
        chain("team = #", " or ", 3),
        chain("team = #", " or ", 990),
        chain("team = #", " or ", 10_000),
        format!("team in ({list})"),
        format!("team not in ({list})"),
        format!("team in (select m.team from members m where m.member = auth.uid() and m.team in ({list}))"),
        format!("team in (select m.team from members m where m.member = auth.uid() and ({}))", chain("m.team <> # + 10", " and ", 990)),
        format!("team in (select m.team from members m where m.member = auth.uid() and (({}) = 1))", chain("(case when m.team = # then 1 else 0 end)", " + ", 900)),
        chain("team in (select m.team from members m where m.member = auth.uid() and m.team = #)", " or ", 100),
        nested,
        in_a_row,
        format!("team = length({}'x'{})", "concat(".repeat(40), ")".repeat(40)),
    ];
    let policies: Vec<&str> = policies.iter().map(String::as_str).collect();
    agrees("", &policies).await;
}

/// What may happen to rights and definitions; `%s` is the name of the database, for roles.
const DECREES: &[&str] = &[
    "revoke select on members from authenticated",
    "grant select (team) on members to authenticated",
    "grant select (member) on members to authenticated",
    "alter table members enable row level security",
    "create policy m on members to authenticated using (team < 3)",
    "alter policy m on members using (team > 1)",
    "create policy mm on members as restrictive using (current_user <> 'authenticated' or team <> 2)",
    "alter table members owner to keeper_%s",
    "alter table members force row level security",
    "drop policy mm on members",
    "alter table members disable row level security",
    "revoke execute on function is_member(int) from public",
    "grant execute on function is_member(int) to authenticated",
    "alter function is_member(int) security definer",
    "alter function is_member(int) owner to keeper_%s",
    "alter table members owner to postgres; revoke all on members from keeper_%s",
    "grant select on members to keeper_%s",
    "revoke usage on schema auth from public, authenticated, keeper_%s",
    "grant usage on schema auth to keeper_%s, authenticated",
    "create or replace function auth.uid() returns uuid language sql stable as
         $$ select 'b0000000-0000-4000-8000-000000000002'::uuid $$",
    "create or replace function auth.uid() returns uuid language plpgsql stable as
         $$ begin return 'a0000000-0000-4000-8000-000000000001'::uuid; end $$",
    "create or replace function auth.uid() returns uuid language sql stable as
         $$ select (current_setting('request.jwt.claims', true)::json ->> 'sub')::uuid $$",
    "create or replace function is_member(t int) returns bool language sql stable as
         'select exists (select from public.members where team = t + 1 and member = auth.uid())'",
    "create schema keeper_%s; create schema authenticated; grant usage on schema authenticated to authenticated;
     create table authenticated.members as select 5 as team, member from public.members;
     grant select on authenticated.members to authenticated",
    "create or replace function is_member(t int) returns bool language sql stable as
         'select exists (select from members where team = t - 1 and member = auth.uid())'",
    "alter function is_member(int) set search_path = public, auth",
    "alter function is_member(int) strict",
    "alter function is_member(int) volatile",
    "drop table authenticated.members",
    "alter function is_member(int) reset all",
    "alter function is_member(int) stable; revoke usage on schema public from public, authenticated",
    "grant usage on schema public to public",
    "alter table notes disable row level security",
    "alter table notes enable row level security, force row level security",
    "drop policy p on notes",
    "create policy p on notes to keeper_%s using (true)",
    "create policy q on notes for update using (true)",
    "create policy r on notes as restrictive using (true)",
    "create policy s on notes using (is_member(team))",
    "drop schema authenticated cascade",
];

#[tokio::test(flavor = "multi_thread")]
async fn rights_and_definitions_hold_from_the_next_row() {
    for way in [
        "team in (select m.team from members m where m.member = auth.uid())",
        "is_member(team)",
        "exists (select from members m where m.team = notes.team and m.member = auth.uid()) or is_member(id)",
    ] {
        let db = Database::new().await;
        let own = |sql: &str| sql.replace("%s", &db.name);
        db.execute(SCHEMA).await;
        db.execute(&own(
            "create role keeper_%s; grant usage on schema auth to keeper_%s; grant create on schema public to keeper_%s;
             create function is_member(t int) returns bool language sql stable as
                 'select exists (select from public.members where team = t and member = auth.uid())'",
        ))
        .await;
        db.execute(&format!("create policy p on notes using ({way})")).await;
        let server = Server::start(&db).await;
        let (mut alice, mut bob) = (subscribed(&server, ALICE).await, subscribed(&server, BOB).await);
        for decree in DECREES {
            db.execute("delete from notes").await;
            db.execute(&own(decree)).await;
            (ids(&mut alice, &server, &db).await, ids(&mut bob, &server, &db).await);
            db.execute(ROWS).await;
            for (client, sub, name) in [(&mut alice, ALICE, "alice"), (&mut bob, BOB, "bob")] {
                let (got, expected) = (ids(client, &server, &db).await, selected(&db, sub).await);
                assert_eq!(got, expected, "{way}: {name} after {decree}");
            }
        }
        server.stop().await;
    }
}
