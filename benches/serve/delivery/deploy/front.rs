//! What stands in front of two servers: it sends who comes to one that is ready, and looks often which one that is. As one in the
//! kernel of a host does (the services of Kubernetes), it only says where to, and carries nothing.

use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::super::super::wire;

/// Between two looks.
const LOOK: Duration = Duration::from_millis(50);
const PATIENCE: Duration = Duration::from_secs(2);

/// See the module. Ends when dropped by the one who started it, and with it the clients.
#[derive(Clone)]
pub struct Front {
    ready: watch::Receiver<Option<u16>>,
    turned: Arc<OnceLock<Instant>>,
    _looking: Arc<Looking>,
}

struct Looking(JoinHandle<()>);

impl Drop for Looking {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Front {
    pub fn start([first, second]: [u16; 2]) -> Self {
        let (to, ready) = watch::channel(Some(first));
        let turned: Arc<OnceLock<Instant>> = Arc::default();
        let turns = Arc::clone(&turned);
        let looking = tokio::spawn(async move {
            loop {
                let now = match (is_ready(first).await, is_ready(second).await) {
                    (true, _) => Some(first),
                    (_, true) => Some(second),
                    _ => None,
                };
                if now == Some(second) {
                    turns.get_or_init(Instant::now);
                }
                to.send_replace(now);
                tokio::time::sleep(LOOK).await;
            }
        });
        Self {
            ready,
            turned,
            _looking: Arc::new(Looking(looking)),
        }
    }

    /// Where to connect.
    pub fn port(&self) -> Option<u16> {
        *self.ready.borrow()
    }

    /// When it sent clients to the second for the first time.
    pub fn turned(&self) -> Option<Instant> {
        self.turned.get().copied()
    }
}

async fn is_ready(port: u16) -> bool {
    let asked = async {
        let mut socket = TcpStream::connect(("127.0.0.1", port)).await?;
        let request = b"GET /readyz HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n";
        socket.write_all(request).await?;
        wire::head(&mut socket, b"HTTP/1.1 200").await
    };
    timeout(PATIENCE, asked).await.is_ok_and(|answer| answer.is_ok())
}
