//! Private channels under policies.

use serde_json::{Value, json};

use super::VERSIONS;
use crate::support::broadcast::{Inner, KIND_FOUR, kind_three};
use crate::support::{Client, Database, Server, Version, token};

const ALICE: &str = "a11ce000-0000-4000-8000-000000000001";
const BOB: &str = "b0b00000-0000-4000-8000-000000000002";

/// Members of a room read; those who may write do.
const ROOMS: &str = "
    create table members (room text, user_id uuid, writes boolean default true, primary key (room, user_id));
    alter table members replica identity full;
    grant select on members to authenticated;
    create policy read on realtime.messages for select to authenticated using (
        exists (select 1 from members m where m.room = realtime.topic() and m.user_id = auth.uid())
    );
    create policy write on realtime.messages for insert to authenticated with check (
        extension in ('broadcast', 'presence')
        and exists (select 1 from members m where m.room = realtime.topic() and m.user_id = auth.uid() and m.writes)
    );
";

async fn user(server: &Server, version: Version, sub: &str) -> Client {
    Client::connect(server, version, &token::user(sub)).await
}

fn private() -> Value {
    json!({"private": true, "broadcast": {"ack": true}, "presence": {"enabled": true}})
}

#[tokio::test(flavor = "multi_thread")]
async fn members_read_and_write_and_others_do_not() {
    let db = Database::new().await;
    db.execute(ROOMS).await;
    db.execute(&format!(
        "insert into members values ('tea', '{ALICE}', true), ('tea', '{BOB}', false)"
    ))
    .await;
    let server = Server::start(&db).await;
    for version in VERSIONS {
        let mut alice = user(&server, version, ALICE).await;
        let mut bob = user(&server, version, BOB).await;
        let mut eve = user(&server, version, "e5e00000-0000-4000-8000-000000000003").await;
        alice.enter("tea", private()).await;
        bob.enter("tea", private()).await;
        let refused = eve.join("tea", private()).await;
        let reason = "Unauthorized: You do not have permissions to read from this Channel topic: tea";
        assert_eq!(
            refused,
            json!({"status": "error", "response": {"reason": reason}})
        );
        let mut anon = super::anon(&server, version).await;
        assert_eq!(anon.join("tea", private()).await["status"], "error");
        // The public channel of the same name is another room.
        eve.enter("tea", json!({})).await;

        let reference = alice.say("tea", "e", json!({"x": 1})).await;
        assert_eq!(alice.reply(&reference).await["status"], "ok");
        assert_eq!(bob.heard("tea").await.payload["payload"]["x"], 1);
        let reference = bob.say("tea", "e", json!({})).await;
        let denied = "You do not have permissions to write to this Channel topic: tea";
        assert_eq!(
            bob.reply(&reference).await,
            json!({"status": "error", "response": {"reason": denied}})
        );
        let track = json!({"type": "presence", "event": "track", "payload": {"a": 1}});
        let reference = bob.push("tea", "presence", track.clone()).await;
        assert_eq!(
            bob.reply(&reference).await,
            json!({"status": "error", "response": {}})
        );
        let reference = alice.push("tea", "presence", track).await;
        assert_eq!(alice.reply(&reference).await["status"], "ok");
        bob.expect("a difference", |m| m.event == "presence_diff").await;
        assert!(alice.everything(&["broadcast", KIND_FOUR]).await.is_empty());
        assert!(eve.everything(&["broadcast", "presence_diff"]).await.is_empty());
    }
    assert_eq!(
        server.metric("rowcast_judge_calls_total").await,
        0.0,
        "all of it is decided in memory"
    );
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn leaving_the_table_closes_the_channel() {
    let db = Database::new().await;
    db.execute(ROOMS).await;
    let server = Server::start(&db).await;
    for version in VERSIONS {
        db.execute(&format!(
            "insert into members values ('tea', '{ALICE}'), ('tea', '{BOB}')"
        ))
        .await;
        let mut alice = user(&server, version, ALICE).await;
        let mut bob = user(&server, version, BOB).await;
        alice.enter("tea", private()).await;
        bob.enter("tea", private()).await;
        db.execute(&format!("delete from members where user_id = '{BOB}'"))
            .await;
        let system = bob.system("tea").await;
        assert_eq!(
            system["message"],
            "You do not have permissions to read from this Channel topic: tea"
        );
        bob.expect("phx_close", |m| m.event == "phx_close").await;
        let reference = alice.say("tea", "e", json!({})).await;
        assert_eq!(alice.reply(&reference).await["status"], "ok");
        assert!(bob.everything(&["broadcast"]).await.is_empty());
        // What may be written is followed as well.
        db.execute(&format!(
            "update members set writes = false where user_id = '{ALICE}'"
        ))
        .await;
        loop {
            let reference = alice.say("tea", "e", json!({})).await;
            if alice.reply(&reference).await["status"] == "error" {
                break;
            }
        }
        db.execute("delete from members").await;
        alice.system("tea").await;
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_policy_closes_the_channel() {
    let db = Database::new().await;
    db.execute("create policy all_read on realtime.messages for select to authenticated using (true)")
        .await;
    let server = Server::start(&db).await;
    let mut alice = user(&server, Version::V2, ALICE).await;
    alice.enter("tea", private()).await;
    db.execute("drop policy all_read on realtime.messages").await;
    let system = alice.system("tea").await;
    assert_eq!(
        system["message"],
        "You do not have permissions to read from this Channel topic: tea"
    );
    assert_eq!(alice.join("tea", private()).await["status"], "error");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn policies_that_raise_deny() {
    let db = Database::new().await;
    db.execute(
        "create policy raises on realtime.messages for all to authenticated
         using (realtime.topic()::uuid = auth.uid()) with check (1 / (length(realtime.topic()) - 4) > 0)",
    )
    .await;
    let server = Server::start(&db).await;
    let mut alice = user(&server, Version::V2, ALICE).await;
    let refused = alice.join("rubbish", private()).await;
    assert_eq!(
        refused["response"]["reason"],
        "Unauthorized: You do not have permissions to read from this Channel topic: rubbish"
    );
    alice.enter(ALICE, private()).await;
    let reference = alice.say(ALICE, "e", json!({})).await;
    assert_eq!(alice.reply(&reference).await["status"], "error", "1 / 32 is 0");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn extensions_have_policies_of_their_own() {
    let db = Database::new().await;
    db.execute(
        "create policy presence_only on realtime.messages for select to authenticated
         using (extension = 'presence');
         create policy say on realtime.messages for insert to authenticated with check (extension = 'broadcast')",
    )
    .await;
    let server = Server::start(&db).await;
    for version in VERSIONS {
        let mut alice = user(&server, version, ALICE).await;
        alice.enter("tea", private()).await;
        alice.expect("the state", |m| m.event == "presence_state").await;
        // Without presence there is nothing left that it could read.
        let mut bob = user(&server, version, BOB).await;
        let refused = bob.join("tea", json!({"private": true})).await;
        assert_eq!(refused["status"], "error");
        bob.enter("tea", private()).await;
        let reference = bob.say("tea", "e", json!({})).await;
        assert_eq!(bob.reply(&reference).await["status"], "ok");
        assert!(
            alice.everything(&["broadcast"]).await.is_empty(),
            "it may not read broadcasts"
        );
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_sent_before_is_replayed_in_order_and_not_again() {
    let db = Database::new().await;
    db.execute("create policy read on realtime.messages for select to authenticated using (true)")
        .await;
    let server = Server::start(&db).await;
    db.execute(
        "begin;
         select realtime.send(jsonb_build_object('n', n), 'e', 'tea') from generate_series(1, 30) as n;
         select realtime.send('{}', 'public', 'tea', false);
         commit",
    )
    .await;
    // What the server has yet to read comes as well.
    server.passed(&db).await;
    for version in VERSIONS {
        let mut alice = user(&server, version, ALICE).await;
        let mut config = private();
        config["broadcast"]["replay"] = json!({"since": 0, "limit": 10});
        config["broadcast"]["replication_ready"] = json!(true);
        alice.enter("tea", config).await;
        for n in 21..=30 {
            let heard = alice.heard("tea").await;
            assert_eq!(heard.event, "broadcast", "as text, for the channel");
            assert_eq!(heard.payload["payload"]["n"], n);
            assert_eq!(heard.payload["meta"]["replayed"], true);
            assert_eq!(heard.payload["meta"]["id"], heard.payload["payload"]["id"]);
        }
        alice.system("tea").await;
        alice.expect("the state", |m| m.event == "presence_state").await;
        db.execute("select realtime.send('{\"n\": 31}', 'e', 'tea')")
            .await;
        let heard = alice.heard("tea").await;
        assert_eq!(heard.payload["payload"]["n"], 31);
        assert!(alice.everything(&["broadcast", KIND_FOUR]).await.is_empty());
        db.execute("delete from realtime.messages where payload ->> 'n' = '31'")
            .await;
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_kept_is_heard_once_and_replayed() {
    let db = Database::new().await;
    db.execute(
        "create policy read on realtime.messages for select to authenticated using (true);
         create policy write on realtime.messages for insert to authenticated
         with check (extension in ('broadcast', 'persistence') and realtime.topic() = 'tea')",
    )
    .await;
    let server = Server::start(&db).await;
    let mut alice = user(&server, Version::V2, ALICE).await;
    let mut bob = user(&server, Version::V2, BOB).await;
    alice.enter("tea", private()).await;
    bob.enter("tea", private()).await;
    let payload = json!({"x": 1});
    let frame = kind_three(
        "7",
        "realtime:tea",
        "e",
        r#"{"persist":true}"#,
        Inner::Json(&payload),
    );
    alice.raw(frame).await;
    let reply = alice.reply("7").await;
    assert_eq!(reply["status"], "ok", "{reply}");
    let id = reply["response"]["id"].clone();
    let heard = bob.heard("tea").await;
    assert_eq!(
        (&heard.payload["payload"], &heard.payload["meta"]["id"]),
        (&payload, &id)
    );
    server.passed(&db).await;
    assert!(
        bob.everything(&["broadcast", KIND_FOUR]).await.is_empty(),
        "not again from the stream"
    );
    let mut late = user(&server, Version::V2, BOB).await;
    let mut config = private();
    config["broadcast"]["replay"] = json!({"since": 0});
    late.enter("tea", config).await;
    let heard = late.heard("tea").await;
    assert_eq!(heard.payload["payload"], payload);
    assert_eq!(heard.payload["meta"], json!({"replayed": true, "id": id}));
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_token_keeps_the_place_or_closes_it() {
    let db = Database::new().await;
    db.execute(ROOMS).await;
    db.execute(&format!(
        "insert into members values ('tea', '{ALICE}'), ('tea', '{BOB}')"
    ))
    .await;
    let server = Server::start(&db).await;
    for version in VERSIONS {
        let mut alice = user(&server, version, ALICE).await;
        let mut bob = user(&server, version, BOB).await;
        alice.enter("tea", private()).await;
        bob.enter("tea", private()).await;
        let other = token::token("authenticated", json!({"sub": ALICE, "n": 2}));
        alice
            .push("tea", "access_token", json!({ "access_token": other }))
            .await;
        for n in 0..20 {
            bob.say("tea", "e", json!({ "n": n })).await;
            assert_eq!(alice.heard("tea").await.payload["payload"]["n"], n, "no gap");
        }
        let stranger = token::user("e5e00000-0000-4000-8000-000000000003");
        alice
            .push("tea", "access_token", json!({ "access_token": stranger }))
            .await;
        let system = alice.system("tea").await;
        assert_eq!(
            system["message"],
            "You do not have permissions to read from this Channel topic: tea"
        );
        alice.expect("phx_close", |m| m.event == "phx_close").await;
    }
    server.stop().await;
}
