//! One connection to a walsender: logging in, simple queries, and the two-way copy that carries the stream (manual,
//! "Streaming Replication Protocol"). Knows no slot and no plugin.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::{Buf, BytesMut};
use postgres_protocol::message::frontend;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

use super::connection::{self, Io};
use super::failure::{Failure, ServerError};
use super::frames::{Frame, Status, data_row, error_fields, frame, parameter, write_status};
use super::login::{Login, write_startup};
use crate::postgres::{ConnectSettings, SslMode};

/// Room made for each read.
const READ: usize = 64 * 1024;
/// A read buffer that one huge message has grown past this is given back.
const KEEP: usize = 1024 * 1024;
/// Longest time for handing a few bytes to the operating system. A peer that takes none of them is gone.
const WRITE_LIMIT: Duration = Duration::from_secs(10);

/// A logged-in connection.
pub(super) struct Walsender {
    io: Box<dyn Io>,
    input: BytesMut,
    output: BytesMut,
    encoding: String,
    version: String,
}

impl Walsender {
    /// Connects and logs in for logical replication.
    pub(super) async fn connect(settings: &ConnectSettings, application_name: &str) -> Result<Self, Failure> {
        let limit = settings.connect_timeout;
        let attempt = Self::log_in_as_preferred(settings, application_name);
        timeout(limit, attempt).await.unwrap_or_else(|_| {
            Err(Failure::Timeout {
                place: connection::place(settings),
                limit,
            })
        })
    }

    /// libpq's `prefer`: once more in plain text when the handshake fails or the server's rules refuse the encrypted
    /// connection. A wrong password stays wrong and is not repeated in the clear.
    async fn log_in_as_preferred(
        settings: &ConnectSettings,
        application_name: &str,
    ) -> Result<Self, Failure> {
        match Self::log_in(settings, application_name).await {
            Err(Failure::Tls(_)) if settings.ssl_mode == SslMode::Prefer => {
                let plain = ConnectSettings {
                    ssl_mode: SslMode::Disable,
                    ..settings.clone()
                };
                Self::log_in(&plain, application_name).await
            }
            outcome => outcome,
        }
    }

    async fn log_in(settings: &ConnectSettings, application_name: &str) -> Result<Self, Failure> {
        let opened = connection::open(settings).await?;
        let mut walsender = Self {
            io: opened.io,
            input: BytesMut::new(),
            output: BytesMut::new(),
            encoding: String::new(),
            version: String::new(),
        };
        let mut login = Login::new(settings, opened.encrypted, opened.binding);
        write_startup(settings, application_name, &mut walsender.output)?;
        walsender.flush().await?;
        loop {
            let message = walsender.message().await?;
            match message.tag {
                b'R' => login.answer(&message.body, &mut walsender.output)?,
                b'S' => walsender.parameter(&message.body),
                b'E' => {
                    let error = server_error(&message.body);
                    let rule = opened.encrypted && error.code == "28000";
                    return Err(match settings.ssl_mode {
                        SslMode::Prefer if rule => Failure::Tls(error.to_string()),
                        _ => Failure::at_login(error, &settings.user),
                    });
                }
                b'Z' => return Ok(walsender),
                _ => {}
            }
            walsender.flush().await?;
        }
    }

    fn parameter(&mut self, body: &[u8]) {
        match parameter(body) {
            Some(("server_encoding", value)) => self.encoding = value.to_owned(),
            Some(("server_version", value)) => self.version = value.to_owned(),
            _ => {}
        }
    }

    /// The database's encoding, for example `UTF8`.
    pub(super) fn encoding(&self) -> &str {
        &self.encoding
    }

    /// The server's major version, for example `15`.
    pub(super) fn major_version(&self) -> &str {
        self.version.split(['.', ' ']).next().unwrap_or_default()
    }

    /// Runs one command or query and returns its rows as text.
    pub(super) async fn query(&mut self, sql: &str) -> Result<Vec<Vec<Option<String>>>, Failure> {
        self.send_query(sql).await?;
        let mut rows = Vec::new();
        let mut refused = None;
        loop {
            let message = self.message().await?;
            match message.tag {
                b'D' => rows.push(data_row(&message.body)?),
                b'E' => refused = Some(server_error(&message.body)),
                b'Z' => return refused.map_or(Ok(rows), |error| Err(Failure::at_work(error))),
                _ => {}
            }
        }
    }

    /// Starts the two-way copy.
    pub(super) async fn start_copy(&mut self, command: &str) -> Result<(), Failure> {
        self.send_query(command).await?;
        let mut refused = None;
        loop {
            let message = self.message().await?;
            match (message.tag, refused.take()) {
                (b'W', _) => return Ok(()),
                (b'E', _) => refused = Some(server_error(&message.body)),
                (b'Z', Some(error)) => return Err(Failure::at_work(error)),
                (b'Z', None) => return Err(Failure::Protocol("START_REPLICATION did not start a copy")),
                (_, before) => refused = before,
            }
        }
    }

    /// Ends the two-way copy; what is still under way is thrown away. The slot is free then. (Another logical copy on
    /// the same connection would end at once: Postgres does not forget that the first one was done.)
    pub(super) async fn end_copy(&mut self) -> Result<(), Failure> {
        frontend::copy_done(&mut self.output);
        self.flush().await?;
        loop {
            let message = self.message().await?;
            match message.tag {
                b'E' => return Err(Failure::at_work(server_error(&message.body))),
                b'Z' => return Ok(()),
                _ => {}
            }
        }
    }

    /// Says goodbye, as far as the peer still listens.
    pub(super) async fn close(mut self) {
        frontend::terminate(&mut self.output);
        // Postgres ends the session just as well when the socket closes.
        let _ = self.flush().await;
        let _ = timeout(WRITE_LIMIT, self.io.shutdown()).await;
    }

    /// Sends a status update.
    pub(super) async fn send_status(&mut self, status: Status) -> Result<(), Failure> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let micros = i64::try_from(now.as_micros()).unwrap_or(i64::MAX);
        write_status(status, micros, &mut self.output);
        self.flush().await
    }

    /// What has been received and not consumed.
    pub(super) fn input(&self) -> &[u8] {
        &self.input
    }

    /// Drops the first `bytes` of the input.
    pub(super) fn consume(&mut self, bytes: usize) {
        self.input.advance(bytes.min(self.input.len()));
        if self.input.is_empty() && self.input.capacity() > KEEP {
            self.input = BytesMut::new();
        }
    }

    /// Waits for more input; the number of bytes that came. Cancel-safe.
    pub(super) async fn fill(&mut self) -> Result<usize, Failure> {
        self.input.reserve(READ);
        match self.io.read_buf(&mut self.input).await? {
            0 => Err(Failure::Lost("closed by the server".to_owned())),
            bytes => Ok(bytes),
        }
    }

    async fn send_query(&mut self, sql: &str) -> Result<(), Failure> {
        frontend::query(sql, &mut self.output)?;
        self.flush().await
    }

    async fn flush(&mut self) -> Result<(), Failure> {
        if self.output.is_empty() {
            return Ok(());
        }
        let writing = async {
            self.io.write_all(&self.output).await?;
            self.io.flush().await
        };
        match timeout(WRITE_LIMIT, writing).await {
            Ok(written) => written?,
            Err(_) => return Err(Failure::Silent(WRITE_LIMIT)),
        }
        self.output.clear();
        Ok(())
    }

    /// The next message as a copy of its own, for the slow parts of the protocol.
    async fn message(&mut self) -> Result<Message, Failure> {
        loop {
            if let Some(Frame { tag, body }) = frame(&self.input)? {
                let message = Message {
                    tag,
                    body: body.to_vec(),
                };
                self.consume(5 + message.body.len());
                return Ok(message);
            }
            self.fill().await?;
        }
    }
}

struct Message {
    tag: u8,
    body: Vec<u8>,
}

/// Code and primary message of an error response.
pub(super) fn server_error(body: &[u8]) -> ServerError {
    let mut error = ServerError {
        code: String::new(),
        message: String::new(),
    };
    for (field, text) in error_fields(body) {
        match field {
            b'C' => error.code = text,
            b'M' => error.message = text,
            _ => {}
        }
    }
    error
}
