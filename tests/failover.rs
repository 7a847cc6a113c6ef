//! Postgres fails over to a standby that has the slot, and nobody misses anything, or is told nothing that is not so.

use std::net::SocketAddr;
use std::time::Duration;

use rowcast::config::Config;
use rowcast::dev::StopMode;
use serde_json::{Value, json};

use crate::events::reader::Reader;
use crate::outages::Writer;
use crate::support::server::ready;
use crate::support::{Client, Database, Pair, Process, Server, Version, eventually, server, token, version};

const ROWS: &str = "create table n (id int primary key); alter publication supabase_realtime add table n;
                    create table other (id int); grant select on n to service_role";

const SUBSCRIBED: &str = "Subscribed to PostgreSQL";
const RESUMED: &str = "resumed: nothing was missed";
/// Of broadcasts, which no failover brings back.
const REPLACED: &str = "resync: the server was replaced, and what clients said meanwhile is not known";
const UNDONE: &str = "resync: the database failed over, and the last of what was seen may be gone";
const GONE: &str = "Row changes may have been missed, load the rows again: the database failed over, \
                    and transactions that were shown are gone with the server before";

fn service() -> String {
    token::token("service_role", json!({}))
}

fn settings(config: &mut Config) {
    config.resume.acknowledge = Duration::from_millis(10);
}

/// A pair whose primary has the table and the slot, and a server that follows it.
async fn pair() -> (Pair, Database, Server) {
    let mut pair = Pair::start().await;
    let db = pair.database().await;
    db.execute(ROWS).await;
    let server = Server::start_with(&db, settings).await;
    ready(server.address).await;
    pair.attach().await;
    ready(server.address).await;
    let db = pair.database().await;
    (pair, db, server)
}

async fn insert(db: &Database, from: i64, to: i64) {
    db.execute(&format!("insert into n select generate_series({from}, {to})"))
        .await;
}

/// Joins `n` for inserts, with further configuration and perhaps a session id.
async fn join(server: SocketAddr, session: Option<&str>, more: Value) -> Client {
    let session = session.map(|id| format!("&session={id}")).unwrap_or_default();
    let (url, token) = (format!("http://{server}"), format!("{}{session}", service()));
    let client = Client::try_connect_to(&url, Version::V2, &token).await;
    let mut client = client.expect("a connection");
    let mut config = json!({"postgres_changes": [{"event": "INSERT", "schema": "public", "table": "n"}]});
    for (key, value) in more.as_object().expect("an object") {
        config[key] = value.clone();
    }
    let reply = client.join("n", config).await;
    assert_eq!(reply["status"], "ok", "{reply}");
    client
        .expect("live", |m| m.payload["message"] == SUBSCRIBED)
        .await;
    client
}

/// The numbers of the next rows, and the cursor of the last.
async fn rows(client: &mut Client, count: usize) -> (Vec<i64>, Value) {
    let (mut numbers, mut cursor) = (Vec::new(), Value::Null);
    for _ in 0..count {
        let change = client.change().await;
        assert_eq!(change["data"]["errors"], Value::Null, "{change}");
        numbers.push(change["data"]["record"]["id"].as_i64().expect("a number"));
        cursor = change["cursor"].clone();
    }
    (numbers, cursor)
}

/// What it was told of its rows, beside them.
fn told(client: &Client) -> Vec<String> {
    let said = client.pending().iter().filter(|m| m.event == "system");
    let texts = said.filter_map(|m| m.payload["message"].as_str().map(str::to_owned));
    texts
        .filter(|text| text != "live" && !text.starts_with("Row changes are"))
        .collect()
}

/// The server has written down what the client has.
async fn acknowledged(client: &mut Client, server: SocketAddr) {
    let known = || server::metric(server, "rowcast_places_acknowledged_total");
    let before = known().await.unwrap_or(0);
    while known().await.unwrap_or(0) <= before + 1 {
        client.round_trip().await;
    }
}

const TABLE: &str = "table=n&event=INSERT";

async fn stream(server: SocketAddr, reader: &mut Reader) {
    let url = format!("http://{server}");
    assert_eq!(reader.open_at(&url, TABLE, &service(), usize::MAX).await, 200);
}

/// The numbers of the next rows of a stream. Nothing else is said on the way.
async fn streamed(reader: &mut Reader, count: usize) -> Vec<i64> {
    let mut numbers = Vec::new();
    while numbers.len() < count {
        let event = reader.next().await.expect("an event");
        assert!(!event.says().starts_with("resync"), "{event:?}");
        assert!(!event.says().contains("may have been missed"), "{event:?}");
        numbers.extend(event.inserted("n"));
    }
    numbers
}

async fn poll(server: SocketAddr, cursor: &Value) -> Value {
    let cursor = cursor.as_str().unwrap_or_default();
    let path = format!("/poll?{TABLE}&cursor={cursor}&wait=20&apikey={}", service());
    let (status, body) = server::get(server, &path).await;
    assert_eq!(status, 200, "{body}");
    serde_json::from_str(&body).expect("JSON")
}

/// The numbers of the next rows by polls, each of which may bring some of them, and the cursor behind them.
async fn polled_until(server: SocketAddr, cursor: &Value, count: usize) -> (Vec<i64>, Value) {
    let (mut numbers, mut cursor) = (Vec::new(), cursor.clone());
    while numbers.len() < count {
        let answer = poll(server, &cursor).await;
        assert_eq!(answer.get("resync"), None, "{answer}");
        let events = answer["events"].as_array().expect("events").iter();
        numbers.extend(events.filter_map(|event| event["payload"]["data"]["record"]["id"].as_i64()));
        cursor = answer["cursor"].clone();
    }
    (numbers, cursor)
}

/// Those who go away before the failover, each with all rows up to 5.
struct Away {
    session: Option<&'static str>,
    since: Value,
    reader: Reader,
    polled: Value,
}

async fn leave(server: SocketAddr, db: &Database) -> Away {
    let mut with_session = join(server, Some("s1"), json!({})).await;
    let mut with_cursor = join(server, None, json!({"since": ""})).await;
    let mut reader = Reader::default();
    stream(server, &mut reader).await;
    reader.told(SUBSCRIBED).await;
    let first = poll(server, &Value::Null).await;
    insert(db, 1, 5).await;
    assert_eq!(rows(&mut with_session, 5).await.0, [1, 2, 3, 4, 5]);
    let (_, since) = rows(&mut with_cursor, 5).await;
    assert_eq!(streamed(&mut reader, 5).await, [1, 2, 3, 4, 5]);
    let (numbers, polled) = polled_until(server, &first["cursor"], 5).await;
    assert_eq!(numbers, [1, 2, 3, 4, 5]);
    acknowledged(&mut with_session, server).await;
    Away {
        session: Some("s1"),
        since,
        reader: Reader::at(&reader.last_id),
        polled,
    }
}

/// They come back, and get exactly this.
async fn come_back(away: Away, server: SocketAddr, missed: &[i64]) {
    let Away {
        session,
        since,
        mut reader,
        polled: at,
    } = away;
    let with_session = session.map(|_| (session, json!({})));
    for (session, more) in with_session.into_iter().chain([(None, json!({"since": since}))]) {
        let mut client = join(server, session, more).await;
        let outcomes = told(&client);
        let rows_outcomes: Vec<_> = outcomes.iter().filter(|text| *text != REPLACED).collect();
        assert_eq!(rows_outcomes, [RESUMED], "{outcomes:?}");
        assert_eq!(rows(&mut client, missed.len()).await.0, missed);
    }
    stream(server, &mut reader).await;
    assert_eq!(streamed(&mut reader, missed.len()).await, missed);
    assert_eq!(polled_until(server, &at, missed.len()).await.0, missed);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failover_is_missed_by_nobody() {
    let (pair, db, server) = pair().await;
    let mut stays = join(server.address, None, json!({})).await;
    let mut reader = Reader::default();
    stream(server.address, &mut reader).await;
    reader.told(SUBSCRIBED).await;
    let away = leave(server.address, &db).await;
    insert(&db, 6, 9).await;
    pair.caught_up().await;
    pair.fail_over().await;
    ready(server.address).await;
    let db = pair.database().await;
    insert(&db, 10, 12).await;
    let all: Vec<i64> = (1..=12).collect();
    assert_eq!(rows(&mut stays, 12).await.0, all);
    assert_eq!(streamed(&mut reader, 12).await, all);
    come_back(away, server.address, &[6, 7, 8, 9, 10, 11, 12]).await;
    server.passed(&db).await;
    stays.round_trip().await;
    assert_eq!(told(&stays), Vec::<String>::new());
    assert!(
        stays.pending().iter().all(|m| m.event != "postgres_changes"),
        "nothing twice"
    );
    // The slot of the promoted standby is confirmed from here on.
    let moved = "select (confirmed_flush_lsn > '0/0' and active)::text from pg_replication_slots";
    assert_eq!(db.text(moved).await, "true");
    server.stop().await;
}

/// `rowcast serve` on what the address leads to.
async fn process(pair: &Pair) -> Process {
    let acknowledge = [("ROWCAST_RESUME_ACKNOWLEDGE", "10ms")];
    let server = Process::serve(&pair.settings(), "rowcast_own", &acknowledge).await;
    ready(server.address).await;
    server
}

async fn stop(server: Process) {
    server.terminate();
    let (status, log) = server.ended().await;
    assert!(status.success(), "{log:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failover_with_a_deploy_behind_it_is_missed_by_nobody() {
    let (pair, db, server) = pair().await;
    server.stop().await;
    let old = process(&pair).await;
    let away = leave(old.address, &db).await;
    insert(&db, 6, 9).await;
    pair.caught_up().await;
    pair.fail_over().await;
    ready(old.address).await;
    let db = pair.database().await;
    insert(&db, 10, 12).await;
    stop(old).await;
    let new = process(&pair).await;
    come_back(away, new.address, &[6, 7, 8, 9, 10, 11, 12]).await;
    new.kill().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failover_between_two_servers_is_missed_by_nobody_who_knows_its_place() {
    let (pair, db, server) = pair().await;
    server.stop().await;
    let old = process(&pair).await;
    let mut away = leave(old.address, &db).await;
    insert(&db, 6, 9).await;
    stop(old).await;
    pair.caught_up().await;
    pair.fail_over().await;
    let db = pair.database().await;
    insert(&db, 10, 12).await;
    let new = process(&pair).await;
    // Where it was, was written down in a table that standbys do not get.
    let client = join(new.address, Some("s1"), json!({})).await;
    let unknown = "resync: this server does not know the session: it is new, or was away for too long";
    assert_eq!(told(&client), [unknown]);
    away.session = None;
    come_back(away, new.address, &[6, 7, 8, 9, 10, 11, 12]).await;
    new.kill().await;
}

/// The standby lacks the last transaction. Whoever was shown it is told, and nobody else.
#[tokio::test(flavor = "multi_thread")]
async fn who_saw_what_is_gone_is_told_so() {
    let (pair, db, server) = pair().await;
    let away = leave(server.address, &db).await;
    let mut stays = join(server.address, None, json!({"since": ""})).await;
    insert(&db, 6, 6).await;
    let (since, ahead) = see_what_will_be_gone(&pair, &db, server.address, &away).await;
    assert_eq!(rows(&mut stays, 3).await.0, [6, 7, 8]);
    pair.crash().await;
    promote(&pair).await;
    stays
        .expect("a word of it", |m| m.payload["message"] == GONE)
        .await;
    ready(server.address).await;
    let db = pair.database().await;
    // Other rows of the same numbers.
    insert(&db, 7, 9).await;
    assert_eq!(
        rows(&mut stays, 3).await.0,
        [7, 8, 9],
        "and gets what is new, once"
    );
    are_told(server.address, &db, since, ahead).await;
    come_back(away, server.address, &[6, 7, 8, 9, 10]).await;
    server.stop().await;
}

/// The same by a server that was not there.
#[tokio::test(flavor = "multi_thread")]
async fn who_saw_what_is_gone_is_told_so_by_a_new_server() {
    let (pair, db, server) = pair().await;
    let away = leave(server.address, &db).await;
    insert(&db, 6, 6).await;
    let (since, ahead) = see_what_will_be_gone(&pair, &db, server.address, &away).await;
    pair.crash().await;
    server.stop().await;
    promote(&pair).await;
    let db = pair.database().await;
    let server = Server::start_with(&db, settings).await;
    ready(server.address).await;
    insert(&db, 7, 9).await;
    are_told(server.address, &db, since, ahead).await;
    let mut client = join(server.address, None, json!({"since": away.since})).await;
    assert_eq!(told(&client), [RESUMED]);
    assert_eq!(rows(&mut client, 5).await.0, [6, 7, 8, 9, 10]);
    server.stop().await;
}

/// Cursors of a join and of a poll behind rows 7 and 8, which the standby does not get.
async fn see_what_will_be_gone(
    pair: &Pair,
    db: &Database,
    server: SocketAddr,
    away: &Away,
) -> (Value, Value) {
    let mut sees = join(server, None, json!({"since": ""})).await;
    pair.caught_up().await;
    pair.standby().stop(StopMode::Fast).await;
    insert(db, 7, 8).await;
    let (_, since) = rows(&mut sees, 2).await;
    let (numbers, ahead) = polled_until(server, &away.polled, 3).await;
    assert_eq!(numbers, [6, 7, 8]);
    (since, ahead)
}

/// The standby, which was stopped, becomes the primary.
async fn promote(pair: &Pair) {
    pair.standby().start_again().await;
    pair.promote().await;
    pair.lead_to_standby();
}

async fn are_told(server: SocketAddr, db: &Database, since: Value, ahead: Value) {
    let mut back = join(server, None, json!({"since": since})).await;
    assert_eq!(told(&back), [UNDONE]);
    let answer = poll(server, &ahead).await;
    assert_eq!(answer["resync"], UNDONE["resync: ".len()..], "{answer}");
    insert(db, 10, 10).await;
    assert_eq!(rows(&mut back, 1).await.0, [10]);
}

/// What the standby lacks was nothing that anybody could see: nobody is told anything, wherever it says that it was.
#[tokio::test(flavor = "multi_thread")]
async fn wal_that_is_gone_and_showed_nothing_does_not_matter() {
    let (pair, db, server) = pair().await;
    let mut stays = join(server.address, None, json!({})).await;
    let away = leave(server.address, &db).await;
    pair.caught_up().await;
    pair.standby().stop(StopMode::Fast).await;
    db.execute("insert into other select generate_series(1, 100)")
        .await;
    server.passed(&db).await;
    let ahead = poll(server.address, &Value::Null).await;
    pair.crash().await;
    promote(&pair).await;
    ready(server.address).await;
    let db = pair.database().await;
    insert(&db, 6, 7).await;
    assert_eq!(rows(&mut stays, 7).await.0, [1, 2, 3, 4, 5, 6, 7]);
    assert_eq!(told(&stays), Vec::<String>::new());
    assert_eq!(polled_until(server.address, &ahead["cursor"], 2).await.0, [6, 7]);
    come_back(away, server.address, &[6, 7]).await;
    server.stop().await;
}

/// The address leads to the standby before that is promoted: it is waited for, and nothing is made there.
#[tokio::test(flavor = "multi_thread")]
async fn a_standby_is_waited_for() {
    let (pair, db, server) = pair().await;
    let mut stays = join(server.address, None, json!({})).await;
    insert(&db, 1, 1).await;
    assert_eq!(rows(&mut stays, 1).await.0, [1]);
    pair.caught_up().await;
    pair.crash().await;
    pair.lead_to_standby();
    eventually("/readyz says why", || async {
        let (status, body) = server::get(server.address, "/readyz").await;
        (status == 503 && body.contains("is a standby (in recovery)")).then_some(())
    })
    .await;
    // One that has not known the primary waits as well.
    let fresh = Server::launch(&pair.database().await, settings).await;
    eventually("the other says so, too", || async {
        let (status, body) = server::get(fresh.address, "/readyz").await;
        (status == 503 && body.contains("is read-only; connect to the primary")).then_some(())
    })
    .await;
    // Of two that come back at once, either could have the slot.
    fresh.stop().await;
    pair.promote().await;
    ready(server.address).await;
    let db = pair.database().await;
    insert(&db, 2, 2).await;
    assert_eq!(rows(&mut stays, 1).await.0, [2]);
    assert_eq!(told(&stays), Vec::<String>::new());
    server.stop().await;
}

/// With slots that Postgres itself copies, and rows all the time.
#[tokio::test(flavor = "multi_thread")]
async fn slots_that_postgres_synchronises_go_on_under_load() {
    let mut pair = Pair::start_with(|options| options.installation = Some(version::installation(17))).await;
    let db = pair.database().await;
    db.execute(ROWS).await;
    let server = Server::start_with(&db, |config| {
        settings(config);
        config.replication.plugin = rowcast::config::Plugin::Pgoutput;
        config.replication.failover_slot = true;
        config.resume.window = Duration::from_secs(3);
    })
    .await;
    ready(server.address).await;
    pair.attach_synchronized("rowcast_own").await;
    ready(server.address).await;
    let mut stays = join(server.address, None, json!({"since": ""})).await;
    let writer = Writer::start(&pair.settings(), 0);
    let (mut got, _) = rows(&mut stays, 100).await;
    pair.fail_over().await;
    ready(server.address).await;
    got.extend(rows(&mut stays, 100).await.0);
    writer.stop().await;
    // A commit that the standby did not have yet when the primary died is gone, and nobody was shown it.
    let kept = "select string_agg(id::text, ' ' order by id) from n";
    let kept = pair.database().await.text(kept).await;
    let kept: Vec<i64> = kept.split(' ').map(|id| id.parse().expect("a number")).collect();
    got.extend(rows(&mut stays, kept.len() - got.len()).await.0);
    assert_eq!(got, kept, "each once, in order");
    assert_eq!(told(&stays), Vec::<String>::new());
    let slot = "select (failover and active)::text from pg_replication_slots where slot_name = 'rowcast_own'";
    assert_eq!(pair.database().await.text(slot).await, "true");
    server.stop().await;
}
