//! Channels end to end: broadcasts from every side in both wire versions, presence, private channels under policies.

mod broadcast;
mod database;
mod libraries;
mod lifecycles;
mod limits;
mod presence;
mod private;
mod replay;
mod rest;
mod rights;

use serde_json::json;

use crate::support::{Client, Server, Version, token};

/// A connection as `anon`.
async fn anon(server: &Server, version: Version) -> Client {
    Client::connect(server, version, &token::token("anon", json!({}))).await
}

const VERSIONS: [Version; 2] = [Version::V1, Version::V2];
