use std::time::Duration;

use crate::postgres::testing::Cluster;
use crate::postgres::{
    Connection, InstallOptions, InstallReport, Outcome, Session, catalog, connect, install,
};

pub(super) fn options() -> InstallOptions {
    InstallOptions {
        publication: "supabase_realtime".into(),
        create_roles: true,
        lock_timeout: Duration::from_secs(20),
    }
}

async fn run(db: &mut Connection) -> InstallReport {
    install(db, &options())
        .await
        .unwrap_or_else(|e| panic!("{}", e.chain()))
}

/// Everything an installation could have changed, as text.
async fn definitions(db: &Connection) -> Vec<String> {
    let rows = db
        .query(
            "SELECT 'f ' || oid || ' ' || xmin || pg_get_functiondef(oid) || coalesce(obj_description(oid, 'pg_proc'), '')
               FROM pg_proc WHERE pronamespace::regnamespace::text IN ('auth', 'realtime', 'rowcast') AND prokind = 'f'
             UNION ALL
             SELECT 'c ' || oid || ' ' || xmin || relname || relkind::text || relowner || coalesce(relacl::text, '')
               FROM pg_class WHERE relnamespace::regnamespace::text IN ('auth', 'realtime', 'rowcast')
             UNION ALL
             SELECT 't ' || oid || ' ' || xmin || typname
               FROM pg_type WHERE typnamespace::regnamespace::text IN ('auth', 'realtime', 'rowcast')
             UNION ALL
             SELECT 'n ' || oid || ' ' || xmin || nspname || coalesce(nspacl::text, '') FROM pg_namespace
              WHERE nspname IN ('auth', 'realtime', 'rowcast')
             UNION ALL
             SELECT 'p ' || oid || ' ' || xmin || pubname FROM pg_publication
             UNION ALL
             SELECT 'e ' || oid || ' ' || xmin || evtname FROM pg_event_trigger
             ORDER BY 1",
            &[],
        )
        .await
        .expect("definitions");
    rows.iter().map(|row| row.get(0)).collect()
}

#[tokio::test]
async fn a_second_installation_changes_nothing() {
    let (_, mut db) = Cluster::shared().database().await;
    let first = run(&mut db).await;
    assert_eq!(first.missing_essentials().count(), 0);
    assert!(first.announces_catalog_changes());
    for entry in &first.entries {
        let expected = entry.outcome == Outcome::Created
            // Another test's database may have brought the roles already.
            || entry.object.starts_with("role ") && entry.outcome == Outcome::LeftAlone;
        assert!(expected, "{entry}");
    }
    let before = definitions(&db).await;
    let second = run(&mut db).await;
    assert_eq!(definitions(&db).await, before);
    for entry in &second.entries {
        assert!(
            matches!(entry.outcome, Outcome::Current | Outcome::LeftAlone),
            "{entry}"
        );
        assert!(
            entry.outcome == Outcome::Current || entry.object.starts_with("role "),
            "{entry}"
        );
    }
    let roles = db
        .query_one(
            "SELECT count(*) FILTER (WHERE NOT rolcanlogin), count(*) FILTER (WHERE rolbypassrls AND rolname = 'service_role')
               FROM pg_roles WHERE rolname IN ('anon', 'authenticated', 'service_role')",
            &[],
        )
        .await
        .expect("roles");
    assert_eq!((roles.get::<_, i64>(0), roles.get::<_, i64>(1)), (3, 1));
    let empty = catalog::load(&mut db, "supabase_realtime")
        .await
        .expect("a catalog");
    assert!(empty.tables.is_empty());
    assert!(
        catalog::publication(&db, "supabase_realtime")
            .await
            .expect("an answer")
            .is_some()
    );
}

#[tokio::test]
async fn what_others_made_stays_theirs() {
    let (_, mut db) = Cluster::shared().database().await;
    db.batch_execute(
        "CREATE SCHEMA auth; CREATE SCHEMA realtime;
         CREATE FUNCTION auth.uid() RETURNS uuid LANGUAGE sql AS 'SELECT NULL::uuid';
         CREATE FUNCTION realtime.topic() RETURNS text LANGUAGE sql AS $$ SELECT 'theirs' $$;
         CREATE FUNCTION realtime.send(payload jsonb, event text, topic text, private boolean DEFAULT true)
             RETURNS void LANGUAGE sql AS '';
         CREATE TYPE realtime.equality_op AS ENUM ('eq');
         CREATE TABLE realtime.messages (id int PRIMARY KEY);
         CREATE TABLE realtime.subscription (id int PRIMARY KEY);
         CREATE PUBLICATION supabase_realtime FOR ALL TABLES;
         COMMENT ON FUNCTION realtime.topic() IS 'theirs';",
    )
    .await
    .expect("their objects");
    let before = definitions(&db).await;
    let report = run(&mut db).await;
    let after = definitions(&db).await;
    for theirs in &before {
        assert!(after.contains(theirs), "changed: {theirs}");
    }
    for object in [
        "schema auth",
        "schema realtime",
        "function auth.uid()",
        "function realtime.topic()",
        "function realtime.send(jsonb, text, text, boolean)",
        "table realtime.messages",
        "table realtime.subscription",
        "type realtime.equality_op",
        "publication supabase_realtime",
    ] {
        assert_eq!(report.outcome(object), Some(&Outcome::LeftAlone), "{object}");
    }
    // A schema of an authentication service and the subscription's own circle are not filled up; the rest is.
    for object in [
        "function auth.jwt()",
        "table auth.users",
        "type realtime.action",
        "function realtime.to_regrole(text)",
    ] {
        assert!(
            matches!(report.outcome(object), Some(Outcome::Skipped(_))),
            "{object}"
        );
    }
    assert_eq!(
        report.outcome("function realtime.send_binary(bytea, text, text, boolean)"),
        Some(&Outcome::Created)
    );
    assert_eq!(report.missing_essentials().count(), 0);
    let again = definitions(&db).await;
    run(&mut db).await;
    assert_eq!(definitions(&db).await, again);
}

#[tokio::test]
async fn an_old_definition_of_ours_is_replaced_and_a_changed_one_is_kept() {
    let (_, mut db) = Cluster::shared().database().await;
    run(&mut db).await;
    let body = "SELECT md5(prosrc) FROM pg_proc WHERE oid = $1::text::regprocedure";
    let current: String = db.query_one(body, &[&"auth.uid()"]).await.expect("a row").get(0);
    // As an older Rowcast would have left it: another body, and a comment that knows that body.
    db.batch_execute(
        "CREATE OR REPLACE FUNCTION auth.uid() RETURNS uuid LANGUAGE sql STABLE AS 'SELECT NULL::uuid';
         DO $$ BEGIN EXECUTE format('COMMENT ON FUNCTION auth.uid() IS %L', 'rowcast:0123456789ab:'
             || (SELECT md5(prosrc) FROM pg_proc WHERE oid = 'auth.uid()'::regprocedure) || ' made by Rowcast'); END $$;
         CREATE OR REPLACE FUNCTION auth.email() RETURNS text LANGUAGE sql STABLE AS $$ SELECT 'mine' $$;
         COMMENT ON FUNCTION auth.role() IS 'kept';",
    )
    .await
    .expect("changes");
    let report = run(&mut db).await;
    assert_eq!(report.outcome("function auth.uid()"), Some(&Outcome::Updated));
    let replaced: String = db.query_one(body, &[&"auth.uid()"]).await.expect("a row").get(0);
    assert_eq!(replaced, current);
    assert_eq!(report.outcome("function auth.email()"), Some(&Outcome::LeftAlone));
    assert_eq!(report.outcome("function auth.role()"), Some(&Outcome::LeftAlone));
    assert_eq!(report.outcome("function auth.jwt()"), Some(&Outcome::Current));
}

#[tokio::test]
async fn two_installations_at_once_both_succeed() {
    let (name, mut one) = Cluster::shared().database().await;
    let mut two = Cluster::shared().superuser(&name).await;
    let (first, second) = tokio::join!(run(&mut one), run(&mut two));
    for (a, b) in first
        .entries
        .iter()
        .zip(&second.entries)
        .filter(|(a, _)| !a.object.starts_with("role "))
    {
        let created = [&a.outcome, &b.outcome]
            .iter()
            .filter(|o| ***o == Outcome::Created)
            .count();
        let current = [&a.outcome, &b.outcome]
            .iter()
            .filter(|o| ***o == Outcome::Current)
            .count();
        assert_eq!((created, current), (1, 1), "{a} / {b}");
    }
}

#[tokio::test]
async fn few_rights_give_a_list_and_not_a_failure() {
    let (name, mut admin) = Cluster::shared().database().await;
    let login = |role: &str| {
        let mut settings = Cluster::shared().settings(&name);
        settings.user = role.to_owned();
        settings
    };
    admin
        .batch_execute(&format!("CREATE ROLE inst_none LOGIN; CREATE ROLE inst_some LOGIN; GRANT CREATE ON DATABASE {name} TO inst_some"))
        .await
        .expect("roles");
    let mut none = connect(&login("inst_none"), &Session::new("test"))
        .await
        .expect("a connection");
    let report = run(&mut none).await;
    assert!(
        report
            .entries
            .iter()
            .all(|e| matches!(e.outcome, Outcome::Skipped(_) | Outcome::LeftAlone))
    );
    assert_eq!(
        report
            .missing_essentials()
            .map(|e| e.object.as_str())
            .collect::<Vec<_>>(),
        [
            "function rowcast.is_visible(bigint)",
            "function rowcast.evaluate(text, text, json[], integer[], text[])",
            "function rowcast.judge(text[], json, json[], bigint[])",
            "function rowcast.read_relation(text, text, bigint)",
            "function rowcast.read_relations(text[], json, integer, bigint[])",
            "publication supabase_realtime",
        ]
    );
    let Some(Outcome::Skipped(why)) = report.outcome("publication supabase_realtime") else {
        panic!("skipped")
    };
    assert!(why.contains("permission denied for database"), "{why}");

    let mut some = connect(&login("inst_some"), &Session::new("test"))
        .await
        .expect("a connection");
    let report = run(&mut some).await;
    assert_eq!(report.missing_essentials().count(), 0);
    assert!(!report.announces_catalog_changes());
    assert_eq!(
        report.outcome("function realtime.topic()"),
        Some(&Outcome::Created)
    );
    let again = run(&mut some).await;
    assert_eq!(
        again.outcome("function realtime.topic()"),
        Some(&Outcome::Current)
    );
    // Somebody with more rights completes it.
    let report = run(&mut admin).await;
    assert!(report.announces_catalog_changes());
}

#[tokio::test]
async fn roles_are_created_only_when_asked_for() {
    let cluster = Cluster::start(|_| Vec::new());
    let mut db = cluster.superuser("postgres").await;
    let mut asked = options();
    asked.create_roles = false;
    asked.publication = "Odd \"name\"".into();
    let report = install(&mut db, &asked).await.expect("a report");
    assert!(matches!(report.outcome("role anon"), Some(Outcome::Skipped(_))));
    assert!(
        catalog::publication(&db, "Odd \"name\"")
            .await
            .expect("an answer")
            .is_some()
    );
    let usage = "SELECT has_schema_privilege('anon', 'realtime', 'USAGE') AND has_table_privilege('anon', 'realtime.messages', 'INSERT')";
    assert!(db.query_one(usage, &[]).await.is_err());

    // A role that may create roles becomes a member of those it creates.
    db.batch_execute("CREATE ROLE maker LOGIN CREATEROLE")
        .await
        .expect("a role");
    let mut settings = cluster.settings("postgres");
    settings.user = "maker".into();
    let mut maker = connect(&settings, &Session::new("test"))
        .await
        .expect("a connection");
    let report = run(&mut maker).await;
    assert_eq!(report.outcome("role anon"), Some(&Outcome::Created));
    maker.batch_execute("SET ROLE anon").await.expect("membership");

    // Roles that came later get their grants.
    run(&mut db).await;
    assert!(db.query_one(usage, &[]).await.expect("a row").get::<_, bool>(0));
}

/// Whoever may create a schema could wait there for a superuser to install something that runs their code.
#[tokio::test]
async fn nothing_that_others_wrote_is_run_with_more_rights() {
    let (name, mut db) = Cluster::shared().database().await;
    db.batch_execute(&format!(
        "CREATE ROLE inst_sly LOGIN; GRANT CREATE ON DATABASE {name} TO inst_sly"
    ))
    .await
    .expect("a role");
    let mut settings = Cluster::shared().settings(&name);
    settings.user = "inst_sly".into();
    let sly = connect(&settings, &Session::new("test"))
        .await
        .expect("a connection");
    sly.batch_execute(
        "CREATE SCHEMA rowcast; CREATE SCHEMA realtime;
         CREATE FUNCTION rowcast.catalog_changed() RETURNS event_trigger LANGUAGE plpgsql AS $$
             BEGIN EXECUTE 'ALTER ROLE inst_sly SUPERUSER'; END $$;
         CREATE FUNCTION realtime.key(timestamp) RETURNS timestamp LANGUAGE plpgsql IMMUTABLE AS $$
             BEGIN EXECUTE 'ALTER ROLE inst_sly SUPERUSER'; RETURN $1; END $$;
         CREATE TABLE realtime.messages (inserted_at timestamp) PARTITION BY RANGE (realtime.key(inserted_at));
         CREATE TABLE realtime.trap PARTITION OF realtime.messages DEFAULT;
         COMMENT ON TABLE realtime.messages IS 'rowcast:0:';
         COMMENT ON SCHEMA rowcast IS 'rowcast:0:'; COMMENT ON SCHEMA realtime IS 'rowcast:0:';
         DO $$ BEGIN EXECUTE format('COMMENT ON FUNCTION rowcast.catalog_changed() IS %L', 'rowcast:0:' || (
             SELECT md5(prosrc) FROM pg_proc WHERE oid = 'rowcast.catalog_changed()'::regprocedure)); END $$;",
    )
    .await
    .expect("a trap");
    let report = run(&mut db).await;
    assert!(report.announces_catalog_changes());
    db.batch_execute("CREATE TABLE t (id int); DROP TABLE t")
        .await
        .expect("ddl");
    let row = db
        .query_one(
            "SELECT (SELECT rolsuper FROM pg_roles WHERE rolname = 'inst_sly'),
                    (SELECT count(*) FROM pg_inherits WHERE inhparent = 'realtime.messages'::regclass),
                    (SELECT pg_get_userbyid(proowner)::text FROM pg_proc WHERE proname = 'catalog_changed')",
            &[],
        )
        .await
        .expect("a row");
    assert_eq!((row.get(0), row.get(1), row.get(2)), (false, 1_i64, "postgres"));
}
