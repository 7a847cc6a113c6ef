use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpSocket;
use tokio::process::Command;
use tokio::task::JoinHandle;

use super::reader::Reader;
use super::{ALICE, BOB, alice, anybody, database};
use crate::support::{Database, Program, Server, eventually, token};

#[tokio::test(flavor = "multi_thread")]
async fn curl_looks_at_a_table() {
    let db = database().await;
    let server = Server::start(&db).await;
    let url = format!(
        "{}/sse?table=todos&event=INSERT&select=title&apikey={}",
        server.url(),
        alice()
    );
    let mut command = Command::new("curl");
    command.args(["-sN", &url]);
    let mut curl = Program::start("curl", command, &[]);
    let line =
        |text: &'static str| move |line: &Value| line["text"].as_str().is_some_and(|l| l.contains(text));
    curl.expect("text", line("Subscribed to PostgreSQL")).await;
    db.execute(&format!(
        "insert into todos values (1, '{BOB}', 'his'), (2, '{ALICE}', 'hers'); delete from todos where id = 2"
    ))
    .await;
    let row = curl.expect("text", line("\"event\":\"postgres_changes\"")).await;
    let data = row["text"]
        .as_str()
        .and_then(|l| l.strip_prefix("data: "))
        .expect("data");
    let event: Value = serde_json::from_str(data).expect("JSON");
    assert_eq!(event["event"], "postgres_changes");
    assert_eq!(
        event["payload"]["data"]["record"],
        json!({ "id": 2, "title": "hers" })
    );
    curl.expect("text", line("id: ")).await;
    server.stop().await;
    let (status, _) = curl.ended().await;
    assert!(status.success(), "the stream was ended as HTTP wants it");
}

#[tokio::test(flavor = "multi_thread")]
async fn curl_is_told_what_is_wrong() {
    let db = database().await;
    let server = Server::start(&db).await;
    let cases = [
        ("table=todos&filter=nope=eq.1", 400, "nope"),
        ("table=nowhere", 400, "nowhere"),
        ("table=todos&filter=id=like.1", 400, "like requires"),
        ("topic=secret&private=true", 403, "Unauthorized"),
    ];
    for (query, status, text) in cases {
        for path in ["sse", "poll"] {
            let (answered, body) = server.get(&format!("/{path}?{query}&apikey={}", alice())).await;
            assert_eq!(answered, status, "{path}?{query}: {body}");
            let body: Value = serde_json::from_str(&body).expect("JSON");
            assert!(body["error"].as_str().is_some_and(|e| e.contains(text)), "{body}");
        }
    }
    assert_eq!(server.metric("rowcast_connections").await, 0.0);
    server.stop().await;
}

/// Follows two tables and a room with a real reader, across a restart of the server.
async fn across_a_restart(
    mut reader: Program,
    server: Server,
    db: &crate::support::Database,
    adjust: fn(&mut rowcast::config::Config),
) {
    let says = |text: &'static str| move |line: &Value| line["data"]["payload"]["message"] == text;
    reader.expect("event", says("Subscribed to PostgreSQL")).await;
    db.execute(&format!(
        "insert into todos values (1, '{ALICE}', ''), (2, '{BOB}', '')"
    ))
    .await;
    let row = |id: i64| move |line: &Value| line["data"]["payload"]["data"]["record"]["id"] == id;
    let first = reader.expect("event", row(1)).await;
    assert!(first["id"].as_str().is_some_and(|id| !id.is_empty()));
    let address = server.address;
    server.stop().await;
    reader.expect("lost", |line| line["state"] == 0).await;
    for id in 3..60 {
        db.execute(&format!("insert into todos values ({id}, '{ALICE}', '')"))
            .await;
    }
    let server = Server::start_at(address, db, adjust).await;
    for id in 3..60 {
        reader.expect("event", row(id)).await;
    }
    db.execute(&format!("insert into todos values (60, '{ALICE}', '')"))
        .await;
    reader.expect("event", row(60)).await;
    let rest = reader.exit().await;
    let repeated = rest
        .iter()
        .filter(|line| line["name"] == "postgres_changes")
        .count();
    assert_eq!(repeated, 0, "{rest:#?}");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_of_npm_comes_back_and_misses_nothing() {
    let db = database().await;
    let server = Server::start(&db).await;
    let url = format!("{}/sse?table=todos&apikey={}", server.url(), alice());
    let reader = Program::node("events.mjs", &[("EVENTS_URL", &url)]);
    across_a_restart(reader, server, &db, |_| {}).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_browser_with_a_cookie_comes_back_and_misses_nothing() {
    let with_cookie: fn(&mut rowcast::config::Config) =
        |config| "session".clone_into(&mut config.auth.cookie);
    let db = database().await;
    let server = Server::start_with(&db, with_cookie).await;
    let (page, url) = (
        format!("{}/livez", server.url()),
        format!("{}/sse?table=todos&table=lists", server.url()),
    );
    let browser = crate::demo::browser();
    let variables = [
        ("EVENTS_URL", url.as_str()),
        ("PAGE_URL", &page),
        ("COOKIE", &format!("session={}", alice())),
        ("CHROMIUM", browser.to_str().expect("a path of text")),
    ];
    let reader = Program::node("events.mjs", &variables);
    across_a_restart(reader, server, &db, with_cookie).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_browser_that_is_refused_stays_away() {
    let db = database().await;
    let server = Server::start(&db).await;
    let url = format!("{}/sse?table=nowhere&apikey={}", server.url(), alice());
    let mut reader = Program::node("events.mjs", &[("EVENTS_URL", &url)]);
    reader.expect("lost", |line| line["state"] == 2).await;
    reader.exit().await;
    server.stop().await;
}

/// Cut off after any byte, a reader gets every row of every table, each once and in order.
#[tokio::test(flavor = "multi_thread")]
async fn cuts_anywhere_lose_nothing_and_repeat_nothing() {
    const ROWS: i64 = 400;
    let seed: u64 =
        std::env::var("SEED").map_or_else(|_| rand::random(), |seed| seed.parse().expect("a number"));
    println!("SEED={seed}");
    let db = database().await;
    let server = Server::start(&db).await;
    let writer = {
        let connection = db.connection().await;
        async move {
            let mut random = StdRng::seed_from_u64(seed);
            let mut id = 1;
            while id <= ROWS {
                let last = (id + random.random_range(0..20)).min(ROWS);
                let sql = format!(
                    "begin; insert into todos select n, '{ALICE}', '' from generate_series({id}, {last}) n;
                     insert into lists select n, 0 from generate_series({id}, {last}) n; commit"
                );
                connection.batch_execute(&sql).await.expect("rows");
                tokio::time::sleep(Duration::from_millis(random.random_range(0..30))).await;
                id = last + 1;
            }
        }
    };
    let mut reader = Reader::default();
    let token = anybody();
    // Two tables of one channel, one of them again on another.
    let query = "table=todos&table=lists&topic=room&table=todos";
    assert_eq!(reader.open(&server, query, &token, usize::MAX).await, 200);
    reader.told("Subscribed").await;
    let mut reader = Reader::at(&reader.last_id);
    let writing = tokio::spawn(writer);
    let mut random = StdRng::seed_from_u64(seed);
    let mut got: BTreeMap<(String, String), Vec<i64>> = BTreeMap::new();
    let mut cuts = 0;
    while got.values().map(Vec::len).sum::<usize>() < 3 * usize::try_from(ROWS).expect("few") {
        match reader.next().await {
            Some(event) => {
                assert!(!event.says().starts_with("resync"), "{event:?}");
                for table in ["todos", "lists"] {
                    if let Some(id) = event.inserted(table) {
                        let topic = event.data["topic"].as_str().expect("a topic").to_owned();
                        got.entry((topic, table.to_owned())).or_default().push(id);
                    }
                }
            }
            None => {
                cuts += 1;
                let bytes = random.random_range(1..20_000);
                assert_eq!(reader.open(&server, query, &token, bytes).await, 200);
            }
        }
    }
    writing.await.expect("no panic");
    let all: Vec<i64> = (1..=ROWS).collect();
    for (channel, ids) in &got {
        assert_eq!(*ids, all, "{channel:?}, SEED={seed}");
    }
    assert_eq!(got.len(), 3);
    assert!(cuts > 5, "{cuts} cuts");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_place_that_is_gone_is_told_and_the_next_one_holds() {
    let db = database().await;
    let server = Server::start_with(&db, |config| config.resume.window = Duration::ZERO).await;
    let mut reader = Reader::default();
    reader.open(&server, "table=lists", &alice(), usize::MAX).await;
    reader.told("Subscribed").await;
    let old = reader.last_id.clone();
    db.execute("insert into lists values (1, 1)").await;
    reader.until(|event| event.inserted("lists") == Some(1)).await;
    server.passed(&db).await;
    for wrong in [old.as_str(), "1-1", "ffff-1", "not a place", ".r5=1-2"] {
        let mut reader = Reader::at(wrong);
        assert_eq!(
            reader.open(&server, "table=lists", &alice(), usize::MAX).await,
            200
        );
        reader.told("resync: ").await;
        while reader.last_id == wrong {
            reader.next().await.expect("another place");
        }
        // No second one with the place that it has now.
        reader.open(&server, "table=lists", &alice(), usize::MAX).await;
        loop {
            let event = reader.next().await.expect("an event");
            assert!(!event.says().starts_with("resync"), "{event:?}");
            if event.says() == "Subscribed to PostgreSQL" {
                break;
            }
        }
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rooms_are_heard_and_what_requests_say_in_them() {
    let db = database().await;
    db.execute("create policy hear on realtime.messages for select to authenticated using (realtime.topic() = 'private')")
        .await;
    let server = Server::start(&db).await;
    let mut reader = Reader::default();
    let query = "topic=public&topic=private&private=true&topic=secret&private=true";
    assert_eq!(reader.open(&server, query, &alice(), usize::MAX).await, 200);
    let open = reader.told("open").await;
    let topics: Vec<&Value> = open.data["payload"]["channels"]
        .as_array()
        .expect("channels")
        .iter()
        .map(|channel| &channel["topic"])
        .collect();
    assert_eq!(topics, ["realtime:public", "realtime:private"]);
    reader.told("Unauthorized: ").await;
    for (topic, private) in [("public", false), ("private", true)] {
        let message = json!({ "messages": [{ "topic": topic, "event": "e", "payload": { "to": topic }, "private": private }] });
        let key = anybody();
        let headers = [("apikey", key.as_str()), ("content-type", "application/json")];
        let (status, body) = server.post("/api/broadcast", &headers, message.to_string()).await;
        assert_eq!(status, 202, "{body}");
        let event = reader.until(|event| event.name == "broadcast").await;
        assert_eq!(event.data["payload"]["payload"], json!({ "to": topic }));
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_runs_out_ends_the_stream_and_says_so() {
    let db = database().await;
    let server = Server::start(&db).await;
    let short = token::token("authenticated", json!({ "sub": ALICE, "exp": token::now() + 3 }));
    let mut reader = Reader::default();
    assert_eq!(reader.open(&server, "table=todos", &short, usize::MAX).await, 200);
    let end = reader.told("Token has expired").await;
    assert_eq!(end.data["payload"]["status"], "error");
    while reader.next().await.is_some() {}
    assert_eq!(reader.open(&server, "table=todos", &short, usize::MAX).await, 401);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_goes_ends_its_stream() {
    let db = database().await;
    let server = Server::start(&db).await;
    let mut reader = Reader::default();
    assert_eq!(
        reader.open(&server, "table=lists", &alice(), usize::MAX).await,
        200
    );
    reader.told("Subscribed").await;
    db.execute("alter publication supabase_realtime drop table lists")
        .await;
    eventually("it is refused", || async {
        let (status, _) = server.get(&format!("/poll?table=lists&apikey={}", alice())).await;
        (status == 400).then_some(())
    })
    .await;
    server.stop().await;
}

/// Sockets that take nothing are let go with all that was kept for them.
#[tokio::test(flavor = "multi_thread")]
async fn who_does_not_read_is_hung_up_on() {
    let db = database().await;
    let server = Server::start_with(&db, |config| {
        config.session.write_timeout = Duration::from_secs(3);
        config.limits.record_bytes = 8 << 20;
    })
    .await;
    let mut stalled = Vec::new();
    for _ in 0..20 {
        let socket = TcpSocket::new_v4().expect("a socket");
        socket.set_recv_buffer_size(4_096).expect("a small buffer");
        let mut stream = socket.connect(server.address).await.expect("a connection");
        let request = format!(
            "GET /sse?table=todos HTTP/1.1\r\nhost: a\r\nauthorization: Bearer {}\r\n\r\n",
            anybody()
        );
        stream.write_all(request.as_bytes()).await.expect("sent");
        stalled.push(stream);
    }
    let mut reader = Reader::default();
    reader.open(&server, "table=todos", &anybody(), usize::MAX).await;
    reader.told("Subscribed").await;
    eventually("all are subscribed", || async {
        (server.metric("rowcast_subscriptions").await >= 21.0).then_some(())
    })
    .await;
    // One by one, so that the reader never has long to wait for what it must not be late with.
    for id in 0..100 {
        db.execute(&format!(
            "insert into todos values ({id}, null, repeat('x', 100000))"
        ))
        .await;
        reader.until(|event| event.inserted("todos") == Some(id)).await;
    }
    eventually("the others are gone", || async {
        (server.metric("rowcast_connections").await == 1.0).then_some(())
    })
    .await;
    drop(stalled);
    server.stop().await;
}

/// What clients and the database say in a room while a reader is away comes when it is back, once and in order.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_said_in_a_room_meanwhile_is_heard_later() {
    let db = database().await;
    let server = Server::start(&db).await;
    let mut reader = Reader::default();
    let query = "topic=a&table=lists&topic=b";
    reader.open(&server, query, &anybody(), usize::MAX).await;
    reader.told("Subscribed").await;
    let mut heard = Vec::new();
    let mut sent = 0;
    while heard.len() < 60 {
        for _ in 0..5 {
            if sent % 3 == 0 {
                let sql = format!("select realtime.send('{{\"n\":{sent}}}', 'e', 'a', false)");
                db.execute(&sql).await;
                server.passed(&db).await;
            } else {
                let message =
                    json!({ "messages": [{ "topic": "a", "event": "e", "payload": { "n": sent } }] });
                let key = anybody();
                let headers = [("apikey", key.as_str()), ("content-type", "application/json")];
                let (status, _) = server.post("/api/broadcast", &headers, message.to_string()).await;
                assert_eq!(status, 202);
            }
            sent += 1;
        }
        reader.open(&server, query, &anybody(), 2_500).await;
        while let Some(event) = reader.next().await {
            assert!(!event.says().starts_with("resync"), "{event:?}");
            if event.name == "broadcast" {
                heard.push(event.data["payload"]["payload"]["n"].as_i64().expect("a number"));
                if heard.len() == sent {
                    break;
                }
            }
        }
    }
    let all: Vec<i64> = (0..i64::try_from(heard.len()).expect("few")).collect();
    assert_eq!(heard, all);
    server.stop().await;
}

/// Writes so many lists, one after the other.
async fn written(db: &Database, rows: i64) -> JoinHandle<()> {
    let connection = db.connection().await;
    tokio::spawn(async move {
        for id in 1..=rows {
            let sql = format!("insert into lists values ({id}, 0)");
            connection.batch_execute(&sql).await.expect("a row");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
}

/// What is gathered for a channel while it is cut off comes again, and what its neighbour got meanwhile does not take it along.
#[tokio::test(flavor = "multi_thread")]
async fn cuts_lose_nothing_of_what_is_gathered() {
    const ROWS: i64 = 200;
    let db = database().await;
    let server = Server::start(&db).await;
    let query = "table=lists&max_rate=20&topic=room&table=lists";
    let mut reader = Reader::default();
    reader.open(&server, query, &anybody(), usize::MAX).await;
    for _ in 0..2 {
        reader.told("Subscribed").await;
    }
    let mut reader = Reader::at(&reader.last_id);
    let writing = written(&db, ROWS).await;
    let mut got: BTreeMap<String, Vec<i64>> = BTreeMap::new();
    let complete = |ids: &Vec<i64>| ids.last() == Some(&ROWS);
    while got.len() < 2 || !got.values().all(complete) {
        match reader.next().await {
            Some(event) => {
                assert!(!event.says().starts_with("resync"), "{event:?}");
                if let Some(id) = event.inserted("lists") {
                    let topic = event.data["topic"].as_str().expect("a topic").to_owned();
                    got.entry(topic).or_default().push(id);
                }
            }
            None => {
                let bytes = rand::rng().random_range(2_000..20_000);
                assert_eq!(reader.open(&server, query, &anybody(), bytes).await, 200);
            }
        }
    }
    writing.await.expect("no panic");
    let all: Vec<i64> = (1..=ROWS).collect();
    assert_eq!(got["realtime:room"], all);
    let mut gathered = got["realtime:public:lists"].clone();
    gathered.sort_unstable();
    gathered.dedup();
    assert_eq!(gathered, all);
    server.stop().await;
}

/// However much leaves together, whoever is cut off in the midst of it goes on from there.
#[tokio::test(flavor = "multi_thread")]
async fn cuts_in_the_midst_of_what_was_gathered_begin_nothing_anew() {
    const ROWS: i64 = 300;
    let db = database().await;
    let server = Server::start(&db).await;
    let query = "table=lists&max_rate=20";
    let mut reader = Reader::default();
    reader.open(&server, query, &anybody(), usize::MAX).await;
    reader.told("Subscribed").await;
    let mut reader = Reader::at(&reader.last_id);
    db.execute(&format!(
        "insert into lists select n, 0 from generate_series(1, {ROWS}) n"
    ))
    .await;
    let mut got = Vec::new();
    while got.last() != Some(&ROWS) {
        let before = got.len();
        assert_eq!(reader.open(&server, query, &anybody(), 8_000).await, 200);
        while let Some(event) = reader.next().await {
            got.extend(event.inserted("lists"));
            if got.last() == Some(&ROWS) {
                break;
            }
        }
        got.dedup();
        assert!(got.is_sorted() && got.len() > before, "{before}: {got:?}");
    }
    assert_eq!(got, (1..=ROWS).collect::<Vec<_>>());
    server.stop().await;
}

/// Items of one channel that gather for different times, beside one that does not: the place is in front of what any of them
/// has not given away.
#[tokio::test(flavor = "multi_thread")]
async fn cuts_lose_nothing_of_a_channel_with_several_paces() {
    const ROWS: i64 = 100;
    let db = database().await;
    let server = Server::start(&db).await;
    let query = "table=lists&max_rate=30&table=lists&max_rate=7&filter=id=gt.0&table=lists&filter=id=gt.-1";
    let mut reader = Reader::default();
    reader.open(&server, query, &anybody(), usize::MAX).await;
    reader.told("Subscribed").await;
    let mut reader = Reader::at(&reader.last_id);
    let writing = written(&db, ROWS).await;
    let mut got: BTreeMap<String, BTreeSet<i64>> = BTreeMap::new();
    let complete = |ids: &BTreeSet<i64>| ids.contains(&ROWS);
    while got.len() < 3 || !got.values().all(complete) {
        match reader.next().await {
            Some(event) => {
                assert!(!event.says().starts_with("resync"), "{event:?}");
                if let Some(id) = event.inserted("lists") {
                    let items = event.data["payload"]["ids"].as_array().expect("items").iter();
                    for item in items {
                        got.entry(item.to_string()).or_default().insert(id);
                    }
                }
            }
            None => {
                let bytes = rand::rng().random_range(10_000..60_000);
                assert_eq!(reader.open(&server, query, &anybody(), bytes).await, 200);
            }
        }
    }
    writing.await.expect("no panic");
    let all: BTreeSet<i64> = (1..=ROWS).collect();
    assert!(got.values().all(|ids| *ids == all), "{got:?}");
    server.stop().await;
}
