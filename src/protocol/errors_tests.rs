use std::collections::BTreeSet;

use super::*;
use crate::auth::TokenError;

/// Stands for `N` in the page, `K` and `X` for the other placeholders.
const N: i64 = 987_654_321;

fn tokens() -> [TokenError; 8] {
    [
        TokenError::Expired { seconds_ago: N },
        TokenError::ExpirationInvalid,
        TokenError::MissingClaims,
        TokenError::ClaimRejected {
            claim: "K".to_owned(),
        },
        TokenError::Malformed,
        TokenError::Signature,
        TokenError::Signer { kid: None },
        TokenError::Signer {
            kid: Some("K".to_owned()),
        },
    ]
}

fn connect_errors() -> Vec<ConnectError> {
    let own = [
        ConnectError::MissingToken,
        ConnectError::TooManyConnections,
        ConnectError::TooManyJoins,
        ConnectError::Restarting,
    ];
    tokens().map(ConnectError::Token).into_iter().chain(own).collect()
}

fn join_errors() -> Vec<JoinError> {
    let limit = usize::try_from(N).unwrap();
    let own = [
        JoinError::TopicNameRequired,
        JoinError::TopicNameTooLong { limit },
        JoinError::Unauthorized {
            sub_topic: "X".to_owned(),
        },
        JoinError::TooManyChannels,
        JoinError::TooManyJoins,
        JoinError::PayloadTooLarge { limit },
        JoinError::TooManyBindings { limit },
        JoinError::PrivateOnly,
        JoinError::ReplayPublic,
        JoinError::ReplayParams,
        JoinError::ReplayFailed,
        JoinError::Unavailable,
        JoinError::Canceled,
        JoinError::Busy,
        JoinError::Subscription("…".to_owned()),
        JoinError::SubscribeTimeout {
            ms: N.unsigned_abs().into(),
        },
        JoinError::Restarting,
    ];
    tokens().map(JoinError::Token).into_iter().chain(own).collect()
}

fn request_errors() -> Vec<RequestError> {
    vec![
        RequestError::Unauthenticated,
        RequestError::Denied,
        RequestError::TooManyRequests,
        RequestError::RateExceeded,
        RequestError::BatchTooLarge,
        RequestError::DatabaseBusy,
        RequestError::DatabaseUnavailable,
        RequestError::QueryCanceled,
        RequestError::MissingPartition,
        RequestError::MediaType,
        RequestError::NotJson,
        RequestError::Address,
        RequestError::BodyTooLarge {
            limit: usize::try_from(N).unwrap(),
        },
        RequestError::BodyMissing,
    ]
}

fn field_errors() -> Vec<FieldError> {
    let limit = usize::try_from(N).unwrap();
    vec![
        FieldError::Blank,
        FieldError::Invalid,
        FieldError::PayloadTooLarge,
        FieldError::TooLong { limit },
        FieldError::TooMany { limit },
        FieldError::OnlyPrivate,
    ]
}

fn notices() -> Vec<Notice> {
    let own = [
        Notice::Subscribed,
        Notice::SubscriptionFailed("…".to_owned()),
        Notice::StreamInterrupted,
        Notice::StreamLive,
        Notice::StreamReset("…".to_owned()),
        Notice::Live,
        Notice::Resumed,
        Notice::Resync("…".to_owned()),
        Notice::Snapshot {
            rows: N.unsigned_abs(),
        },
        Notice::SnapshotBegins { again: None },
        Notice::SnapshotBegins {
            again: Some("…".to_owned()),
        },
        Notice::TokenExpires { seconds: N },
        Notice::ReplicationReady,
        Notice::ReplicationLate,
        Notice::Unauthorized {
            sub_topic: "X".to_owned(),
        },
        Notice::Revoked {
            sub_topic: "X".to_owned(),
        },
        Notice::Unavailable,
        Notice::Canceled,
        Notice::TooManyMessages,
        Notice::TooManyPresences,
        Notice::TooManyTracks,
        Notice::TrackTooLarge,
        Notice::Disconnect,
    ];
    tokens().map(Notice::Token).into_iter().chain(own).collect()
}

/// Section of the page and the text of a row's first column.
fn in_code() -> BTreeSet<(&'static str, String)> {
    let mut all = BTreeSet::new();
    let mut add = |section, text: String| all.insert((section, text.replace(&N.to_string(), "N")));
    for error in connect_errors() {
        add("Connecting", format!("{} {error}", error.status()));
    }
    for error in join_errors() {
        add("Joining", format!("{}: {error}", error.code()));
    }
    for error in [
        PushError::UnmatchedTopic,
        PushError::BroadcastNotAMap,
        PushError::TrackNotAMap,
        PushError::Unauthorized {
            sub_topic: "X".to_owned(),
        },
        PushError::TooMany,
        PushError::Unavailable,
        PushError::Canceled,
        PushError::Busy,
    ] {
        add("Pushing", error.to_string());
    }
    for error in request_errors() {
        add("Broadcasting over HTTP", format!("{} {error}", error.status()));
    }
    for error in field_errors() {
        let status = RequestError::Invalid(Invalid::Field("payload", error)).status();
        add("Broadcasting over HTTP", format!("{status} {error}"));
    }
    for error in [
        RowsError::Unauthenticated,
        RowsError::Address,
        RowsError::NoTable,
        RowsError::Unknown("X".to_owned()),
        RowsError::Twice("X".to_owned()),
        RowsError::Refused("…".to_owned()),
        RowsError::Unavailable("…".to_owned()),
    ] {
        add("Reading rows over HTTP", format!("{} {error}", error.status()));
    }
    for notice in notices() {
        add("System messages", notice.to_string());
    }
    for close in Close::ALL {
        add("Close codes", format!("{} {}", close.code(), close.reason()));
    }
    all
}

fn in_page() -> BTreeSet<(&'static str, String)> {
    let page = include_str!("../../docs/ERRORS.md");
    let mut section = "";
    let mut all = BTreeSet::new();
    for line in page.lines() {
        if let Some(title) = line.strip_prefix("## ") {
            section = title;
        }
        if let Some((cell, _)) = line.strip_prefix("| `").and_then(|row| row.split_once("` |")) {
            assert!(
                line.split(" | ").count() == 3,
                "a row needs a text, a meaning and what to do: {line}"
            );
            all.insert((section, cell.trim_matches('`').trim().to_owned()));
        }
    }
    all
}

#[test]
fn the_page_lists_exactly_what_clients_can_see() {
    let (code, page) = (in_code(), in_page());
    let missing: Vec<_> = code.difference(&page).collect();
    let gone: Vec<_> = page.difference(&code).collect();
    assert!(
        missing.is_empty() && gone.is_empty(),
        "docs/ERRORS.md lacks {missing:#?}\nand explains what does not exist {gone:#?}"
    );
}

#[test]
fn errors_are_sent_as_clients_parse_them() {
    assert_eq!(
        ConnectError::Token(TokenError::MissingClaims).json(),
        r#"{"error":"Fields `role` and `exp` are required in JWT"}"#
    );
    assert_eq!(
        ConnectError::Token(TokenError::Expired { seconds_ago: 3 }).to_string(),
        "Token has expired"
    );
    assert_eq!(
        JoinError::Token(TokenError::Expired { seconds_ago: 3 }).response(),
        r#"{"reason":"InvalidJWTToken: Token has expired 3 seconds ago"}"#
    );
    assert_eq!(
        JoinError::TooManyChannels.response(),
        r#"{"reason":"ChannelRateLimitReached: Too many channels"}"#
    );
    assert_eq!(
        PushError::UnmatchedTopic.response(),
        r#"{"reason":"unmatched topic"}"#
    );
}

#[test]
fn refused_requests_have_the_bodies_that_clients_read() {
    assert_eq!(RequestError::Denied.json(), r#"{"message":"Unauthorized"}"#);
    assert_eq!(
        RequestError::MediaType.json(),
        r#"{"error":"Unsupported Media Type. Use application/json or application/octet-stream"}"#
    );
    let field = RequestError::Invalid(Invalid::Field("payload", FieldError::PayloadTooLarge));
    assert_eq!(
        field.json(),
        r#"{"errors":{"payload":["Payload size exceeds tenant limit"]}}"#
    );
    let messages = Invalid::Messages(vec![Vec::new(), vec![("topic", FieldError::Blank)]]);
    assert_eq!(
        RequestError::Invalid(messages).json(),
        r#"{"errors":{"messages":[{},{"topic":["can't be blank"]}]}}"#
    );
}

#[test]
fn close_reasons_fit_a_close_frame() {
    for close in Close::ALL {
        assert!(close.reason().len() <= 123, "RFC 6455, section 5.5");
    }
}
