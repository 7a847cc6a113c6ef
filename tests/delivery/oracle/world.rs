//! Tables, who may read them, and what happens to rows and connections.

use std::fmt::Write as _;
use std::time::Duration;

use crate::oracle::random::Random;
use crate::support::proxy::{End, Fate};

pub(super) const SCHEMA: &str = "
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
pub(super) const TEAMS: usize = 3;
pub(super) const USERS: usize = 4;

pub(super) fn user(n: usize) -> String {
    format!("a0000000-0000-4000-8000-00000000000{n}")
}

/// A random transaction.
pub(super) fn transaction(random: &mut Random) -> String {
    let mut sql = String::from("begin;");
    for _ in 0..=random.below(4) {
        let id = random.below(IDS);
        let owner = user(random.below(USERS));
        let (team, kind) = (random.below(TEAMS), id % 3);
        let other = random.below(IDS);
        let _ = match random.below(50) {
            0..19 => write!(
                sql,
                "insert into t values ({id}, {kind}, '{owner}', {team}, nextval('version'))
                 on conflict (id) do update set team = excluded.team, ver = excluded.ver;"
            ),
            19..23 => write!(
                sql,
                "update t set owner = '{owner}', ver = nextval('version') where id = {id};"
            ),
            23..30 => write!(sql, "delete from t where id = {id};"),
            30..37 => write!(sql, "update t set ver = nextval('version') where team = {team};"),
            37..41 => write!(
                sql,
                "insert into members values ({team}, '{owner}') on conflict do nothing;"
            ),
            41..45 => write!(
                sql,
                "delete from t where id = {other} and {id} <> {other};
                 update t set id = {other}, kind = {}, ver = nextval('version') where id = {id};",
                other % 3
            ),
            45 => write!(sql, "truncate t;"),
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

/// Whether the replay window is so short that many who come back are too late.
pub(super) fn is_short(seed: u64) -> bool {
    seed % 3 == 2
}

pub(super) fn fate(seed: u64, connection: u64) -> Fate {
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
