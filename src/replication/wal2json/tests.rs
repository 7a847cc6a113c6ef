use std::sync::Arc;

use proptest::prelude::*;

use super::{DecodeError, Decoder};
use crate::change::{Action, Change, Lsn, TableName, Transaction, Value};
use crate::replication::Message;

fn change(decoder: &mut Decoder, json: &str) -> Change {
    match decoder.decode(json.as_bytes()) {
        Ok(Message::Change(change)) => change,
        other => panic!("{other:?}"),
    }
}

fn insert(columns: &str) -> String {
    format!(
        r#"{{"action":"I","xid":9,"timestamp":"2026-11-22 06:24:47+00","lsn":"0/15E1DC0","schema":"public","table":"t","columns":[{columns}]}}"#
    )
}

fn update(columns: &str, identity: &str) -> String {
    format!(
        r#"{{"action":"U","xid":9,"lsn":"0/1","schema":"public","table":"t","columns":[{columns}],"identity":[{identity}]}}"#
    )
}

fn column(name: &str, oid: i64, value: &str) -> String {
    format!(r#"{{"name":"{name}","typeoid":{oid},"value":{value}}}"#)
}

#[test]
fn a_transaction_begins_and_ends() {
    let expected = Transaction {
        xid: 4_294_967_295,
        commit_lsn: Lsn(0x15E_1EA0),
        end_lsn: Lsn(0x15E_1ED0),
        commit_micros: 1_795_328_687_657_806,
    };
    let mut decoder = Decoder::new();
    let message = |action: &str| {
        format!(
            r#"{{"action":"{action}","xid":4294967295,"timestamp":"2026-11-22 06:24:47.657806+00","lsn":"0/15E1EA0","nextlsn":"0/15E1ED0"}}"#
        )
    };
    match decoder.decode(message("B").as_bytes()).unwrap() {
        Message::Begin(transaction) => assert_eq!(transaction, expected),
        other => panic!("{other:?}"),
    }
    match decoder.decode(message("C").as_bytes()).unwrap() {
        Message::Commit(transaction) => assert_eq!(transaction, expected),
        other => panic!("{other:?}"),
    }
}

#[test]
fn logical_messages() {
    let mut decoder = Decoder::new();
    let json = r#"{"action":"M","xid":null,"timestamp":null,"lsn":"0/15DC4B8","transactional":false,"prefix":"rowcast","content":"non \"tx"}"#;
    match decoder.decode(json.as_bytes()).unwrap() {
        Message::Message {
            transactional,
            lsn,
            prefix,
            content,
        } => {
            assert!(!transactional);
            assert_eq!(lsn, Lsn(0x15D_C4B8));
            assert_eq!((prefix.as_str(), content.as_str()), ("rowcast", "non \"tx"));
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn logical_messages_may_be_in_no_encoding() {
    let mut json = br#"{"action":"M","xid":1,"lsn":"0/1","transactional":true,"prefix":"rowcast.broadcast","content":"a"#.to_vec();
    json.extend_from_slice(b"\xff\"}");
    match Decoder::new().decode(&json).unwrap() {
        Message::Message { content, .. } => assert_eq!(content, "a\u{fffd}"),
        other => panic!("{other:?}"),
    }
}

#[test]
fn values_become_text_output() {
    let columns = [
        column("b", 16, "true"),
        column("c", 16, "false"),
        column("i", 20, "-9223372036854775808"),
        column("f", 701, "1e+300"),
        column("n", 1700, "1.10"),
        column("null", 25, "null"),
        column("y", 17, "\"0001ff\""),
        column("y0", 17, "\"\""),
        column("dom", 99_999, "\"\\\\xab\""),
        column("s", 25, r#""a\"b\\c\n\u0001é😀""#),
        column("empty", 25, "\"\""),
        column("o", -2, "\"enum\""),
    ];
    let json = insert(&columns.join(","));
    let change = change(&mut Decoder::new(), &json);
    assert_eq!(change.action, Action::Insert);
    assert_eq!(change.table, TableName::new("public", "t"));
    assert_eq!(change.lsn, Lsn(0x15E_1DC0));
    assert_eq!(change.wire_bytes, json.len());
    assert!(change.old.is_none());
    let row = change.new.unwrap();
    for (name, expected) in [
        ("b", "t"),
        ("c", "f"),
        ("i", "-9223372036854775808"),
        ("f", "1e+300"),
        ("n", "1.10"),
        ("y", "\\x0001ff"),
        ("y0", "\\x"),
        ("dom", "\\xab"),
        ("s", "a\"b\\c\n\u{1}é😀"),
        ("empty", ""),
        ("o", "enum"),
    ] {
        assert_eq!(row.get(name), Some(Value::Text(expected)), "{name}");
    }
    assert_eq!(row.get("null"), Some(Value::Null));
    assert_eq!(row.layout().columns.last().unwrap().type_oid, 4_294_967_294);
}

#[test]
fn rows_that_look_alike_share_their_layout_and_names() {
    let mut decoder = Decoder::new();
    let one = change(&mut decoder, &insert(&column("a", 23, "1")));
    let two = change(&mut decoder, &insert(&column("a", 23, "2")));
    let other = change(&mut decoder, &insert(&column("a", 25, "\"2\"")));
    let again = change(&mut decoder, &insert(&column("a", 23, "3")));
    let layout = |change: &Change| Arc::clone(change.new.as_ref().unwrap().layout());
    assert!(Arc::ptr_eq(&layout(&one), &layout(&two)));
    assert!(Arc::ptr_eq(&layout(&one), &layout(&again)));
    assert!(!Arc::ptr_eq(&layout(&one), &layout(&other)));
    assert!(Arc::ptr_eq(&one.table.table, &two.table.table));
}

#[test]
fn an_unchanged_toast_value_comes_from_the_whole_old_row() {
    let mut decoder = Decoder::new();
    let [id, big, tail] = [
        column("id", 23, "1"),
        column("big", 25, "\"long\""),
        column("tail", 23, "null"),
    ];
    for _ in 0..2 {
        let json = update(
            &[column("id", 23, "2"), column("tail", 23, "7")].join(","),
            &[id.clone(), big.clone(), tail.clone()].join(","),
        );
        let change = change(&mut decoder, &json);
        let row = change.new.unwrap();
        let names: Vec<&str> = row.layout().columns.iter().map(|c| &*c.name).collect();
        assert_eq!(names, ["id", "big", "tail"]);
        assert_eq!(row.get("id"), Some(Value::Text("2")));
        assert_eq!(row.get("big"), Some(Value::Text("long")));
        assert_eq!(row.get("tail"), Some(Value::Text("7")));
        assert_eq!(change.old.unwrap().get("tail"), Some(Value::Null));
    }
}

#[test]
fn without_the_whole_old_row_an_unchanged_toast_value_is_absent() {
    let json = update(
        &[column("id", 23, "2"), column("tail", 23, "7")].join(","),
        &column("id", 23, "1"),
    );
    let change = change(&mut Decoder::new(), &json);
    let row = change.new.unwrap();
    assert_eq!(row.get("big"), None);
    assert_eq!(row.layout().columns.len(), 2);
    assert_eq!(change.old.unwrap().get("id"), Some(Value::Text("1")));
}

#[test]
fn deletes_truncates_and_rows_without_identity() {
    let mut decoder = Decoder::new();
    let head = r#""xid":1,"lsn":"A/B","schema":"sch\"ema é","table":"t y.p,e""#;
    let delete = format!(
        r#"{{"action":"D",{head},"identity":[{}]}}"#,
        column("id", 23, "1")
    );
    let delete = change(&mut decoder, &delete);
    assert_eq!(delete.table, TableName::new("sch\"ema é", "t y.p,e"));
    assert!(delete.new.is_none());
    assert_eq!(delete.old.unwrap().get("id"), Some(Value::Text("1")));
    let bare = change(&mut decoder, &format!(r#"{{"action":"D",{head}}}"#));
    assert!(bare.new.is_none() && bare.old.is_none());
    let truncate = change(&mut decoder, &format!(r#"{{"action":"T",{head}}}"#));
    assert_eq!(truncate.action, Action::Truncate);
    assert!(truncate.new.is_none() && truncate.old.is_none());
}

#[test]
fn sixteen_hundred_columns() {
    let columns: Vec<String> = (0..1600)
        .map(|i| column(&format!("c{i}"), 23, &i.to_string()))
        .collect();
    let row = change(&mut Decoder::new(), &insert(&columns.join(",")))
        .new
        .unwrap();
    assert_eq!(row.get("c1599"), Some(Value::Text("1599")));
}

#[test]
fn the_caches_are_bounded() {
    let mut decoder = Decoder::new();
    for i in 0..20_100 {
        let json = insert(&column(&format!("c{}", i % 100), 23, "1"))
            .replace("\"table\":\"t\"", &format!("\"table\":\"t{}\"", i % 10_050));
        let row = change(&mut decoder, &json).new.unwrap();
        assert_eq!(row.get(&format!("c{}", i % 100)), Some(Value::Text("1")));
    }
}

#[test]
fn errors_say_what_is_wrong_and_show_no_value() {
    let mut decoder = Decoder::new();
    let mut error = |json: &str| decoder.decode(json.as_bytes()).unwrap_err();
    assert_eq!(error(r#"{"action":"X"}"#), DecodeError::Action);
    assert_eq!(
        error(r#"{"action":"B","xid":1}"#),
        DecodeError::Missing("timestamp")
    );
    assert_eq!(
        error(r#"{"action":"T","schema":"s","table":"t"}"#),
        DecodeError::Missing("lsn")
    );
    assert_eq!(
        error(r#"{"action":"T","schema":"s","table":"t","lsn":"x"}"#),
        DecodeError::Position("lsn")
    );
    assert_eq!(
        error(&insert(&column("a", 23, "[\"secret\"]"))),
        DecodeError::Value
    );
    assert_eq!(
        error(&insert(&column("a", 23, "\"\\ud800\""))),
        DecodeError::Value
    );
    assert_eq!(
        error(&insert(&column("a", 5_000_000_000, "1"))),
        DecodeError::TypeOid
    );
    let text = error(r#"{"action":"I","xid":"secret"}"#).to_string();
    assert!(!text.contains("secret"), "{text}");
    assert!(matches!(
        decoder.decode(b"{\"\xff"),
        Err(DecodeError::Encoding(2))
    ));
    assert!(matches!(decoder.decode(b""), Err(DecodeError::Json(_))));
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = Decoder::new().decode(&bytes);
    }

    #[test]
    fn broken_messages_never_panic(
        at in 0_usize..300,
        with in proptest::collection::vec(any::<u8>(), 0..6),
        cut in 0_usize..6,
    ) {
        let whole = update(
            &[column("id", 23, "2"), column("t", 25, r#""a\"\u00e9""#), column("y", 17, "\"ab\"")].join(","),
            &[column("id", 23, "1"), column("z", 16, "true")].join(","),
        );
        let mut bytes = whole.into_bytes();
        let at = at.min(bytes.len());
        let end = (at + cut).min(bytes.len());
        bytes.splice(at..end, with);
        let _ = Decoder::new().decode(&bytes);
    }

    #[test]
    fn any_text_comes_back(text in any::<String>(), name in any::<String>()) {
        let json = insert(&format!(
            r#"{{"name":{},"typeoid":25,"value":{}}}"#,
            serde_json::to_string(&name).unwrap(),
            serde_json::to_string(&text).unwrap(),
        ));
        let row = change(&mut Decoder::new(), &json).new.unwrap();
        prop_assert_eq!(row.get(&name), Some(Value::Text(&text)));
    }
}
