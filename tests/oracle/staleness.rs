//! What a relation returns changes only with the tables it says it reads, and where it has a probe, only with rows that
//! the probe finds: a change that it does not speak of must not matter to anybody.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use rowcast::policy::{ParamKey, Program, RelationRequest};

use super::compiled::{Compiled, Reading};
use super::differential::{number, seeds};
use super::random::Random;
use super::rig::{Loaded, Rig};
use super::subquery::READ;
use super::world::{self, World, literal};

/// How long new worlds are begun; `ROWCAST_ORACLE_SECONDS` for a longer search.
const SECONDS: u64 = 4;
/// Relations that are looked at in each world.
const RELATIONS: usize = 40;

/// A row put into one of the tables that relations read, one taken out, or both.
struct Change {
    table: usize,
    sql: String,
}

#[tokio::test(flavor = "multi_thread")]
async fn relations_change_only_with_what_they_read() {
    let mut rig = Rig::new().await;
    let compiled = Compiled::new(&rig).await;
    let time = Duration::from_secs(number("ROWCAST_ORACLE_SECONDS").unwrap_or(SECONDS));
    let started = Instant::now();
    let (mut compared, mut changed) = (0, 0);
    for seed in seeds() {
        if started.elapsed() >= time {
            break;
        }
        let mut random = Random(seed);
        let mut world = world::world(&mut random, 8);
        rig.build(&mut world).await;
        world::policies(&mut random, &mut world);
        rig.replace_policies(&mut world).await;
        let loaded = rig.load(&world).await;
        let changes: Vec<Change> = (0..6)
            .map(|i| change(&mut random, &world, i % READ.len()))
            .collect();
        for (request, role) in requests(&world, &loaded).iter().take(RELATIONS) {
            let before = sorted(compiled.rows(request, role, "select").await);
            for change in &changes {
                let after = sorted(compiled.rows(request, role, &change.sql).await);
                compared += 1;
                if after.rows != before.rows {
                    changed += 1;
                    let context = format!(
                        "ROWCAST_SEED={seed}\n{request:#?}\nas {role}\n{}\nbefore {:?}\nafter {:?}",
                        change.sql, before.rows, after.rows
                    );
                    foreseen(&rig, request, change, &after, &context).await;
                }
            }
        }
    }
    eprintln!("{compared} readings, {changed} of them changed");
    assert!(changed > 0, "no change was seen at all");
}

/// Fails unless the request speaks of such a change.
async fn foreseen(rig: &Rig, request: &RelationRequest, change: &Change, after: &Reading, context: &str) {
    let (name, _) = READ[change.table];
    let oid = rig
        .database()
        .text(&format!("select 'world.{name}'::regclass::oid::text"))
        .await;
    let oid: u32 = oid.parse().expect("an oid");
    assert!(
        request.query.reads.contains(&oid),
        "{name} is not among what it reads\n{context}"
    );
    let Some(probe) = request.query.probe.as_ref().filter(|probe| probe.table == oid) else {
        return;
    };
    let place = request
        .query
        .params
        .iter()
        .position(|param| *param == probe.param);
    let key = &request.params[place.expect("a parameter that it depends on")];
    let found = after.changed.iter().any(|row| match (key, &row[probe.column]) {
        (ParamKey::Text(key), Some(value)) => **key == **value,
        _ => false,
    });
    assert!(
        found,
        "the probe does not find the row that was changed\n{context}"
    );
}

/// The relations of a world, each once, with the roles to read them as.
fn requests(world: &World, loaded: &Loaded) -> Vec<(RelationRequest, String)> {
    let mut found = HashMap::new();
    let mut all = Vec::new();
    for table in &world.tables {
        let table = loaded.table(table);
        for claims in &loaded.claims {
            let role = &loaded.access[&*claims.role];
            let program = Program::new(table, &role.tables[&table.oid], &role.functions, &loaded.catalog);
            for request in program.requests(&program.bind(claims), claims) {
                let reader = request.query.owner.as_ref().unwrap_or(&claims.role).to_string();
                let key = (
                    request.query.sql.to_string(),
                    request.params.clone(),
                    reader.clone(),
                );
                if found.insert(key, ()).is_none() {
                    all.push((request, reader));
                }
            }
        }
    }
    all
}

fn change(random: &mut Random, world: &World, table: usize) -> Change {
    let (name, columns) = READ[table];
    let mut sql = String::new();
    let rows = world.read[table].len();
    if rows > 0 && random.percent(70) {
        let at = random.below(rows);
        sql = format!(
            "delete from world.{name} where ctid = (select ctid from world.{name} offset {at} limit 1) returning *; "
        );
    }
    if sql.is_empty() || random.percent(50) {
        let values: Vec<String> = columns
            .iter()
            .map(|(_, kind)| literal(random, *kind, 10))
            .collect();
        sql.push_str(&format!(
            "insert into world.{name} values ({}) returning *",
            values.join(", ")
        ));
    }
    Change { table, sql }
}

fn sorted(mut reading: Reading) -> Reading {
    if let Ok(rows) = &mut reading.rows {
        rows.sort();
    }
    reading
}
