//! Clients of plain requests, as they are: a reader of server-sent events, and one that polls.

use reqwest::{Client, Response, Url};
use serde_json::{Value, json};
use tokio::time::timeout;

use super::walker::{By, PATIENCE, Path, Shared, Told, What, begin, note, read_again};

/// Opens a stream behind the last id and reads it to its end.
pub(super) async fn stream(shared: &Shared, path: &Path) {
    let last = shared.log.lock().expect("the log").last.clone();
    let Some(mut response) = ask(path, last.as_deref()).await else {
        return;
    };
    let number = begin(shared);
    let (mut bytes, mut live) = (Vec::new(), false);
    loop {
        shared.hold_up().await;
        // Comments come all the time.
        let Ok(Ok(Some(chunk))) = timeout(PATIENCE, response.chunk()).await else {
            return;
        };
        bytes.extend_from_slice(&chunk);
        while let Some(end) = bytes.windows(2).position(|two| two == b"\n\n") {
            let block: Vec<u8> = bytes.drain(..end + 2).collect();
            let block = String::from_utf8(block).expect("UTF-8 from the server");
            if !event(shared, path, &block, number, &mut live) {
                return;
            }
            read_again(shared, number, last.is_none() && !path.gets_rows()).await;
        }
    }
}

/// Writes an event down. False when the channel is over.
fn event(shared: &Shared, path: &Path, block: &str, number: u64, live: &mut bool) -> bool {
    let field = |name: &str| {
        let mut lines = block.lines().filter_map(|line| line.split_once(": "));
        lines.find(|(field, _)| *field == name).map(|(_, value)| value)
    };
    let mut goes_on = true;
    // A place may come without anything else.
    if let Some(data) = field("data").filter(|_| field("event") != Some("cursor")) {
        let data: Value = serde_json::from_str(data).expect("JSON from the server");
        if is_of(&data, path) {
            goes_on = note(shared, frame(&data), number, live);
        }
    }
    let mut log = shared.log.lock().expect("the log");
    if let Some(id) = field("id") {
        log.last = Some(id.to_owned());
    }
    if *live {
        log.answered = 3;
    }
    goes_on
}

/// Polls until an answer does not come.
pub(super) async fn poll(shared: &Shared, path: &Path) {
    let number = begin(shared);
    loop {
        shared.hold_up().await;
        let last = shared.log.lock().expect("the log").last.clone();
        let Some(response) = ask(path, last.as_deref()).await else {
            return;
        };
        // The answer counts as a whole, or not at all.
        let Ok(Ok(body)) = timeout(PATIENCE, response.bytes()).await else {
            return;
        };
        let answer: Value = serde_json::from_slice(&body).expect("JSON from the server");
        let events = answer["events"].as_array().expect("events").iter();
        for event in events.filter(|event| is_of(event, path)) {
            note(shared, frame(event), number, &mut true);
        }
        let resync = answer["resync"].as_str();
        {
            let mut log = shared.log.lock().expect("the log");
            let mut tell = |what| {
                log.told.push(Told {
                    connection: number,
                    what,
                    cursor: None,
                });
            };
            if let Some(reason) = resync {
                tell(What::Outcome(format!("resync: {reason}")));
            }
            let begins = resync.is_some() || last.is_none();
            if begins && !path.gets_rows() {
                tell(What::Live);
            }
            log.last = Some(answer["cursor"].as_str().expect("a cursor").to_owned());
            log.answered = 3;
        }
        read_again(shared, number, last.is_none()).await;
    }
}

async fn ask(path: &Path, last: Option<&str>) -> Option<Response> {
    let join = json!({ "topic": path.topic, "config": path.config }).to_string();
    let at = match path.by {
        By::Polls => "poll",
        _ => "sse",
    };
    // A channel that is live while the other one is anywhere.
    let parameters = [
        ("table", "t"),
        ("filter", "kind=eq.1"),
        ("join", join.as_str()),
        ("wait", "0.5"),
    ];
    let url = Url::parse_with_params(&format!("http://{}/{at}", path.address), parameters).expect("a URL");
    let mut request = Client::new().get(url).bearer_auth(&path.token);
    if let Some(last) = last {
        request = request.header("last-event-id", last);
    }
    let response = timeout(PATIENCE, request.send()).await.ok()?.ok()?;
    response.status().is_success().then_some(response)
}

/// Whether it is told to the channel that counts.
fn is_of(event: &Value, path: &Path) -> bool {
    event["topic"]
        .as_str()
        .and_then(|topic| topic.strip_prefix("realtime:"))
        == Some(&path.topic)
}

/// As on a socket.
fn frame(data: &Value) -> Value {
    json!([null, null, data["topic"], data["event"], data["payload"]])
}
