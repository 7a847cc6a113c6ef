//! What was due, and what came of it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rowcast::postgres::Connection;

use super::super::log::{Account, What};
use super::super::reader::{Kind, lock};
use super::super::{quantile, rows_behind};
use super::client::{ROOMS, kind_of};
use super::diary::Diary;
use super::flow::{EVERYBODY, Said};
use super::{PATIENCE, Times};

const KINDS: [(&str, Kind); 3] = [
    ("with session ids", Kind::Session),
    ("with cursors", Kind::Since),
    ("streams of events", Kind::Events),
];

/// Rows and broadcasts of each client.
pub struct Due {
    rows: Vec<Vec<What>>,
    words: Vec<Vec<What>>,
}

pub async fn due(database: &Connection, before: i64, clients: usize, said: &Said) -> Due {
    let written = rows_behind(database, before).await;
    let (none, words) = (Vec::new(), said.keys());
    let for_all = written.get(&Some(EVERYBODY)).unwrap_or(&none);
    let rows = (0..clients).map(|n| {
        let own = written.get(&Some(n)).unwrap_or(&none);
        own.iter().chain(for_all).copied().map(What::Row).collect()
    });
    let mut rooms = vec![Vec::new(); ROOMS];
    for word in words {
        if let What::Word(number) = word {
            rooms[usize::try_from(*number).expect("few") % ROOMS].push(*word);
        }
    }
    Due {
        rows: rows.collect(),
        words: (0..clients).map(|n| rooms[n % ROOMS].clone()).collect(),
    }
}

/// Waits for what is still under way, and prints all of it.
pub async fn tell(name: &str, times: &Times, diaries: &[Arc<Mutex<Diary>>], due: &Due, said: &Said) {
    let deadline = Instant::now() + PATIENCE / 6;
    let (rows, words) = loop {
        let rows = accounts(diaries, &due.rows, said);
        let words = accounts(diaries, &due.words, said);
        if rows.0.missed + words.0.missed == 0 || Instant::now() > deadline {
            break (rows, words);
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    };
    let seconds = |time: Option<Duration>| time.map_or(f64::NAN, |time| time.as_secs_f64());
    println!(
        "{name}: the second ready after {:.2} s, rows of all live again after {:.2} s; memory at most, MiB: {} and {}\n",
        seconds(times.live),
        seconds(times.all_back),
        times.peaks[0] / 1024,
        times.peaks[1] / 1024,
    );
    println!(
        "| clients | from the last row before to the first after, s: p50 | p99 | at most |\n|---|---|---|---|"
    );
    for (what, kind) in KINDS {
        let of_kind = diaries.iter().enumerate().filter(|(n, _)| kind_of(*n) == kind);
        let gap = |(_, diary): (_, &Arc<Mutex<Diary>>)| Some(lock(diary).gap()?.as_secs_f64());
        let mut gaps: Vec<f64> = of_kind.filter_map(gap).collect();
        let [p50, p99, most] = [0.5, 0.99, 1.0].map(|share| quantile(&mut gaps, share));
        println!("| {} {what} | {p50:.2} | {p99:.2} | {most:.2} |", gaps.len());
    }
    println!();
    println!(
        "| what | due | delivered | repeated, told | repeated, untold | missed, told to resync | missed, untold | out of order |"
    );
    println!("|---|---|---|---|---|---|---|---|");
    for (what, (account, excused)) in [("rows", rows), ("broadcasts", words)] {
        println!(
            "| {what} | {} | {} | {} | {} | {excused} | {} | {} |",
            account.due,
            account.delivered,
            account.repeated,
            account.untold,
            account.missed - excused,
            account.disorder,
        );
    }
    println!(
        "\ntold to resync: {}\ntroubles: {}\n",
        counts(diaries, |diary| &diary.resyncs),
        counts(diaries, |diary| &diary.troubles)
    );
}

/// All together, and how much of what is missing those know of who miss it.
fn accounts(diaries: &[Arc<Mutex<Diary>>], due: &[Vec<What>], said: &Said) -> (Account, usize) {
    let (mut all, mut excused) = (Account::default(), 0);
    for (diary, due) in diaries.iter().zip(due) {
        let diary = lock(diary);
        let account = diary.log.account(due.iter().copied());
        if account.missed > 0 && diary.excused {
            let early = |what: &&What| said.get(what).is_some_and(|at| Some(*at) < diary.log.live);
            let early = due.iter().filter(early).copied();
            excused += diary.log.account(early).missed;
        }
        all.add(&account);
    }
    (all, excused)
}

/// How often each was noted, as text.
fn counts(diaries: &[Arc<Mutex<Diary>>], noted: impl Fn(&Diary) -> &BTreeMap<String, usize>) -> String {
    let mut all: BTreeMap<String, usize> = BTreeMap::new();
    for diary in diaries {
        for (what, count) in noted(&lock(diary)) {
            *all.entry(what.clone()).or_default() += count;
        }
    }
    match all.is_empty() {
        true => "none".to_owned(),
        false => {
            let all = all
                .into_iter()
                .map(|(what, count)| format!("{count} x \"{what}\""));
            all.collect::<Vec<_>>().join(", ")
        }
    }
}
