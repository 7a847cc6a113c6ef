//! Connections against a real Postgres.

mod connect;
mod install;
mod objects;
mod tls;
