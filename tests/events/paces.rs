//! Streams of items at paces of their own (`max_rate`, `conflate`), over connections that are shorter than what was missed.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::reader::{Event, Reader};
use super::{anybody, database};
use crate::support::{Database, Server};

const ROWS: i64 = 40;

/// What one item has been told, applied by primary key; and as a list, as examples on the web do.
#[derive(Debug, Default)]
struct Keeper {
    rows: BTreeMap<i64, i64>,
    list: Vec<i64>,
}

impl Keeper {
    fn apply(&mut self, data: &Value) {
        assert_eq!(data["errors"], Value::Null, "{data}");
        let number = |column: &str| data["record"][column].as_i64();
        let (Some(id), Some(n)) = (number("id"), number("n")) else {
            panic!("{data}")
        };
        if data["type"] == "INSERT" && !self.list.contains(&id) {
            self.list.push(id);
        }
        self.rows.insert(id, n);
    }
}

/// Rows, and then all of them again and again, in one transaction and in several.
async fn written(db: &Database) {
    for (first, last) in [(1, ROWS / 2), (ROWS / 2 + 1, ROWS)] {
        db.execute(&format!(
            "insert into lists select id, 0 from generate_series({first}, {last}) id; update lists set n = n + 1"
        ))
        .await;
        for _ in 0..3 {
            db.execute("update lists set n = n + 1; update lists set n = n + 1 where id % 7 = 3")
                .await;
        }
    }
}

async fn there(db: &Database) -> Value {
    let text = db.text("select json_agg(json_build_array(id, n) order by id)::text from lists");
    serde_json::from_str(&text.await).expect("rows")
}

/// Reads what there is in connections of some thousand bytes, each of which has to lead on.
async fn follow(server: &Server, (query, items): (&str, usize), reader: &mut Reader, there: &Value) {
    let mut keepers: BTreeMap<String, Keeper> = BTreeMap::new();
    let complete = |keeper: &Keeper| json!(keeper.rows.iter().collect::<Vec<_>>()) == *there;
    let mut connections = 0;
    while keepers.len() < items || !keepers.values().all(complete) {
        connections += 1;
        let before = reader.last_id.clone();
        assert_eq!(reader.open(server, query, &anybody(), 7_000).await, 200);
        while let Some(event) = reader.next().await {
            let Event { name, data } = &event;
            assert!(!event.says().starts_with("resync"), "{event:?}");
            if name == "postgres_changes" {
                assert!(data["payload"]["cursor"].is_string(), "{event:?}");
                for item in data["payload"]["ids"].as_array().expect("items") {
                    let keeper = keepers.entry(item.to_string()).or_default();
                    keeper.apply(&data["payload"]["data"]);
                }
            }
            if keepers.len() == items && keepers.values().all(complete) {
                break;
            }
        }
        assert_ne!(
            reader.last_id, before,
            "no headway by connection {connections}: {query}"
        );
    }
    for keeper in keepers.values_mut() {
        keeper.list.sort_unstable();
        assert_eq!(
            keeper.list,
            (1..=ROWS).collect::<Vec<_>>(),
            "as what each row was told first: {query}"
        );
    }
}

/// However short the connections are, each goes on from behind what the one before has brought.
#[tokio::test(flavor = "multi_thread")]
async fn short_connections_make_headway_at_every_pace() {
    let db = database().await;
    db.execute("alter table lists replica identity full").await;
    let server = Server::start(&db).await;
    let queries = [
        ("table=lists&max_rate=20", 1),
        ("table=lists&conflate=true", 1),
        ("table=lists&conflate=true&max_rate=20", 1),
        ("table=lists&max_rate=20&table=lists&filter=id=gt.0", 2),
        (
            "table=lists&conflate=true&max_rate=0.001&table=lists&filter=id=gt.0",
            2,
        ),
        ("table=lists&conflate=true&table=lists&filter=id=gt.0", 2),
        (
            "table=lists&conflate=true&max_rate=0.001&table=lists&filter=id=gt.0&max_rate=7&table=lists&filter=id=gt.-1&conflate=true&table=lists&filter=id=gt.-2",
            4,
        ),
    ];
    let mut readers = Vec::new();
    for (query, items) in queries {
        let mut reader = Reader::default();
        reader.open(&server, query, &anybody(), usize::MAX).await;
        reader.told("Subscribed").await;
        readers.push(((query, items), Reader::at(&reader.last_id)));
    }
    written(&db).await;
    let there = there(&db).await;
    for (asked, mut reader) in readers {
        follow(&server, asked, &mut reader, &there).await;
    }
    server.stop().await;
}
