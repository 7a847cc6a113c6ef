//! What members are told when something changes.

use futures_util::FutureExt;

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn who_leaves_is_told_and_nobody_else() {
    const ROOM: u64 = 1000;
    let rig = Rig::new(MEMBERS_READ).await;
    let sub = |n: u64| format!("a0000000-0000-4000-8000-{n:012}");
    rig.execute(&format!(
        "insert into members select 'one', ('a0000000-0000-4000-8000-' || lpad(n::text, 12, '0'))::uuid
           from generate_series(0, {}) n",
        ROOM - 1
    ))
    .await;
    let ids: Vec<SubscriberId> = (0..ROOM).map(|_| id()).collect();
    let joins = ids.iter().enumerate().map(|(n, id)| {
        let (rig, sub) = (&rig, sub(n as u64));
        async move { rig.join(*id, user(&sub, "one"), Rights::READ).await }
    });
    let all = futures_util::future::join_all(joins).await;
    assert!(all.into_iter().all(|rights| rights == Rights::READ));
    assert_eq!(rig.metrics.channel_members.get(), 1000);
    let judged = rig.metrics.channel_rejudgements.get();

    rig.execute(&format!("delete from members where person = '{}'", sub(7)))
        .await;
    assert_eq!(rig.told(ids[7]).await, Rights::NONE);
    for (n, id) in ids.iter().enumerate().filter(|(n, _)| *n != 7) {
        assert_eq!(rig.feed.rights_changed(*id).now_or_never(), None, "{n}");
    }
    assert_eq!(rig.metrics.channel_rejudgements.get() - judged, 2);
    assert_eq!(rig.metrics.channel_rights_changed.get(), 1);

    rig.execute(&format!("insert into members values ('one', '{}')", sub(7)))
        .await;
    assert_eq!(rig.told(ids[7]).await, Rights::READ);
    assert_eq!(rig.judge_calls(), 0);
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn policies_that_come_and_go_count_at_once() {
    let rig = Rig::new(MEMBERS_READ).await;
    rig.execute(&format!("insert into members values ('one', '{ALICE}')"))
        .await;
    let (alice, bob) = (id(), id());
    let asked = Rights::READ | Rights::WRITE_BROADCAST;
    assert_eq!(rig.join(alice, user(ALICE, "one"), asked).await, Rights::READ);
    assert_eq!(rig.join(bob, user(BOB, "one"), asked).await, Rights::NONE);

    rig.execute("create policy w on realtime.messages for insert with check (extension = 'broadcast')")
        .await;
    assert_eq!(rig.told(alice).await, asked);
    assert_eq!(rig.told(bob).await, Rights::WRITE_BROADCAST);
    rig.execute("drop policy r on realtime.messages").await;
    assert_eq!(rig.told(alice).await, Rights::WRITE_BROADCAST);
    rig.execute("revoke insert on realtime.messages from channel_user")
        .await;
    assert_eq!(rig.told(alice).await, Rights::NONE);
    assert_eq!(rig.told(bob).await, Rights::NONE);
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_policy_may_look_into_a_table_that_was_not_followed_before() {
    let rig =
        Rig::new("create table bans (person uuid primary key); grant select on bans to channel_user").await;
    let alice = id();
    assert_eq!(
        rig.join(alice, user(ALICE, "one"), Rights::READ).await,
        Rights::NONE
    );
    rig.execute(
        "create policy r on realtime.messages for select using (
             not exists (select from public.bans b where b.person = auth.uid()))",
    )
    .await;
    assert_eq!(rig.told(alice).await, Rights::READ);
    rig.execute(&format!("insert into bans values ('{ALICE}')")).await;
    assert_eq!(rig.told(alice).await, Rights::NONE);
    rig.execute("truncate bans").await;
    assert_eq!(rig.told(alice).await, Rights::READ);
    assert_eq!(rig.judge_calls(), 0);
    rig.stop().await;
}

/// Memory does not know what functions in other languages do.
const ONLY_POSTGRES: &str = "
    create table doors (room text primary key, open bool);
    insert into doors values ('one', true);
    create function may_enter() returns bool language plpgsql security definer set search_path = '' as
        'begin return (select open from public.doors where room = realtime.topic()); end';
    create policy r on realtime.messages for select using (may_enter());
    create policy w on realtime.messages for insert with check (may_enter() and extension = 'presence')";

#[tokio::test(flavor = "multi_thread")]
async fn what_only_postgres_can_say_is_asked_again_now_and_then() {
    let with = With {
        recheck: Duration::from_millis(320),
        ..With::default()
    };
    let rig = Rig::with(ONLY_POSTGRES, with).await;
    let (alice, bob) = (id(), id());
    let all = Rights::READ | Rights::WRITE_BROADCAST | Rights::WRITE_PRESENCE;
    let has = Rights::READ | Rights::WRITE_PRESENCE;
    assert_eq!(rig.join(alice, user(ALICE, "one"), all).await, has);
    assert_eq!(rig.join(bob, user(BOB, "two"), all).await, Rights::NONE);
    rig.execute("update doors set open = false").await;
    rig.told_at_last(alice, Rights::NONE).await;
    rig.execute("insert into doors values ('two', true)").await;
    rig.told_at_last(bob, has).await;
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_function_that_is_replaced_is_asked_again_at_once() {
    let rig = Rig::new(ONLY_POSTGRES).await;
    let alice = id();
    assert_eq!(
        rig.join(alice, user(ALICE, "one"), Rights::READ).await,
        Rights::READ
    );
    rig.execute(
        "create or replace function may_enter() returns bool language plpgsql as 'begin return false; end'",
    )
    .await;
    assert_eq!(rig.told(alice).await, Rights::NONE);
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn other_claims_take_the_place_of_those_before() {
    let rig = Rig::new(
        "create policy r on realtime.messages for select using (exists (
             select from public.members m where m.room = realtime.topic() and m.person = auth.uid()));
         create policy w on realtime.messages for insert with check (exists (
             select from public.members m where m.room = realtime.topic() and m.person = auth.uid() and m.writes))",
    )
    .await;
    rig.execute(&format!(
        "insert into members values ('one', '{ALICE}', true), ('one', '{BOB}', false)"
    ))
    .await;
    let member = id();
    assert_eq!(
        rig.join(member, user(ALICE, "one"), Rights::READ).await,
        Rights::READ
    );
    let writes = rig
        .join(member, user(ALICE, "one"), Rights::WRITE_BROADCAST)
        .await;
    assert_eq!(writes, Rights::WRITE_BROADCAST);
    assert_eq!(rig.feed.rights_changed(member).now_or_never(), None);
    // The new token may read as the old one could; that it may not write was not asked, and is told.
    assert_eq!(
        rig.join(member, user(BOB, "one"), Rights::READ).await,
        Rights::READ
    );
    assert_eq!(rig.told(member).await, Rights::READ);
    // Nothing of the old claims is left.
    rig.execute(&format!("delete from members where person = '{ALICE}'"))
        .await;
    rig.execute("update members set writes = true").await;
    assert_eq!(rig.told(member).await, Rights::READ | Rights::WRITE_BROADCAST);
    assert_eq!(rig.metrics.channel_members.get(), 1);
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_asks_once_more_does_not_take_the_place_of_who_asked_since() {
    let rig = Rig::new(MEMBERS_READ).await;
    rig.execute(&format!(
        "insert into members values ('one', '{ALICE}', true), ('one', '{BOB}', true)"
    ))
    .await;
    // Loads what the role may.
    assert_eq!(
        rig.ask(None, user(ALICE, "one"), Rights::READ).await,
        Ok(Rights::READ)
    );
    let member = id();
    let ask = async |sub, turn| {
        let seeker = Seeker {
            id: Some(member),
            claims: user(sub, "one"),
        };
        let deadline = Instant::now() + Duration::from_secs(8);
        let answer = rig.feed.authority.ask((seeker, turn), Rights::READ, deadline);
        answer.await.expect("an answer").rights
    };
    assert_eq!(ask(ALICE, 1).await, Rights::READ);
    assert_eq!(ask(BOB, 3).await, Rights::READ);
    assert_eq!(ask(ALICE, 2).await, Rights::READ, "it is answered all the same");
    rig.execute(&format!("delete from members where person = '{BOB}'"))
        .await;
    assert_eq!(rig.told(member).await, Rights::NONE, "it is Bob's place");
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_forgotten_is_told_nothing_and_leaves_nothing_behind() {
    let rig = Rig::new(MEMBERS_READ).await;
    rig.execute(&format!(
        "insert into members values ('one', '{ALICE}'), ('one', '{BOB}')"
    ))
    .await;
    let (alice, bob) = (id(), id());
    for (id, sub) in [(alice, ALICE), (bob, BOB)] {
        assert_eq!(rig.join(id, user(sub, "one"), Rights::READ).await, Rights::READ);
    }
    let feed = rig.feed.clone();
    let forgotten = feed.rights_changed(alice);
    tokio::pin!(forgotten);
    assert_eq!((&mut forgotten).now_or_never(), None);
    rig.feed.forget_rights(alice);
    // Orders are taken in turn, and changes beside them: what is answered behind it has it taken.
    assert_eq!(
        rig.ask(None, user(BOB, "one"), Rights::READ).await,
        Ok(Rights::READ)
    );
    rig.execute("delete from members").await;
    assert_eq!(rig.told(bob).await, Rights::NONE);
    assert_eq!(forgotten.now_or_never(), None);
    rig.feed.forget_rights(bob);
    rig.feed.forget_rights(bob);
    // A question that was overtaken.
    assert_eq!(rig.join(bob, user(BOB, "one"), Rights::READ).await, Rights::NONE);
    // In turn again.
    assert_eq!(
        rig.ask(None, user(BOB, "one"), Rights::READ).await,
        Ok(Rights::NONE)
    );
    assert_eq!(rig.metrics.channel_members.get(), 0);
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_loses_anything_by_a_database_that_is_away() {
    let with = With {
        recheck: Duration::from_millis(320),
        timeout: Duration::from_millis(500),
        ..With::default()
    };
    let rig = Rig::with(ONLY_POSTGRES, with).await;
    let alice = id();
    assert_eq!(
        rig.join(alice, user(ALICE, "one"), Rights::READ).await,
        Rights::READ
    );
    let (name, admin) = (rig.name.clone(), cluster().superuser("postgres").await);
    let terminate =
        format!("select pg_terminate_backend(pid) from pg_stat_activity where datname = '{name}'");
    let close = format!("alter database {name} allow_connections false");
    admin.batch_execute(&close).await.expect("a closed database");
    admin.batch_execute(&terminate).await.expect("no connections");
    let refused = rig.ask(Some(id()), user(BOB, "one"), Rights::READ).await;
    assert!(
        matches!(
            refused,
            Err(AuthorityError::Unavailable(_) | AuthorityError::Busy)
        ),
        "{refused:?}"
    );
    assert_eq!(rig.feed.rights_changed(alice).now_or_never(), None);
    let open = format!("alter database {name} allow_connections true");
    admin.batch_execute(&open).await.expect("an open database");
    let db = cluster().superuser(&name).await;
    db.batch_execute("update doors set open = false")
        .await
        .expect("a change");
    rig.told_at_last(alice, Rights::NONE).await;
    assert_eq!(rig.metrics.channel_members.get(), 1);
    rig.stop().await;
}
