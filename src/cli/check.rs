//! The doctor: looks at a database, and at the certificate, as `serve` would, says what is missing and what to run.
//!
//! It changes nothing: the one thing it creates is a temporary replication slot, to see that the output plugin loads,
//! and that is gone before the next line is written.

mod certificate;
mod channels;
mod database;
mod files;
mod published;
mod report;
mod server;
mod slot;
mod tables;
#[cfg(test)]
mod tests;

pub use report::{Level, Line, Report, RoleView, TableView, Verdict};

use std::time::Duration;

use chrono::Utc;

use crate::policy_files::Directory;
use crate::postgres::{ConnectSettings, Connection, ErrorKind, Session, SqlError, connect};
use crate::replication::{PGOUTPUT, WAL2JSON};
use crate::server::CertificateFiles;

/// Longest time for any one question. Making a slot waits for transactions that write, which may take long.
const QUESTION: Duration = Duration::from_secs(10);

/// What `serve` would be run with.
#[derive(Clone, Debug)]
pub struct CheckOptions {
    /// The publication to follow.
    pub publication: String,
    /// The replication slot to read from.
    pub slot: String,
    /// The output plugins that it may have, the preferred one first.
    pub plugins: Vec<String>,
    /// Most WAL that the replay window may hold back, in bytes.
    pub wal_budget: u64,
    /// Roles that tokens may carry, for the question of what they could see.
    pub roles: Vec<String>,
    /// Where policy files are.
    pub directory: Option<Directory>,
    /// Tables without policies are shown to nobody (`policy.required`).
    pub policies_required: bool,
    /// The certificate that clients are shown, if they are shown one.
    pub certificate: Option<CertificateFiles>,
}

impl Default for CheckOptions {
    fn default() -> Self {
        Self {
            publication: "supabase_realtime".into(),
            slot: "rowcast".into(),
            plugins: vec![WAL2JSON.into(), PGOUTPUT.into()],
            wal_budget: 1 << 30,
            roles: ["anon", "authenticated", "service_role"]
                .map(str::to_owned)
                .to_vec(),
            directory: None,
            policies_required: false,
            certificate: None,
        }
    }
}

/// Examines the database. What cannot be found out is a line of the report, so this always answers; it takes seconds
/// at most, unless the database takes its time to answer.
pub async fn run(settings: &ConnectSettings, options: &CheckOptions) -> Report {
    let mut report = Report::default();
    if let Some(files) = &options.certificate {
        certificate::judge(files, Utc::now(), &mut report);
    }
    let mut session = Session::new("rowcast check");
    session.statement_timeout = Some(QUESTION);
    let mut connection = match connect(settings, &session).await {
        Ok(connection) => connection,
        Err(error) => {
            let remedy = connect_remedy(settings, error.kind());
            report.add(Level::Failure, "connection", error.chain(), remedy);
            return report;
        }
    };
    report.add(
        Level::Ok,
        "connection",
        format!("{} as {}", settings.address(), settings.user),
        None,
    );
    if let Err(error) = examine(&mut connection, options, &mut report).await {
        report.add(Level::Failure, "examination", error.chain(), None);
    }
    report
}

async fn examine(
    connection: &mut Connection,
    options: &CheckOptions,
    report: &mut Report,
) -> Result<(), SqlError> {
    let facts = server::Facts::read(connection).await?;
    facts.judge(options, report);
    let found = slot::Slot::read(connection, &options.slot).await?;
    server::judge_room(&facts, found.is_some(), report);
    let plugin = slot::judge_plugin(connection, &facts, found.as_ref(), options, report).await;
    slot::judge_slot(&facts, found.as_ref(), options, report);
    if plugin.is_some_and(|plugin| plugin == PGOUTPUT) {
        published::judge(connection, &facts, options, report).await?;
    }
    database::roles(connection, &facts, options, report).await?;
    database::announcements(connection, report).await?;
    database::publication(connection, &facts, options, report).await?;
    tables::views(connection, options, report).await
}

fn connect_remedy(settings: &ConnectSettings, kind: ErrorKind) -> Option<String> {
    use crate::postgres::quote_identifier as quote;
    Some(match kind {
        ErrorKind::Unreachable | ErrorKind::Timeout if settings.is_unix_socket() => {
            format!("pg_isready -h {} -p {}", settings.host, settings.port)
        }
        ErrorKind::Unreachable | ErrorKind::Timeout => {
            format!(
                "pg_isready -h {} -p {}   (and listen_addresses on the server)",
                settings.host, settings.port
            )
        }
        ErrorKind::Authentication => format!("ALTER ROLE {} LOGIN PASSWORD '…';", quote(&settings.user)),
        ErrorKind::DatabaseMissing => format!("CREATE DATABASE {};", quote(&settings.database)),
        ErrorKind::InsufficientPrivilege => {
            format!(
                "GRANT CONNECT ON DATABASE {} TO {};",
                quote(&settings.database),
                quote(&settings.user)
            )
        }
        ErrorKind::TooManyConnections => {
            "ALTER SYSTEM SET max_connections = 200;   -- then restart Postgres".into()
        }
        _ => return None,
    })
}
