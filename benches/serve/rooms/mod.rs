//! Broadcasts to rooms: deliveries per second and delay, beside a program that does nothing but write the same frames to
//! the same number of sockets.

pub mod bare;
mod crowd;
mod message;
mod presence;

use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream;
use rowcast::dev::PrivateCluster;
use serde_json::json;

use super::server::{Server, cpu_seconds, user};
use super::wire;
use bare::Bare;
use crowd::Crowd;

/// Rooms of one size.
struct Shape {
    members: u32,
    rooms: u32,
    /// Messages under way in each room when there is no pause.
    window: usize,
    /// Messages per second when there is, and how many.
    paced: (f64, usize),
}

/// About a thousand sockets each time. Where one message is under way, both write as often; where there are more, those that
/// wait for a socket may leave in one write, which the limit does not do.
const SHAPES: [Shape; 3] = [
    Shape {
        members: 6,
        rooms: 166,
        window: 1,
        paced: (1_000.0, 4_000),
    },
    Shape {
        members: 1_000,
        rooms: 1,
        window: 1,
        paced: (6.0, 24),
    },
    Shape {
        members: 1_000,
        rooms: 1,
        window: 8,
        paced: (6.0, 24),
    },
];

/// The two are measured in turns, this often and this long: others use the machine, too.
const ROUNDS: usize = 5;
const WARMTH: Duration = Duration::from_millis(300);
const ROUND: Duration = Duration::from_millis(1_200);

/// Connections that are opened side by side.
const BATCH: usize = 32;

/// The topic of the room with this number; all are of one length.
fn topic(room: u32) -> String {
    format!("realtime:room-{room:05}")
}

pub async fn table(cluster: &PrivateCluster) {
    println!(
        "\nbroadcasts of {} bytes (binary frames); speed: the next message is sent when one has come to all, {ROUNDS} rounds in \
         turns, the median; delay: from the sender to each member at a steady {} deliveries per second; cpu: of the server, \
         microseconds per delivery; limit: a loop that writes the same frames to the same number of sockets\n",
        message::PAYLOAD,
        SHAPES[0].paced.0 * f64::from(SHAPES[0].members),
    );
    println!("| members | rooms | under way in each | | deliveries/s | of the limit | cpu | p50 | p99 |");
    println!("|---|---|---|---|---|---|---|---|---|");
    for shape in &SHAPES {
        let server = Server::start(cluster).await;
        let bare = Bare::start();
        let limit = crowd(shape, async |room| bare.enter(room).await).await;
        let (token, config) = (user(0), wire::config(true, None, &json!([])));
        let rooms = crowd(shape, async |room| {
            let socket = wire::open(&server, &token).await;
            wire::join(&socket, &topic(room), &token, &config).await;
            socket
        })
        .await;
        compare(shape, (&limit, bare.child.id()), (&rooms, server.id())).await;
    }
    presence::table(cluster).await;
}

async fn crowd(shape: &Shape, enter: impl AsyncFn(u32) -> tokio::net::TcpStream) -> Crowd {
    let all = (0..shape.rooms).flat_map(|room| (0..shape.members).map(move |_| room));
    let mut sockets: Vec<_> = stream::iter(all)
        .map(async |room| (room, enter(room).await))
        .buffer_unordered(BATCH)
        .collect()
        .await;
    sockets.sort_by_key(|(room, _)| *room);
    let mut rooms: Vec<Vec<_>> = (0..shape.rooms).map(|_| Vec::new()).collect();
    for (room, socket) in sockets {
        rooms[usize::try_from(room).expect("small")].push(socket);
    }
    Crowd::new(rooms, shape.window)
}

/// Prints two lines, of the limit and of the server.
async fn compare(shape: &Shape, limit: (&Crowd, u32), server: (&Crowd, u32)) {
    let mut rates = [Vec::new(), Vec::new()];
    let mut costs = [Vec::new(), Vec::new()];
    for _ in 0..ROUNDS {
        for (who, (crowd, process)) in [limit, server].into_iter().enumerate() {
            let before = cpu_seconds(process);
            let (deliveries, seconds) = crowd.talk(WARMTH, ROUND).await;
            let cpu = cpu_seconds(process) - before;
            rates[who].push(deliveries as f64 / seconds);
            // The warming up is part of it.
            let warmth = 1.0 + WARMTH.as_secs_f64() / seconds;
            costs[who].push(cpu / warmth / deliveries as f64 * 1e6);
        }
    }
    let shares = rates[1].iter().zip(&rates[0]).map(|(ours, limit)| ours / limit);
    let share = median(shares.collect());
    let (per_second, messages) = shape.paced;
    for (who, (crowd, _)) in [limit, server].into_iter().enumerate() {
        let delays = crowd.pace(messages, per_second).await;
        let at = |share: f64| {
            let place = ((delays.len().max(1) - 1) as f64 * share) as usize;
            delays.get(place).copied().unwrap_or(f64::NAN)
        };
        println!(
            "| {} | {} | {} | {} | {:.0} | {} | {:.1} | {:.2} | {:.2} |",
            shape.members,
            shape.rooms,
            shape.window,
            ["limit", "Rowcast"][who],
            median(rates[who].clone()),
            if who == 0 {
                String::new()
            } else {
                format!("{share:.2}")
            },
            median(costs[who].clone()),
            at(0.5),
            at(0.99),
        );
    }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}
