//! The limit: a program that writes each message to all sockets of its room and does nothing else. No HTTP, no session,
//! no queue; what it reads and writes is byte for byte what the server reads and writes.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::super::wire::{self, Inbox};
use super::message::{self, PAYLOAD};
use super::topic;

/// The argument that makes this program the bare loop.
pub const ARGUMENT: &str = "bare";

type Room = Arc<RwLock<Vec<Arc<TcpStream>>>>;

/// The loop as a process; killed when dropped.
pub struct Bare {
    pub child: Child,
    port: u16,
}

impl Bare {
    pub fn start() -> Self {
        let program = std::env::current_exe().expect("this program");
        let mut child = Command::new(program)
            .arg(ARGUMENT)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the bare loop");
        let mut line = String::new();
        let stdout = child.stdout.take().expect("a pipe");
        BufReader::new(stdout).read_line(&mut line).expect("a line");
        let port = line.trim().parse().expect("a port");
        Self { child, port }
    }

    /// A member of the room with this number.
    pub async fn enter(&self, room: u32) -> TcpStream {
        let mut socket = TcpStream::connect(("127.0.0.1", self.port))
            .await
            .expect("a connection");
        socket.set_nodelay(true).expect("no delay");
        socket.write_u32(room).await.expect("a room");
        assert_eq!(socket.read_u8().await.expect("an answer"), 1);
        socket
    }
}

impl Drop for Bare {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The loop itself, until it is killed.
pub async fn run() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = listener.local_addr().expect("an address").port();
    writeln!(std::io::stdout(), "{port}").expect("somebody who reads");
    let rooms: Arc<Mutex<HashMap<u32, Room>>> = Arc::default();
    while let Ok((socket, _)) = listener.accept().await {
        let rooms = Arc::clone(&rooms);
        tokio::spawn(async move { serve(socket, &rooms).await });
    }
}

async fn serve(mut socket: TcpStream, rooms: &Mutex<HashMap<u32, Room>>) {
    socket.set_nodelay(true).expect("no delay");
    let number = socket.read_u32().await.expect("a room");
    let room = {
        let mut rooms = rooms.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(rooms.entry(number).or_default())
    };
    let socket = Arc::new(socket);
    room.write().expect("no panic").push(Arc::clone(&socket));
    wire::write(&socket, &[1]).await.expect("an answer");
    let topic = topic(number);
    let mut inbox = Inbox::new();
    while inbox.fill(&socket).await {
        while let Some(payload) = inbox.next() {
            let message = &payload[payload.len() - PAYLOAD..];
            let frame = message::delivered(&topic, message);
            for member in room.read().expect("no panic").iter() {
                // Little is under way, so that there is always room for one more.
                assert_eq!(
                    member.try_write(&frame).ok(),
                    Some(frame.len()),
                    "room in a socket"
                );
            }
        }
    }
    room.write()
        .expect("no panic")
        .retain(|member| !Arc::ptr_eq(member, &socket));
}
