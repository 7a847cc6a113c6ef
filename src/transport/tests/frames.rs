//! A socket alone: whole frames in order, whatever the connection takes at once.

use std::collections::VecDeque;

use axum::extract::ws::Utf8Bytes;
use bytes::Bytes;
use futures_util::FutureExt;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Role, WebSocketConfig};

use super::*;
use crate::transport::socket::Socket;

type Reader = WebSocketStream<TcpStream>;

async fn pair() -> (Socket, Reader) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    let (server, _) = listener.accept().await.unwrap();
    let server = Socket::new(server, Bytes::new(), WebSocketConfig::default()).await;
    let client = WebSocketStream::from_raw_socket(client, Role::Client, None).await;
    (server, client)
}

/// What comes until the close frame.
async fn everything(mut client: Reader) -> Vec<Message> {
    let mut messages = Vec::new();
    while let Some(message) = client.next().await {
        match message.unwrap() {
            Message::Close(_) => {}
            message => messages.push(message),
        }
    }
    messages
}

fn away() -> CloseFrame {
    CloseFrame {
        code: 1001.into(),
        reason: "away".into(),
    }
}

async fn end(mut server: Socket) {
    server.close(away()).await.unwrap();
    while let Some(Ok(_)) = server.next().await {}
}

#[tokio::test]
async fn frames_of_every_length_arrive_whole_and_in_order() {
    let (mut server, client) = pair().await;
    let lengths = (0..200).chain([65_535, 65_536, 3_000_000]).chain([125, 126, 0]);
    let text = |length: usize| "abcdefg".repeat(length / 7 + 1).split_off(7 - length % 7);
    let texts: Vec<String> = lengths.map(text).collect();
    let client = tokio::spawn(everything(client));
    for (n, texts) in texts.chunks(70).enumerate() {
        let frame = |text: &String| match n {
            0 => Frame::Binary(Bytes::from(text.clone())),
            _ => Frame::Text(Utf8Bytes::from(text.clone())),
        };
        server.queue(texts.iter().map(frame).collect());
    }
    server.flush().await.unwrap();
    assert!(server.is_written());
    end(server).await;
    let expected = texts.into_iter().enumerate().map(|(n, text)| match n {
        0..70 => Message::binary(text),
        _ => Message::text(text),
    });
    assert!(client.await.unwrap().into_iter().eq(expected));
}

#[tokio::test]
async fn what_is_forgotten_and_what_is_answered_leaves_no_half_frame() {
    const MANY: usize = 64;
    const SIZE: usize = 1 << 20;
    let (mut server, mut client) = pair().await;
    let frames: VecDeque<Frame> = (0..MANY)
        .map(|n| Frame::Binary(vec![u8::try_from(n).unwrap(); SIZE].into()))
        .collect();
    server.queue(frames);
    while let Some(outcome) = server.write_some().now_or_never() {
        outcome.unwrap();
    }
    assert!(!server.is_written(), "more than the connection holds");
    client
        .send(Message::Ping(Bytes::from_static(b"?")))
        .await
        .unwrap();
    server.forget();
    let client = tokio::spawn(everything(client));
    let ping = server.next().await.unwrap().unwrap();
    assert_eq!(ping, Message::Ping(Bytes::from_static(b"?")));
    end(server).await;
    let mut messages = client.await.unwrap();
    assert_eq!(messages.pop(), Some(Message::Pong(Bytes::from_static(b"?"))));
    assert!((1..MANY).contains(&messages.len()), "{} frames", messages.len());
    for (n, message) in messages.into_iter().enumerate() {
        assert!(
            message == Message::binary(vec![u8::try_from(n).unwrap(); SIZE]),
            "frame {n}"
        );
    }
}
