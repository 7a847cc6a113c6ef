//! Unmodified supabase-js, with one more parameter in its URL.

use serde_json::{Value, json};

use super::{ROWS, service};
use crate::support::{Database, Program, Server, token};

/// A program that subscribes to inserts into `n`.
fn start(server: &Server, vsn: &str) -> Program {
    let (url, key, user) = (server.url(), token::token("anon", json!({})), service());
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
    Program::node("supabase.mjs", &variables)
}

/// The next row. The last one before the deploy may come again: whether its answer had arrived is not for the test to say.
async fn row(client: &mut Program, id: i64) {
    let change = client
        .expect("change", |change| id == 1 || change["new"]["id"] != json!(1))
        .await;
    assert_eq!(
        (&change["new"]["id"], &change["errors"]),
        (&json!(id), &Value::Null),
        "{change}"
    );
}

async fn over_a_deploy(vsn: &str) {
    let db = Database::new().await;
    db.execute(ROWS).await;
    let settings = |config: &mut rowcast::config::Config| {
        config.resume.acknowledge = std::time::Duration::from_millis(10);
    };
    let first = Server::start_with(&db, settings).await;
    let address = first.address;
    let mut client = start(&first, vsn);
    client.expect("subscribed", |_| true).await;
    db.execute("insert into n values (1)").await;
    row(&mut client, 1).await;
    // Its answers to the questions how far it has come arrive by themselves; how many there are is up to how fast it reads.
    crate::support::eventually("the server knows of the client", || async {
        (first.metric("rowcast_places_acknowledged_total").await > 0.0).then_some(())
    })
    .await;
    first.stop().await;
    // While no server is there.
    db.execute("insert into n select generate_series(2, 4)").await;
    let second = Server::start_at(address, &db, settings).await;
    let resumed = client
        .expect("system", |system| {
            system["extension"] == "resume" && system["message"] == "resumed: nothing was missed"
        })
        .await;
    assert_eq!(resumed["status"], "ok");
    db.execute("insert into n values (5)").await;
    for id in 2..=5 {
        row(&mut client, id).await;
    }
    second.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn supabase_js_misses_nothing_over_a_deploy() {
    tokio::join!(over_a_deploy("1.0.0"), over_a_deploy("2.0.0"));
}
