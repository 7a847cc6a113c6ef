use super::*;
use crate::feed::SubscribeError;

const TOPIC: &str = "realtime:a";

impl Client {
    fn refresh(&mut self, token: &str) -> Vec<Effect> {
        self.send(json!(["1", "9", TOPIC, "access_token", { "access_token": token }]))
    }

    fn verified(&mut self, effects: &[Effect], claims: Arc<Claims>) -> Vec<Effect> {
        self.session.verified(ticket(effects), Ok(claims), self.now)
    }
}

#[test]
fn a_join_may_bring_its_own_token() {
    let mut client = Client::new();
    let join = json!(["1", "1", TOPIC, "phx_join", {"config": {}, "access_token": "user"}]);
    assert!(matches!(&client.send(join)[..], [Effect::Verify { token, .. }] if &**token == "user"));
}

#[test]
fn an_absurdly_long_token_is_not_kept() {
    let mut client = Client::new();
    let join = json!(["1", "1", TOPIC, "phx_join", {"config": {}, "access_token": "x".repeat(20_000)}]);
    assert!(matches!(&client.send(join)[..], [Effect::Verify { token, .. }] if token.len() < 100));
}

#[test]
fn a_new_token_replaces_the_claims_and_subscribed_is_said_again() {
    let mut client = Client::new();
    let id = client.live(TOPIC, "1");
    let effects = client.refresh("new");
    let effects = client.verified(&effects, claims("other"));
    let [
        Effect::ReplaceClaims {
            id: of,
            claims,
            on_live,
        },
    ] = &effects[..]
    else {
        panic!("{effects:?}")
    };
    assert_eq!((*of, &*claims.role), (id, "other"));
    client.outbox.push(on_live[0].clone()).unwrap();
    client.session.claims_replaced(id, Ok(()), client.now);
    assert_eq!(client.frames(), [subscribed("1", TOPIC)]);
}

#[test]
fn tokens_that_change_nothing_are_ignored() {
    let mut client = Client::new();
    client.live(TOPIC, "1");
    for ignored in [json!(null), json!("sb_publishable"), json!("connect"), json!(7)] {
        let message = json!(["1", "9", TOPIC, "access_token", { "access_token": ignored }]);
        assert!(client.send(message).is_empty(), "{ignored}");
    }
    assert!(client.frames().is_empty());
}

#[test]
fn a_bad_new_token_ends_the_channel() {
    let mut client = Client::new();
    let id = client.live(TOPIC, "1");
    let effects = client.refresh("new");
    let effects = client
        .session
        .verified(ticket(&effects), Err(TokenError::Malformed), client.now);
    assert!(matches!(effects[..], [Effect::Unsubscribe(of)] if of == id));
    let text = "The token provided is not a valid JWT";
    assert_eq!(
        client.frames(),
        [system("1", TOPIC, "system", "error", text), phx_close("1", TOPIC)]
    );
}

#[test]
fn a_token_ends_exactly_at_its_expiry() {
    let limits = Limits {
        expiry_warning: Duration::ZERO,
        ..Limits::default()
    };
    let mut client = Client::with(limits, Version::V2);
    let id = client.live(TOPIC, "1");
    let left = Duration::from_secs((EXP - START).unsigned_abs());
    client.session.heard(Now {
        instant: client.now.instant + left,
        ..client.now
    });
    assert!(client.pass(left - Duration::from_secs(1)).is_empty());
    let wake = client.session.next_wake(client.now) - client.now.instant;
    assert_eq!(wake, Duration::from_secs(1));
    let effects = client.pass(wake);
    assert!(matches!(effects[..], [Effect::Unsubscribe(of)] if of == id));
    let text = "Token has expired 0 seconds ago";
    assert_eq!(
        client.frames(),
        [system("1", TOPIC, "system", "error", text), phx_close("1", TOPIC)]
    );
}

#[test]
fn a_long_lived_token_is_looked_at_now_and_then() {
    let mut client = Client::with(
        Limits {
            idle_timeout: Duration::from_secs(100_000),
            ..Limits::default()
        },
        Version::V2,
    );
    client.live(TOPIC, "1");
    let wake = client.session.next_wake(client.now) - client.now.instant;
    assert_eq!(wake, Duration::from_secs(300), "the wall clock may have been set");
}

#[test]
fn only_the_last_of_several_tokens_is_verified_next() {
    let mut client = Client::new();
    client.live(TOPIC, "1");
    let first = client.refresh("one");
    assert!(client.refresh("two").is_empty());
    assert!(client.refresh("three").is_empty());
    let effects = client.verified(&first, claims("a"));
    let [Effect::ReplaceClaims { id, .. }, Effect::Verify { token, .. }] = &effects[..] else {
        panic!("{effects:?}")
    };
    assert_eq!(&**token, "three");
    // Verified before the first replacement is through: the newest claims follow it.
    assert!(client.verified(&effects, claims("b")).is_empty());
    let effects = client.session.claims_replaced(*id, Ok(()), client.now);
    assert!(matches!(&effects[..], [Effect::ReplaceClaims { claims, .. }] if &*claims.role == "b"));
}

#[test]
fn a_token_that_comes_while_the_join_is_pending_is_in_force_afterwards() {
    let mut client = Client::new();
    let join = client.join(TOPIC, "1", one_binding());
    assert!(client.refresh("new").is_empty());
    let effects = client.verified(&join, claims("old"));
    let [Effect::Subscribe(request), Effect::Verify { .. }] = &effects[..] else {
        panic!("{effects:?}")
    };
    assert!(client.verified(&effects, claims("new")).is_empty());
    let effects = client.go_live(request);
    assert!(matches!(&effects[..], [Effect::ReplaceClaims { claims, .. }] if &*claims.role == "new"));
}

#[test]
fn a_bad_token_while_the_reply_waits_is_the_reply() {
    let mut client = Client::new();
    let request = request(client.admit(TOPIC, "1", one_binding()));
    let effects = client.refresh("new");
    client
        .session
        .verified(ticket(&effects), Err(TokenError::MissingClaims), client.now);
    let reason = "InvalidJWTToken: Fields `role` and `exp` are required in JWT";
    assert_eq!(client.frames(), [error_reply("1", TOPIC, reason)]);
    client.feed_sends(&request);
    assert!(client.frames().iter().all(|frame| frame[3] != "phx_reply"));
}

#[test]
fn a_refused_subscription_gets_another_chance_with_a_new_token() {
    let mut client = Client::new();
    let first = request(client.admit(TOPIC, "1", one_binding()));
    let refused = Err(SubscribeError::Refused("invalid column".to_owned()));
    client
        .session
        .subscribed(first.subscriber.id, refused, client.now);
    client.frames();
    let effects = client.refresh("new");
    let second = request(client.verified(&effects, claims("b")));
    assert_ne!(second.subscriber.id, first.subscriber.id);
    client.go_live(&second);
    assert_eq!(client.frames(), [subscribed("1", TOPIC)]);
}

#[test]
fn claims_that_cannot_be_replaced_end_the_subscription_only() {
    let mut client = Client::new();
    let id = client.live(TOPIC, "1");
    let effects = client.refresh("new");
    client.verified(&effects, claims("b"));
    let down = Err(SubscribeError::Unavailable("no database".to_owned()));
    client.session.claims_replaced(id, down, client.now);
    assert_eq!(
        client.frames(),
        [system("1", TOPIC, "postgres_changes", "error", "no database")]
    );
    let wake = client.session.next_wake(client.now) - client.now.instant;
    let again = request(client.pass(wake));
    assert_eq!(&*again.claims.role, "b");
}

#[test]
fn a_new_token_is_in_force_for_what_is_said_again() {
    let mut client = Client::new();
    let mut config = one_binding();
    config["since"] = json!("5-10");
    let request = request(client.admit(TOPIC, "1", config));
    let id = request.subscriber.id;
    for role in ["one", "two"] {
        let effects = client.refresh(role);
        let effects = client.verified(&effects, claims(role));
        assert!(
            matches!(&effects[..], [Effect::NewerClaims { id: of, newer }]
                if *of == id && newer.get().is_some_and(|claims| &*claims.role == role)),
            "{effects:?}"
        );
    }
    let effects = client.go_live(&request);
    assert!(
        matches!(&effects[..], [Effect::ReplaceClaims { claims, .. }] if &*claims.role == "two"),
        "said once more, when it is live"
    );
    client.session.claims_replaced(id, Ok(()), client.now);
    let effects = client.refresh("three");
    let effects = client.verified(&effects, claims("three"));
    assert!(
        matches!(&effects[..], [Effect::ReplaceClaims { .. }]),
        "it is live"
    );
}

#[test]
fn a_new_token_that_does_not_go_with_what_is_said_again_is_asked_anew() {
    let mut client = Client::new();
    let mut config = one_binding();
    config["since"] = json!("5-10");
    let first = request(client.admit(TOPIC, "1", config));
    let effects = client.refresh("new");
    client.verified(&effects, claims("other"));
    let ended = Err(SubscribeError::Unavailable("the server is stopping".to_owned()));
    let effects = client.session.subscribed(first.subscriber.id, ended, client.now);
    let again = request(effects);
    assert_ne!(again.subscriber.id, first.subscriber.id);
    assert_eq!(&*again.claims.role, "other");
    assert_eq!(again.since, first.since, "from where it began");
}
