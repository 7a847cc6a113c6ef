//! The stream against a real Postgres, each test with a cluster of its own.

mod cluster;
mod equality;
mod follower;
mod interruptions;
mod ownership;
mod pgoutput;
mod quiet;
mod slots;
mod stream;
mod tls;
mod told;
mod values;
