//! The integration tests, one binary: a real Postgres, real servers, real clients.

#![expect(
    clippy::expect_used,
    clippy::panic,
    missing_docs,
    unreachable_pub,
    reason = "a test that cannot go on fails with a message; helpers outside #[test] functions do so too"
)]

mod support;

mod filters;
mod policies;
mod rows;
mod types;
