//! Postgres as the oracle: of whole random worlds, and through a whole server.

mod compiled;
pub(crate) mod differential;
mod end_to_end;
mod expression;
mod judged;
mod kinds;
pub(crate) mod random;
mod rig;
mod shrink;
mod staleness;
mod subject;
mod subquery;
mod templates;
mod world;
