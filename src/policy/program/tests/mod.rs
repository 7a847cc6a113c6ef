//! Programs, and Postgres' own answers as their measure.

mod binding;
mod channel_forms;
mod channels;
mod forms;
mod postgres;
