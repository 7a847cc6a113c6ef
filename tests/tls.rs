//! TLS and HTTP/2 in the server, with the clients that people have.

use std::net::SocketAddr;

use reqwest::{StatusCode, Version as Http};
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::support::tls::{Authority, shown};
use crate::support::token::service;
use crate::support::{Client, Database, Process, Program, Server, Version, eventually, process, token};

const TABLE: &str = "
    create table n (id int primary key, text text);
    grant select on n to anon, authenticated;
    alter publication supabase_realtime add table n;
";

fn rows() -> Value {
    json!([{"event": "*", "schema": "public", "table": "n"}])
}

fn url(server: &Server) -> String {
    format!("https://localhost:{}", server.address.port())
}

async fn server(database: &Database, authority: &Authority) -> Server {
    Server::start_with(database, |config| authority.configure(config)).await
}

async fn client(address: SocketAddr, authority: &Authority, version: Version) -> Client {
    let stream = authority.connect(address).await;
    Client::over(stream, "localhost", version, &service(), &[])
        .await
        .expect("a connection")
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_is_there_over_tls() {
    let db = Database::new().await;
    db.execute(TABLE).await;
    let authority = Authority::new();
    let server = server(&db, &authority).await;
    let http = authority.http();
    for version in [Version::V1, Version::V2] {
        let mut client = client(server.address, &authority, version).await;
        client.subscribe("room", rows()).await;
        db.execute("insert into n values (1, 'one')").await;
        assert_eq!(client.data().await["record"]["text"], "one");
        db.execute("delete from n").await;
        client.data().await;
        let published = http
            .post(format!("{}/realtime/v1/api/broadcast", url(&server)))
            .bearer_auth(service())
            .header("apikey", service())
            .json(&json!({"messages": [{"topic": "room", "event": "hello", "payload": {"n": 1}}]}))
            .send()
            .await
            .expect("an answer");
        assert_eq!(published.version(), Http::HTTP_2);
        assert_eq!(published.status(), StatusCode::ACCEPTED);
        let said = client.expect("a broadcast", |m| m.event == "broadcast").await;
        assert_eq!(said.payload["payload"]["n"], 1);
        client.round_trip().await;
    }
    // A WebSocket is opened on a connection of its own.
    let refused = http
        .get(format!("{}/socket/websocket?apikey={}", url(&server), service()))
        .send()
        .await
        .expect("an answer");
    assert_eq!(refused.version(), Http::HTTP_2);
    assert_eq!(refused.status(), StatusCode::BAD_REQUEST);
    let metrics = http.get(format!("{}/metrics", url(&server))).send().await;
    let metrics = metrics.expect("an answer").text().await.expect("a body");
    let expiry = metrics
        .lines()
        .find_map(|line| line.strip_prefix("rowcast_tls_certificate_expiry "));
    let expiry: i64 = expiry.expect("the metric").parse().expect("a number");
    assert!(expiry > token::now());
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn unmodified_libraries_over_tls() {
    let db = Database::new().await;
    db.execute(TABLE).await;
    let authority = Authority::new();
    let server = server(&db, &authority).await;
    let (url, key, root) = (url(&server), service(), authority.root());
    let (bindings, root) = (rows().to_string(), root.to_str().expect("a path").to_owned());
    let variables = [
        ("ROWCAST_URL", url.as_str()),
        ("ROWCAST_KEY", key.as_str()),
        ("BINDINGS", bindings.as_str()),
        ("NODE_EXTRA_CA_CERTS", root.as_str()),
        ("SSL_CERT_FILE", root.as_str()),
    ];
    let mut programs = [
        Program::node("supabase.mjs", &variables),
        Program::python("realtime_py.py", &variables),
    ];
    for program in &mut programs {
        program.next("subscribed").await;
    }
    db.execute("insert into n values (1, 'one')").await;
    for program in &mut programs {
        assert_eq!(program.next("change").await["new"]["text"], "one");
    }
    for program in programs {
        program.exit().await;
    }
    // Its HTTP goes the same way.
    let mut channel = Program::node("channel.mjs", &variables);
    channel
        .expect("status", |line| line["status"] == "SUBSCRIBED")
        .await;
    let send = json!({"cmd": "http_send", "event": "e", "payload": {"n": 1}});
    channel.tell(send).await;
    assert_eq!(channel.next("sent").await["result"]["success"], true);
    channel.exit().await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_http2_client_asks_many_things_at_once() {
    let db = Database::new().await;
    let authority = Authority::new();
    let root = authority.root();
    let root = root.to_str().expect("a path");
    let secured = server(&db, &authority).await;
    let plain_db = Database::new().await;
    let plain = Server::start(&plain_db).await;
    for (url, protocol) in [(url(&secured), "h2"), (plain.url(), "h2c")] {
        let mut node = Program::node("http2.mjs", &[("ROWCAST_URL", &url), ("ROOT", root)]);
        let connected = node.next("connected").await;
        assert_eq!(
            (&connected["protocol"], &connected["extendedConnect"]),
            (&json!(protocol), &json!(false))
        );
        let ask = |id: usize| json!({"id": id, "headers": {":path": "/livez"}});
        let mut requests: Vec<Value> = (0..100).map(ask).collect();
        let bearer = format!("Bearer {}", service());
        let large = "x".repeat(2 << 20);
        requests.push(json!({
            "id": "large",
            "headers": {
                ":path": "/api/broadcast",
                ":method": "POST",
                "authorization": bearer,
                "apikey": service(),
                "content-type": "application/json",
            },
            "body": json!({"messages": [{"topic": "t", "event": "e", "payload": {"x": large}}]}).to_string(),
        }));
        node.tell(json!({"cmd": "ask", "requests": requests})).await;
        for id in 0..100 {
            let answer = node.expect("answer", |line| line["id"] == id).await;
            assert_eq!(answer["status"], 200, "{answer}");
        }
        let large = node.expect("answer", |line| line["id"] == "large").await;
        assert_eq!(large["status"], 202, "{large}");
    }
    // Who holds a connection is told that the server goes.
    let mut node = Program::node("http2.mjs", &[("ROWCAST_URL", &url(&secured)), ("ROOT", root)]);
    node.next("connected").await;
    secured.stop().await;
    node.next("closed").await;
    plain.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn large_frames_reach_a_slow_reader_whole() {
    const SIZE: usize = 8 << 20;
    let db = Database::new().await;
    db.execute(TABLE).await;
    let authority = Authority::new();
    let server = Server::start_with(&db, |config| {
        authority.configure(config);
        config.limits.record_bytes = 2 * SIZE;
        config.limits.outbox_bytes = 8 * SIZE;
    })
    .await;
    let narrow = authority.connect_narrow(server.address).await;
    let mut slow = Client::over(narrow, "localhost", Version::V2, &service(), &[])
        .await
        .expect("a connection");
    slow.subscribe("room", rows()).await;
    let mut fast = client(server.address, &authority, Version::V2).await;
    fast.subscribe("room", rows()).await;
    for id in 1..=3 {
        db.execute(&format!("insert into n values ({id}, repeat('{id}', {SIZE}))"))
            .await;
    }
    db.execute("insert into n values (4, 'small')").await;
    let check = |id: usize, row: &Value| {
        let text = row["record"]["text"].as_str().expect("a text");
        let expected = if id == 4 {
            "small".to_owned()
        } else {
            id.to_string().repeat(SIZE)
        };
        assert!(text == expected, "row {id}: {} bytes", text.len());
    };
    // Nobody waits for the one who does not read.
    for id in 1..=4 {
        check(id, &fast.data().await);
    }
    for id in 1..=4 {
        check(id, &slow.data().await);
    }
    slow.round_trip().await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn close_codes_are_heard_over_tls() {
    let db = Database::new().await;
    let authority = Authority::new();
    let server = server(&db, &authority).await;
    let mut wrong = client(server.address, &authority, Version::V2).await;
    // A frame of a kind that there is not.
    wrong.bytes(&[0x8f, 0x80, 0, 0, 0, 0]).await;
    assert_eq!(wrong.close_code().await, Some(1002));
    let mut clients = Vec::new();
    for _ in 0..20 {
        clients.push(client(server.address, &authority, Version::V2).await);
    }
    let stopping = tokio::spawn(server.stop());
    for client in &mut clients {
        assert_eq!(client.close_code().await, Some(1012));
    }
    stopping.await.expect("a clean end");
}

#[tokio::test(flavor = "multi_thread")]
async fn certificates_are_replaced_while_clients_stay() {
    let db = Database::new().await;
    let authority = Authority::new();
    let server = server(&db, &authority).await;
    let mut before = client(server.address, &authority, Version::V2).await;
    let next = authority.issue();
    eventually("the new certificate is shown", || async {
        let stream = authority.connect(server.address).await;
        (*shown(&stream) == next).then_some(())
    })
    .await;
    before.round_trip().await;
    // A broken one is not taken over.
    std::fs::write(authority.certificate(), "half of one").expect("a file");
    let http = authority.http();
    eventually("the broken one is counted", || async {
        let metrics = http.get(format!("{}/metrics", url(&server))).send().await;
        let metrics = metrics.expect("an answer").text().await.expect("a body");
        metrics
            .contains("rowcast_tls_certificate_reloads_total{outcome=\"broken\"}")
            .then_some(())
    })
    .await;
    assert_eq!(*shown(&authority.connect(server.address).await), next);
    before.round_trip().await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hangup_has_the_certificate_read_again() {
    let db = Database::new().await;
    let authority = Authority::new();
    let (certificate, key) = (authority.certificate(), authority.key());
    let settings = [
        (
            "ROWCAST_LISTEN_TLS_CERTIFICATE",
            certificate.to_str().expect("a path"),
        ),
        ("ROWCAST_LISTEN_TLS_KEY", key.to_str().expect("a path")),
    ];
    let server = Process::serve(&db.settings, "rowcast_hangup", &settings).await;
    let in_use = |log: &[String]| {
        log.iter()
            .filter(|line| line.contains("certificate in use"))
            .count()
    };
    eventually("it serves", || async {
        (in_use(&server.log()) == 1).then_some(())
    })
    .await;
    server.signal(Signal::HUP);
    eventually("it has read it again", || async {
        (in_use(&server.log()) == 2).then_some(())
    })
    .await;
    let mut client = client(server.address, &authority, Version::V2).await;
    client.round_trip().await;
    server.terminate();
    assert_eq!(client.close_code().await, Some(1012));
    let (status, log) = server.ended().await;
    assert!(status.success(), "{log:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn files_that_cannot_be_used_are_named_before_anything_is_served() {
    let db = Database::new().await;
    let authority = Authority::new();
    let certificate = authority.certificate().display().to_string();
    let key = authority.key().display().to_string();
    let root = authority.root().display().to_string();
    for (arguments, code, said) in [
        (
            vec!["--listen-tls-certificate", &certificate],
            2,
            "listen.tls_key (from the default): expected a file, as listen.tls_certificate is set".to_owned(),
        ),
        (
            vec!["--listen-tls-key", &key],
            2,
            "listen.tls_certificate (from the default): expected a file, as listen.tls_key is set".to_owned(),
        ),
        (
            vec!["--listen-tls-certificate", "/nowhere", "--listen-tls-key", &key],
            2,
            "listen.tls_certificate /nowhere: No such file or directory".to_owned(),
        ),
        (
            vec!["--listen-tls-certificate", &root, "--listen-tls-key", &key],
            2,
            format!(
                "listen.tls_key {key} is not the key of the certificate in listen.tls_certificate {root}"
            ),
        ),
    ] {
        let serve = [&["serve", "--host", "127.0.0.1", "--port", "0"], &arguments[..]].concat();
        let output = process::run(&db.settings, &serve).await;
        let errors = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{errors}");
        assert!(errors.contains(&said), "{errors}");
    }
    let check = |certificate| {
        [
            "check",
            "--listen-tls-certificate",
            certificate,
            "--listen-tls-key",
            &key,
        ]
    };
    let good = process::run(&db.settings, &check(&certificate)).await;
    let report = String::from_utf8_lossy(&good.stdout);
    assert!(
        report.contains("ok    certificate") && report.contains("localhost; expires on "),
        "{report}"
    );
    let bad = process::run(&db.settings, &check(&root)).await;
    let report = String::from_utf8_lossy(&bad.stdout);
    assert!(
        report.contains("FAIL  certificate") && report.contains("is not the key of"),
        "{report}"
    );
    assert_eq!(bad.status.code(), Some(1));
}
