//! Policies that look into other tables: who is a member counts from the commit that makes it so, and nothing is asked
//! of Postgres while nobody's membership changes.

use serde_json::{Value, json};

use crate::support::{Client, Database, Server, Version, token};

const ALICE: &str = "a0000000-0000-4000-8000-000000000001";
const BOB: &str = "b0000000-0000-4000-8000-000000000002";

/// Ways to write "in one of the reader's teams" over `notes(id, team)`. The last one is put to Postgres row by row.
const WAYS: &[&str] = &[
    "team in (select m.team from members m where m.member = auth.uid())",
    "team = any (select m.team from members m where m.member = auth.uid())",
    "team = any (array(select m.team from members m where m.member = auth.uid()))",
    "exists (select from members m where m.team = notes.team and m.member = auth.uid())",
    "exists (select 1 from members m where auth.uid() = m.member and notes.team = m.team limit 1)",
    "is_member(team)",
    "is_member_as_owner(team)",
    "auth.uid() in (select m.member from members m where m.team = notes.team)",
];

const SCHEMA: &str = "
    create table members (team int, member uuid, primary key (team, member));
    grant select on members to authenticated;
    create function is_member(t int) returns bool language sql stable as
        'select exists (select from members where team = t and member = auth.uid())';
    create function is_member_as_owner(t int) returns bool language sql stable security definer set search_path = '' as
        'select exists (select from public.members where team = t and member = (select auth.uid()))';
    create table notes (id int primary key, team int);
    grant select on notes to authenticated;
    alter table notes enable row level security;
    alter publication supabase_realtime add table notes;
";

fn user(sub: &str) -> String {
    token::token("authenticated", json!({"sub": sub}))
}

async fn subscribed(server: &Server, sub: &str) -> Client {
    let mut client = Client::connect(server, Version::V2, &user(sub)).await;
    let changes = json!([{"event": "*", "schema": "public", "table": "notes"}]);
    client.subscribe("room", changes).await;
    client
}

/// The ids of the rows that have come, once everything committed has.
async fn ids(client: &mut Client, server: &Server, db: &Database) -> Vec<i64> {
    server.passed(db).await;
    client.round_trip().await;
    let mut ids = Vec::new();
    for message in client.pending() {
        if message.event == "postgres_changes" {
            let data = &message.payload["data"];
            assert_eq!(data["errors"], Value::Null, "{data}");
            ids.push(data["record"]["id"].as_i64().expect("an id"));
        }
    }
    client.forget("postgres_changes");
    ids
}

#[tokio::test(flavor = "multi_thread")]
async fn membership_counts_from_its_commit() {
    for way in WAYS {
        let db = Database::new().await;
        db.execute(SCHEMA).await;
        db.execute(&format!("create policy p on notes using ({way})"))
            .await;
        db.execute(&format!(
            "insert into members values (1, '{ALICE}'), (2, '{BOB}')"
        ))
        .await;
        let server = Server::start(&db).await;
        let (mut alice, mut bob) = (subscribed(&server, ALICE).await, subscribed(&server, BOB).await);

        db.execute("insert into notes values (1, 1), (2, 2), (3, 3), (4, null)")
            .await;
        assert_eq!(ids(&mut alice, &server, &db).await, [1], "{way}");
        assert_eq!(ids(&mut bob, &server, &db).await, [2], "{way}");

        db.execute(&format!(
            "insert into members values (3, '{ALICE}'); insert into notes values (5, 3)"
        ))
        .await;
        assert_eq!(ids(&mut alice, &server, &db).await, [5], "{way}: added");
        db.execute("delete from members where team = 1; insert into notes values (6, 1)")
            .await;
        assert_eq!(ids(&mut alice, &server, &db).await, [0; 0], "{way}: removed");
        db.execute(&format!(
            "update members set member = '{BOB}' where team = 3; insert into notes values (7, 3)"
        ))
        .await;
        assert_eq!(ids(&mut alice, &server, &db).await, [0; 0], "{way}: handed on");
        assert_eq!(ids(&mut bob, &server, &db).await, [7], "{way}: handed on");

        // The members that a transaction makes see all of it, whatever the order in it.
        db.execute(&format!(
            "begin; insert into notes values (8, 4); insert into members values (4, '{ALICE}');
             insert into notes values (9, 4); commit"
        ))
        .await;
        assert_eq!(ids(&mut alice, &server, &db).await, [8, 9], "{way}: let in");
        db.execute("begin; insert into notes values (10, 4); delete from members where team = 4; commit")
            .await;
        assert_eq!(ids(&mut alice, &server, &db).await, [0; 0], "{way}: sent away");
        db.execute("truncate members; insert into notes values (11, 2), (12, 3)")
            .await;
        assert_eq!(ids(&mut bob, &server, &db).await, [0; 0], "{way}: truncated");
        server.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_asked_while_membership_stays() {
    let db = Database::new().await;
    db.execute(SCHEMA).await;
    let any = WAYS[..WAYS.len() - 1]
        .iter()
        .map(|way| format!("({way})"))
        .collect::<Vec<_>>()
        .join(" or ");
    db.execute(&format!("create policy p on notes using ({any})"))
        .await;
    db.execute(&format!(
        "insert into members values (1, '{ALICE}'), (2, '{BOB}')"
    ))
    .await;
    let server = Server::start(&db).await;
    let (mut alice, mut bob) = (subscribed(&server, ALICE).await, subscribed(&server, BOB).await);
    db.execute("insert into notes values (0, 1)").await;
    assert_eq!(ids(&mut alice, &server, &db).await, [0]);
    let reads = server.metric("rowcast_policy_relation_reads_total").await;
    db.execute("insert into notes select n, n % 4 from generate_series(1, 40) n")
        .await;
    assert_eq!(ids(&mut alice, &server, &db).await.len(), 10);
    assert_eq!(ids(&mut bob, &server, &db).await.len(), 10);
    assert_eq!(server.metric("rowcast_policy_judge_calls_total").await, 0.0);
    assert_eq!(server.metric("rowcast_policy_relation_reads_total").await, reads);
    // Somebody else's membership is not read again for Alice and Bob.
    db.execute("insert into members values (9, 'c0000000-0000-4000-8000-000000000003'); insert into notes values (50, 1)").await;
    assert_eq!(ids(&mut alice, &server, &db).await, [50]);
    assert_eq!(server.metric("rowcast_policy_relation_reads_total").await, reads);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_inner_tables_own_policies_hold() {
    let db = Database::new().await;
    db.execute(SCHEMA).await;
    db.execute(&format!(
        "create table banned (member uuid primary key); grant select on banned to authenticated;
         alter table members enable row level security;
         create policy m on members using (member = auth.uid() and member not in (select b.member from banned b));
         create policy p on notes using (team in (select m.team from members m));
         insert into members values (1, '{ALICE}'), (2, '{BOB}')"
    ))
    .await;
    let server = Server::start(&db).await;
    let (mut alice, mut bob) = (subscribed(&server, ALICE).await, subscribed(&server, BOB).await);
    db.execute("insert into notes values (1, 1), (2, 2)").await;
    assert_eq!(ids(&mut alice, &server, &db).await, [1]);
    assert_eq!(ids(&mut bob, &server, &db).await, [2]);
    // Two tables away.
    db.execute(&format!(
        "insert into banned values ('{ALICE}'); insert into notes values (3, 1), (4, 2)"
    ))
    .await;
    assert_eq!(ids(&mut alice, &server, &db).await, [0; 0]);
    assert_eq!(ids(&mut bob, &server, &db).await, [4]);
    db.execute("truncate banned; insert into notes values (5, 1)")
        .await;
    assert_eq!(ids(&mut alice, &server, &db).await, [5]);
    assert_eq!(server.metric("rowcast_policy_judge_calls_total").await, 0.0);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_watched_is_still_right() {
    // A view, a function in another language, a set that is too large, one that raises.
    for (name, schema, policy) in [
        (
            "a view",
            "create view teams as select * from members; grant select on teams to authenticated",
            "team in (select t.team from teams t where t.member = auth.uid())",
        ),
        (
            "plpgsql",
            "create function member_of(t int) returns bool language plpgsql stable as
                 'begin return exists (select from members m where m.team = t and m.member = auth.uid()); end'",
            "member_of(team)",
        ),
        (
            "too many",
            "insert into members select n, 'a0000000-0000-4000-8000-000000000001' from generate_series(100, 200) n",
            "team in (select m.team from members m where m.member = auth.uid())",
        ),
    ] {
        let db = Database::new().await;
        db.execute(SCHEMA).await;
        db.execute(schema).await;
        db.execute(&format!("create policy p on notes using ({policy})")).await;
        db.execute(&format!("insert into members values (1, '{ALICE}'), (2, '{BOB}')")).await;
        let server = Server::start_with(&db, |config| config.policy.relation_rows = 20).await;
        let (mut alice, mut bob) = (subscribed(&server, ALICE).await, subscribed(&server, BOB).await);
        db.execute("insert into notes values (1, 1), (2, 2)").await;
        assert_eq!(ids(&mut alice, &server, &db).await, [1], "{name}");
        assert_eq!(ids(&mut bob, &server, &db).await, [2], "{name}");
        db.execute("delete from members where team = 1; insert into notes values (3, 1)").await;
        assert_eq!(ids(&mut alice, &server, &db).await, [0; 0], "{name}");
        assert!(server.metric("rowcast_policy_judge_calls_total").await > 0.0, "{name}");
        server.stop().await;
    }
}
