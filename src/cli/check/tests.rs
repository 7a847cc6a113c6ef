use super::{CheckOptions, Level, Report, Verdict, run};
use crate::postgres::testing::Cluster;
use crate::postgres::{ConnectSettings, InstallOptions, install};

async fn check(settings: &ConnectSettings, change: impl FnOnce(&mut CheckOptions)) -> Report {
    let mut options = CheckOptions::default();
    change(&mut options);
    run(settings, &options).await
}

/// The line whose text contains this.
#[track_caller]
fn expect(report: &Report, level: Level, subject: &str, text: &str, remedy: &str) {
    let found = report.lines.iter().any(|l| {
        l.level == level
            && l.subject == subject
            && l.text.contains(text)
            && match &l.remedy {
                Some(said) => !remedy.is_empty() && said.contains(remedy),
                None => remedy.is_empty(),
            }
    });
    assert!(
        found,
        "{level:?} {subject:?} {text:?} {remedy:?} is not in\n{}",
        report.render()
    );
}

#[track_caller]
fn sees(report: &Report, table: &str, role: &str) -> String {
    let view = report.tables.iter().find(|t| t.name == table).expect("the table");
    view.roles
        .iter()
        .find(|r| r.role == role)
        .expect("the role")
        .sees
        .clone()
}

#[tokio::test]
async fn a_database_in_order() {
    let cluster = Cluster::shared();
    let (name, mut db) = cluster.database().await;
    install(
        &mut db,
        &InstallOptions {
            publication: "supabase_realtime".into(),
            create_roles: true,
            lock_timeout: std::time::Duration::from_secs(20),
        },
    )
    .await
    .expect("an installation");
    db.batch_execute(
        r#"CREATE TABLE "My todos" (id int PRIMARY KEY, owner uuid, secret text);
           ALTER TABLE "My todos" ENABLE ROW LEVEL SECURITY;
           GRANT SELECT (id, owner) ON "My todos" TO authenticated;
           GRANT SELECT (owner) ON "My todos" TO anon;
           GRANT SELECT ON "My todos" TO service_role;
           CREATE POLICY own ON "My todos" FOR SELECT TO authenticated USING (owner = auth.uid());
           CREATE POLICY small ON "My todos" AS RESTRICTIVE FOR SELECT TO authenticated USING (id < 9);
           CREATE TABLE open (v text);
           GRANT SELECT ON open TO anon;
           ALTER PUBLICATION supabase_realtime ADD TABLE "My todos", open;
           CREATE POLICY listen ON realtime.messages FOR SELECT TO authenticated USING (realtime.topic() = auth.email());
           CREATE POLICY send ON realtime.messages FOR INSERT TO authenticated WITH CHECK (lower(extension) = event);
           REVOKE INSERT ON realtime.messages FROM anon;"#,
    )
    .await
    .expect("tables");
    let slot = format!("check_{name}");
    let report = check(&cluster.settings(&name), |o| o.slot.clone_from(&slot)).await;
    assert_eq!(report.verdict(), Verdict::Warnings, "{}", report.render());
    assert_eq!(report.verdict().exit_code(), 0);
    for (subject, text) in [
        ("server", "PostgreSQL 1"),
        ("wal_level", "logical"),
        ("replication right", "postgres may replicate"),
        ("output plugin", "wal2json loads"),
        ("slot", "does not exist yet"),
        ("role", "authenticated: policies can be judged"),
        ("event triggers", "announced at once"),
        ("tables", "2 in supabase_realtime"),
    ] {
        expect(&report, Level::Ok, subject, text, "");
    }
    expect(
        &report,
        Level::Warning,
        "kept wal",
        "no limit",
        "ALTER SYSTEM SET max_slot_wal_keep_size",
    );
    expect(
        &report,
        Level::Warning,
        "primary key",
        "public.open",
        "ALTER TABLE \"public\".\"open\" ADD COLUMN",
    );
    expect(
        &report,
        Level::Warning,
        "replica identity",
        "public.open",
        "REPLICA IDENTITY FULL",
    );
    expect(
        &report,
        Level::Warning,
        "row security",
        "every row goes to anon",
        "ENABLE ROW LEVEL SECURITY",
    );
    assert_eq!(
        sees(&report, "public.My todos", "authenticated"),
        "rows by 2 policies (own; narrowed by small); hidden columns: secret"
    );
    assert_eq!(
        sees(&report, "public.My todos", "anon"),
        "no rows: no policy lets it; hidden columns: id, secret; error 401 instead of rows, as the key is among them"
    );
    assert_eq!(sees(&report, "public.My todos", "service_role"), "all rows");
    assert_eq!(
        sees(&report, "public.open", "authenticated"),
        "nothing: it may not select"
    );
    assert_eq!(sees(&report, "public.open", "anon"), "all rows");
    let text = report.render();
    assert!(
        text.contains("public.My todos  key (id), replica identity default, row security on"),
        "{text}"
    );
    for line in [
        "  policy own: compiled\n",
        "  policy small: compiled\n",
        "\nprivate channels  by realtime.messages, row security on\n",
        "  authenticated  reads rows by 1 policy (listen); writes rows by 1 policy (send)\n",
        "  anon           reads no rows: no policy lets it; writes nothing: it may not insert\n",
        "  service_role   reads all rows; writes all rows\n",
        "  policy listen for reading: compiled\n",
        "  policy send for writing: compiled\n",
    ] {
        assert!(text.contains(line), "{line}: {text}");
    }

    db.batch_execute("ALTER TABLE realtime.messages DISABLE ROW LEVEL SECURITY")
        .await
        .expect("a change");
    let report = check(&cluster.settings(&name), |o| o.slot.clone_from(&slot)).await;
    expect(
        &report,
        Level::Warning,
        "private channels",
        "is open to anon and authenticated",
        "ALTER TABLE \"realtime\".\"messages\" ENABLE ROW LEVEL SECURITY",
    );

    // Our slot, made and free; then one that is somebody else's.
    db.batch_execute(&format!(
        "SELECT pg_create_logical_replication_slot('{slot}', 'wal2json')"
    ))
    .await
    .expect("a slot");
    let report = check(&cluster.settings(&name), |o| o.slot.clone_from(&slot)).await;
    expect(&report, Level::Ok, "slot", "is free", "");
    expect(&report, Level::Ok, "output plugin", "seen on the slot", "");
    let report = check(&cluster.settings("postgres"), |o| o.slot.clone_from(&slot)).await;
    expect(
        &report,
        Level::Failure,
        "slot",
        &format!("belongs to database {name}"),
        "pg_drop_replication_slot",
    );
    db.batch_execute(&format!("SELECT pg_drop_replication_slot('{slot}')"))
        .await
        .expect("a drop");
    assert_eq!(
        db.query(
            "SELECT 1 FROM pg_replication_slots WHERE slot_name LIKE 'rowcast_check_%'",
            &[]
        )
        .await
        .expect("slots")
        .len(),
        0
    );
}

#[tokio::test]
async fn every_missing_right_says_what_to_run() {
    let cluster = Cluster::shared();
    let (name, db) = cluster.database().await;
    db.batch_execute(
        "CREATE ROLE chk_app LOGIN; CREATE ROLE chk_reader; CREATE ROLE chk_known; GRANT chk_known TO chk_app;",
    )
    .await
    .expect("roles");
    let mut settings = cluster.settings(&name);
    settings.user = "chk_app".into();
    let report = check(&settings, |o| {
        o.roles = ["chk_reader", "chk_known", "chk_missing"]
            .map(str::to_owned)
            .to_vec();
        o.slot = "chk_none".into();
    })
    .await;
    assert_eq!(report.verdict(), Verdict::WouldNotServe);
    assert_eq!(report.verdict().exit_code(), 1);
    expect(
        &report,
        Level::Failure,
        "replication right",
        "chk_app",
        "ALTER ROLE \"chk_app\" REPLICATION;",
    );
    expect(&report, Level::Warning, "output plugin", "shows only once", "");
    expect(
        &report,
        Level::Warning,
        "role",
        "not a member of chk_reader",
        "GRANT \"chk_reader\" TO \"chk_app\";",
    );
    expect(
        &report,
        Level::Warning,
        "role",
        "chk_missing does not exist",
        "CREATE ROLE \"chk_missing\" NOLOGIN;",
    );
    expect(
        &report,
        Level::Failure,
        "publication",
        "does not exist",
        "CREATE PUBLICATION \"supabase_realtime\";",
    );
    db.batch_execute("CREATE PUBLICATION supabase_realtime WITH (publish = 'insert')")
        .await
        .expect("a publication");
    let report = check(&settings, |o| o.roles = vec!["chk_reader".into()]).await;
    expect(&report, Level::Failure, "role", "not a member", "GRANT");
    expect(
        &report,
        Level::Warning,
        "publication",
        "leaves out update and delete",
        "SET (publish =",
    );
    expect(&report, Level::Warning, "tables", "no tables", "ADD TABLE");
}

#[tokio::test]
async fn a_server_that_is_not_set_up() {
    let cluster = Cluster::start(|_| {
        [
            "wal_level=replica",
            "max_replication_slots=0",
            "max_slot_wal_keep_size=64MB",
        ]
        .map(str::to_owned)
        .to_vec()
    });
    drop(cluster.superuser("postgres").await);
    let report = check(&cluster.settings("postgres"), |_| {}).await;
    assert_eq!(report.verdict(), Verdict::WouldNotServe);
    expect(
        &report,
        Level::Failure,
        "wal_level",
        "is replica",
        "ALTER SYSTEM SET wal_level = logical;",
    );
    expect(
        &report,
        Level::Failure,
        "replication slots",
        "0 of 0 in use, none is free",
        "max_replication_slots = 4",
    );
    expect(
        &report,
        Level::Warning,
        "kept wal",
        "wal_budget is 1024 MB, and only half of max_slot_wal_keep_size, 32 MB",
        "max_slot_wal_keep_size = '2048MB'",
    );
    let report = check(&cluster.settings("postgres"), |options| {
        options.wal_budget = 32 << 20
    })
    .await;
    expect(&report, Level::Ok, "kept wal", "64 MB", "");

    let mut settings = cluster.settings("no_such");
    expect(
        &check(&settings, |_| {}).await,
        Level::Failure,
        "connection",
        "does not exist",
        "CREATE DATABASE \"no_such\";",
    );
    settings.port = 1;
    expect(
        &check(&settings, |_| {}).await,
        Level::Failure,
        "connection",
        "nothing answers",
        "pg_isready",
    );
}

#[tokio::test]
async fn a_missing_plugin_is_named_with_its_package() {
    let (name, _db) = Cluster::shared().database().await;
    let report = check(&Cluster::shared().settings(&name), |o| {
        o.plugins = vec!["wal3json".into()]
    })
    .await;
    expect(
        &report,
        Level::Failure,
        "output plugin",
        "wal3json is not installed",
        "apt-get install postgresql-1",
    );
}

#[tokio::test]
async fn without_wal2json_it_is_said_what_pgoutput_needs() {
    let cluster = Cluster::shared();
    let (name, db) = cluster.database().await;
    db.batch_execute(
        "CREATE TABLE mine (id int PRIMARY KEY, twice int GENERATED ALWAYS AS (id * 2) STORED);
         CREATE TABLE theirs (id int PRIMARY KEY);
         CREATE PUBLICATION supabase_realtime FOR TABLE mine, theirs",
    )
    .await
    .expect("tables");
    let app = format!("pgo_{name}");
    db.batch_execute(&format!(
        "CREATE ROLE \"{app}\" LOGIN REPLICATION; ALTER TABLE mine OWNER TO \"{app}\""
    ))
    .await
    .expect("a role");
    let mut settings = cluster.settings(&name);
    settings.user.clone_from(&app);
    let missing = |o: &mut CheckOptions| {
        o.slot = "chk_none".into();
        o.plugins = vec!["wal3json".into(), "pgoutput".into()];
    };
    let report = check(&settings, missing).await;
    expect(
        &report,
        Level::Ok,
        "output plugin",
        "wal3json cannot be used here, so it is pgoutput",
        "",
    );
    expect(
        &report,
        Level::Failure,
        "own publications",
        "may not create",
        &format!("GRANT CREATE ON DATABASE \"{name}\" TO \"{app}\";"),
    );
    expect(
        &report,
        Level::Warning,
        "tables",
        "public.theirs does not belong to",
        "ALTER PUBLICATION \"chk_none_stream\" ADD TABLE \"public\".\"theirs\";",
    );
    expect(&report, Level::Warning, "generated columns", "public.mine", "");
    assert!(
        !report
            .lines
            .iter()
            .any(|line| line.text.contains("public.mine does not belong"))
    );

    db.batch_execute(&format!(
        "GRANT CREATE ON DATABASE \"{name}\" TO \"{app}\"; CREATE PUBLICATION chk_none_stream FOR TABLE theirs"
    ))
    .await
    .expect("rights");
    let report = check(&settings, missing).await;
    expect(
        &report,
        Level::Ok,
        "own publications",
        "chk_none_stream is there",
        "",
    );
    assert!(
        !report
            .lines
            .iter()
            .any(|line| line.text.contains("does not belong")),
        "{}",
        report.render()
    );
}
