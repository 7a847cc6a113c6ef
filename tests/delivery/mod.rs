//! Delivery under everything that goes wrong: connections, servers and databases that fail, by a plan that one number
//! says all of. `ROWCAST_SEED` runs one again.

mod claims;
mod clock;
mod crashes;
mod gaps;
mod jitter;
mod losses;
mod oracle;
mod outages;
mod plain;
mod rooms;
mod walker;

use serde_json::json;

use crate::oracle::differential::number;
use crate::support::token;

/// The number that says everything: the one that was asked for, or always the same.
fn seed(usual: u64) -> u64 {
    number("ROWCAST_SEED").unwrap_or(usual)
}

fn service() -> String {
    token::token("service_role", json!({}))
}
