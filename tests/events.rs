//! Server-sent events and polls: curl, real readers that come back by themselves, cuts anywhere, shell loops.

mod http2;
mod paces;
mod polls;
pub(crate) mod reader;
mod snapshots;
mod streams;

use serde_json::json;

use crate::support::{Database, token};

const TODOS: &str = "
    create table todos (id int primary key, owner uuid, title text);
    grant select on todos to authenticated;
    alter table todos enable row level security;
    create policy own on todos for select using (owner = auth.uid());
    create table lists (id int primary key, n int);
    grant select on lists to authenticated;
    alter publication supabase_realtime add table todos, lists;
";

const ALICE: &str = "a11ce000-0000-4000-8000-000000000001";
const BOB: &str = "b0b00000-0000-4000-8000-000000000002";

async fn database() -> Database {
    let db = Database::new().await;
    db.execute(TODOS).await;
    db
}

fn alice() -> String {
    token::user(ALICE)
}

fn anybody() -> String {
    token::token("service_role", json!({}))
}
