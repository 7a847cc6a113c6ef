//! Frames and joins that no well-behaved client sends: the connection survives or closes as the protocol says, and a
//! neighbour on the same table never notices.

mod joins;
mod random;

use std::time::Duration;

use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::Message as Raw;

use crate::support::token::service;
use crate::support::{Client, Database, Server, Version};

const BOTH: [Version; 2] = [Version::V1, Version::V2];

fn rows() -> Value {
    json!([{"event": "*", "schema": "public", "table": "n"}])
}

/// A server, and somebody on it who only wants rows.
struct Scene {
    db: Database,
    server: Server,
    neighbour: Client,
}

impl Scene {
    async fn new() -> Self {
        Self::with(|_| {}).await
    }

    async fn with(adjust: impl FnOnce(&mut rowcast::config::Config)) -> Self {
        let db = Database::new().await;
        db.execute("create table n (id int primary key); alter publication supabase_realtime add table n")
            .await;
        let server = Server::start_with(&db, adjust).await;
        let mut neighbour = Client::connect(&server, Version::V2, &service()).await;
        neighbour.subscribe("neighbour", rows()).await;
        Self {
            db,
            server,
            neighbour,
        }
    }

    async fn client(&self, version: Version) -> Client {
        Client::connect(&self.server, version, &service()).await
    }

    async fn neighbour_is_served(&mut self) {
        self.db.execute("insert into n values (1); delete from n").await;
        assert_eq!(self.neighbour.data().await["type"], "INSERT");
        assert_eq!(self.neighbour.data().await["type"], "DELETE");
    }

    async fn end(mut self) {
        self.neighbour_is_served().await;
        self.server.stop().await;
    }
}

/// A frame as a client sends it, with a mask of zeros.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![first];
    match payload.len() {
        len @ 0..=125 => bytes.push(0x80 | u8::try_from(len).expect("short")),
        len => {
            bytes.push(0x80 | 127);
            bytes.extend(u64::try_from(len).expect("a length").to_be_bytes());
        }
    }
    bytes.extend([0; 4]);
    bytes.extend(payload);
    bytes
}

const FINAL_TEXT: u8 = 0x81;

#[tokio::test(flavor = "multi_thread")]
async fn a_message_of_six_megabytes_is_too_large() {
    let mut scene = Scene::new().await;
    let huge = "x".repeat(6_000_000);
    let valid = json!({"topic": "realtime:r", "event": "e", "payload": huge, "ref": "1"}).to_string();
    for version in BOTH {
        for message in [
            Raw::text(huge.clone()),
            Raw::text(valid.clone()),
            Raw::binary(huge.clone().into_bytes()),
        ] {
            let mut client = scene.client(version).await;
            client.subscribe("room", rows()).await;
            client.raw(message).await;
            assert_eq!(client.close_code().await, Some(1009));
        }
        // In pieces of a megabyte.
        let mut client = scene.client(version).await;
        let piece = &huge.as_bytes()[..1_000_000];
        client.bytes(&frame(0x01, piece)).await;
        for _ in 0..4 {
            client.bytes(&frame(0x00, piece)).await;
        }
        client.bytes(&frame(0x80, piece)).await;
        assert_eq!(client.close_code().await, Some(1009));
        // One that only announces more than memory: nothing is set aside for it.
        let mut client = scene.client(version).await;
        let mut header = vec![FINAL_TEXT, 0x80 | 127];
        header.extend((1_u64 << 40).to_be_bytes());
        header.extend([0; 4]);
        client.bytes(&header).await;
        assert_eq!(client.close_code().await, Some(1009));
        // The largest that is allowed is read.
        let mut client = scene.client(version).await;
        client
            .send(
                Value::Null,
                json!("big"),
                "realtime:r",
                "e",
                json!("x".repeat(4_999_900)),
            )
            .await;
        assert_eq!(client.reply("big").await["response"]["reason"], "unmatched topic");
        scene.neighbour_is_served().await;
    }
    scene.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn half_a_frame_and_then_nothing() {
    let db = Database::new().await;
    let server = Server::start_with(&db, |config| config.session.idle_timeout = Duration::from_secs(2)).await;
    let whole = frame(
        FINAL_TEXT,
        json!([null, "1", "phoenix", "heartbeat", {}])
            .to_string()
            .as_bytes(),
    );
    let mut silent = Vec::new();
    for cut in [1, 2, 5, whole.len() / 2, whole.len() - 1] {
        let mut client = Client::connect(&server, Version::V2, &service()).await;
        client.bytes(&whole[..cut]).await;
        // Gone without a word.
        drop(client);
        let mut client = Client::connect(&server, Version::V2, &service()).await;
        client.bytes(&whole[..cut]).await;
        silent.push(client);
    }
    for client in &mut silent {
        assert_eq!(
            client.close_code().await,
            Some(1000),
            "half a frame is no sign of life"
        );
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn half_a_request_does_not_keep_the_server_from_stopping() {
    let scene = Scene::new().await;
    let mut sockets = Vec::new();
    for half in [
        "",
        "G",
        "GET /socket/websocket HTTP/1.1\r\nHost: x\r\n",
        "\r\n",
        "\0\0\0",
    ] {
        let mut socket = tokio::net::TcpStream::connect(scene.server.address)
            .await
            .expect("a socket");
        tokio::io::AsyncWriteExt::write_all(&mut socket, half.as_bytes())
            .await
            .expect("taken");
        sockets.push(socket);
    }
    scene.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn binary_rubbish_of_every_kind() {
    let mut scene = Scene::new().await;
    for version in BOTH {
        let mut client = scene.client(version).await;
        client.subscribe("room", rows()).await;
        client.raw(Raw::binary(Vec::new())).await;
        for kind in 0..=255_u8 {
            for tail in [
                &[][..],
                &[0; 6],
                &[255; 6],
                &[1; 40],
                &[0, 0, 255, 0, 0, 1, b'x'],
                "ключ".as_bytes(),
            ] {
                client.raw(Raw::binary([&[kind], tail].concat())).await;
            }
        }
        // Well-formed, with strings that are not UTF-8 and a payload that is not JSON.
        client
            .raw(Raw::binary(
                b"\x03\x01\x01\x01\x01\x00\x01\xff\xff\xff\xff{".to_vec(),
            ))
            .await;
        client
            .raw(Raw::binary(
                b"\x03\x01\x01\x0d\x01\x00\x0111realtime:rooma{".to_vec(),
            ))
            .await;
        client.round_trip().await;
        scene.neighbour_is_served().await;
        assert_eq!(client.data().await["type"], "INSERT");
    }
    assert!(scene.server.metric("rowcast_frames_malformed_total").await > 2_000.0);
    scene.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_websocket_is_told_so() {
    let mut scene = Scene::new().await;
    let not_masked = b"\x81\x02{}".to_vec();
    for (bytes, code) in [
        (frame(FINAL_TEXT, b"\xff\xfe\xfd"), 1007),
        (
            frame(FINAL_TEXT, b"[null,\"1\",\"phoenix\xc3\",\"heartbeat\",{}]"),
            1007,
        ),
        (not_masked, 1002),
        (frame(0x83, b"reserved opcode"), 1002),
        (frame(0xf1, b"reserved bits"), 1002),
        (frame(0x80, b"a continuation of nothing"), 1002),
        (frame(0x89, &[b'p'; 126]), 1002),
    ] {
        for version in BOTH {
            let mut client = scene.client(version).await;
            client.subscribe("room", rows()).await;
            client.bytes(&bytes).await;
            assert_eq!(client.close_code().await, Some(code), "{bytes:?}");
        }
    }
    scene.neighbour_is_served().await;
    scene.end().await;
}

fn nested(depth: usize) -> String {
    format!("{}{}", "[".repeat(depth), "]".repeat(depth))
}

#[tokio::test(flavor = "multi_thread")]
async fn text_that_is_no_message_is_dropped() {
    let mut scene = Scene::new().await;
    let deep = nested(100_000);
    let v2 = |payload: &str| format!("[null,\"x\",\"realtime:room\",\"whatever\",{payload}]");
    let v1 = |payload: &str| {
        format!("{{\"topic\":\"realtime:room\",\"event\":\"whatever\",\"ref\":\"x\",\"payload\":{payload}}}")
    };
    let mut texts: Vec<String> = [
        "",
        " ",
        "null",
        "true",
        "7",
        "\"text\"",
        "[]",
        "{}",
        "{",
        "[",
        "]",
        "\0",
        "[1]",
        "[1,2]",
        "[1,2,3,4]",
        "[null,null,\"realtime:room\",\"phx_leave\"]",
        "[null,null,7,\"phx_leave\",{}]",
        "[null,null,\"realtime:room\",null,{}]",
        "[[],{},\"realtime:room\",\"phx_leave\",{}]",
        "[true,false,\"realtime:room\",\"phx_leave\",{}]",
        "[null,null,\"realtime:room\",\"phx_leave\",{}",
        "[null,null,\"realtime:room\",\"phx_leave\",{}]]",
        "[null,1e999,\"realtime:room\",\"phx_leave\",{}]",
        "[null,null,\"\\ud800\",\"phx_leave\",{}]",
        "{\"topic\":\"realtime:room\",\"event\":\"phx_leave\",\"payload\":{}}",
        "{\"topic\":\"realtime:room\",\"event\":\"phx_leave\",\"ref\":\"1\"}",
        "{\"topic\":\"realtime:room\",\"payload\":{},\"ref\":\"1\"}",
        "{\"event\":\"phx_leave\",\"payload\":{},\"ref\":\"1\"}",
        "{\"topic\":7,\"event\":\"phx_leave\",\"payload\":{},\"ref\":\"1\"}",
        "{\"topic\":\"realtime:room\",\"event\":\"phx_leave\",\"payload\":{},\"ref\":{}}",
        "{\"topic\":\"realtime:room\",\"event\":\"phx_leave\",\"payload\":{},\"ref\":[[]]}",
    ]
    .map(str::to_owned)
    .to_vec();
    texts.extend([
        deep.clone(),
        "{\"a\":".repeat(50_000),
        v1(&deep),
        v2(&deep),
        v1("1e999999"),
        v2("1e999999"),
    ]);
    for version in BOTH {
        let mut client = scene.client(version).await;
        client.subscribe("room", rows()).await;
        for text in &texts {
            client.raw(Raw::text(text.clone())).await;
        }
        client.round_trip().await;
        // The channel that some of them would have left is there, and silent but for rows.
        assert!(client.pending().is_empty(), "{:?}", client.pending());
        scene.neighbour_is_served().await;
        assert_eq!(client.data().await["type"], "INSERT");
    }
    // More items than five are no reason to drop one.
    let mut client = scene.client(Version::V2).await;
    client
        .raw(Raw::text(
            "[null,\"six\",\"phoenix\",\"heartbeat\",{},{\"more\":[]}]",
        ))
        .await;
    assert_eq!(client.reply("six").await["status"], "ok");
    for (reference, echoed) in [
        (
            "123456789012345678901234567890",
            json!(1.234_567_890_123_456_8e29),
        ),
        ("-0", json!(-0.0)),
        ("1.5", json!(1.5)),
        ("18446744073709551615", json!(u64::MAX)),
    ] {
        client
            .raw(Raw::text(format!(
                "[null,{reference},\"phoenix\",\"heartbeat\",{{}}]"
            )))
            .await;
        let reply = client.expect("a reply", |m| m.event == "phx_reply").await;
        assert_eq!(reply.reference, echoed);
    }
    scene.end().await;
}
