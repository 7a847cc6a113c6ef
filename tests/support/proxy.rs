//! A network between clients and a server that misbehaves by plan: it cuts, delays, truncates, swallows and throttles.
//!
//! What happens to the n-th connection is a function of n, given by the test, so that a seed says all of it.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::sleep;

/// How a connection ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// When one side ends it.
    Whole,
    /// Both sides see a reset after this time.
    Reset(Duration),
    /// Both sides see an orderly end after this time, wherever a message was.
    Cut(Duration),
    /// The client sees an orderly end after so many bytes from the server: in the middle of a frame.
    Truncated(usize),
    /// Nothing more comes from the server after so many bytes, and nobody is told, until [`Proxy::cut_all`].
    Held(usize),
    /// Nothing passes any more after this time, and nobody is told.
    Hole(Duration),
}

/// What happens to a connection.
#[derive(Clone, Copy, Debug)]
pub struct Fate {
    /// How it ends.
    pub end: End,
    /// Everything is so late, in both directions.
    pub delay: Duration,
    /// Bytes from the server in ten milliseconds, if they are counted.
    pub rate: Option<usize>,
}

impl Fate {
    /// Nothing happens.
    pub const NONE: Self = Self {
        end: End::Whole,
        delay: Duration::ZERO,
        rate: None,
    };
}

type Plan = dyn Fn(u64) -> Fate + Send + Sync;

/// A running proxy. Its connections end with it.
pub struct Proxy {
    /// Where clients connect to.
    pub address: SocketAddr,
    shared: Arc<Shared>,
    accepting: JoinHandle<()>,
}

struct Shared {
    target: Mutex<SocketAddr>,
    plan: Mutex<Arc<Plan>>,
    taken: AtomicU64,
    /// Changes when all connections are to end.
    cut: watch::Sender<u64>,
}

impl Proxy {
    /// Starts one in front of a server. No connection has a fate until [`Proxy::plan`].
    pub async fn start(target: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("a bound port");
        let shared = Arc::new(Shared {
            target: Mutex::new(target),
            plan: Mutex::new(Arc::new(|_| Fate::NONE)),
            taken: AtomicU64::new(0),
            cut: watch::Sender::new(0),
        });
        let accepting = tokio::spawn(accept(listener, Arc::clone(&shared)));
        Self {
            address,
            shared,
            accepting,
        }
    }

    /// What happens to connections from now on, by their number.
    pub fn plan(&self, plan: impl Fn(u64) -> Fate + Send + Sync + 'static) {
        *self.shared.plan.lock().expect("the plan") = Arc::new(plan);
    }

    /// Nothing more happens to those that come, and those that are there are reset.
    pub fn calm(&self) {
        self.plan(|_| Fate::NONE);
        self.cut_all();
    }

    /// Resets every connection.
    pub fn cut_all(&self) {
        self.shared.cut.send_modify(|cut| *cut += 1);
    }

    /// Later connections lead to another server.
    pub fn lead_to(&self, target: SocketAddr) {
        *self.shared.target.lock().expect("the target") = target;
    }

    /// Connections so far.
    pub fn taken(&self) -> u64 {
        self.shared.taken.load(Ordering::Relaxed)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accepting.abort();
        self.cut_all();
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    while let Ok((client, _)) = listener.accept().await {
        let number = shared.taken.fetch_add(1, Ordering::Relaxed);
        let fate = shared.plan.lock().expect("the plan")(number);
        let target = *shared.target.lock().expect("the target");
        let mut cut = shared.cut.subscribe();
        tokio::spawn(async move {
            let Ok(server) = TcpStream::connect(target).await else {
                return;
            };
            let _ = (client.set_nodelay(true), server.set_nodelay(true));
            // Dropped without a goodbye, a socket with this is reset.
            let reset = |socket: &TcpStream| socket.set_zero_linger().expect("a socket");
            if matches!(fate.end, End::Reset(_)) {
                reset(&client);
                reset(&server);
            }
            tokio::select! {
                () = forward(client, server, fate) => {}
                _ = cut.changed() => {}
            }
        });
    }
}

async fn forward(client: TcpStream, server: TcpStream, fate: Fate) {
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    let most = match fate.end {
        End::Truncated(bytes) | End::Held(bytes) => bytes,
        _ => usize::MAX,
    };
    let up = pass(from_client, to_server, (fate.delay, None), usize::MAX);
    let down = async {
        let (ends, left) = pass(from_server, to_client, (fate.delay, fate.rate), most).await;
        if matches!(fate.end, End::Held(_)) && left == 0 {
            std::future::pending::<()>().await;
        }
        (ends, left)
    };
    let over = async {
        match fate.end {
            End::Whole | End::Truncated(_) | End::Held(_) => std::future::pending::<()>().await,
            End::Reset(after) | End::Cut(after) | End::Hole(after) => sleep(after).await,
        }
    };
    let passing = async {
        tokio::select! {
            both = up => both,
            both = down => both,
        }
    };
    tokio::pin!(passing);
    tokio::select! {
        _ends = &mut passing => {}
        () = over => if matches!(fate.end, End::Hole(_)) {
            // Both sockets stay as they are, and nobody reads from them.
            std::future::pending::<()>().await;
        }
    }
}

/// Passes bytes on until an end, or until so many have been passed. Both ends, and how many were left to pass.
async fn pass(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    (delay, rate): (Duration, Option<usize>),
    mut most: usize,
) -> ((OwnedReadHalf, OwnedWriteHalf), usize) {
    let mut buffer = vec![0; rate.unwrap_or(16 << 10)];
    while most > 0 {
        let Ok(count @ 1..) = from.read(&mut buffer).await else {
            break;
        };
        sleep(delay).await;
        if rate.is_some() {
            sleep(Duration::from_millis(10)).await;
        }
        let count = count.min(most);
        most -= count;
        if to.write_all(&buffer[..count]).await.is_err() {
            break;
        }
    }
    ((from, to), most)
}
