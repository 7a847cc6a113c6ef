//! A token that is replaced while its channel is told what it missed: the rest is judged by the new one.

use std::time::Duration;

use serde_json::{Value, json};

use super::service;
use crate::support::{Client, Database, Server, Version, token};

const ALICE: &str = "a11ce000-0000-4000-8000-000000000001";
const BOB: &str = "b0b00000-0000-4000-8000-000000000002";
const CAROL: &str = "ca201000-0000-4000-8000-000000000003";

/// Of what is missed.
const LAST: i64 = 4_000;

/// Rows of two owners in turn, in many transactions: far more than can wait for a client that does not read.
const MISSED: &str = "do $$ begin
    for step in 0..79 loop
        insert into n select i, case i % 2 when 0 then 'A' else 'B' end, repeat('x', 1000)
        from generate_series(greatest(step * 50 + 1, 2), step * 50 + 50) i;
        commit;
    end loop;
end $$";

async fn start(db: &Database) -> Server {
    db.execute(
        "create table n (id int primary key, owner uuid, t text);
         alter table n enable row level security;
         grant select on n to authenticated;
         create policy own on n for select to authenticated using (owner = auth.uid());
         alter publication supabase_realtime add table n",
    )
    .await;
    Server::start_with(db, |config| {
        config.limits.outbox_bytes = 512 << 10;
        config.session.write_timeout = Duration::from_secs(60);
    })
    .await
}

fn inserts() -> Value {
    json!([{"event": "INSERT", "schema": "public", "table": "n"}])
}

fn id(change: &Value) -> i64 {
    change["data"]["record"]["id"].as_i64().expect("a number")
}

/// Somebody who comes back as Alice, has read a few of the rows that it missed, and has just told another token.
async fn comes_back(db: &Database, server: &Server, token: &str) -> (Client, i64) {
    let alice = token::user(ALICE);
    let mut client = Client::connect(server, Version::V2, &alice).await;
    let config = |since: &Value| json!({"postgres_changes": inserts(), "since": since});
    client.enter("n", config(&json!(""))).await;
    live(&mut client).await;
    db.execute(&format!("insert into n values (1, '{ALICE}', '')"))
        .await;
    let since = client.change().await["cursor"].clone();
    drop(client);
    let missed = MISSED.replace("'A'", &format!("'{ALICE}'::uuid"));
    db.execute(&missed.replace("'B'", &format!("'{BOB}'::uuid")))
        .await;
    server.passed(db).await;
    let mut client = Client::connect_narrow(server, Version::V2, &alice).await;
    client.enter("n", config(&since)).await;
    for expected in [2, 4, 6, 8] {
        assert_eq!(id(&client.change().await), expected);
    }
    client
        .push("n", "access_token", json!({"access_token": token}))
        .await;
    (client, 8)
}

async fn live(client: &mut Client) {
    let live = |text: &Value| text == "Subscribed to PostgreSQL";
    client
        .expect("live", |m| m.event == "system" && live(&m.payload["message"]))
        .await;
}

/// The rows that came before it was live.
fn rows(client: &mut Client) -> Vec<i64> {
    let changes = client.take("postgres_changes");
    changes.iter().map(|change| id(&change.payload)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn rights_that_are_fewer_end_what_is_said_again() {
    let db = Database::new().await;
    let server = start(&db).await;
    let (mut client, read) = comes_back(&db, &server, &token::user(CAROL)).await;
    live(&mut client).await;
    let rest = rows(&mut client);
    let last = rest.last().copied().unwrap_or(read);
    assert!(last < LAST, "all of it came by the token before");
    assert!(
        rest.iter().copied().eq((read + 2..=last).step_by(2)),
        "up to {last}"
    );
    // And so it stays.
    for (id, owner) in [(5_000, ALICE), (5_001, CAROL)] {
        db.execute(&format!("insert into n values ({id}, '{owner}', '')"))
            .await;
    }
    assert_eq!(id(&client.change().await), 5_001);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rights_that_are_more_show_more_of_what_is_said_again() {
    let db = Database::new().await;
    let server = start(&db).await;
    let (mut client, read) = comes_back(&db, &server, &service()).await;
    live(&mut client).await;
    let rest = rows(&mut client);
    let first_of_bob = rest.iter().position(|id| id % 2 == 1).expect("some of Bob's");
    let (before, after) = rest.split_at(first_of_bob);
    let known = before.last().copied().unwrap_or(read);
    assert!(
        before.iter().copied().eq((read + 2..=known).step_by(2)),
        "{rest:?}"
    );
    assert!(
        after.iter().copied().eq(known + 1..=LAST),
        "every row behind {known} and nothing else"
    );
    server.stop().await;
}
