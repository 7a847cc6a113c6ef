//! Partitioned tables, under their root and under their leaves.

use serde_json::{Value, json};

use super::{ALICE, service, shorts, subscriber, told};
use crate::support::{Client, Database, Server, Version, token, version};

/// `parts(id, region, note, owner)` by region: north, and south in two halves by id. The leaves have their columns in another
/// order, and `south_high` once had one more.
const TABLES: &str = "
    create table parts (id int, region text, note text, owner uuid, primary key (id, region)) partition by list (region);
    create table north (owner uuid, note text, region text not null, id int not null, primary key (id, region));
    alter table parts attach partition north for values in ('n');
    create table south partition of parts for values in ('s') partition by range (id);
    create table south_low partition of south for values from (0) to (100);
    create table south_high (gone int, id int not null, region text not null, owner uuid, note text,
                             primary key (id, region));
    alter table south_high drop column gone;
    alter table south attach partition south_high for values from (100) to (200);
";

const ROWS: &str = "insert into parts (id, region) values (1, 'n'), (2, 's'), (102, 's')";

fn on(table: &str) -> Value {
    json!([{"event": "*", "schema": "public", "table": table, "truncate": true}])
}

/// Which of the [`ROWS`] come under which name.
fn inserts(table: &str, rows: &[(i32, &str)]) -> Vec<String> {
    let insert = |(id, region)| {
        format!(
            "INSERT {table} {}",
            json!({"id": id, "region": region, "note": null, "owner": null})
        )
    };
    rows.iter().copied().map(insert).collect()
}

const ALL: [(i32, &str); 3] = [(1, "n"), (2, "s"), (102, "s")];

#[tokio::test(flavor = "multi_thread")]
async fn changes_come_under_the_name_that_was_asked_for() {
    for via_root in [false, true] {
        let db = Database::new().await;
        db.execute(TABLES).await;
        db.execute(&format!(
            "alter publication supabase_realtime add table parts;
             alter publication supabase_realtime set (publish_via_partition_root = {via_root})"
        ))
        .await;
        let server = Server::start(&db).await;
        let mut root = subscriber(&server, &service(), on("parts")).await;
        let everything = json!([{"event": "*", "schema": "*"}, {"event": "INSERT", "schema": "public"}]);
        let mut all = subscriber(&server, &service(), everything).await;
        db.execute(ROWS).await;
        assert_eq!(shorts(&mut root, &db, &server).await, inserts("parts", &ALL));
        assert_eq!(
            shorts(&mut all, &db, &server).await,
            inserts("parts", &ALL),
            "each once, as the root's"
        );
        if via_root {
            let mut leaf = Client::connect(&server, Version::V2, &service()).await;
            leaf.join("leaf", json!({"postgres_changes": on("north")})).await;
            let system = leaf.system("leaf").await;
            let message = system["message"].as_str().unwrap_or_default();
            assert!(
                message.contains("public.north is published under the name of public.parts"),
                "{message}"
            );
        } else {
            let mut south = subscriber(&server, &service(), on("south")).await;
            let mut high = subscriber(&server, &service(), on("south_high")).await;
            db.execute(&format!("delete from parts; {ROWS}")).await;
            let of_south = shorts(&mut south, &db, &server).await;
            assert_eq!(of_south[2..], inserts("south", &ALL[1..]));
            let high = shorts(&mut high, &db, &server).await;
            assert_eq!(
                high,
                [
                    r#"DELETE south_high {"id":102,"region":"s"}"#,
                    r#"INSERT south_high {"id":102,"note":null,"owner":null,"region":"s"}"#
                ]
            );
            shorts(&mut root, &db, &server).await;
        }
        // A row that moves to another partition leaves the one and comes into the other.
        db.execute("update parts set region = 'n' where id = 2; update parts set note = 'x' where id = 1")
            .await;
        assert_eq!(
            shorts(&mut root, &db, &server).await,
            [
                r#"DELETE parts {"id":2,"region":"s"}"#.to_owned(),
                r#"INSERT parts {"id":2,"note":null,"owner":null,"region":"n"}"#.to_owned(),
                r#"UPDATE parts {"id":1,"note":"x","owner":null,"region":"n"}"#.to_owned(),
            ]
        );
        server.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn truncate_says_which_part_of_the_table() {
    let db = Database::new().await;
    db.execute(TABLES).await;
    db.execute("alter publication supabase_realtime add table parts")
        .await;
    let server = Server::start(&db).await;
    let mut root = subscriber(&server, &service(), on("parts")).await;
    let mut leaf = subscriber(&server, &service(), on("south_low")).await;
    let of = |parts: &[&str]| -> Vec<String> {
        let part = |part: &&str| format!("TRUNCATE parts {{\"schema\":\"public\",\"table\":\"{part}\"}}");
        parts.iter().map(part).collect()
    };
    // pgoutput names the partitions that have rows, whatever was emptied.
    let (whole, south) = match version::pgoutput() {
        true => (
            of(&["north", "south_low", "south_high"]),
            of(&["south_low", "south_high"]),
        ),
        false => (vec!["TRUNCATE parts".to_owned()], of(&["south"])),
    };
    db.execute("truncate parts").await;
    assert_eq!(shorts(&mut root, &db, &server).await, whole);
    assert_eq!(shorts(&mut leaf, &db, &server).await, ["TRUNCATE south_low"]);
    db.execute("truncate south").await;
    assert_eq!(shorts(&mut root, &db, &server).await, south);
    db.execute("truncate north, south_high").await;
    assert_eq!(
        shorts(&mut root, &db, &server).await,
        of(&["north", "south_high"])
    );
    assert_eq!(shorts(&mut leaf, &db, &server).await, ["TRUNCATE south_low"]);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn policies_are_those_of_the_table_that_was_asked_for() {
    // In memory, and by asking Postgres.
    for owns in [
        "owner = auth.uid()",
        "owner = auth.uid() and parts.region in (select region from regions)",
        "asked(parts)",
    ] {
        let db = Database::new().await;
        db.execute(TABLES).await;
        db.execute(&format!(
            "create table regions (region text primary key); insert into regions values ('n'), ('s');
             grant select on regions, parts, north, south_low to authenticated;
             create function asked(part parts) returns bool language plpgsql stable as
                 'begin return $1.owner = auth.uid() and $1.region in (''n'', ''s''); end';
             alter table parts enable row level security;
             create policy own on parts for select using ({owns});
             alter table north enable row level security;
             create policy small on north for select using (id < 10);
             alter publication supabase_realtime add table parts",
        ))
        .await;
        let server = Server::start(&db).await;
        let mut root = subscriber(&server, &token::user(ALICE), on("parts")).await;
        let mut north = subscriber(&server, &token::user(ALICE), on("north")).await;
        let mut low = subscriber(&server, &token::user(ALICE), on("south_low")).await;
        let ids = |told: Vec<Value>| -> Vec<i64> {
            told.iter()
                .filter_map(|data| data["record"]["id"].as_i64())
                .collect()
        };
        db.execute(&format!(
            "insert into parts values (1, 'n', 'a', '{ALICE}'), (2, 'n', 'b', null), (11, 'n', 'c', '{ALICE}'),
                                      (3, 's', 'd', null), (4, 's', 'e', '{ALICE}'), (104, 's', 'e', '{ALICE}')"
        ))
        .await;
        let by_root = told(&mut root, &db, &server).await;
        assert_eq!(
            by_root[0]["record"],
            json!({"id": 1, "region": "n", "note": "a", "owner": ALICE}),
            "{owns}"
        );
        assert_eq!(ids(by_root), [1, 11, 4, 104], "{owns}");
        assert_eq!(ids(told(&mut north, &db, &server).await), [1, 2], "{owns}");
        assert_eq!(
            ids(told(&mut low, &db, &server).await),
            [3, 4],
            "{owns}: row security is off there"
        );
        server.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn partitions_come_and_go() {
    let db = Database::new().await;
    db.execute(TABLES).await;
    db.execute("alter publication supabase_realtime add table parts")
        .await;
    let server = Server::start(&db).await;
    let mut root = subscriber(&server, &service(), on("parts")).await;
    db.execute("create table east partition of parts for values in ('e')")
        .await;
    db.execute("insert into parts (id, region) values (1, 'e')").await;
    assert_eq!(
        shorts(&mut root, &db, &server).await,
        inserts("parts", &[(1, "e")])
    );
    db.execute("alter table parts detach partition east").await;
    db.execute(
        "insert into east (id, region) values (2, 'e'); insert into parts (id, region) values (3, 'n')",
    )
    .await;
    assert_eq!(
        shorts(&mut root, &db, &server).await,
        inserts("parts", &[(3, "n")])
    );
    let attach = "alter table parts attach partition east for values in ('e', 'w')";
    db.execute("delete from east").await;
    match version::streams_attached() {
        true => db.execute(attach).await,
        // What docs/DELIVERY.md says to do.
        false => {
            db.execute("create table other (id int primary key)").await;
            let publish = "alter publication supabase_realtime add table other";
            db.execute(&format!("begin; {attach}; {publish}; commit")).await;
        }
    }
    db.execute("insert into parts (id, region) values (4, 'w')").await;
    assert_eq!(
        shorts(&mut root, &db, &server).await,
        inserts("parts", &[(4, "w")])
    );
    db.execute("drop table east; insert into parts (id, region) values (5, 'n')")
        .await;
    assert_eq!(
        shorts(&mut root, &db, &server).await,
        inserts("parts", &[(5, "n")])
    );
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn members_may_be_partitioned() {
    let db = Database::new().await;
    db.execute(&format!(
        "create table members (team int, member uuid, primary key (team, member)) partition by hash (team);
         create table members_0 partition of members for values with (modulus 2, remainder 0);
         create table members_1 partition of members for values with (modulus 2, remainder 1);
         create table notes (id int primary key, team int);
         grant select on members, notes to authenticated;
         alter table notes enable row level security;
         create policy p on notes using (team in (select m.team from members m where m.member = auth.uid()));
         insert into members select n, '{ALICE}' from generate_series(1, 4) n;
         alter publication supabase_realtime add table notes",
    ))
    .await;
    let server = Server::start(&db).await;
    let mut alice = subscriber(&server, &token::user(ALICE), on("notes")).await;
    let mut id = 0;
    for (change, sees) in [
        ("", vec![1, 2, 3, 4]),
        ("delete from members where team = 1;", vec![2, 3, 4]),
        ("delete from members_0; delete from members_1;", vec![]),
        (
            "insert into members select n, 'ALICE' from generate_series(1, 4) n;",
            vec![1, 2, 3, 4],
        ),
        ("truncate members;", vec![]),
    ] {
        id += 10;
        let change = change.replace("ALICE", ALICE);
        db.execute(&format!(
            "{change} insert into notes select {id} + n, n from generate_series(1, 4) n"
        ))
        .await;
        let told = told(&mut alice, &db, &server).await;
        let teams: Vec<i64> = told
            .iter()
            .filter_map(|data| data["record"]["team"].as_i64())
            .collect();
        assert_eq!(teams, sees, "{change}");
    }
    assert_eq!(server.metric("rowcast_policy_judge_calls_total").await, 0.0);
    server.stop().await;
}
