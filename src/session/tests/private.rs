//! Private channels: what is asked, and what the answers do.

mod changing;
mod joining;
mod writing;

use super::*;
use crate::feed::AuthorityError;

const TOPIC: &str = "realtime:a";

fn said() -> Value {
    json!({"type": "broadcast", "event": "e", "payload": {}})
}

fn private(more: Value) -> Value {
    let mut config = json!({"private": true, "broadcast": {"ack": true}});
    let more = more.as_object().unwrap().clone();
    config.as_object_mut().unwrap().extend(more);
    config
}

/// A client whose join waits for an answer.
fn asking(config: Value) -> (Client, Vec<Effect>) {
    let mut client = Client::new();
    let effects = client.admit(TOPIC, "1", private(config));
    (client, effects)
}

/// A client with these rights to read, and the id of its channel.
fn joined(config: Value, granted: Rights) -> (Client, SubscriberId) {
    let (mut client, effects) = asking(config);
    let (ticket, seeker, _) = question(&effects);
    let effects = client.session.judged(ticket, Ok(granted), client.now);
    let id = seeker.id.unwrap();
    assert!(
        effects
            .iter()
            .any(|effect| matches!(effect, Effect::FollowRights(followed) if *followed == id)),
        "{effects:?}"
    );
    assert_eq!(client.frames()[0][4]["status"], "ok");
    (client, id)
}

fn answer(client: &mut Client, effects: &[Effect], granted: Rights) -> Vec<Effect> {
    let (ticket, ..) = question(effects);
    client.session.judged(ticket, Ok(granted), client.now)
}

fn reply(status: &str, response: Value) -> Value {
    json!(["1", "9", TOPIC, "phx_reply", {"status": status, "response": response}])
}

fn denied() -> Value {
    reply(
        "error",
        json!({"reason": "You do not have permissions to write to this Channel topic: a"}),
    )
}

fn closes_with(client: &Client, effects: &[Effect], message: &str) {
    assert_eq!(
        client.frames(),
        [
            system("1", TOPIC, "system", "error", message),
            phx_close("1", TOPIC)
        ]
    );
    assert!(
        effects
            .iter()
            .any(|effect| matches!(effect, Effect::ForgetRights(_))),
        "{effects:?}"
    );
}
