//! Other tokens, and rights that change.

use super::*;

#[test]
fn who_is_present_stays_so_by_the_rights_of_the_last_token() {
    let (mut client, _) = joined(json!({"presence": {"enabled": true}}), Rights::READ);
    let effects = client.presence(TOPIC, &json!({"event": "track", "payload": {}}));
    answer(&mut client, &effects, Rights::WRITE_PRESENCE);
    client.frames();
    let mut asked = Vec::new();
    for token in ["one", "two"] {
        let effects = client.send(json!(["1", "2", TOPIC, "access_token", { "access_token": token }]));
        asked = client
            .session
            .verified(ticket(&effects), Ok(claims(token)), client.now);
        let (_, _, wanted) = question(&asked);
        assert_eq!(wanted, Rights::READ | Rights::WRITE_PRESENCE);
    }
    answer(&mut client, &asked, Rights::READ);
    let frames = client.frames();
    assert_eq!(frames.len(), 1, "{frames:?}");
    assert!(frames[0][4]["leaves"]["made-up"].is_object(), "{frames:?}");
}

#[test]
fn a_new_token_judges_reading_anew_and_writing_when_it_is_wanted() {
    let (mut client, _) = joined(json!({}), Rights::READ_BROADCAST);
    let effects = client.broadcast(TOPIC, &said());
    answer(&mut client, &effects, Rights::WRITE_BROADCAST);
    client.frames();
    let effects = client.send(json!(["1", "2", TOPIC, "access_token", {"access_token": "other"}]));
    let effects = client
        .session
        .verified(ticket(&effects), Ok(claims("other")), client.now);
    let (_, seeker, wanted) = question(&effects);
    assert_eq!((wanted, &*seeker.claims.role), (Rights::READ_BROADCAST, "other"));
    // Said while the new rights are asked for: waits for them.
    assert!(client.broadcast(TOPIC, &said()).is_empty());
    let effects = answer(&mut client, &effects, Rights::READ_BROADCAST);
    let (_, _, wanted) = question(&effects);
    assert_eq!(wanted, Rights::WRITE_BROADCAST);
    answer(&mut client, &effects, Rights::NONE);
    assert_eq!(client.frames(), [denied()]);
}

#[test]
fn what_is_said_behind_a_new_token_waits_for_it() {
    let (mut client, _) = joined(json!({}), Rights::READ_BROADCAST);
    let effects = client.broadcast(TOPIC, &said());
    answer(&mut client, &effects, Rights::WRITE_BROADCAST);
    client.frames();
    let verifying = client.send(json!(["1", "2", TOPIC, "access_token", {"access_token": "other"}]));
    assert!(client.broadcast(TOPIC, &said()).is_empty());
    assert_eq!(client.frames(), [] as [Value; 0]);
    let effects = client
        .session
        .verified(ticket(&verifying), Ok(claims("other")), client.now);
    let effects = answer(&mut client, &effects, Rights::READ_BROADCAST);
    answer(&mut client, &effects, Rights::NONE);
    assert_eq!(client.frames(), [denied()]);
}

#[test]
fn a_new_token_that_may_read_nothing_or_less_closes() {
    let refresh = |client: &mut Client| {
        let effects = client.send(json!(["1", "2", TOPIC, "access_token", {"access_token": "other"}]));
        client
            .session
            .verified(ticket(&effects), Ok(claims("other")), client.now)
    };
    let enabled = json!({"presence": {"enabled": true}});
    for (granted, message) in [
        (
            Rights::NONE,
            "You do not have permissions to read from this Channel topic: a",
        ),
        (
            Rights::READ_PRESENCE,
            "You no longer have permission to read from this Channel topic: a",
        ),
    ] {
        let (mut client, _) = joined(enabled.clone(), Rights::READ);
        client.frames();
        let effects = refresh(&mut client);
        let effects = answer(&mut client, &effects, granted);
        closes_with(&client, &effects, message);
    }
    for (error, message) in [
        (
            AuthorityError::Unavailable("gone".to_owned()),
            "Realtime was unable to connect to the project database",
        ),
        (AuthorityError::Canceled, "Query was cancelled, please try again"),
    ] {
        let (mut client, _) = joined(json!({}), Rights::READ_BROADCAST);
        let effects = refresh(&mut client);
        let (ticket, ..) = question(&effects);
        let effects = client.session.judged(ticket, Err(error), client.now);
        closes_with(&client, &effects, message);
    }
}

#[test]
fn what_the_policies_say_later_holds_at_once() {
    let enabled = json!({"presence": {"enabled": true}});
    let (mut client, id) = joined(enabled.clone(), Rights::READ_BROADCAST);
    client.frames();
    let effects = client.session.rights_changed(id, Rights::READ, client.now);
    assert!(matches!(effects[..], [Effect::FollowRights(_)]));
    assert_eq!(
        client.frames()[0][3],
        "presence_state",
        "more is heard from now on"
    );
    let effects = client
        .session
        .rights_changed(id, Rights::READ_BROADCAST, client.now);
    closes_with(
        &client,
        &effects,
        "You no longer have permission to read from this Channel topic: a",
    );
    let (mut client, id) = joined(enabled, Rights::READ);
    client.frames();
    let effects = client.session.rights_changed(id, Rights::NONE, client.now);
    closes_with(
        &client,
        &effects,
        "You do not have permissions to read from this Channel topic: a",
    );
}

#[test]
fn what_was_revoked_from_a_writer_is_refused_from_then_on() {
    let (mut client, id) = joined(json!({}), Rights::READ_BROADCAST);
    let effects = client.broadcast(TOPIC, &said());
    answer(&mut client, &effects, Rights::WRITE_BROADCAST);
    client.frames();
    client
        .session
        .rights_changed(id, Rights::READ_BROADCAST, client.now);
    assert!(client.broadcast(TOPIC, &said()).is_empty());
    assert_eq!(client.frames(), [denied()]);
}

#[test]
fn what_is_revoked_while_something_else_is_asked_counts() {
    let (mut client, id) = joined(json!({}), Rights::READ_BROADCAST);
    let asked = client.broadcast(TOPIC, &said());
    let effects = client.session.rights_changed(id, Rights::NONE, client.now);
    closes_with(
        &client,
        &effects,
        "You do not have permissions to read from this Channel topic: a",
    );
    assert!(answer(&mut client, &asked, Rights::WRITE_BROADCAST).is_empty());
}
