use super::cluster::Cluster;
use super::follower::{Follower, settings};
use crate::change::{Event, StreamState};
use crate::secret::Secret;

#[tokio::test]
async fn each_thing_that_is_missing_is_named_with_its_remedy() {
    let cluster = Cluster::start("max_replication_slots = 2");
    let client = cluster.client().await;
    client
        .batch_execute(
            "create role plain login;
             select pg_create_physical_replication_slot('physical');",
        )
        .await
        .unwrap();
    client.batch_execute("create database other").await.unwrap();
    let why = |change: Box<dyn FnOnce(&mut crate::replication::Settings)>| {
        let mut settings = settings(&cluster);
        change(&mut settings);
        async move {
            let mut follower = Follower::start(settings, &[]);
            let why = follower.interruption().await;
            follower.stop().await;
            why
        }
    };
    let text = why(Box::new(|s| s.slot.plugins = vec!["no_such_plugin".to_owned()])).await;
    assert!(
        text.contains("no_such_plugin is not installed") && text.contains("postgresql-15-"),
        "{text}"
    );
    let text = why(Box::new(|s| s.connect.user = "plain".to_owned())).await;
    assert!(text.contains("ALTER ROLE \"plain\" REPLICATION"), "{text}");
    let text = why(Box::new(|s| s.connect.user = "nobody".to_owned())).await;
    assert!(text.contains("login was refused"), "{text}");
    let text = why(Box::new(|s| s.connect.database = "nowhere".to_owned())).await;
    assert!(text.contains("\"nowhere\" does not exist"), "{text}");
    let text = why(Box::new(|s| s.slot.name = "No Name".to_owned())).await;
    assert!(text.contains("is not a slot name"), "{text}");
    let text = why(Box::new(|s| s.slot.name = "physical".to_owned())).await;
    assert!(text.contains("belongs to physical replication"), "{text}");
    let text = why(Box::new(|s| s.connect.port = 1)).await;
    assert!(text.contains("nothing answers at 127.0.0.1:1"), "{text}");
    let text = why(Box::new(|s| s.connect.host = "/nowhere".to_owned())).await;
    assert!(text.contains("/nowhere/.s.PGSQL."), "{text}");
    let text = why(Box::new(|s| {
        s.connect.ssl_mode = crate::postgres::SslMode::Require
    }))
    .await;
    assert!(text.contains("offers none"), "{text}");

    client
        .batch_execute("select pg_create_logical_replication_slot('taken', 'test_decoding')")
        .await
        .unwrap();
    let text = why(Box::new(|s| s.slot.name = "taken".to_owned())).await;
    assert!(text.contains("output plugin test_decoding"), "{text}");
    let text = why(Box::new(|_| {})).await;
    assert!(text.contains("raise max_replication_slots"), "{text}");
    let text = why(Box::new(|s| {
        s.connect.database = "other".to_owned();
        s.slot.name = "taken".to_owned();
        s.slot.plugins = vec!["test_decoding".to_owned()];
    }))
    .await;
    assert!(text.contains("database postgres"), "{text}");
}

/// Minor releases since late 2026 use only plugins that a superuser has listed.
#[tokio::test]
async fn a_plugin_that_is_not_allowed_is_named() {
    let cluster = Cluster::start("");
    let client = cluster.client().await;
    let trust = "alter system set output_plugin_libraries = pgoutput";
    if client.batch_execute(trust).await.is_err() {
        return;
    }
    client
        .batch_execute("create role plain login replication")
        .await
        .unwrap();
    client.batch_execute("select pg_reload_conf()").await.unwrap();
    // Whichever role asks, and whether the reload has arrived or not: it does sooner or later.
    for user in ["plain", "postgres"] {
        let mut settings = settings(&cluster);
        settings.connect.user = user.to_owned();
        settings.slot.name = format!("slot_{user}");
        let mut follower = Follower::start(settings, &[]);
        let why = loop {
            match follower.next().await {
                Event::Stream(StreamState::Interrupted(why)) => break why,
                _ => client
                    .batch_execute("select pg_terminate_backend(pid) from pg_stat_replication")
                    .await
                    .unwrap(),
            }
        };
        if !why.contains("57P01") {
            assert!(
                why.contains("output_plugin_libraries = pgoutput, test_decoding, wal2json"),
                "{why}"
            );
        }
        follower.stop().await;
    }
}

#[tokio::test]
async fn logical_decoding_that_is_off_is_named() {
    let cluster = Cluster::start("wal_level = replica");
    let mut follower = Follower::start(settings(&cluster), &[]);
    let why = follower.interruption().await;
    assert!(why.contains("ALTER SYSTEM SET wal_level = logical"), "{why}");
    follower.stop().await;
}

#[tokio::test]
async fn no_walsender_left_is_named_and_waited_out() {
    let cluster = Cluster::start("max_wal_senders = 1");
    let mut first = Follower::start(settings(&cluster), &[]);
    first.until_live().await;
    let mut second = settings(&cluster);
    second.slot.name = "second".to_owned();
    let mut second = Follower::start(second, &[]);
    let why = second.interruption().await;
    assert!(why.contains("raise max_wal_senders"), "{why}");
    first.stop().await;
    second.until_live().await;
    second.stop().await;
}

#[tokio::test]
async fn a_slot_in_use_is_waited_for_and_taken_only_if_allowed() {
    let cluster = Cluster::start("");
    let mut first = Follower::start(settings(&cluster), &[]);
    first.until_live().await;
    let client = cluster.client().await;
    let pid: i32 = client
        .query_one("select active_pid from pg_replication_slots", &[])
        .await
        .unwrap()
        .get(0);
    let mut second = Follower::start(settings(&cluster), &[]);
    let why = second.interruption().await;
    assert!(why.contains(&format!("in use by process {pid}")), "{why}");
    first.stop().await;
    second.until_live().await;

    let mut third = settings(&cluster);
    third.slot.take_over = true;
    let mut third = Follower::start(third, &[]);
    third.until_live().await;
    let why = second.interruption().await;
    assert!(why.contains("57P01"), "{why}");
    second.stop().await;
    third.stop().await;
}

/// Drops the slot if it is there, and whoever is reading from it, as often as a reader comes back first.
async fn drop_slot(client: &tokio_postgres::Client) {
    let gone = "select pg_terminate_backend(active_pid, 10000) from pg_replication_slots where active_pid is not null";
    let drop = "select pg_drop_replication_slot(slot_name) from pg_replication_slots";
    client.batch_execute(gone).await.unwrap();
    while client.batch_execute(drop).await.is_err() {
        client.batch_execute(gone).await.unwrap();
    }
}

#[tokio::test]
async fn a_dropped_slot_is_not_made_again_in_silence() {
    let (cluster, client) = Cluster::with_table("").await;
    for recreate in [false, true] {
        let mut settings = settings(&cluster);
        settings.slot.recreate_lost = recreate;
        let mut follower = Follower::start(settings, &["t"]);
        follower.until_live().await;
        client.batch_execute("insert into t values (1)").await.unwrap();
        follower.ids(1).await;
        drop_slot(&client).await;
        client.batch_execute("insert into t values (2)").await.unwrap();
        if recreate {
            follower
                .until(|event| matches!(event, Event::Stream(StreamState::Reset(why)) if why.contains("was dropped")))
                .await;
            follower.until_live().await;
            client.batch_execute("insert into t values (3)").await.unwrap();
            assert_eq!(follower.ids(3).await.last(), Some(&3));
        } else {
            while !follower.interruption().await.contains("was dropped") {}
        }
        follower.stop().await;
        client.batch_execute("truncate t").await.unwrap();
        drop_slot(&client).await;
    }
}

#[tokio::test]
async fn a_lost_slot_is_not_made_again_in_silence() {
    let (cluster, client) =
        Cluster::with_table("max_slot_wal_keep_size = 1MB\nmax_wal_size = 32MB\nmin_wal_size = 32MB").await;
    let mut first = Follower::start(settings(&cluster), &["t"]);
    first.until_live().await;
    first.stop().await;
    let status = "select wal_status from pg_replication_slots";
    while client.query_one(status, &[]).await.unwrap().get::<_, String>(0) != "lost" {
        client
            .batch_execute("select pg_logical_emit_message(false, 'fill', repeat('x', 1000000)) from generate_series(1, 20); select pg_switch_wal(); checkpoint")
            .await
            .unwrap();
    }
    let mut follower = Follower::start(settings(&cluster), &["t"]);
    let why = follower.interruption().await;
    assert!(
        why.contains("is lost") && why.contains("pg_drop_replication_slot('rowcast')"),
        "{why}"
    );
    follower.stop().await;
    let mut settings = settings(&cluster);
    settings.slot.recreate_lost = true;
    let mut follower = Follower::start(settings, &["t"]);
    follower
        .until(|event| matches!(event, Event::Stream(StreamState::Reset(why)) if why.contains("was lost")))
        .await;
    follower.until_live().await;
    client.batch_execute("insert into t values (1)").await.unwrap();
    assert_eq!(follower.ids(1).await, [1]);
    follower.stop().await;
}

#[tokio::test]
async fn a_slot_advanced_by_somebody_else_is_a_reset() {
    let (cluster, client) = Cluster::with_table("").await;
    let mut follower = Follower::start(settings(&cluster), &["t"]);
    follower.until_live().await;
    // Whether the stream comes back before the slot is advanced is a race; it is run until advancing wins.
    let told = |event: &Event| matches!(event, Event::Stream(StreamState::Reset(why)) if why.contains("somebody else"));
    loop {
        for sql in [
            "select pg_terminate_backend(active_pid, 10000) from pg_replication_slots where active_pid is not null",
            "insert into t select coalesce(max(id), 0) + 1 from t",
        ] {
            client.batch_execute(sql).await.unwrap();
        }
        let advance = "select pg_replication_slot_advance('rowcast', pg_current_wal_flush_lsn())";
        if client.batch_execute(advance).await.is_ok() {
            follower.until(told).await;
            break;
        }
    }
    follower.stop().await;
}

#[tokio::test]
async fn passwords_of_both_kinds_log_in() {
    let cluster = Cluster::start("");
    let client = cluster.client().await;
    client
        .batch_execute(
            "set password_encryption = 'scram-sha-256'; create role scram login replication password 'pä ss';
             set password_encryption = 'md5'; create role md5 login replication password 'pä ss';
             create role clear login replication password 'pä ss'",
        )
        .await
        .unwrap();
    let hba = "host all scram all scram-sha-256\nhost all md5 all md5\nhost all clear all password\nhost all all all trust\n";
    std::fs::write(cluster.data().join("pg_hba.conf"), hba).unwrap();
    client.batch_execute("select pg_reload_conf()").await.unwrap();
    for user in ["scram", "md5", "clear"] {
        for (password, good) in [("pä ss", true), ("wrong", false), ("", false)] {
            let mut settings = settings(&cluster);
            settings.slot.name = user.to_owned();
            settings.connect.user = user.to_owned();
            settings.connect.password = Secret::new(password);
            let mut follower = Follower::start(settings, &[]);
            if good {
                follower.until_live().await;
            } else {
                let why = follower.interruption().await;
                assert!(
                    why.contains("login was refused") && !why.contains("wrong"),
                    "{why}"
                );
            }
            follower.stop().await;
        }
    }
}
