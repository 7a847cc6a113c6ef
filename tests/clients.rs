//! Unmodified client libraries: each scenario runs with every library and wire version at once, against one server.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::support::{Database, Program, Server, token};

const ALICE: &str = "a11ce000-0000-4000-8000-000000000001";
const BOB: &str = "b0b00000-0000-4000-8000-000000000002";

const NOTES: &str = "
    create table notes (id int primary key, owner uuid, title text, size int);
    alter table notes replica identity full;
    grant select on notes to anon, authenticated;
    alter publication supabase_realtime add table notes;
";
const OWN: &str = "
    alter table notes enable row level security;
    create policy own on notes for select using (owner = auth.uid());
";

/// A library with what it has a choice of.
#[derive(Clone, Copy, Debug)]
enum Library {
    /// supabase-js with this `vsn`.
    Js(&'static str),
    /// realtime-py on this path.
    Python(&'static str),
}

const LIBRARIES: [Library; 4] = [
    Library::Js("1.0.0"),
    Library::Js("2.0.0"),
    Library::Python("/realtime/v1"),
    Library::Python("/socket"),
];

impl Library {
    /// Starts its program, which joins with these bindings as the user of `token`.
    fn start(self, server: &Server, token: &str, bindings: &Value) -> Program {
        let key = token::token("anon", json!({}));
        let (url, bindings) = (server.url(), bindings.to_string());
        let mut variables = vec![
            ("ROWCAST_URL", url.as_str()),
            ("ROWCAST_KEY", &key),
            ("ROWCAST_TOKEN", token),
            ("BINDINGS", &bindings),
        ];
        match self {
            Self::Js(vsn) => {
                variables.push(("VSN", vsn));
                Program::node("supabase.mjs", &variables)
            }
            Self::Python(path) => {
                variables.push(("SOCKET_PATH", path));
                Program::python("realtime_py.py", &variables)
            }
        }
    }

    /// Programs of all libraries, each with its rows live.
    async fn all(server: &Server, token: &str, bindings: Value) -> Vec<(Self, Program)> {
        let mut programs: Vec<_> = LIBRARIES
            .iter()
            .map(|library| (*library, library.start(server, token, &bindings)))
            .collect();
        for (_, program) in &mut programs {
            program
                .expect("status", |line| line["status"] == "SUBSCRIBED")
                .await;
            subscribed(program).await;
        }
        programs
    }
}

async fn subscribed(program: &mut Program) {
    let system = program.next("system").await;
    assert_eq!(
        (&system["extension"], &system["status"], &system["message"]),
        (
            &json!("postgres_changes"),
            &json!("ok"),
            &json!("Subscribed to PostgreSQL")
        ),
        "{system}"
    );
    program.next("subscribed").await;
}

fn all_of_notes() -> Value {
    json!([{"event": "*", "schema": "public", "table": "notes"}])
}

/// The ids in the changes that a program told and nobody looked for.
fn ids(lines: &[Value]) -> Vec<i64> {
    lines
        .iter()
        .filter(|line| line["kind"] == "change")
        .map(|line| line["new"]["id"].as_i64().expect("an id"))
        .collect()
}

/// Waits for the change with this new id.
async fn row(program: &mut Program, id: i64) -> Value {
    program.expect("change", |line| line["new"]["id"] == id).await
}

fn insert(id: i64, owner: &str) -> String {
    format!("insert into notes (id, owner) values ({id}, '{owner}')")
}

#[tokio::test(flavor = "multi_thread")]
async fn every_binding_gets_its_rows() {
    let db = Database::new().await;
    db.execute(NOTES).await;
    let server = Server::start(&db).await;
    let bindings = json!([
        {"event": "*", "schema": "public", "table": "notes"},
        {"event": "INSERT", "schema": "public", "table": "notes", "filter": "title=eq.b"},
        {"event": "UPDATE", "schema": "public", "table": "notes", "filter": "size=gt.10"},
        {"event": "DELETE", "schema": "public", "table": "notes", "filter": "id=in.(2,9)"},
        {"event": "*", "schema": "public"},
        {"event": "INSERT", "schema": "*"},
        {"event": "*", "schema": "public", "table": "notes", "select": ["title"]},
    ]);
    let programs = Library::all(&server, &token::user(ALICE), bindings).await;
    db.execute("insert into notes values (1, null, 'a', 1), (2, null, 'b', 2)")
        .await;
    db.execute("update notes set size = size + 9 where true").await;
    db.execute("delete from notes").await;
    db.execute("insert into notes values (99)").await;
    // The events of each binding, with the ids of their rows.
    let expected = BTreeMap::from([
        (
            0,
            "INSERT 1 INSERT 2 UPDATE 1 UPDATE 2 DELETE 1 DELETE 2 INSERT 99",
        ),
        (1, "INSERT 2"),
        (2, "UPDATE 2"),
        (3, "DELETE 2"),
        (
            4,
            "INSERT 1 INSERT 2 UPDATE 1 UPDATE 2 DELETE 1 DELETE 2 INSERT 99",
        ),
        (5, "INSERT 1 INSERT 2 INSERT 99"),
        (
            6,
            "INSERT 1 INSERT 2 UPDATE 1 UPDATE 2 DELETE 1 DELETE 2 INSERT 99",
        ),
    ]);
    let titled = json!({"id": 1, "title": "a"});
    for (library, mut program) in programs {
        let mut changes = Vec::new();
        // Bindings of one message are told together, those of `select` in a message of their own.
        for binding in [0, 4, 5, 6] {
            let last = |line: &Value| line["binding"] == binding && line["new"]["id"] == 99;
            changes.push(program.expect("change", last).await);
        }
        let mut rest = program.exit().await;
        rest.retain(|line| line["kind"] == "change");
        rest.extend(changes);
        let mut got: BTreeMap<i64, Vec<String>> = BTreeMap::new();
        for change in &rest {
            assert_eq!(change["errors"], Value::Null, "{library:?} {change}");
            assert_eq!(
                (&change["schema"], &change["table"]),
                (&json!("public"), &json!("notes"))
            );
            let row = if change["eventType"] == "DELETE" {
                "old"
            } else {
                "new"
            };
            let event = change["eventType"].as_str().expect("an event");
            let told = got
                .entry(change["binding"].as_i64().expect("a number"))
                .or_default();
            told.push(format!("{event} {}", change[row]["id"]));
        }
        let got: BTreeMap<i64, String> = got.into_iter().map(|(k, events)| (k, events.join(" "))).collect();
        for (binding, events) in &expected {
            assert_eq!(
                got.get(binding).map(String::as_str),
                Some(*events),
                "{library:?} {binding}"
            );
        }
        let of = |binding: i64, event: &str| {
            let fits = |line: &&Value| line["binding"] == binding && line["eventType"] == event;
            rest.iter().find(fits).expect("a change")
        };
        let whole = json!({"id": 1, "owner": null, "title": "a", "size": 1});
        assert_eq!(of(0, "INSERT")["new"], whole, "{library:?}");
        assert_eq!(of(0, "UPDATE")["old"], whole, "{library:?}");
        assert_eq!(of(0, "UPDATE")["new"]["size"], 10, "{library:?}");
        assert_eq!(of(0, "DELETE")["old"]["title"], "a", "{library:?}");
        assert_eq!(of(6, "INSERT")["new"], titled, "{library:?}");
        assert_eq!(of(6, "DELETE")["old"], titled, "{library:?}");
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_users_see_only_theirs() {
    let db = Database::new().await;
    db.execute(NOTES).await;
    db.execute(OWN).await;
    let server = Server::start(&db).await;
    let alice = Library::all(&server, &token::user(ALICE), all_of_notes()).await;
    let bob = Library::all(&server, &token::user(BOB), all_of_notes()).await;
    for (id, owner) in [(1, ALICE), (2, BOB), (3, ALICE), (4, BOB)] {
        db.execute(&insert(id, owner)).await;
    }
    for (programs, own) in [(alice, [1, 3]), (bob, [2, 4])] {
        for (library, mut program) in programs {
            for id in own {
                row(&mut program, id).await;
            }
            assert_eq!(ids(&program.exit().await), [0i64; 0], "{library:?}");
        }
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn set_auth_changes_whose_rows_come() {
    let db = Database::new().await;
    db.execute(NOTES).await;
    db.execute(OWN).await;
    let server = Server::start(&db).await;
    let mut programs = Library::all(&server, &token::user(ALICE), all_of_notes()).await;
    db.execute(&format!("{}; {}", insert(1, ALICE), insert(2, BOB)))
        .await;
    for (_, program) in &mut programs {
        row(program, 1).await;
        program
            .tell(json!({"cmd": "set_auth", "token": token::user(BOB)}))
            .await;
        // With other claims the rows are subscribed to anew, and the client is told so.
        subscribed(program).await;
    }
    db.execute(&format!("{}; {}", insert(3, ALICE), insert(4, BOB)))
        .await;
    for (library, mut program) in programs {
        row(&mut program, 4).await;
        assert_eq!(ids(&program.exit().await), [0i64; 0], "{library:?}");
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn after_unsubscribing_nothing_comes() {
    let db = Database::new().await;
    db.execute(NOTES).await;
    let server = Server::start(&db).await;
    let mut programs = Library::all(&server, &token::user(ALICE), all_of_notes()).await;
    db.execute(&insert(1, ALICE)).await;
    for (library, program) in &mut programs {
        row(program, 1).await;
        program.tell(json!({"cmd": "unsubscribe"})).await;
        assert_eq!(program.next("unsubscribed").await["result"], "ok");
        // realtime-py closes its connection with the last channel and does not wait for the reply.
        if matches!(library, Library::Js(_)) {
            program.expect("status", |line| line["status"] == "CLOSED").await;
        }
    }
    let mut witness = LIBRARIES[1].start(&server, &token::user(ALICE), &all_of_notes());
    witness.next("subscribed").await;
    db.execute(&insert(2, ALICE)).await;
    row(&mut witness, 2).await;
    witness.exit().await;
    for (library, program) in programs {
        assert_eq!(ids(&program.exit().await), [0i64; 0], "{library:?}");
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_libraries_come_back_after_a_restart() {
    let db = Database::new().await;
    db.execute(NOTES).await;
    db.execute(OWN).await;
    let server = Server::start(&db).await;
    let address = server.address;
    let mut programs = Library::all(&server, &token::user(ALICE), all_of_notes()).await;
    server.stop().await;
    for (_, program) in &mut programs {
        program
            .expect("status", |line| line["status"] == "CHANNEL_ERROR")
            .await;
    }
    let server = Server::start_at(address, &db, |_| {}).await;
    for (_, program) in &mut programs {
        program
            .expect("status", |line| line["status"] == "SUBSCRIBED")
            .await;
        program.next("subscribed").await;
    }
    db.execute(&format!("{}; {}", insert(1, BOB), insert(2, ALICE)))
        .await;
    for (library, mut program) in programs {
        row(&mut program, 2).await;
        assert_eq!(ids(&program.exit().await), [0i64; 0], "{library:?}");
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_filter_is_reported_and_harms_nobody() {
    let db = Database::new().await;
    db.execute(NOTES).await;
    let server = Server::start(&db).await;
    let right = Library::all(&server, &token::user(ALICE), all_of_notes()).await;
    let wrong = json!([{"event": "*", "schema": "public", "table": "notes", "filter": "nope=eq.1"}]);
    let mut refused: Vec<_> = LIBRARIES
        .iter()
        .map(|library| (*library, library.start(&server, &token::user(ALICE), &wrong)))
        .collect();
    for (library, program) in &mut refused {
        // The join stands; that its rows do not come is said beside it.
        program
            .expect("status", |line| line["status"] == "SUBSCRIBED")
            .await;
        let told = match library {
            Library::Js(_) => program.expect("system", |line| line["status"] == "error").await,
            Library::Python(_) => {
                program
                    .expect("status", |line| line["status"] == "CHANNEL_ERROR")
                    .await
            }
        };
        let message = told["message"].as_str().expect("a message");
        assert!(
            message.contains("invalid column for filter nope"),
            "{library:?} {told}"
        );
    }
    db.execute(&insert(1, ALICE)).await;
    for (_, mut program) in right {
        row(&mut program, 1).await;
        program.exit().await;
    }
    for (library, program) in refused {
        assert_eq!(ids(&program.exit().await), [0i64; 0], "{library:?}");
    }
    server.stop().await;
}
