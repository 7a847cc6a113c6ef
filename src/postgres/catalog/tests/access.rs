use super::{read, table};
use crate::postgres::Connection;
use crate::postgres::catalog::{Catalog, RowAccess, role_access};
use crate::postgres::testing::Cluster;

async fn rows(db: &Connection, catalog: &Catalog, role: &str, name: &str) -> RowAccess {
    let access = role_access(db, role, catalog)
        .await
        .expect("an answer")
        .expect("a role");
    access.tables[&table(catalog, "public", name).oid].rows.clone()
}

async fn columns(db: &Connection, catalog: &Catalog, role: &str, schema: &str, name: &str) -> Vec<bool> {
    let access = role_access(db, role, catalog)
        .await
        .expect("an answer")
        .expect("a role");
    access.tables[&table(catalog, schema, name).oid].columns.clone()
}

/// Roles belong to the cluster, so each test has names of its own.
#[tokio::test]
async fn column_privileges_by_every_road() {
    let (_, mut db) = Cluster::shared().database().await;
    let catalog = read(
        &mut db,
        r#"
        CREATE ROLE "ca Some"; CREATE ROLE ca_child; CREATE ROLE ca_apart NOINHERIT; CREATE ROLE ca_none;
        CREATE ROLE ca_reader; CREATE ROLE ca_super SUPERUSER;
        GRANT "ca Some" TO ca_child, ca_apart;
        GRANT pg_read_all_data TO ca_reader;
        CREATE TABLE t (gone int, a int PRIMARY KEY, b int, c int);
        ALTER TABLE t DROP COLUMN gone;
        GRANT SELECT (a, c) ON t TO "ca Some";
        CREATE SCHEMA closed;
        CREATE TABLE closed.u (a int, b int);
        GRANT SELECT ON closed.u TO "ca Some";
        CREATE TABLE bare ();
        "#,
    )
    .await;
    assert_eq!(
        columns(&db, &catalog, "ca Some", "public", "t").await,
        [true, false, true]
    );
    assert_eq!(
        columns(&db, &catalog, "ca_child", "public", "t").await,
        [true, false, true]
    );
    assert_eq!(
        columns(&db, &catalog, "ca_apart", "public", "t").await,
        [false, false, false]
    );
    assert_eq!(
        columns(&db, &catalog, "ca_none", "public", "t").await,
        [false, false, false]
    );
    assert_eq!(
        columns(&db, &catalog, "ca_super", "closed", "u").await,
        [true, true]
    );
    assert_eq!(
        columns(&db, &catalog, "ca_reader", "closed", "u").await,
        [true, true]
    );
    // SELECT on the table without USAGE on its schema is nothing.
    assert_eq!(
        columns(&db, &catalog, "ca Some", "closed", "u").await,
        [false, false]
    );
    assert!(
        columns(&db, &catalog, "ca_super", "public", "bare")
            .await
            .is_empty()
    );
    for nobody in ["no_such_role", "none", "public", "", "\"ca Some\"", "CA_CHILD"] {
        assert_eq!(
            role_access(&db, nobody, &catalog).await.expect("an answer"),
            None,
            "{nobody:?}"
        );
    }
    // A table that went away since the reading is closed, and not an error.
    db.batch_execute("DROP TABLE t").await.expect("a drop");
    assert_eq!(
        columns(&db, &catalog, "ca_super", "public", "t").await,
        [false, false, false]
    );
    assert_eq!(
        rows(&db, &catalog, "ca_none", "t").await,
        RowAccess::Policies {
            permissive: vec![],
            restrictive: vec![]
        }
    );
    let empty = Catalog::default();
    let access = role_access(&db, "ca_none", &empty)
        .await
        .expect("an answer")
        .expect("a role");
    assert!(access.tables.is_empty());
}

#[tokio::test]
async fn row_security_by_role_owner_and_force() {
    let (_, mut db) = Cluster::shared().database().await;
    let catalog = read(
        &mut db,
        "
        CREATE ROLE ra_group; CREATE ROLE ra_member; CREATE ROLE ra_apart NOINHERIT; CREATE ROLE ra_other;
        CREATE ROLE ra_owner; CREATE ROLE ra_owns; CREATE ROLE ra_above BYPASSRLS; CREATE ROLE ra_under;
        CREATE ROLE ra_super SUPERUSER; CREATE ROLE ra_deep;
        GRANT ra_group TO ra_member, ra_apart; GRANT ra_owner TO ra_owns; GRANT ra_above TO ra_under;
        GRANT ra_member TO ra_deep;
        CREATE TABLE t (id int PRIMARY KEY);
        ALTER TABLE t OWNER TO ra_owner;
        ALTER TABLE t ENABLE ROW LEVEL SECURITY;
        CREATE POLICY a ON t FOR SELECT TO ra_group USING (id = 1);
        CREATE POLICY b ON t FOR SELECT USING (id = 2);
        CREATE POLICY c ON t AS RESTRICTIVE FOR ALL TO ra_group, ra_other USING (id < 9);
        CREATE POLICY d ON t FOR UPDATE USING (true);
        CREATE TABLE forced (LIKE t);
        ALTER TABLE forced OWNER TO ra_owner;
        ALTER TABLE forced ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
        CREATE TABLE open_table (id int);
        ALTER TABLE open_table FORCE ROW LEVEL SECURITY;
        CREATE POLICY unused ON open_table USING (false);
        ",
    )
    .await;
    let policies = |permissive: &[usize], restrictive: &[usize]| RowAccess::Policies {
        permissive: permissive.to_vec(),
        restrictive: restrictive.to_vec(),
    };
    for (role, expected) in [
        ("ra_group", policies(&[1, 0], &[2])),
        ("ra_member", policies(&[1, 0], &[2])),
        ("ra_deep", policies(&[1, 0], &[2])),
        ("ra_apart", policies(&[1], &[])),
        ("ra_other", policies(&[1], &[2])),
        ("ra_under", policies(&[1], &[])),
        ("ra_owner", RowAccess::Unrestricted),
        ("ra_owns", RowAccess::Unrestricted),
        ("ra_above", RowAccess::Unrestricted),
        ("ra_super", RowAccess::Unrestricted),
    ] {
        assert_eq!(rows(&db, &catalog, role, "t").await, expected, "{role}");
    }
    for (role, expected) in [
        ("ra_owner", policies(&[], &[])),
        ("ra_owns", policies(&[], &[])),
        ("ra_other", policies(&[], &[])),
        ("ra_above", RowAccess::Unrestricted),
        ("ra_super", RowAccess::Unrestricted),
    ] {
        assert_eq!(rows(&db, &catalog, role, "forced").await, expected, "{role}");
    }
    assert_eq!(
        rows(&db, &catalog, "ra_other", "open_table").await,
        RowAccess::Unrestricted
    );
}

/// A table may be made anew, and a column too, while somebody reads the catalog.
#[tokio::test]
async fn what_was_dropped_since_the_catalog_was_read_is_told() {
    let (_, mut db) = Cluster::shared().database().await;
    let tables = "CREATE TABLE t (a int PRIMARY KEY, b int); CREATE TABLE bare ()";
    let catalog = read(&mut db, tables).await;
    assert!(!outdated(&db, &catalog).await);
    for change in [
        "ALTER TABLE t DROP COLUMN b, ADD COLUMN b int",
        "DROP TABLE t; CREATE TABLE t (a int PRIMARY KEY)",
    ] {
        let before = read(&mut db, "").await;
        assert!(!outdated(&db, &before).await);
        db.batch_execute(change).await.expect("a change");
        assert!(outdated(&db, &before).await, "{change}");
    }
}

async fn outdated(db: &Connection, catalog: &Catalog) -> bool {
    let access = role_access(db, "pg_monitor", catalog).await;
    access.expect("an answer").expect("a role").outdated
}
