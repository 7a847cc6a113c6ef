//! What a poll answers.

use super::*;

#[tokio::test]
async fn polls_answer_with_what_came_and_where_to_go_on() {
    let server = Server::start().await;
    assert_eq!(server.poll("table=a&wait=0").await.0, 503);
    server.request().await;
    server.reach("1-5");
    let (_, first) = server.poll("table=a").await;
    assert_eq!(first, json!({ "cursor": "1-5", "events": [] }));
    server.request().await;
    // Nothing came.
    server.reach("1-6");
    let (_, empty) = server.poll("table=a&cursor=1-5&wait=0.05").await;
    assert_eq!(empty, json!({ "cursor": "1-6", "events": [] }));
    let request = server.request().await;
    assert_eq!(request.since.unwrap().to_string(), "1-5");
    // Something comes while it waits.
    let feeding = async {
        let request = server.request().await;
        server.reach("1-9");
        row(&request, "1-9-1-0", 1);
        row(&request, "1-9-2-0", 2);
    };
    let ((_, some), ()) = tokio::join!(server.poll("table=a&cursor=1-6"), feeding);
    let numbers: Vec<u64> = some["events"]
        .as_array()
        .unwrap()
        .iter()
        .map(|event| event["payload"]["data"].as_u64().unwrap())
        .collect();
    assert_eq!(numbers, [1, 2]);
    assert_eq!(some["cursor"], "1-9");
    let (_, garbled) = server.poll("table=a&cursor=rubbish").await;
    assert_eq!(
        garbled,
        json!({ "cursor": "1-9", "resync": "the cursor cannot be read", "events": [] })
    );
    assert_eq!(server.metrics.polls.get(), 4);
}

#[tokio::test]
async fn a_long_answer_is_cut_and_its_cursor_is_where_it_was_cut() {
    let server = Server::start().await;
    server.reach("1-5000");
    let feeding = async {
        let request = server.request().await;
        for n in 0..3_000_u64 {
            row(&request, &format!("1-10-{:x}-0", n + 1), n);
        }
    };
    let ((_, answer), ()) = tokio::join!(server.poll("table=a&cursor=1-6"), feeding);
    let events = answer["events"].as_array().unwrap();
    let last = events.last().unwrap()["payload"]["data"].as_u64().unwrap();
    assert_eq!(u64::try_from(events.len()).unwrap(), last + 1);
    assert!(events.len() < 3_000);
    assert_eq!(answer["cursor"], format!("1-10-{:x}-0", last + 1));
}
