//! What one streaming connection does, as one `select!`.

use std::sync::Arc;

use tokio::time::{Instant, sleep_until};

use super::failure::Failure;
use super::feedback::Feedback;
use super::frames::{Replication, Status, frame, replication};
use super::stream::{Stop, Stream};
use super::walsender::{Walsender, server_error};
use crate::change::StreamState;

impl Stream {
    /// Moves what comes in to the channel of events, and keeps the server informed. Inputs: shutdown, the clock,
    /// `let_go`, `ping`, a new set of tables or the same published anew, what was handed over, the connection, room in the
    /// channel. In this order, since under load the last two are always ready.
    pub(super) async fn pump(
        &mut self,
        walsender: &mut Walsender,
        feedback: &mut Feedback,
    ) -> Result<Stop, Failure> {
        let shutdown = self.shutdown.clone();
        let (ping, let_go) = (Arc::clone(&self.signals.ping), Arc::clone(&self.signals.let_go));
        let events = self.events.clone();
        // The answer shows that the stream is live, also on a quiet database.
        self.send(walsender, feedback.status(true, Instant::now()))
            .await?;
        let alarm = sleep_until(feedback.due());
        tokio::pin!(alarm);
        loop {
            if self.take_in(walsender, feedback)? {
                self.send(walsender, feedback.status(false, Instant::now()))
                    .await?;
            }
            if std::mem::take(&mut self.intake.announced) {
                self.tables.ddl.notify_one();
            }
            if self.must_change_tables() {
                return Ok(Stop::Tables);
            }
            if alarm.deadline() != feedback.due() {
                alarm.as_mut().reset(feedback.due());
            }
            let batch = &mut self.intake.batch;
            tokio::select! {
                biased;
                () = shutdown.cancelled() => {
                    self.confirm(feedback);
                    self.send(walsender, feedback.status(false, Instant::now())).await?;
                    return Ok(Stop::Shutdown);
                }
                () = &mut alarm => {
                    if batch.is_full() {
                        feedback.heard(Instant::now());
                    }
                    if let Some(status) = feedback.tick(Instant::now())? {
                        self.send(walsender, status).await?;
                    }
                }
                () = let_go.notified() => return Err(Failure::HeldUp),
                () = ping.notified() => {
                    self.send(walsender, feedback.status(true, Instant::now())).await?;
                }
                () = self.tables.change() => {}
                changed = self.handed_over.changed() => match changed {
                    Ok(()) => self.confirm(feedback),
                    Err(_) => return Ok(Stop::FeedGone),
                },
                filled = walsender.fill(), if !batch.is_full() => {
                    self.metrics.replication_bytes.inc_by(filled? as u64);
                    feedback.heard(Instant::now());
                }
                permits = events.reserve_many(batch.places(events.max_capacity())), if !batch.is_empty() => match permits {
                    Ok(mut permits) => {
                        if let Some(permit) = permits.next() {
                            permit.send(batch.take());
                        }
                    }
                    Err(_) => return Ok(Stop::FeedGone),
                },
            }
        }
    }

    /// Decodes whole messages until the batch is full or the tables are to be changed. Whether the server wants an
    /// answer.
    fn take_in(&mut self, walsender: &mut Walsender, feedback: &mut Feedback) -> Result<bool, Failure> {
        let mut wanted = false;
        let mut used = 0;
        let input = walsender.input();
        while !self.intake.batch.is_full() && !self.must_change_tables() {
            let Some(frame) = frame(input.get(used..).unwrap_or_default())? else {
                break;
            };
            match frame.tag {
                b'd' => wanted |= self.copy_data(frame.body, feedback)?,
                b'E' => return Err(self.intake.failure(server_error(frame.body))),
                b'c' | b'C' | b'Z' => {
                    return Err(Failure::Lost("the server ended the stream".to_owned()));
                }
                _ => {}
            }
            used += frame.len();
        }
        walsender.consume(used);
        Ok(wanted)
    }

    fn copy_data(&mut self, body: &[u8], feedback: &mut Feedback) -> Result<bool, Failure> {
        let message = replication(body)?;
        if self.live_since.is_none() {
            self.live_since = Some(Instant::now());
            self.tell(StreamState::Live);
        }
        match message {
            Replication::XLogData { start, payload } => {
                feedback.receive(start);
                self.intake.message(start, payload)?;
                Ok(false)
            }
            Replication::Keepalive { wal_end, reply } => {
                feedback.receive(wal_end);
                self.intake.keepalive(wal_end);
                if reply && feedback.waits_in_vain(wal_end, Instant::now()) {
                    return Err(Failure::Lost("the server is shutting down".to_owned()));
                }
                Ok(reply)
            }
        }
    }

    async fn send(&self, walsender: &mut Walsender, status: Status) -> Result<(), Failure> {
        walsender.send_status(status).await?;
        let confirmed = i64::try_from(status.flushed.0).unwrap_or(i64::MAX);
        self.metrics.confirmed_lsn.set(confirmed);
        Ok(())
    }

    fn must_change_tables(&self) -> bool {
        self.tables.changed && self.intake.progress.at_boundary()
    }

    /// Confirms what nobody needs any more, if it is a position of this epoch.
    pub(super) fn confirm(&mut self, feedback: &mut Feedback) {
        let handed_over = *self.handed_over.borrow_and_update();
        let position = self.here(handed_over, handed_over.confirmable);
        if let Some(position) = position.filter(|at| self.intake.progress.confirmable(*at)) {
            self.new_epoch = false;
            feedback.confirm(position);
        }
    }
}
