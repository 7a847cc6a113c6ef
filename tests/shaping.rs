//! `"max_rate"` and `"conflate"`: events that are held back, and left out, without anybody ending with something else.

use std::collections::BTreeMap;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde_json::{Value, json};

use crate::support::{Client, Database, Message, Program, Server, Version, eventually, token};

const SCHEMA: &str = "
    create table n (id int primary key, state text, large text);
    alter table n alter column large set storage external;
    grant select on n to authenticated;
    alter publication supabase_realtime add table n;
";

/// What never comes by itself once something has come: the next time is in an hour.
const SELDOM: f64 = 0.0001;

fn rows(max_rate: Value, conflate: Value) -> Value {
    json!([{"event": "*", "schema": "public", "table": "n", "max_rate": max_rate, "conflate": conflate}])
}

async fn subscribed(server: &Server, topic: &str, changes: Value) -> Client {
    let token = token::token("authenticated", json!({}));
    let mut client = Client::connect(server, Version::V2, &token).await;
    client.subscribe(topic, changes).await;
    client
}

/// Keeps rows by their primary key.
#[derive(Debug, Default)]
struct Keeper {
    rows: BTreeMap<i64, Value>,
    came: u64,
    stood_for: u64,
}

impl Keeper {
    fn apply(&mut self, message: &Message) {
        let data = &message.payload["data"];
        assert_eq!(data["errors"], Value::Null, "{data}");
        let (new, old) = (&data["record"], &data["old_record"]);
        self.came += 1;
        self.stood_for += 1 + data["conflated"].as_u64().unwrap_or(0);
        let before = old["id"].as_i64().and_then(|id| self.rows.remove(&id));
        let Some(id) = new["id"].as_i64() else {
            assert_eq!(data["type"], "DELETE");
            return;
        };
        let known = before.or_else(|| self.rows.remove(&id));
        let mut row = known.filter(|_| data["type"] == "UPDATE").unwrap_or(json!({}));
        for (column, value) in new.as_object().expect("a row") {
            row[column] = value.clone();
        }
        self.rows.insert(id, row);
    }

    /// Takes what comes until the row with this id has.
    async fn follow(&mut self, client: &mut Client, last: i64) {
        loop {
            let message = client.expect("a change", |m| m.event == "postgres_changes").await;
            self.apply(&message);
            if message.payload["data"]["record"]["id"] == last {
                return;
            }
        }
    }
}

/// A statement of some rows: also with other keys, with large values that do not change, and several in a transaction.
fn statement(random: &mut StdRng) -> String {
    let id = random.random_range(1..12);
    let some = random.random_range(0..1_000);
    match random.random_range(0..10) {
        0..3 => format!(
            "insert into n values ({id}, 'new {some}', repeat('{some}', 3000)) on conflict (id) do update set state = 'again {some}'"
        ),
        3..6 => format!("update n set state = 'state {some}' where id <= {id}"),
        6 => format!("update n set large = repeat('{some}', 4000) where id = {id}"),
        7 => format!(
            "update n set id = {} where id = {id} and not exists (select from n where id = {})",
            20 + id,
            20 + id
        ),
        8 => format!("delete from n where id in ({id}, 20 + {id})"),
        _ => format!(
            "begin; delete from n where id = {id}; insert into n values ({id}, 'back {some}', 'small'); update n set state = 'one {some}'; commit"
        ),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_applies_by_key_ends_with_what_is_there() {
    for identity in ["default", "full"] {
        let db = Database::new().await;
        db.execute(SCHEMA).await;
        db.execute(&format!("alter table n replica identity {identity}"))
            .await;
        let server = Server::start(&db).await;
        let shapes = [
            ("all", rows(Value::Null, Value::Null)),
            ("rate", rows(json!(20), json!(false))),
            ("latest", rows(json!(20), json!(true))),
            ("pressed", rows(Value::Null, json!(true))),
        ];
        let mut clients = Vec::new();
        for (name, changes) in shapes {
            clients.push((name, subscribed(&server, name, changes).await, Keeper::default()));
        }
        let seed = rand::random();
        let mut random = StdRng::seed_from_u64(seed);
        for last in [100, 101, 102] {
            for _ in 0..60 {
                db.execute(&statement(&mut random)).await;
            }
            db.execute(&format!("insert into n values ({last}, 'last', 'small')"))
                .await;
            let there = db.text("select json_agg(n order by id)::text from n").await;
            let there: Value = serde_json::from_str(&there).expect("rows");
            for (name, client, keeper) in &mut clients {
                keeper.follow(client, last).await;
                let has: Vec<&Value> = keeper.rows.values().collect();
                assert_eq!(json!(has), there, "{name} with seed {seed}");
            }
        }
        let came = |n: usize| {
            clients
                .get(n)
                .map(|(_, _, keeper)| (keeper.came, keeper.stood_for))
        };
        let all = came(0).expect("a client").0;
        assert_eq!(came(1), Some((all, all)));
        let (latest, stood_for) = came(2).expect("a client");
        assert!(
            latest < all && stood_for == all,
            "{latest} of {all}, for {stood_for}"
        );
        assert_eq!(came(3).expect("a client").1, all);
        server.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_reads_slowly_gets_the_latest_state_and_stays() {
    let db = Database::new().await;
    db.execute(SCHEMA).await;
    let server = Server::start_with(&db, |config| {
        config.limits.outbox_bytes = 1024 * 1024;
        config.limits.outbox_frames = 512;
    })
    .await;
    let token = token::token("authenticated", json!({}));
    let mut slow = Client::connect_narrow(&server, Version::V2, &token).await;
    slow.subscribe("slow", rows(Value::Null, json!(true))).await;
    let mut written = 0;
    // Far more than its outbox holds has been left out for it.
    while server.metric("rowcast_changes_conflated_total").await < 2_000.0 {
        db.execute(
            "insert into n values (1, '0', repeat('x', 4000)) on conflict (id) do update set state = n.state::int + 1;
             do $$ begin for i in 1..99 loop update n set state = state::int + 1, large = repeat(i::text, 4000); end loop; end $$",
        )
        .await;
        server.passed(&db).await;
        written += 1;
        assert!(written < 1_000, "nothing is left out");
    }
    db.execute("insert into n values (2, 'last', '')").await;
    let mut keeper = Keeper::default();
    keeper.follow(&mut slow, 2).await;
    assert_eq!(keeper.rows[&1]["state"], (written * 100 - 1).to_string());
    assert_eq!(keeper.stood_for, written * 100 + 1);
    assert_eq!(server.metric("rowcast_outbox_overflows_total").await, 0.0);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_gathered_leaves_before_what_makes_it_wrong() {
    let db = Database::new().await;
    db.execute(SCHEMA).await;
    let server = Server::start(&db).await;
    let mut client = subscribed(&server, "room", rows(json!(SELDOM), json!(true))).await;
    let gather = async |state: &str, client: &mut Client| {
        db.execute(&format!(
            "insert into n values (1, '{state}') on conflict (id) do update set state = '{state}'"
        ))
        .await;
        server.passed(&db).await;
        client.round_trip().await;
    };
    gather("first", &mut client).await;
    assert_eq!(client.data().await["record"]["state"], "first");
    // New claims.
    gather("second", &mut client).await;
    assert!(!client.pending().iter().any(|m| m.event == "postgres_changes"));
    let other = token::token(
        "authenticated",
        json!({"sub": "a0000000-0000-4000-8000-000000000001"}),
    );
    client
        .push("room", "access_token", json!({"access_token": other}))
        .await;
    assert_eq!(client.data().await["record"]["state"], "second");
    // Another table.
    gather("third", &mut client).await;
    db.execute("alter table n add column more int").await;
    let data = client.data().await;
    assert_eq!(
        (&data["record"]["state"], data["record"].get("more")),
        (&json!("third"), None)
    );
    // Whoever leaves gets nothing more, and whoever comes back, what is new.
    gather("fourth", &mut client).await;
    let leave = client.push("room", "phx_leave", json!({})).await;
    assert_eq!(client.reply(&leave).await["status"], "ok");
    eventually("it is gone", || async {
        (server.metric("rowcast_subscriptions").await == 0.0).then_some(())
    })
    .await;
    assert_eq!(server.metric("rowcast_outbox_bytes").await, 0.0);
    client.subscribe("room", rows(json!(SELDOM), json!(true))).await;
    gather("fifth", &mut client).await;
    assert_eq!(client.data().await["record"]["state"], "fifth");
    // Nor does whoever loses its rights.
    gather("sixth", &mut client).await;
    db.execute("revoke select on n from authenticated").await;
    db.execute("update n set state = 'seventh'").await;
    server.passed(&db).await;
    client.round_trip().await;
    let shown = client.pending().iter().filter(|m| m.event == "postgres_changes");
    let shown: Vec<&Value> = shown.map(|m| &m.payload["data"]["record"]).collect();
    assert!(
        !shown.iter().any(|record| record["state"] == "seventh"),
        "{shown:?}"
    );
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_gathered_is_missed_by_nobody_who_comes_back() {
    let db = Database::new().await;
    db.execute(SCHEMA).await;
    let server = Server::start_with(&db, |config| {
        config.resume.acknowledge = Duration::from_millis(10);
    })
    .await;
    let changes = rows(json!(SELDOM), json!(true));
    let token = format!("{}&session=paced", token::token("authenticated", json!({})));
    let mut client = Client::connect(&server, Version::V2, &token).await;
    for (topic, changes) in [("paced", &changes), ("plain", &rows(Value::Null, Value::Null))] {
        client.join(topic, json!({"postgres_changes": changes})).await;
        let live =
            |m: &Message| m.topic.ends_with(topic) && m.payload["message"] == "Subscribed to PostgreSQL";
        client.expect("live rows", live).await;
    }
    let came = |m: &Message, topic: &str, state: &str| {
        m.topic.ends_with(topic) && m.payload["data"]["record"]["state"] == state
    };
    db.execute("insert into n values (1, 'first', '')").await;
    client.expect("the first", |m| came(m, "paced", "first")).await;
    db.execute("insert into n values (2, 'new', ''); update n set state = 'changed' where id = 2")
        .await;
    client.expect("the last", |m| came(m, "plain", "changed")).await;
    server.passed(&db).await;
    // It says again and again that it has everything that was written to it.
    for _ in 0..50 {
        client.round_trip().await;
    }
    drop(client);
    let mut client = Client::connect(&server, Version::V2, &token).await;
    client.join("paced", json!({"postgres_changes": changes})).await;
    let missed = client.expect("the last", |m| came(m, "paced", "changed")).await;
    assert!(missed.payload["cursor"].is_string(), "{missed:?}");
    server.stop().await;
}

/// Cut off after any message, a client that keeps cursors goes on from the last one; while rows come, too.
#[tokio::test(flavor = "multi_thread")]
async fn every_cursor_leads_on_and_past_nothing() {
    let db = Database::new().await;
    db.execute(SCHEMA).await;
    let server = Server::start(&db).await;
    let mut items = json!([{"select": ["id", "state"]}, {"max_rate": 20}, {"conflate": true}, {"conflate": true, "max_rate": 10}, {}]);
    for (number, item) in items.as_array_mut().expect("items").iter_mut().enumerate() {
        item["event"] = json!("*");
        (item["schema"], item["table"]) = (json!("public"), json!("n"));
        item["filter"] = json!(format!("id=gt.-{number}"));
    }
    let token = token::token("authenticated", json!({}));
    let mut client = Client::connect(&server, Version::V2, &token).await;
    client
        .join("room", json!({"postgres_changes": items, "since": ""}))
        .await;
    let live = client.expect("a place", |m| m.payload["message"] == "live").await;
    let mut since = live.payload["cursor"].as_str().expect("a cursor").to_owned();
    let seed: u64 = rand::random();
    let mut random = StdRng::seed_from_u64(seed);
    let (connection, mut writes) = (db.connection().await, StdRng::seed_from_u64(seed));
    let (enough, mut stop) = tokio::sync::oneshot::channel::<()>();
    let writing = tokio::spawn(async move {
        while stop.try_recv().is_err() {
            let statement = statement(&mut writes);
            connection.batch_execute(&statement).await.expect("rows");
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    });
    let mut keepers: BTreeMap<i64, Keeper> = BTreeMap::new();
    for _ in 0..25 {
        since = cut_after(
            (random.random_range(1..60), true),
            &mut keepers,
            (&server, &items, since),
        )
        .await;
    }
    enough.send(()).expect("it still writes");
    writing.await.expect("no panic");
    let text = "select json_agg(json_build_array(id, state) order by id)::text from n";
    let there: Value = serde_json::from_str(&db.text(text).await).expect("rows");
    let complete = |keeper: &Keeper| {
        let rows = keeper.rows.values();
        rows.map(|row| json!([row["id"], row["state"]]))
            .collect::<Value>()
            == there
    };
    let mut connections = 0;
    while keepers.len() < 5 || !keepers.values().all(complete) {
        connections += 1;
        assert!(connections < 3_000, "no headway with seed {seed}");
        since = cut_after(
            (random.random_range(1..60), false),
            &mut keepers,
            (&server, &items, since),
        )
        .await;
    }
    server.stop().await;
}

/// Comes back from there, and is cut off after so many messages, or as soon as it is live and no more comes. Returns the last
/// cursor.
async fn cut_after(
    (most, more_comes): (usize, bool),
    keepers: &mut BTreeMap<i64, Keeper>,
    (server, items, mut since): (&Server, &Value, String),
) -> String {
    let token = token::token("authenticated", json!({}));
    let mut client = Client::connect(server, Version::V2, &token).await;
    client
        .join("room", json!({"postgres_changes": items, "since": since}))
        .await;
    for _ in 0..most {
        let next = |m: &Message| {
            assert!(!m.payload["message"].to_string().contains("resync"), "{m:?}");
            m.event == "postgres_changes" || m.payload["message"] == "Subscribed to PostgreSQL"
        };
        let message = client.expect("a change, or the end", next).await;
        if message.event == "system" && more_comes {
            continue;
        }
        if message.event == "system" {
            break;
        }
        if let Some(cursor) = message.payload["cursor"].as_str() {
            cursor.clone_into(&mut since);
        }
        for id in message.payload["ids"].as_array().expect("ids") {
            let keeper = keepers.entry(id.as_i64().expect("an id")).or_default();
            keeper.apply(&message);
        }
    }
    since
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_rate_is_refused() {
    let db = Database::new().await;
    db.execute(SCHEMA).await;
    let server = Server::start(&db).await;
    let token = token::token("authenticated", json!({}));
    let mut client = Client::connect(&server, Version::V2, &token).await;
    let rate = "Error parsing `max_rate` params: expected a number above 0 and up to 1000";
    let conflate = "Error parsing `conflate` params: expected true or false";
    for (topic, changes, text) in [
        ("a", rows(json!(0), json!(true)), rate),
        ("b", rows(json!("5"), Value::Null), rate),
        ("c", rows(json!(1001), Value::Null), rate),
        ("d", rows(json!(5), json!("yes")), conflate),
    ] {
        client.join(topic, json!({"postgres_changes": changes})).await;
        let system = client.system(topic).await;
        let message = system["message"].as_str().unwrap_or_default();
        assert!(system["status"] == "error" && message.contains(text), "{system}");
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn supabase_js_asks_for_it_in_its_filter() {
    let db = Database::new().await;
    db.execute(SCHEMA).await;
    let server = Server::start(&db).await;
    let (url, key) = (server.url(), token::token("authenticated", json!({})));
    for vsn in ["1.0.0", "2.0.0"] {
        db.execute("truncate n; insert into n values (1, '0', '')").await;
        let bindings = rows(json!(SELDOM), json!(true)).to_string();
        let variables = [
            ("ROWCAST_URL", url.as_str()),
            ("ROWCAST_KEY", &key),
            ("BINDINGS", &bindings),
            ("VSN", vsn),
        ];
        let mut program = Program::node("supabase.mjs", &variables);
        program.next("subscribed").await;
        db.execute("update n set state = 'first'").await;
        let change = program.next("change").await;
        assert_eq!(
            (&change["eventType"], &change["new"]["state"]),
            (&json!("UPDATE"), &json!("first"))
        );
        db.execute("update n set state = 'second'").await;
        db.execute("update n set state = 'third'").await;
        // What is waited for here leaves with the next token.
        server.passed(&db).await;
        let next = token::token(
            "authenticated",
            json!({"sub": "a0000000-0000-4000-8000-000000000001"}),
        );
        program.tell(json!({"cmd": "set_auth", "token": next})).await;
        assert_eq!(program.next("change").await["new"]["state"], "third");
        program.exit().await;
    }
    server.stop().await;
}
