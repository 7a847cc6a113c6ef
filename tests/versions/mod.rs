//! The essentials on versions of Postgres beside the installed one, without wal2json. `ROWCAST_TEST_POSTGRES` runs all other
//! tests on one of them.

mod delivery;
mod forms;
mod rows;
mod start;

use serde_json::{Value, json};

use crate::support::{Client, Database, Server, Version, token};

/// Each of these as a test of its own on each version, in a database of its own.
macro_rules! on_each_version {
    ($($file:ident: $($test:ident),*;)*) => {
        mod postgres_17 {
            $($(#[tokio::test(flavor = "multi_thread")]
            async fn $test() {
                super::$file::$test(17).await;
            })*)*
        }

        mod postgres_18 {
            $($(#[tokio::test(flavor = "multi_thread")]
            async fn $test() {
                super::$file::$test(18).await;
            })*)*
        }
    };
}

on_each_version! {
    start: a_development_server_needs_no_wal2json, the_stream_is_made_of_slot_and_publications, a_slot_that_postgres_gave_up_is_told_of;
    rows: policies_decide_in_memory_and_in_postgres, filters_and_members_count, catalogs_of_every_kind_are_read;
    forms: tables_change_in_midstream, partitions_and_truncate, generated_columns, prepared_transactions;
    delivery: nothing_is_missed_over_a_crash_of_the_server, sessions_go_on_at_the_next_server, rows_come_first_and_changes_follow,
        broadcasts_come_from_sql;
}

const ALICE: &str = "a0000000-0000-4000-8000-000000000001";
const BOB: &str = "b0000000-0000-4000-8000-000000000002";

fn service() -> String {
    token::token("service_role", json!({}))
}

fn on(table: &str) -> Value {
    json!([{"event": "*", "schema": "public", "table": table}])
}

async fn subscriber(server: &Server, token: &str, changes: Value) -> Client {
    let mut client = Client::connect(server, Version::V2, token).await;
    client.subscribe("room", changes).await;
    client
}

/// The `data` of every row change that was sent for what has been committed so far.
async fn told(client: &mut Client, db: &Database, server: &Server) -> Vec<Value> {
    server.passed(db).await;
    client.round_trip().await;
    client.rows_before_now()
}

/// A change in few words: `INSERT {"id":1}`; of a DELETE the old row.
fn short(data: &Value) -> String {
    let row = match &data["record"] {
        Value::Null => &data["old_record"],
        record => record,
    };
    let kind = data["type"].as_str().unwrap_or_default();
    match &data["errors"] {
        Value::Null => format!("{kind} {row}"),
        errors => format!("{kind} {row} {errors}"),
    }
}

async fn shorts(client: &mut Client, db: &Database, server: &Server) -> Vec<String> {
    told(client, db, server).await.iter().map(short).collect()
}
