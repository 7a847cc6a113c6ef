//! What happens meanwhile: rows and broadcasts of the database.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rowcast::postgres::Connection;
use tokio::time::MissedTickBehavior;

use super::super::super::server::uuid;
use super::super::log::What;
use super::client::ROOMS;

/// Commits a second. In each, two are broadcasts, one is a row for all, and the others are rows of one in 500 each.
pub const RATE: u32 = 20;
const OF: usize = 20;
const WORDS: [usize; 2] = [2, 12];
const FOR_ALL: usize = 5;
const SHARE: usize = 500;

/// Whose rows all see.
pub const EVERYBODY: usize = 999_999;

/// Before each was written.
pub type Said = HashMap<What, Instant>;

/// Writes until it is told to stop.
pub async fn run(database: &Connection, clients: usize, stop: &AtomicBool) -> Said {
    let rows = "insert into docs (user_id, note) select given::uuid, 'note' from unnest($1::text[]) given returning id::bigint";
    let rows = database.prepare(rows).await.expect("rows");
    let word = "select realtime.send(jsonb_build_object('number', $1::bigint), 'word', $2, false)";
    let word = database.prepare(word).await.expect("broadcasts");
    let mut pace = tokio::time::interval(Duration::from_secs(1) / RATE);
    pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (mut said, mut next, mut words) = (Said::new(), 0, 0);
    let some = clients.div_ceil(SHARE);
    for turn in 0.. {
        pace.tick().await;
        let now = Instant::now();
        if stop.load(Ordering::Relaxed) {
            break;
        }
        if WORDS.contains(&(turn % OF)) {
            let number = i64::try_from(words).expect("few");
            let room = super::client::room(words % ROOMS);
            database
                .execute(&word, &[&number, &room])
                .await
                .expect("a broadcast");
            said.insert(What::Word(number), now);
            words += 1;
            continue;
        }
        let owners: Vec<String> = match turn % OF {
            FOR_ALL => vec![uuid(EVERYBODY)],
            _ => (next..next + some).map(|n| uuid(n % clients)).collect(),
        };
        next += some;
        for row in database.query(&rows, &[&owners]).await.expect("rows") {
            said.insert(What::Row(row.get(0)), now);
        }
    }
    said
}
