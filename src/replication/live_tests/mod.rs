//! The stream against a real Postgres, each test with a cluster of its own.

mod cluster;
mod follower;
mod interruptions;
mod ownership;
mod quiet;
mod slots;
mod stream;
mod tls;
mod values;
