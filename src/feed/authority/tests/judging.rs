//! What is said to those who ask.

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn members_of_a_room_may_read_it_and_postgres_is_not_asked() {
    let rig = Rig::new(MEMBERS_READ).await;
    rig.execute(&format!("insert into members values ('one', '{ALICE}')"))
        .await;
    assert_eq!(
        rig.join(id(), user(ALICE, "one"), Rights::READ).await,
        Rights::READ
    );
    assert_eq!(
        rig.join(id(), user(ALICE, "two"), Rights::READ).await,
        Rights::NONE
    );
    assert_eq!(rig.join(id(), user(BOB, "one"), Rights::READ).await, Rights::NONE);
    // Nothing says who may send.
    let every = Rights::EACH
        .into_iter()
        .fold(Rights::NONE, |all, each| all | each);
    assert_eq!(rig.join(id(), user(ALICE, "one"), every).await, Rights::READ);
    assert_eq!(rig.judge_calls(), 0);
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_counts_for_whoever_asks_behind_it() {
    let rig = Rig::new(MEMBERS_READ).await;
    let alice = id();
    assert_eq!(
        rig.join(alice, user(ALICE, "one"), Rights::READ).await,
        Rights::NONE
    );
    for _ in 0..20 {
        rig.execute(&format!("insert into members values ('one', '{ALICE}')"))
            .await;
        let now = rig.ask(None, user(ALICE, "one"), Rights::READ).await;
        assert_eq!(now, Ok(Rights::READ));
        rig.execute("delete from members").await;
        // Whoever was let in just now is told.
        while rig.join(alice, user(ALICE, "one"), Rights::READ).await == Rights::READ {
            rig.told(alice).await;
        }
    }
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_right_is_judged_by_its_own_policies_and_extension() {
    let rig = Rig::new(
        "create policy rb on realtime.messages for select using (extension = 'broadcast' and topic = 'one');
         create policy rp on realtime.messages for select using (extension = 'presence' and realtime.topic() like 'o%');
         create policy wb on realtime.messages for insert with check (extension = 'broadcast' and private and id is not null);
         create policy wp on realtime.messages for insert with check
             (extension in ('presence', 'persistence') and inserted_at > now() - interval '1 minute' and payload is null
              and topic = 'over')",
    )
    .await;
    let every = Rights::EACH
        .into_iter()
        .fold(Rights::NONE, |all, each| all | each);
    let of = async |topic: &str| rig.join(id(), user(ALICE, topic), every).await;
    assert_eq!(of("one").await, Rights::READ | Rights::WRITE_BROADCAST);
    assert_eq!(
        of("over").await,
        Rights::READ_PRESENCE | Rights::WRITE_BROADCAST | Rights::WRITE_PRESENCE | Rights::PERSIST
    );
    assert_eq!(of("two").await, Rights::WRITE_BROADCAST);
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_privilege_policies_are_of_no_use() {
    let rig = Rig::new("create policy r on realtime.messages using (true) with check (true)").await;
    let all = Rights::READ | Rights::WRITE_BROADCAST;
    assert_eq!(rig.join(id(), user(ALICE, "one"), all).await, all);
    let stranger = claims("channel_stranger", ALICE, "one");
    assert_eq!(rig.join(id(), stranger, all).await, Rights::NONE);
    let nobody = claims("channel_nobody", ALICE, "one");
    assert_eq!(rig.join(id(), nobody, all).await, Rights::NONE);
    rig.execute("revoke insert on realtime.messages from channel_user")
        .await;
    rig.feed.keeper.refresh().await.expect("a catalog");
    assert_eq!(rig.join(id(), user(ALICE, "one"), all).await, Rights::READ);
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_policy_that_raises_says_no() {
    let rig = Rig::new(
        "create function broken() returns bool language plpgsql as 'begin return 1 / 0; end';
         create policy r on realtime.messages for select using (1 / length(topic) > 0);
         create policy w on realtime.messages for insert with check (broken())",
    )
    .await;
    let asked = Rights::READ | Rights::WRITE_BROADCAST;
    assert_eq!(rig.join(id(), user(ALICE, ""), asked).await, Rights::NONE);
    assert_eq!(rig.join(id(), user(ALICE, "a"), asked).await, Rights::READ);
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_policy_that_takes_too_long_is_not_an_answer() {
    let with = With {
        timeout: Duration::from_millis(400),
        ..With::default()
    };
    let slow = "create function slow() returns bool language plpgsql as
                    'begin perform pg_sleep(5); return true; end';
                create policy r on realtime.messages for select using (topic <> 'slow' or slow())";
    let rig = Rig::with(slow, with).await;
    let slow = id();
    let asked = rig.ask(Some(slow), user(ALICE, "slow"), Rights::READ).await;
    assert_eq!(asked, Err(AuthorityError::Canceled));
    assert_eq!(rig.metrics.channel_members.get(), 0);
    // And holds up nobody else.
    let (slow, quick) = tokio::join!(
        rig.ask(Some(slow), user(BOB, "slow"), Rights::READ),
        rig.ask(Some(id()), user(BOB, "quick"), Rights::READ)
    );
    assert_eq!(slow, Err(AuthorityError::Canceled));
    assert_eq!(quick, Ok(Rights::READ));
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn many_who_ask_at_once_share_calls() {
    let ask =
        "create function asked() returns bool language plpgsql as 'begin return auth.uid() is not null; end';
               create policy r on realtime.messages for select using (asked())";
    let rig = Rig::new(ask).await;
    let joins = (0..200).map(|n| {
        let sub = format!("a0000000-0000-4000-8000-{n:012}");
        let rig = &rig;
        async move { rig.join(id(), user(&sub, "one"), Rights::READ).await }
    });
    let all = futures_util::future::join_all(joins).await;
    assert!(all.into_iter().all(|rights| rights == Rights::READ));
    assert!(rig.judge_calls() <= 100, "{}", rig.judge_calls());
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_stream_everything_is_read_for_whoever_asks() {
    let with = With {
        streams: false,
        ..With::default()
    };
    let rig = Rig::with(MEMBERS_READ, with).await;
    let room = user(ALICE, "one");
    let (member, other) = (id(), id());
    for _ in 0..3 {
        rig.execute(&format!("insert into members values ('one', '{ALICE}')"))
            .await;
        assert_eq!(
            rig.join(member, Arc::clone(&room), Rights::READ).await,
            Rights::READ
        );
        rig.execute("delete from members").await;
        assert_eq!(
            rig.join(other, Arc::clone(&room), Rights::READ).await,
            Rights::NONE
        );
        // Which has been read for the other one, too.
        assert_eq!(rig.told(member).await, Rights::NONE);
    }
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_policy_made_a_moment_ago_counts_where_nothing_says_so() {
    let rig = Rig::new("drop event trigger rowcast_catalog_changed").await;
    rig.execute("create policy r on realtime.messages for select using (true)")
        .await;
    // The catalog is not read again while it is young.
    let joined = async { while rig.join(id(), user(ALICE, "one"), Rights::READ).await != Rights::READ {} };
    let joined = tokio::time::timeout(Duration::from_secs(30), joined).await;
    assert_eq!(joined, Ok(()));
    rig.stop().await;
}
