//! The integration tests, one binary: a real Postgres, real servers, real clients.

#![expect(
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot go on fails with a message; helpers outside #[test] functions do so too"
)]
#![allow(unreachable_pub, reason = "the harness is a library to its tests")]

mod support;

mod bad_input;
mod bad_policies;
mod breaking;
mod breaking_channels;
mod breaking_policies;
mod channels;
mod clients;
mod delivery;
mod demo;
mod dev;
mod events;
mod failover;
mod filters;
mod forms;
mod limits;
mod longpoll;
mod membership;
mod oracle;
mod outages;
mod pgoutput;
mod policies;
mod policy_changes;
mod policy_files;
mod resume;
mod rows;
mod sessions;
mod shadow;
mod shaping;
mod snapshots;
mod stalled;
mod tls;
mod tokens;
mod transitions;
mod types;
mod versions;
