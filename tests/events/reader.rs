//! Reads a stream as the HTML Standard says, and can be cut off after any byte.

use serde_json::Value;

use crate::support::{LIMIT, Server};

/// A reader of server-sent events that keeps its place.
#[derive(Default)]
pub(crate) struct Reader {
    /// What `EventSource` calls the last event ID string.
    pub(crate) last_id: String,
    response: Option<reqwest::Response>,
    text: String,
    /// Bytes until it is cut off.
    left: usize,
}

#[derive(Clone, Debug)]
pub(crate) struct Event {
    pub(crate) name: String,
    pub(crate) data: Value,
}

impl Event {
    /// The row of an INSERT into this table.
    pub(crate) fn inserted(&self, table: &str) -> Option<i64> {
        let data = &self.data["payload"]["data"];
        let fits = self.name == "postgres_changes" && data["table"] == table;
        fits.then(|| data["record"]["id"].as_i64().expect("an id"))
    }

    /// What a `system` event says.
    pub(crate) fn says(&self) -> &str {
        self.data["payload"]["message"].as_str().unwrap_or_default()
    }
}

impl Reader {
    /// One that has been there before.
    pub(crate) fn at(last_id: &str) -> Self {
        Self {
            last_id: last_id.to_owned(),
            ..Self::default()
        }
    }

    /// Opens the stream, behind the last place if there is one, and reads no more than so many bytes of it.
    pub(crate) async fn open(&mut self, server: &Server, query: &str, token: &str, bytes: usize) -> u16 {
        self.open_at(&server.url(), query, token, bytes).await
    }

    /// The same at a server that may not be of this process.
    pub(crate) async fn open_at(&mut self, url: &str, query: &str, token: &str, bytes: usize) -> u16 {
        let mut request = reqwest::Client::new()
            .get(format!("{url}/realtime/v1/sse?{query}"))
            .bearer_auth(token);
        if !self.last_id.is_empty() {
            request = request.header("last-event-id", &self.last_id);
        }
        let response = request.send().await.expect("an answer");
        let status = response.status().as_u16();
        self.response = Some(response);
        self.text.clear();
        self.left = bytes;
        status
    }

    /// The next event; `None` once it has ended or was cut off.
    pub(crate) async fn next(&mut self) -> Option<Event> {
        loop {
            if let Some((block, rest)) = self.text.split_once("\n\n") {
                let (block, rest) = (block.to_owned(), rest.to_owned());
                self.text = rest;
                if let Some(event) = self.dispatch(&block) {
                    return Some(event);
                }
                continue;
            }
            let response = self.response.as_mut().filter(|_| self.left > 0)?;
            let chunk = tokio::time::timeout(LIMIT, response.chunk()).await;
            let chunk = chunk.expect("something within the limit").ok().flatten()?;
            let chunk = chunk.slice(..chunk.len().min(self.left));
            self.left -= chunk.len();
            // The tests' data is ASCII.
            self.text.push_str(std::str::from_utf8(&chunk).expect("UTF-8"));
            if self.left == 0 {
                self.response = None;
            }
        }
    }

    /// The next event that fits. Panics at the end.
    pub(crate) async fn until(&mut self, fits: impl Fn(&Event) -> bool) -> Event {
        loop {
            let event = self.next().await.expect("the awaited event");
            if fits(&event) {
                return event;
            }
        }
    }

    /// The next event that says this.
    pub(crate) async fn told(&mut self, message: &str) -> Event {
        self.until(|event| event.says().starts_with(message)).await
    }

    fn dispatch(&mut self, block: &str) -> Option<Event> {
        let (mut name, mut data) = (None, None);
        for line in block.lines() {
            let (field, value) = line.split_once(": ").unwrap_or((line, ""));
            match field {
                "id" => value.clone_into(&mut self.last_id),
                "event" => name = Some(value.to_owned()),
                "data" => data = Some(serde_json::from_str(value).expect("JSON")),
                _ => {}
            }
        }
        Some(Event {
            name: name?,
            data: data?,
        })
    }
}
