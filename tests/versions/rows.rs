//! Who sees which rows.

use serde_json::json;

use super::{ALICE, BOB, on, shorts, subscriber, told};
use crate::support::{Database, Server, token};

pub(super) async fn policies_decide_in_memory_and_in_postgres(major: u32) {
    let db = Database::on_version(major).await;
    // The first kind of policy is compiled, the other has to be asked.
    db.execute(
        "create function odd(n int) returns bool language plpgsql stable as 'begin return n % 2 = 1; end';
         create table plain (id int primary key, owner uuid, level numeric, tags text[], at timestamptz, doc jsonb);
         create table asked (id int primary key, owner uuid);
         alter table plain enable row level security; alter table asked enable row level security;
         create policy own on plain for select to authenticated
           using (owner = (select auth.uid()) or tags @> array['open'] or (doc ->> 'public')::bool);
         create policy low on plain as restrictive using (level between 1 and 9 and at < '2100-01-01');
         create policy p on asked for select using (owner = auth.uid() and odd(id));
         grant select on plain, asked to authenticated;
         alter table plain replica identity full;
         alter publication supabase_realtime add table plain, asked",
    )
    .await;
    let server = Server::start(&db).await;
    let everything = json!([{"event": "*", "schema": "public"}]);
    let mut alice = subscriber(&server, &token::user(ALICE), everything.clone()).await;
    let mut bob = subscriber(&server, &token::user(BOB), everything).await;
    db.execute(&format!(
        "insert into plain values (1, '{ALICE}', 1, null, '2020-01-01', null), (2, '{ALICE}', 10, null, '2020-01-01', null),
           (3, null, 2, '{{open}}', '2020-01-01', null), (4, null, 2, null, '2020-01-01', '{{\"public\": true}}'),
           (5, '{BOB}', 2, null, null, null);
         insert into asked values (11, '{ALICE}'), (12, '{ALICE}'), (13, '{BOB}')"
    ))
    .await;
    let ids = |told: Vec<serde_json::Value>| -> Vec<i64> {
        told.iter()
            .filter_map(|data| data["record"]["id"].as_i64())
            .collect()
    };
    assert_eq!(ids(told(&mut alice, &db, &server).await), [1, 3, 4, 11]);
    assert_eq!(ids(told(&mut bob, &db, &server).await), [3, 4, 13]);
    assert!(server.metric("rowcast_policy_judge_calls_total").await > 0.0);
    // Old rows are judged, too.
    db.execute("update plain set level = 3 where id = 1; delete from plain where id in (1, 2)")
        .await;
    let kinds: Vec<_> = told(&mut alice, &db, &server)
        .await
        .into_iter()
        .map(|data| (data["type"].clone(), data["old_record"]["id"].clone()))
        .collect();
    assert_eq!(
        kinds[..2],
        [(json!("UPDATE"), json!(1)), (json!("DELETE"), json!(1))],
        "{kinds:?}"
    );
    server.stop().await;
}

pub(super) async fn filters_and_members_count(major: u32) {
    let db = Database::on_version(major).await;
    db.execute(
        "create type mood as enum ('calm', 'wild');
         create table members (team int, member uuid, primary key (team, member));
         create table notes (id int primary key, team int, mood mood, body text);
         alter table notes enable row level security;
         create policy team on notes for select using (team in (select m.team from members m where m.member = auth.uid()));
         grant select on members, notes to authenticated;
         alter publication supabase_realtime add table notes",
    )
    .await;
    let server = Server::start(&db).await;
    let filtered = json!([{"event": "*", "schema": "public", "table": "notes", "filter": "mood=gt.calm"}]);
    let mut all = subscriber(&server, &token::user(ALICE), on("notes")).await;
    let mut wild = subscriber(&server, &token::user(ALICE), filtered).await;
    db.execute(&format!(
        "insert into notes values (1, 1, 'wild', 'unseen'); insert into members values (1, '{ALICE}')"
    ))
    .await;
    db.execute("insert into notes values (2, 1, 'calm', 'a'), (3, 1, 'wild', 'b'), (4, 2, 'wild', 'c')")
        .await;
    let row = |id: i32, mood: &str, body: &str| {
        let record = json!({"id": id, "team": 1, "mood": mood, "body": body});
        format!("INSERT {record}")
    };
    let both = [row(2, "calm", "a"), row(3, "wild", "b")];
    assert_eq!(
        shorts(&mut all, &db, &server).await[1..],
        both,
        "behind the one of the same transaction"
    );
    assert_eq!(shorts(&mut wild, &db, &server).await[1..], both[1..]);
    db.execute("delete from members").await;
    db.execute("insert into notes values (5, 1, 'wild', 'd')").await;
    assert_eq!(shorts(&mut all, &db, &server).await, [""; 0]);
    server.stop().await;
}

/// What the catalogs of these versions have in them that others have not: constraints of their own for NOT NULL, keys without
/// overlaps, roles whose members inherit or do not.
pub(super) async fn catalogs_of_every_kind_are_read(major: u32) {
    let db = Database::on_version(major).await;
    let temporal = match major {
        18.. => {
            "create extension btree_gist;
             create table stays (room int, during tstzrange, guest text, primary key (room, during without overlaps));"
        }
        _ => "create table stays (room int, during tstzrange, guest text, primary key (room, during));",
    };
    db.execute(temporal).await;
    db.execute(
        "create table strict (id int primary key, name text constraint named not null);
         alter table strict enable row level security;
         create policy p on strict using (name is not null and name like any (array['a%', 'b%']));
         grant select on stays, strict to authenticated;
         alter publication supabase_realtime add table stays, strict",
    )
    .await;
    let server = Server::start(&db).await;
    let everything = json!([{"event": "*", "schema": "public"}]);
    let mut alice = subscriber(&server, &token::user(ALICE), everything).await;
    db.execute(
        "insert into stays values (1, '[2030-01-01,2030-01-02)', 'x');
         update stays set guest = 'y' where room = 1;
         delete from stays;
         insert into strict values (1, 'a'), (2, 'c');
         merge into strict using (values (1, 'b'), (3, 'bb')) as v(id, name) on strict.id = v.id
           when matched then update set name = v.name when not matched then insert values (v.id, v.name)",
    )
    .await;
    let during = r#""during":"[\"2030-01-01 00:00:00+00\",\"2030-01-02 00:00:00+00\")""#;
    assert_eq!(
        shorts(&mut alice, &db, &server).await,
        [
            format!(r#"INSERT {{{during},"guest":"x","room":1}}"#),
            format!(r#"UPDATE {{{during},"guest":"y","room":1}}"#),
            format!(r#"DELETE {{{during},"room":1}}"#),
            r#"INSERT {"id":1,"name":"a"}"#.to_owned(),
            r#"UPDATE {"id":1,"name":"b"}"#.to_owned(),
            r#"INSERT {"id":3,"name":"bb"}"#.to_owned(),
        ]
    );
    server.stop().await;
}
