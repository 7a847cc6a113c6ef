use rand::Rng;
use serde_json::{Value, json};
use tokio::process::Command;

use super::{ALICE, BOB, alice, anybody, database};
use crate::support::{Program, Server};

pub(super) async fn poll(server: &Server, query: &str, token: &str) -> Value {
    let (status, body) = server
        .get(&format!("/realtime/v1/poll?{query}&apikey={token}"))
        .await;
    assert_eq!(status, 200, "{body}");
    serde_json::from_str(&body).expect("JSON")
}

fn ids(answer: &Value) -> Vec<i64> {
    let events = answer["events"].as_array().expect("events").iter();
    events
        .map(|event| event["payload"]["data"]["record"]["id"].as_i64().expect("an id"))
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_poll_gives_what_came_since_the_last_one() {
    let db = database().await;
    let server = Server::start(&db).await;
    let first = poll(&server, "table=todos", &alice()).await;
    let cursor = first["cursor"].as_str().expect("a cursor");
    assert_eq!(ids(&first), Vec::<i64>::new());
    db.execute(&format!(
        "insert into todos values (1, '{ALICE}', ''), (2, '{BOB}', ''), (3, '{ALICE}', '')"
    ))
    .await;
    let second = poll(&server, &format!("table=todos&cursor={cursor}"), &alice()).await;
    assert_eq!(ids(&second), [1, 3]);
    assert!(second["events"][0]["payload"]["cursor"].is_string(), "{second}");
    // The same question has the same answer: nothing is kept about who asked.
    let again = poll(&server, &format!("table=todos&cursor={cursor}"), &alice()).await;
    assert_eq!(ids(&again), [1, 3]);
    let cursor = second["cursor"].as_str().expect("a cursor");
    let (query, token) = (format!("table=todos&cursor={cursor}&wait=20"), alice());
    let waiting = poll(&server, &query, &token);
    let writing = async {
        db.execute(&format!("insert into todos values (4, '{ALICE}', '')"))
            .await;
    };
    let (third, ()) = tokio::join!(waiting, writing);
    assert_eq!(ids(&third), [4]);
    let cursor = third["cursor"].as_str().expect("a cursor");
    let empty = poll(
        &server,
        &format!("table=todos&cursor={cursor}&wait=0.1"),
        &alice(),
    )
    .await;
    assert_eq!(ids(&empty), Vec::<i64>::new());
    let foreign = poll(&server, "table=todos&cursor=1-1", &alice()).await;
    assert!(
        foreign["resync"].is_string() && foreign["events"] == json!([]),
        "{foreign}"
    );
    assert_ne!(foreign["cursor"], "1-1");
    server.stop().await;
}

/// Polls that come and go while rows do: every row once, in order, also where more has come than an answer holds. Only what
/// stands last in an answer may stand first in the next one as well: its table is named by two items of a channel.
#[tokio::test(flavor = "multi_thread")]
async fn polls_skip_nothing_and_repeat_nothing_but_the_last_change() {
    const ROWS: i64 = 6_000;
    let db = database().await;
    let server = Server::start(&db).await;
    let token = anybody();
    // Two subscriptions to one row, and another channel with it.
    let query = "table=lists&table=lists&filter=id=gt.0&select=id&topic=more&table=lists&filter=id=lt.0";
    let first = poll(&server, query, &token).await;
    let mut cursor = first["cursor"].as_str().expect("a cursor").to_owned();
    let connection = db.connection().await;
    let writing = tokio::spawn(async move {
        let mut id = 1;
        while id <= ROWS {
            let last = (id + rand::rng().random_range(0..900)).min(ROWS);
            let sql = format!("insert into lists select n, 0 from generate_series({id}, {last}) n");
            connection.batch_execute(&sql).await.expect("rows");
            id = last + 1;
        }
    });
    let mut seen: Vec<i64> = Vec::new();
    while seen.len() < usize::try_from(2 * ROWS).expect("few") {
        let wait = rand::rng().random_range(0..50);
        let answer = poll(
            &server,
            &format!("{query}&cursor={cursor}&wait=0.0{wait:02}"),
            &token,
        )
        .await;
        assert!(answer.get("resync").is_none(), "{}", answer["resync"]);
        let ids = ids(&answer);
        while ids.first().is_some_and(|first| seen.last() == Some(first)) {
            seen.pop();
        }
        seen.extend(ids);
        answer["cursor"]
            .as_str()
            .expect("a cursor")
            .clone_into(&mut cursor);
    }
    writing.await.expect("no panic");
    let twice: Vec<i64> = (1..=ROWS).flat_map(|id| [id, id]).collect();
    let wrong = seen
        .iter()
        .zip(&twice)
        .position(|(seen, expected)| seen != expected);
    assert_eq!((wrong, seen.len()), (None, twice.len()));
    server.stop().await;
}

/// Items that gather what they get: answers are as short as any others, and each leads on.
#[tokio::test(flavor = "multi_thread")]
async fn polls_are_bounded_at_every_pace() {
    const ROWS: i64 = 1_500;
    let db = database().await;
    let server = Server::start(&db).await;
    let token = anybody();
    let queries = [
        ("table=lists&max_rate=5", 1_000),
        ("table=lists&max_rate=5&table=lists&filter=id=gt.0", 1_001),
        // What is conflated comes in portions.
        (
            "table=lists&conflate=true&max_rate=0.001&table=lists&filter=id=gt.0",
            2_100,
        ),
    ];
    let mut cursors = Vec::new();
    for (query, _) in queries {
        let first = poll(&server, query, &token).await;
        cursors.push(first["cursor"].as_str().expect("a cursor").to_owned());
    }
    db.execute(&format!(
        "insert into lists select n, 0 from generate_series(1, {ROWS}) n"
    ))
    .await;
    for ((query, most), mut cursor) in queries.into_iter().zip(cursors) {
        let mut answers = 0;
        let mut seen = std::collections::BTreeSet::new();
        while seen.len() < usize::try_from(ROWS).expect("few") || answers < 2 {
            let answer = poll(&server, &format!("{query}&cursor={cursor}&wait=1"), &token).await;
            assert!(answer.get("resync").is_none(), "{}", answer["resync"]);
            let ids = ids(&answer);
            assert!(ids.len() <= most, "{}: {query}", ids.len());
            seen.extend(ids);
            let next = answer["cursor"].as_str().expect("a cursor");
            assert_ne!(next, cursor, "no headway: {query}");
            next.clone_into(&mut cursor);
            answers += 1;
        }
    }
    server.stop().await;
}

/// The loop of the documentation.
#[tokio::test(flavor = "multi_thread")]
async fn a_shell_follows_a_table() {
    let db = database().await;
    let server = Server::start(&db).await;
    let script = "
        cursor=
        while answer=$(curl -sf \"$URL/poll?table=todos&apikey=$KEY&cursor=$cursor\"); do
          printf '%s\\n' \"$answer\"
          cursor=${answer#*'\"cursor\":\"'}; cursor=${cursor%%'\"'*}
        done";
    let mut command = Command::new("sh");
    command.args(["-c", script]);
    let mut shell = Program::start("sh", command, &[("URL", &server.url()), ("KEY", &alice())]);
    assert_eq!(ids(&shell.line().await), Vec::<i64>::new());
    for id in 1..5 {
        db.execute(&format!("insert into todos values ({id}, '{ALICE}', '')"))
            .await;
        let answer = shell.line().await;
        assert_eq!(ids(&answer), [id], "{answer}");
    }
    server.stop().await;
    let (status, _) = shell.ended().await;
    assert!(status.success());
}
