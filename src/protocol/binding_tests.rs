use proptest::prelude::*;

use super::*;

fn binding(json: &str) -> Binding {
    Binding::parse(&RawValue::from_string(json.to_owned()).unwrap()).unwrap()
}

#[test]
fn reads_what_it_can() {
    let b =
        binding(r#"{"event":"insert","schema":"public","table":"todos","filter":"id=eq.1","select":["id"]}"#);
    assert_eq!(b.event, EventFilter::Insert);
    assert_eq!(
        (b.schema.as_deref(), b.table.as_deref()),
        (Some("public"), Some("todos"))
    );
    assert_eq!(b.filter.as_deref(), Some("id=eq.1"));
    assert_eq!(b.select, Select::Columns(vec!["id".to_owned()]));
    let b = binding(r#"{"event":7,"schema":null,"table":1,"filter":"  ","select":"id"}"#);
    assert_eq!(
        (b.event, b.schema, b.table, b.filter),
        (EventFilter::All, None, None, None)
    );
    assert_eq!(b.select, Select::Invalid);
}

#[test]
fn a_filter_that_is_no_string_is_not_dropped() {
    assert_eq!(
        binding(r#"{"schema":"s","table":"t","filter":[1]}"#)
            .filter
            .as_deref(),
        Some("[1]")
    );
}

#[test]
fn ids_are_equal_for_equal_params_only_and_stable() {
    let a = binding(r#"{"event":"*","schema":"public","table":"a"}"#);
    let reordered = binding(r#"{ "table":"a", "event":"*", "schema":"public" }"#);
    let other = binding(r#"{"event":"*","schema":"public","table":"b"}"#);
    assert_eq!(a.id, reordered.id);
    assert_ne!(a.id, other.id);
    assert_eq!(a.id, binding(&a.source).id);
}

#[test]
fn colliding_ids_of_one_channel_are_separated() {
    let mut bindings = [
        binding(r#"{"table":"a"}"#),
        binding(r#"{"table":"b"}"#),
        binding(r#"{"table":"a"}"#),
    ];
    bindings[0].id = MAX_ID;
    bindings[1].id = MAX_ID;
    bindings[2].id = MAX_ID;
    separate_ids(&mut bindings);
    assert_eq!(bindings.map(|b| b.id), [MAX_ID, 1, MAX_ID]);
}

#[test]
fn the_echo_is_the_clients_own_text_and_an_id() {
    let b = binding(r#"{"table":"a", "event":"INSERT" }"#);
    assert_eq!(
        b.echo(),
        format!(r#"{{"table":"a", "event":"INSERT" ,"id":{}}}"#, b.id)
    );
    let empty = binding("{ }");
    assert_eq!(empty.echo(), format!(r#"{{ "id":{}}}"#, empty.id));
    let nested = binding(r#"{"a":{"b":{}}}"#);
    assert_eq!(
        nested.echo(),
        format!(r#"{{"a":{{"b":{{}}}},"id":{}}}"#, nested.id)
    );
}

#[test]
fn a_legacy_topic_names_schema_table_and_filter() {
    let b = Binding::legacy("public:todos:name=eq.a:b");
    assert_eq!(
        (b.schema.as_deref(), b.table.as_deref()),
        (Some("public"), Some("todos"))
    );
    assert_eq!(b.filter.as_deref(), Some("name=eq.a:b"));
    assert_eq!(
        b.source,
        r#"{"event":"*","schema":"public","table":"todos","filter":"name=eq.a:b"}"#
    );
    let b = Binding::legacy("*");
    assert_eq!((b.schema.as_deref(), b.table, b.filter), (Some("*"), None, None));
}

#[test]
fn a_snapshot_is_asked_for_by_true_and_nothing_else() {
    for (text, expected) in [
        ("{}", Snapshot::Off),
        (r#"{"snapshot":null}"#, Snapshot::Off),
        (r#"{"snapshot":false}"#, Snapshot::Off),
        (r#"{"snapshot":true}"#, Snapshot::On),
        (r#"{"snapshot":"true"}"#, Snapshot::Invalid),
        (r#"{"snapshot":1}"#, Snapshot::Invalid),
        (r#"{"snapshot":{}}"#, Snapshot::Invalid),
    ] {
        assert_eq!(binding(text).snapshot, expected, "{text}");
    }
    assert_eq!(Binding::legacy("public:t").snapshot, Snapshot::Off);
    let rows = Binding::rows(None, "t", Some(" "), Some(&["a", "b"]));
    assert_eq!((rows.schema.as_deref(), rows.filter), (Some("public"), None));
    assert_eq!(rows.snapshot, Snapshot::On);
    assert_eq!(rows.select, Select::Columns(vec!["a".to_owned(), "b".to_owned()]));
}

proptest! {
    #[test]
    fn every_object_is_echoed_as_itself_with_an_id(key in "\\PC{0,8}", text in "\\PC{0,20}", deep in 0usize..3) {
        let mut value = serde_json::json!({ key: text });
        for _ in 0..deep {
            value = serde_json::json!({ "n": value });
        }
        let b = binding(&value.to_string());
        prop_assert!((1..=MAX_ID).contains(&b.id));
        let mut expected = value;
        expected["id"] = b.id.into();
        prop_assert_eq!(serde_json::from_str::<Value>(&b.echo()).unwrap(), expected);
    }
}
