//! The pages of `examples/` in headless Chromium, with their own backend.

use std::path::PathBuf;

use serde_json::Value;
use tokio::process::Command;
use tokio::sync::OnceCell;

use crate::support::program::{in_repository, require};
use crate::support::{Database, Program, Server, cluster, token};

#[tokio::test(flavor = "multi_thread")]
async fn the_todo_page_shows_each_user_what_they_may_see() {
    drive("todo", "page.mjs").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_chat_page_brings_people_together_and_keeps_them_apart() {
    drive("chat", "chat.mjs").await;
}

/// Runs a demo, and the program of `tests/clients` that checks its page; stops and starts the server when that asks.
async fn drive(demo: &str, checks: &str) {
    let db = Database::new().await;
    let schema = in_repository(&format!("examples/{demo}/schema.sql"));
    let schema = std::fs::read_to_string(schema).expect("the demo's schema");
    db.execute(&schema).await;
    // Every start of the demo runs it.
    db.execute(&schema).await;
    let server = Server::start(&db).await;
    let address = server.address;
    build_pages().await;

    let database_url = cluster::shared().url(&db.name);
    let (_backend, url) = backend(&database_url, &server.url()).await;
    let browser = browser();
    let variables = [
        ("PAGE_URL", &*format!("{url}/{demo}")),
        ("DATABASE_URL", &database_url),
        ("EXPECT_RESTART", "1"),
        ("CHROMIUM", browser.to_str().expect("a path of text")),
    ];
    let mut page = Program::node(checks, &variables);
    let mut told = checks_until(&mut page, "restart").await;
    server.stop().await;
    told.extend(checks_until(&mut page, "reconnecting").await);
    let server = Server::start_at(address, &db, |_| {}).await;
    told.extend(checks_until(&mut page, "result").await);
    let failed: Vec<&Value> = told.iter().filter(|line| line["ok"] != true).collect();
    assert!(failed.is_empty(), "{failed:#?}");
    let (status, _) = page.ended().await;
    assert!(status.success(), "{status}");
    server.stop().await;
}

/// The checks that the program makes before it tells `kind`, each of which may take its time.
async fn checks_until(page: &mut Program, kind: &str) -> Vec<Value> {
    let mut told = Vec::new();
    loop {
        let line = page.line().await;
        if line["kind"] == kind {
            return told;
        }
        // A program that gives up never comes to what is awaited.
        let over = line["kind"] == "result";
        told.push(line);
        assert!(!over, "the checks ended before {kind}: {told:#?}");
    }
}

/// The backend, and the URL of its pages.
async fn backend(database_url: &str, server_url: &str) -> (Program, String) {
    let mut command = Command::new("node");
    command.arg(in_repository("examples/server.mjs"));
    let variables = [
        ("DATABASE_URL", database_url),
        ("ROWCAST_URL", server_url),
        ("JWT_SECRET", token::SECRET),
        ("HOST", "127.0.0.1"),
        ("PORT", "0"),
    ];
    let mut backend = Program::start("the demo's backend", command, &variables);
    let listening = backend.next("text").await;
    let Some((_, url)) = listening["text"]
        .as_str()
        .and_then(|line| line.split_once(" on "))
    else {
        backend.fail("did not say where the page is")
    };
    (backend, url.to_owned())
}

/// The bundles that the backend serves; one build for all tests.
async fn build_pages() {
    static BUILT: OnceCell<()> = OnceCell::const_new();
    let build = || async {
        require(
            &in_repository("examples/node_modules"),
            "the npm packages of the demos",
        );
        let built = Command::new("npm")
            .args(["run", "--silent", "build"])
            .current_dir(in_repository("examples"))
            .output()
            .await
            .expect("npm");
        assert!(built.status.success(), "{built:?}");
    };
    BUILT.get_or_init(build).await;
}

pub fn browser() -> PathBuf {
    if let Some(named) = std::env::var_os("CHROMIUM") {
        return named.into();
    }
    let folders = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&folders)
        .map(|folder| folder.join("chromium"))
        .find(|path| path.is_file())
        .expect("Chromium is missing; run `make install`")
}
