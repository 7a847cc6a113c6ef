//! Rows as large as rows can be.

use serde_json::{Value, json};

use super::{service, shorts, subscriber, told};
use crate::support::{Client, Database, Server, Version};

fn on(table: &str) -> Value {
    json!([{"event": "*", "schema": "public", "table": table}])
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_of_a_hundred_megabytes() {
    let db = Database::new().await;
    db.execute(
        "create table big (id int primary key, note text, body text); alter table big alter body set storage external;
         alter table big enable row level security; create policy p on big using (body is not null);
         grant select on big to service_role; alter publication supabase_realtime add table big",
    )
    .await;
    let server = Server::start(&db).await;
    let mut client = subscriber(&server, &service(), on("big")).await;
    db.execute(
        "insert into big select n, 'n', repeat('x', 100000000) from generate_series(1, 3) n;
         insert into big values (4, 'small', 'x')",
    )
    .await;
    let told = told(&mut client, &db, &server).await;
    assert_eq!(told.len(), 4);
    for (data, id) in told.iter().zip(1..=3) {
        assert_eq!(data["errors"], json!(["Error 413: Payload Too Large"]));
        assert_eq!(data["record"], json!({"id": id, "note": "n"}));
    }
    assert_eq!(told[3]["record"], json!({"id": 4, "note": "small", "body": "x"}));
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_that_cannot_be_read_is_left_out_and_said_to_be() {
    let db = Database::new().await;
    db.execute(
        "create table big (id int primary key, body bytea);
         grant select on big to service_role; alter publication supabase_realtime add table big",
    )
    .await;
    let server = Server::start(&db).await;
    let mut client = Client::connect(&server, Version::V2, &service()).await;
    client.subscribe("room", on("big")).await;
    // In hexadecimal digits the row is longer than the server can print.
    db.execute(
        "begin; insert into big values (1, '\\x01'); commit; begin; insert into big values (2, '\\x02');
         insert into big values (3, convert_to(repeat('x', 540000000), 'utf8')); commit; insert into big values (4, '\\x04')",
    )
    .await;
    client
        .expect("word of what is missing", |m| {
            let message = m.payload["message"].as_str().unwrap_or_default();
            m.event == "system" && message.contains("too large to be read")
        })
        .await;
    assert_eq!(
        shorts(&mut client, &db, &server).await,
        [
            r#"INSERT big {"body":"01","id":1}"#,
            r#"INSERT big {"body":"04","id":4}"#
        ]
    );
    server.stop().await;
}
