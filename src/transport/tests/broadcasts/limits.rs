use axum::http::HeaderMap;

use super::*;

#[tokio::test]
async fn a_token_is_wanted_in_one_of_three_headers() {
    let server = Server::start().await;
    let paths = ["/api/broadcast", "/api/broadcast/a/events/e"];
    for path in paths {
        for (headers, status) in [
            (&[][..], 401),
            (&[("authorization", "Bearer good")], 202),
            (&[("authorization", "bEARER good")], 202),
            (&[("authorization", "Bearer expired")], 401),
            (&[("authorization", "Bearer unsigned"), ("apikey", "good")], 401),
            (&[("authorization", "Basic good")], 401),
            (&[("apikey", "good")], 202),
            (&[("apikey", "rubbish")], 401),
            (&[("x-api-key", "good")], 202),
        ] {
            let mut request = server.post(path).json(&json!({ "messages": [one("a", false)] }));
            for (name, value) in headers {
                request = request.header(*name, *value);
            }
            let answer = answer(request).await;
            let expected = if status == 202 {
                accepted()
            } else {
                message(status, "Unauthorized")
            };
            assert_eq!(answer, expected, "{path} {headers:?}");
        }
    }
    let refused = server
        .metrics
        .requests_refused
        .get_or_create(&[("reason", "unauthenticated")])
        .get();
    assert_eq!(refused, 10);
}

#[tokio::test]
async fn a_browser_may_send_and_read_the_rates() {
    let server = Server::start().await;
    let url = format!("http://{}/api/broadcast", server.address);
    let preflight = reqwest::Client::new()
        .request(reqwest::Method::OPTIONS, url)
        .header("origin", "http://x")
        .header("access-control-request-method", "POST")
        .header(
            "access-control-request-headers",
            "apikey,authorization,content-type",
        );
    let response = sent(preflight).await;
    assert_eq!(response.status(), 200);
    let header = |headers: &HeaderMap, name: &str| headers[name].to_str().unwrap().to_owned();
    assert_eq!(header(response.headers(), "access-control-allow-origin"), "*");
    assert_eq!(
        header(response.headers(), "access-control-allow-headers"),
        "apikey,authorization,content-type"
    );
    let response = sent(server.post("/api/broadcast").header("origin", "http://x")).await;
    assert_eq!(response.status(), 401);
    assert_eq!(header(response.headers(), "access-control-allow-origin"), "*");
    assert!(header(response.headers(), "access-control-expose-headers").contains("x-rate-limit"));
}

#[tokio::test]
async fn a_body_beyond_the_limit_is_not_read() {
    let server = Server::with(Settings {
        request_bytes: 100_000,
        ..Settings::default()
    })
    .await;
    let expected = message(413, "The body can have at most 100000 bytes");
    for path in ["/api/broadcast", "/api/broadcast/a/events/e"] {
        let request = || server.post(path).bearer_auth("good");
        assert_eq!(
            answer(request().body("a".repeat(100_001))).await,
            expected,
            "{path}"
        );
        let unannounced = server.chunked(path, "a".repeat(100_001)).await;
        assert!(unannounced.contains(" 413 "), "{unannounced}");
        let fits = request().body(format!("{{}}{}", " ".repeat(99_998)));
        assert_ne!(answer(fits).await.0, 413);
        let stranger = server.post(path).body("a".repeat(100_001));
        assert_eq!(
            answer(stranger).await.0,
            401,
            "nobody's body is read before the token"
        );
    }
}

fn rates(response: &Response) -> [Option<&str>; 3] {
    ["x-rate-rolling", "x-rate-limit", "x-rate-limit-remaining"]
        .map(|name| Some(response.headers().get(name)?.to_str().unwrap()))
}

#[tokio::test]
async fn answers_say_how_the_rates_stand() {
    let server = Server::start().await;
    let ping = format!("http://{}/api/ping", server.address);
    assert_eq!(
        rates(&reqwest::get(&ping).await.unwrap()),
        [Some("0"), None, None]
    );

    let server = Server::with(Settings {
        events_per_second: 100,
        ..Settings::default()
    })
    .await;
    let _listeners = [1, 2, 3, 4].map(|_| server.listen("a", false, Version::V2));
    for path in ["/api/broadcast", "/api/broadcast/a/events/e"] {
        let refused = sent(server.post(path)).await;
        assert_eq!(refused.status(), 401);
        assert_eq!(rates(&refused), [Some("0"), Some("100"), Some("100")]);
    }
    // One event for what is said, and one for each of the four who hear it.
    assert_eq!(
        server.batch(json!([one("a", false), one("a", false)])).await,
        accepted()
    );
    let ping = reqwest::get(format!("http://{}/realtime/v1/api/ping", server.address));
    assert_eq!(rates(&ping.await.unwrap()), [Some("2"), Some("100"), Some("98")]);
}

#[tokio::test]
async fn beyond_the_rate_nothing_goes_out() {
    let server = Server::with(Settings {
        events_per_second: 1,
        ..Settings::default()
    })
    .await;
    let listener = server.listen("a", false, Version::V2);
    let three = json!([one("a", false), one("a", false), one("a", false)]);
    let too_many = message(
        429,
        "Too many messages to broadcast, please reduce the batch size",
    );
    assert_eq!(server.batch(three).await, too_many);
    assert_eq!(listener.heard().await, []);
    let refused = message(429, "Too many requests");
    for path in ["/api/broadcast", "/api/broadcast/a/events/e"] {
        let stranger = async || answer(server.post(path)).await;
        server.send_until(stranger, &refused).await;
    }
    let ping = async || server.get("/api/ping").await;
    server.send_until(ping, &refused).await;

    let server = Server::with(Settings {
        bytes_per_second: 1,
        ..Settings::default()
    })
    .await;
    let exceeded = message(429, "You have exceeded your rate limit");
    let batch = async || server.batch(json!([one("a", false)])).await;
    server.send_until(batch, &exceeded).await;
    let single = async || server.single("a/events/e", "{}").await;
    server.send_until(single, &exceeded).await;
    assert_eq!(server.get("/api/ping").await.0, 200);
}
