use crate::postgres::catalog::{Catalog, Loader};
use crate::postgres::testing::Cluster;
use crate::postgres::{Connection, Session, connect};

/// Counts commands that define something, also those that are rolled back.
const COUNTER: &str = "
    CREATE SEQUENCE public.defined;
    CREATE FUNCTION public.count_it() RETURNS event_trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
        BEGIN PERFORM pg_catalog.nextval('public.defined'); END $$;
    CREATE EVENT TRIGGER counter ON ddl_command_end WHEN TAG IN ('CREATE VIEW') EXECUTE FUNCTION public.count_it();
    CREATE FUNCTION is_member(team int) RETURNS bool LANGUAGE sql AS
        'SELECT EXISTS (SELECT FROM members WHERE team_id = team)';
    CREATE TABLE members (team_id int);
    CREATE TABLE t (id int PRIMARY KEY);
    CREATE POLICY a ON t USING (is_member(id));
    CREATE PUBLICATION p FOR TABLE t;";

async fn defined(db: &Connection) -> i64 {
    let row = db.query_one("SELECT last_value FROM public.defined", &[]).await;
    row.expect("the counter").get(0)
}

async fn load(loader: &mut Loader, db: &mut Connection) -> Catalog {
    loader.load(db, "p").await.expect("a catalog").catalog
}

fn body(catalog: &Catalog) -> Option<String> {
    let function = catalog.functions.values().next().expect("a function");
    function.body.as_ref().map(|body| body.query.clone())
}

#[tokio::test]
async fn bodies_are_looked_up_again_only_when_something_changed() {
    let (name, admin) = Cluster::shared().database().await;
    let check = "SET check_function_bodies = off;";
    admin
        .batch_execute(&format!("{check}{COUNTER}"))
        .await
        .expect("the statements");
    // As the feed's sessions are: read-only unless a transaction says otherwise.
    let session = Session {
        read_only: true,
        ..Session::new("test")
    };
    let mut db = connect(&Cluster::shared().settings(&name), &session)
        .await
        .expect("a connection");
    let mut loader = Loader::default();
    let first = load(&mut loader, &mut db).await;
    assert!(body(&first).is_some_and(|text| text.contains("FROM public.members")));
    let before = defined(&admin).await;
    assert_eq!(load(&mut loader, &mut db).await, first);
    assert_eq!(defined(&admin).await, before, "nothing changed");

    // Rows and temporary objects are no change.
    admin
        .batch_execute("INSERT INTO members VALUES (1); CREATE TEMP TABLE mine (id int); ANALYZE members")
        .await
        .expect("the statements");
    assert_eq!(load(&mut loader, &mut db).await, first);
    assert_eq!(defined(&admin).await, before, "nothing that has a name changed");

    for (change, expected) in [
        ("ALTER TABLE members RENAME TO people", None),
        (
            "CREATE VIEW members AS SELECT 1::bigint AS team_id",
            Some("members.team_id = \"rowcast arguments\".team"),
        ),
        (
            "CREATE OR REPLACE FUNCTION is_member(team int) RETURNS bool LANGUAGE sql AS 'SELECT team = 3'",
            Some("(\"rowcast arguments\".team = 3)"),
        ),
    ] {
        admin.batch_execute(change).await.expect(change);
        let text = body(&load(&mut loader, &mut db).await);
        match expected {
            None => assert_eq!(text, None, "{change}"),
            Some(part) => assert!(text.is_some_and(|text| text.contains(part)), "{change}"),
        }
    }
    let before = defined(&admin).await;
    loader.forget();
    load(&mut loader, &mut db).await;
    assert!(
        defined(&admin).await > before,
        "what was forgotten is asked again"
    );
}

/// Somebody else's lock costs the body for this time, not the catalog.
#[tokio::test]
async fn a_locked_table_costs_only_the_body() {
    let (name, mut db) = Cluster::shared().database().await;
    db.batch_execute(&format!("SET check_function_bodies = off;{COUNTER}"))
        .await
        .expect("the statements");
    let busy = Cluster::shared().superuser(&name).await;
    busy.batch_execute("BEGIN; LOCK TABLE members IN ACCESS EXCLUSIVE MODE")
        .await
        .expect("a lock");
    let mut loader = Loader::default();
    let catalog = load(&mut loader, &mut db).await;
    assert_eq!((body(&catalog), catalog.tables.len()), (None, 1));
    busy.batch_execute("ROLLBACK").await.expect("no lock");
    assert!(body(&load(&mut loader, &mut db).await).is_some());
}
