//! Reading from Postgres.

use super::*;
use crate::policy::{Engine, Judge, Settings};
use crate::postgres::testing::Cluster;
use crate::postgres::{Connection, InstallOptions, Pool, PoolOptions, Session, install};

/// Rights that follow from being inside: a table under row-level security, a schema nobody may enter, an owner.
const SCHEMA: &str = "
    do $$ begin create role relation_reader; create role relation_owner;
    exception when duplicate_object or unique_violation then null; end $$;
    create table members (org int, person int);
    alter table members enable row level security;
    create policy own on members using (person = current_setting('request.jwt.claim.sub')::int);
    insert into members values (1, 7), (2, 7), (null, 7), (3, 8);
    grant select on members to relation_reader;
    create table hidden (a int);
    insert into hidden values (5);
    alter table hidden owner to relation_owner;
    create schema closed;
    create table closed.open (a int);
    insert into closed.open values (6);
    grant select on closed.open to relation_reader;
    create table slow (a int);
    create view sleepy as select a from slow, pg_sleep(60);
    insert into slow values (1);
    grant select on sleepy to relation_reader";

struct Reading {
    db: Connection,
    engine: Engine,
    relations: Relations,
}

impl Reading {
    async fn new() -> Self {
        let (name, mut db) = Cluster::shared().database().await;
        let options = InstallOptions {
            create_roles: false,
            ..InstallOptions::default()
        };
        install(&mut db, &options).await.expect("the functions");
        db.batch_execute(SCHEMA).await.expect("a schema");
        let mut session = Session::new("test");
        session.statement_timeout = Some(Duration::from_secs(2));
        session.read_only = true;
        let options = PoolOptions {
            size: 3,
            wait: Duration::from_secs(10),
            session,
        };
        let pool = Pool::new(&Cluster::shared().settings(&name), &options).expect("a pool");
        let settings = Settings {
            timeout: Duration::from_secs(2),
            quarantine: Duration::from_secs(3600),
            parallel: 2,
            batch: 100,
            relation_rows: 3,
            relation_rows_total: 100,
        };
        let metrics = Metrics::new();
        let engine = Engine::new(Judge::new(pool, settings, Arc::clone(&metrics)), metrics);
        let mut relations = engine.relations();
        relations.watch([MEMBERS, ORGS].into());
        Self {
            db,
            engine,
            relations,
        }
    }

    /// Reads these queries together, as `relation_reader`.
    async fn read(&mut self, queries: Vec<RelationQuery>) -> Vec<Result<Vec<Option<i64>>, Stop>> {
        let reader = self.engine.relation_reader();
        let requests = queries.into_iter().map(|query| self.request(query));
        let asked: Vec<_> = requests.collect();
        let ids: Vec<_> = asked
            .iter()
            .map(|(request, role)| self.relations.hold(request, role))
            .collect();
        while self.relations.stale() {
            self.relations.refresh(&reader, None).await;
        }
        // Those who read beside the pump read the same.
        let beside = reader.read(&asked, &self.relations.clock().now()).await;
        let held = ids.iter().map(|id| self.relations.get(*id));
        let held: Vec<_> = held.map(|read| read.map(values)).collect();
        let beside: Vec<_> = beside.iter().map(|read| read.as_ref().map(values)).collect();
        for (held, beside) in held.iter().zip(beside) {
            assert_eq!(held.as_ref().ok(), beside.ok().as_ref());
        }
        held
    }

    fn request(&self, query: RelationQuery) -> (RelationRequest, Arc<str>) {
        let request = RelationRequest {
            query: Arc::new(query),
            params: Vec::new(),
            claims: claims("relation_reader"),
        };
        (request, "relation_reader".into())
    }
}

/// The first column, sorted.
fn values(relation: &Relation) -> Vec<Option<i64>> {
    let first = relation.rows().iter().map(|row| match row.first() {
        Some(Some(crate::expression::Datum::Int(n))) => Some(*n),
        _ => None,
    });
    let mut first: Vec<_> = first.collect();
    first.sort_unstable();
    first
}

fn int(sql: &str) -> RelationQuery {
    query(sql, &[Ty::Int4])
}

fn is_ask<T>(read: &Result<T, Stop>) -> bool {
    matches!(read, Err(Stop::Ask(_)))
}

#[tokio::test]
async fn each_is_read_as_its_reader_and_an_error_harms_no_other() {
    let mut reading = Reading::new().await;
    let as_role = |sql: &str, owner: &str| RelationQuery {
        owner: Some(owner.into()),
        ..int(sql)
    };
    let text = |sql: &str| RelationQuery {
        columns: vec![crate::expression::Ty::Text],
        ..int(sql)
    };
    let read = reading
        .read(vec![
            int("select m.org from public.members m"),
            int("select 1 / (m.org - 1) from public.members m where m.org is not null"),
            int("select g from pg_catalog.generate_series(1, 3) as g"),
            int("select g from pg_catalog.generate_series(1, 4) as g"),
            int("select a from public.hidden"),
            as_role("select a from public.hidden", "relation_owner"),
            int("select a from closed.open"),
            as_role("select 1", "nobody_of_that_name"),
            as_role("select 1", "none"),
            int("select 1 where false"),
            int("select 'x'::name"),
            int("select 1 from public.members -- the end"),
            // What the settings hold, and the reader's name in them is the claims', not the owner's.
            as_role(
                "select 1 where current_user = 'relation_owner' and current_setting('request.jwt.claim.role') = 'relation_reader'
                    and current_setting('request.jwt.claim.email') = 'a@b'
                    and current_setting('request.jwt.claims')::json ->> 'email' = 'a@b'",
                "relation_owner",
            ),
            text("select repeat('x', 700)"),
            text("select repeat('x', 800)"),
            // Where there is no channel, there is no topic and no header.
            int("select 1 where current_setting('realtime.topic') = '' and current_setting('request.headers') = '{}'"),
        ])
        .await;
    assert_eq!(read[0], Ok(vec![None, Some(1), Some(2)]), "by its policy");
    assert_eq!(read[1], Err(Stop::Raised("22012".into())));
    assert_eq!(read[2], Ok(vec![Some(1), Some(2), Some(3)]));
    assert!(is_ask(&read[3]), "too many rows: {:?}", read[3]);
    assert_eq!(read[4], Err(Stop::Raised("42501".into())));
    assert_eq!(read[5], Ok(vec![Some(5)]), "with its owner's rights");
    assert_eq!(
        read[6],
        Ok(vec![Some(6)]),
        "the schema is closed, the table is not"
    );
    assert!(is_ask(&read[7]), "no such role: {:?}", read[7]);
    assert!(is_ask(&read[8]), "nobody at all: {:?}", read[8]);
    assert_eq!(read[9], Ok(vec![]));
    assert!(is_ask(&read[10]), "a value of another type: {:?}", read[10]);
    assert_eq!(read[11], Ok(vec![Some(1), Some(1), Some(1)]));
    assert_eq!(read[12], Ok(vec![Some(1)]));
    assert_eq!(read[13], Ok(vec![None]));
    assert!(is_ask(&read[14]), "long: {:?}", read[14]);
    let after: String = reading
        .db
        .query_one(
            "select rolname::text from pg_roles where rolname = current_user",
            &[],
        )
        .await
        .expect("an answer")
        .get(0);
    assert_eq!(after, "postgres");
}

#[tokio::test]
async fn values_come_as_the_stream_prints_them() {
    let reading = Reading::new().await;
    let columns = "true, 'x'::char(3), null::bool, '{a,NULL}'::text[], 1.50::numeric, '\\x0a'::bytea,
        '2020-01-02 03:04:05+00'::timestamptz, '1 day'::interval, '\"q'::text, 1.5::float4";
    let query = query(&format!("select {columns}"), &vec![Ty::Text; 10]);
    let (request, role) = reading.request(query);
    let read = reading
        .engine
        .relation_reader()
        .read(&[(request, role)], &reading.relations.clock().now())
        .await;
    let relation = read[0].as_ref().expect("rows");
    let texts: Vec<Option<String>> = relation.rows()[0]
        .iter()
        .map(|datum| datum.as_ref().map(|datum| datum.print(&Ty::Text).expect("text")))
        .collect();
    let texts: Vec<Option<&str>> = texts.iter().map(Option::as_deref).collect();
    let expected = [
        Some("t"),
        Some("x  "),
        None,
        Some("{a,NULL}"),
        Some("1.50"),
        Some("\\x0a"),
        Some("2020-01-02 03:04:05+00"),
        Some("1 day"),
        Some("\"q"),
        Some("1.5"),
    ];
    assert_eq!(texts, expected);
}

#[tokio::test]
async fn what_is_slow_by_itself_is_left_out_and_the_others_are_read() {
    let mut reading = Reading::new().await;
    let read = reading
        .read(vec![
            int("select 1"),
            int("select a from public.sleepy"),
            int("select m.org from public.members m where m.org = 2"),
        ])
        .await;
    assert_eq!(read[0], Ok(vec![Some(1)]));
    assert!(matches!(read[1], Err(Stop::Unavailable(_))), "{:?}", read[1]);
    assert_eq!(read[2], Ok(vec![Some(2)]));
    reading.relations.invalidate_all(None);
    assert!(reading.relations.stale(), "the others");
    let reader = reading.engine.relation_reader();
    reading.relations.refresh(&reader, None).await;
    assert!(!reading.relations.stale(), "not the slow one");
}

#[tokio::test]
async fn what_changed_since_is_said() {
    let mut reading = Reading::new().await;
    let reader = reading.engine.relation_reader();
    let (own, role) = reading.request(int("select m.org from public.members m where m.org is not null"));
    let (same, _) = reading.request(int("select 1"));
    let own = reading.relations.hold(&own, &role);
    let same = reading.relations.hold(&same, &role);
    assert_eq!(reading.relations.refresh(&reader, None).await, [own, same]);
    reading
        .db
        .batch_execute("insert into members values (4, 7)")
        .await
        .expect("a row");
    reading.relations.invalidate_all(None);
    assert_eq!(reading.relations.refresh(&reader, None).await, [own]);
    let relation = reading.relations.get(own).expect("rows");
    assert_eq!(values(relation), [Some(1), Some(2), Some(4)]);
}

#[tokio::test]
async fn a_transaction_that_is_not_seen_yet_is_waited_for() {
    let mut reading = Reading::new().await;
    let reader = reading.engine.relation_reader();
    let (own, role) = reading.request(int("select m.org from public.members m where m.org = 4"));
    let own = reading.relations.hold(&own, &role);
    reading.db.batch_execute("begin").await.expect("a transaction");
    let xid: i64 = reading
        .db
        .query_one("select pg_current_xact_id()::text::bigint % 4294967296", &[])
        .await
        .expect("its id")
        .get(0);
    reading
        .db
        .batch_execute("insert into members values (4, 7)")
        .await
        .expect("a row");
    let insert = change(Action::Insert, None, Some(row(&[("org", Some("4"))])));
    reading
        .relations
        .changed(&members(), &insert, u32::try_from(xid).expect("32 bits"));
    let db = &reading.db;
    let relations = &mut reading.relations;
    let waits = async {
        let watcher = Cluster::shared().superuser("postgres").await;
        let sleeping = "select count(*) from pg_stat_activity where wait_event = 'PgSleep' and query like '%read_relations%'";
        while watcher
            .query_one(sleeping, &[])
            .await
            .expect("an answer")
            .get::<_, i64>(0)
            == 0
        {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        db.batch_execute("commit").await.expect("a commit");
    };
    tokio::join!(relations.refresh(&reader, None), waits);
    assert_eq!(values(relations.get(own).expect("rows")), [Some(4)]);
    assert!(relations.clock().now().writers().is_empty());
}
