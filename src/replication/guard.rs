//! What keeps several servers on one slot apart, and the eye on the slot while another reads from it.
//!
//! A server that streams lets go of the slot for a moment whenever it connects anew: for another set of tables, or after
//! a cut. A standby that looked just then would take the slot from a server that is well and full of clients. So the
//! slot is not only read from but also owned: by an advisory lock under its name, held by a SQL connection that stays
//! over all of that and ends with the process. Who finds the slot in use waits here, without a walsender of its own.

use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};

use super::failure::Failure;
use crate::change::Lsn;
use crate::postgres::{ConnectSettings, Connection, Session, SqlError, connect};

/// How often a standby looks whether the slot is free. One look is a function call over a handful of slots.
const LOOK: Duration = Duration::from_millis(150);
/// How long a standby that lost its own connection leaves a free slot alone: Postgres was away for everybody, and who
/// streamed before, and has the clients, comes back as well. Longer than the longest wait between its attempts.
const HEAD_START: Duration = Duration::from_secs(6);

/// Statements are looks at memory of the server; one that takes longer waits for a server in trouble.
const STATEMENT: Duration = Duration::from_secs(10);

/// Held for as long as the process reads from the slot, or wants to. The two numbers are the class of our locks ("rowc")
/// and the slot's name.
const LOCK: &str = "SELECT pg_catalog.pg_try_advisory_lock(1919907683, pg_catalog.hashtext($1::text))";

/// A connection whose server has not answered for this long may be one to a host that has vanished, and is made again.
const ANSWER: Duration = Duration::from_secs(3);

/// Which start of which server the connection is to.
const STARTED: &str = "SELECT pg_catalog.pg_postmaster_start_time()::text";

const LOOK_AT_SLOT: &str = "SELECT active_pid, confirmed_flush_lsn::text FROM pg_catalog.pg_replication_slots \
                            WHERE slot_name = $1::text";

/// Owns a slot by its name, or waits for it.
#[derive(Debug)]
pub(super) struct Guard {
    connect: ConnectSettings,
    slot: String,
    connection: Option<Connection>,
    locked: bool,
}

/// How the slot was found.
struct Look {
    active_pid: Option<i32>,
    confirmed: Lsn,
}

impl Guard {
    pub(super) fn new(connect: ConnectSettings, slot: String) -> Self {
        Self {
            connect,
            slot,
            connection: None,
            locked: false,
        }
    }

    /// Makes the slot ours, unless another server has it.
    pub(super) async fn lock(&mut self) -> Result<bool, Failure> {
        self.connection().await?;
        if !self.locked {
            let slot = self.slot.clone();
            let row = self.connection().await?.query_one(LOCK, &[&slot]).await;
            self.locked = row
                .and_then(|row| row.try_get(0))
                .map_err(SqlError::during("locking the slot's name"))?;
        }
        Ok(self.locked)
    }

    /// Makes sure that the connection is to the server that was started then: a connection to another one, which was the primary
    /// before and is still there, would own a slot that nobody reads.
    pub(super) async fn meet(&mut self, started: &str) -> Result<(), Failure> {
        if self.connection.is_some()
            && let Ok(Ok(known)) = timeout(ANSWER, self.started()).await
            && known == started
        {
            return Ok(());
        }
        self.leave();
        match self.started().await? == started {
            true => Ok(()),
            false => Err(Failure::TwoServers),
        }
    }

    /// Gives up the connection, and what is owned by it.
    pub(super) fn leave(&mut self) {
        self.connection = None;
        self.locked = false;
    }

    async fn started(&mut self) -> Result<String, Failure> {
        let row = self.connection().await?.query_one(STARTED, &[]).await;
        row.and_then(|row| row.try_get(0))
            .map_err(SqlError::during("asking when the server was started"))
            .map_err(Failure::from)
    }

    /// Where the slot stands. Right after its stream has started, nobody but us moves it.
    pub(super) async fn standing(&mut self) -> Result<Option<Lsn>, Failure> {
        Ok(self.look().await?.map(|look| look.confirmed))
    }

    /// Waits until nobody reads from the slot, or it is gone, and nobody else owns it. Cancel-safe.
    ///
    /// # Errors
    /// The database does not answer. Whoever calls again then gives way for a while to those who come back as well.
    pub(super) async fn until_free(&mut self, gives_way: bool) -> Result<(), Failure> {
        let since = Instant::now();
        loop {
            let busy = self.look().await?.is_some_and(|look| look.active_pid.is_some());
            let early = gives_way && since.elapsed() < HEAD_START;
            if !busy && !early && self.lock().await? {
                return Ok(());
            }
            sleep(LOOK).await;
        }
    }

    /// Who has the slot.
    ///
    /// # Errors
    /// Nobody can be asked.
    pub(super) async fn in_use(&mut self) -> Result<Failure, Failure> {
        let pid = self.look().await?.and_then(|look| look.active_pid);
        Ok(Failure::SlotInUse {
            slot: self.slot.clone(),
            by: pid.map_or("another server".to_owned(), |pid| format!("process {pid}")),
        })
    }

    async fn look(&mut self) -> Result<Option<Look>, Failure> {
        let slot = self.slot.clone();
        let doing = SqlError::during("looking at the replication slot");
        let row = self.connection().await?.query_opt(LOOK_AT_SLOT, &[&slot]).await;
        let Some(row) = row.map_err(&doing)? else {
            return Ok(None);
        };
        let confirmed: Option<String> = row.try_get(1).map_err(&doing)?;
        Ok(Some(Look {
            active_pid: row.try_get(0).map_err(&doing)?,
            confirmed: confirmed.and_then(|lsn| lsn.parse().ok()).unwrap_or_default(),
        }))
    }

    /// The connection, made again where it ended; the lock went with it.
    async fn connection(&mut self) -> Result<&Connection, Failure> {
        if let Some(lost) = self.connection.take_if(|connection| connection.is_closed()) {
            drop(lost);
            self.locked = false;
        }
        if self.connection.is_none() {
            self.locked = false;
            let mut session = Session::new("rowcast_slot");
            session.statement_timeout = Some(STATEMENT);
            // A host that vanishes must not own the slot for the hours that an operating system waits by itself. And
            // nobody is to end an idle connection that means something.
            for (name, value) in [
                ("tcp_keepalives_idle", "10"),
                ("tcp_keepalives_interval", "5"),
                ("tcp_keepalives_count", "3"),
                ("idle_session_timeout", "0"),
            ] {
                session.settings.push((name.to_owned(), value.to_owned()));
            }
            self.connection = Some(connect(&self.connect, &session).await?);
        }
        self.connection
            .as_ref()
            .ok_or(Failure::Protocol("no connection although one was made"))
    }
}

impl From<SqlError> for Failure {
    fn from(error: SqlError) -> Self {
        Self::Beside(error.chain())
    }
}
