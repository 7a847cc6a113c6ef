//! The settings of a server: what they are called, what they mean, and where their values come from.
//!
//! One table ([`SETTINGS`]) defines every setting; flags, environment variables, the file's keys, `--help` and
//! `docs/CONFIG.md` are all made from it. A value given as a flag beats one in the environment, which beats the
//! file, which beats the default. Plain data only: the modules above have settings of their own, and `server` fills
//! them from these.

mod database_url;
mod error;
mod layers;
mod load;
mod reference;
mod settings;
mod suggest;
mod table;
mod validate;
mod value;

pub use error::{ConfigError, Problem};
pub use layers::{Inputs, Origin};
pub use load::Loaded;
pub use reference::reference;
pub use settings::{
    Auth, Config, Database, Limits, Listen, Log, Metrics, Policy, Replication, SECTIONS, SETTINGS, Session,
};
pub use table::{Section, Setting, Unit};
pub use value::{ApiKeys, JsonObject, LogFormat, Plugin, Share, SslMode, UnjudgedDeletes, parse_duration};
