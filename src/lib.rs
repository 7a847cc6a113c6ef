//! Rowcast: committed Postgres rows, judged by the database's own row-level policies, live in front of people.
//!
//! A row change flows down the modules below in this order, and a client's message flows up from `transport` to
//! `session`; `docs/ARCHITECTURE.md` tells the walk. Each module imports only from those above it in this list.

pub mod config;
pub mod rate;
pub mod secret;
pub mod shutdown;
pub mod telemetry;

pub mod auth;
pub mod change;
pub mod topic;

pub mod history;
pub mod protocol;

pub mod postgres;

pub mod replication;

pub mod expression;
pub mod policy_files;
pub mod presence;

pub mod predicate;

pub mod policy;

pub mod hub;
pub mod messages;
pub mod subscription;

pub mod room;

pub mod feed;

pub mod session;

pub mod transport;

pub mod server;

pub mod dev;

pub mod cli;
