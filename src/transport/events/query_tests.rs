use proptest::prelude::*;

use super::*;

fn read(query: &str) -> Outcome<Asked> {
    let pairs: Vec<(String, String)> = query
        .split('&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
    Asked::read(&pairs)
}

fn joins(query: &str) -> Vec<(String, Value)> {
    let joins = read(query).unwrap().joins.into_iter();
    joins
        .map(|join| (join.topic, Value::Object(join.payload)))
        .collect()
}

#[test]
fn one_table_is_one_word() {
    let rows = json!({ "config": { "broadcast": { "enabled": false },
        "postgres_changes": [{ "event": "*", "schema": "public", "table": "todos" }] } });
    assert_eq!(
        joins("table=todos&apikey=k"),
        [("realtime:public:todos".to_owned(), rows)]
    );
}

#[test]
fn one_table_takes_its_parameters_in_any_order() {
    let row = json!([{ "event": "INSERT", "schema": "app", "table": "a.b", "filter": "done=eq.false",
        "select": ["id", "title"], "transitions": true, "snapshot": false }]);
    for query in [
        "schema=app&table=a.b&filter=done=eq.false&select=id,title&event=insert&transitions=true&snapshot=false",
        "filter=done=eq.false&event=INSERT&schema=app&select=id, title&transitions=true&snapshot=false&table=a.b",
    ] {
        let joins = joins(query);
        assert_eq!(joins[0].1["config"]["postgres_changes"], row, "{query}");
        assert_eq!(joins[0].0, "realtime:app:a.b");
    }
}

#[test]
fn several_tables_take_what_stands_behind_them() {
    let joins = joins("table=app.todos&event=DELETE&table=lists&filter=id=eq.1");
    assert_eq!(joins.len(), 1);
    assert_eq!(joins[0].0, "realtime:app:todos");
    let expected = json!([
        { "event": "DELETE", "schema": "app", "table": "todos" },
        { "event": "*", "schema": "public", "table": "lists", "filter": "id=eq.1" }]);
    assert_eq!(joins[0].1["config"]["postgres_changes"], expected);
}

#[test]
fn topics_are_channels_and_what_stands_behind_them_is_theirs() {
    let joins = joins(
        "table=todos&topic=a&private=true&presence=true&channel=realtime:b&table=notes\
         &join={\"topic\":\"c\",\"config\":{\"broadcast\":{\"replay\":{\"since\":1}}},\"access_token\":\"t\"}",
    );
    let topics: Vec<&str> = joins.iter().map(|(topic, _)| topic.as_str()).collect();
    assert_eq!(
        topics,
        ["realtime:public:todos", "realtime:a", "realtime:c", "realtime:b"]
    );
    assert_eq!(
        joins[1].1["config"],
        json!({ "private": true, "presence": { "enabled": true }, "postgres_changes": [] })
    );
    assert_eq!(
        joins[2].1,
        json!({ "config": { "broadcast": { "replay": { "since": 1 } } }, "access_token": "t" })
    );
    assert_eq!(joins[3].1["config"]["postgres_changes"][0]["table"], "notes");
}

#[test]
fn how_rows_come_is_said_as_well() {
    let joins = joins("table=a&max_rate=5&conflate=true&truncate=true");
    let row = &joins[0].1["config"]["postgres_changes"][0];
    assert_eq!(
        (&row["max_rate"], &row["conflate"], &row["truncate"]),
        (&json!(5.0), &json!(true), &json!(true))
    );
    assert_eq!(
        self::joins("table=a&event=truncate")[0].1["config"]["postgres_changes"][0]["event"],
        "TRUNCATE"
    );
}

#[test]
fn a_request_that_names_thousands_is_read_in_one_go() {
    let query: Vec<String> = (0..20_000).map(|number| format!("topic={number:x}")).collect();
    let joins = joins(&query.join("&"));
    let topics: Vec<&str> = joins.iter().map(|(topic, _)| topic.as_str()).collect();
    let tags: std::collections::HashSet<u32> = topics.iter().map(|topic| Lane::tag(topic)).collect();
    assert_eq!((topics.len(), tags.len()), (20_000, 20_000));
    let again = read(&format!("{}&topic=0", query.join("&"))).unwrap_err();
    assert_eq!(again.problem, "realtime:0 is there twice");
}

#[test]
fn places_and_waits_are_of_the_request() {
    let asked = read("table=a&cursor=1-2&wait=2.5").unwrap();
    assert_eq!(
        (asked.since.as_deref(), asked.wait),
        (Some("1-2"), Some(Duration::from_millis(2_500)))
    );
    // An empty one says: new.
    assert_eq!(read("table=a&since=").unwrap().since.as_deref(), Some(""));
}

#[test]
fn what_is_wrong_is_named() {
    let cases = [
        ("", "table"),
        ("apikey=k", "table"),
        ("table=", "table"),
        ("topic=", "topic"),
        ("tabel=todos", "tabel"),
        ("filter=a=eq.1", "filter"),
        ("filter=a=eq.1&topic=a", "filter"),
        ("table=a&filter=b=eq.1&filter=c=eq.1", "filter"),
        ("table=a&filter=", "filter"),
        ("table=a&event=insrt", "event"),
        ("table=a&select=", "select"),
        ("table=a&select=b,,c", "select"),
        ("table=a&snapshot=yes", "snapshot"),
        ("table=a&max_rate=often", "max_rate"),
        ("table=a&private=true", "private"),
        ("topic=a&private=1", "private"),
        ("topic=a&topic=a", "topic"),
        ("topic=a&since=1&cursor=2", "cursor"),
        ("topic=a&wait=soon", "wait"),
        ("topic=a&wait=-1", "wait"),
        ("topic=a&wait=inf", "wait"),
        ("join=[]", "join"),
        ("join={\"topic\":\"a\"}", "join"),
        ("join={\"config\":{}}", "join"),
    ];
    for (query, parameter) in cases {
        assert_eq!(read(query).unwrap_err().parameter, parameter, "{query}");
    }
}

proptest! {
    #[test]
    fn nothing_breaks_it(query in "((table|schema|filter|select|event|topic|join|private|since|wait|x)=[^&]{0,6}&){0,8}") {
        if let Ok(asked) = read(&query) {
            prop_assert!(!asked.joins.is_empty());
            let mut tags: Vec<u32> = asked.joins.iter().map(|join| Lane::tag(&join.topic)).collect();
            tags.sort_unstable();
            tags.dedup();
            prop_assert_eq!(tags.len(), asked.joins.len());
        }
    }
}
