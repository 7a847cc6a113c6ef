use std::io;
use std::time::Duration;

use super::frames::Malformed;
use crate::change::Lsn;

/// An error response of the server, reduced to what may be shown.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message} (SQLSTATE {code})")]
pub struct ServerError {
    /// SQLSTATE, five characters (manual, "PostgreSQL Error Codes").
    pub code: String,
    /// The primary message.
    pub message: String,
}

/// Why changes do not flow. `Display` is one sentence for an operator: what is wrong, then what to do.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Failure {
    /// No connection to the address.
    #[error("nothing answers at {place} ({cause}); check host and port, and that Postgres is running")]
    Unreachable {
        /// Host and port, or the socket file.
        place: String,
        /// What the operating system said.
        cause: io::Error,
    },
    /// Connecting and logging in took too long.
    #[error(
        "no login at {place} within {limit:?}; check that the address is right and the server not overloaded"
    )]
    Timeout {
        /// Host and port, or the socket file.
        place: String,
        /// The limit that passed.
        limit: Duration,
    },
    /// TLS could not be agreed on.
    #[error("tls failed ({0}); check sslmode, sslrootcert and the server's certificate")]
    Tls(String),
    /// The server refused the login.
    #[error("the login was refused: {0}; check user, password, database and pg_hba.conf")]
    Login(String),
    /// The role may not replicate.
    #[error("role {user} may not replicate; run: ALTER ROLE \"{user}\" REPLICATION")]
    NoReplicationRight {
        /// The role that logged in.
        user: String,
    },
    /// The server has no connection or walsender left.
    #[error("the server has no replication connection left ({0}); raise max_wal_senders or max_connections")]
    NoSenderLeft(String),
    /// The server is starting, stopping or recovering.
    #[error("the server is not ready: {0}; it is tried again")]
    NotReady(String),
    /// The server is a standby.
    #[error(
        "the server is a standby (in recovery) and has no changes to stream; once it is promoted, or the address leads to the primary, the stream goes on"
    )]
    InRecovery,
    /// Two connections in a row met two servers.
    #[error(
        "two servers answer at the address of the database; it has to lead to the primary and to nothing else"
    )]
    TwoServers,
    /// Logical decoding is off.
    #[error("wal_level is {0}; run: ALTER SYSTEM SET wal_level = logical, and restart Postgres")]
    WalLevel(String),
    /// The output plugin is not installed.
    #[error(
        "output plugin {plugin} is not installed on the database server; install it (for example the package postgresql-{version}-{plugin})"
    )]
    PluginMissing {
        /// The plugin's name.
        plugin: String,
        /// The server's major version.
        version: String,
    },
    /// The output plugin is not one that the server lets anybody use.
    #[error(
        "the server does not allow output plugin {plugin} ({cause}); as a superuser, run: ALTER SYSTEM SET output_plugin_libraries = pgoutput, test_decoding, {plugin}; SELECT pg_reload_conf()"
    )]
    PluginNotAllowed {
        /// The plugin's name.
        plugin: String,
        /// What the server said.
        cause: ServerError,
    },
    /// The publications that pgoutput reads could not be made or looked at.
    #[error(
        "the publications that pgoutput reads cannot be kept: {0}; run `rowcast check` to see what to grant"
    )]
    Publication(String),
    /// pgoutput does not find a publication at the time of what it decodes.
    #[error(
        "{0}: it was dropped, or is younger than what the slot holds, which can therefore not be decoded any more"
    )]
    PublicationUnknown(String),
    /// No slot can be created.
    #[error(
        "all replication slots are in use; drop one that nobody needs (see pg_replication_slots) or raise max_replication_slots"
    )]
    NoSlotLeft,
    /// The slot's name is not one.
    #[error("{0:?} is not a slot name; use 1 to 63 lower-case letters, digits and underscores")]
    SlotName(String),
    /// Somebody else reads from the slot.
    #[error(
        "standby: waits for slot {slot}, which is in use by {by}, and takes over once it is free; if this is to be no standby, give it a slot of its own"
    )]
    SlotInUse {
        /// The slot.
        slot: String,
        /// Who reads from it: a process of the database server, or another server of ours.
        by: String,
    },
    /// The slot belongs to another plugin or database, or is a physical one.
    #[error("slot {slot} belongs to {owner}; choose another slot name, or drop that slot if nobody needs it")]
    ForeignSlot {
        /// The slot.
        slot: String,
        /// What it belongs to.
        owner: String,
    },
    /// Postgres has thrown away WAL that the slot needed.
    #[error(
        "slot {slot} is lost ({reason}); changes since are gone. Run: SELECT pg_drop_replication_slot('{slot}'), or allow recreate_lost_slot"
    )]
    SlotLost {
        /// The slot.
        slot: String,
        /// What pg_replication_slots says.
        reason: String,
    },
    /// The slot that was streamed from does not exist any more.
    #[error(
        "slot {slot} was dropped; changes since are gone. Restart, or allow recreate_lost_slot, to go on from now"
    )]
    SlotGone {
        /// The slot.
        slot: String,
    },
    /// The database's encoding is none that can be read.
    #[error(
        "the database is encoded in {0}, and logical decoding prints in that encoding; only UTF8 databases can be followed"
    )]
    Encoding(String),
    /// The peer went silent.
    #[error("nothing came from the server for {0:?}; the connection is given up and made again")]
    Silent(Duration),
    /// The receiver of the changes waits for the database.
    #[error("the database does not answer the questions that changes raise; the connection is made again")]
    HeldUp,
    /// The connection ended.
    #[error("the connection to the server ended ({0}); it is made again")]
    Lost(String),
    /// The transaction that was passed on in part came back different.
    #[error("the transaction that committed at {0} came back different after a reconnect")]
    Diverged(Lsn),
    /// The server's messages make no sense.
    #[error("the server broke the protocol: {0}")]
    Protocol(&'static str),
    /// The connection beside the stream, which looks at the slot, could not be used.
    #[error("no answer beside the replication stream ({0}); it is tried again")]
    Beside(String),
    /// Any other error of the server.
    #[error("the server refused it: {0}")]
    Server(#[from] ServerError),
}

impl From<Malformed> for Failure {
    fn from(malformed: Malformed) -> Self {
        Self::Protocol(malformed.0)
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Lost(match error.kind() {
            io::ErrorKind::UnexpectedEof => "closed by the server".to_owned(),
            _ => error.to_string(),
        })
    }
}

impl Failure {
    /// What an error response means while logging in as `user`.
    pub(super) fn at_login(error: ServerError, user: &str) -> Self {
        match error.code.as_str() {
            "42501" => Self::NoReplicationRight {
                user: user.to_owned(),
            },
            "53300" => Self::NoSenderLeft(error.message),
            "57P01" | "57P02" | "57P03" => Self::NotReady(error.message),
            code if code.starts_with("28") || code == "3D000" => Self::Login(error.to_string()),
            _ => Self::Server(error),
        }
    }

    /// What an error response means once logged in.
    pub(super) fn at_work(error: ServerError) -> Self {
        match error.code.as_str() {
            "57P01" | "57P02" | "57P03" | "57P05" => Self::Lost(error.to_string()),
            "53400" => Self::NoSlotLeft,
            _ => Self::Server(error),
        }
    }

    /// What an error response means in the midst of what pgoutput sends.
    pub(super) fn of_pgoutput(error: ServerError) -> Self {
        match error.code.as_str() {
            "42704" => Self::PublicationUnknown(error.message),
            _ => Self::at_work(error),
        }
    }
}
