//! Ways around the policies.

use serde_json::json;

use super::{ALICE, BOB, post, private, user};
use crate::support::broadcast::{Inner, KIND_FOUR, kind_three};
use crate::support::{Client, Database, LIMIT, Message, Server, Version, eventually, token};

const ALL: &str = "
    create policy read on realtime.messages for select to authenticated using (true);
    create policy write on realtime.messages for insert to authenticated with check (true);
";

const HEARD: [&str; 4] = ["broadcast", KIND_FOUR, "presence_state", "presence_diff"];

#[tokio::test(flavor = "multi_thread")]
async fn what_postgres_cannot_hold_as_a_topic_nobody_may() {
    let db = Database::new().await;
    db.execute(ALL).await;
    let server = Server::start(&db).await;
    let mut alice = user(&server, Version::V2, ALICE).await;
    let refused = alice.join("a\0b", private()).await;
    assert_eq!(refused["status"], "error", "{refused}");
    let reason = refused["response"]["reason"].as_str().unwrap_or_default();
    assert!(reason.starts_with("Unauthorized: "), "{reason}");
    // As a public one it is as good as any.
    alice.enter("a\0b", json!({})).await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn odd_topics_are_judged_as_they_are() {
    let db = Database::new().await;
    // In memory, and by Postgres.
    db.execute(
        "create table odd (topic text primary key);
         grant select on odd to authenticated;
         create function may() returns boolean language plpgsql stable as $$
             begin return exists (select 1 from public.odd o where o.topic = realtime.topic()); end $$;
         create policy known on realtime.messages for select to authenticated
         using (exists (select 1 from odd o where o.topic = realtime.topic()) and topic = realtime.topic());
         create policy asked on realtime.messages for insert to authenticated
         with check (topic = realtime.topic() and may());",
    )
    .await;
    let server = Server::start(&db).await;
    let mut alice = user(&server, Version::V2, ALICE).await;
    let long = "é".repeat(500);
    let odd = [
        "'; drop table odd; --",
        "\"quoted\"",
        "new\nline\r\ttab",
        "realtime:x",
        "realtime:",
        "a/b?c=d&e#f%2F",
        "{\"json\": \"\\u0041\"}",
        "\u{feff}bom\u{202e}",
        "😀",
        " ",
        "a\\b",
        &long,
    ];
    for topic in odd {
        let refused = alice.join(topic, private()).await;
        assert_eq!(refused["status"], "error", "{topic:?}");
        let connection = db.connection().await;
        connection
            .execute("insert into odd values ($1)", &[&topic])
            .await
            .expect("a row");
        alice.enter(topic, private()).await;
        let reference = alice.say(topic, "e", json!({})).await;
        assert_eq!(alice.reply(&reference).await["status"], "ok", "{topic:?}");
    }
    // What is nearly the same is another one.
    for other in ["realtime:realtime:x", "x", "A\\B", "  ", "e\u{301}"] {
        assert_eq!(alice.join(other, private()).await["status"], "error", "{other:?}");
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_says_private_in_any_way_is_not_public() {
    let db = Database::new().await;
    let server = Server::start(&db).await;
    let mut public = super::anon(&server).await;
    public.enter("tea", json!({})).await;
    let token = token::user(ALICE);
    let path = "/realtime/v1/api/broadcast/tea/events/e";
    for query in [
        "?private=true",
        "?private=TRUE",
        "?private=True",
        "?private=1",
        "?private=yes",
        "?private=%20true",
        "?private",
        "?private=",
        "?private=true&private=false",
        "?private=false&private=true",
    ] {
        let (status, body) = post(&server, &format!("{path}{query}"), &token, &json!({})).await;
        assert!(matches!(status, 403 | 422), "{query}: {status} {body}");
    }
    for private in [
        json!("true"),
        json!("TRUE"),
        json!(1),
        json!("yes"),
        json!([true]),
    ] {
        let messages =
            json!({"messages": [{"topic": "tea", "event": "e", "payload": {}, "private": private}]});
        let (status, body) = post(&server, "/realtime/v1/api/broadcast", &token, &messages).await;
        assert!(matches!(status, 202 | 422), "{private}: {status} {body}");
    }
    assert!(public.everything(&HEARD).await.is_empty());
    for query in ["", "?private=false", "?other=true"] {
        let (status, body) = post(&server, &format!("{path}{query}"), &token, &json!({})).await;
        assert_eq!(status, 202, "{query}: {body}");
        public.heard("tea").await;
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_may_insert_presence_does_not_broadcast_by_it() {
    let db = Database::new().await;
    db.execute(
        "create policy read on realtime.messages for select to authenticated using (true);
         create policy present on realtime.messages for insert to authenticated with check (extension = 'presence');",
    )
    .await;
    let server = Server::start(&db).await;
    let mut bob = user(&server, Version::V2, BOB).await;
    let mut config = private();
    config["broadcast"]["replication_ready"] = json!(true);
    bob.enter("tea", config).await;
    bob.system("tea").await;
    db.execute(
        "begin; set local role authenticated;
         insert into realtime.messages (topic, extension, event, payload, private)
         values ('tea', 'presence', 'e', '{\"forged\": true}', true);
         commit;",
    )
    .await;
    server.passed(&db).await;
    assert!(bob.everything(&["broadcast", KIND_FOUR]).await.is_empty());
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn another_user_of_the_channel_is_not_present_by_the_rights_of_the_one_before() {
    let db = Database::new().await;
    db.execute(&format!(
        "create policy read on realtime.messages for select to authenticated using (true);
         create policy present on realtime.messages for insert to authenticated
         with check (extension = 'presence' and auth.uid() = '{ALICE}');"
    ))
    .await;
    let server = Server::start(&db).await;
    let mut alice = user(&server, Version::V2, ALICE).await;
    let mut bob = user(&server, Version::V2, BOB).await;
    alice.enter("tea", private()).await;
    bob.enter("tea", private()).await;
    let track = json!({"type": "presence", "event": "track", "payload": {"who": "alice"}});
    let reference = alice.push("tea", "presence", track).await;
    assert_eq!(alice.reply(&reference).await["status"], "ok");
    let joined = |m: &Message| {
        m.event == "presence_diff"
            && m.payload["joins"]
                .as_object()
                .is_some_and(|joins| !joins.is_empty())
    };
    bob.expect("somebody comes", joined).await;
    let token = json!({"access_token": token::user(BOB)});
    alice.push("tea", "access_token", token).await;
    let left = |m: &Message| {
        m.event == "presence_diff"
            && m.payload["leaves"]
                .as_object()
                .is_some_and(|leaves| !leaves.is_empty())
    };
    bob.expect("somebody goes", left).await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_changes_sides_hears_one_side_at_a_time() {
    let db = Database::new().await;
    db.execute(&format!(
        "{ALL} alter policy read on realtime.messages using (auth.uid() = '{BOB}')"
    ))
    .await;
    let server = Server::start(&db).await;
    let mut bob = user(&server, Version::V2, BOB).await;
    bob.enter("tea", private()).await;
    let mut eve = user(&server, Version::V2, ALICE).await;
    for round in 0..30 {
        // The private join is refused, and overtaken or left at any moment.
        let public = json!({"presence": {"enabled": true}});
        let (first, second) = match round % 3 {
            0 => (private(), public),
            1 => (public, private()),
            _ => (private(), private()),
        };
        eve.push("tea", "phx_join", json!({"config": first})).await;
        bob.say("tea", "e", json!({"secret": round})).await;
        let last = eve.push("tea", "phx_join", json!({"config": second})).await;
        bob.say("tea", "e", json!({"secret": round})).await;
        // Said into the public room, if into any.
        eve.say("tea", "e", json!({"loud": round})).await;
        if round % 2 == 0 {
            let reference = eve.push("tea", "phx_leave", json!({})).await;
            eve.reply(&reference).await;
        } else {
            eve.reply(&last).await;
        }
        bob.say("tea", "e", json!({"secret": round})).await;
    }
    bob.round_trip().await;
    assert!(eve.everything(&["broadcast", KIND_FOUR]).await.is_empty());
    assert!(bob.everything(&["broadcast", KIND_FOUR]).await.is_empty());
    server.stop().await;
}

/// Waits until a private channel can be joined, or cannot any more.
async fn joins(client: &mut Client, topic: &str, expected: bool) {
    let started = std::time::Instant::now();
    while (client.join(topic, private()).await["status"] == "ok") != expected {
        assert!(started.elapsed() < LIMIT, "{topic}: still {}", !expected);
        // Slower than joins may come.
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_table_itself_changes_under_those_who_are_in() {
    let db = Database::new().await;
    db.execute(ALL).await;
    let server = Server::start(&db).await;
    let mut alice = user(&server, Version::V2, ALICE).await;
    for (undone, done_again) in [
        (
            "create policy strict on realtime.messages as restrictive for select to authenticated
             using (realtime.topic() <> 'tea')",
            "drop policy strict on realtime.messages",
        ),
        (
            "revoke select on realtime.messages from authenticated",
            "grant select on realtime.messages to authenticated",
        ),
        (
            "alter table realtime.messages rename to gone",
            "alter table realtime.gone rename to messages",
        ),
        (
            "drop policy read on realtime.messages",
            "create policy read on realtime.messages for select to authenticated using (true)",
        ),
        (
            "alter policy read on realtime.messages to anon",
            "alter policy read on realtime.messages to authenticated",
        ),
        (
            "alter policy read on realtime.messages using (auth.jwt() -> 'app_metadata' ->> 'team' = 'x')",
            "alter policy read on realtime.messages using (true)",
        ),
        (
            "alter policy read on realtime.messages
             using (current_setting('request.headers', true)::json ->> 'x-team' = 'x')",
            "alter policy read on realtime.messages using (true)",
        ),
        (
            "begin; alter table realtime.messages disable row level security;
             drop policy read on realtime.messages; commit;
             alter table realtime.messages enable row level security",
            "create policy read on realtime.messages for select to authenticated using (true)",
        ),
    ] {
        joins(&mut alice, "tea", true).await;
        alice.forget("system");
        db.execute(undone).await;
        let system = alice.system("tea").await;
        assert_eq!(
            system["message"], "You do not have permissions to read from this Channel topic: tea",
            "{undone}"
        );
        joins(&mut alice, "tea", false).await;
        db.execute(done_again).await;
    }
    joins(&mut alice, "tea", true).await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_role_that_vanishes_has_no_rights() {
    let db = Database::new().await;
    let role = format!("{}_brief", db.name);
    db.execute(&format!(
        "create role {role}; grant usage on schema realtime to {role};
         grant select, insert on realtime.messages to {role};
         create policy read on realtime.messages for all to public using (true) with check (true);"
    ))
    .await;
    let server = Server::start_with(&db, |config| {
        config.database.catalog_interval = std::time::Duration::from_millis(200);
    })
    .await;
    let token = token::token(&role, json!({}));
    let mut client = Client::connect(&server, Version::V2, &token).await;
    client.enter("tea", private()).await;
    db.execute(&format!(
        "drop policy read on realtime.messages; revoke all on realtime.messages from {role};
         revoke all on schema realtime from {role}; drop role {role};
         create policy read on realtime.messages for all to public using (true) with check (true);"
    ))
    .await;
    client.system("tea").await;
    assert_eq!(client.join("tea", private()).await["status"], "error");
    let path = "/realtime/v1/api/broadcast/tea/events/e?private=true";
    eventually("it may not send either", || async {
        (post(&server, path, &token, &json!({})).await.0 == 403).then_some(())
    })
    .await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn headers_of_one_are_not_those_of_another() {
    let db = Database::new().await;
    db.execute(
        "create function of_team() returns boolean language plpgsql stable as $$
         begin return current_setting('request.headers', true)::json ->> 'x-team' = 'x'; end $$;
         create policy memory on realtime.messages for all to authenticated
         using (realtime.topic() = 'memory' and current_setting('request.headers', true)::json ->> 'x-team' = 'x')
         with check (realtime.topic() = 'memory' and current_setting('request.headers', true)::json ->> 'x-team' = 'x');
         create policy asked on realtime.messages for all to authenticated
         using (realtime.topic() = 'asked' and of_team()) with check (realtime.topic() = 'asked' and of_team());",
    )
    .await;
    let server = Server::start(&db).await;
    let token = token::user(ALICE);
    for topic in ["memory", "asked"] {
        let path = format!("/realtime/v1/api/broadcast/{topic}/events/e?private=true");
        let send = |team: Option<&'static str>| {
            let request = reqwest::Client::new()
                .post(format!("{}{path}", server.url()))
                .bearer_auth(&token)
                .json(&json!({}));
            let request = team
                .into_iter()
                .fold(request, |request, team| request.header("X-Team", team));
            async { request.send().await.expect("an answer").status().as_u16() }
        };
        for _ in 0..5 {
            let all = tokio::join!(send(Some("x")), send(None), send(Some("y")), send(Some("x")));
            assert_eq!(all, (202, 403, 403, 202), "{topic}");
        }
        let mut alice = user(&server, Version::V2, ALICE).await;
        assert_eq!(alice.join(topic, private()).await["status"], "error");
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_topic_of_a_question_is_not_known_to_rows() {
    let db = Database::new().await;
    db.execute(
        "create function is_topic(t text) returns boolean language plpgsql stable as $$
         begin return coalesce(realtime.topic(), '') = t; end $$;
         create policy read on realtime.messages for select to authenticated using (is_topic('tea'));
         create table notes (id int primary key, topic text);
         alter table notes enable row level security;
         grant select on notes to authenticated;
         create policy of_topic on notes for select to authenticated using (is_topic(topic));
         alter publication supabase_realtime add table notes;",
    )
    .await;
    let server = Server::start(&db).await;
    let mut alice = user(&server, Version::V2, ALICE).await;
    let mut config = private();
    config["postgres_changes"] = json!([{"event": "*", "schema": "public", "table": "notes"}]);
    alice.enter("tea", config).await;
    alice.system("tea").await;
    for n in 0..20 {
        let mut other = user(&server, Version::V2, BOB).await;
        other.push("tea", "phx_join", json!({"config": private()})).await;
        db.execute(&format!("insert into notes values ({n}, 'tea')"))
            .await;
    }
    db.execute("insert into notes values (100, '')").await;
    assert_eq!(
        alice.data().await["record"]["id"],
        100,
        "the rows of the topic are nobody's"
    );
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_kept_takes_both_rights_and_a_private_channel() {
    let db = Database::new().await;
    db.execute(
        "create policy read on realtime.messages for select to authenticated using (true);
         create policy write on realtime.messages for insert to authenticated
         with check (extension = 'broadcast' and realtime.topic() = 'say'
                     or extension = 'persistence' and realtime.topic() = 'keep');",
    )
    .await;
    let server = Server::start(&db).await;
    let mut alice = user(&server, Version::V2, ALICE).await;
    let mut bob = user(&server, Version::V2, BOB).await;
    let payload = json!({});
    for topic in ["say", "keep"] {
        alice.enter(topic, private()).await;
        bob.enter(topic, private()).await;
        let full = format!("realtime:{topic}");
        alice
            .raw(kind_three(
                "k",
                &full,
                "e",
                r#"{"persist":true}"#,
                Inner::Json(&payload),
            ))
            .await;
        assert_eq!(alice.reply("k").await["status"], "error", "{topic}");
        let path = format!("/realtime/v1/api/broadcast/{topic}/events/e?private=true&persist=true");
        assert_eq!(
            post(&server, &path, &token::user(ALICE), &payload).await.0,
            403,
            "{topic}"
        );
        alice.enter(topic, json!({"broadcast": {"ack": true}})).await;
        alice
            .raw(kind_three(
                "p",
                &full,
                "e",
                r#"{"persist":true}"#,
                Inner::Json(&payload),
            ))
            .await;
        assert_eq!(alice.reply("p").await["status"], "error", "{topic}");
    }
    assert!(bob.everything(&["broadcast", KIND_FOUR]).await.is_empty());
    assert_eq!(db.text("select count(*)::text from realtime.messages").await, "0");
    server.stop().await;
}
