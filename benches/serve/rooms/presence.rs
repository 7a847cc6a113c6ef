//! Many who come at once: until everybody knows of everybody.

use std::time::{Duration, Instant};

use futures_util::{StreamExt, stream};
use rowcast::dev::PrivateCluster;
use serde_json::json;
use tokio::net::TcpStream;

use super::super::server::{Server, cpu_seconds, user};
use super::super::wire::{self, Inbox};
use super::BATCH;

const MEMBERS: usize = 500;
const TOPIC: &str = "realtime:presence";

/// What has not been told by then is not waited for.
const PATIENCE: Duration = Duration::from_secs(20);

pub async fn table(cluster: &PrivateCluster) {
    println!("\n{MEMBERS} members of one room who all track at once\n");
    println!("| until all know of all, s | frames | server cpu, s |\n|---|---|---|");
    let server = Server::start(cluster).await;
    let token = user(0);
    let sockets: Vec<_> = stream::iter(0..MEMBERS)
        .map(async |n| {
            let socket = wire::open(&server, &token).await;
            let config = wire::config(false, Some(&format!("member-{n}")), &json!([]));
            let inbox = wire::join(&socket, TOPIC, &token, &config).await;
            (socket, inbox)
        })
        .buffer_unordered(BATCH)
        .collect()
        .await;
    let (cpu, started) = (cpu_seconds(server.id()), Instant::now());
    let members = sockets
        .into_iter()
        .map(|(socket, inbox)| tokio::spawn(know_all(socket, inbox)));
    let members = futures_util::future::join_all(members);
    match tokio::time::timeout(PATIENCE, members).await {
        Ok(members) => {
            let seconds = started.elapsed().as_secs_f64();
            let frames: usize = members.iter().flatten().map(|(_, frames)| frames).sum();
            let cpu = cpu_seconds(server.id()) - cpu;
            println!("| {seconds:.2} | {frames} | {cpu:.2} |");
        }
        Err(_) => println!("| more than {} | | |", PATIENCE.as_secs()),
    }
}

/// Tracks, and reads until it has been told of everybody; how many frames that took.
async fn know_all(socket: TcpStream, mut inbox: Inbox) -> (TcpStream, usize) {
    let track =
        json!({"type": "presence", "event": "track", "payload": {"name": "somebody", "status": "online"}});
    wire::say(&socket, TOPIC, "presence", &track).await;
    let (mut known, mut frames) = (0, 0);
    while known < MEMBERS && inbox.fill(&socket).await {
        while let Some(payload) = inbox.next() {
            let text = String::from_utf8_lossy(payload);
            // Nobody leaves or changes, so that everybody is told of once.
            let told = text.matches("\"phx_ref\":").count();
            known += told;
            frames += usize::from(told > 0);
        }
    }
    // Nobody leaves before the others know of them.
    (socket, frames)
}
