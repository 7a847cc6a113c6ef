//! What becomes of clients that are away for a while: all at once, at random, or because their server is replaced; and of those
//! that read plain streams.

mod deploy;
mod jitter;
mod latency;
mod log;
mod reader;
mod resume;
mod sse;
mod stream;

pub use deploy::table as deploy;
pub use jitter::table as jitter;
pub use latency::table as latency;
pub use resume::table as resume;
pub use sse::table as sse;

use std::collections::HashMap;

use rowcast::postgres::Connection;

/// The variable that makes everything so many times smaller, to see whether it runs at all.
const SHRINK: &str = "ROWCAST_BENCH_SHRINK";

/// A number of clients or rows, as it is to be used.
fn scaled(count: usize) -> usize {
    let divisor = std::env::var(SHRINK).ok().and_then(|n| n.parse().ok());
    (count / divisor.unwrap_or(1).max(1)).max(1)
}

/// The value below which this share of them is.
fn quantile(values: &mut [f64], share: f64) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    let place = ((values.len().max(1) - 1) as f64 * share) as usize;
    values.get(place).copied().unwrap_or(f64::NAN)
}

/// p50 and p99, as two cells.
fn cells(values: &mut [f64]) -> String {
    let (middle, high) = (quantile(values, 0.5), quantile(values, 0.99));
    format!("{middle:.2} | {high:.2}")
}

/// Sets the policy of the table.
async fn policy(database: &Connection, policy: &str) {
    let policy = format!("drop policy seen on docs; create policy seen on docs using ({policy})");
    database.batch_execute(&policy).await.expect("a policy");
}

/// The last row that there is.
async fn last_row(database: &Connection) -> i64 {
    let last = "select coalesce(max(id), 0)::bigint from docs";
    database.query_one(last, &[]).await.expect("a number").get(0)
}

/// Rows behind this one, by the number of the user whose they are; `None` for those of nobody.
async fn rows_behind(database: &Connection, id: i64) -> HashMap<Option<usize>, Vec<i64>> {
    let rows =
        "select id::bigint, right(user_id::text, 12)::bigint from docs where id > $1::bigint order by id";
    let mut behind: HashMap<_, Vec<_>> = HashMap::new();
    for row in database.query(rows, &[&id]).await.expect("rows") {
        let user = row.get::<_, Option<i64>>(1);
        let user = user.map(|user| usize::try_from(user).expect("small"));
        behind.entry(user).or_default().push(row.get(0));
    }
    behind
}
