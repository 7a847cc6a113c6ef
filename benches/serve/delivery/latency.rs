//! From commit to client where little happens, by what is read.

use std::collections::HashMap;
use std::time::Instant;

use rowcast::dev::PrivateCluster;
use rowcast::postgres::Connection;

use super::super::scale::millis;
use super::super::server::{Server, user};
use super::super::writer;
use super::log::What;
use super::reader::{Ask, Kind, all_live, until};
use super::{cells, policy, scaled, stream};

const CLIENTS: usize = 1_000;
const RATE: u32 = 20;
const ROWS: usize = 160;

const KINDS: [(&str, Kind); 4] = [
    ("WebSocket", Kind::Plain),
    ("WebSocket with a session id", Kind::Session),
    ("WebSocket with cursors", Kind::Since),
    ("server-sent events", Kind::Events),
];

pub async fn table(cluster: &PrivateCluster, database: &Connection) {
    let (clients, rows) = (scaled(CLIENTS), scaled(ROWS));
    println!(
        "\n{rows} commits at {RATE}/s, each for one of {clients} clients: ms from the writer's acknowledgement to the client\n"
    );
    println!("| clients by | arrived | p50 | p99 |\n|---|---|---|---|");
    policy(database, "user_id = auth.uid()").await;
    for (name, kind) in KINDS {
        let server = Server::start(cluster).await;
        if kind == Kind::Events && !stream::served(server.port(), &user(0)).await {
            println!("| {name} | not served | | |");
        } else {
            let readers = all_live((0..clients).map(|n| Ask::new(&server, kind, n))).await;
            let committed = writer::paced(database, rows, RATE, clients).await;
            let came = || readers.iter().map(|r| r.log().arrivals.len()).sum::<usize>() >= rows;
            until(std::time::Duration::from_secs(5), came).await;
            let committed: HashMap<What, Instant> = committed
                .into_iter()
                .map(|(id, at)| (What::Row(id), at))
                .collect();
            let mut delays = Vec::new();
            for reader in &readers {
                let log = reader.log();
                let arrived = log.arrivals.iter();
                delays.extend(arrived.filter_map(|a| Some(millis(*committed.get(&a.what)?, a.at))));
            }
            println!("| {name} | {} | {} |", delays.len(), cells(&mut delays));
        }
        server.retire(database).await;
    }
}
