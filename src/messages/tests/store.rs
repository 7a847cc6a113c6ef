use super::*;

/// The events of what is replayed of the private topic `room`.
async fn replayed(messages: &Messages, since_ms: i64, limit: u32) -> Vec<String> {
    let stored = messages
        .replay("room", since_ms, limit, &Writers::default())
        .await
        .expect("rows");
    let event = |stored: &Stored| match &stored.content {
        Content::Json { event, .. } | Content::Binary { event, .. } => event.to_string(),
        Content::Envelope(text) => panic!("{text}"),
    };
    stored.iter().map(event).collect()
}

fn numbered(range: std::ops::RangeInclusive<u32>) -> Vec<String> {
    range.map(|n| n.to_string()).collect()
}

/// One transaction: calls in statements of their own and within one, and rows of all sizes, so that small ones find room in
/// pages before those of large ones.
const SENDS: &str = "
    BEGIN;
    SELECT realtime.send('{}', '1', 'room');
    SAVEPOINT s; SELECT realtime.send('{}', 'never', 'room'); ROLLBACK TO s;
    SELECT realtime.send_binary('\\x00', '2', 'room');
    SELECT realtime.send(jsonb_build_object('x', repeat('x', 10000)), n::text, 'room')
      FROM (SELECT n FROM generate_series(3, 40) n ORDER BY n) s;";
const ROWS: &str = "
    INSERT INTO realtime.messages (topic, extension, event, private, payload)
    SELECT 'room', 'broadcast', n::text, true,
           jsonb_build_object('x', (SELECT string_agg(md5(random()::text), '')
                                      FROM generate_series(1, CASE n % 7 WHEN 0 THEN 58 WHEN 3 THEN 45 ELSE n % 5 END)))
      FROM generate_series(41, 400) n;";

#[tokio::test]
async fn a_transactions_broadcasts_come_back_in_their_order() {
    let (messages, db) = installed().await;
    run(&db, &format!("{SENDS} {ROWS} COMMIT")).await;
    let by_place = "SELECT string_agg(event, ',' ORDER BY ctid) = string_agg(event, ',' ORDER BY seq) FROM realtime.messages";
    assert_eq!(
        text(&db, by_place).await.as_deref(),
        Some("false"),
        "the place is no order"
    );
    assert_eq!(replayed(&messages, 0, 1000).await, numbered(1..=400));
    assert_eq!(replayed(&messages, 0, 25).await, numbered(376..=400));
    // The next transaction's come behind, although there is room in front.
    run(&db, "DELETE FROM realtime.messages WHERE event::int < 300").await;
    run(&db, "VACUUM realtime.messages").await;
    run(
        &db,
        "SELECT realtime.send('{}', n::text, 'room') FROM generate_series(401, 410) n",
    )
    .await;
    assert_eq!(replayed(&messages, 0, 1000).await, numbered(300..=410));
}

#[tokio::test]
async fn no_more_is_replayed_than_a_connection_can_take() {
    let (messages, db) = installed().await;
    let send = "SELECT realtime.send(jsonb_build_object('x', repeat('x', 300000)), n::text, 'room') FROM generate_series(1, 9) n";
    run(&db, send).await;
    assert_eq!(replayed(&messages, 0, 25).await, numbered(7..=9), "a MiB of them");
    run(
        &db,
        "SELECT realtime.send_binary(decode(repeat('00', 2000000), 'hex'), '10', 'room')",
    )
    .await;
    assert_eq!(
        replayed(&messages, 0, 25).await,
        numbered(10..=10),
        "one fits in any case"
    );
}

#[tokio::test]
async fn what_has_been_said_and_cannot_be_seen_yet_is_waited_for() {
    let (messages, db) = installed().await;
    let (name, watching) = (
        text(&db, "current_database()").await.unwrap(),
        Session::new("watching"),
    );
    let watching = connect(&Cluster::shared().settings(&name), &watching)
        .await
        .unwrap();
    // As far as others can tell, this is a commit that has been written and is not seen.
    run(&db, "BEGIN; SELECT realtime.send('{}', '1', 'room')").await;
    let xid = text(&db, "pg_current_xact_id()::xid").await.unwrap();
    let writers = Writers::default();
    writers.note(xid.parse().unwrap());
    let replay = tokio::spawn({
        let writers = writers.clone();
        async move { messages.replay("room", 0, 25, &writers).await }
    });
    let waits =
        "SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%is_visible%' AND pid <> pg_backend_pid()
                    AND datname = current_database()";
    while text(&watching, waits).await.as_deref() == Some("0") {
        assert!(!replay.is_finished());
    }
    run(&db, "COMMIT").await;
    assert_eq!(replay.await.unwrap().expect("rows").len(), 1);
    assert_eq!(writers.open(), [] as [i64; 0], "it need not be waited for again");
}

#[tokio::test]
async fn so_do_those_of_a_table_that_others_made() {
    let (messages, db) = installed().await;
    run(
        &db,
        &format!("{THEIRS} CREATE TABLE realtime.m PARTITION OF realtime.messages DEFAULT"),
    )
    .await;
    run(&db, &format!("{SENDS} COMMIT")).await;
    assert_eq!(replayed(&messages, 0, 1000).await, numbered(1..=40));
    let refused = messages.persist(&keep("e", None)).await;
    assert!(
        matches!(&refused, Err(MessagesError::Unusable(why)) if why.contains("skip_broadcast")),
        "{refused:?}"
    );
}

#[tokio::test]
async fn only_broadcasts_of_the_topic_and_the_time_are_replayed() {
    let (messages, db) = installed().await;
    run(
        &db,
        r#"INSERT INTO realtime.messages (topic, extension, event, private, payload, binary_payload, inserted_at, expires_at)
           SELECT topic, extension, event, private, payload::jsonb, bytes, now() AT TIME ZONE 'UTC' + age::interval,
                  now() AT TIME ZONE 'UTC' + ends::interval
             FROM (VALUES
               ('room', 'broadcast', 'old',     true,  '{}',      NULL,            '-2 hours',   NULL),
               ('room', 'broadcast', 'json',    true,  '{"a": 1}', NULL,           '-2 minutes', '1 hour'),
               ('room', 'broadcast', 'bytes',   true,  NULL,      '\x00ff'::bytea, '-1 minute',  NULL),
               ('room', 'broadcast', 'soon',    true,  '[]',      NULL,            '30 seconds', NULL),
               ('room', 'broadcast', 'later',   true,  '{}',      NULL,            '2 minutes',  NULL),
               ('room', 'broadcast', 'expired', true,  '{}',      NULL,            '-1 minute',  '-1 second'),
               ('room', 'broadcast', 'public',  false, '{}',      NULL,            '-1 minute',  NULL),
               ('room', 'broadcast', 'empty',   true,  NULL,      NULL,            '-1 minute',  NULL),
               ('room', 'broadcast', NULL,      true,  '{}',      NULL,            '-1 minute',  NULL),
               ('room', 'presence',  'other',   true,  '{}',      NULL,            '-1 minute',  NULL),
               ('hall', 'broadcast', 'hall',    true,  '{}',      NULL,            '-1 minute',  NULL)
             ) AS rows(topic, extension, event, private, payload, bytes, age, ends)"#,
    )
    .await;
    let hour_ago = "extract(epoch FROM now() - interval '1 hour') * 1000";
    let since = text(&db, &format!("({hour_ago})::bigint")).await.expect("a time");
    let since = since.parse().expect("milliseconds");
    assert_eq!(replayed(&messages, since, 25).await, ["json", "bytes", "soon"]);
    assert_eq!(replayed(&messages, since, 2).await, ["bytes", "soon"]);
    assert_eq!(replayed(&messages, 0, 25).await, ["old", "json", "bytes", "soon"]);
    assert_eq!(replayed(&messages, i64::MIN, 1).await, ["soon"]);
    assert!(replayed(&messages, i64::MAX, 25).await.is_empty());
    assert!(replayed(&messages, since, 0).await.is_empty());
    let stored = messages
        .replay("room", since, 25, &Writers::default())
        .await
        .expect("rows");
    let meta = |stored: &Stored| Some(format!(r#"{{"replayed":true,"id":"{}"}}"#, stored.id).into());
    let expected = [
        Content::Json {
            event: "json".into(),
            payload: r#"{"a": 1}"#.into(),
            meta: meta(&stored[0]),
        },
        Content::Binary {
            event: "bytes".into(),
            payload: bytes::Bytes::from_static(&[0, 255]),
            meta: meta(&stored[1]),
        },
    ];
    assert_eq!(stored[0].content, expected[0]);
    assert_eq!(stored[1].content, expected[1]);
    let id = text(&db, "SELECT id FROM realtime.messages WHERE event = 'json'").await;
    assert_eq!(id, Some(stored[0].id.to_string()));
}

fn keep(event: &str, ttl: Option<u64>) -> Persist {
    Persist {
        topic: "room".into(),
        content: Content::Json {
            event: event.into(),
            payload: r#"{"a":1}"#.into(),
            meta: None,
        },
        ttl,
    }
}

#[tokio::test]
async fn what_is_kept_is_replayed_and_not_sent() {
    let (messages, db) = installed().await;
    let id = messages.persist(&keep("kept", None)).await.expect("a row");
    messages
        .persist(&keep("for an hour", Some(3600)))
        .await
        .expect("a row");
    messages
        .persist(&keep("for ever", Some(u64::MAX)))
        .await
        .expect("a row");
    messages.persist(&keep("gone", Some(0))).await.expect("a row");
    let relayed = |text: &str| Persist {
        content: Content::Envelope(text.into()),
        ..keep("", None)
    };
    let text_ = relayed(r#"{"type":"broadcast","event":"text","payload":[1]}"#);
    messages.persist(&text_).await.expect("a row");
    let bytes = Persist {
        content: Content::Binary {
            event: "bytes".into(),
            payload: bytes::Bytes::from_static(&[7]),
            meta: None,
        },
        ..keep("", None)
    };
    messages.persist(&bytes).await.expect("a row");
    let stored = messages
        .replay("room", 0, 25, &Writers::default())
        .await
        .expect("rows");
    assert_eq!(stored[0].id, id);
    assert!(matches!(&stored[3].content, Content::Json { payload, .. } if &**payload == "[1]"));
    assert_eq!(
        replayed(&messages, 0, 25).await,
        ["kept", "for an hour", "for ever", "text", "bytes"]
    );
    let all = "SELECT bool_and(skip_broadcast AND private AND extension = 'broadcast' AND topic = 'room'
                      AND abs(extract(epoch FROM inserted_at - now() AT TIME ZONE 'UTC')) < 600) FROM realtime.messages";
    assert_eq!(text(&db, all).await.as_deref(), Some("true"));
    let ends = "SELECT extract(epoch FROM expires_at - inserted_at)::int FROM realtime.messages WHERE event = 'for an hour'";
    assert_eq!(text(&db, ends).await.as_deref(), Some("3600"));
    let refused = messages.persist(&relayed(r#"{"type":"broadcast"}"#)).await;
    assert!(matches!(refused, Err(MessagesError::Refused(_))), "{refused:?}");
    let refused = messages
        .persist(&relayed(r#"{"event":"e","payload":"\u0000secret"}"#))
        .await;
    assert!(
        matches!(&refused, Err(MessagesError::Refused(why)) if !why.contains("secret")),
        "{refused:?}"
    );
}

#[tokio::test]
async fn trouble_has_its_kind() {
    let (messages, db) = installed().await;
    let database = text(&db, "SELECT current_database()").await.expect("a name");
    let hurried = super::messages(&database, Some(Duration::from_millis(50)));
    run(&db, "BEGIN; LOCK TABLE realtime.messages").await;
    assert_eq!(
        hurried.replay("room", 0, 1, &Writers::default()).await,
        Err(MessagesError::Canceled)
    );
    assert_eq!(
        hurried.persist(&keep("e", None)).await,
        Err(MessagesError::Canceled)
    );
    run(&db, "ROLLBACK").await;
    let drop = "DO $$ DECLARE p text; BEGIN
        FOR p IN SELECT inhrelid::regclass FROM pg_inherits WHERE inhparent = 'realtime.messages'::regclass LOOP
            EXECUTE 'DROP TABLE ' || p;
        END LOOP; END $$";
    run(&db, drop).await;
    assert_eq!(
        messages.persist(&keep("e", None)).await,
        Err(MessagesError::MissingPartition)
    );
    run(&db, "DROP TABLE realtime.messages").await;
    for result in [
        messages
            .replay("room", 0, 1, &Writers::default())
            .await
            .map(|_| ()),
        messages.persist(&keep("e", None)).await.map(|_| ()),
    ] {
        assert!(matches!(result, Err(MessagesError::Unusable(_))), "{result:?}");
    }
    let gone = super::messages("never_was", None)
        .replay("room", 0, 1, &Writers::default())
        .await;
    assert!(matches!(gone, Err(MessagesError::Unavailable(_))), "{gone:?}");
}
