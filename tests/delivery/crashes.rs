//! Clients with a session id, and a server that is killed without a word: what is known of them is in the database by then.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::{Value, json};

use super::service;
use crate::support::{
    Client, Database, LIMIT, Process, Program, Proxy, Server, Version, eventually, server, token,
};

const ROWS: &str = "create table n (id int primary key); alter publication supabase_realtime add table n";

const OFTEN: [(&str, &str); 2] = [
    ("ROWCAST_RESUME_ACKNOWLEDGE", "20ms"),
    ("ROWCAST_RESUME_SAVE_EVERY", "50ms"),
];

const RESUMED: &str = "resumed: nothing was missed";
const NOT_SAID_AGAIN: &str = "resync: the server was replaced, and what clients said meanwhile is not known";

fn inserts() -> Value {
    json!([{"event": "INSERT", "schema": "public", "table": "n"}])
}

async fn serve(db: &Database) -> Process {
    Process::serve(&db.settings, &format!("rowcast_{}", db.name), &OFTEN).await
}

async fn connect(process: &Process, version: Version, session: &str) -> Client {
    let url = format!("http://{}", process.address);
    let token = format!("{}&session={session}", service());
    let client = Client::try_connect_to(&url, version, &token).await;
    client.expect("a connection")
}

async fn join(client: &mut Client) {
    client.enter("n", json!({"postgres_changes": inserts()})).await;
    live(client).await;
}

async fn live(client: &mut Client) {
    client
        .expect("live", |m| m.payload["message"] == "Subscribed to PostgreSQL")
        .await;
}

/// What was said of the past, since this was asked last.
fn outcomes(client: &mut Client) -> Vec<String> {
    let told = client.take("system").into_iter();
    told.filter(|m| m.payload["extension"] == "resume")
        .map(|m| m.payload["message"].as_str().expect("a text").to_owned())
        .collect()
}

/// The numbers of the rows up to this one, each with whether it carried its cursor.
async fn rows(client: &mut Client, last: i64) -> Vec<(i64, bool)> {
    let mut rows = Vec::new();
    while rows.last().is_none_or(|(id, _)| *id != last) {
        let change = client.change().await;
        let id = change["data"]["record"]["id"].as_i64().expect("a number");
        rows.push((id, change["cursor"].is_string()));
    }
    rows
}

/// How many clients there are of which the database knows how far they are with their rows.
async fn known(db: &Database) -> String {
    let rows = "exists (select from json_each(place) topic, json_each(topic.value) users where users.value ->> 1 is not null)";
    db.text(&format!("select count(*)::text from rowcast.places where {rows}"))
        .await
}

/// Waits until all of these are known.
async fn saved(db: &Database, clients: &mut [&mut Client]) {
    let saved = async {
        while known(db).await != clients.len().to_string() {
            for client in &mut *clients {
                // Reading is what answers pings.
                client.round_trip().await;
            }
        }
    };
    tokio::time::timeout(LIMIT, saved)
        .await
        .expect("their places are in the database");
}

async fn insert(db: &Database, from: i64, to: i64) {
    db.execute(&format!("insert into n select generate_series({from}, {to})"))
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_with_a_session_miss_no_row_when_the_server_is_killed() {
    let db = Database::new().await;
    db.execute(ROWS).await;
    let mut running = serve(&db).await;
    let mut clients = Vec::new();
    for (version, session) in [(Version::V1, "one"), (Version::V2, "two")] {
        let mut client = connect(&running, version, session).await;
        join(&mut client).await;
        clients.push((client, version, session));
    }
    let mut all: Vec<&mut Client> = clients.iter_mut().map(|(client, ..)| client).collect();
    saved(&db, &mut all).await;
    let mut last = 0;
    for _ in 0..3 {
        let (begin, read) = (last, last + 500);
        last = read + 500;
        insert(&db, begin + 1, read).await;
        let mut got = Vec::new();
        for (client, ..) in &mut clients {
            outcomes(client);
            got.push(rows(client, read).await);
        }
        // Some of these may arrive, and some be lost with the server.
        insert(&db, read + 1, read + 400).await;
        running.kill().await;
        insert(&db, read + 401, last).await;
        running = serve(&db).await;
        for ((client, version, session), got) in clients.iter_mut().zip(got) {
            client.close_code().await;
            let arrived = client.rows_before_now();
            let arrived = arrived
                .iter()
                .map(|data| data["record"]["id"].as_i64().expect("a number"));
            let before: BTreeSet<i64> = got.iter().map(|(id, _)| *id).chain(arrived).collect();
            *client = connect(&running, *version, session).await;
            join(client).await;
            let after = rows(client, last).await;
            let all: BTreeSet<i64> = before
                .iter()
                .copied()
                .chain(after.iter().map(|(id, _)| *id))
                .collect();
            assert!(all.range(begin + 1..).copied().eq(begin + 1..=last), "{after:?}");
            let silent = after.iter().filter(|(id, cursor)| before.contains(id) && !cursor);
            assert_eq!(silent.count(), 0, "{after:?}");
            assert!(after.windows(2).all(|pair| pair[0].0 < pair[1].0), "{after:?}");
            assert_eq!(outcomes(client), [NOT_SAID_AGAIN, RESUMED]);
        }
    }
    running.kill().await;
}

async fn supabase_js(vsn: &str) {
    let db = Database::new().await;
    db.execute(ROWS).await;
    let first = serve(&db).await;
    let proxy = Proxy::start(first.address).await;
    let (url, key, user) = (
        format!("http://{}", proxy.address),
        token::token("anon", json!({})),
        service(),
    );
    let variables = [
        ("ROWCAST_URL", url.as_str()),
        ("ROWCAST_KEY", &key),
        ("ROWCAST_TOKEN", &user),
        ("VSN", vsn),
        ("SESSION", "0c7d5f3e-3b0a-4c58-9d4b-3f1f6f1f2b11"),
        (
            "BINDINGS",
            r#"[{"event":"INSERT","schema":"public","table":"n"}]"#,
        ),
    ];
    let mut client = Program::node("supabase.mjs", &variables);
    client.expect("subscribed", |_| true).await;
    eventually("its place is in the database", || async {
        (known(&db).await == "1").then_some(())
    })
    .await;
    insert(&db, 1, 20).await;
    let is = |id: i64| move |change: &Value| change["new"]["id"] == json!(id);
    for id in 1..=20 {
        client.expect("change", is(id)).await;
    }
    first.kill().await;
    insert(&db, 21, 40).await;
    let second = serve(&db).await;
    proxy.lead_to(second.address);
    client
        .expect("system", |system| {
            system["extension"] == "resume" && system["message"] == RESUMED
        })
        .await;
    insert(&db, 41, 41).await;
    for id in 21..=41 {
        client.expect("change", is(id)).await;
    }
    second.kill().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn supabase_js_misses_no_row_when_the_server_is_killed() {
    tokio::join!(supabase_js("1.0.0"), supabase_js("2.0.0"));
}

/// What arrived after the last time that places were written comes again, and says so.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_behind_the_written_place_comes_again_with_its_cursor() {
    let db = Database::new().await;
    db.execute(ROWS).await;
    let first = serve(&db).await;
    let mut client = connect(&first, Version::V1, "one").await;
    join(&mut client).await;
    saved(&db, &mut [&mut client]).await;
    // From now on places can be read, and not written.
    let blocker = db.connection().await;
    blocker
        .batch_execute("begin; lock table rowcast.places in exclusive mode")
        .await
        .expect("a lock");
    let say = |number: i64| {
        format!(
            "select realtime.send('{{\"number\": {number}}}', 'said', 'n', false); insert into n values ({number})"
        )
    };
    for number in [1, 2] {
        db.execute(&say(number)).await;
        assert_eq!(rows(&mut client, number).await, [(number, false)]);
        client.heard("n").await;
    }
    first.kill().await;
    // What it had asked for is not done after its death.
    let ended = "select count(pg_terminate_backend(pid))::text from pg_stat_activity
                 where application_name = 'rowcast_places' and datname = current_database()";
    eventually("its connections are gone", || async {
        (db.text(ended).await == "0").then_some(())
    })
    .await;
    blocker.batch_execute("rollback").await.expect("no lock");
    let second = serve(&db).await;
    let mut client = connect(&second, Version::V1, "one").await;
    join(&mut client).await;
    db.execute(&say(3)).await;
    assert_eq!(rows(&mut client, 3).await, [(1, true), (2, true), (3, false)]);
    for number in 1..=3 {
        let said = client.heard("n").await.payload;
        assert_eq!(said["payload"]["number"], json!(number));
        assert_eq!(said["meta"]["cursor"].is_string(), number < 3, "{said}");
    }
    second.kill().await;
}

/// A channel that began a moment before the crash cannot be told from a new one.
#[tokio::test(flavor = "multi_thread")]
async fn a_channel_that_was_not_written_down_is_told_so() {
    let db = Database::new().await;
    db.execute(ROWS).await;
    let first = often(&db).await;
    let mut client = Client::connect(&first, Version::V2, &format!("{}&session=one", service())).await;
    join(&mut client).await;
    client.enter("room", json!({})).await;
    saved(&db, &mut [&mut client]).await;
    drop(client);
    first.stop().await;
    db.execute("update rowcast.places set place = place::jsonb - 'realtime:n'")
        .await;
    let second = often(&db).await;
    let mut client = Client::connect(&second, Version::V2, &format!("{}&session=one", service())).await;
    join(&mut client).await;
    let told = outcomes(&mut client);
    assert!(
        told.len() == 1 && told[0].starts_with("resync: the server was replaced, and this channel"),
        "{told:?}"
    );
    client.enter("room", json!({})).await;
    client.round_trip().await;
    assert_eq!(outcomes(&mut client), [NOT_SAID_AGAIN]);
    second.stop().await;
}

async fn often(db: &Database) -> Server {
    Server::start_with(db, |config| {
        config.resume.acknowledge = Duration::from_millis(10);
        config.resume.save_every = Duration::from_millis(10);
        config.resume.window = Duration::from_secs(600);
    })
    .await
}

async fn count(server: &Server, name: &str) -> u64 {
    server::metric(server.address, name).await.expect("a metric")
}

/// Has a client say many times how far it is, until none of it is worth writing.
async fn settled(server: &Server, client: &mut Client) {
    loop {
        let written = count(server, "rowcast_places_saved_total").await;
        let told = count(server, "rowcast_places_acknowledged_total").await;
        while count(server, "rowcast_places_acknowledged_total").await < told + 25 {
            client.round_trip().await;
        }
        if count(server, "rowcast_places_saved_total").await == written {
            return;
        }
    }
}

/// Which version of the row it is that says where a client is.
async fn version(db: &Database, session: &str) -> String {
    let query = format!("select xmin::text from rowcast.places where id = '{session}'");
    db.text(&query).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_is_sent_nothing_costs_no_writing() {
    let db = Database::new().await;
    db.execute(ROWS).await;
    db.execute(
        "create table quiet (id int primary key); alter publication supabase_realtime add table quiet",
    )
    .await;
    let server = often(&db).await;
    let session = |id: &str| format!("{}&session={id}", service());
    let mut idle = Client::connect(&server, Version::V2, &session("idle")).await;
    let quiet = json!([{"event": "*", "schema": "public", "table": "quiet"}]);
    idle.enter("n", json!({"postgres_changes": quiet})).await;
    live(&mut idle).await;
    let mut busy = Client::connect(&server, Version::V2, &session("busy")).await;
    busy.enter("m", json!({"postgres_changes": inserts()})).await;
    live(&mut busy).await;
    settled(&server, &mut busy).await;
    settled(&server, &mut idle).await;
    let before = version(&db, "idle").await;
    for id in 1..=5 {
        let last = version(&db, "busy").await;
        insert(&db, id, id).await;
        rows(&mut busy, id).await;
        let written = async {
            while version(&db, "busy").await == last {
                busy.round_trip().await;
                idle.round_trip().await;
            }
        };
        tokio::time::timeout(LIMIT, written).await.expect("it is written");
    }
    settled(&server, &mut busy).await;
    settled(&server, &mut idle).await;
    assert_eq!(
        version(&db, "idle").await,
        before,
        "positions move on by themselves"
    );
    server.stop().await;
}

/// Where a client has gone on to another server, what that one writes counts, whatever is left to write here.
#[tokio::test(flavor = "multi_thread")]
async fn what_another_server_wrote_of_who_has_left_is_not_written_over() {
    let db = Database::new().await;
    db.execute(ROWS).await;
    let server = often(&db).await;
    let mut clients = Vec::new();
    for session in ["left", "here"] {
        let mut client =
            Client::connect(&server, Version::V2, &format!("{}&session={session}", service())).await;
        join(&mut client).await;
        clients.push(client);
    }
    let [left, here] = &mut clients[..] else {
        panic!("two")
    };
    saved(&db, &mut [&mut *left, &mut *here]).await;
    // What they have said since is left for the end.
    settled(&server, left).await;
    settled(&server, here).await;
    clients.remove(0);
    eventually("it has left", || async {
        (count(&server, "rowcast_connections").await == 1).then_some(())
    })
    .await;
    let elsewhere = "update rowcast.places set place = '{\"elsewhere\": {}}', version = pg_current_xact_id()::text::bigint";
    db.execute(elsewhere).await;
    server.stop().await;
    let place = async |session: &str| {
        let query = format!("select place::text from rowcast.places where id = '{session}'");
        db.text(&query).await
    };
    assert!(place("left").await.contains("elsewhere"));
    assert!(
        !place("here").await.contains("elsewhere"),
        "who is here is nowhere else"
    );
}

/// A statement that was held up must not undo what came after it.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_written_over_what_is_newer() {
    let db = Database::new().await;
    db.execute(ROWS).await;
    let server = often(&db).await;
    let mut client = Client::connect(&server, Version::V2, &format!("{}&session=one", service())).await;
    join(&mut client).await;
    saved(&db, &mut [&mut client]).await;
    db.execute("update rowcast.places set place = '{\"newer\": {}}', version = 9223372036854775807")
        .await;
    let failing = async {
        let mut last = 0;
        while count(&server, "rowcast_places_save_failures_total").await < 2 {
            last += 1;
            insert(&db, last, last).await;
            rows(&mut client, last).await;
        }
    };
    tokio::time::timeout(LIMIT, failing).await.expect("it is noticed");
    assert!(
        db.text("select place::text from rowcast.places")
            .await
            .contains("newer")
    );
    // What came out of a backup has the versions of another cluster.
    db.execute("update rowcast.places set saved = now() - interval '1 day'")
        .await;
    let written = async {
        while db
            .text("select place::text from rowcast.places")
            .await
            .contains("newer")
        {
            client.round_trip().await;
        }
    };
    tokio::time::timeout(LIMIT, written)
        .await
        .expect("it is written over");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_cannot_be_written_harms_nobody_and_is_said_once() {
    let db = Database::new().await;
    db.execute(ROWS).await;
    let server = serve(&db).await;
    let mut client = connect(&server, Version::V2, "one").await;
    join(&mut client).await;
    saved(&db, &mut [&mut client]).await;
    db.execute("alter table rowcast.places rename to elsewhere").await;
    let failures = || async {
        let failures = server::metric(server.address, "rowcast_places_save_failures_total").await;
        failures.expect("a metric")
    };
    let mut last = 0;
    let failing = async {
        while failures().await < 3 {
            last += 1;
            insert(&db, last, last).await;
            rows(&mut client, last).await;
        }
    };
    tokio::time::timeout(LIMIT, failing).await.expect("it fails");
    let mut another = connect(&server, Version::V2, "two").await;
    join(&mut another).await;
    db.execute("alter table rowcast.elsewhere rename to places").await;
    insert(&db, last + 1, last + 1).await;
    for client in [&mut client, &mut another] {
        rows(client, last + 1).await;
    }
    saved(&db, &mut [&mut client, &mut another]).await;
    let log = server.log();
    let said = |text: &str| log.iter().filter(|line| line.contains(text)).count();
    assert_eq!(said("places of clients could not be written"), 1, "{log:#?}");
    eventually("it is said that it works again", || async {
        let log = server.log();
        log.iter()
            .any(|line| line.contains("are written again"))
            .then_some(())
    })
    .await;
    server.kill().await;
}
