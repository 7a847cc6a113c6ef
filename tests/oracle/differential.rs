//! Every (table, reader, row) of random worlds, judged by us and by a SELECT as that reader. A failure prints its seed
//! (`ROWCAST_SEED` runs it again) and the smallest world that shows it; `make oracle` searches for as long as one likes.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use super::random::Random;
use super::rig::{Judged, Rig, Truth};
use super::shrink::{Difference, shrink};
use super::subject::{Answer, Subject};
use super::world::{self, World};

/// How long new worlds are begun; `ROWCAST_ORACLE_SECONDS` for a longer search.
const SECONDS: u64 = 12;
/// Tables of a world: reading the catalog takes longest, and one reading is enough for all of them.
const TABLES: usize = 20;
/// Sets of policies that each world gets.
const ROUNDS: usize = 4;

/// What was compared.
#[derive(Default)]
struct Tally {
    worlds: usize,
    rounds: usize,
    policies: usize,
    refused: usize,
    triples: usize,
    visible: usize,
    raised: usize,
    unplanned: usize,
    asked: usize,
    /// Why Postgres was to be asked: how often, and a policy of the sort.
    reasons: BTreeMap<String, (usize, String)>,
}

#[tokio::test(flavor = "multi_thread")]
async fn verdicts_in_memory_are_those_of_a_select() {
    let rig = Rig::new().await;
    let subject = Subject::compiled(&rig).await;
    eprintln!("{}", search(rig, subject, SECONDS).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn verdicts_of_the_judge_are_those_of_a_select() {
    let rig = Rig::new().await;
    let subject = Subject::judged(&rig);
    eprintln!("{}", search(rig, subject, SECONDS / 2).await);
}

/// What was compared; fails at the first difference.
async fn search(mut rig: Rig, subject: Subject, seconds: u64) -> String {
    let time = Duration::from_secs(number("ROWCAST_ORACLE_SECONDS").unwrap_or(seconds));
    let started = Instant::now();
    let mut tally = Tally::default();
    for seed in seeds() {
        if started.elapsed() >= time {
            break;
        }
        if let Some(found) = run(&mut rig, &subject, seed, TABLES, &mut tally).await {
            let context = describe(&found);
            let smallest = shrink(&mut rig, &subject, found).await;
            let smallest = describe(&smallest);
            panic!("ROWCAST_SEED={seed}\nfirst seen as {context}\n\nthe smallest:\n{smallest}");
        }
    }
    assert!(
        tally.visible * 20 > tally.triples,
        "hardly anything is visible: a poor search"
    );
    assert!(
        tally.refused * 2 < tally.policies,
        "Postgres refuses most policies: a poor search"
    );
    tally.report()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_verdict_is_found_and_made_small() {
    let mut rig = Rig::new().await;
    let subject = Subject::faulty(&rig);
    let mut tally = Tally::default();
    for seed in 1..20 {
        if let Some(found) = run(&mut rig, &subject, seed, 2, &mut tally).await {
            let smallest = shrink(&mut rig, &subject, found).await;
            let world = &smallest.world;
            let counts = (
                world.tables.len(),
                world.tables[0].policies.len(),
                world.tables[0].rows.len(),
            );
            assert_eq!(counts, (1, 1, 1), "{}", describe(&smallest));
            let size = world.tables[0].policies[0].using.size();
            assert!(size <= 5, "{size} nodes: {}", describe(&smallest));
            return;
        }
    }
    panic!("not found:\n{}", tally.report());
}

/// As many as there is time for: always the same ones where somebody waits for the tests, and random ones for whoever is
/// searching.
pub fn seeds() -> impl Iterator<Item = u64> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970");
    let searching = number("ROWCAST_ORACLE_SECONDS").map(|_| u64::from(now.subsec_nanos()));
    let chosen = number("ROWCAST_SEED");
    let first = chosen.or(searching).unwrap_or(1);
    (first..).take(if chosen.is_some() { 1 } else { usize::MAX })
}

pub fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

/// One world with its sets of policies; the first difference.
async fn run(
    rig: &mut Rig,
    subject: &Subject,
    seed: u64,
    tables: usize,
    tally: &mut Tally,
) -> Option<Difference> {
    let mut random = Random(seed);
    let mut world = world::world(&mut random, tables);
    rig.build(&mut world).await;
    tally.worlds += 1;
    for _ in 0..ROUNDS {
        world::policies(&mut random, &mut world);
        tally.policies += world
            .tables
            .iter()
            .map(|table| table.policies.len())
            .sum::<usize>();
        tally.refused += rig.replace_policies(&mut world).await;
        tally.rounds += 1;
        let all = rig.judge(&world, subject).await;
        tally.count(&world, &all);
        if let Some(judged) = all.into_iter().find(Judged::is_wrong) {
            return Some(Difference { world, judged });
        }
    }
    None
}

impl Tally {
    fn count(&mut self, world: &World, all: &[Judged]) {
        self.triples += all.len();
        for judged in all {
            match judged.theirs {
                Truth::Visible => self.visible += 1,
                Truth::Raised(_) => self.raised += 1,
                Truth::Unplanned(_) => self.unplanned += 1,
                Truth::Hidden => {}
            }
            if let Answer::Ask(why) = &judged.ours {
                self.asked += 1;
                let policies = || {
                    let all = world.tables[judged.table].policies.iter();
                    all.map(|policy| policy.using.to_string())
                        .collect::<Vec<_>>()
                        .join(" | ")
                };
                self.reasons
                    .entry(why.clone())
                    .or_insert_with(|| (0, policies()))
                    .0 += 1;
            }
        }
    }

    fn report(&self) -> String {
        let share = |n: usize, of: usize| 100.0 * n as f64 / of.max(1) as f64;
        let mut text = format!(
            "{} worlds, {} rounds, {} policies ({:.1} % refused by Postgres); {} triples, {:.1} % visible, \
             {:.1} % raise, {:.1} % cannot be planned, {:.1} % asked",
            self.worlds,
            self.rounds,
            self.policies,
            share(self.refused, self.policies),
            self.triples,
            share(self.visible, self.triples),
            share(self.raised, self.triples),
            share(self.unplanned, self.triples),
            share(self.asked, self.triples),
        );
        let mut reasons: Vec<_> = self.reasons.iter().collect();
        reasons.sort_by_key(|(_, (count, _))| std::cmp::Reverse(*count));
        for (why, (count, example)) in reasons.iter().take(25) {
            let example: String = example.chars().take(160).collect();
            let _ = write!(text, "\n  {count:>7} {why}: {example}");
        }
        text
    }
}

fn describe(found: &Difference) -> String {
    let Difference { world, judged } = found;
    let table = &world.tables[judged.table];
    let reader = &world.readers[judged.reader];
    let policies: String = table
        .policies
        .iter()
        .map(|policy| format!("{};\n", policy.sql(table)))
        .collect();
    let mut claims = reader.claims.to_string();
    claims.truncate(claims.char_indices().nth(600).map_or(claims.len(), |(at, _)| at));
    let row = table
        .rows
        .iter()
        .find(|row| row.id == judged.row)
        .expect("its row");
    let only = World {
        tables: vec![table.clone()],
        ..world.clone()
    };
    let own = only.contents();
    format!(
        "ours {:?}, theirs {:?}\n{policies}as {} with {claims}\nrow {} of {}: {:?}\n{own}",
        judged.ours, judged.theirs, reader.role, judged.row, table.name, row.values
    )
}
