//! Policies, claims, policy files and commands as nobody should write them: nothing is shown that Postgres would not
//! show, whoever is concerned learns why, and nobody else notices.

mod claims;
mod commands;
mod files;

use serde_json::{Value, json};

use crate::support::{Client, Database, Server, Version, token};

const SCHEMA: &str = "
    create table docs (id int primary key, level int default 5, note text default 'open', owner uuid);
    create table plain (id int primary key);
    grant select on docs, plain to authenticated;
    alter table docs enable row level security;
    alter publication supabase_realtime add table docs, plain;
";

const POLICY_FAILED: &str = "Error 500: Policy evaluation failed";
const UNAVAILABLE: &str = "Error 503: Policy evaluation unavailable";

/// What calls itself until the stack is full should not take long.
const SHALLOW: &str = "do $$ begin
    execute format('alter database %I set max_stack_depth = 300', current_database());
  end $$";

/// One who is under the policies of `docs`, one who is above them, and one who reads another table.
struct Scene {
    db: Database,
    server: Server,
    reader: Client,
    service: Client,
    neighbour: Client,
    rows: i64,
}

impl Scene {
    async fn new(setup: &str) -> Self {
        Self::with(setup, json!({}), |_| {}).await
    }

    async fn with(setup: &str, claims: Value, adjust: impl FnOnce(&mut rowcast::config::Config)) -> Self {
        let db = Database::new().await;
        db.execute(SCHEMA).await;
        db.execute(setup).await;
        let server = Server::start_with(&db, adjust).await;
        let reader = subscribed(&server, &token::token("authenticated", claims), "docs").await;
        let service = subscribed(&server, &token::token("service_role", json!({})), "docs").await;
        let neighbour = subscribed(&server, &token::token("authenticated", json!({})), "plain").await;
        Self {
            db,
            server,
            reader,
            service,
            neighbour,
            rows: 0,
        }
    }

    /// What the reader gets of one more row: its id, or the error in its place. The others get all of theirs.
    async fn sees(&mut self, columns: &str, values: &str) -> Vec<String> {
        self.rows += 1;
        let id = self.rows;
        self.db
            .execute(&format!(
                "begin; insert into plain values ({id}); insert into docs (id{columns}) values ({id}{values}); commit"
            ))
            .await;
        self.server.passed(&self.db).await;
        assert_eq!(self.service.data().await["record"]["id"], id);
        assert_eq!(self.neighbour.data().await["record"]["id"], id);
        self.reader.round_trip().await;
        outcomes(&mut self.reader)
    }

    /// With the defaults of the other columns.
    async fn sees_a_row(&mut self) -> Vec<String> {
        self.sees("", "").await
    }

    async fn failures(&self) -> f64 {
        self.server
            .metric("rowcast_policy_verdicts_total{outcome=\"failed\"}")
            .await
    }

    /// A row is an error to the reader, which is counted.
    async fn fails(mut self, why: &str, error: &str) {
        let before = self.failures().await;
        assert_eq!(self.sees_a_row().await, [error], "{why}");
        assert!(self.failures().await > before, "{why}");
        self.server.stop().await;
    }
}

async fn subscribed(server: &Server, token: &str, table: &str) -> Client {
    let mut client = Client::connect(server, Version::V2, token).await;
    client
        .subscribe(
            "rows",
            json!([{"event": "*", "schema": "public", "table": table}]),
        )
        .await;
    client
}

/// Ids and errors of the changes that have come.
fn outcomes(client: &mut Client) -> Vec<String> {
    let changes = client.pending().iter().filter(|m| m.event == "postgres_changes");
    let outcome = |data: &Value| match data["errors"][0].as_str() {
        Some(error) => {
            assert_eq!(data["record"], json!({}), "{data}");
            error.to_owned()
        }
        None => data["record"]["id"].to_string(),
    };
    let all = changes.map(|message| outcome(&message.payload["data"])).collect();
    client.forget("postgres_changes");
    all
}

#[tokio::test(flavor = "multi_thread")]
async fn policies_that_recurse_fail() {
    for (why, setup) in [
        (
            "two tables that look into each other",
            "create table peers (id int primary key); grant select on peers to authenticated;
             alter table peers enable row level security;
             create policy p on peers using (id in (select d.id from docs d));
             create policy p on docs using (level in (select p.id from peers p))",
        ),
        (
            "a table that looks into itself",
            "create policy p on docs using (level in (select d.level from docs d))",
        ),
        (
            "a function in SQL that calls itself",
            "set check_function_bodies = off;
             create function down(i int) returns bool language sql stable as 'select down(i + 1)';
             create policy p on docs using (down(level))",
        ),
        (
            "functions in SQL that call each other",
            "set check_function_bodies = off;
             create function up(i int) returns bool language sql stable as 'select down(i)';
             create function down(i int) returns bool language sql stable as 'select up(i)';
             create policy p on docs using (down(level))",
        ),
        (
            "a function in plpgsql that calls itself",
            "create function down(i int) returns bool language plpgsql stable as 'begin return down(i + 1); end';
             create policy p on docs using (down(level))",
        ),
        (
            "a function that reads its own table",
            "set check_function_bodies = off;
             create function any_doc() returns bool language sql stable as 'select exists (select from docs)';
             create policy p on docs using (any_doc())",
        ),
    ] {
        let scene = Scene::new(&format!("{SHALLOW}; {setup}; insert into docs (id) values (0)")).await;
        scene.fails(why, POLICY_FAILED).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_policy_that_postgres_cannot_print_stops_nobody_else() {
    // Postgres takes it in, and then neither prints it nor writes a row under it.
    let sum = "+ 1 ".repeat(7000);
    let mut scene = Scene::new(&format!("create policy p on docs using (level {sum} > 1000)")).await;
    scene.db.execute("insert into plain values (1)").await;
    assert_eq!(scene.neighbour.data().await["record"]["id"], 1);
    scene.server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_that_a_policy_raises_for_are_the_only_ones_missing() {
    for policy in [
        "10 / level > 1",
        "ratio(level) > 1",
        "(note || '7')::int > 0 and 10 / level > 1",
    ] {
        let mut scene = Scene::new(&format!(
            "create function ratio(l int) returns int language plpgsql stable as 'begin return 10 / l; end';
             create policy p on docs using ({policy}); alter table docs alter note set default '1'"
        ))
        .await;
        assert_eq!(scene.sees(", level", ", 2").await, ["1"], "{policy}");
        assert_eq!(scene.sees(", level", ", 0").await, [POLICY_FAILED], "{policy}");
        assert_eq!(scene.sees(", level", ", 100").await, [""; 0], "{policy}");
        // Rows of one transaction, and of one batch.
        scene
            .db
            .execute("insert into docs (id, level) select n, n % 3 from generate_series(10, 15) n")
            .await;
        scene.server.passed(&scene.db).await;
        scene.reader.round_trip().await;
        let expected = ["10", "11", POLICY_FAILED, "13", "14", POLICY_FAILED];
        assert_eq!(outcomes(&mut scene.reader), expected, "{policy}");
        scene.server.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn functions_that_lost_what_they_read_fail() {
    for language in ["sql", "plpgsql"] {
        for loss in ["alter table members drop member", "drop table members"] {
            let query = "select exists (select from members m where m.member = l)";
            let body = match language {
                "sql" => query.to_owned(),
                _ => format!("begin return ({query}); end"),
            };
            let mut scene = Scene::new(&format!(
                "create table members (id int primary key, member int); insert into members values (1, 5);
                 grant select on members to authenticated;
                 create function member(l int) returns bool language {language} stable as '{body}';
                 create policy p on docs using (member(level))"
            ))
            .await;
            assert_eq!(scene.sees_a_row().await, ["1"], "{language}");
            scene.db.execute(loss).await;
            scene.fails(&format!("{language}: {loss}"), POLICY_FAILED).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn functions_that_break_their_session_harm_nobody() {
    for (why, statement, error) in [
        ("raises", "raise exception ''no''", POLICY_FAILED),
        ("asserts", "assert false", POLICY_FAILED),
        (
            "cancels itself",
            "raise exception ''no'' using errcode = ''57014''",
            UNAVAILABLE,
        ),
        (
            "ends its session",
            "perform pg_terminate_backend(pg_backend_pid())",
            UNAVAILABLE,
        ),
        (
            "says that the server shuts down",
            "raise exception ''no'' using errcode = ''57P01''",
            POLICY_FAILED,
        ),
        (
            "says that it was a conflict",
            "raise exception ''no'' using errcode = ''40001''",
            POLICY_FAILED,
        ),
        (
            "fills memory",
            "perform repeat(repeat(''x'', 1000000), 2000)",
            POLICY_FAILED,
        ),
        ("sleeps", "perform pg_sleep(60)", UNAVAILABLE),
    ] {
        let setup = format!(
            "create function check_it() returns bool language plpgsql stable security definer as
                 'begin if auth.jwt() ->> ''bad'' = ''yes'' then {statement}; end if; return true; end';
             create policy p on docs using (check_it())"
        );
        // What ends sessions is asked again and again, each time on a new one: that has to fit, also on a busy machine.
        let limit = if why == "sleeps" { 4 } else { 20 };
        let mut scene = Scene::with(&setup, json!({"bad": "yes"}), |config| {
            config.policy.timeout = std::time::Duration::from_secs(limit);
        })
        .await;
        let fine = token::token("authenticated", json!({"bad": "no"}));
        let mut fine = subscribed(&scene.server, &fine, "docs").await;
        for id in 1..=2 {
            assert_eq!(scene.sees_a_row().await, [error], "{why}");
            assert_eq!(fine.data().await["record"]["id"], id, "{why}");
        }
        scene.fails(why, error).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn expressions_beyond_any_measure() {
    let either = |n: usize| {
        let alternatives: Vec<String> = (10..n + 10).map(|i| format!("level = {i}")).collect();
        alternatives.join(" or ")
    };
    let both = (0..2000)
        .map(|i| format!("level <> {i}"))
        .collect::<Vec<_>>()
        .join(" and ");
    let list = (10..10_010).map(|i| i.to_string()).collect::<Vec<_>>().join(", ");
    let nested =
        |before: &str, after: &str, n: usize| format!("{}level{}", before.repeat(n), after.repeat(n));
    for (why, policy, seen) in [
        ("many alternatives", either(5000), 5009),
        ("many conditions", both, 2000),
        ("a long list", format!("level in ({list})"), 10_009),
        ("a long sum", format!("level {} > 1000", "+ 1 ".repeat(1000)), 1),
        ("many negations", format!("{} (level = 1)", "not ".repeat(200)), 1),
        ("deep calls", format!("{} = 7", nested("abs(", ")", 300)), -7),
        (
            "deep cases",
            format!("{} = 7", nested("case when level > 0 then 0 else ", " end", 100)),
            0,
        ),
        (
            "a long constant",
            format!("note <> '{}' and level = 1", "x".repeat(1_000_000)),
            1,
        ),
    ] {
        let hidden = 5;
        let policy = match why {
            "deep cases" => policy.replace(" = 7", " = 0"),
            _ => policy,
        };
        let mut scene = Scene::new(&format!("create policy p on docs using ({policy})")).await;
        let got = scene.sees(", level", &format!(", {seen}")).await;
        assert_eq!(got, ["1"], "{why}");
        let got = scene.sees(", level", &format!(", {hidden}")).await;
        let expected: &[&str] = match why {
            "deep cases" => &["2"],
            "a long sum" => &["2"],
            _ => &[],
        };
        assert_eq!(got, expected, "{why}");
        scene.server.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_as_wide_as_tables_get() {
    let columns = (1..1600)
        .map(|i| format!("c{i} int"))
        .collect::<Vec<_>>()
        .join(", ");
    let db = Database::new().await;
    db.execute(&format!(
        "create table wide (id int primary key, {columns}); grant select on wide to authenticated;
         alter table wide enable row level security; create policy p on wide using (c1599 = 7 and c1 is null);
         alter publication supabase_realtime add table wide"
    ))
    .await;
    let server = Server::start(&db).await;
    let mut client = subscribed(
        &server,
        &token::user("a0000000-0000-4000-8000-000000000001"),
        "wide",
    )
    .await;
    db.execute("insert into wide (id, c1599) values (1, 6), (2, 7); insert into wide (id, c1, c1599) values (3, 1, 7)")
        .await;
    db.execute("insert into wide (id, c1599) values (4, 7)").await;
    for id in [2, 4] {
        let data = client.data().await;
        assert_eq!(
            (&data["record"]["id"], &data["record"]["c1599"]),
            (&json!(id), &json!(7))
        );
        assert_eq!(data["columns"].as_array().map(Vec::len), Some(1600));
    }
    assert_eq!(server.metric("rowcast_policy_judge_calls_total").await, 0.0);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_who_always_raises_among_hundreds() {
    for policy in [
        "10 / (auth.jwt() ->> 'divisor')::int > 0",
        "divided((auth.jwt() ->> 'divisor')::int) > 0",
    ] {
        let db = Database::new().await;
        db.execute(SCHEMA).await;
        db.execute(&format!(
            "create function divided(by int) returns int language plpgsql stable as 'begin return 10 / by; end';
             create policy p on docs using ({policy})"
        ))
        .await;
        let server = Server::start(&db).await;
        let reader = |n: usize| {
            let divisor = if n == 100 { 0 } else { 1 + n % 7 };
            token::token(
                "authenticated",
                json!({"sub": n.to_string(), "divisor": divisor.to_string()}),
            )
        };
        let mut clients = Vec::new();
        for n in 0..200 {
            clients.push(subscribed(&server, &reader(n), "docs").await);
        }
        db.execute("insert into docs (id) values (1); insert into docs (id) values (2)")
            .await;
        for (n, client) in clients.iter_mut().enumerate() {
            for id in [1, 2] {
                let data = client.data().await;
                if n == 100 {
                    assert_eq!(data["errors"], json!([POLICY_FAILED]), "{policy}");
                } else {
                    assert_eq!(data["record"]["id"], id, "{policy}");
                }
            }
        }
        server.stop().await;
    }
}
