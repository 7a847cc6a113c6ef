//! The table as it is in a real database.

mod partitions;
mod store;

use std::time::Duration;

use super::*;
use crate::postgres::testing::Cluster;
use crate::postgres::{Connection, InstallOptions, PoolOptions, Session, connect, install};

/// A database with our objects, its superuser's connection, and the table's reader and writer.
async fn installed() -> (Messages, Connection) {
    let (name, mut db) = Cluster::shared().database().await;
    install(&mut db, &InstallOptions::default())
        .await
        .unwrap_or_else(|e| panic!("{}", e.chain()));
    (messages(&name, None), db)
}

fn messages(database: &str, statement_timeout: Option<Duration>) -> Messages {
    let mut session = Session::new("test");
    session.statement_timeout = statement_timeout;
    let options = PoolOptions {
        size: 1,
        wait: Duration::from_secs(10),
        session,
    };
    let pool = Pool::new(&Cluster::shared().settings(database), &options).expect("a pool");
    Messages::new(pool, 1 << 20)
}

async fn run(db: &Connection, sql: &str) {
    db.batch_execute(sql)
        .await
        .unwrap_or_else(|e| panic!("{sql}: {e:?}"));
}

async fn text(db: &Connection, sql: &str) -> Option<String> {
    let row = db.query_one(&format!("SELECT ({sql})::text"), &[]).await;
    row.unwrap_or_else(|e| panic!("{sql}: {e:?}")).get(0)
}

/// The table as Supabase makes it: another owner, and none of our columns.
const THEIRS: &str = "
    DROP TABLE realtime.messages;
    CREATE TABLE realtime.messages (
        topic text NOT NULL, extension text NOT NULL, payload jsonb, event text, private boolean DEFAULT false,
        updated_at timestamp NOT NULL DEFAULT now(), inserted_at timestamp NOT NULL DEFAULT now(),
        id uuid NOT NULL DEFAULT gen_random_uuid(), binary_payload bytea, PRIMARY KEY (id, inserted_at)
    ) PARTITION BY RANGE (inserted_at);
    ALTER TABLE realtime.messages ADD CONSTRAINT one_payload CHECK (payload IS NULL OR binary_payload IS NULL) NOT VALID;
    ALTER TABLE realtime.messages ENABLE ROW LEVEL SECURITY;";
