//! Directories of policy files that nobody should make: everything wrong is named, nothing of it is used, and what was
//! in force stays.

use std::path::Path;

use serde_json::json;

use super::{SCHEMA, outcomes, subscribed};
use crate::support::{Client, Database, Server, eventually, process, token};

/// A server that follows a directory, and a reader of `plain`, on which the directory's only policy is.
struct Scene {
    db: Database,
    server: Server,
    reader: Client,
    dir: tempfile::TempDir,
    rows: i32,
    broken: usize,
    taken: usize,
}

impl Scene {
    async fn new() -> Self {
        let db = Database::new().await;
        db.execute(SCHEMA).await;
        db.execute("create view seen as select * from plain").await;
        let dir = tempfile::tempdir().expect("a directory");
        write(
            dir.path(),
            "plain.sql",
            "create policy odd on plain using (id % 2 = 1);",
        );
        let server = Server::start_with(&db, |config| {
            config.policy.directory = Some(dir.path().to_owned())
        })
        .await;
        let reader = subscribed(&server, &token::token("authenticated", json!({})), "plain").await;
        Self {
            db,
            server,
            reader,
            dir,
            rows: 0,
            broken: 0,
            taken: 0,
        }
    }

    /// What the reader gets of the next two rows, of which the first has an odd id.
    async fn sees(&mut self) -> Vec<i32> {
        let (odd, even) = (self.rows + 1, self.rows + 2);
        self.rows = even;
        self.db
            .execute(&format!("insert into plain values ({odd}), ({even})"))
            .await;
        self.server.passed(&self.db).await;
        self.reader.round_trip().await;
        let ids = outcomes(&mut self.reader);
        ids.iter()
            .map(|id| id.parse::<i32>().expect("an id") - odd)
            .collect()
    }

    async fn reloads(&self, outcome: &str, count: usize) {
        let line = format!("rowcast_policy_files_reloads_total{{outcome=\"{outcome}\"}} {count}");
        eventually(&line, || async {
            let (_, metrics) = self.server.get("/metrics").await;
            metrics.lines().any(|found| found == line).then_some(())
        })
        .await;
    }

    /// The directory as it is now is refused, and the policy before stays in force.
    async fn is_broken(&mut self) {
        self.broken += 1;
        self.reloads("broken", self.broken).await;
        assert_eq!(self.server.metric("rowcast_policy_files_broken").await, 1.0);
        assert_eq!(self.server.get("/readyz").await.0, 200);
        assert_eq!(self.sees().await, [0]);
    }

    async fn is_taken(&mut self) {
        self.taken += 1;
        self.reloads("ok", self.taken).await;
        assert_eq!(self.server.metric("rowcast_policy_files_broken").await, 0.0);
    }

    /// What a command says that is wrong with the directory.
    async fn said(&self) -> String {
        refused(&self.db, self.dir.path()).await
    }

    fn write(&self, name: &str, text: impl AsRef<[u8]>) {
        write(self.dir.path(), name, text);
    }

    fn remove(&self, name: &str) {
        std::fs::remove_file(self.dir.path().join(name)).expect("a file to remove");
    }
}

fn write(dir: &Path, name: &str, text: impl AsRef<[u8]>) {
    std::fs::write(dir.join(name), text).expect("a file");
}

/// What `policies list` says to a directory that it refuses.
async fn refused(db: &Database, dir: &Path) -> String {
    let dir = dir.display().to_string();
    let output = process::run(&db.settings, &["policies", "list", "--directory", &dir]).await;
    let text = |bytes| String::from_utf8(bytes).expect("text");
    let error = text(output.stderr);
    assert_eq!(output.status.code(), Some(2), "{error}");
    assert_eq!(text(output.stdout), "");
    error
}

#[tokio::test(flavor = "multi_thread")]
async fn two_of_ten_statements() {
    let mut scene = Scene::new().await;
    assert_eq!(scene.sees().await, [0]);
    for (third, eighth, said) in [
        (
            "create policy p3 on plain for update using (true);",
            "create policy p8 on plain;",
            [
                "ten.sql:3: policy p3 is not FOR SELECT",
                "ten.sql:8: policy p8 has no USING",
            ],
        ),
        (
            "create policy p3 on plain using (nothing);",
            "create policy p8 on plain to nobody_known using (true);",
            [
                "ten.sql:3: policy p3: column \"nothing\" does not exist",
                "ten.sql:8: policy p8: there is no role nobody_known",
            ],
        ),
        (
            "create policy p3 on plain using (id);",
            "create policy p8 on plain using (count(*) > 1);",
            [
                "ten.sql:3: policy p3: the expression must be type boolean, not type integer",
                "ten.sql:8: policy p8: aggregate functions are not allowed",
            ],
        ),
    ] {
        let mut lines: Vec<String> = (1..=10)
            .map(|i| format!("create policy p{i} on plain using (true);"))
            .collect();
        third.clone_into(&mut lines[2]);
        eighth.clone_into(&mut lines[7]);
        scene.write("ten.sql", lines.join("\n"));
        scene.is_broken().await;
        let error = scene.said().await;
        for said in said {
            assert!(error.contains(said), "{error} lacks {said}");
        }
        assert!(
            !error.contains("policy p1:") && !error.contains("ten.sql:1:"),
            "{error}"
        );
    }
    scene.remove("ten.sql");
    scene.is_taken().await;
    scene.server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn files_that_are_none() {
    let mut scene = Scene::new().await;
    assert_eq!(scene.sees().await, [0]);
    // Nothing in them.
    scene.write("a.sql", "");
    scene.is_taken().await;
    scene.write("a.sql", " \n;; -- nothing\n/* at all */ ;\n");
    scene.is_taken().await;
    // What is below is not read, whatever it is called.
    std::fs::create_dir(scene.dir.path().join("below.sql")).expect("a directory");
    write(&scene.dir.path().join("below.sql"), "b.sql", "drop table plain;");
    scene.write("a.sql", "-- again");
    scene.is_taken().await;
    assert_eq!(scene.sees().await, [0]);

    for (name, text, said) in [
        (
            "latin.sql",
            b"create policy p on plain using (note = 'caf\xe9');".to_vec(),
            "latin.sql: cannot be read: ",
        ),
        (
            "binary.sql",
            vec![0_u8, 159, 146, 150],
            "binary.sql: cannot be read: ",
        ),
        (
            "zero.sql",
            b"create policy p on plain using (true);\0".to_vec(),
            "zero.sql:1: ",
        ),
        (
            "open.sql",
            b"create policy p on plain using (note = 'open);".to_vec(),
            "open.sql:1: ",
        ),
        ("dump.sql", vec![b' '; 2 << 20], "dump.sql: "),
        (
            "words.sql",
            "x ".repeat(10_000).into_bytes(),
            "words.sql:1: a policy file holds only",
        ),
    ] {
        scene.write(name, text);
        scene.is_broken().await;
        let error = scene.said().await;
        assert!(error.contains(said), "{error} lacks {said}");
        assert!(error.len() < 1000, "{} bytes", error.len());
        scene.remove(name);
        scene.is_taken().await;
    }
    assert_eq!(scene.sees().await, [0]);
    scene.server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pipe_is_not_waited_for() {
    let db = Database::new().await;
    let dir = tempfile::tempdir().expect("a directory");
    let pipe = dir.path().join("pipe.sql");
    let made = std::process::Command::new("mkfifo").arg(&pipe).status();
    assert!(made.expect("mkfifo").success());
    assert!(
        refused(&db, dir.path())
            .await
            .contains("pipe.sql: cannot be read: not a file")
    );
    std::fs::rename(&pipe, dir.path().join("pipe.cases.toml")).expect("a rename");
    let shown = dir.path().display().to_string();
    let output = process::run(&db.settings, &["policies", "test", "--directory", &shown]).await;
    let error = String::from_utf8(output.stderr).expect("text");
    assert_eq!(output.status.code(), Some(2), "{error}");
    assert!(
        error.contains("pipe.cases.toml: cannot be read: not a file"),
        "{error}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn policies_on_what_is_not_published() {
    let mut scene = Scene::new().await;
    // A view cannot be published; what is not there may come.
    scene.write(
        "others.sql",
        "create policy p on seen using (false); create policy p on later using (false);",
    );
    scene.is_taken().await;
    assert_eq!(scene.sees().await, [0]);
    let dir = scene.dir.path().display().to_string();
    let output = process::run(&scene.db.settings, &["policies", "list", "--directory", &dir]).await;
    let warnings = String::from_utf8(output.stderr).expect("text");
    assert_eq!(output.status.code(), Some(0), "{warnings}");
    assert_eq!(
        warnings.matches("the table is not published").count(),
        2,
        "{warnings}"
    );

    scene
        .db
        .execute(
            "create table later (id int primary key); grant select on later to authenticated;
             alter publication supabase_realtime add table later",
        )
        .await;
    let mut reader = subscribed(&scene.server, &token::token("authenticated", json!({})), "later").await;
    let mut service = subscribed(&scene.server, &token::token("service_role", json!({})), "later").await;
    scene.db.execute("insert into later values (1)").await;
    assert_eq!(service.data().await["record"]["id"], 1);
    reader.round_trip().await;
    assert!(outcomes(&mut reader).is_empty());
    scene.server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn policies_that_recurse_by_way_of_files() {
    // A file's policy is not one of the table: what it reads of the same table is under row-level security alone.
    let mut scene = Scene::new().await;
    scene.write(
        "plain.sql",
        "create policy p on plain using (id in (select p.id from plain p where p.id % 2 = 1));",
    );
    scene.is_taken().await;
    assert_eq!(scene.sees().await, [0]);
    scene.server.stop().await;
}
