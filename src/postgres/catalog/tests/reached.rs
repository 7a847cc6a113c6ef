use std::sync::Arc;

use super::{read, table};
use crate::change::TableName;
use crate::postgres::catalog::{Body, Catalog, Function, RelationKind, Table, load, role_access};
use crate::postgres::testing::Cluster;

fn function(catalog: &Catalog, name: &str) -> Arc<Function> {
    let found = catalog.functions.values().find(|f| &*f.name == name);
    Arc::clone(found.unwrap_or_else(|| panic!("{name} is not reached")))
}

fn body(catalog: &Catalog, name: &str) -> Body {
    function(catalog, name)
        .body
        .clone()
        .unwrap_or_else(|| panic!("{name} has no body"))
}

/// The words of a body in one line.
fn query(catalog: &Catalog, name: &str) -> String {
    body(catalog, name)
        .query
        .split_whitespace()
        .collect::<Vec<_>>()
        .join(" ")
}

fn other(catalog: &Catalog, name: &str) -> Arc<Table> {
    let found = catalog.others.values().find(|t| &*t.name.table == name);
    Arc::clone(found.unwrap_or_else(|| panic!("{name} is not reached")))
}

/// Policy to function to table to that table's policy to another function.
#[tokio::test]
async fn everything_below_a_policy_is_reached() {
    let (_, mut db) = Cluster::shared().database().await;
    let catalog = read(
        &mut db,
        "CREATE SCHEMA app; CREATE SCHEMA auth;
         CREATE TYPE app.grade AS ENUM ('low', 'high');
         CREATE FUNCTION auth.uid() RETURNS uuid LANGUAGE sql STABLE AS $$
             SELECT coalesce(nullif(current_setting('request.jwt.claim.sub', true), ''),
                             nullif(current_setting('request.jwt.claims', true), '')::jsonb ->> 'sub')::uuid
         $$;
         CREATE TABLE app.members (team int, who uuid, grade app.grade, PRIMARY KEY (team, who));
         CREATE TABLE app.bans (who uuid);
         CREATE TABLE app.unrelated (id int);
         CREATE FUNCTION app.is_banned(uuid) RETURNS bool LANGUAGE plpgsql STABLE AS $$
             BEGIN RETURN EXISTS (SELECT FROM app.bans); END $$;
         CREATE FUNCTION app.is_high(grade app.grade) RETURNS bool LANGUAGE sql IMMUTABLE AS $$ SELECT grade = 'high' $$;
         ALTER TABLE app.members ENABLE ROW LEVEL SECURITY;
         CREATE POLICY own ON app.members USING (who = auth.uid() AND NOT app.is_banned(who) AND app.is_high(grade));
         CREATE FUNCTION app.teams() RETURNS SETOF int LANGUAGE sql STABLE AS $$
             SELECT team FROM app.members WHERE who = auth.uid() $$;
         CREATE TABLE app.notes (id int PRIMARY KEY, team int, owner uuid);
         ALTER TABLE app.notes ENABLE ROW LEVEL SECURITY;
         CREATE POLICY by_team ON app.notes USING (team IN (SELECT app.teams()));
         CREATE POLICY siblings ON app.notes USING (EXISTS (SELECT FROM app.notes n WHERE n.id = notes.team));
         CREATE POLICY plain ON app.notes USING (owner = auth.uid());
         CREATE PUBLICATION p FOR TABLE app.notes;",
    )
    .await;
    let notes = table(&catalog, "app", "notes");
    let [by_team, plain, siblings] = notes.policies.as_slice() else {
        panic!("{:?}", notes.policies)
    };
    assert!(by_team.relations.is_empty());
    assert_eq!(by_team.functions, [function(&catalog, "teams").oid]);
    assert!(plain.relations.is_empty());
    assert_eq!(siblings.relations, [notes.oid]);
    assert_eq!(notes.stored_in, [TableName::new("app", "notes")]);

    assert_eq!(catalog.others.len(), 1, "{:?}", catalog.others);
    let members = other(&catalog, "members");
    assert!(members.rls && members.policies.len() == 1 && members.primary_key == [0, 1]);
    assert!(!members.published.insert);
    assert!(catalog.types.0.contains_key(&members.columns[2].type_oid));

    let mut names: Vec<_> = catalog.functions.values().map(|f| f.name.to_string()).collect();
    names.sort();
    assert_eq!(names, ["is_banned", "is_high", "teams", "uid"]);
    assert_eq!(function(&catalog, "is_banned").body, None);
    let teams = function(&catalog, "teams");
    assert!(teams.returns_set && teams.returns == 23);
    assert_eq!(body(&catalog, "teams").relations, [members.oid]);
    assert_eq!(body(&catalog, "teams").functions, [function(&catalog, "uid").oid]);
    assert_eq!(
        query(&catalog, "teams"),
        "SELECT members.team FROM app.members WHERE (members.who = auth.uid())"
    );
    assert_eq!(
        query(&catalog, "is_high"),
        "SELECT (\"rowcast arguments\".grade = 'high'::app.grade) AS \"?column?\""
    );
    assert!(query(&catalog, "uid").starts_with("SELECT (COALESCE(NULLIF(current_setting("));
    assert!(body(&catalog, "uid").parameters.is_empty());
}

const BODIES: &str = r#"
    CREATE SCHEMA app; CREATE SCHEMA hidden;
    CREATE TABLE app.members (team_id int, user_id int, role varchar, "Odd" text);
    CREATE TABLE hidden.members (team_id bigint);
    CREATE TABLE done (id int);
    CREATE FUNCTION named(team int, "User Id" int DEFAULT 7) RETURNS bool LANGUAGE sql STABLE SECURITY DEFINER
        SET search_path = app, pg_temp AS $$
        -- team and $1 in a comment
        SELECT EXISTS (SELECT 1 FROM members m WHERE m.team_id = team AND user_id = "User Id" AND role <> '$1 named.team');
        -- the end $$;
    CREATE FUNCTION numbered(int, text) RETURNS bool LANGUAGE sql AS
        'SELECT EXISTS (SELECT 1 FROM app.members WHERE team_id = $1 AND "Odd" = $2)';
    CREATE FUNCTION qualified(team_id int) RETURNS bool LANGUAGE sql AS
        'SELECT EXISTS (SELECT 1 FROM app.members WHERE members.team_id = qualified.team_id)';
    CREATE FUNCTION column_wins(team_id int) RETURNS bool LANGUAGE sql AS
        'SELECT EXISTS (SELECT 1 FROM app.members WHERE team_id = $1 AND team_id = team_id)';
    CREATE FUNCTION role() RETURNS text LANGUAGE sql AS 'SELECT role FROM app.members';
    CREATE FUNCTION wide() RETURNS bigint LANGUAGE sql AS 'SELECT team_id FROM app.members';
    CREATE FUNCTION tabled() RETURNS TABLE (id int) LANGUAGE sql AS 'SELECT team_id FROM app.members';
    CREATE FUNCTION returned(a int) RETURNS bool RETURN a > 3;
    CREATE FUNCTION atomic(team_id int) RETURNS bool BEGIN ATOMIC
        SELECT EXISTS (SELECT 1 FROM app.members m WHERE m.team_id = atomic.team_id); END;
    CREATE FUNCTION looped(a int) RETURNS bool LANGUAGE sql AS 'SELECT a > 0';
    CREATE OR REPLACE FUNCTION looped(a int) RETURNS bool LANGUAGE sql AS 'SELECT a = 0 OR looped(a - 1)';

    CREATE FUNCTION shadowed(m int) RETURNS bool LANGUAGE sql AS 'SELECT count(m) > 0 FROM app.members m';
    CREATE FUNCTION two() RETURNS bool LANGUAGE sql AS 'SELECT false; SELECT true';
    CREATE FUNCTION writes() RETURNS int LANGUAGE sql AS 'INSERT INTO done VALUES (1) RETURNING id';
    CREATE FUNCTION set_else() RETURNS bool LANGUAGE sql SET datestyle = 'German' AS 'SELECT true';
    CREATE FUNCTION moment() RETURNS bool LANGUAGE sql AS $$ SELECT 'now'::timestamptz > '2020-01-01' $$;
    CREATE FUNCTION pairs() RETURNS app.members LANGUAGE sql AS 'SELECT * FROM app.members';
    CREATE FUNCTION poly(a anyelement) RETURNS bool LANGUAGE sql AS 'SELECT a IS NULL';
    CREATE FUNCTION rest(VARIADIC a int[]) RETURNS bool LANGUAGE sql AS 'SELECT 1 = ANY (a)';
    CREATE FUNCTION locks() RETURNS bool LANGUAGE sql AS 'SELECT true FROM app.members FOR UPDATE';
    CREATE FUNCTION unions() RETURNS bool LANGUAGE sql AS 'SELECT true UNION SELECT false';
    CREATE FUNCTION gone() RETURNS bool LANGUAGE sql AS 'SELECT true';
    SET check_function_bodies = off;
    CREATE OR REPLACE FUNCTION gone() RETURNS bool LANGUAGE sql AS 'SELECT true FROM app.no_such_table';
    CREATE FUNCTION hostile_a() RETURNS bool LANGUAGE sql AS 'SELECT true) as "rowcast body"(x); DROP TABLE done; --';
    CREATE FUNCTION hostile_b() RETURNS bool LANGUAGE sql AS
        'select true) as a(x), lateral (select pg_catalog.set_config(''a.b'', ''c'', false) is not null';
    CREATE FUNCTION hostile_c() RETURNS bool LANGUAGE sql AS $$ select true; drop table done; $$;
    CREATE FUNCTION hostile_d() RETURNS bool LANGUAGE sql AS $$ select true /* */ */ ) ; drop table done -- $$;
    CREATE FUNCTION hostile_e() RETURNS bool LANGUAGE sql AS $$ select $1 $$;
    CREATE FUNCTION hostile_f() RETURNS bool LANGUAGE sql AS $$ select (1/0) = 1 $$;
    RESET check_function_bodies;

    CREATE TABLE t (id int PRIMARY KEY);
    ALTER TABLE t ENABLE ROW LEVEL SECURITY;
    CREATE POLICY all_of_them ON t USING (
        named(1) AND numbered(1, 'a') AND qualified(1) AND column_wins(1) AND role() = 'a' AND wide() = 1
        AND id IN (SELECT tabled()) AND returned(1) AND atomic(1) AND looped(1)
        AND shadowed(1) AND two() AND writes() = 1 AND set_else() AND moment() AND pairs() IS NULL AND poly(1)
        AND rest(1, 2) AND locks() AND unions() AND gone()
        AND hostile_a() AND hostile_b() AND hostile_c() AND hostile_d() AND hostile_e() AND hostile_f());
    CREATE PUBLICATION p FOR TABLE t;
"#;

#[tokio::test]
async fn bodies_are_what_postgres_makes_of_them() {
    let (_, mut db) = Cluster::shared().database().await;
    let catalog = read(&mut db, BODIES).await;
    assert_eq!(
        body(&catalog, "named").parameters,
        [Arc::from("team"), Arc::from("User Id")]
    );
    for (name, expected) in [
        (
            "named",
            r#"SELECT (EXISTS ( SELECT 1 FROM app.members m WHERE ((m.team_id = "rowcast arguments".team) AND (m.user_id = "rowcast arguments"."User Id") AND ((m.role)::text <> '$1 named.team'::text)))) AS "exists""#,
        ),
        (
            "numbered",
            r#"SELECT (EXISTS ( SELECT 1 FROM app.members WHERE ((members.team_id = "rowcast arguments"."$1") AND (members."Odd" = "rowcast arguments"."$2")))) AS "exists""#,
        ),
        (
            "qualified",
            r#"SELECT (EXISTS ( SELECT 1 FROM app.members WHERE (members.team_id = "rowcast arguments".team_id))) AS "exists""#,
        ),
        (
            "column_wins",
            r#"SELECT (EXISTS ( SELECT 1 FROM app.members WHERE ((members.team_id = "rowcast arguments".team_id) AND (members.team_id = members.team_id)))) AS "exists""#,
        ),
        (
            "role",
            r#"SELECT ("rowcast result".x)::text AS x FROM ( SELECT members.role FROM app.members) "rowcast result"(x)"#,
        ),
        (
            "wide",
            r#"SELECT ("rowcast result".x)::bigint AS x FROM ( SELECT members.team_id FROM app.members) "rowcast result"(x)"#,
        ),
        ("tabled", "SELECT members.team_id FROM app.members"),
        ("returned", r#"SELECT ("rowcast arguments".a > 3) AS "?column?""#),
        (
            "atomic",
            r#"SELECT (EXISTS ( SELECT 1 FROM app.members m WHERE (m.team_id = "rowcast arguments".team_id))) AS "exists""#,
        ),
        (
            "looped",
            r#"SELECT (("rowcast arguments".a = 0) OR public.looped(("rowcast arguments".a - 1))) AS "?column?""#,
        ),
        ("hostile_f", r#"SELECT ((1 / 0) = 1) AS "?column?""#),
    ] {
        assert_eq!(query(&catalog, name), expected, "{name}");
    }
    for name in [
        "shadowed",
        "two",
        "writes",
        "set_else",
        "moment",
        "pairs",
        "poly",
        "rest",
        "locks",
        "unions",
        "gone",
        "hostile_a",
        "hostile_b",
        "hostile_c",
        "hostile_d",
        "hostile_e",
    ] {
        assert_eq!(function(&catalog, name).body, None, "{name}");
    }
    assert_eq!(
        body(&catalog, "named").relations,
        [other(&catalog, "members").oid]
    );
    let left: i64 = db
        .query_one(
            "SELECT count(*) FROM pg_class WHERE relname LIKE 'rowcast%' OR relpersistence = 't'",
            &[],
        )
        .await
        .expect("a count")
        .get(0);
    assert_eq!(left, 0);
    db.execute("SELECT id FROM done", &[])
        .await
        .expect("the table stands");
}

#[tokio::test]
async fn a_body_holds_for_who_finds_the_same_names() {
    let (_, mut db) = Cluster::shared().database().await;
    let catalog = read(
        &mut db,
        "CREATE ROLE fa_user; CREATE ROLE fa_owner; CREATE ROLE fa_revoked; CREATE ROLE fa_schema;
         CREATE SCHEMA fa_schema; CREATE SCHEMA private; CREATE TABLE private.m (id int); CREATE TABLE public.n (id int);
         GRANT USAGE ON SCHEMA private TO fa_owner; GRANT USAGE ON SCHEMA fa_schema TO fa_schema;
         CREATE FUNCTION plain() RETURNS bool LANGUAGE sql AS 'SELECT true';
         REVOKE EXECUTE ON FUNCTION plain() FROM public; GRANT EXECUTE ON FUNCTION plain() TO fa_user, fa_schema;
         CREATE FUNCTION caller() RETURNS bool LANGUAGE sql SET search_path = '' AS 'SELECT public.plain()';
         CREATE FUNCTION names() RETURNS bool LANGUAGE sql SET search_path = '' AS 'SELECT true FROM private.m';
         CREATE FUNCTION definer() RETURNS bool LANGUAGE sql SECURITY DEFINER SET search_path = '' AS 'SELECT public.names()';
         ALTER FUNCTION definer() OWNER TO fa_owner;
         CREATE FUNCTION behind() RETURNS bool LANGUAGE sql SET search_path = private, public AS 'SELECT true FROM n';
         CREATE FUNCTION looped() RETURNS bool LANGUAGE sql SET search_path = '' AS 'SELECT true';
         CREATE OR REPLACE FUNCTION looped() RETURNS bool LANGUAGE sql SET search_path = '' AS 'SELECT public.looped()';
         CREATE FUNCTION standard() RETURNS bool RETURN EXISTS (SELECT FROM private.m);
         CREATE TABLE t (id int PRIMARY KEY);
         CREATE POLICY a ON t USING (plain() AND caller() AND names() AND definer() AND behind() AND looped() AND standard());
         CREATE PUBLICATION p FOR TABLE t;",
    )
    .await;
    let mut expected = Vec::new();
    for (role, names) in [
        ("fa_user", vec!["caller", "definer", "plain", "standard"]),
        ("fa_owner", vec!["behind", "definer", "names", "standard"]),
        ("fa_revoked", vec!["definer", "standard"]),
        // `plain` has the session's search_path, which begins with the role's own schema.
        ("fa_schema", vec!["definer", "standard"]),
        (
            "postgres",
            vec!["behind", "caller", "definer", "names", "plain", "standard"],
        ),
    ] {
        let access = role_access(&db, role, &catalog)
            .await
            .expect("an answer")
            .expect("a role");
        let mut found: Vec<_> = access
            .functions
            .iter()
            .map(|oid| catalog.functions[oid].name.to_string())
            .collect();
        found.sort();
        expected.push((role, found, names));
    }
    for (role, found, names) in expected {
        assert_eq!(found, names, "{role}");
    }
}

#[tokio::test]
async fn what_does_not_come_down_the_stream_is_known() {
    let (_, mut db) = Cluster::shared().database().await;
    let catalog = read(
        &mut db,
        "CREATE TABLE plain (id int PRIMARY KEY); CREATE UNLOGGED TABLE fleeting (id int); CREATE VIEW seen AS SELECT * FROM plain;
         CREATE MATERIALIZED VIEW kept AS SELECT * FROM plain;
         CREATE TABLE parts (id int PRIMARY KEY) PARTITION BY RANGE (id);
         CREATE TABLE part_1 PARTITION OF parts FOR VALUES FROM (0) TO (10);
         CREATE TABLE part_2 PARTITION OF parts FOR VALUES FROM (10) TO (20) PARTITION BY RANGE (id);
         CREATE TABLE part_2_a PARTITION OF part_2 FOR VALUES FROM (10) TO (15);
         CREATE TABLE base (id int); CREATE TABLE heir () INHERITS (base); CREATE TABLE heir_of_heir () INHERITS (heir);
         ALTER TABLE base REPLICA IDENTITY FULL; ALTER TABLE heir REPLICA IDENTITY FULL;
         ALTER TABLE heir_of_heir REPLICA IDENTITY FULL;
         CREATE TABLE keyless (id int); CREATE TABLE silent (id int PRIMARY KEY); ALTER TABLE silent REPLICA IDENTITY NOTHING;
         CREATE TABLE late (id int PRIMARY KEY DEFERRABLE);
         CREATE TABLE gone (id int NOT NULL); CREATE UNIQUE INDEX of_gone ON gone (id);
         ALTER TABLE gone REPLICA IDENTITY USING INDEX of_gone; DROP INDEX of_gone;
         CREATE TABLE chosen (id int NOT NULL); CREATE UNIQUE INDEX of_chosen ON chosen (id);
         ALTER TABLE chosen REPLICA IDENTITY USING INDEX of_chosen;
         CREATE TABLE mute (id int PRIMARY KEY) PARTITION BY RANGE (id);
         CREATE TABLE mute_1 PARTITION OF mute FOR VALUES FROM (0) TO (10); ALTER TABLE mute_1 REPLICA IDENTITY NOTHING;
         CREATE FUNCTION told() RETURNS bool LANGUAGE sql AS 'SELECT EXISTS (SELECT FROM pg_auth_members)';
         CREATE TABLE mixed (id int); CREATE UNLOGGED TABLE mixed_heir () INHERITS (mixed);
         CREATE TABLE t (id int PRIMARY KEY);
         CREATE POLICY a ON t USING (
             id IN (SELECT id FROM plain) OR id IN (SELECT id FROM fleeting) OR id IN (SELECT id FROM seen)
             OR id IN (SELECT id FROM kept) OR id IN (SELECT id FROM parts) OR id IN (SELECT id FROM base)
             OR id IN (SELECT id FROM keyless) OR id IN (SELECT id FROM silent) OR id IN (SELECT id FROM late)
             OR id IN (SELECT id FROM gone) OR id IN (SELECT id FROM chosen) OR id IN (SELECT id FROM mute)
             OR id IN (SELECT id FROM mixed) OR EXISTS (SELECT FROM pg_catalog.pg_roles) OR told());
         CREATE PUBLICATION p FOR TABLE t;",
    )
    .await;
    for (name, kind, stored_in) in [
        ("plain", RelationKind::Table, vec!["plain"]),
        ("fleeting", RelationKind::Other, vec!["fleeting"]),
        ("seen", RelationKind::Other, vec!["seen"]),
        ("kept", RelationKind::Other, vec!["kept"]),
        ("parts", RelationKind::Table, vec!["part_1", "part_2_a"]),
        ("base", RelationKind::Table, vec!["base", "heir", "heir_of_heir"]),
        ("mixed", RelationKind::Other, vec!["mixed", "mixed_heir"]),
        ("keyless", RelationKind::Other, vec!["keyless"]),
        ("silent", RelationKind::Other, vec!["silent"]),
        ("late", RelationKind::Other, vec!["late"]),
        ("gone", RelationKind::Other, vec!["gone"]),
        ("chosen", RelationKind::Table, vec!["chosen"]),
        ("mute", RelationKind::Other, vec!["mute_1"]),
        ("pg_roles", RelationKind::Other, vec!["pg_roles"]),
        ("pg_auth_members", RelationKind::Other, vec!["pg_auth_members"]),
    ] {
        let table = other(&catalog, name);
        let found: Vec<&str> = table.stored_in.iter().map(|name| &*name.table).collect();
        assert_eq!((table.kind, found), (kind, stored_in), "{name}");
    }
}

/// Without the right to make temporary views nothing has a body, and the rest is there.
#[tokio::test]
async fn a_login_without_temporary_views_still_reads() {
    let (name, db) = Cluster::shared().database().await;
    db.batch_execute(&format!(
        "CREATE ROLE no_temp LOGIN; REVOKE TEMPORARY ON DATABASE {name} FROM public;
         CREATE FUNCTION f() RETURNS bool LANGUAGE sql AS 'SELECT true';
         CREATE TABLE t (id int PRIMARY KEY); CREATE POLICY a ON t USING (f()); CREATE PUBLICATION p FOR TABLE t;"
    ))
    .await
    .expect("the statements");
    let mut settings = Cluster::shared().settings(&name);
    settings.user = "no_temp".into();
    let mut login = Cluster::shared().superuser_at(&settings).await;
    let catalog = load(&mut login, "p").await.expect("a catalog");
    assert_eq!(function(&catalog, "f").body, None);
    assert_eq!(catalog.tables.len(), 1);
}

/// A domain's CHECK runs while a constant is parsed: not with our rights for others.
#[tokio::test]
async fn nothing_of_others_runs_while_a_body_is_read() {
    let (_, mut db) = Cluster::shared().database().await;
    let catalog = read(
        &mut db,
        "CREATE ROLE ck_other; GRANT CREATE ON SCHEMA public TO ck_other; CREATE SEQUENCE ran; GRANT ALL ON ran TO ck_other;
         CREATE FUNCTION ours() RETURNS bool LANGUAGE sql AS 'SELECT true';
         CREATE DOMAIN ours_checked AS int CHECK (VALUE > 0);
         SET check_function_bodies = off; SET ROLE ck_other;
         CREATE FUNCTION counts(int) RETURNS bool LANGUAGE sql AS $$ SELECT nextval('public.ran') > 0 $$;
         CREATE DOMAIN sly AS int CHECK (counts(VALUE));
         CREATE FUNCTION theirs() RETURNS bool LANGUAGE sql AS $$ SELECT '{1}'::sly[] IS NOT NULL $$;
         RESET ROLE; RESET check_function_bodies;
         CREATE TABLE t (id int PRIMARY KEY);
         CREATE POLICY a ON t USING (ours() AND theirs());",
    )
    .await;
    let ran: bool = db
        .query_one("SELECT is_called FROM ran", &[])
        .await
        .expect("the sequence")
        .get(0);
    assert!(!ran && function(&catalog, "theirs").body.is_none());
    assert!(function(&catalog, "ours").body.is_some());
    db.batch_execute("ALTER DOMAIN sly DROP CONSTRAINT sly_check")
        .await
        .expect("a change");
    let catalog = load(&mut db, "p").await.expect("a catalog");
    assert!(function(&catalog, "theirs").body.is_some());
}
