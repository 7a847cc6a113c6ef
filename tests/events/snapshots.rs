//! The rows first, then what changes, for those who ask by plain requests.

use std::collections::BTreeMap;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde_json::{Value, json};

use super::polls::poll;
use super::reader::{Event, Reader};
use super::{ALICE, BOB, alice, anybody, database};
use crate::support::{Database, Server, eventually};

/// `n` by `id`.
type Rows = BTreeMap<i64, i64>;

async fn lists(db: &Database) -> Rows {
    let rows = "select coalesce(json_object_agg(id, n), '{}')::text from lists";
    serde_json::from_str(&db.text(rows).await).expect("JSON")
}

/// Keeps rows of `lists` as the documentation says.
fn keep(rows: &mut Rows, name: &str, payload: &Value) {
    let begins = |message: &str| message.starts_with("snapshot: begins");
    if name == "system" && payload["message"].as_str().is_some_and(begins) {
        rows.clear();
    }
    let data = &payload["data"];
    if name != "postgres_changes" || data["table"] != "lists" {
        return;
    }
    let number = |row: &str, name: &str| data[row][name].as_i64().expect("a number");
    match data["type"].as_str() {
        Some("DELETE") => drop(rows.remove(&number("old_record", "id"))),
        _ => drop(rows.insert(number("record", "id"), number("record", "n"))),
    }
}

/// What an event is, in a word or two.
fn word(event: &Event) -> String {
    match event.inserted("todos") {
        Some(id) if event.data["payload"]["data"]["snapshot"] == true => format!("row {id}"),
        Some(id) => format!("change {id}"),
        None => event.says().to_owned(),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_brings_the_rows_and_then_what_changes() {
    let db = database().await;
    db.execute(&format!(
        "insert into todos values (1, '{ALICE}', 'one'), (2, '{BOB}', ''), (3, '{ALICE}', '')"
    ))
    .await;
    let server = Server::start(&db).await;
    let query = "table=todos&snapshot=true&select=id,title&filter=id=lt.9";
    let mut reader = Reader::default();
    assert_eq!(reader.open(&server, query, &alice(), usize::MAX).await, 200);
    let open = reader.told("open").await;
    let cursor = &open.data["payload"]["channels"][0]["snapshot"]["cursor"];
    assert!(
        cursor.as_str().is_some_and(|cursor| cursor.contains('~')),
        "{open:?}"
    );
    let mut words = Vec::new();
    while words.last().is_none_or(|word| word != "Subscribed to PostgreSQL") {
        let event = reader.next().await.expect("an event");
        if event.inserted("todos") == Some(1) {
            let data = &event.data["payload"]["data"];
            assert_eq!(data["record"], json!({ "id": 1, "title": "one" }));
        }
        if event.name != "cursor" {
            words.push(word(&event));
        }
    }
    words[1..3].sort();
    let expected = [
        "snapshot: begins",
        "row 1",
        "row 3",
        "snapshot: 2 rows",
        "Subscribed to PostgreSQL",
    ];
    assert_eq!(words, expected);
    db.execute(&format!(
        "insert into todos values (4, '{ALICE}', ''), (9, '{ALICE}', '')"
    ))
    .await;
    let event = reader.next().await.expect("an event");
    let event = if event.name == "cursor" {
        reader.next().await.expect("an event")
    } else {
        event
    };
    assert_eq!(word(&event), "change 4");

    // Whoever has them goes on from there, and needs no rows.
    let mut back = Reader::at(&reader.last_id);
    drop(reader);
    db.execute(&format!("insert into todos values (5, '{ALICE}', '')"))
        .await;
    assert_eq!(back.open(&server, query, &alice(), usize::MAX).await, 200);
    let mut words = Vec::new();
    while words.last().is_none_or(|word| word != "Subscribed to PostgreSQL") {
        let event = back.next().await.expect("an event");
        if event.name != "cursor" && event.says() != "open" {
            words.push(word(&event));
        }
    }
    assert_eq!(
        words,
        [
            "change 5",
            "resumed: nothing was missed",
            "Subscribed to PostgreSQL"
        ]
    );
    // As does who takes the place of the rows.
    let query = format!("{query}&since={}", cursor.as_str().expect("a cursor"));
    let mut other = Reader::default();
    assert_eq!(other.open(&server, &query, &alice(), usize::MAX).await, 200);
    for expected in ["change 4", "change 5", "resumed: nothing was missed"] {
        let event = other
            .until(|event| event.says() != "open" && event.name != "cursor")
            .await;
        assert_eq!(word(&event), expected);
    }
    // One that is too old is no reason to miss anything.
    let mut lost = Reader::at("1-1");
    let query = "table=todos&snapshot=true";
    assert_eq!(lost.open(&server, query, &alice(), usize::MAX).await, 200);
    lost.told("snapshot: begins again: the database was replaced or restored")
        .await;
    lost.told("snapshot: 5 rows").await;
    server.stop().await;
}

/// What a reader of two channels with rows holds, beside one without.
#[derive(Default)]
struct Held {
    reader: Reader,
    all: Rows,
    few: Rows,
    begins: usize,
}

impl Held {
    const QUERY: &str = "table=todos&topic=all&table=lists&snapshot=true&topic=few&table=lists&filter=id=gt.1990&snapshot=true";

    async fn open(&mut self, server: &Server, bytes: usize) {
        let status = self.reader.open(server, Self::QUERY, &anybody(), bytes).await;
        assert_eq!(status, 200);
    }

    /// Takes in the next event; `None` once it is cut off.
    async fn next(&mut self) -> Option<Event> {
        let event = self.reader.next().await?;
        // Whoever was cut off before `todos` was live has no place there.
        let misses = event.says().starts_with("resync") && event.data["topic"] != "realtime:public:todos";
        assert!(!misses, "{event:?}");
        self.begins += usize::from(event.says().starts_with("snapshot: begins"));
        let few = event.data["topic"] == "realtime:few";
        let rows = if few { &mut self.few } else { &mut self.all };
        keep(rows, &event.name, &event.data["payload"]);
        Some(event)
    }
}

/// Cut off in the middle of rows, while another channel of the same stream is live, readers end with what there is.
#[tokio::test(flavor = "multi_thread")]
async fn cuts_in_the_middle_of_the_rows_lose_none() {
    const READERS: usize = 8;
    let seed: u64 =
        std::env::var("SEED").map_or_else(|_| rand::random(), |seed| seed.parse().expect("a number"));
    println!("SEED={seed}");
    let db = database().await;
    db.execute("insert into lists select n, 0 from generate_series(1, 2000) n")
        .await;
    let server = Server::start(&db).await;
    let connection = db.connection().await;
    let (end, mut ended) = tokio::sync::oneshot::channel::<()>();
    let writing = tokio::spawn(async move {
        let mut random = StdRng::seed_from_u64(seed);
        let mut id = 0;
        while ended.try_recv().is_err() {
            id += 1;
            let mut row = || random.random_range(1..2000);
            let sql =
                format!(
                "begin; insert into todos values ({id}, null, ''); update lists set n = {id} where id = {};
                 delete from lists where id = {}; insert into lists values ({}, {id}); commit",
                row(), row(), 2000 + id
            );
            connection.batch_execute(&sql).await.expect("rows");
            tokio::time::sleep(Duration::from_millis(random.random_range(0..10))).await;
        }
    });
    let mut random = StdRng::seed_from_u64(seed ^ 1);
    let mut readers = Vec::new();
    for _ in 0..READERS {
        let mut held = Held::default();
        for most in [300_000, 1_000_000, 2_000_000] {
            held.open(&server, random.random_range(3_000..most)).await;
            while held.next().await.is_some() {}
        }
        readers.push(held);
    }
    end.send(()).expect("it writes");
    writing.await.expect("no panic");
    let wanted = lists(&db).await;
    let tail: Rows = wanted.range(1991..).map(|(id, n)| (*id, *n)).collect();
    for (number, held) in readers.iter_mut().enumerate() {
        held.open(&server, usize::MAX).await;
        let mut lived = 0;
        while lived < 3 {
            let event = held.next().await.expect("an event");
            lived += usize::from(event.says() == "Subscribed to PostgreSQL");
        }
        let missing = wanted.keys().filter(|id| !held.all.contains_key(id)).count();
        assert!(held.all == wanted, "{number} lacks {missing}, SEED={seed}");
        assert!(
            held.few == tail,
            "{number}: {:?}\n{tail:?}, SEED={seed}",
            held.few
        );
    }
    let begins: usize = readers.iter().map(|held| held.begins).sum();
    assert!(begins > 2 * READERS, "{begins} snapshots, SEED={seed}");
    server.stop().await;
}

/// Rows that nobody takes wait in the database.
#[tokio::test(flavor = "multi_thread")]
async fn rows_wait_for_who_reads_slowly() {
    const ROWS: usize = 40_000;
    let db = database().await;
    db.execute(&format!(
        "insert into todos select n, null, repeat('x', 500) from generate_series(1, {ROWS}) n"
    ))
    .await;
    let server = Server::start_with(&db, |config| {
        config.session.write_timeout = Duration::from_secs(60);
        config.limits.outbox_bytes = 1 << 20;
    })
    .await;
    let mut reader = Reader::default();
    let query = "table=todos&snapshot=true";
    assert_eq!(reader.open(&server, query, &anybody(), usize::MAX).await, 200);
    reader.told("snapshot: begins").await;
    // Half of an outbox is what rows are read for.
    eventually("its outbox fills up", || async {
        (server.metric("rowcast_outbox_bytes").await >= f64::from(1 << 19)).then_some(())
    })
    .await;
    let sent = server.metric("rowcast_snapshot_rows_total").await;
    assert!(sent < ROWS as f64 / 2.0, "{sent} rows");
    let waiting = server.metric("rowcast_outbox_bytes").await;
    assert!(waiting <= f64::from(1 << 20), "{waiting} bytes");
    let mut rows = 0;
    loop {
        let event = reader.next().await.expect("an event");
        rows += usize::from(event.inserted("todos").is_some());
        if event.says().starts_with("snapshot: ") {
            assert_eq!(event.says(), format!("snapshot: {ROWS} rows"));
            break;
        }
    }
    assert_eq!(rows, ROWS);
    reader.told("Subscribed").await;
    server.stop().await;
}

/// Polls from this cursor on, until it holds what there is; returns the number of answers.
async fn follow(server: &Server, db: &Database, (query, cursor): (&str, &str), rows: &mut Rows) -> usize {
    let (mut answers, mut cursor) = (0, cursor.to_owned());
    let wanted = lists(db).await;
    while *rows != wanted {
        let answer = poll(server, &format!("{query}&cursor={cursor}&wait=20"), &anybody()).await;
        assert!(answer.get("resync").is_none(), "{}", answer["resync"]);
        let events = answer["events"].as_array().expect("events");
        for event in events {
            keep(rows, event["event"].as_str().expect("a name"), &event["payload"]);
        }
        answer["cursor"]
            .as_str()
            .expect("a cursor")
            .clone_into(&mut cursor);
        answers += 1;
        assert!(answers < 50, "it does not end");
    }
    let query = format!("{query}&cursor={cursor}&wait=0.1");
    assert_eq!(poll(server, &query, &anybody()).await["events"], json!([]));
    answers
}

#[tokio::test(flavor = "multi_thread")]
async fn a_poll_brings_the_rows_and_the_next_ones_what_changes() {
    let db = database().await;
    db.execute("insert into lists select n, 0 from generate_series(1, 2500) n")
        .await;
    let server = Server::start(&db).await;
    let query = "table=lists&snapshot=true";
    let mut rows = Rows::new();
    let first = poll(&server, query, &anybody()).await;
    let events = first["events"].as_array().expect("events");
    let says = |event: &Value| event["payload"]["message"].clone();
    assert_eq!(says(&events[0]), "snapshot: begins");
    for event in events {
        keep(
            &mut rows,
            event["event"].as_str().expect("a name"),
            &event["payload"],
        );
    }
    assert_eq!(rows, lists(&db).await);
    assert!(events.iter().any(|event| says(event) == "snapshot: 2500 rows"));
    db.execute("delete from lists where id <= 10; update lists set n = id where id > 1000; insert into lists values (0, 0)")
        .await;
    let cursor = first["cursor"].as_str().expect("a cursor");
    let answers = follow(&server, &db, (query, cursor), &mut rows).await;
    assert!(answers > 1, "{answers} answers");
    // A place that is gone brings the rows again, and says that others do not count.
    rows.insert(-1, -1);
    let answers = follow(&server, &db, (query, "1-1"), &mut rows).await;
    assert_eq!(answers, 1);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_poll_does_not_hold_more_rows_than_other_events() {
    let db = database().await;
    db.execute("insert into lists select n, 0 from generate_series(1, 10000) n")
        .await;
    let server = Server::start(&db).await;
    for more in ["", "&cursor=1-1"] {
        let path = format!("/poll?table=lists&snapshot=true{more}&apikey={}", anybody());
        let (status, body) = server.get(&path).await;
        assert_eq!(status, 413, "{body}");
        assert!(body.contains("/api/rows"), "{body}");
    }
    let (status, body) = server
        .get(&format!(
            "/poll?table=lists&snapshot=true&filter=id=lt.100&apikey={}",
            anybody()
        ))
        .await;
    assert_eq!(status, 200, "{body}");
    server.stop().await;
}

/// The cursor of rows says which transactions they are of; many changes may have come since.
#[tokio::test(flavor = "multi_thread")]
async fn polls_go_on_from_the_cursor_of_rows() {
    let db = database().await;
    db.execute("insert into lists select n, 0 from generate_series(1, 100) n")
        .await;
    let server = Server::start(&db).await;
    let request = reqwest::Client::new().get(format!("{}/api/rows?table=lists", server.url()));
    let response = request.bearer_auth(anybody()).send().await.expect("an answer");
    let body: Value = response.json().await.expect("JSON");
    let mut rows = Rows::new();
    for row in body["rows"].as_array().expect("rows") {
        rows.insert(row["id"].as_i64().expect("an id"), row["n"].as_i64().expect("n"));
    }
    for n in 0..8 {
        db.execute(&format!(
            "insert into lists select n, {n} from generate_series({n} * 1000 + 101, {n} * 1000 + 1100) n; delete from lists where id % 8 = {n}"
        ))
        .await;
    }
    server.passed(&db).await;
    let cursor = body["cursor"].as_str().expect("a cursor");
    let answers = follow(&server, &db, ("table=lists", cursor), &mut rows).await;
    assert!(answers > 5, "{answers} answers");
    server.stop().await;
}
