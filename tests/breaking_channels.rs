//! Channels in the hands of hostile and unlucky users: nobody hears or says what the policies do not let him, nobody is hurt by
//! what another one does, and nothing is lost or doubled.

mod allows;
mod harm;
mod losses;

use serde_json::{Value, json};

use crate::support::{Client, Server, Version, token};

const ALICE: &str = "a11ce000-0000-4000-8000-000000000001";
const BOB: &str = "b0b00000-0000-4000-8000-000000000002";

/// A connection as a user.
async fn user(server: &Server, version: Version, sub: &str) -> Client {
    Client::connect(server, version, &token::user(sub)).await
}

/// A connection as `anon`.
async fn anon(server: &Server) -> Client {
    Client::connect(server, Version::V2, &token::token("anon", json!({}))).await
}

/// A private channel that answers broadcasts and has presence.
fn private() -> Value {
    json!({"private": true, "broadcast": {"ack": true}, "presence": {"enabled": true}})
}

/// A POST with a user's token: status and body.
async fn post(server: &Server, path: &str, token: &str, body: &Value) -> (u16, String) {
    let response = reqwest::Client::new()
        .post(format!("{}{path}", server.url()))
        .bearer_auth(token)
        .json(body)
        .send()
        .await
        .expect("an answer");
    let status = response.status().as_u16();
    (status, response.text().await.expect("a body"))
}
