//! Programs, and Postgres' own answers as their measure.

mod forms;
mod postgres;
