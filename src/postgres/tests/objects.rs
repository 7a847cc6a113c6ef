//! What the installed objects do.

use crate::postgres::testing::Cluster;
use crate::postgres::{Connection, install};

async fn installed() -> Connection {
    let (_, mut db) = Cluster::shared().database().await;
    install(&mut db, &super::install::options())
        .await
        .unwrap_or_else(|e| panic!("{}", e.chain()));
    db
}

async fn text(db: &Connection, sql: &str) -> Option<String> {
    let row = db.query_one(&format!("SELECT ({sql})::text"), &[]).await;
    row.unwrap_or_else(|e| panic!("{sql}: {e:?}")).get(0)
}

async fn refusal(db: &Connection, sql: &str) -> String {
    let error = db.batch_execute(sql).await.expect_err(sql);
    error.as_db_error().expect("an answer").message().to_owned()
}

#[tokio::test]
async fn auth_reads_single_claims_first() {
    let db = installed().await;
    for function in [
        "auth.uid()",
        "auth.role()",
        "auth.email()",
        "auth.jwt()",
        "realtime.topic()",
    ] {
        assert_eq!(text(&db, function).await, None, "{function}");
    }
    db.batch_execute(
        r#"SET request.jwt.claims = '{"sub": "00000000-0000-0000-0000-000000000001", "role": "anon", "email": "a@b"}'"#,
    )
    .await
    .expect("claims");
    assert_eq!(
        text(&db, "auth.uid()").await.as_deref(),
        Some("00000000-0000-0000-0000-000000000001")
    );
    assert_eq!(text(&db, "auth.jwt() ->> 'email'").await.as_deref(), Some("a@b"));
    db.batch_execute(
        "SET request.jwt.claim.sub = '00000000-0000-0000-0000-000000000002'; SET request.jwt.claim.role = 'x';
         SET request.jwt.claim.email = ''; SET realtime.topic = 'room'",
    )
    .await
    .expect("claims");
    assert_eq!(
        text(&db, "auth.uid()").await.as_deref(),
        Some("00000000-0000-0000-0000-000000000002")
    );
    assert_eq!(text(&db, "auth.role()").await.as_deref(), Some("x"));
    assert_eq!(text(&db, "auth.email()").await.as_deref(), Some("a@b"));
    assert_eq!(text(&db, "realtime.topic()").await.as_deref(), Some("room"));
    // As the roles that policies are judged as.
    db.batch_execute("SET ROLE anon; SELECT auth.uid(), auth.jwt(), realtime.topic()")
        .await
        .expect("rights");
}

#[tokio::test]
async fn send_inserts_a_message_and_never_fails_its_caller() {
    let db = installed().await;
    db.batch_execute(
        r#"SELECT realtime.send('{"a": 1}', 'ev', 'room');
           SELECT realtime.send('{"id": "mine"}', 'ev', 'room', false);
           SELECT realtime.send('[1]', 'ev', 'room');
           SELECT realtime.send_binary('\x0102', 'ev', 'room');"#,
    )
    .await
    .expect("sends");
    let count = "SELECT count(*) FROM realtime.messages WHERE extension = 'broadcast' AND topic = 'room' AND event = 'ev'";
    assert_eq!(text(&db, count).await.as_deref(), Some("4"));
    let own =
        "SELECT bool_and(payload ->> 'id' = id::text AND private) FROM realtime.messages WHERE payload ? 'a'";
    assert_eq!(text(&db, own).await.as_deref(), Some("true"));
    let given = "SELECT payload::text || private FROM realtime.messages WHERE payload ->> 'id' = 'mine'";
    assert_eq!(text(&db, given).await.as_deref(), Some(r#"{"id": "mine"}false"#));
    let bytes = "SELECT binary_payload::text || private FROM realtime.messages WHERE payload IS NULL";
    assert_eq!(text(&db, bytes).await.as_deref(), Some(r"\x0102true"));
    // No policy lets anon insert: the caller's transaction goes on all the same, with the topic set for it.
    db.batch_execute(
        "BEGIN; SET LOCAL ROLE anon; SELECT realtime.send('{}', 'ev', 'hall');
         DO $$ BEGIN ASSERT realtime.topic() IS NULL OR realtime.topic() = 'room', realtime.topic(); END $$; COMMIT",
    )
    .await
    .expect("a warning only");
    db.batch_execute("SELECT realtime.send('{}', 'ev', NULL)")
        .await
        .expect("a warning only");
    assert_eq!(
        text(&db, "SELECT count(*) FROM realtime.messages")
            .await
            .as_deref(),
        Some("4")
    );
    let days = "SELECT count(*) FROM pg_inherits WHERE inhparent = 'realtime.messages'::regclass";
    assert_eq!(text(&db, days).await.as_deref(), Some("5"));
}

#[tokio::test]
async fn broadcast_changes_sends_both_rows() {
    let db = installed().await;
    db.batch_execute(
        "CREATE TABLE t (id int PRIMARY KEY, v text);
         CREATE FUNCTION tell() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
             PERFORM realtime.broadcast_changes('t:' || coalesce(new.id, old.id), tg_op, tg_op, tg_table_name, tg_table_schema, new, old);
             RETURN NULL; END $$;
         CREATE TRIGGER tell AFTER INSERT OR UPDATE OR DELETE ON t FOR EACH ROW EXECUTE FUNCTION tell();
         INSERT INTO t VALUES (1, 'a'); UPDATE t SET v = 'b'; DELETE FROM t;",
    )
    .await
    .expect("changes");
    let sent = "SELECT string_agg((payload - 'id')::text, E'\n' ORDER BY event) FROM realtime.messages WHERE private AND topic = 't:1'";
    assert_eq!(
        text(&db, sent).await.as_deref(),
        Some(
            r#"{"table": "t", "record": null, "schema": "public", "operation": "DELETE", "old_record": {"v": "b", "id": 1}}
{"table": "t", "record": {"v": "a", "id": 1}, "schema": "public", "operation": "INSERT", "old_record": null}
{"table": "t", "record": {"v": "b", "id": 1}, "schema": "public", "operation": "UPDATE", "old_record": {"v": "a", "id": 1}}"#
        )
    );
    let call = |operation: &str, level: &str| {
        format!(
            "SELECT realtime.broadcast_changes('t', 'e', '{operation}', 't', 'public', NULL::t, NULL::t, '{level}')"
        )
    };
    assert!(refusal(&db, &call("TRUNCATE", "ROW")).await.contains("TRUNCATE"));
    assert!(
        refusal(&db, &call("INSERT", "STATEMENT"))
            .await
            .contains("FOR EACH ROW")
    );
}

#[tokio::test]
async fn filters_mean_what_sql_means() {
    let db = installed().await;
    for (op, kind, left, right, negate, expected) in [
        ("eq", "int4", "'2'", "2", false, Some("true")),
        ("neq", "int4", "'2'", "2", true, Some("true")),
        ("lt", "int4", "'10'", "9", false, Some("false")),
        ("lte", "numeric", "'1.0'", "1.00", false, Some("true")),
        ("gt", "text", "'10'", "9", false, Some("false")),
        ("gte", "date", "'2020-01-02'", "2020-1-1", false, Some("true")),
        ("in", "varchar", "'b c'", "{a,\"b c\"}", false, Some("true")),
        ("in", "int4", "'3'", "{1,2}", true, Some("true")),
        ("like", "text", "'abc'", "a%", false, Some("true")),
        ("ilike", "text", "'ABC'", "a%", true, Some("false")),
        ("match", "text", "'abc'", "^A", false, Some("false")),
        ("imatch", "text", "'abc'", "^A", false, Some("true")),
        ("is", "int4", "NULL", "null", false, Some("true")),
        ("is", "bool", "'t'", "unknown", true, Some("true")),
        ("isdistinct", "int4", "NULL", "1", false, Some("true")),
        ("isdistinct", "int4", "NULL", "1", true, Some("false")),
        ("eq", "int4", "NULL", "1", true, None),
    ] {
        let call = format!("realtime.check_equality_op('{op}', '{kind}', {left}, '{right}', {negate})");
        assert_eq!(text(&db, &call).await.as_deref(), expected, "{call}");
    }
    assert_eq!(
        text(&db, "realtime.check_equality_op('eq', 'int4', '1', '1')")
            .await
            .as_deref(),
        Some("true")
    );
    let visible = |filters: &str| {
        format!(
            "realtime.is_visible_through_filters(ARRAY[('a', 'int4', 23, '1', true, true),
             ('n', 'text', 25, 'null', false, true)]::realtime.wal_column[], ARRAY[{filters}]::realtime.user_defined_filter[])"
        )
    };
    for (filters, expected) in [
        ("", "true"),
        ("('a', 'eq', '1', NULL)", "true"),
        ("('a', 'eq', '1', false), ('n', 'is', 'null', false)", "true"),
        ("('a', 'eq', '1', false), ('n', 'eq', 'x', true)", "false"),
        ("('missing', 'is', 'null', false)", "false"),
    ] {
        assert_eq!(
            text(&db, &visible(filters)).await.as_deref(),
            Some(expected),
            "{filters}"
        );
    }
    for (call, expected) in [
        (r#"realtime."cast"('\x01', 'bytea')"#, r#""\\x01""#),
        (r#"realtime."cast"('{1,2}', 'int4[]')"#, "[1, 2]"),
        (r#"realtime."cast"('1.50', 'numeric')"#, "1.50"),
        (
            r"realtime.wal2json_escape_identifier(E'a b.c,d\\')",
            r"a\ b\.c\,d\\",
        ),
        (
            "realtime.quote_wal2json('realtime.messages')",
            "realtime.messages",
        ),
        ("realtime.to_regrole('anon')", "anon"),
    ] {
        assert_eq!(text(&db, call).await.as_deref(), Some(expected), "{call}");
    }
}

#[tokio::test]
async fn a_subscription_is_checked_and_put_in_order() {
    let db = installed().await;
    db.batch_execute(
        "CREATE TABLE t (id int PRIMARY KEY, hidden text, name text, flag bool, list int[]);
         GRANT SELECT (id, name, flag, list) ON t TO anon",
    )
    .await
    .expect("a table");
    let insert = |filters: &str, columns: &str| {
        format!(
            r#"INSERT INTO realtime.subscription (subscription_id, entity, claims, filters, selected_columns)
               VALUES (gen_random_uuid(), 't', '{{"role": "anon"}}', ARRAY[{filters}]::realtime.user_defined_filter[], {columns})"#
        )
    };
    db.batch_execute(&insert(
        "('name', 'eq', 'x', false), ('id', 'in', '{1,2}', false)",
        "'{name,id}'",
    ))
    .await
    .expect("a subscription");
    let stored =
        "SELECT filters::text || selected_columns::text || claims_role::text FROM realtime.subscription";
    assert_eq!(
        text(&db, stored).await.as_deref(),
        Some(r#"{"(id,in,\"{1,2}\",f)","(name,eq,x,f)"}{id,name}anon"#)
    );
    let many = format!("('id', 'in', '{{{}}}', false)", vec!["1"; 101].join(","));
    for (filters, columns, message) in [
        (
            "('hidden', 'eq', 'x', false)",
            "NULL",
            "invalid column for filter hidden",
        ),
        (
            "('nope', 'eq', 'x', false)",
            "NULL",
            "invalid column for filter nope",
        ),
        (&*many, "NULL", "too many values for `in` filter. Maximum 100"),
        (
            "('name', 'is', 'maybe', false)",
            "NULL",
            "invalid value for is filter: must be null, true, false, or unknown",
        ),
        (
            "('name', 'is', 'true', false)",
            "NULL",
            "is true filter requires a boolean column, got text",
        ),
        (
            "('id', 'like', 'x', false)",
            "NULL",
            "operator like requires a text-compatible column type, got integer",
        ),
        (
            "('name', 'match', '(', false)",
            "NULL",
            "invalid regular expression for match filter: ",
        ),
        (
            "('id', 'eq', 'x', false)",
            "NULL",
            "invalid input syntax for type integer",
        ),
        ("", "'{hidden}'", "invalid column for select hidden"),
    ] {
        let refused = refusal(&db, &insert(filters, columns)).await;
        assert!(refused.starts_with(message), "{refused}");
    }
    db.batch_execute("SET ROLE anon; SELECT * FROM realtime.subscription")
        .await
        .expect("rights");
}

#[tokio::test]
async fn ddl_is_announced_once_per_transaction_and_never_hindered() {
    let db = installed().await;
    let slot = "SELECT pg_create_logical_replication_slot('announced', 'test_decoding', true)";
    db.batch_execute(slot).await.expect("a slot");
    db.batch_execute("CREATE ROLE ddl_user; CREATE SCHEMA theirs AUTHORIZATION ddl_user; SELECT 1")
        .await
        .expect("a user");
    let announced = async || -> i64 {
        let sql = "SELECT count(*) FROM pg_logical_slot_get_changes('announced', NULL, NULL)
                    WHERE data LIKE 'message: transactional: 1 prefix: rowcast,%content:catalog'";
        db.query_one(sql, &[]).await.expect("changes").get(0)
    };
    announced().await;
    for (statements, expected) in [
        ("CREATE TABLE t (id int PRIMARY KEY)", 1),
        ("CREATE PUBLICATION p FOR TABLE t", 1),
        ("ALTER PUBLICATION p OWNER TO CURRENT_USER", 1),
        ("ALTER TABLE t ENABLE ROW LEVEL SECURITY", 1),
        ("CREATE POLICY a ON t USING (true)", 1),
        ("ALTER POLICY a ON t USING (false)", 1),
        ("DROP POLICY a ON t", 1),
        ("GRANT SELECT ON t TO anon", 1),
        ("REVOKE SELECT ON t FROM anon", 1),
        ("ALTER TABLE t ADD COLUMN v int, REPLICA IDENTITY FULL", 1),
        ("ALTER TABLE t OWNER TO ddl_user", 1),
        ("CREATE TYPE mood AS ENUM ('ok')", 1),
        ("ALTER TYPE mood ADD VALUE 'bad'", 1),
        ("CREATE FUNCTION f() RETURNS int LANGUAGE sql AS 'SELECT 1'", 1),
        (
            "ALTER SCHEMA theirs RENAME TO also_theirs; ALTER SCHEMA also_theirs RENAME TO theirs",
            1,
        ),
        (
            "BEGIN; DROP FUNCTION f(); DROP TYPE mood; ALTER TABLE t DROP COLUMN v; COMMIT",
            1,
        ),
        (
            "BEGIN; SAVEPOINT s; ALTER TABLE t ADD COLUMN w int; ROLLBACK TO s; ALTER TABLE t ADD COLUMN x int; COMMIT",
            1,
        ),
        ("BEGIN; ALTER TABLE t ADD COLUMN y int; ROLLBACK", 0),
        ("ALTER PUBLICATION p DROP TABLE t", 1),
        (
            "SET ROLE ddl_user; CREATE TABLE theirs.t2 (id int); RESET ROLE",
            1,
        ),
        ("DROP OWNED BY ddl_user", 1),
        ("DROP PUBLICATION p", 1),
        (
            "CREATE TEMP TABLE brief (id serial); CREATE INDEX ON brief (id); DROP TABLE brief",
            0,
        ),
        ("CREATE TABLE other (id int); ", 1),
        (
            "CREATE INDEX ON other (id); COMMENT ON TABLE other IS 'x'; INSERT INTO other VALUES (1)",
            0,
        ),
        ("CREATE TABLE copied AS SELECT 1 AS a; ", 1),
    ] {
        db.batch_execute(statements)
            .await
            .unwrap_or_else(|e| panic!("{statements}: {e:?}"));
        assert_eq!(announced().await, expected, "{statements}");
    }
}

#[tokio::test]
async fn who_sends_needs_a_policy_that_lets_them() {
    let db = installed().await;
    db.batch_execute(
        "CREATE POLICY p ON realtime.messages FOR INSERT TO anon
             WITH CHECK (realtime.topic() = 'room' AND topic = 'room' AND extension = 'broadcast');
         CREATE TABLE t (id int PRIMARY KEY); GRANT INSERT ON t TO anon;
         CREATE FUNCTION tell() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
             PERFORM realtime.broadcast_changes(CASE new.id WHEN 1 THEN 'room' ELSE 'hall' END, tg_op, tg_op,
                                                tg_table_name, tg_table_schema, new, old);
             RETURN NULL; END $$;
         CREATE TRIGGER tell AFTER INSERT ON t FOR EACH ROW EXECUTE FUNCTION tell();
         SET ROLE anon;
         SELECT realtime.send('{}', 'a', 'room'), realtime.send_binary('\\x00', 'b', 'room'),
                realtime.send('{}', 'never', 'hall'), realtime.send_binary('\\x00', 'never', 'hall');
         INSERT INTO t VALUES (1), (2);
         RESET ROLE",
    )
    .await
    .expect("warnings at most");
    let sent = "SELECT string_agg(event, ' ' ORDER BY seq) FROM realtime.messages";
    assert_eq!(text(&db, sent).await.as_deref(), Some("a b INSERT"));
    // What could not be told of has happened all the same.
    assert_eq!(text(&db, "SELECT count(*) FROM t").await.as_deref(), Some("2"));
}
