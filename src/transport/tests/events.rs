//! Streams of events and polls, with a feed that the test holds in its hands.

mod opening;
mod polls;
mod streams;

use super::*;
use crate::hub::At;
use crate::protocol::fan_out;

/// An open stream of events.
struct Reader {
    response: reqwest::Response,
    text: String,
}

#[derive(Debug, PartialEq)]
struct Event {
    id: Option<String>,
    name: String,
    data: Value,
}

impl Reader {
    /// The next block, without its end.
    #[track_caller]
    fn block(&mut self) -> impl Future<Output = Option<String>> + '_ {
        let caller = std::panic::Location::caller();
        async move {
            loop {
                if let Some((block, rest)) = self.text.split_once("\n\n") {
                    let block = block.to_owned();
                    self.text = rest.to_owned();
                    return Some(block);
                }
                let chunk = tokio::time::timeout(PATIENCE, self.response.chunk()).await;
                match chunk.unwrap_or_else(|_| panic!("nothing came at {caller}")) {
                    Ok(Some(chunk)) => self.text.push_str(std::str::from_utf8(&chunk).unwrap()),
                    Ok(None) | Err(_) => return None,
                }
            }
        }
    }

    /// The next event; comments and what is no event are passed over. `None` at the end.
    async fn event(&mut self) -> Option<Event> {
        loop {
            let block = self.block().await?;
            let field = |name: &str| {
                let mut lines = block.lines();
                lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
            };
            if let (Some(name), Some(data)) = (field("event"), field("data")) {
                return Some(Event {
                    id: field("id").map(str::to_owned),
                    name: name.to_owned(),
                    data: serde_json::from_str(data).unwrap(),
                });
            }
        }
    }
}

impl Server {
    async fn ask(&self, path: &str, headers: &[(&str, &str)]) -> reqwest::Response {
        let url = format!("http://{}{path}", self.address);
        let mut request = reqwest::Client::new().get(url);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.send().await.unwrap()
    }

    async fn events(&self, query: &str, headers: &[(&str, &str)]) -> Reader {
        let response = self.ask(&format!("/sse?apikey=good&{query}"), headers).await;
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        assert_eq!(response.headers()["cache-control"], "no-store, no-transform");
        Reader {
            response,
            text: String::new(),
        }
    }

    fn reach(&self, at: &str) {
        *self.position.lock().unwrap() = Some(at.parse().unwrap());
    }

    async fn poll(&self, query: &str) -> (u16, Value) {
        let response = self.ask(&format!("/poll?apikey=good&{query}"), &[]).await;
        assert_eq!(response.headers()["cache-control"], "no-store");
        let status = response.status().as_u16();
        (status, response.json().await.unwrap())
    }
}

/// Puts a row into a channel's outbox.
fn row(request: &SubscribeRequest, at: &str, number: u64) {
    let topic = &request.subscriber.topic;
    let payload = json!({ "data": number }).to_string();
    let frame = Frame::Text(fan_out(request.subscriber.version, topic, "postgres_changes", &payload).into());
    let _ = request
        .subscriber
        .outbox
        .push_at(frame, At::Row(at.parse().unwrap()));
}

fn number(event: &Event) -> u64 {
    assert_eq!(event.name, "postgres_changes");
    event.data["payload"]["data"].as_u64().unwrap()
}

/// A path, headers, and the status that they are answered with.
type Case<'a> = (&'a str, &'a [(&'a str, &'a str)], u16);
