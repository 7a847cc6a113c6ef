//! Phoenix' long polling end to end: unmodified clients on it, beside others on sockets, and connections that break.

use std::collections::BTreeSet;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::{Client, Database, Program, Server, Version, eventually, token};

const ALICE: &str = "a11ce000-0000-4000-8000-000000000001";
const BOB: &str = "b0b00000-0000-4000-8000-000000000002";

const OWN_NOTES: &str = "
    create table notes (id int primary key, owner uuid, title text);
    alter table notes replica identity full, enable row level security;
    create policy own on notes for select using (owner = auth.uid());
    grant select on notes to authenticated;
    alter publication supabase_realtime add table notes;
";

/// What realtime-js travels by, and in which version.
const TRANSPORTS: [(&str, &str); 4] = [
    ("longpoll", "1.0.0"),
    ("longpoll", "2.0.0"),
    ("longpoll-phoenix", "2.0.0"),
    ("websocket", "2.0.0"),
];

/// A program with the `anon` key, for the channel `room`.
fn run(server: &Server, script: &str, more: &[(&str, &str)]) -> Program {
    let (key, url) = (token::token("anon", json!({})), server.url());
    let mut variables = vec![
        ("ROWCAST_URL", url.as_str()),
        ("ROWCAST_KEY", &key),
        ("TOPIC", "room"),
    ];
    variables.extend(more);
    Program::node(script, &variables)
}

fn start(server: &Server, script: &str, (transport, vsn): (&str, &str), more: &[(&str, &str)]) -> Program {
    let travels = [("TRANSPORT", transport), ("VSN", vsn)];
    run(server, script, &[&travels, more].concat())
}

async fn subscribed(program: &mut Program) {
    let status = |line: &Value| line["status"] == "SUBSCRIBED";
    program.expect("status", status).await;
}

/// Sessions of long polling that the server has now.
async fn sessions(server: &Server) -> f64 {
    server.metric("rowcast_longpoll_sessions").await
}

async fn until_sessions(server: &Server, count: f64) {
    let check = || async { (sessions(server).await == count).then_some(()) };
    eventually(&format!("there are {count} sessions"), check).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_come_under_policies_and_in_order() {
    let db = Database::new().await;
    db.execute(OWN_NOTES).await;
    let server = Server::start(&db).await;
    let token = token::user(ALICE);
    let bindings = json!([{"event": "*", "schema": "public", "table": "notes"}]).to_string();
    let more = [("ROWCAST_TOKEN", token.as_str()), ("BINDINGS", &bindings)];
    let mut programs: Vec<_> = TRANSPORTS
        .iter()
        .map(|transport| start(&server, "supabase.mjs", *transport, &more))
        .collect();
    for program in &mut programs {
        subscribed(program).await;
        program.next("subscribed").await;
    }
    assert_eq!(sessions(&server).await, 3.0);
    for id in 0..20 {
        db.execute(&format!(
            "insert into notes values ({id}, '{ALICE}', 'é'), (-{id} - 1, '{BOB}', 'not hers')"
        ))
        .await;
    }
    db.execute(&format!(
        "update notes set title = 'two' where owner in ('{ALICE}', '{BOB}')"
    ))
    .await;
    db.execute("delete from notes where id = 0").await;
    for (program, transport) in programs.iter_mut().zip(TRANSPORTS) {
        for (kind, title) in [("INSERT", "é"), ("UPDATE", "two")] {
            let mut ids = BTreeSet::new();
            for n in 0..20 {
                let change = program.next("change").await;
                assert_eq!(
                    (&change["eventType"], &change["new"]["title"]),
                    (&json!(kind), &json!(title)),
                    "{transport:?}"
                );
                let id = change["new"]["id"].as_i64().expect("an id");
                // Inserts are one transaction each; one UPDATE may go through the table in its own order.
                assert!(kind == "UPDATE" || id == n, "{transport:?}: {id} as number {n}");
                ids.insert(id);
            }
            assert!(ids.into_iter().eq(0..20), "{transport:?}");
        }
        assert_eq!(program.next("change").await["eventType"], "DELETE");
    }
    for program in programs {
        let rest = program.exit().await;
        assert!(rest.iter().all(|line| line["kind"] != "change"), "{rest:#?}");
    }
    until_sessions(&server, 0.0).await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn broadcasts_and_heartbeats_go_both_ways() {
    let db = Database::new().await;
    let server = Server::start(&db).await;
    let config = json!({"broadcast": {"ack": true, "self": true}}).to_string();
    let more = [("CHANNEL_CONFIG", config.as_str())];
    let mut programs: Vec<_> = TRANSPORTS
        .iter()
        .map(|transport| start(&server, "channel.mjs", *transport, &more))
        .collect();
    for program in &mut programs {
        subscribed(program).await;
    }
    for sender in 0..programs.len() {
        let payload = json!({"from": sender, "text": "é\u{1f600}\"\\"});
        programs[sender]
            .tell(json!({"cmd": "send", "event": "e", "payload": payload}))
            .await;
        assert_eq!(programs[sender].next("sent").await["result"], "ok");
        for (listener, program) in programs.iter_mut().enumerate() {
            let heard = program.next("broadcast").await;
            assert_eq!(heard["payload"], payload, "{sender} to {listener}");
        }
        programs[sender].tell(json!({"cmd": "heartbeat"})).await;
        let answered = |line: &Value| line["status"] == "ok";
        programs[sender].expect("heartbeat", answered).await;
    }
    // From the database, where version 2 has a binary frame of its own on a socket.
    db.execute("select realtime.send('{\"by\": \"sql\"}', 'e', 'room', false)")
        .await;
    for program in &mut programs {
        assert_eq!(program.next("broadcast").await["payload"]["by"], "sql");
    }
    // Bytes may be sent by long polling, and are heard on sockets.
    programs[1]
        .tell(json!({"cmd": "send_bytes", "event": "b", "bytes": [0, 255, 7]}))
        .await;
    assert_eq!(programs[1].next("sent").await["result"], "ok");
    assert_eq!(programs[3].next("broadcast").await["bytes"], json!([0, 255, 7]));
    for program in programs {
        let rest = program.exit().await;
        assert!(rest.iter().all(|line| line["kind"] != "broadcast"), "{rest:#?}");
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_polls_is_present_until_it_goes() {
    let db = Database::new().await;
    let server = Server::start(&db).await;
    let mut watcher = start(
        &server,
        "channel.mjs",
        ("longpoll", "2.0.0"),
        &[("PRESENCE", "1")],
    );
    subscribed(&mut watcher).await;
    let mut others = Vec::new();
    for (n, transport) in TRANSPORTS.iter().enumerate().take(3) {
        let config = json!({"presence": {"key": format!("p{n}")}}).to_string();
        let more = [("PRESENCE", "1"), ("CHANNEL_CONFIG", config.as_str())];
        let mut program = start(&server, "channel.mjs", *transport, &more);
        subscribed(&mut program).await;
        program.tell(json!({"cmd": "track", "payload": {"n": n}})).await;
        assert_eq!(program.next("tracked").await["result"], "ok");
        let joined = |line: &Value| line["key"] == format!("p{n}");
        watcher.expect("join", joined).await;
        others.push(program);
    }
    // One leaves, one is killed while it waits, and one stays.
    let mut staying = others.pop().expect("three");
    let killed = others.pop().expect("two");
    let mut leaving = others.pop().expect("one");
    leaving.tell(json!({"cmd": "unsubscribe"})).await;
    assert_eq!(leaving.next("unsubscribed").await["result"], "ok");
    let left = |key: &'static str| move |line: &Value| line["key"] == key;
    watcher.expect("leave", left("p0")).await;
    drop(killed);
    for program in [&mut watcher, &mut staying] {
        program.expect("leave", left("p1")).await;
        // The last one came after the other, so this is the state without it.
        let without =
            |line: &Value| line["state"]["p1"].is_null() && line["state"]["p2"] == json!([{"n": 2}]);
        program.expect("sync", without).await;
    }
    for program in [leaving, staying, watcher] {
        program.exit().await;
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_come_back_after_a_restart() {
    let db = Database::new().await;
    db.execute(OWN_NOTES).await;
    let server = Server::start(&db).await;
    let address = server.address;
    let token = token::user(ALICE);
    let more = [("ROWCAST_TOKEN", token.as_str())];
    let mut programs: Vec<_> = TRANSPORTS
        .iter()
        .take(3)
        .map(|transport| start(&server, "supabase.mjs", *transport, &more))
        .collect();
    for program in &mut programs {
        subscribed(program).await;
        program.next("subscribed").await;
    }
    server.stop().await;
    let server = Server::start_at(address, &db, |_| {}).await;
    for program in &mut programs {
        subscribed(program).await;
        program.next("subscribed").await;
    }
    db.execute(&format!("insert into notes values (1, '{ALICE}', 'after')"))
        .await;
    for mut program in programs {
        assert_eq!(program.next("change").await["new"]["title"], "after");
        program.exit().await;
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_phoenix_client_falls_back_to_it() {
    let db = Database::new().await;
    let server = Server::start(&db).await;
    let mut program = run(&server, "fallback.mjs", &[]);
    let joined = program.next("joined").await;
    assert_eq!(
        joined,
        json!({"kind": "joined", "status": "ok", "transport": "LongPoll"})
    );
    let mut other = Client::connect(&server, Version::V2, &token::token("anon", json!({}))).await;
    other.enter("room", json!({})).await;
    program
        .tell(json!({"cmd": "send", "event": "e", "payload": {"x": 1}}))
        .await;
    assert_eq!(program.next("sent").await["status"], "ok");
    assert_eq!(program.next("broadcast").await["payload"], json!({"x": 1}));
    other.heard("room").await;
    other.say("room", "e", json!({"x": 2})).await;
    assert_eq!(program.next("broadcast").await["payload"], json!({"x": 2}));
    program.exit().await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_browser_polls_from_another_origin_and_understands_a_refusal() {
    let db = Database::new().await;
    let server = Server::start(&db).await;
    let mut program = run(&server, "fallback_page.mjs", &[]);
    program.tell(json!({"cmd": "connect", "key": "rubbish"})).await;
    for _ in 0..2 {
        assert_eq!(program.next("refused").await["error"], 403);
    }
    program.tell(json!({"cmd": "disconnect"})).await;
    program.next("disconnected").await;
    program.tell(json!({"cmd": "connect"})).await;
    program.next("joined").await;
    let mut other = Client::connect(&server, Version::V2, &token::token("anon", json!({}))).await;
    other.enter("room", json!({})).await;
    for n in 0..50 {
        other.say("room", "e", json!({"n": n, "text": "é\u{2028}"})).await;
    }
    for n in 0..50 {
        let heard = program.next("broadcast").await;
        assert_eq!(heard["payload"], json!({"n": n, "text": "é\u{2028}"}));
    }
    program
        .tell(json!({"cmd": "send", "event": "e", "payload": {"from": "page"}}))
        .await;
    program.next("sent").await;
    assert_eq!(
        other.heard("room").await.payload["payload"],
        json!({"from": "page"})
    );
    let rest = program.exit().await;
    assert!(rest.iter().all(|line| line["kind"] != "raised"), "{rest:#?}");
    server.stop().await;
}

/// A client whose connections break: each request is one of its own, and some are dropped before they are answered, in the
/// middle of the answer, or at its end.
struct Lossy {
    server: std::net::SocketAddr,
    token: String,
    chance: StdRng,
    /// Of a request for messages to break.
    breaks: f64,
    broken: u32,
}

impl Lossy {
    /// A session with this key, and with more in its query.
    async fn open(server: &Server, key: &str, more: &str, seed: u64, breaks: f64) -> Self {
        let mut client = Self {
            server: server.address,
            token: String::new(),
            chance: StdRng::seed_from_u64(seed),
            breaks,
            broken: 0,
        };
        while client.token.is_empty() {
            let open = format!("GET /socket/longpoll?vsn=2.0.0&apikey={key}{more}");
            if let Some(answer) = client.request(&open, "").await {
                client.token = answer["token"].as_str().expect("a token").to_owned();
            }
        }
        client
    }

    /// Joins a channel with the rows of the table `n`, and waits until they are live: what came before that.
    async fn follow_n(&mut self) -> Vec<Value> {
        let bindings = json!([{"event": "*", "schema": "public", "table": "n"}]);
        let join = json!(["1", "1", "realtime:n", "phx_join", {"config": {"postgres_changes": bindings}}]);
        let post = format!("POST /socket/longpoll?token={}", self.token);
        let posted = self.request(&post, &join.to_string()).await;
        assert_eq!(posted, Some(json!({"status": 200})));
        let mut before = Vec::new();
        loop {
            let mut messages = self.messages().await.into_iter();
            for message in messages.by_ref() {
                if message[4]["message"] == "Subscribed to PostgreSQL" {
                    before.extend(messages);
                    return before;
                }
                before.push(message);
            }
        }
    }

    /// Sends a request; its answer, if it came whole.
    async fn request(&mut self, head: &str, body: &str) -> Option<Value> {
        let mut stream = TcpStream::connect(self.server).await.expect("the server listens");
        let length = body.len();
        let request = format!(
            "{head} HTTP/1.1\r\nhost: x\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}"
        );
        stream.write_all(request.as_bytes()).await.expect("a request");
        let breaks = head.starts_with("GET") && self.chance.random_bool(self.breaks);
        let enough = match (breaks, self.chance.random_bool(0.3)) {
            (false, _) => usize::MAX,
            (true, true) => 0,
            (true, false) => self.chance.random_range(1..2_000),
        };
        let mut answer = Vec::new();
        while answer.len() < enough {
            let mut buffer = [0; 512];
            match stream.read(&mut buffer).await.expect("an answer") {
                0 => break,
                n => answer.extend_from_slice(&buffer[..n]),
            }
        }
        if breaks {
            self.broken += 1;
            return None;
        }
        let text = String::from_utf8(answer).expect("UTF-8");
        let (_, body) = text.split_once("\r\n\r\n").expect("a body");
        Some(serde_json::from_str(body).expect("JSON"))
    }

    /// The next messages.
    async fn messages(&mut self) -> Vec<Value> {
        loop {
            let Some(answer) = self
                .request(&format!("GET /socket/longpoll?token={}", self.token), "")
                .await
            else {
                continue;
            };
            assert!(
                [200, 204].map(Value::from).contains(&answer["status"]),
                "{answer}"
            );
            self.token = answer["token"].as_str().expect("a token").to_owned();
            let messages = answer["messages"].as_array().expect("an array");
            if !messages.is_empty() {
                let parsed = |text: &Value| serde_json::from_str(text.as_str().expect("text"));
                return messages
                    .iter()
                    .map(parsed)
                    .collect::<Result<_, _>>()
                    .expect("JSON");
            }
        }
    }
}

/// The ids of the rows in these messages.
fn ids(messages: &[Value]) -> impl Iterator<Item = i64> {
    let rows = messages.iter().filter(|message| message[3] == "postgres_changes");
    rows.map(|message| message[4]["data"]["record"]["id"].as_i64().expect("an id"))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_with_a_session_id_goes_on_where_it_was() {
    let db = Database::new().await;
    db.execute("create table n (id int primary key); alter publication supabase_realtime add table n")
        .await;
    let server = Server::start_with(&db, |config| {
        config.resume.acknowledge = Duration::from_millis(1);
    })
    .await;
    let key = token::token("service_role", json!({}));
    let mut client = Lossy::open(&server, &key, "&session=tab-1", 1, 0.0).await;
    client.follow_n().await;
    let mut seen = 0;
    while seen < 50 {
        db.execute(&format!("insert into n values ({})", seen + 1)).await;
        for id in ids(&client.messages().await) {
            assert_eq!(id, seen + 1);
            seen = id;
        }
    }
    // An answer gets lost, its session gets more of them, and the client never asks again.
    db.execute("insert into n values (51)").await;
    server.passed(&db).await;
    client.breaks = 1.0;
    let lost = format!("GET /socket/longpoll?token={}", client.token);
    assert_eq!(client.request(&lost, "").await, None);
    db.execute("insert into n select generate_series(52, 60)").await;
    server.passed(&db).await;
    let mut client = Lossy::open(&server, &key, "&session=tab-1", 2, 0.0).await;
    let mut messages = client.follow_n().await;
    db.execute("insert into n values (61)").await;
    while ids(&messages).last() != Some(61) {
        messages.extend(client.messages().await);
    }
    let ids: Vec<_> = ids(&messages).collect();
    // No row is missing; a few of the last come again.
    let first = ids[0];
    assert!(
        (40..=51).contains(&first) && ids.iter().copied().eq(first..=61),
        "{ids:?}"
    );
    let resync = messages
        .iter()
        .find(|message| message.to_string().contains("load the rows"));
    assert_eq!(resync, None);
    server.stop().await;
}

/// As Phoenix clients do where sockets stop to come through, and begin to again.
#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_moves_between_sockets_and_requests_misses_nothing() {
    let db = Database::new().await;
    db.execute("create table n (id int primary key); alter publication supabase_realtime add table n")
        .await;
    let server = Server::start_with(&db, |config| {
        config.resume.acknowledge = Duration::from_millis(1);
    })
    .await;
    let key = token::token("service_role", json!({}));
    let bindings = json!([{"event": "*", "schema": "public", "table": "n"}]);
    let insert = async |first: i64, last: i64| {
        db.execute(&format!("insert into n select generate_series({first}, {last})"))
            .await;
        server.passed(&db).await;
    };
    // Whoever joins before the stream has begun is nowhere.
    insert(0, 0).await;
    let (mut seen, mut last) = (BTreeSet::new(), 0);
    for round in 0..3 {
        let mut socket = Client::connect(&server, Version::V2, &format!("{key}&session=moves")).await;
        socket.enter("n", json!({"postgres_changes": bindings})).await;
        insert(last + 1, last + 5).await;
        while !seen.contains(&(last + 5)) {
            let change = socket.change().await;
            seen.insert(change["data"]["record"]["id"].as_i64().expect("an id"));
        }
        let told = |m: &crate::support::Message| m.payload["extension"] == "resume";
        let outcomes: Vec<_> = socket
            .pending()
            .iter()
            .filter(|m| told(m))
            .map(|m| m.payload["message"].clone())
            .collect();
        assert!(
            round == 0 || outcomes == ["resumed: nothing was missed"],
            "{outcomes:?}"
        );
        // It is there, and not heard any more.
        insert(last + 6, last + 10).await;
        let mut requests = Lossy::open(&server, &key, "&session=moves", round, 0.0).await;
        let mut messages = requests.follow_n().await;
        insert(last + 11, last + 15).await;
        while ids(&messages).last() != Some(last + 15) {
            messages.extend(requests.messages().await);
        }
        seen.extend(ids(&messages));
        assert!(
            !messages.iter().any(|m| m.to_string().contains("resync")),
            "{messages:?}"
        );
        // Nobody asks for these.
        insert(last + 16, last + 20).await;
        last += 20;
    }
    let mut socket = Client::connect(&server, Version::V2, &format!("{key}&session=moves")).await;
    socket.enter("n", json!({"postgres_changes": bindings})).await;
    insert(last + 1, last + 1).await;
    while !seen.contains(&(last + 1)) {
        let change = socket.change().await;
        seen.insert(change["data"]["record"]["id"].as_i64().expect("an id"));
    }
    assert!(seen.iter().copied().eq(1..=last + 1), "{seen:?}");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_polls_with_the_session_id_of_another_user_takes_and_moves_nothing() {
    let db = Database::new().await;
    db.execute("create table n (id int primary key); alter publication supabase_realtime add table n")
        .await;
    let server = Server::start_with(&db, |config| {
        config.resume.acknowledge = Duration::from_millis(1);
    })
    .await;
    let key = |sub: &str| token::token("service_role", json!({ "sub": sub }));
    let told = |messages: &[Value], text: &str| messages.iter().any(|m| m[4]["message"] == text);
    let mut owner = Lossy::open(&server, &key("ann"), "&session=tab-1", 1, 0.0).await;
    owner.follow_n().await;
    // Its next request says that it has the last answer.
    for id in 1..=2 {
        db.execute(&format!("insert into n values ({id})")).await;
        assert!(ids(&owner.messages().await).eq([id]));
    }
    db.execute("insert into n values (3)").await;
    server.passed(&db).await;
    let mut thief = Lossy::open(&server, &key("ben"), "&session=tab-1", 2, 0.0).await;
    let messages = thief.follow_n().await;
    assert!(
        told(&messages, "resync: the session was another user's"),
        "{messages:?}"
    );
    assert_eq!(ids(&messages).count(), 0);
    db.execute("insert into n values (4)").await;
    assert!(ids(&thief.messages().await).eq([4]));
    let mut owner = Lossy::open(&server, &key("ann"), "&session=tab-1", 3, 0.0).await;
    let messages = owner.follow_n().await;
    assert!(told(&messages, "resumed: nothing was missed"), "{messages:?}");
    let missed: Vec<i64> = ids(&messages).collect();
    assert!(missed.ends_with(&[3, 4]), "{missed:?}");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_that_break_lose_and_double_nothing() {
    const ROWS: i64 = 2_000;
    let db = Database::new().await;
    db.execute("create table n (id int primary key); alter publication supabase_realtime add table n")
        .await;
    let server = Server::start(&db).await;
    let seed: u64 = rand::random();
    let key = token::token("service_role", json!({}));
    let mut client = Lossy::open(&server, &key, "", seed, 0.6).await;
    client.follow_n().await;
    let writing = tokio::spawn({
        let connection = db.connection().await;
        async move {
            for first in (0..ROWS).step_by(10) {
                let rows = format!("insert into n select generate_series({first}, {first} + 9)");
                connection.batch_execute(&rows).await.expect("rows");
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        }
    });
    let mut expected = 0;
    while expected < ROWS {
        for frame in client.messages().await {
            assert_eq!(frame[3], "postgres_changes", "{frame}");
            assert_eq!(frame[4]["data"]["record"]["id"], expected, "seed {seed}");
            expected += 1;
        }
    }
    writing.await.expect("no panic");
    assert!(client.broken > 5, "seed {seed}: {} broke", client.broken);
    server.stop().await;
}
