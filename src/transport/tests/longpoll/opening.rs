//! Who gets a session, and what others are told.

use reqwest::Response;
use reqwest::header::{ACCESS_CONTROL_ALLOW_ORIGIN, ORIGIN};

use super::*;

#[tokio::test]
async fn refusals_are_those_of_the_socket_with_a_status_that_clients_know() {
    let server = Server::with(Settings {
        connections: 1,
        connect_error_delay: Duration::ZERO,
        ..Settings::default()
    })
    .await;
    let ask = async |query: &str| -> Response {
        let url = format!("http://{}/socket/longpoll{query}", server.address);
        let request = reqwest::Client::new()
            .get(url)
            .header(ORIGIN, "http://example.org");
        request.send().await.unwrap()
    };
    for (query, status, told) in [
        ("", 401, json!({"error": "API key is missing", "status": 403})),
        (
            "?apikey=expired",
            401,
            json!({"error": "Token has expired", "status": 403}),
        ),
        (
            "?apikey=unsigned&token=null",
            401,
            json!({"error": "Failed to validate JWT signature", "status": 403}),
        ),
        ("?apikey=good&vsn=3.0.0", 403, json!({"status": 403})),
    ] {
        let response = ask(query).await;
        assert_eq!(response.status(), status, "{query}");
        assert_eq!(response.headers()[CACHE_CONTROL], "no-store");
        assert_eq!(response.headers()[ACCESS_CONTROL_ALLOW_ORIGIN], "*");
        assert_eq!(response.json::<Value>().await.unwrap(), told);
    }
    // A browser asks before it sends lines of JSON to another origin.
    let url = format!("http://{}/socket/longpoll", server.address);
    let preflight = reqwest::Client::new()
        .request(Method::OPTIONS, url)
        .header(ORIGIN, "http://example.org")
        .header("access-control-request-method", "POST")
        .header(
            "access-control-request-headers",
            "content-type,x-phoenix-authtoken",
        );
    let allowed = preflight.send().await.unwrap();
    assert_eq!(allowed.status(), 200);
    assert_eq!(
        allowed.headers()["access-control-allow-headers"],
        "content-type,x-phoenix-authtoken"
    );
    let _first = Poller::v2(&server).await;
    let response = ask("?apikey=good").await;
    assert_eq!(response.status(), 429);
    let told = json!({"error": "Too many connected users", "status": 500});
    assert_eq!(response.json::<Value>().await.unwrap(), told);
    assert_eq!(server.metrics.connections.get(), 1);
}

#[tokio::test]
async fn a_token_that_is_none_opens_nothing() {
    let server = Server::start().await;
    let gone = json!({"status": 410, "token": null, "messages": []});
    let mut client = Poller::v2(&server).await;
    let good = client.token.clone();
    let unknown = format!("{}.0", "A".repeat(22));
    for token in [
        unknown.as_str(),
        "rubbish",
        "%00",
        "a.b",
        &format!("{good}1"),
        &format!("{}7", good),
    ] {
        client.token = token.to_owned();
        assert_eq!(client.get().await, gone, "{token}");
    }
    for token in ["", "null", &unknown, "rubbish"] {
        client.token = token.to_owned();
        assert_eq!(client.post("application/json", "[]").await, gone, "{token}");
    }
    for method in [Method::HEAD, Method::PUT, Method::DELETE] {
        let url = format!("http://{}/socket/longpoll?apikey=good", server.address);
        let response = client.http.request(method, url).send().await.unwrap();
        assert_eq!(response.status(), 405);
    }
    assert_eq!(server.metrics.connections.get(), 1);
    client.token = good;
    client.send(&[heartbeat("1")]).await;
    assert_eq!(client.receive(1).await[0][1], "1");
}
