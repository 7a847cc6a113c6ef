//! Long polling, by a client that does what phoenix.js does.

mod ending;
mod exchange;
mod opening;

use reqwest::Method;
use reqwest::header::CACHE_CONTROL;

use super::*;

/// A client by long polling, as phoenix.js is one: one request for messages at a time.
struct Poller {
    http: reqwest::Client,
    url: String,
    token: String,
}

impl Poller {
    async fn open(server: &Server, path: &str) -> Self {
        let mut poller = Self {
            http: reqwest::Client::new(),
            url: format!("http://{}{path}", server.address),
            token: String::new(),
        };
        let answer = poller.get().await;
        assert_eq!(
            (&answer["status"], &answer["messages"]),
            (&json!(410), &json!([])),
            "{answer}"
        );
        poller.token = answer["token"].as_str().unwrap().to_owned();
        poller
    }

    async fn v2(server: &Server) -> Self {
        Self::open(server, "/realtime/v1/longpoll?apikey=good&vsn=2.0.0").await
    }

    fn url(&self) -> String {
        format!("{}&token={}", self.url, self.token)
    }

    /// Asks for messages; the token stays as it is.
    async fn get(&self) -> Value {
        let response = self.http.get(self.url()).send().await.unwrap();
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()[CACHE_CONTROL], "no-store");
        response.json().await.unwrap()
    }

    /// The same in a task of its own.
    fn asking(&self) -> tokio::task::JoinHandle<Value> {
        let request = self.http.get(self.url());
        tokio::spawn(async move { request.send().await.unwrap().json().await.unwrap() })
    }

    /// The next messages, and takes the token that they came with.
    #[track_caller]
    fn messages(&mut self) -> impl Future<Output = Vec<Value>> + '_ {
        let caller = std::panic::Location::caller();
        async move {
            loop {
                let answer = tokio::time::timeout(PATIENCE, self.get()).await.unwrap();
                self.token = answer["token"].as_str().unwrap_or_default().to_owned();
                let messages = answer["messages"].as_array().cloned().unwrap_or_default();
                match answer["status"].as_u64() {
                    Some(200) => return messages.iter().map(parsed).collect(),
                    Some(204) => assert!(messages.is_empty()),
                    _ => panic!("expected messages at {caller}, got {answer}"),
                }
            }
        }
    }

    /// So many messages, in however many answers.
    async fn receive(&mut self, count: usize) -> Vec<Value> {
        let mut messages = Vec::new();
        while messages.len() < count {
            messages.extend(self.messages().await);
        }
        assert_eq!(messages.len(), count, "{messages:#?}");
        messages
    }

    async fn post(&self, media: &str, body: impl Into<reqwest::Body>) -> Value {
        let request = self.http.post(self.url()).header("content-type", media);
        request.body(body).send().await.unwrap().json().await.unwrap()
    }

    async fn send(&self, frames: &[Value]) {
        let lines: Vec<_> = frames.iter().map(Value::to_string).collect();
        let answer = self.post("application/x-ndjson", lines.join("\n")).await;
        assert_eq!(answer, json!({"status": 200}));
    }

    async fn join(&mut self, topic: &str, config: Value) -> Vec<Value> {
        self.send(&[json!(["1", "1", topic, "phx_join", { "config": config }])])
            .await;
        self.messages().await
    }
}

fn parsed(text: &Value) -> Value {
    serde_json::from_str(text.as_str().unwrap()).unwrap()
}

fn heartbeat(reference: &str) -> Value {
    json!([null, reference, "phoenix", "heartbeat", {}])
}

async fn quick() -> Server {
    Server::with(Settings {
        connect_error_delay: Duration::ZERO,
        poll_wait: Duration::from_millis(150),
        poll_patience: Duration::from_secs(3),
        ..Settings::default()
    })
    .await
}

fn closed(server: &Server, reason: &'static str) -> u64 {
    server
        .metrics
        .connections_closed
        .get_or_create(&[("reason", reason)])
        .get()
}
