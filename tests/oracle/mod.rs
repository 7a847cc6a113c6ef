//! Postgres as the oracle: of whole random worlds, and through a whole server.

mod differential;
mod end_to_end;
mod expression;
mod kinds;
mod random;
mod rig;
mod shrink;
mod subject;
mod templates;
mod world;
