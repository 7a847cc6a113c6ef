//! Programs, and Postgres' own answers as their measure.

mod binding;
mod forms;
mod postgres;
