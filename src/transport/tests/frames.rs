//! A socket alone, over TCP and over TLS: whole frames in order, whatever the connection takes at once.

use std::collections::VecDeque;

use axum::extract::ws::Utf8Bytes;
use bytes::Bytes;
use futures_util::FutureExt;
use rustls::pki_types::{PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite};
use tokio_rustls::{TlsAcceptor, TlsConnector};
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Role, WebSocketConfig};

use super::*;
use crate::transport::socket::Socket;

type Reader = WebSocketStream<Box<dyn Wire>>;

/// The client's end of a connection.
trait Wire: AsyncRead + AsyncWrite + Unpin + Send {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send> Wire for T {}

#[derive(Clone, Copy, Debug)]
enum Over {
    Tcp,
    Tls,
}

const BOTH: [Over; 2] = [Over::Tcp, Over::Tls];

async fn pair(over: Over) -> (Socket, Reader) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    let (server, _) = listener.accept().await.unwrap();
    let (server, client): (Stream, Box<dyn Wire>) = match over {
        Over::Tcp => (Stream::Plain(server), Box::new(client)),
        Over::Tls => {
            let (acceptor, connector) = tls();
            let name = ServerName::try_from("localhost").unwrap();
            let (server, client) =
                tokio::try_join!(acceptor.accept(server), connector.connect(name, client)).unwrap();
            (Stream::Tls(Box::new(server)), Box::new(client))
        }
    };
    let server = Socket::new(server, Bytes::new(), WebSocketConfig::default()).await;
    let client = WebSocketStream::from_raw_socket(client, Role::Client, None).await;
    (server, client)
}

fn tls() -> (TlsAcceptor, TlsConnector) {
    let key = rcgen::KeyPair::generate().unwrap();
    let params = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    let certificate = params.self_signed(&key).unwrap().der().clone();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut roots = RootCertStore::empty();
    roots.add(certificate.clone()).unwrap();
    let client = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
    let server = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)
        .unwrap();
    (Arc::new(server).into(), Arc::new(client).into())
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
    server.hang_up();
}

#[tokio::test]
async fn frames_of_every_length_arrive_whole_and_in_order() {
    for over in BOTH {
        every_length(over).await;
    }
}

async fn every_length(over: Over) {
    let (mut server, client) = pair(over).await;
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
    for over in BOTH {
        forgotten_and_answered(over).await;
    }
}

async fn forgotten_and_answered(over: Over) {
    const MANY: usize = 64;
    const SIZE: usize = 1 << 20;
    let (mut server, mut client) = pair(over).await;
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

#[tokio::test]
async fn what_is_written_has_gone_out() {
    for over in BOTH {
        let (mut server, mut client) = pair(over).await;
        let mut count = 0_usize;
        // TLS takes more than the connection does.
        'full: loop {
            server.queue(VecDeque::from([Frame::Binary(vec![0; 1_000].into())]));
            count += 1;
            while !server.is_written() {
                match server.write_some().now_or_never() {
                    Some(outcome) => outcome.unwrap(),
                    None => break 'full,
                }
            }
        }
        // Nobody writes any more: whatever was said to be written comes, all but the last.
        for n in 1..count {
            let message = tokio::time::timeout(PATIENCE, client.next()).await;
            let message = message.unwrap_or_else(|_| panic!("{over:?}: {n} of {count} frames"));
            assert_eq!(message.unwrap().unwrap().len(), 1_000);
        }
        let client = tokio::spawn(everything(client));
        server.flush().await.unwrap();
        end(server).await;
        assert_eq!(client.await.unwrap().len(), 1);
    }
}

#[tokio::test]
async fn the_end_of_tls_is_said() {
    let (mut server, mut client) = pair(Over::Tls).await;
    server.hang_up();
    drop(server);
    // Otherwise it is an error of the connection: somebody may have cut it.
    let ended = client.get_mut().read(&mut [0]).await;
    assert_eq!(ended.unwrap(), 0);
}
