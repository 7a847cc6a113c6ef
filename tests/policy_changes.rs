//! How soon a change of policies, rights, roles, functions and columns counts: with the event trigger from the commit
//! on, without it, and for what no event trigger sees, once the catalog has been read again.

use std::time::Duration;

use futures_util::{StreamExt, stream};
use serde_json::{Value, json};

use crate::support::{Client, Database, Server, Version, eventually, token};

/// `READER` is the role of the subscriber, `GROUP` and `OWNER` others; roles are the cluster's, so that every database
/// has its own. A row of `notes` that is only given an id has the defaults.
const SCHEMA: &str = "
    create role READER; create role GROUP; create role OWNER;
    create table notes (id int primary key, team int default 1, level int default 5, height int default 0);
    create table members (team int primary key);
    insert into members values (1);
    grant select on notes, members to READER;
    alter table notes enable row level security;
    alter publication supabase_realtime add table notes;
";

/// What is done while somebody is subscribed, and what rows with defaults look like to them before and behind it: `row`,
/// `id` (no other column), `error` or nothing.
struct Case {
    name: &'static str,
    setup: &'static str,
    change: &'static str,
    before: &'static str,
    after: &'static str,
}

const fn case(
    name: &'static str,
    setup: &'static str,
    change: &'static str,
    before: &'static str,
    after: &'static str,
) -> Case {
    Case {
        name,
        setup,
        change,
        before,
        after,
    }
}

const LEVEL: &str = "create policy p on notes using (level > 1)";
const TEAMS: &str = "create policy p on notes using (team in (select m.team from members m))";

/// Changes that an event trigger sees.
const ANNOUNCED: &[Case] = &[
    case("a first policy", "", LEVEL, "", "row"),
    case(
        "a restrictive policy",
        LEVEL,
        "create policy r on notes as restrictive using (level > 5)",
        "row",
        "",
    ),
    case(
        "a narrower policy",
        LEVEL,
        "alter policy p on notes using (level > 5)",
        "row",
        "",
    ),
    case(
        "a policy for others",
        LEVEL,
        "alter policy p on notes to GROUP",
        "row",
        "",
    ),
    case("a dropped policy", LEVEL, "drop policy p on notes", "row", ""),
    case(
        "a table taken",
        LEVEL,
        "revoke select on notes from READER",
        "row",
        "error",
    ),
    case(
        "a table given",
        "create policy p on notes using (level > 1); revoke select on notes from READER",
        "grant select on notes to READER",
        "error",
        "row",
    ),
    case(
        "columns taken",
        LEVEL,
        "revoke select on notes from READER; grant select (id) on notes to READER",
        "row",
        "id",
    ),
    case(
        "columns given",
        "create policy p on notes using (level > 1); revoke select on notes from READER; grant select (id) on notes to READER",
        "grant select (level) on notes to READER",
        "id",
        "row",
    ),
    case(
        "security switched on",
        "alter table notes disable row level security",
        "alter table notes enable row level security",
        "row",
        "",
    ),
    case(
        "security switched off",
        "",
        "alter table notes disable row level security",
        "",
        "row",
    ),
    case(
        "security forced",
        "alter table notes owner to READER",
        "alter table notes force row level security",
        "row",
        "",
    ),
    case(
        "a column added",
        LEVEL,
        "alter table notes add shown bool default false; alter policy p on notes using (shown)",
        "row",
        "",
    ),
    case(
        "a column dropped",
        LEVEL,
        "alter table notes drop level cascade",
        "row",
        "",
    ),
    case(
        "a column renamed",
        LEVEL,
        "alter table notes rename level to depth",
        "row",
        "row",
    ),
    case(
        "columns exchanged",
        LEVEL,
        "alter table notes rename level to depth; alter table notes rename height to level",
        "row",
        "row",
    ),
    case(
        "a column of another type",
        "create policy p on notes using (level < 10)",
        "drop policy p on notes; alter table notes alter level type text;
         create policy p on notes using (level < '10')",
        "row",
        "",
    ),
    case(
        "a function in SQL",
        "create function high(l int) returns bool language sql stable as 'select l > 1';
         create policy p on notes using (high(level))",
        "create or replace function high(l int) returns bool language sql stable as 'select l > 5'",
        "row",
        "",
    ),
    case(
        "a function behind a function",
        "create function least_level() returns int language sql stable as 'select 1';
         create function high(l int) returns bool language sql stable as 'select l > least_level()';
         create policy p on notes using (high(level))",
        "create or replace function least_level() returns int language sql stable as 'select 5'",
        "row",
        "",
    ),
    case(
        "a function in plpgsql",
        "create function high(l int) returns bool language plpgsql stable as 'begin return l > 1; end';
         create policy p on notes using (high(level))",
        "create or replace function high(l int) returns bool language plpgsql stable as 'begin return l > 5; end'",
        "row",
        "",
    ),
    case(
        "a function that may not be called",
        "create function high(l int) returns bool language sql stable as 'select l > 1';
         create policy p on notes using (high(level))",
        "revoke execute on function high(int) from public",
        "row",
        "error",
    ),
    case(
        "a function dropped",
        "create function high(l int) returns bool language sql stable as 'select l > 1';
         create policy p on notes using (high(level))",
        "drop function high(int) cascade",
        "row",
        "",
    ),
    case(
        "a function with its caller's rights",
        "create function member(t int) returns bool language sql stable security definer as
             'select exists (select from public.members m where m.team = t)';
         alter table members enable row level security;
         create policy p on notes using (member(team))",
        "alter function member(int) security invoker",
        "row",
        "",
    ),
    case(
        "a view",
        "create view teams as select team from members; grant select on teams to READER;
         create policy p on notes using (team in (select t.team from teams t))",
        "create or replace view teams as select team from members where team > 1",
        "row",
        "",
    ),
    case(
        "an inner table taken",
        TEAMS,
        "revoke select on members from READER",
        "row",
        "error",
    ),
    // Postgres asks for the right to a schema where names are read, which was long ago.
    case(
        "the schema of an inner table taken",
        "create schema inside; grant usage on schema inside to READER; alter table members set schema inside;
         create policy p on notes using (team in (select m.team from inside.members m))",
        "revoke usage on schema inside from READER",
        "row",
        "row",
    ),
    case(
        "security on an inner table",
        TEAMS,
        "alter table members enable row level security",
        "row",
        "",
    ),
    case(
        "a policy on an inner table",
        "create policy p on notes using (team in (select m.team from members m));
         alter table members enable row level security",
        "create policy all_of_them on members using (true)",
        "",
        "row",
    ),
];

/// Changes that no event trigger sees.
const SILENT: &[Case] = &[
    case("a role above security", "", "alter role READER bypassrls", "", "row"),
    case(
        "a role no longer above security",
        "alter role READER bypassrls",
        "alter role READER nobypassrls",
        "row",
        "",
    ),
    case(
        "a role in a group",
        "create policy p on notes to GROUP using (true)",
        "grant GROUP to READER",
        "",
        "row",
    ),
    case(
        "a role out of a group",
        "create policy p on notes to GROUP using (true); grant GROUP to READER",
        "revoke GROUP from READER",
        "row",
        "",
    ),
    case(
        "a group that an inner table's policy is for",
        "create policy p on notes using (team in (select m.team from members m));
         alter table members enable row level security;
         create policy p on members to GROUP using (true); grant GROUP to READER",
        "revoke GROUP from READER",
        "row",
        "",
    ),
    case(
        "a group that may read an inner table",
        "create policy p on notes using (team in (select m.team from members m));
         revoke select on members from READER; grant select on members to GROUP; grant GROUP to READER",
        "revoke GROUP from READER",
        "row",
        "error",
    ),
    case(
        "the owner of a function",
        "create function member(t int) returns bool language sql stable security definer as
             'select exists (select from public.members m where m.team = t)';
         alter role OWNER bypassrls; grant select on members to OWNER; alter function member(int) owner to OWNER;
         alter table members enable row level security;
         create policy p on notes using (member(team))",
        "alter role OWNER nobypassrls",
        "row",
        "",
    ),
];

/// Somebody who sees `notes` of a database that is prepared for a case.
struct Scene {
    db: Database,
    server: Server,
    client: Client,
}

impl Scene {
    async fn new(setup: &str, interval: Duration) -> Self {
        let db = Database::new().await;
        db.execute(&named(SCHEMA, &db)).await;
        db.execute(&named(setup, &db)).await;
        let server = Server::start_with(&db, |config| config.database.catalog_interval = interval).await;
        let role = named("READER", &db);
        let mut client = Client::connect(&server, Version::V2, &token::token(&role, json!({}))).await;
        let changes = json!([{"event": "*", "schema": "public", "table": "notes"}]);
        client.subscribe("notes", changes).await;
        Self { db, server, client }
    }

    /// What comes of these statements.
    async fn sees(&mut self, sql: &str) -> Vec<&'static str> {
        self.db.execute(&named(sql, &self.db)).await;
        self.server.passed(&self.db).await;
        self.client.round_trip().await;
        let kind = |data: &Value| match (&data["errors"], data["record"].as_object().map(|r| r.len())) {
            (Value::Null, Some(1)) => "id",
            (Value::Null, _) => "row",
            _ => "error",
        };
        let changes = self
            .client
            .pending()
            .iter()
            .filter(|m| m.event == "postgres_changes");
        let seen = changes.map(|message| kind(&message.payload["data"])).collect();
        self.client.forget("postgres_changes");
        seen
    }

    /// Waits until a reading of the catalog that began from now on is what counts.
    async fn catalog_read(&self) {
        let reads = || self.server.metric("rowcast_catalog_reads_total");
        // One may be under way, and the pump that asks for the last of them has taken in the one before.
        let enough = reads().await + 4.0;
        eventually("the catalog is read again", || async {
            (reads().await >= enough).then_some(())
        })
        .await;
    }
}

fn named(sql: &str, db: &Database) -> String {
    ["READER", "GROUP", "OWNER"]
        .iter()
        .fold(sql.to_owned(), |sql, role| {
            sql.replace(role, &format!("{}_{}", db.name, role.to_lowercase()))
        })
}

fn rows(each: &[&'static str]) -> Vec<&'static str> {
    each.iter().copied().filter(|row| !row.is_empty()).collect()
}

const NEVER: Duration = Duration::from_secs(3600);
const OFTEN: Duration = Duration::from_millis(50);

/// Some at once: most of the time goes into waiting.
async fn each<F: Future<Output = ()>>(cases: &'static [Case], check: impl Fn(&'static Case) -> F) {
    stream::iter(cases).for_each_concurrent(4, check).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_announced_counts_from_the_very_next_row() {
    each(ANNOUNCED, |case| async move {
        let Case {
            name,
            setup,
            change,
            before,
            after,
        } = case;
        let mut scene = Scene::new(setup, NEVER).await;
        assert_eq!(
            scene.sees("insert into notes (id) values (1)").await,
            rows(&[before]),
            "{name}"
        );
        let seen = scene
            .sees(&format!("{change}; insert into notes (id) values (2)"))
            .await;
        assert_eq!(seen, rows(&[after]), "{name}");
        scene.server.stop().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_announced_counts_within_its_transaction() {
    each(ANNOUNCED, |case| async move {
        let Case { name, setup, change, before, after } = case;
        let mut scene = Scene::new(setup, NEVER).await;
        let seen = scene
            .sees(&format!(
                "begin; insert into notes (id) values (1); {change}; insert into notes (id) values (2); commit"
            ))
            .await;
        // The row in front of the change may be asked about once the transaction is over.
        let fits = seen == rows(&[before, after]) || seen == rows(&[after, after]);
        assert!(fits, "{name}: {seen:?}");
        assert_eq!(scene.sees("insert into notes (id) values (3)").await, rows(&[after]), "{name}");
        scene.server.stop().await;
    })
    .await;
}

async fn is_found_by_reading(case: &'static Case, prepare: &'static str) {
    let Case {
        name,
        setup,
        change,
        before,
        after,
    } = case;
    let mut scene = Scene::new(setup, OFTEN).await;
    scene.db.execute(prepare).await;
    assert_eq!(
        scene.sees("insert into notes (id) values (1)").await,
        rows(&[before]),
        "{name}"
    );
    scene.db.execute(&named(change, &scene.db)).await;
    scene.catalog_read().await;
    assert_eq!(
        scene.sees("insert into notes (id) values (2)").await,
        rows(&[after]),
        "{name}"
    );
    scene.server.stop().await;
}

const NO_TRIGGER: &str =
    "drop event trigger rowcast_catalog_changed; drop event trigger rowcast_catalog_dropped";

#[tokio::test(flavor = "multi_thread")]
async fn without_the_event_trigger_the_catalog_is_read_now_and_then() {
    each(ANNOUNCED, |case| async move {
        is_found_by_reading(case, NO_TRIGGER).await
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn roles_and_their_memberships_are_read_now_and_then() {
    each(SILENT, |case| is_found_by_reading(case, "")).await;
}

/// A catalog that takes longer to read than the pause between readings keeps nobody waiting behind readings that queue up.
#[tokio::test(flavor = "multi_thread")]
async fn readings_without_a_pause_hold_up_nobody() {
    let db = Database::new().await;
    db.execute(&named(SCHEMA, &db)).await;
    let server = Server::start_with(&db, |config| {
        config.database.catalog_interval = Duration::from_millis(1);
    })
    .await;
    let reads = || server.metric("rowcast_catalog_reads_total");
    eventually("there have been many readings", || async {
        (reads().await >= 100.0).then_some(())
    })
    .await;
    let before = reads().await;
    // What this role may read has to be read as well.
    let role = named("READER", &db);
    let mut client = Client::connect(&server, Version::V2, &token::token(&role, json!({}))).await;
    let changes = json!([{"event": "*", "schema": "public", "table": "notes"}]);
    client.subscribe("notes", changes).await;
    let meanwhile = reads().await - before;
    assert!(meanwhile < 100.0, "{meanwhile} readings came before it");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_label_that_an_enum_did_not_have_has_its_place() {
    const SETUP: &str =
        "create type mood as enum ('bad', 'good'); alter table notes add mood mood default 'good';
        create policy p on notes using (mood >= 'good')";
    for (interval, prepare) in [(NEVER, ""), (OFTEN, NO_TRIGGER)] {
        let mut scene = Scene::new(SETUP, interval).await;
        scene.db.execute(prepare).await;
        assert_eq!(scene.sees("insert into notes (id) values (1)").await, ["row"]);
        let add =
            "alter type mood add value 'best' after 'good'; alter type mood add value 'fair' before 'good'";
        scene.db.execute(add).await;
        // Also before the catalog was read: an unknown label is asked about.
        assert_eq!(
            scene
                .sees("insert into notes (id, mood) values (2, 'best')")
                .await,
            ["row"]
        );
        assert_eq!(
            scene
                .sees("insert into notes (id, mood) values (3, 'fair')")
                .await,
            [""; 0]
        );
        scene.server.stop().await;
    }
}
