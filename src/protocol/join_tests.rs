use proptest::prelude::*;

use super::*;
use crate::protocol::EventFilter;

fn parse(payload: &str) -> JoinConfig {
    JoinConfig::parse("room", &RawValue::from_string(payload.to_owned()).unwrap())
}

#[test]
fn what_supabase_js_sends_is_understood() {
    let config = parse(
        r#"{"config":{"broadcast":{"ack":true,"self":"TRUE"},"presence":{"key":"me","enabled":true},
        "postgres_changes":[{"event":"INSERT","schema":"public","table":"a"},null],"private":false},
        "access_token":"jwt"}"#,
    );
    assert!(config.broadcast.ack && config.broadcast.own && config.presence.enabled);
    assert_eq!(config.presence.key.as_deref(), Some("me"));
    assert!(!config.private && !config.legacy && config.wait.is_none());
    assert_eq!(config.bindings.len(), 1);
    assert_eq!(config.bindings[0].event, EventFilter::Insert);
    assert_eq!(config.token.as_deref(), Some("jwt"));
    assert_eq!(
        config.response(),
        format!(
            r#"{{"postgres_changes":[{{"event":"INSERT","schema":"public","table":"a","id":{}}}]}}"#,
            config.bindings[0].id
        )
    );
}

#[test]
fn a_channel_may_be_there_for_its_rows_alone() {
    let off = |config: &str| {
        parse(&format!(r#"{{"config":{{"broadcast":{config}}}}}"#))
            .broadcast
            .off
    };
    assert!(off(r#"{"enabled":false}"#));
    for on in [
        "{}",
        r#"{"enabled":true}"#,
        r#"{"enabled":null}"#,
        r#"{"enabled":"false"}"#,
    ] {
        assert!(!off(on), "{on}");
    }
}

#[test]
fn the_array_is_there_even_when_empty() {
    for payload in [
        r#"{"config":{}}"#,
        r#"{"config":{"postgres_changes":null}}"#,
        r#"{"config":7}"#,
        r#"{"config":{"postgres_changes":"x"}}"#,
    ] {
        assert_eq!(
            parse(payload).response(),
            r#"{"postgres_changes":[]}"#,
            "{payload}"
        );
    }
}

#[test]
fn without_config_the_topic_is_the_subscription() {
    let config = parse(r#"{"user_token":"jwt"}"#);
    assert!(config.legacy);
    assert_eq!(config.bindings[0].schema.as_deref(), Some("room"));
    assert_eq!(config.response(), "{}");
}

#[test]
fn the_castable_parts_are_kept() {
    let config =
        parse(r#"{"config":{"broadcast":[],"presence":{"key":5,"enabled":"yes"},"private":"True"}}"#);
    assert!(config.private && !config.presence.enabled);
    assert_eq!(config.presence.key.as_deref(), Some("5"));
}

#[test]
fn waiting_is_opt_in_with_an_optional_timeout() {
    let of = |options: &str| {
        parse(&format!(
            r#"{{"config":{{"postgres_changes_options":{options}}}}}"#
        ))
        .wait
    };
    assert_eq!(
        of(r#"{"wait":true,"timeout":2500}"#),
        Some(Wait {
            timeout_ms: Some(2500)
        })
    );
    assert_eq!(
        of(r#"{"wait":true,"timeout":"x"}"#),
        Some(Wait { timeout_ms: None })
    );
    assert_eq!(of(r#"{"timeout":2500}"#), None);
}

#[test]
fn the_token_that_counts() {
    let of = |payload: &str| parse(payload).token;
    assert_eq!(of("{}"), None);
    assert_eq!(of(r#"{"access_token":"a"}"#).as_deref(), Some("a"));
    assert_eq!(of(r#"{"user_token":"u"}"#).as_deref(), Some("u"));
    assert_eq!(
        of(r#"{"access_token":"a","user_token":"u"}"#).as_deref(),
        Some("u")
    );
    assert_eq!(of(r#"{"access_token":null,"user_token":"sb_x"}"#), None);
    assert_eq!(of(r#"{"access_token":"sb_publishable","user_token":"u"}"#), None);
    assert_eq!(of(r#"{"access_token":7}"#), None);
}

#[test]
fn access_token_events_ignore_null_and_api_keys() {
    let of = |payload: &str| access_token(&RawValue::from_string(payload.to_owned()).unwrap());
    assert_eq!(of(r#"{"access_token":"jwt"}"#).as_deref(), Some("jwt"));
    for ignored in [
        r#"{"access_token":null}"#,
        r#"{"access_token":"sb_x"}"#,
        "{}",
        "[]",
        r#"{"access_token":1}"#,
    ] {
        assert_eq!(of(ignored), None, "{ignored}");
    }
}

proptest! {
    #[test]
    fn any_payload_gives_a_config_and_a_json_reply(
        text in r#"[\[\]{}":,a-z0-9 ]{0,60}"#,
        key in "config|broadcast|presence|postgres_changes|postgres_changes_options|access_token",
    ) {
        let value = serde_json::from_str::<serde_json::Value>(&text).unwrap_or(serde_json::Value::String(text));
        let direct = parse(&serde_json::json!({ key.clone(): value.clone() }).to_string());
        let nested = parse(&serde_json::json!({ "config": { key: [value] } }).to_string());
        for config in [direct, nested] {
            prop_assert!(serde_json::from_str::<serde_json::Value>(&config.response()).is_ok());
        }
    }
}
