//! From a request that was let in to channels that are joined: what is wrong is found before anything has been answered.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::super::Server;
use super::super::driver::New;
use super::batch::Batch;
use super::channels::{Channels, Woken};
use super::query::Asked;
use super::refusal::Refusal;
use crate::protocol::errors::{Close, ConnectError};

/// How much longer than a join may take its answer is waited for: the session answers at that moment itself.
const GRACE: Duration = Duration::from_secs(1);

/// Channels, at least one of which is joined, or may be yet.
pub(super) struct Opened {
    pub(super) channels: Channels,
    /// What has come meanwhile.
    pub(super) batches: Vec<Batch>,
}

/// Joins what a request asks for.
pub(super) async fn open(server: &Arc<Server>, new: New, asked: &Asked) -> Result<Opened, Refusal> {
    let limits = &server.context.limits;
    let wait = limits.reply_wait.max(limits.join_error_delay) + GRACE;
    let deadline = Instant::now() + wait;
    let mut channels = Channels::join(Arc::clone(server), new, asked).map_err(Refusal::Ended)?;
    let mut batches: Vec<Batch> = Vec::new();
    let (mut frames, mut bytes) = (0, 0);
    let bounds = server.settings.outbox;
    while !channels.are_answered() && frames < bounds.frames && bytes < bounds.bytes {
        match channels.next(deadline, true).await {
            Woken::Frames(batch) => {
                let (more, larger) = batch.size();
                (frames, bytes) = (frames + more, bytes + larger);
                batches.push(batch);
            }
            Woken::Moved => channels.leave_refused(),
            Woken::Overflowed => return Err(Refusal::Ended(Close::SlowConsumer)),
            Woken::Close(close) => return Err(Refusal::Ended(close)),
            Woken::Stopping => return Err(Refusal::Connect(ConnectError::Restarting)),
            Woken::Time => break,
        }
        if let Some(refusal) = channels.refusal() {
            return Err(refusal.clone());
        }
    }
    channels.begin_rooms(&mut batches);
    Ok(Opened { channels, batches })
}
