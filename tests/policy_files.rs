//! Policy files: what they hide, how a running server takes them over, and the commands that try them out.

use std::path::Path;

use rowcast::config::Config;
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::support::program::in_repository;
use crate::support::{Client, Database, Process, Server, Version, eventually, process, token};

const ALICE: &str = "a0000000-0000-4000-8000-000000000001";
const BOB: &str = "b0000000-0000-4000-8000-000000000002";

/// `docs` is under row-level security, `notes` is not.
const TABLES: &str = "
    create table docs (id int primary key, owner uuid, level int);
    create table notes (id int primary key, owner uuid, level int);
    grant select on docs, notes to authenticated, anon;
    alter table docs enable row level security;
    create policy leveled on docs for select using (level > 0);
    alter publication supabase_realtime add table docs, notes;
";

async fn database() -> Database {
    let db = Database::new().await;
    db.execute(TABLES).await;
    db
}

/// A directory with these files.
fn directory(files: &[(&str, &str)]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().expect("a directory");
    for (name, text) in files {
        write(dir.path(), name, text);
    }
    dir
}

fn write(dir: &Path, name: &str, text: &str) {
    std::fs::write(dir.join(name), text).expect("a file");
}

async fn start(db: &Database, dir: &Path) -> Server {
    Server::start_with(db, |config| following(config, dir)).await
}

fn following(config: &mut Config, dir: &Path) {
    config.policy.directory = Some(dir.to_owned());
}

/// Everybody who reads, subscribed to both tables.
struct Readers(Vec<(&'static str, Client)>);

impl Readers {
    async fn join(server: &Server) -> Self {
        let tokens = [
            ("alice", token::user(ALICE)),
            ("bob", token::user(BOB)),
            ("anon", token::token("anon", json!({}))),
            ("service", token::token("service_role", json!({}))),
        ];
        let mut readers = Vec::new();
        for (name, token) in tokens {
            let mut client = Client::connect(server, Version::V2, &token).await;
            let both = json!([
                {"event": "INSERT", "schema": "public", "table": "docs"},
                {"event": "INSERT", "schema": "public", "table": "notes"},
            ]);
            client.subscribe(name, both).await;
            readers.push((name, client));
        }
        Self(readers)
    }

    /// What each has got since the last time: the tables and ids, in order.
    async fn saw(&mut self, server: &Server, db: &Database) -> Vec<(&'static str, String)> {
        server.passed(db).await;
        let mut all = Vec::new();
        for (name, client) in &mut self.0 {
            client.round_trip().await;
            let seen: Vec<String> = client
                .pending()
                .iter()
                .filter(|message| message.event == "postgres_changes")
                .map(|message| &message.payload["data"])
                .map(|data| {
                    format!(
                        "{}{}",
                        data["table"].as_str().unwrap_or("?"),
                        data["record"]["id"]
                    )
                })
                .collect();
            client.forget("postgres_changes");
            all.push((*name, seen.join(" ")));
        }
        all
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn files_narrow_what_the_database_shows() {
    let db = database().await;
    let dir = directory(&[
        (
            "docs.sql",
            "create policy own on docs to authenticated using (owner = auth.uid());",
        ),
        (
            "notes.sql",
            "create policy readers on public.notes to authenticated using (true);\n\
             create policy \"not secret\" on notes as restrictive using (level < 9);",
        ),
    ]);
    let server = start(&db, dir.path()).await;
    let mut readers = Readers::join(&server).await;
    for table in ["docs", "notes"] {
        db.execute(&format!(
            "insert into {table} values (1, '{ALICE}', 0), (2, '{ALICE}', 1), (3, '{BOB}', 9), (4, null, 1)"
        ))
        .await;
    }
    let expected = [
        // Row-level security hides docs 1 of everybody, the file what is not theirs.
        ("alice", "docs2 notes1 notes2 notes4"),
        ("bob", "docs3 notes1 notes2 notes4"),
        // No permissive policy of a file is for it.
        ("anon", ""),
        ("service", "docs1 docs2 docs3 docs4 notes1 notes2 notes3 notes4"),
    ];
    assert_eq!(
        readers.saw(&server, &db).await,
        expected.map(|(name, seen)| (name, seen.to_owned()))
    );
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_edit_holds_from_the_next_change_and_a_broken_one_does_not() {
    let db = database().await;
    let dir = directory(&[("notes.sql", "create policy all_of_them on notes using (true);")]);
    let server = start(&db, dir.path()).await;
    let mut readers = Readers::join(&server).await;
    let insert = |id: i32| format!("insert into notes values ({id}, '{ALICE}', 1)");
    db.execute(&insert(1)).await;
    let seen = |notes: [&str; 4]| {
        let names = ["alice", "bob", "anon", "service"];
        let pairs = names.into_iter().zip(notes);
        pairs
            .map(|(name, seen)| (name, seen.to_owned()))
            .collect::<Vec<_>>()
    };
    assert_eq!(readers.saw(&server, &db).await, seen(["notes1"; 4]));

    // As editors save: written beside, renamed over.
    write(
        dir.path(),
        "notes.sql.new",
        "create policy own on notes using (owner = auth.uid());",
    );
    std::fs::rename(dir.path().join("notes.sql.new"), dir.path().join("notes.sql")).expect("a rename");
    reloads(&server, "ok", 1).await;
    db.execute(&insert(2)).await;
    assert_eq!(
        readers.saw(&server, &db).await,
        seen(["notes2", "", "", "notes2"])
    );

    // One that does not parse, and one that Postgres refuses: neither is used, not even what is right of it.
    for (broken, text) in [
        "create policy own on notes using (true); drop table notes;",
        "create policy own on notes using (true); create policy other on notes using (nothing = 1);",
    ]
    .iter()
    .enumerate()
    {
        write(dir.path(), "notes.sql", text);
        reloads(&server, "broken", broken + 1).await;
        assert_eq!(server.metric("rowcast_policy_files_broken").await, 1.0);
        assert_eq!(server.get("/readyz").await.0, 200);
        db.execute(&insert(3 + i32::try_from(broken).expect("small")))
            .await;
        let note = format!("notes{}", 3 + broken);
        assert_eq!(readers.saw(&server, &db).await, seen([&note, "", "", &note]));
    }

    // A directory that goes takes nothing with it; one that comes back with other files counts.
    std::fs::rename(dir.path(), dir.path().with_extension("away")).expect("a rename");
    reloads(&server, "broken", 3).await;
    db.execute(&insert(5)).await;
    assert_eq!(
        readers.saw(&server, &db).await,
        seen(["notes5", "", "", "notes5"])
    );
    std::fs::remove_dir_all(dir.path().with_extension("away")).expect("a removal");
    std::fs::create_dir(dir.path()).expect("a directory");
    reloads(&server, "ok", 2).await;
    assert_eq!(server.metric("rowcast_policy_files_broken").await, 0.0);
    db.execute(&insert(6)).await;
    assert_eq!(readers.saw(&server, &db).await, seen(["notes6"; 4]));
    server.stop().await;
}

async fn reloads(server: &Server, outcome: &str, count: usize) {
    let name = format!("rowcast_policy_files_reloads_total{{outcome=\"{outcome}\"}}");
    eventually(&format!("{name} is {count}"), || async {
        let (_, metrics) = server.get("/metrics").await;
        let line = format!("{name} {count}");
        metrics.lines().any(|found| found == line).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_policy_that_loses_its_column_lets_nothing_through() {
    let db = database().await;
    let dir = directory(&[("notes.sql", "create policy low on notes using (level < 5);")]);
    let server = start(&db, dir.path()).await;
    let mut client = Client::connect(&server, Version::V2, &token::user(ALICE)).await;
    client
        .subscribe(
            "a",
            json!([{"event": "INSERT", "schema": "public", "table": "notes"}]),
        )
        .await;
    db.execute("alter table notes rename level to height; insert into notes values (1, null, 1)")
        .await;
    server.passed(&db).await;
    client.round_trip().await;
    assert!(
        client
            .pending()
            .iter()
            .all(|message| message.event != "postgres_changes")
    );
    db.execute("alter table notes rename height to level; insert into notes values (2, null, 1)")
        .await;
    assert_eq!(client.data().await["record"]["id"], 2);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn broken_files_refuse_the_start() {
    let db = database().await;
    let dir = directory(&[
        ("a.sql", "create policy fine on notes using (true);"),
        (
            "b.sql",
            "\ncreate policy writes on notes for insert using (true);",
        ),
        ("c.sql", "create policy c on notes using (true\n"),
    ]);
    let shown = dir.path().display();
    let serve = async |directory: &str| {
        let arguments = ["serve", "--port", "0", "--policy-directory", directory];
        let output = process::run(&db.settings, &arguments).await;
        (
            output.status.code(),
            String::from_utf8(output.stderr).expect("text"),
        )
    };
    let (code, error) = serve(&shown.to_string()).await;
    assert_eq!(code, Some(2), "{error}");
    for problem in [
        format!("{shown}/b.sql:2: policy writes is not FOR SELECT"),
        format!("{shown}/c.sql:1: Expected: )"),
    ] {
        assert!(error.contains(&problem), "{error} lacks {problem}");
    }

    // What only Postgres knows.
    std::fs::remove_file(dir.path().join("b.sql")).expect("a removal");
    write(
        dir.path(),
        "c.sql",
        "create policy c on notes using (level > 0\n  and lvl < 3);\ncreate policy d on notes to nobody_known using (true);",
    );
    let (code, error) = serve(&shown.to_string()).await;
    assert_eq!(code, Some(2), "{error}");
    for problem in [
        format!("{shown}/c.sql:2: policy c: column \"lvl\" does not exist"),
        format!("{shown}/c.sql:3: policy d: there is no role nobody_known"),
    ] {
        assert!(error.contains(&problem), "{error} lacks {problem}");
    }

    // A directory that somebody named has to be there.
    let (code, error) = serve(&format!("{shown}/none")).await;
    assert_eq!(code, Some(2), "{error}");
    assert!(error.contains("/none: the directory cannot be read"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hangup_reads_the_files_again() {
    let db = database().await;
    let dir = directory(&[("notes.sql", "create policy none on notes using (false);")]);
    let path = dir.path().display().to_string();
    let slot = format!("rowcast_{}", db.name);
    let process = Process::serve(&db.settings, &slot, &[("ROWCAST_POLICY_DIRECTORY", &path)]).await;
    process.signal(Signal::HUP);
    // Nothing was edited, so nothing else brings this line.
    eventually("the files are taken over", || async {
        let taken = |line: &String| line.contains("policy files taken over");
        process.log().iter().any(taken).then_some(())
    })
    .await;
    process.terminate();
    let (status, log) = process.ended().await;
    assert!(status.success(), "{log:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn required_policies_close_the_tables_without_any() {
    let db = database().await;
    db.execute("create table plain (id int primary key); grant select on plain to authenticated")
        .await;
    db.execute("alter publication supabase_realtime add table plain")
        .await;
    let dir = directory(&[("notes.sql", "create policy everybody on notes using (true);")]);
    let server = Server::start_with(&db, |config| {
        following(config, dir.path());
        config.policy.required = true;
    })
    .await;
    let subscribe =
        |table: &str| json!({"postgres_changes": [{"event": "*", "schema": "public", "table": table}]});
    let mut alice = Client::connect(&server, Version::V2, &token::user(ALICE)).await;
    let refused = alice.join("plain", subscribe("plain")).await;
    let refusal = match refused["status"].as_str() {
        Some("ok") => alice.system("plain").await["message"].clone(),
        _ => refused["response"]["reason"].clone(),
    };
    let refusal = refusal.as_str().expect("a text").to_owned();
    assert!(refusal.contains("Unable to subscribe"), "{refusal}");
    assert!(
        refusal.contains("table public.plain has no row-level security and no policy file"),
        "{refusal}"
    );
    alice
        .subscribe("all", json!([{"event": "*", "schema": "public"}]))
        .await;
    let mut service = Client::connect(&server, Version::V2, &token::token("service_role", json!({}))).await;
    service
        .subscribe(
            "plain",
            json!([{"event": "*", "schema": "public", "table": "plain"}]),
        )
        .await;
    db.execute(
        "insert into plain values (1); insert into notes values (2); insert into docs values (3, null, 1)",
    )
    .await;
    assert_eq!(service.data().await["record"]["id"], 1);
    assert_eq!(alice.data().await["record"]["id"], 2);
    assert_eq!(alice.data().await["record"]["id"], 3);

    let check = process::run(
        &db.settings,
        &[
            "check",
            "--policy-directory",
            &dir.path().display().to_string(),
            "--policy-required",
            "true",
        ],
    )
    .await;
    let report = String::from_utf8(check.stdout).expect("text");
    assert!(
        report.contains("public.plain has no row-level security and no policy file"),
        "{report}"
    );
    assert!(
        !report.contains("public.notes has no row-level security"),
        "{report}"
    );
    server.stop().await;
}

const CASES: &str = r#"
[[case]]
name = "an owner sees their own"
table = "docs"
claims = { role = "authenticated", sub = "a0000000-0000-4000-8000-000000000001" }
row = { id = 1, owner = "a0000000-0000-4000-8000-000000000001", level = 3 }
visible = true

[[case]]
name = "others do not"
table = "public.docs"
claims = { role = "authenticated", sub = "b0000000-0000-4000-8000-000000000002" }
row = { id = 1, owner = "a0000000-0000-4000-8000-000000000001", level = 3 }
visible = false

[[case]]
name = "a member sees the notes of the team"
table = "notes"
setup = "insert into members values ('b0000000-0000-4000-8000-000000000002', 7); insert into members values (null, 1);"
claims = { role = "authenticated", sub = "b0000000-0000-4000-8000-000000000002" }
row = { id = 1, level = 7 }
visible = true
"#;

const FILES: &[(&str, &str)] = &[
    (
        "docs.sql",
        "create policy own on docs to authenticated using (owner = auth.uid());",
    ),
    (
        "notes.sql",
        "create policy team on notes using (level in (select team from members where member = auth.uid()));",
    ),
];

async fn command(db: &Database, dir: &Path, arguments: &[&str]) -> (Option<i32>, String, String) {
    let dir = dir.display().to_string();
    let mut all = vec!["policies"];
    all.extend(arguments);
    all.extend(["--directory", &dir]);
    let output = process::run(&db.settings, &all).await;
    let text = |bytes| String::from_utf8(bytes).expect("text");
    (output.status.code(), text(output.stdout), text(output.stderr))
}

async fn with_members() -> Database {
    let db = database().await;
    db.execute("create table members (member uuid, team int); alter table members replica identity full; grant select on members to authenticated")
        .await;
    db
}

#[tokio::test(flavor = "multi_thread")]
async fn cases_are_run() {
    let db = with_members().await;
    let dir = directory(FILES);
    write(dir.path(), "docs.cases.toml", CASES);
    let (code, out, error) = command(&db, dir.path(), &["test"]).await;
    assert_eq!((code, error.as_str()), (Some(0), ""), "{out}");
    assert!(out.contains("ok      an owner sees their own"), "{out}");
    assert!(out.contains("3 cases: 3 ok, 0 failed"), "{out}");
    assert_eq!(
        db.text("select count(*)::text from members").await,
        "0",
        "setup is undone"
    );

    let line = CASES
        .lines()
        .position(|line| line.contains("others do not"))
        .expect("the case");
    write(
        dir.path(),
        "docs.cases.toml",
        &CASES.replacen("visible = false", "visible = true", 1),
    );
    let (code, out, _) = command(&db, dir.path(), &["test"]).await;
    assert_eq!(code, Some(1), "{out}");
    let failed = format!("docs.cases.toml:{line}: others do not: expected visible");
    assert!(out.contains("FAILED") && out.contains(&failed), "{out}");
    assert!(out.contains("Postgres says hidden"), "{out}");
    assert!(out.contains("3 cases: 2 ok, 1 failed"), "{out}");
}

#[tokio::test(flavor = "multi_thread")]
async fn cases_that_cannot_be_run_say_why() {
    let db = with_members().await;
    let dir = directory(FILES);
    for (from, to, why) in [
        ("level = 3", "lvl = 3", "public.docs has no column lvl"),
        (
            "level = 3",
            "level = 'x'",
            "invalid input syntax for type integer",
        ),
        ("\"docs\"", "\"papers\"", "public.papers is no published table"),
        (
            "\"authenticated\"",
            "\"nobody_known\"",
            "role nobody_known does not exist",
        ),
        (
            "into members",
            "into nowhere",
            "relation \"nowhere\" does not exist",
        ),
        ("insert into members values (null, 1)", "commit", "setup may only"),
        ("visible = true", "visible = 1", "invalid type"),
    ] {
        write(dir.path(), "docs.cases.toml", &CASES.replace(from, to));
        let (code, out, error) = command(&db, dir.path(), &["test"]).await;
        assert_eq!(code, Some(2), "{why}: {out}{error}");
        assert!(format!("{out}{error}").contains(why), "{out}{error} lacks {why}");
    }
    std::fs::remove_file(dir.path().join("docs.cases.toml")).expect("a removal");
    let (code, _, error) = command(&db, dir.path(), &["test"]).await;
    assert!(code == Some(2) && error.contains("there are no cases"), "{error}");
    write(dir.path(), "docs.sql", "drop table docs;");
    let (code, _, error) = command(&db, dir.path(), &["test"]).await;
    assert!(
        code == Some(2) && error.contains("docs.sql:1: a policy file holds only"),
        "{error}"
    );
    assert_eq!(db.text("select count(*)::text from members").await, "0");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_is_explained_and_policies_are_listed() {
    let db = with_members().await;
    let dir = directory(FILES);
    let claims = json!({"role": "authenticated", "sub": BOB}).to_string();
    let row = json!({"id": 1, "owner": ALICE, "level": 3}).to_string();
    let arguments = ["explain", "--table", "docs", "--claims", &claims, "--row", &row];
    let (code, out, error) = command(&db, dir.path(), &arguments).await;
    assert_eq!(code, Some(0), "{error}");
    for line in [
        "role authenticated",
        "may select every column of public.docs",
        "permissive policy leveled",
        "permissive policy own",
        "level > 0  →  true",
        "level  →  3",
        "compiled says hidden",
        "Postgres says hidden",
    ] {
        assert!(out.contains(line), "{out} lacks {line}");
    }
    let wrong = ["explain", "--table", "docs", "--claims", "{}", "--row", "{}"];
    assert_eq!(command(&db, dir.path(), &wrong).await.0, Some(2));

    let (code, out, error) = command(&db, dir.path(), &["list"]).await;
    assert_eq!(code, Some(0), "{error}");
    for line in [
        "public.docs  row security on, 2 policies",
        "public.notes  row security off, 1 policy",
        "    using (level > 0)\n    compiled\n",
        "  own (file, permissive, to authenticated)",
        "  leveled (database, permissive, to public)",
    ] {
        assert!(out.contains(line), "{out} lacks {line}");
    }

    let server = start(&db, dir.path()).await;
    let url = format!("{}/api/policies", server.url());
    let service = token::token("service_role", json!({}));
    let listing = eventually("the feed has started", || async {
        let request = reqwest::Client::new().get(&url).bearer_auth(&service);
        let response = request.send().await.expect("an answer");
        let ready = response.status() == 200;
        let body: Value = response.json().await.expect("JSON");
        ready.then_some(body)
    })
    .await;
    let docs = &listing["tables"][0];
    assert_eq!(docs["table"], "docs");
    assert_eq!(docs["row_level_security"], true);
    assert_eq!(docs["policies"][1]["name"], "own");
    assert_eq!(docs["policies"][1]["source"], "file");
    assert_eq!(docs["policies"][1]["roles"], json!(["authenticated"]));
    let user = reqwest::Client::new()
        .get(&url)
        .bearer_auth(token::user(ALICE))
        .send()
        .await;
    assert_eq!(user.expect("an answer").status(), 403);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_cases_of_the_example_are_right() {
    let db = Database::new().await;
    db.execute(include_str!("../examples/todo/schema.sql")).await;
    let directory = in_repository("examples/todo/policies");
    let (code, out, error) = command(&db, &directory, &["test"]).await;
    assert_eq!(code, Some(0), "{out}{error}");
    // Also where no server was installed yet: what judges is made and rolled back.
    db.execute("drop schema rowcast cascade").await;
    let (code, out, error) = command(&db, &directory, &["test"]).await;
    assert_eq!(code, Some(0), "{out}{error}");
    assert_eq!(
        db.text("select (to_regnamespace('rowcast') is null)::text").await,
        "true"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn subqueries_are_read_as_the_subscriber() {
    let db = with_members().await;
    db.execute("insert into members values (null, 7), (null, 8)")
        .await;
    let dir = directory(&[(
        "notes.sql",
        "create policy teams on notes using (level in (select team from members));",
    )]);
    let explain = async |role: &str, level: i32| {
        let claims = json!({ "role": role }).to_string();
        let row = json!({"id": 1, "level": level}).to_string();
        let arguments = ["explain", "--table", "notes", "--claims", &claims, "--row", &row];
        let (code, out, error) = command(&db, dir.path(), &arguments).await;
        assert_eq!(code, Some(0), "{error}");
        out
    };
    let out = explain("authenticated", 7).await;
    for line in [
        "compiled with 1 subquery kept in memory",
        "[2 rows]  →  true",
        "compiled says visible",
        "Postgres says visible",
    ] {
        assert!(out.contains(line), "{out} lacks {line}");
    }
    let out = explain("authenticated", 9).await;
    assert!(
        out.contains("compiled says hidden\nPostgres says hidden"),
        "{out}"
    );
    // It may not read the members.
    let out = explain("anon", 7).await;
    assert!(
        out.contains("compiled asks Postgres: a subquery raises SQLSTATE 42501"),
        "{out}"
    );
    assert!(out.contains("Postgres says hidden, as"), "{out}");
    let out = explain("service_role", 9).await;
    assert!(
        out.contains("compiled says visible\nPostgres says visible"),
        "{out}"
    );
}
