//! Verdicts from memory, checked behind their delivery: memory and Postgres agree, whatever goes on meanwhile, and where
//! they do not, it is said.

use rowcast::config::Share;
use serde_json::{Value, json};

use crate::support::{Client, Database, LIMIT, Server, Version, eventually, token};

const ALICE: &str = "a0000000-0000-4000-8000-000000000001";
const BOB: &str = "b0000000-0000-4000-8000-000000000002";

/// Own rows, rows of one's teams, rows about which a policy raises, rows whose time has come.
const SCHEMA: &str = "
    create table members (team int, member uuid, primary key (team, member));
    grant select on members to authenticated;
    create table notes (id int primary key, team int, owner uuid, title text, weight int);
    alter table notes replica identity full;
    grant select on notes to authenticated;
    alter table notes enable row level security;
    alter publication supabase_realtime add table notes;
    create policy own on notes using (owner = auth.uid());
    create policy team on notes using (exists (
        select from members m where m.team = notes.team and m.member = auth.uid()));
    create policy light on notes using (title like 'light%' and 100 / weight > 10);
    create table tasks (id int primary key, due timestamptz);
    grant select on tasks to authenticated;
    alter table tasks enable row level security;
    alter publication supabase_realtime add table tasks;
    create policy due on tasks using (due < now());
";

async fn server(db: &Database) -> Server {
    Server::start_with(db, |config| config.policy.shadow_share = Share(1.0)).await
}

async fn subscribed(server: &Server, sub: &str, table: &str) -> Client {
    let token = token::token("authenticated", json!({"sub": sub}));
    let mut client = Client::connect(server, Version::V2, &token).await;
    let changes = json!([{"event": "*", "schema": "public", "table": table}]);
    client.subscribe("room", changes).await;
    client
}

/// Checks by outcome.
async fn checks(server: &Server, outcome: &str) -> u64 {
    let (_, metrics) = server.get("/metrics").await;
    let name = format!("rowcast_policy_shadow_checks_total{{outcome=\"{outcome}\"}} ");
    let value = metrics.lines().find_map(|line| line.strip_prefix(&name));
    value.map_or(0, |value| value.parse().expect("a count"))
}

/// What has come: type and id, once everything committed has.
async fn delivered(client: &mut Client, server: &Server, db: &Database) -> Vec<(String, i64)> {
    server.passed(db).await;
    client.round_trip().await;
    let mut delivered = Vec::new();
    for message in client.pending() {
        if message.event == "postgres_changes" && message.payload["data"]["errors"] == Value::Null {
            let data = &message.payload["data"];
            let row = if data["type"] == "DELETE" {
                "old_record"
            } else {
                "record"
            };
            let id = data[row]["id"].as_i64().expect("an id");
            delivered.push((data["type"].as_str().expect("a type").to_owned(), id));
        }
    }
    client.forget("postgres_changes");
    delivered
}

#[tokio::test(flavor = "multi_thread")]
async fn memory_and_postgres_agree_while_membership_changes() {
    let db = Database::new().await;
    db.execute(SCHEMA).await;
    let server = server(&db).await;
    let (mut alice, mut bob) = (
        subscribed(&server, ALICE, "notes").await,
        subscribed(&server, BOB, "*").await,
    );
    let inserted = |id: i64| ("INSERT".to_owned(), id);
    for round in 0..40_i64 {
        let id = round * 10;
        let (comes, goes) = if round % 2 == 0 {
            (ALICE, BOB)
        } else {
            (BOB, ALICE)
        };
        // Autocommit: who is a member when a row is judged, and when Postgres is asked again, is seldom the same.
        for statement in [
            format!("delete from members where member = '{goes}'"),
            format!("insert into members values (1, '{comes}') on conflict do nothing"),
            format!("insert into notes values ({id}, 1, null, 'x', 1)"),
            format!("insert into notes values ({}, 2, '{ALICE}', 'y', 0)", id + 1),
            format!(
                "insert into notes values ({}, 2, null, 'light', {})",
                id + 2,
                round % 3
            ),
            format!("insert into tasks values ({}, now() - interval '1 day')", id + 3),
            format!("update notes set team = 2 where id = {id}"),
            format!("delete from notes where id = {}", id + 1),
        ] {
            db.execute(&statement).await;
        }
    }
    let (to_alice, to_bob) = (
        delivered(&mut alice, &server, &db).await,
        delivered(&mut bob, &server, &db).await,
    );
    for round in 0..40_i64 {
        let id = round * 10;
        // Allowed before the policy that raises is met, and not allowed where it is.
        assert!(to_alice.contains(&inserted(id + 1)), "{id}");
        assert!(!to_bob.contains(&inserted(id + 1)), "{id}");
        let light = round % 3 != 0;
        assert_eq!(to_alice.contains(&inserted(id + 2)), light, "{id}");
        assert_eq!(to_bob.contains(&inserted(id + 2)), light, "{id}");
        assert!(to_bob.contains(&inserted(id + 3)), "{id}");
        assert!(to_alice.contains(&("DELETE".to_owned(), id + 1)), "{id}");
        assert!(!to_bob.contains(&("DELETE".to_owned(), id + 1)), "{id}");
    }
    // Once nothing is under way it is certain who is a member.
    db.execute(&format!(
        "begin; truncate members; insert into members values (1, '{ALICE}'); insert into notes values (1000, 1); commit"
    ))
    .await;
    assert_eq!(delivered(&mut alice, &server, &db).await, [inserted(1000)]);
    assert_eq!(delivered(&mut bob, &server, &db).await, []);
    // Whatever the index does not rule out: at least Alice's own rows, those whose weight counts, and the tasks.
    let least = 40 * 4;
    eventually("all have been checked", || async {
        // What waits for the stream needs it to move on.
        db.execute("insert into members values (9, gen_random_uuid())")
            .await;
        let mut all = 0;
        for outcome in ["agree", "disagree", "inconclusive", "dropped", "failed"] {
            all += checks(&server, outcome).await;
        }
        (all >= least).then_some(())
    })
    .await;
    assert_eq!(checks(&server, "disagree").await, 0);
    assert_eq!(checks(&server, "failed").await, 0);
    assert!(checks(&server, "agree").await >= least);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_membership_that_has_ended_since_proves_nothing() {
    let db = Database::new().await;
    db.execute(SCHEMA).await;
    db.execute(&format!("insert into members values (1, '{ALICE}')"))
        .await;
    let server = Server::start_with(&db, |config| {
        config.policy.shadow_share = Share(1.0);
        config.policy.timeout = LIMIT;
    })
    .await;
    let mut alice = subscribed(&server, ALICE, "notes").await;
    // Once the stream carries the tables for good, what is in memory stays.
    db.execute("insert into notes values (100, 2)").await;
    assert_eq!(delivered(&mut alice, &server, &db).await, []);
    let other = Database::open(db.name.clone(), db.settings.clone()).await;
    // Memory has what it needs; Postgres cannot answer before the membership has ended.
    other
        .execute("begin; lock table members in access exclusive mode")
        .await;
    db.execute("insert into notes values (1, 1)").await;
    assert_eq!(
        delivered(&mut alice, &server, &db).await,
        [("INSERT".to_owned(), 1)]
    );
    other.execute("truncate members; commit").await;
    eventually("the row has been checked", || async {
        db.execute("insert into members values (9, gen_random_uuid())")
            .await;
        (checks(&server, "inconclusive").await == 1).then_some(())
    })
    .await;
    assert_eq!(server.metric("rowcast_policy_shadow_checks_total").await, 1.0);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_checked_unless_asked_for() {
    let db = Database::new().await;
    db.execute(SCHEMA).await;
    let server = Server::start(&db).await;
    let mut alice = subscribed(&server, ALICE, "notes").await;
    db.execute(&format!("insert into notes values (1, 1, '{ALICE}', 'x', 1)"))
        .await;
    assert_eq!(
        delivered(&mut alice, &server, &db).await,
        [("INSERT".to_owned(), 1)]
    );
    assert_eq!(server.metric("rowcast_policy_shadow_checks_total").await, 0.0);
    let open = "select count(*)::text from pg_stat_activity where application_name = 'rowcast_shadow'
                and datname = current_database()";
    assert_eq!(db.text(open).await, "0");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_does_not_agree_is_counted_and_changes_nothing() {
    let db = Database::new().await;
    db.execute(
        "create table docs (id int primary key, title text);
         grant select on docs to authenticated;
         alter table docs enable row level security;
         alter publication supabase_realtime add table docs;
         create policy open on docs using (title like 'open%');
         create table t (a int)",
    )
    .await;
    // In this database LIKE is NOT LIKE, and nothing says so.
    db.execute(
        "update pg_operator set oprcode = 'pg_catalog.textnlike(text, text)'::regprocedure
         where oprname = '~~' and oprleft = 'text'::regtype and oprright = 'text'::regtype",
    )
    .await;
    let server = server(&db).await;
    let mut alice = subscribed(&server, ALICE, "docs").await;
    db.execute("insert into docs values (1, 'open'), (2, 'closed')")
        .await;
    assert_eq!(
        delivered(&mut alice, &server, &db).await,
        [("INSERT".to_owned(), 1)]
    );
    eventually("rows are known to be judged otherwise", || async {
        // What waits for the stream needs it to move on. A new table would be a new catalog, which proves nothing; so are the roles
        // that other tests make meanwhile, and then it takes other rows.
        db.execute(
            "insert into docs select max(id) + 1, 'open' from docs union all select max(id) + 2, 'closed' from docs;
             insert into t values (1)",
        )
        .await;
        (checks(&server, "disagree").await >= 2).then_some(())
    })
    .await;
    assert_eq!(checks(&server, "agree").await, 0);
    server.stop().await;
}
