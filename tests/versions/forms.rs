//! What is no plain row of a plain table.

use serde_json::json;

use super::{ALICE, on, service, shorts, subscriber, told};
use crate::support::{Client, Database, Server, Version, eventually, token};

pub(super) async fn tables_change_in_midstream(major: u32) {
    let db = Database::on_version(major).await;
    db.execute(
        "create table t (id int primary key, level int default 5); alter table t enable row level security;
         create policy p on t using (level > 1); grant select on t to authenticated;
         alter publication supabase_realtime add table t",
    )
    .await;
    let server = Server::start(&db).await;
    let mut client = subscriber(&server, &token::user(ALICE), on("t")).await;
    let mut filtered = Client::connect(&server, Version::V2, &token::user(ALICE)).await;
    let by_level = json!([{"event": "*", "schema": "public", "table": "t", "filter": "level=gt.2"}]);
    filtered.subscribe("filtered", by_level).await;
    for statement in [
        "insert into t values (1)",
        "alter table t add more text default 'm'",
        "insert into t values (2)",
        "alter table t rename level to rank",
        "insert into t values (3, 5), (4, 0)",
        "drop policy p on t; create policy p on t using (rank = 0)",
        "insert into t values (5, 5), (6, 0)",
        "alter table t alter more drop default, alter more type jsonb using to_jsonb(more)",
        "insert into t values (7, 0, '{}')",
    ] {
        db.execute(statement).await;
        // Rows are judged by the policies that are there when the catalog is read.
        server.passed(&db).await;
    }
    assert_eq!(
        shorts(&mut client, &db, &server).await,
        [
            r#"INSERT {"id":1,"level":5}"#,
            r#"INSERT {"id":2,"level":5,"more":"m"}"#,
            r#"INSERT {"id":3,"more":"m","rank":5}"#,
            r#"INSERT {"id":6,"more":"m","rank":0}"#,
            r#"INSERT {"id":7,"more":{},"rank":0}"#,
        ]
    );
    let gone = filtered.system("filtered").await;
    assert_eq!(gone["status"], "error", "{gone}");
    server.stop().await;
}

pub(super) async fn partitions_and_truncate(major: u32) {
    let db = Database::on_version(major).await;
    db.execute(
        "create table parts (id int, region text, primary key (id, region)) partition by list (region);
         create table north partition of parts for values in ('n');
         alter publication supabase_realtime add table parts",
    )
    .await;
    let server = Server::start(&db).await;
    let wanted = |table: &str| json!([{"event": "*", "schema": "public", "table": table, "truncate": true}]);
    let mut root = subscriber(&server, &service(), wanted("parts")).await;
    let mut north = subscriber(&server, &service(), wanted("north")).await;
    db.execute("create table south partition of parts for values in ('s')")
        .await;
    db.execute("insert into parts values (1, 'n'), (2, 's'); truncate north")
        .await;
    let (one, two) = (
        r#"INSERT {"id":1,"region":"n"}"#,
        r#"INSERT {"id":2,"region":"s"}"#,
    );
    let truncate = "TRUNCATE null";
    assert_eq!(shorts(&mut root, &db, &server).await, [one, two, truncate]);
    assert_eq!(shorts(&mut north, &db, &server).await, [one, truncate]);
    // pgoutput does not name the table that was emptied, but all its partitions.
    db.execute("truncate parts").await;
    assert_eq!(shorts(&mut root, &db, &server).await, [truncate, truncate]);
    assert_eq!(shorts(&mut north, &db, &server).await, [truncate]);
    server.stop().await;
}

/// Stored ones are in the stream from version 18 on, virtual ones nowhere.
pub(super) async fn generated_columns(major: u32) {
    let db = Database::on_version(major).await;
    db.execute(
        "create table gen (id int primary key, a int, twice int generated always as (a * 2) stored);
         grant select on gen to authenticated; alter publication supabase_realtime add table gen",
    )
    .await;
    let server = Server::start(&db).await;
    let mut client = subscriber(&server, &token::user(ALICE), on("gen")).await;
    db.execute("insert into gen values (1, 2); update gen set a = 3")
        .await;
    let expected = match major {
        18.. => [
            r#"INSERT {"a":2,"id":1,"twice":4}"#,
            r#"UPDATE {"a":3,"id":1,"twice":6}"#,
        ],
        _ => [r#"INSERT {"a":2,"id":1}"#, r#"UPDATE {"a":3,"id":1}"#],
    };
    let told = told(&mut client, &db, &server).await;
    assert_eq!(told.iter().map(super::short).collect::<Vec<_>>(), expected);
    assert_eq!(told[1]["unchanged"], json!(null), "it may have changed");
    let options = db
        .text(&format!(
            "select coalesce(to_jsonb(p) ->> 'pubgencols', 'none') from pg_publication p where pubname = 'rowcast_{}_stream'",
            db.name
        ))
        .await;
    assert_eq!(options, if major >= 18 { "s" } else { "none" });
    if major >= 18 {
        virtual_columns(&db, &server).await;
    }
    server.stop().await;
}

/// They are computed, for policies, filters and clients, and where that cannot be done here, nobody sees the row.
async fn virtual_columns(db: &Database, server: &Server) {
    db.execute(
        "create table virt (id int primary key, a int, b text, big numeric generated always as (a * 1.50) virtual,
             label varchar(12) generated always as ((b || '-')::varchar(12)) virtual,
             odd bool generated always as (a % 2 = 1 or b is null) virtual,
             hard text generated always as (overlay(b placing 'x' from 1)) virtual);
         create table hidden (id int primary key, b text, hard bool generated always as (overlay(b placing 'x' from 1) = 'xb') virtual);
         alter table virt enable row level security; create policy p on virt using (odd);
         alter table hidden enable row level security; create policy p on hidden using (hard is not true);
         create table teams (team int primary key, member uuid, twice int generated always as (team * 2) virtual);
         create table notes (id int primary key, team int); alter table notes enable row level security;
         create policy p on notes using (team in (select t.twice from teams t where t.member = auth.uid()));
         grant select on teams, notes to authenticated;
         grant select on virt, hidden to authenticated; alter publication supabase_realtime add table virt, hidden, notes",
    )
    .await;
    let filtered = json!([{"event": "*", "schema": "public", "table": "virt", "filter": "label=eq.für-"}]);
    let mut all = subscriber(server, &token::user(ALICE), on("virt")).await;
    let mut some = subscriber(server, &token::user(ALICE), filtered).await;
    let mut none = subscriber(server, &token::user(ALICE), on("hidden")).await;
    db.execute("insert into virt values (1, 1, 'ab'), (2, 2, 'ab'), (3, 2, null), (4, 3, 'für')")
        .await;
    db.execute("insert into hidden values (1, 'ab'), (2, 'cd')").await;
    let told_all = told(&mut all, db, server).await;
    let shown = db
        .connection()
        .await
        .query(
            "select (to_jsonb(v) - 'hard')::text from virt v where odd order by id",
            &[],
        )
        .await
        .expect("rows");
    let shown: Vec<serde_json::Value> = shown
        .iter()
        .map(|row| serde_json::from_str(row.get(0)).expect("JSON"))
        .collect();
    let mut records: Vec<_> = told_all.iter().map(|data| data["record"].clone()).collect();
    for record in &mut records {
        record.as_object_mut().expect("a row").remove("hard");
    }
    assert_eq!(records, shown);
    assert_eq!(shown[0]["big"], json!(1.50));
    let ids: Vec<_> = told(&mut some, db, server)
        .await
        .iter()
        .map(|data| data["record"]["id"].clone())
        .collect();
    assert_eq!(ids, [json!(4)]);
    let failed = r#"INSERT {} ["Error 500: Policy evaluation failed"]"#;
    assert_eq!(shorts(&mut none, db, server).await, [failed, failed]);
    db.execute("update virt set a = 4 where id = 1; update virt set a = 5, b = 'c' where id = 3")
        .await;
    let updates = told(&mut all, db, server).await;
    assert_eq!(updates.len(), 1, "the other one is odd no more: {updates:?}");
    let record = &updates[0]["record"];
    assert_eq!((&record["big"], &record["label"]), (&json!(7.50), &json!("c-")));
    assert_eq!(
        updates[0]["unchanged"],
        json!(null),
        "what is not known may have changed"
    );
    // Who is a member is known by them, too, as they are in the row or, without an identity that can be published, as Postgres
    // says; what Postgres would refuse if the table were published with its updates goes on.
    let mut member = subscriber(server, &token::user(ALICE), on("notes")).await;
    for (team, full) in [(1, "default"), (2, "full")] {
        db.execute(&format!("alter table teams replica identity {full}"))
            .await;
        let begin =
            format!("delete from notes; delete from teams; insert into teams values ({team}, '{ALICE}')");
        // Refused until the table is out of the publication of updates.
        eventually("the table is published as it can be", || async {
            db.try_execute(&begin).await.ok()
        })
        .await;
        db.execute(&format!("insert into notes values (1, {team}), (2, {team} * 2)"))
            .await;
        let shown: Vec<_> = told(&mut member, db, server)
            .await
            .iter()
            .filter(|data| data["type"] == "INSERT")
            .map(|data| data["record"]["id"].clone())
            .collect();
        assert_eq!(shown, [json!(2)], "{full}");
        db.execute("update teams set member = null").await;
        db.execute(&format!("insert into notes values (3, {team} * 2)"))
            .await;
        let told = told(&mut member, db, server).await;
        assert!(
            told.iter().all(|data| data["type"] != "INSERT"),
            "{full}: {told:?}"
        );
    }
}

pub(super) async fn prepared_transactions(major: u32) {
    let db = Database::on_version(major).await;
    db.execute("create table t (id int primary key); alter publication supabase_realtime add table t")
        .await;
    let server = Server::start(&db).await;
    let mut client = subscriber(&server, &service(), on("t")).await;
    // Names of prepared transactions are those of the cluster.
    let name = &db.name;
    db.execute(&format!(
        "begin; insert into t values (1); prepare transaction 'kept {name}'"
    ))
    .await;
    db.execute(&format!(
        "begin; insert into t values (2); prepare transaction 'undone {name}'"
    ))
    .await;
    db.execute(
        "begin; insert into t values (3); savepoint a; insert into t values (4); rollback to a; commit",
    )
    .await;
    assert_eq!(
        told(&mut client, &db, &server).await[0]["record"],
        json!({"id": 3})
    );
    db.execute(&format!("rollback prepared 'undone {name}'")).await;
    db.execute(&format!("commit prepared 'kept {name}'")).await;
    assert_eq!(shorts(&mut client, &db, &server).await, [r#"INSERT {"id":1}"#]);
    server.stop().await;
}
