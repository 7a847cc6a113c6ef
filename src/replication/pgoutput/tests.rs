use std::collections::BTreeSet;
use std::sync::Arc;

use proptest::prelude::*;

use super::{DecodeError, Decoder};
use crate::change::{Action, Change, Lsn, Row, TableName, Transaction, Value};
use crate::replication::Message;

const START: Lsn = Lsn(0x77);

fn decoder() -> Decoder {
    let mut decoder = Decoder::default();
    decoder.restart(Arc::new(BTreeSet::from([
        TableName::new("public", "t"),
        TableName::new("s ü", "T\"t"),
    ])));
    decoder
}

fn text(text: &str, out: &mut Vec<u8>) {
    out.extend_from_slice(text.as_bytes());
    out.push(0);
}

/// A description; columns are flags, name and type.
fn relation(oid: u32, schema: &str, table: &str, identity: u8, columns: &[(u8, &str, u32)]) -> Vec<u8> {
    let mut out = vec![b'R'];
    out.extend(oid.to_be_bytes());
    text(schema, &mut out);
    text(table, &mut out);
    out.push(identity);
    out.extend(u16::try_from(columns.len()).unwrap().to_be_bytes());
    for (flags, name, kind) in columns {
        out.push(*flags);
        text(name, &mut out);
        out.extend(kind.to_be_bytes());
        out.extend((-1_i32).to_be_bytes());
    }
    out
}

fn table(identity: u8) -> Vec<u8> {
    let all = u8::from(identity == b'f');
    relation(
        9,
        "public",
        "t",
        identity,
        &[(1, "id", 23), (all, "big", 25), (all, "n", 1700)],
    )
}

/// Values: `None` for null, `Some("\u{1}")` for unchanged.
fn tuple(kind: u8, values: &[Option<&str>], out: &mut Vec<u8>) {
    out.push(kind);
    out.extend(u16::try_from(values.len()).unwrap().to_be_bytes());
    for value in values {
        match value {
            None => out.push(b'n'),
            Some("\u{1}") => out.push(b'u'),
            Some(value) => {
                out.push(b't');
                out.extend(u32::try_from(value.len()).unwrap().to_be_bytes());
                out.extend_from_slice(value.as_bytes());
            }
        }
    }
}

fn row(action: u8, tuples: &[(u8, &[Option<&str>])]) -> Vec<u8> {
    let mut out = vec![action];
    out.extend(9_u32.to_be_bytes());
    for (kind, values) in tuples {
        tuple(*kind, values, &mut out);
    }
    out
}

fn change(decoder: &mut Decoder, message: &[u8]) -> Change {
    match decoder.decode(START, message) {
        Ok(Message::Change(change)) => change,
        other => panic!("{other:?}"),
    }
}

fn shown(row: Option<&Row>) -> String {
    let show = |row: &Row| {
        let cells = row.iter().map(|(column, value)| match value {
            Value::Null => format!("{}=null", column.name),
            Value::Unchanged => format!("{}=?", column.name),
            Value::Text(text) => format!("{}='{text}'", column.name),
        });
        cells.collect::<Vec<_>>().join(" ")
    };
    row.map_or_else(|| "-".to_owned(), show)
}

#[test]
fn a_transaction_begins_and_ends() {
    let mut decoder = decoder();
    let begin = b"B\0\0\0\0\x01\x5e\x1e\xa0\0\x02\xf0\x11\x22\x33\x44\x55\xff\xff\xff\xff";
    let commit_micros = 0x0002_f011_2233_4455 + 946_684_800_000_000;
    let expected = |end_lsn| Transaction {
        xid: 4_294_967_295,
        commit_lsn: Lsn(0x15E_1EA0),
        end_lsn,
        commit_micros,
    };
    match decoder.decode(START, begin).unwrap() {
        Message::Begin(transaction) => assert_eq!(transaction, expected(Lsn(0))),
        other => panic!("{other:?}"),
    }
    let commit = b"C\0\0\0\0\0\x01\x5e\x1e\xa0\0\0\0\0\x01\x5e\x1e\xd0\0\x02\xf0\x11\x22\x33\x44\x55";
    match decoder.decode(START, commit).unwrap() {
        Message::Commit(transaction) => assert_eq!(transaction, expected(Lsn(0x15E_1ED0))),
        other => panic!("{other:?}"),
    }
    for cut in 0..commit.len() {
        assert!(decoder.decode(START, &commit[..cut]).is_err());
    }
    for cut in 0..begin.len() {
        assert!(decoder.decode(START, &begin[..cut]).is_err());
    }
}

#[test]
fn rows_under_a_key() {
    let mut decoder = decoder();
    decoder.decode(START, &table(b'd')).unwrap();
    let insert = row(b'I', &[(b'N', &[Some("1"), None, Some("é")])]);
    let inserted = change(&mut decoder, &insert);
    assert_eq!(inserted.action, Action::Insert);
    assert_eq!(inserted.table, TableName::new("public", "t"));
    assert_eq!((inserted.lsn, inserted.wire_bytes), (START, insert.len()));
    assert_eq!(shown(inserted.new.as_ref()), "id='1' big=null n='é'");
    assert!(inserted.old.is_none());
    assert_eq!(inserted.new.unwrap().layout().columns[2].type_oid, 1700);

    let kept = change(
        &mut decoder,
        &row(b'U', &[(b'N', &[Some("1"), Some("\u{1}"), Some("")])]),
    );
    assert_eq!(shown(kept.new.as_ref()), "id='1' big=? n=''");
    assert_eq!(shown(kept.old.as_ref()), "id='1'", "the key as it was");

    let moved = row(
        b'U',
        &[(b'K', &[Some("1"), None, None]), (b'N', &[Some("2"), None, None])],
    );
    let moved = change(&mut decoder, &moved);
    assert_eq!(shown(moved.new.as_ref()), "id='2' big=null n=null");
    assert_eq!(shown(moved.old.as_ref()), "id='1'");

    let gone = change(&mut decoder, &row(b'D', &[(b'K', &[Some("2"), None, None])]));
    assert_eq!(gone.action, Action::Delete);
    assert!(gone.new.is_none());
    assert_eq!(shown(gone.old.as_ref()), "id='2'");
}

#[test]
fn a_whole_old_row_fills_what_did_not_change() {
    let mut decoder = decoder();
    decoder.decode(START, &table(b'f')).unwrap();
    let update = row(
        b'U',
        &[
            (b'O', &[Some("1"), Some("long"), None]),
            (b'N', &[Some("2"), Some("\u{1}"), Some("7")]),
        ],
    );
    let updated = change(&mut decoder, &update);
    assert_eq!(shown(updated.new.as_ref()), "id='2' big='long' n='7'");
    assert_eq!(shown(updated.old.as_ref()), "id='1' big='long' n=null");
    let gone = change(&mut decoder, &row(b'D', &[(b'O', &[Some("2"), None, None])]));
    assert_eq!(shown(gone.old.as_ref()), "id='2' big=null n=null");
}

#[test]
fn without_an_identity_there_is_no_old_row() {
    let mut decoder = decoder();
    let bare = relation(9, "public", "t", b'n', &[(0, "id", 23)]);
    decoder.decode(START, &bare).unwrap();
    let updated = change(&mut decoder, &row(b'U', &[(b'N', &[Some("1")])]));
    assert!(updated.old.is_none());
}

#[test]
fn what_is_not_wanted_is_left_out() {
    let mut decoder = decoder();
    let other = relation(9, "public", "other", b'd', &[(1, "id", 23)]);
    decoder.decode(START, &other).unwrap();
    let insert = row(b'I', &[(b'N', &[Some("1")])]);
    assert!(matches!(decoder.decode(START, &insert), Ok(Message::Nothing)));
    decoder.restart(Arc::new(BTreeSet::from([TableName::new("public", "other")])));
    assert!(matches!(decoder.decode(START, &insert), Ok(Message::Change(_))));
}

#[test]
fn tables_truncated_together() {
    let mut decoder = decoder();
    decoder.decode(START, &table(b'd')).unwrap();
    let odd = relation(10, "s ü", "T\"t", b'd', &[]);
    decoder.decode(START, &odd).unwrap();
    let unwanted = relation(11, "", "pg_class", b'd', &[]);
    decoder.decode(START, &unwanted).unwrap();
    let message = b"T\0\0\0\x03\0\0\0\0\x0a\0\0\0\x0b\0\0\0\x09";
    match decoder.decode(START, message).unwrap() {
        Message::Truncate(changes) => {
            let tables: Vec<String> = changes.iter().map(|change| change.table.to_string()).collect();
            assert_eq!(tables, ["s ü.T\"t", "public.t"]);
            assert!(changes.iter().all(|change| change.action == Action::Truncate));
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn logical_messages() {
    let mut decoder = decoder();
    let message = |flags: u8, prefix: &str, content: &[u8]| {
        let mut out = vec![b'M', flags];
        out.extend(0x15D_C4B8_u64.to_be_bytes());
        text(prefix, &mut out);
        out.extend(u32::try_from(content.len()).unwrap().to_be_bytes());
        out.extend_from_slice(content);
        out
    };
    match decoder.decode(START, &message(1, "rowcast", b"a\"b")).unwrap() {
        Message::Message {
            transactional,
            lsn,
            prefix,
            content,
        } => {
            assert!(transactional);
            assert_eq!(lsn, Lsn(0x15D_C4B8));
            assert_eq!((prefix.as_str(), content.as_str()), ("rowcast", "a\"b"));
        }
        other => panic!("{other:?}"),
    }
    let other = decoder.decode(START, &message(0, "other", b"x"));
    assert!(matches!(other, Ok(Message::Nothing)));
    let bytes = decoder.decode(START, &message(0, "rowcast", b"\xff"));
    assert!(matches!(
        bytes,
        Ok(Message::Message {
            transactional: false,
            ..
        })
    ));
}

#[test]
fn a_table_described_again_keeps_what_stayed() {
    let mut decoder = decoder();
    let mut layouts = Vec::new();
    let mut insert = |decoder: &mut Decoder, values: &[Option<&str>]| {
        let change = change(decoder, &row(b'I', &[(b'N', values)]));
        layouts.push((Arc::clone(change.new.unwrap().layout()), change.table));
    };
    for _ in 0..2 {
        decoder.decode(START, &table(b'd')).unwrap();
        insert(&mut decoder, &[None, None, None]);
    }
    let renamed = relation(9, "public", "t", b'd', &[(1, "id", 23), (0, "large", 25)]);
    decoder.decode(START, &renamed).unwrap();
    insert(&mut decoder, &[None, None]);
    assert!(Arc::ptr_eq(&layouts[0].0, &layouts[1].0));
    assert!(Arc::ptr_eq(&layouts[0].1.table, &layouts[2].1.table));
    assert_eq!(layouts[2].0.columns.len(), 2);
}

#[test]
fn errors_say_what_is_wrong() {
    let mut decoder = decoder();
    let mut error = |message: &[u8]| decoder.decode(START, message).unwrap_err();
    let insert = row(b'I', &[(b'N', &[Some("1"), None])]);
    assert_eq!(error(b""), DecodeError::Short);
    assert_eq!(error(b"S\0\0\0\0\x01"), DecodeError::Kind);
    assert_eq!(error(&insert), DecodeError::Relation);
    decoder.decode(START, &table(b'd')).unwrap();
    let mut error = |message: &[u8]| decoder.decode(START, message).unwrap_err();
    assert_eq!(error(&insert), DecodeError::Columns);
    assert_eq!(error(&row(b'I', &[(b'K', &[None])])), DecodeError::Row);
    assert_eq!(error(&row(b'D', &[(b'N', &[None])])), DecodeError::Row);
    assert_eq!(error(b"I\0\0\0\x09N\0\x01b\0\0\0\x01x"), DecodeError::Value);
    assert_eq!(
        error(b"I\0\0\0\x09N\0\x03t\0\0\0\x01\xffnn"),
        DecodeError::Encoding
    );
    assert_eq!(error(b"I\0\0\0\x09N\0\x01t\xff\xff\xff\xffx"), DecodeError::Short);
    assert_eq!(error(b"R\0\0\0\x09a\xff\0"), DecodeError::Encoding);
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(kind in prop::sample::select(b"BCIUDTMRYO".to_vec()), rest: Vec<u8>) {
        let mut message = vec![kind];
        message.extend(rest);
        let mut decoder = decoder();
        let _ = decoder.decode(START, &message);
        decoder.decode(START, &table(b'd')).unwrap();
        let _ = decoder.decode(START, &message);
        let _ = decoder.decode(START, &message[1..]);
    }

    #[test]
    fn broken_messages_never_panic(
        at in 0_usize..120,
        with in proptest::collection::vec(any::<u8>(), 0..6),
        cut in 0_usize..6,
        description: bool,
    ) {
        let mut decoder = decoder();
        let update = row(
            b'U',
            &[(b'O', &[Some("1"), Some("long"), None]), (b'N', &[Some("2"), Some("\u{1}"), Some("7")])],
        );
        let mut bytes = if description { table(b'f') } else { update.clone() };
        decoder.decode(START, &table(b'f')).unwrap();
        let at = at.min(bytes.len());
        let end = (at + cut).min(bytes.len());
        bytes.splice(at..end, with);
        let _ = decoder.decode(START, &bytes);
        let _ = decoder.decode(START, &update);
    }

    #[test]
    fn any_text_comes_back(value in "[^\u{1}]*", name in "[^\0]*") {
        let mut decoder = decoder();
        decoder.decode(START, &relation(9, "public", "t", b'f', &[(1, &name, 25)])).unwrap();
        let inserted = change(&mut decoder, &row(b'I', &[(b'N', &[Some(&value)])]));
        let row = inserted.new.unwrap();
        prop_assert_eq!(row.get(&name), Some(Value::Text(&value)));
    }
}
