use super::{column_names, read, table};
use crate::postgres::catalog::{Published, ReplicaIdentity, publication};
use crate::postgres::testing::Cluster;

#[tokio::test]
async fn odd_names_keys_and_identities() {
    let (_, mut db) = Cluster::shared().database().await;
    let catalog = read(
        &mut db,
        r#"
        CREATE SCHEMA "My.Schema";
        CREATE TABLE "My.Schema"."Täble ""x"".y" (
            gone int, "B c" text NOT NULL, id int, "a""b" int GENERATED ALWAYS AS (id * 2) STORED, other int,
            PRIMARY KEY ("B c", id) INCLUDE (other));
        ALTER TABLE "My.Schema"."Täble ""x"".y" DROP COLUMN gone;
        CREATE TABLE keyless (v int);
        CREATE TABLE full_row (id int PRIMARY KEY);
        ALTER TABLE full_row REPLICA IDENTITY FULL;
        CREATE TABLE no_row (id int PRIMARY KEY);
        ALTER TABLE no_row REPLICA IDENTITY NOTHING;
        CREATE TABLE by_index (id int NOT NULL UNIQUE);
        ALTER TABLE by_index REPLICA IDENTITY USING INDEX by_index_id_key;
        CREATE UNLOGGED TABLE unlogged (id int);
        CREATE VIEW v AS SELECT 1;
        CREATE COLLATION ci (provider = icu, locale = 'und-u-ks-level2', deterministic = false);
        CREATE TABLE worded (same text COLLATE ci, plain text, list text[] COLLATE ci, number int);
        "#,
    )
    .await;
    assert_eq!(catalog.tables.len(), 6);
    let odd = table(&catalog, "My.Schema", "Täble \"x\".y");
    assert_eq!(column_names(&odd), ["B c", "id", "a\"b", "other"]);
    assert_eq!(
        odd.columns.iter().map(|c| c.attnum).collect::<Vec<_>>(),
        [2, 3, 4, 5]
    );
    assert_eq!(odd.primary_key, [0, 1]);
    assert_eq!(
        odd.columns.iter().map(|c| c.not_null).collect::<Vec<_>>(),
        [true, true, false, false]
    );
    assert_eq!(odd.replica_identity, ReplicaIdentity::Default);
    assert!(!odd.rls && !odd.force_rls && odd.policies.is_empty());
    assert!(table(&catalog, "public", "keyless").primary_key.is_empty());
    for (name, identity) in [
        ("full_row", ReplicaIdentity::Full),
        ("no_row", ReplicaIdentity::Nothing),
        ("by_index", ReplicaIdentity::Index),
    ] {
        assert_eq!(
            table(&catalog, "public", name).replica_identity,
            identity,
            "{name}"
        );
    }
    let worded = table(&catalog, "public", "worded");
    let deterministic: Vec<bool> = worded.columns.iter().map(|c| c.deterministic).collect();
    assert_eq!(deterministic, [false, true, false, true]);
    let collations: Vec<_> = worded.columns.iter().map(|c| c.collation.as_deref()).collect();
    assert_eq!(collations, [Some("public.ci"), None, Some("public.ci"), None]);
}

#[tokio::test]
async fn membership_and_actions_are_the_publications() {
    let (_, mut db) = Cluster::shared().database().await;
    let catalog = read(
        &mut db,
        "CREATE TABLE a (id int PRIMARY KEY);
         CREATE TABLE b (id int PRIMARY KEY);
         CREATE SCHEMA s;
         CREATE TABLE s.c (id int PRIMARY KEY);
         CREATE TABLE parts (id int, at date, PRIMARY KEY (id, at)) PARTITION BY RANGE (at);
         CREATE TABLE parts_1 PARTITION OF parts FOR VALUES FROM ('2020-01-01') TO ('2021-01-01');
         CREATE TABLE parts_2 PARTITION OF parts FOR VALUES FROM ('2021-01-01') TO ('2022-01-01');
         CREATE PUBLICATION p FOR TABLE a, parts, TABLES IN SCHEMA s WITH (publish = 'insert, delete');",
    )
    .await;
    let mut names: Vec<String> = catalog.tables.keys().map(ToString::to_string).collect();
    names.sort();
    let listed = [
        "public.a",
        "public.parts",
        "public.parts_1",
        "public.parts_2",
        "s.c",
    ];
    assert_eq!(names, listed);
    let actions = Published {
        insert: true,
        update: false,
        delete: true,
        truncate: false,
    };
    assert!(catalog.tables.values().all(|table| table.published == actions));
    assert_eq!(table(&catalog, "public", "parts_2").primary_key, [0, 1]);
    let found = publication(&db, "p")
        .await
        .expect("an answer")
        .expect("a publication");
    assert_eq!(
        (found.published, found.all_tables, found.via_root),
        (actions, false, false)
    );
    assert_eq!(publication(&db, "none").await.expect("an answer"), None);
    let nothing = crate::postgres::catalog::load(&mut db, "none")
        .await
        .expect("a catalog");
    assert!(nothing.tables.is_empty() && nothing.types.0.is_empty());
}

#[tokio::test]
async fn partitioned_tables_are_published_by_what_is_published() {
    const TABLES: &str = "CREATE SCHEMA s;
         CREATE TABLE s.root (id int, PRIMARY KEY (id)) PARTITION BY RANGE (id);
         CREATE TABLE middle PARTITION OF s.root FOR VALUES FROM (0) TO (10) PARTITION BY RANGE (id);
         CREATE TABLE leaf PARTITION OF middle FOR VALUES FROM (0) TO (5);
         CREATE TABLE other PARTITION OF middle FOR VALUES FROM (5) TO (10);
         ALTER TABLE leaf REPLICA IDENTITY FULL;";
    for (publication, expected) in [
        ("TABLE s.root", "leaf middle other root"),
        ("TABLE s.root WITH (publish_via_partition_root)", "root"),
        ("TABLE middle", "leaf middle other"),
        ("TABLE middle WITH (publish_via_partition_root)", "middle"),
        ("TABLE leaf", "leaf"),
        ("TABLES IN SCHEMA s", "leaf middle other root"),
        ("TABLES IN SCHEMA public", "leaf middle other"),
        ("ALL TABLES", "leaf middle other root"),
        ("ALL TABLES WITH (publish_via_partition_root)", "root"),
    ] {
        let (_, mut db) = Cluster::shared().database().await;
        let catalog = read(
            &mut db,
            &format!("{TABLES} CREATE PUBLICATION p FOR {publication}"),
        )
        .await;
        let mut names: Vec<&str> = catalog.tables.keys().map(|name| &*name.table).collect();
        names.sort_unstable();
        assert_eq!(names.join(" "), expected, "{publication}");
        let oid = |name: &str| {
            catalog
                .tables
                .values()
                .find(|t| &*t.name.table == name)
                .map(|t| t.oid)
        };
        for table in catalog.tables.values() {
            let leaf = matches!(&*table.name.table, "leaf" | "other");
            assert_eq!(table.partitioned, !leaf, "{}", table.name);
            assert_eq!(table.stored_in.len(), if leaf { 1 } else { 2 });
            let above: Vec<Option<u32>> = table.ancestors.iter().copied().map(Some).collect();
            match &*table.name.table {
                "root" => assert_eq!(above, []),
                "middle" => assert_eq!(above.len(), 1),
                _ => assert_eq!(above.len(), 2),
            }
            if let ("leaf" | "other", Some(middle), Some(root)) =
                (&*table.name.table, oid("middle"), oid("root"))
            {
                assert_eq!(table.ancestors, [middle, root]);
            }
            let identity = match &*table.name.table {
                "leaf" => ReplicaIdentity::Full,
                _ => ReplicaIdentity::Default,
            };
            assert_eq!(table.replica_identity, identity, "{}", table.name);
        }
    }
}

#[tokio::test]
async fn policies_carry_their_qualified_text_and_what_they_read() {
    let (_, mut db) = Cluster::shared().database().await;
    let catalog = read(
        &mut db,
        r#"
        CREATE SCHEMA app;
        CREATE TYPE app.mood AS ENUM ('ok', 'bad');
        CREATE TABLE app.t (gone int, id int PRIMARY KEY, owner text, feeling app.mood, note text);
        ALTER TABLE app.t DROP COLUMN gone;
        CREATE TABLE app.members (team int, who text);
        CREATE FUNCTION app.ok(app.t) RETURNS bool LANGUAGE sql AS 'SELECT true';
        ALTER TABLE app.t ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
        SET search_path = app, public;
        CREATE POLICY a_all ON t USING (owner = current_setting('x.y', true) AND feeling = 'ok') WITH CHECK (note <> '');
        CREATE POLICY b_insert ON t FOR INSERT WITH CHECK (true);
        CREATE POLICY c_narrow ON t AS RESTRICTIVE FOR SELECT TO pg_monitor
            USING (id IN (SELECT team FROM members WHERE who = t.owner));
        CREATE POLICY d_row ON t FOR SELECT USING (ok(t));
        CREATE POLICY e_row ON t FOR SELECT USING (t.* IS NOT NULL AND owner ~ '.*');
        CREATE POLICY f_system ON t FOR SELECT USING (ctid IS NOT NULL AND id > 0);
        CREATE POLICY g_regex ON t FOR SELECT USING (note ~ 't.*');
        CREATE POLICY h_inner ON t FOR SELECT USING (EXISTS (SELECT 1 FROM members m WHERE ok(t) AND m.team = 1));
        CREATE POLICY i_none ON t FOR SELECT;
        CREATE POLICY j_oid ON t FOR SELECT USING (tableoid > 0);
        RESET search_path;
        "#,
    )
    .await;
    let t = table(&catalog, "app", "t");
    assert!(t.rls && t.force_rls);
    let names: Vec<&str> = t.policies.iter().map(|p| p.name.as_str()).collect();
    assert_eq!(
        names,
        [
            "a_all", "c_narrow", "d_row", "e_row", "f_system", "g_regex", "h_inner", "i_none", "j_oid"
        ]
    );
    let policy = |name: &str| t.policies.iter().find(|p| p.name == name).expect("the policy");
    let a = policy("a_all");
    assert!(a.permissive && a.roles == [0] && !a.whole_row);
    assert_eq!(
        a.using.as_deref(),
        Some("((owner = current_setting('x.y'::text, true)) AND (feeling = 'ok'::app.mood))")
    );
    // WITH CHECK is recorded with USING, so `note` (5) is among them: more than is read, never less.
    assert_eq!(a.columns, [3, 4, 5]);
    let c = policy("c_narrow");
    assert!(!c.permissive && c.roles.len() == 1 && c.roles[0] != 0 && !c.whole_row);
    assert!(
        c.using
            .as_deref()
            .is_some_and(|text| text.contains("FROM app.members"))
    );
    assert_eq!(c.columns, [2, 3]);
    for (name, whole) in [
        ("d_row", true),
        ("e_row", true),
        ("f_system", true),
        ("g_regex", false),
        ("h_inner", true),
        ("i_none", false),
        ("j_oid", true),
    ] {
        assert_eq!(policy(name).whole_row, whole, "{name}: {:?}", policy(name).using);
    }
    assert_eq!(policy("f_system").columns, [2]);
    assert_eq!(policy("i_none").using, None);
}

/// Reading must not trip over DDL that commits while it reads.
#[tokio::test]
async fn tables_that_come_and_go_do_not_fail_the_reading() {
    let (name, mut db) = Cluster::shared().database().await;
    db.batch_execute("CREATE PUBLICATION p FOR ALL TABLES; CREATE TABLE stays (id int PRIMARY KEY)")
        .await
        .expect("the statements");
    let busy = Cluster::shared().superuser(&name).await;
    let churn = tokio::spawn(async move {
        for i in 0..40 {
            let sql = format!(
                "CREATE TABLE x_{i} (id int PRIMARY KEY, v text);
                 ALTER TABLE x_{i} ENABLE ROW LEVEL SECURITY;
                 CREATE POLICY p ON x_{i} USING (v = 'a')"
            );
            busy.batch_execute(&sql).await.expect("a table");
            busy.batch_execute(&format!("DROP TABLE x_{i}"))
                .await
                .expect("a drop");
        }
    });
    while !churn.is_finished() {
        let catalog = crate::postgres::catalog::load(&mut db, "p")
            .await
            .expect("a catalog");
        assert_eq!(column_names(&table(&catalog, "public", "stays")), ["id"]);
    }
    churn.await.expect("the churn");
}
