use crate::postgres::Connection;
use crate::postgres::testing::Cluster;

/// Whether what was done since the last call told the stream of it.
async fn announced(db: &Connection) -> bool {
    let row = db
        .query_one(
            "SELECT count(*) FROM pg_logical_slot_get_changes('said_' || current_database(), NULL, NULL,
                 'format-version', '2') WHERE data::json ->> 'prefix' = 'rowcast'",
            &[],
        )
        .await
        .expect("the messages");
    let count: i64 = row.get(0);
    assert!(count <= 1, "once per transaction");
    count == 1
}

#[tokio::test]
async fn every_change_of_what_is_read_is_announced() {
    let (_, db) = Cluster::shared().database().await;
    db.batch_execute(concat!(
        "CREATE SCHEMA rowcast;",
        include_str!("../../../../sql/rowcast/catalog_changed.sql"),
        include_str!("../../../../sql/rowcast/event_trigger_changed.sql"),
        include_str!("../../../../sql/rowcast/event_trigger_dropped.sql"),
        "CREATE ROLE an_role; CREATE ROLE an_owner;"
    ))
    .await
    .expect("the statements");
    db.batch_execute(
        "SELECT pg_create_logical_replication_slot('said_' || current_database(), 'wal2json', true)",
    )
    .await
    .expect("a slot");
    announced(&db).await;
    for sql in [
        "CREATE TYPE mood AS ENUM ('ok')",
        "ALTER TYPE mood ADD VALUE 'bad'",
        "CREATE TABLE t (id int PRIMARY KEY, v text)",
        "CREATE POLICY p ON t USING (true)",
        "ALTER POLICY p ON t USING (id > 0)",
        "ALTER POLICY p ON t RENAME TO q",
        "DROP POLICY q ON t",
        "GRANT SELECT ON t TO an_role",
        "REVOKE SELECT ON t FROM an_role",
        "GRANT SELECT (v) ON t TO an_role",
        "GRANT USAGE ON SCHEMA public TO an_role",
        "ALTER TABLE t ENABLE ROW LEVEL SECURITY",
        "ALTER TABLE t FORCE ROW LEVEL SECURITY",
        "ALTER TABLE t NO FORCE ROW LEVEL SECURITY",
        "ALTER TABLE t DISABLE ROW LEVEL SECURITY",
        "ALTER TABLE t ADD w int",
        "ALTER TABLE t RENAME w TO x",
        "ALTER TABLE t DROP x",
        "ALTER TABLE t REPLICA IDENTITY FULL",
        "ALTER TABLE t OWNER TO an_owner",
        "CREATE FUNCTION f() RETURNS bool LANGUAGE sql AS 'SELECT true'",
        "CREATE OR REPLACE FUNCTION f() RETURNS bool LANGUAGE sql AS 'SELECT false'",
        "ALTER FUNCTION f() SECURITY DEFINER",
        "ALTER FUNCTION f() SET search_path = ''",
        "REVOKE EXECUTE ON FUNCTION f() FROM public",
        "DROP FUNCTION f()",
        "CREATE VIEW seen AS SELECT 1 AS a",
        "ALTER VIEW seen OWNER TO an_owner",
        "ALTER VIEW seen RENAME TO looked_at",
        "ALTER DEFAULT PRIVILEGES GRANT SELECT ON TABLES TO an_role",
        "CREATE PUBLICATION p FOR TABLE t",
        "ALTER PUBLICATION p SET (publish = 'insert')",
        "DROP OWNED BY an_role",
        "DROP TABLE t",
    ] {
        db.batch_execute(sql).await.expect(sql);
        assert!(announced(&db).await, "{sql}");
    }
    for sql in [
        "CREATE TEMP VIEW mine AS SELECT 1",
        "DROP VIEW mine",
        "CREATE TEMP TABLE mine (id serial)",
        "DROP TABLE mine",
        "BEGIN; CREATE TABLE never (id int); ROLLBACK",
        "COMMENT ON SCHEMA public IS 'mine'",
        "SELECT 1",
    ] {
        db.batch_execute(sql).await.expect(sql);
        assert!(!announced(&db).await, "{sql}");
    }
}
