//! The oracle of delivery: random transactions, rights and faults, and clients that hold what they were told. At the end each
//! holds what its SELECT returns, and none was ever told a version of a row that it may not have read.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use rowcast::postgres::ConnectSettings;
use serde_json::{Value, json};

use super::seed;
use super::walker::{Path, Told, Walker, What};
use crate::oracle::random::Random;
use crate::support::proxy::{End, Fate};
use crate::support::{Database, Process, Proxy, eventually, own, server, token};

const SCHEMA: &str = "
    create sequence version;
    create table t (id int primary key, kind int, owner uuid, team int, ver bigint not null);
    create table members (team int, who uuid, primary key (team, who));
    alter table t replica identity full;
    alter table members replica identity full;
    alter table t enable row level security;
    alter table members enable row level security;
    create policy mine on members for select using (who = auth.uid());
    create policy own on t for select using (owner = auth.uid()
        or team in (select m.team from members m where m.who = auth.uid()));
    grant select on t, members to authenticated;
    alter publication supabase_realtime add table t;

    -- Every version that was ever committed, and who was in which team, by the order of their transactions.
    create table versions (ver bigint, id int, kind int, owner uuid, team int, tx bigint);
    create table stays (team int, who uuid, since bigint, until bigint);
    create function note_version() returns trigger language plpgsql as $$ begin
        insert into versions values (new.ver, new.id, new.kind, new.owner, new.team, txid_current());
        return null;
    end $$;
    create trigger note after insert or update on t for each row execute function note_version();
    create function note_stay() returns trigger language plpgsql as $$ begin
        if tg_op = 'INSERT' then
            insert into stays values (new.team, new.who, txid_current(), null);
        else
            update stays set until = txid_current() where team = old.team and who = old.who and until is null;
        end if;
        return null;
    end $$;
    create trigger note after insert or delete on members for each row execute function note_stay();

    create function held_by(who uuid, kinds int[]) returns json language plpgsql as $$
    declare rows json;
    begin
        perform set_config('request.jwt.claims', json_build_object('sub', who, 'role', 'authenticated')::text, true);
        perform set_config('role', 'authenticated', true);
        execute 'select coalesce(json_object_agg(id, ver), ''{}'') from t where kind = any ($1)' into rows using kinds;
        perform set_config('role', 'none', true);
        return rows;
    end $$;
";

const IDS: usize = 40;
const TEAMS: usize = 3;
const USERS: usize = 4;

fn user(n: usize) -> String {
    format!("a0000000-0000-4000-8000-00000000000{n}")
}

/// One of the clients: who it is, and what it asked for.
struct Reader {
    who: String,
    kinds: Vec<i64>,
    walker: Walker,
}

impl Reader {
    fn start(number: usize, proxy: &Proxy, seed: u64, random: &mut Random) -> Self {
        let who = user(number % USERS);
        let (filter, kinds) = match random.below(3) {
            0 => (Value::Null, vec![0, 1, 2]),
            1 => (json!("kind=eq.1"), vec![1]),
            _ => (json!("kind=in.(0,2)"), vec![0, 2]),
        };
        let mut change = json!({"event": "*", "schema": "public", "table": "t", "transitions": true});
        if !filter.is_null() {
            change["filter"] = filter;
        }
        let path = Path {
            address: proxy.address,
            token: token::user(&who),
            session: number.is_multiple_of(3).then(|| format!("r{number}")),
            topic: format!("t{number}"),
            config: json!({"postgres_changes": [change]}),
            seed: seed ^ number as u64,
        };
        let walker = Walker::start(path);
        Self { who, kinds, walker }
    }

    /// What it holds having been told this, and where it had to read everything again.
    fn holds(&self, told: &[Told]) -> BTreeMap<i64, i64> {
        let mut held = BTreeMap::new();
        for told in told {
            match &told.what {
                What::Row(data) if data["type"] == "DELETE" => {
                    held.remove(&data["old_record"]["id"].as_i64().expect("a key"));
                }
                What::Row(data) => {
                    let row = &data["record"];
                    let number = |name: &str| row[name].as_i64().expect("a number");
                    held.insert(number("id"), number("ver"));
                }
                What::Read(rows) => held.clone_from(rows),
                _ => {}
            }
        }
        held
    }
}

/// A random transaction.
fn transaction(random: &mut Random) -> String {
    let mut sql = String::from("begin;");
    for _ in 0..=random.below(4) {
        let id = random.below(IDS);
        let owner = user(random.below(USERS));
        let (team, kind) = (random.below(TEAMS), id % 3);
        let _ = match random.below(12) {
            0..5 => write!(
                sql,
                "insert into t values ({id}, {kind}, '{owner}', {team}, nextval('version'))
                 on conflict (id) do update set team = excluded.team, ver = excluded.ver;"
            ),
            5 => write!(
                sql,
                "update t set owner = '{owner}', ver = nextval('version') where id = {id};"
            ),
            6..8 => write!(sql, "delete from t where id = {id};"),
            8..10 => write!(sql, "update t set ver = nextval('version') where team = {team};"),
            10 => write!(
                sql,
                "insert into members values ({team}, '{owner}') on conflict do nothing;"
            ),
            _ => write!(
                sql,
                "delete from members where team = {team} and who = '{owner}';"
            ),
        };
    }
    sql.push_str(if random.percent(15) {
        "rollback;"
    } else {
        "commit;"
    });
    sql
}

fn fate(seed: u64, connection: u64) -> Fate {
    let mut random = Random(seed ^ connection.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    let after = Duration::from_millis(200 + u64::try_from(random.below(1_500)).expect("small"));
    let end = match random.below(10) {
        0..4 => End::Reset(after),
        4..7 => End::Cut(after),
        7..9 => End::Truncated(500 + random.below(20_000)),
        _ => End::Hole(after),
    };
    let delay = Duration::from_millis(if random.percent(30) { 30 } else { 0 });
    Fate {
        end,
        delay,
        rate: random.percent(10).then_some(2_000),
    }
}

async fn serve(settings: &ConnectSettings, slot: &str) -> Process {
    Process::serve(settings, slot, &[("ROWCAST_RESUME_ACKNOWLEDGE", "20ms")]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn everybody_ends_with_what_a_select_returns_and_saw_nothing_else() {
    let seed = seed(7);
    let mut random = Random(seed);
    let db = Database::new().await;
    db.execute(SCHEMA).await;
    for n in 0..USERS {
        db.execute(&format!(
            "insert into members values ({}, '{}')",
            n % TEAMS,
            user(n)
        ))
        .await;
    }
    let slot = format!("rowcast_{}", db.name);
    let mut running = serve(&db.settings, &slot).await;
    let proxy = Proxy::start(running.address).await;
    let readers: Vec<Reader> = (0..12)
        .map(|n| Reader::start(n, &proxy, seed, &mut random))
        .collect();
    for reader in &readers {
        let (settings, who, kinds) = (db.settings.clone(), reader.who.clone(), reader.kinds.clone());
        let again = move || read(settings.clone(), who.clone(), kinds.clone());
        reader.walker.read_again_by(move || Box::pin(again()));
    }
    eventually("all are known", || async {
        readers
            .iter()
            .all(|reader| reader.walker.is_known())
            .then_some(())
    })
    .await;
    proxy.plan(move |connection| fate(seed, connection));
    proxy.cut_all();
    let (mut kills, mut stops) = (0, 0);
    for step in 0..300 {
        db.execute(&transaction(&mut random)).await;
        // Slowly enough for connections to begin and end meanwhile.
        tokio::time::sleep(Duration::from_millis(20)).await;
        if random.percent(8) {
            let reader = random.one(&readers);
            reader.walker.wait(random.percent(40));
        }
        if step % 60 == 59 {
            // In the middle of what is being sent.
            if random.percent(50) {
                kills += 1;
                running.kill().await;
            } else {
                stops += 1;
                running.terminate();
                running.ended().await;
            }
            for _ in 0..random.below(10) {
                db.execute(&transaction(&mut random)).await;
            }
            running = serve(&db.settings, &slot).await;
            proxy.lead_to(running.address);
        }
    }
    readers.iter().for_each(|reader| reader.walker.wait(false));
    proxy.calm();
    // Who lost a membership holds rows that no event took away; who got one lacks those that none brought.
    db.execute("update t set ver = nextval('version')").await;
    server::passed(running.address, &db).await;
    for reader in &readers {
        let settled = async {
            loop {
                let wanted = read(db.settings.clone(), reader.who.clone(), reader.kinds.clone()).await;
                let mut held = reader.holds(&reader.walker.log().told);
                let others = held.extract_if(.., |id, _| !wanted.contains_key(id)).collect();
                if held == wanted && are_out_of_reach(&db, &reader.who, others).await {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        if tokio::time::timeout(crate::support::LIMIT, settled)
            .await
            .is_err()
        {
            let wanted = read(db.settings.clone(), reader.who.clone(), reader.kinds.clone()).await;
            let log = reader.walker.log();
            panic!(
                "ROWCAST_SEED={seed} {}\nwanted {wanted:?}\nheld   {:?}\n{log:#?}",
                reader.who,
                reader.holds(&log.told)
            );
        }
    }
    let mut counts = (0, 0, 0);
    for reader in &readers {
        let (told, resyncs) = judge(&db, reader, seed).await;
        counts = (
            counts.0 + told,
            counts.1 + resyncs,
            counts.2 + reader.walker.log().connections,
        );
    }
    eprintln!(
        "ROWCAST_SEED={seed}: {} events on {} connections, {} read again, {kills} killed, {stops} stopped",
        counts.0, counts.2, counts.1
    );
    assert!(counts.0 > 300, "nothing was tried: {counts:?}");
    running.kill().await;
}

/// Whether all these versions are in teams that somebody has left since: no event says so, and none of the rows comes later.
async fn are_out_of_reach(db: &Database, who: &str, others: Vec<(i64, i64)>) -> bool {
    for (id, ver) in others {
        let sql = format!(
            "select exists (select from versions v join stays s on s.team = v.team and s.who = '{who}'
             where v.id = {id} and v.ver = {ver} and s.until >= v.tx)::text"
        );
        if db.text(&sql).await != "true" {
            return false;
        }
    }
    true
}

/// What a SELECT returns: versions by key.
async fn read(settings: ConnectSettings, who: String, kinds: Vec<i64>) -> BTreeMap<i64, i64> {
    let sql = format!("select held_by('{who}', array{kinds:?})::text");
    let rows: Value = serde_json::from_str(&own::text(&settings, &sql).await).expect("JSON");
    let rows = rows.as_object().expect("an object").iter();
    rows.map(|(id, ver)| (id.parse().expect("a key"), ver.as_i64().expect("a version")))
        .collect()
}

/// Every version that somebody was told had been committed, fits what it asked for, and could be read by it then or later.
async fn judge(db: &Database, reader: &Reader, seed: u64) -> (usize, usize) {
    let told: Vec<(i64, i64)> = {
        let log = reader.walker.log();
        let row = |told: &Told| match &told.what {
            What::Row(data) if data["type"] != "DELETE" => {
                let number = |name: &str| data["record"][name].as_i64();
                Some((number("id")?, number("ver")?))
            }
            _ => None,
        };
        log.told.iter().filter_map(row).collect()
    };
    let values: Vec<String> = told.iter().map(|(id, ver)| format!("({id}, {ver})")).collect();
    if !values.is_empty() {
        let (who, kinds) = (&reader.who, &reader.kinds);
        let wrong = format!(
            "select coalesce(json_agg(told), '[]')::text from (values {}) told (id, ver) where not exists (
                select from versions v where v.ver = told.ver and v.id = told.id and v.kind = any (array{kinds:?})
                and (v.owner = '{who}' or exists (
                    select from stays s where s.team = v.team and s.who = '{who}' and coalesce(s.until > v.tx, true))))",
            values.join(", ")
        );
        assert_eq!(db.text(&wrong).await, "[]", "ROWCAST_SEED={seed}: told to {who}");
    }
    let log = reader.walker.log();
    let resync = |told: &&Told| matches!(&told.what, What::Outcome(text) if text.starts_with("resync"));
    let resyncs: Vec<_> = log.told.iter().filter(resync).collect();
    for told in &resyncs {
        // Only a server that has just begun does not know a session, or what clients said before; rows have no other reason.
        let What::Outcome(text) = &told.what else { continue };
        let known = ["does not know the session", "the server was replaced"];
        assert!(
            known.iter().any(|reason| text.contains(reason)),
            "ROWCAST_SEED={seed}: {text}"
        );
    }
    (told.len(), resyncs.len())
}
