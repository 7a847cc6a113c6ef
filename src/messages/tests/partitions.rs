use super::super::partitions::round;
use super::*;

const THREE_DAYS: Duration = Duration::from_secs(72 * 3600);

/// Names and bounds of the partitions, as offsets from today.
async fn days(db: &Connection) -> String {
    let sql = "SELECT string_agg(coalesce(to_date(substring(relname from '\\d{4}_\\d\\d_\\d\\d'), 'YYYY_MM_DD')
                          - (now() AT TIME ZONE 'UTC')::date, 99)::text, ' ' ORDER BY relname)
                 FROM pg_inherits JOIN pg_class ON pg_class.oid = inhrelid WHERE inhparent = 'realtime.messages'::regclass";
    text(db, sql).await.unwrap_or_default()
}

/// Makes the partition of the day that is this many days from today.
async fn make(db: &Connection, offset: i32) {
    run(
        db,
        &format!(
            "DO $$ DECLARE day date := (now() AT TIME ZONE 'UTC')::date + ({offset}); BEGIN
                 EXECUTE format('CREATE TABLE realtime.%I PARTITION OF realtime.messages FOR VALUES FROM (%L) TO (%L)',
                                'messages_' || to_char(day, 'YYYY_MM_DD'), day, day + 1); END $$"
        ),
    )
    .await;
}

async fn done(db: &mut Connection) -> (usize, usize) {
    let round = round(db, THREE_DAYS)
        .await
        .unwrap_or_else(|e| panic!("{}", e.chain()));
    let failures: Vec<String> = round
        .failures
        .iter()
        .map(crate::postgres::SqlError::chain)
        .collect();
    assert_eq!(failures, Vec::<String>::new());
    (round.added.len(), round.dropped.len())
}

#[tokio::test]
async fn days_are_made_ahead_and_dropped_behind() {
    let (_, mut db) = installed().await;
    assert_eq!(days(&db).await, "-1 0 1 2 3");
    assert_eq!(done(&mut db).await, (0, 0));
    run(
        &db,
        "DO $$ BEGIN EXECUTE 'DROP TABLE realtime.' || to_char(now() AT TIME ZONE 'UTC' + '2 days', '\"messages_\"YYYY_MM_DD'); END $$",
    )
    .await;
    for offset in [-3, -4, -5, -400, 30] {
        make(&db, offset).await;
    }
    assert_eq!(days(&db).await, "-400 -5 -4 -3 -1 0 1 3 30");
    // What began within the last 72 hours, or may have, stays.
    assert_eq!(done(&mut db).await, (1, 3));
    assert_eq!(days(&db).await, "-3 -1 0 1 2 3 30");
    assert_eq!(done(&mut db).await, (0, 0));
    // Without any retention, yesterday's is not made again each time.
    let round_ = round(&mut db, Duration::ZERO).await.expect("a round");
    assert_eq!((round_.added.len(), round_.dropped.len()), (0, 2));
    let round_ = round(&mut db, Duration::ZERO).await.expect("a round");
    assert_eq!((round_.added.len(), round_.dropped.len()), (0, 0));
    assert_eq!(days(&db).await, "0 1 2 3 30");
    round(&mut db, Duration::MAX).await.expect("a round");
    assert_eq!(days(&db).await, "-1 0 1 2 3 30");
    run(&db, "SELECT realtime.send('{}', 'e', 'room')").await;
    assert_eq!(
        text(&db, "SELECT count(*) FROM realtime.messages")
            .await
            .as_deref(),
        Some("1")
    );
}

#[tokio::test]
async fn only_what_is_a_day_is_dropped() {
    let (_, mut db) = installed().await;
    run(
        &db,
        "CREATE TABLE realtime.messages_2020_01_01 PARTITION OF realtime.messages FOR VALUES FROM ('2020-01-01') TO ('2020-02-01');
         CREATE TABLE realtime.old PARTITION OF realtime.messages FOR VALUES FROM ('2020-02-01') TO ('2020-02-02');
         CREATE TABLE realtime.messages_2020_13_45 PARTITION OF realtime.messages FOR VALUES FROM ('2020-02-03') TO ('2020-02-04');
         CREATE TABLE realtime.messages_2020_03_01 (id int);
         DO $$ DECLARE day date := (now() AT TIME ZONE 'UTC')::date + 2; BEGIN
             EXECUTE format('DROP TABLE realtime.%I', 'messages_' || to_char(day, 'YYYY_MM_DD'));
             EXECUTE format('CREATE TABLE realtime.wide PARTITION OF realtime.messages FOR VALUES FROM (%L) TO (%L)', day, day + 1);
         END $$",
    )
    .await;
    // The day that another one has room for is not missed.
    assert_eq!(done(&mut db).await, (0, 0));
    let kept = "SELECT count(*) FROM pg_class WHERE relname IN ('messages_2020_01_01', 'old', 'messages_2020_13_45', 'messages_2020_03_01')
                   AND relkind = 'r'";
    assert_eq!(text(&db, kept).await.as_deref(), Some("4"));
}

#[tokio::test]
async fn a_table_that_others_made_is_kept_as_its_owner() {
    let (_, mut db) = installed().await;
    // In an index, the owner's function runs when a partition is made, and tries to become who made it.
    run(
        &db,
        "DO $$ BEGIN CREATE ROLE messages_owner; EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL; END $$;
         GRANT CREATE, USAGE ON SCHEMA realtime TO messages_owner",
    )
    .await;
    run(&db, THEIRS).await;
    run(
        &db,
        "CREATE TABLE realtime.seen (who text, error text); GRANT INSERT ON realtime.seen TO messages_owner;
         ALTER TABLE realtime.messages OWNER TO messages_owner;
         ALTER DEFAULT PRIVILEGES FOR ROLE messages_owner IN SCHEMA realtime GRANT ALL ON TABLES TO PUBLIC, anon, service_role;
         SET ROLE messages_owner;
         CREATE FUNCTION realtime.note(error text) RETURNS void LANGUAGE sql AS 'INSERT INTO realtime.seen VALUES (current_user, error)';
         CREATE FUNCTION realtime.climb(int) RETURNS int LANGUAGE plpgsql IMMUTABLE AS $$
             BEGIN
                 BEGIN
                     PERFORM set_config('role', 'none', false);
                     PERFORM realtime.note(NULL);
                 EXCEPTION WHEN OTHERS THEN
                     PERFORM realtime.note(sqlerrm);
                 END;
                 RETURN 1;
             END $$;
         CREATE INDEX ON realtime.messages (topic) WHERE realtime.climb(1) = 1;
         RESET ROLE; TRUNCATE realtime.seen",
    )
    .await;
    assert_eq!(done(&mut db).await, (5, 0));
    assert_eq!(days(&db).await, "-1 0 1 2 3");
    assert_eq!(
        text(&db, "SELECT current_user").await.as_deref(),
        Some("postgres")
    );
    let climbed = "SELECT string_agg(DISTINCT who, ',') FROM realtime.seen";
    assert_eq!(text(&db, climbed).await.as_deref(), Some("messages_owner"));
    let refused = "SELECT bool_and(error LIKE 'cannot set parameter \"role\"%') FROM realtime.seen";
    assert_eq!(text(&db, refused).await.as_deref(), Some("true"));
    let owners = "SELECT string_agg(DISTINCT pg_get_userbyid(relowner), ',') FROM pg_class
                   WHERE oid IN (SELECT inhrelid FROM pg_inherits WHERE inhparent = 'realtime.messages'::regclass)";
    assert_eq!(text(&db, owners).await.as_deref(), Some("messages_owner"));
    // Whom row-level security binds has nothing on the partitions themselves.
    let open = |role: &str| {
        format!(
            "SELECT count(*) FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
              WHERE i.inhparent = 'realtime.messages'::regclass
                AND (has_table_privilege('{role}', c.oid, 'SELECT') OR has_table_privilege('{role}', c.oid, 'TRUNCATE')
                     OR NOT c.relrowsecurity)"
        )
    };
    assert_eq!(text(&db, &open("anon")).await.as_deref(), Some("0"));
    assert_eq!(text(&db, &open("service_role")).await.as_deref(), Some("5"));
    run(&db, "DROP INDEX realtime.messages_topic_idx").await;
    make(&db, -9).await;
    // A partition may have another owner than the table.
    assert_eq!(done(&mut db).await, (0, 1));
}

#[tokio::test]
async fn nobody_who_names_a_partition_sees_more() {
    let (_, db) = installed().await;
    run(&db, "SELECT realtime.send('{}', 'e', 'room')").await;
    let today = text(
        &db,
        "SELECT to_char(now() AT TIME ZONE 'UTC', '\"realtime.messages_\"YYYY_MM_DD')",
    )
    .await;
    let today = today.expect("a name");
    run(&db, &format!("GRANT SELECT ON {today} TO anon")).await;
    let count = |table: &str| format!("SELECT count(*) FROM {table}");
    run(&db, "SET ROLE anon").await;
    assert_eq!(text(&db, &count(&today)).await.as_deref(), Some("0"));
    assert_eq!(text(&db, &count("realtime.messages")).await.as_deref(), Some("0"));
    run(
        &db,
        "RESET ROLE; CREATE POLICY p ON realtime.messages FOR SELECT USING (true); SET ROLE anon",
    )
    .await;
    assert_eq!(text(&db, &count(&today)).await.as_deref(), Some("0"));
    assert_eq!(text(&db, &count("realtime.messages")).await.as_deref(), Some("1"));
}

#[tokio::test]
async fn who_writes_is_not_waited_for_and_does_not_wait() {
    let (_, mut db) = installed().await;
    let database = text(&db, "SELECT current_database()").await.expect("a name");
    make(&db, -9).await;
    run(
        &db,
        "DO $$ BEGIN EXECUTE 'DROP TABLE realtime.' || to_char(now() AT TIME ZONE 'UTC' + '3 days', '\"messages_\"YYYY_MM_DD'); END $$",
    )
    .await;
    let writer = Cluster::shared().superuser(&database).await;
    run(&writer, "BEGIN; SELECT realtime.send('{}', 'e', 'room')").await;
    // One is added beside the writer. To drop one, he would have to be waited for: that is left to the next time.
    let round_ = round(&mut db, THREE_DAYS).await.expect("a round");
    assert_eq!(
        (round_.added.len(), round_.dropped.len(), round_.failures.len()),
        (1, 0, 1)
    );
    run(&writer, "SELECT realtime.send('{}', 'e', 'room'); COMMIT").await;
    assert_eq!(done(&mut db).await, (0, 1));
}

#[tokio::test]
async fn what_is_not_partitioned_by_time_is_left_alone() {
    let (_, mut db) = installed().await;
    run(
        &db,
        "DROP TABLE realtime.messages; CREATE TABLE realtime.messages (id int)",
    )
    .await;
    assert_eq!(done(&mut db).await, (0, 0));
    run(&db, "DROP TABLE realtime.messages").await;
    assert_eq!(done(&mut db).await, (0, 0));
    run(
        &db,
        "CREATE TABLE realtime.messages (id int, inserted_at timestamp) PARTITION BY RANGE (id)",
    )
    .await;
    assert_eq!(done(&mut db).await, (0, 0));
}

#[tokio::test]
async fn an_older_table_of_ours_gets_its_columns() {
    let (messages, mut db) = installed().await;
    let comment = text(&db, "SELECT obj_description('realtime.messages'::regclass)").await;
    run(&db, THEIRS).await;
    run(
        &db,
        &format!(
            "COMMENT ON TABLE realtime.messages IS '{}'",
            comment.expect("a mark")
        ),
    )
    .await;
    make(&db, 0).await;
    run(
        &db,
        "SELECT realtime.send('{}', n::text, 'room') FROM generate_series(1, 3) n",
    )
    .await;
    install(&mut db, &InstallOptions::default())
        .await
        .unwrap_or_else(|e| panic!("{}", e.chain()));
    run(
        &db,
        "SELECT realtime.send('{}', n::text, 'room') FROM generate_series(4, 6) n",
    )
    .await;
    let stored = messages
        .replay("room", 0, 25, &Writers::default())
        .await
        .expect("rows");
    let events: Vec<&str> = stored
        .iter()
        .map(|stored| match &stored.content {
            Content::Json { event, .. } => &**event,
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(events, ["1", "2", "3", "4", "5", "6"]);
    let open = "SELECT count(*) FROM pg_inherits JOIN pg_class c ON c.oid = inhrelid
                 WHERE inhparent = 'realtime.messages'::regclass AND NOT relrowsecurity";
    assert_eq!(text(&db, open).await.as_deref(), Some("0"));
}
