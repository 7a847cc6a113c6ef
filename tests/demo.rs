//! The page of `examples/todo` in headless Chromium, with its own backend.

use std::path::PathBuf;

use serde_json::Value;
use tokio::process::Command;

use crate::support::program::{in_repository, require};
use crate::support::{Database, Program, Server, cluster, token};

#[tokio::test(flavor = "multi_thread")]
async fn the_page_shows_each_user_what_they_may_see() {
    let db = Database::new().await;
    let schema =
        std::fs::read_to_string(in_repository("examples/todo/schema.sql")).expect("the demo's schema");
    db.execute(&schema).await;
    // Every start of the demo runs it.
    db.execute(&schema).await;
    let server = Server::start(&db).await;
    let address = server.address;
    build_page().await;

    let database_url = cluster::shared().url(&db.name);
    let mut backend = Command::new("node");
    backend.arg(in_repository("examples/todo/server.mjs"));
    let variables = [
        ("DATABASE_URL", database_url.as_str()),
        ("ROWCAST_URL", &server.url()),
        ("JWT_SECRET", token::SECRET),
        ("HOST", "127.0.0.1"),
        ("PORT", "0"),
    ];
    let mut backend = Program::start("the demo's backend", backend, &variables);
    let listening = backend.next("text").await;
    let Some((_, url)) = listening["text"]
        .as_str()
        .and_then(|line| line.split_once(" on "))
    else {
        backend.fail("did not say where the page is")
    };

    let browser = browser();
    let variables = [
        ("PAGE_URL", url),
        ("DATABASE_URL", &database_url),
        ("EXPECT_RESTART", "1"),
        ("CHROMIUM", browser.to_str().expect("a path of text")),
    ];
    let mut page = Program::node("page.mjs", &variables);
    page.next("restart").await;
    server.stop().await;
    page.next("reconnecting").await;
    let server = Server::start_at(address, &db, |_| {}).await;
    let (status, told) = page.ended().await;
    let failed: Vec<&Value> = told.iter().filter(|line| line["ok"] == false).collect();
    assert!(status.success() && failed.is_empty(), "{status}: {failed:#?}");
    assert!(told.iter().any(|line| line["kind"] == "result"), "{told:#?}");
    server.stop().await;
}

/// The bundle that the backend serves.
async fn build_page() {
    require(
        &in_repository("examples/todo/node_modules"),
        "the npm packages of the demo",
    );
    let built = Command::new("npm")
        .args(["run", "--silent", "build"])
        .current_dir(in_repository("examples/todo"))
        .output()
        .await
        .expect("npm");
    assert!(built.status.success(), "{built:?}");
}

fn browser() -> PathBuf {
    if let Some(named) = std::env::var_os("CHROMIUM") {
        return named.into();
    }
    let folders = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&folders)
        .map(|folder| folder.join("chromium"))
        .find(|path| path.is_file())
        .expect("Chromium is missing; run `make install`")
}
