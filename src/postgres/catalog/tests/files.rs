use super::{read, table};
use crate::change::TableName;
use crate::postgres::catalog::{
    FilePolicy, FileProblem, Loader, RowAccess, load, normalise_using, role_access,
};
use crate::postgres::testing::Cluster;

fn policy(table: &str, name: &str, roles: &[&str], using: &str) -> FilePolicy {
    FilePolicy {
        table: TableName::new("public", table),
        name: name.into(),
        permissive: true,
        roles: roles.iter().map(|role| (*role).to_owned()).collect(),
        using: using.into(),
    }
}

/// What a file says becomes what the same policy in the database is.
#[tokio::test]
async fn expressions_become_what_postgres_would_store() {
    let (_, mut db) = Cluster::shared().database().await;
    read(
        &mut db,
        r#"CREATE TABLE members (team int, who text);
           CREATE TABLE "To do" (id int PRIMARY KEY, owner text, "Kind" varchar, tags text[], done bool);
           CREATE FUNCTION is_ok(int) RETURNS bool LANGUAGE sql AS 'SELECT true';
           CREATE FUNCTION row_ok("To do") RETURNS bool LANGUAGE sql AS 'SELECT true';"#,
    )
    .await;
    for expression in [
        "true",
        "done",
        "owner = current_setting('a.b', true) -- mine",
        "\"Kind\" IN ('a', 'b)') AND id > 3",
        "id IN (SELECT team FROM members WHERE who = \"To do\".owner)",
        "EXISTS (SELECT FROM members m WHERE m.team = id AND m.who ~ '^\\d+;$')",
        "EXISTS (SELECT FROM \"To do\" t WHERE t.id > \"To do\".id)",
        "is_ok(id) AND 'x' = ANY (tags)",
        "row_ok(\"To do\")",
        "ctid IS NOT NULL",
        "$$a$$ = owner /* ) */",
        "(SELECT true)",
        "NULL",
    ] {
        db.batch_execute(&format!(
            "DROP POLICY IF EXISTS p ON \"To do\"; CREATE POLICY p ON \"To do\" USING ({expression}\n)"
        ))
        .await
        .expect(expression);
        let catalog = load(&mut db, "p").await.expect("a catalog");
        let table = table(&catalog, "public", "To do");
        let stored = &table.policies[0];
        let found = normalise_using(&mut db, &table, expression)
            .await
            .expect(expression);
        assert_eq!(found.columns, stored.columns, "{expression}");
        assert_eq!(found.whole_row, stored.whole_row, "{expression}");
        assert_eq!(found.relations, stored.relations, "{expression}");
        assert_eq!(found.functions, stored.functions, "{expression}");
        // The same but for columns, which a view may qualify with the table's name: Postgres reads both as the same.
        let stored = stored.using.clone().expect("an expression");
        let mut twice = Vec::new();
        for text in [&found.text, &stored] {
            db.batch_execute(&format!("ALTER POLICY p ON \"To do\" USING ({text})"))
                .await
                .expect(expression);
            let catalog = load(&mut db, "p").await.expect("a catalog");
            twice.push(
                super::table(&catalog, "public", "To do").policies[0]
                    .using
                    .clone(),
            );
        }
        assert_eq!(twice[0], twice[1], "{expression}");
    }
}

#[tokio::test]
async fn what_is_no_condition_is_refused_with_its_place() {
    let (_, mut db) = Cluster::shared().database().await;
    let catalog = read(&mut db, "CREATE TABLE t (id int PRIMARY KEY, v text)").await;
    let t = table(&catalog, "public", "t");
    for (expression, expected) in [
        (
            "v = 'a' AND nope > 1",
            Some((13, "column \"nope\" does not exist")),
        ),
        (
            "id + 1",
            Some((1, "the expression must be type boolean, not type integer")),
        ),
        (
            "count(*) > 0",
            Some((1, "aggregate functions are not allowed in WHERE")),
        ),
        ("id = $1", Some((6, "there is no parameter $1"))),
        ("", None),
        ("true) or (true", None),
        ("true); drop table t; --", None),
        ("true; drop table t", None),
        ("v = E'\\x41'", None),
        ("v = 'a", None),
        ("true /*", None),
    ] {
        let error = normalise_using(&mut db, &t, expression)
            .await
            .expect_err(expression);
        match (error, expected) {
            (
                FileProblem::Refused {
                    message, position, ..
                },
                Some((at, text)),
            ) => {
                assert_eq!((position, message.as_str()), (Some(at), text), "{expression}");
            }
            (FileProblem::Refused { sqlstate, .. }, None) => assert_eq!(sqlstate, "42601", "{expression}"),
            (error, expected) => {
                assert_eq!(
                    (error, expected),
                    (FileProblem::NotOneExpression, None),
                    "{expression}"
                );
            }
        }
    }
    db.execute("SELECT id FROM t", &[])
        .await
        .expect("the table stands");
}

#[tokio::test]
async fn policies_of_files_stand_beside_those_of_the_database() {
    let (_, mut db) = Cluster::shared().database().await;
    read(
        &mut db,
        "CREATE ROLE fp_a; CREATE ROLE fp_b; CREATE ROLE fp_owner; CREATE ROLE fp_above BYPASSRLS;
         CREATE TABLE a (id int PRIMARY KEY); ALTER TABLE a OWNER TO fp_owner;
         CREATE TABLE b (id int PRIMARY KEY); CREATE TABLE c (id int PRIMARY KEY); CREATE TABLE teams (id int);
         CREATE PUBLICATION p FOR TABLE a, b, c;",
    )
    .await;
    let mut narrow = policy("a", "narrow", &["public"], "id < 9");
    narrow.permissive = false;
    let mut loader = Loader::default();
    loader.set_files(vec![
        policy("a", "some", &["fp_a"], "id IN (SELECT teams.id FROM teams)"),
        narrow,
        policy("b", "wrong", &["public"], "nope"),
        policy("b", "nobody", &["no_such_role"], "true"),
        policy("later", "waits", &["public"], "true"),
    ]);
    let loaded = loader.load(&mut db, "p").await.expect("a catalog");
    let problems: Vec<_> = loaded
        .files
        .iter()
        .map(|finding| (finding.policy, finding.problem.is_warning()))
        .collect();
    assert_eq!(problems, [(2, false), (3, false), (4, true)]);
    assert_eq!(
        loaded.files[1].problem,
        FileProblem::UnknownRole("no_such_role".into())
    );
    let (a, b) = (
        table(&loaded.catalog, "public", "a"),
        table(&loaded.catalog, "public", "b"),
    );
    assert_eq!(a.file_policies.len(), 2);
    let teams = a.file_policies[0].relations.clone();
    assert!(teams.len() == 1 && loaded.catalog.others.contains_key(&teams[0]));
    assert!(
        b.file_policies
            .iter()
            .all(|p| p.using.as_deref() == Some("false"))
    );
    assert!(table(&loaded.catalog, "public", "c").file_policies.is_empty());
    let policies = |permissive: &[usize], restrictive: &[usize]| RowAccess::Policies {
        permissive: permissive.to_vec(),
        restrictive: restrictive.to_vec(),
    };
    for (role, table, expected) in [
        ("fp_a", "a", policies(&[0], &[1])),
        ("fp_b", "a", policies(&[], &[1])),
        ("fp_owner", "a", policies(&[], &[1])),
        ("fp_above", "a", RowAccess::Unrestricted),
        ("postgres", "a", RowAccess::Unrestricted),
        ("fp_a", "b", policies(&[1, 0], &[])),
        ("fp_a", "c", RowAccess::Unrestricted),
    ] {
        let access = role_access(&db, role, &loaded.catalog)
            .await
            .expect("an answer")
            .expect("a role");
        let access = &access.tables[&super::table(&loaded.catalog, "public", table).oid];
        assert_eq!(access.files, expected, "{role} on {table}");
        assert_eq!(access.rows, RowAccess::Unrestricted);
    }
    // Nothing has changed, so the same is found; what is mended is found right.
    let again = loader.load(&mut db, "p").await.expect("a catalog");
    assert_eq!((again.catalog, again.files), (loaded.catalog, loaded.files));
    db.batch_execute("ALTER TABLE b ADD nope bool; CREATE ROLE no_such_role; DROP TABLE teams")
        .await
        .expect("the changes");
    let mended = loader.load(&mut db, "p").await.expect("a catalog");
    let problems: Vec<_> = mended.files.iter().map(|finding| finding.policy).collect();
    assert_eq!(problems, [0, 4]);
    db.batch_execute("DROP ROLE no_such_role").await.expect("a drop");
}
