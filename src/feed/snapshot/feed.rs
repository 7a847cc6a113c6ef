//! Snapshots in subscriptions, and by themselves.

use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::{mpsc, oneshot};

use super::{End, Out, Plan, Seat, Sending, Ticket, gone};
use crate::auth::Claims;
use crate::change::Since;
use crate::feed::pump::Comes;
use crate::feed::{Feed, SubscribeError, SubscribeRequest, Subscribed};
use crate::hub::HeldFrame;
use crate::protocol::{Binding, Snapshot, SnapshotReply};

/// How often the rows of a snapshot are read for one subscription, first for all who share it.
const MOST_REPEATS: u32 = 3;

/// Pieces of a body that may wait for the client, of some hundred rows each.
const PIECES: usize = 2;

/// Why the rows of a table are not all there.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct RowsError(SubscribeError);

/// The rows of a table, as they come.
#[derive(Debug)]
pub struct Rows {
    /// Where changes follow them.
    pub since: Since,
    pieces: mpsc::Receiver<Bytes>,
    done: oneshot::Receiver<End>,
    begun: bool,
}

impl Rows {
    /// The next rows: JSON objects with commas between them, and in front of them where rows came before. `None` at the end.
    ///
    /// # Errors
    /// They are not complete. Whoever has the first part has to be told.
    pub async fn next(&mut self) -> Option<Result<Bytes, RowsError>> {
        if let Some(piece) = self.pieces.recv().await {
            if !std::mem::replace(&mut self.begun, true) {
                return Some(Ok(piece));
            }
            let mut behind = Vec::with_capacity(piece.len() + 1);
            behind.push(b',');
            behind.extend_from_slice(&piece);
            return Some(Ok(behind.into()));
        }
        match (&mut self.done).await {
            Ok(End::Complete) => None,
            Ok(End::Failed(error)) => Some(Err(RowsError(error))),
            Ok(End::Late) => {
                let text = "read too slowly while others waited for the same rows".to_owned();
                Some(Err(RowsError(SubscribeError::Unavailable(text))))
            }
            Err(_) => Some(Err(RowsError(gone()))),
        }
    }
}

impl SubscribeRequest {
    /// A binding asks for rows.
    pub(in crate::feed) fn wants_snapshot(&self) -> bool {
        let wants = |binding: &Binding| binding.snapshot == Snapshot::On;
        self.bindings.iter().any(wants)
    }
}

impl Feed {
    /// The rows of a table that a user may see, with a place from which on changes follow them. Dropping them ends the reading.
    ///
    /// # Errors
    /// See [`SubscribeError`].
    pub async fn rows(&self, claims: &Arc<Claims>, binding: Binding) -> Result<Rows, SubscribeError> {
        let (rules, bound) = self.check(claims, &[binding]).await?;
        let (plan, ids) = Plan::of(&bound, claims, &rules)?.ok_or_else(gone)?;
        let (body, pieces) = mpsc::channel(PIECES);
        let (seat, Ticket { taken, done }) = Seat::new(Out::Body(body), ids);
        self.snapshots.join(plan, seat, false)?;
        let since = taken.await.map_err(|_| gone())??;
        Ok(Rows {
            since,
            pieces,
            done,
            begun: false,
        })
    }

    /// Has a snapshot taken for a subscriber; returns when it is, with the reply queued and rows on their way.
    pub(in crate::feed) async fn take(
        &self,
        request: &SubscribeRequest,
        reply: Option<(HeldFrame, SnapshotReply)>,
        again: Option<String>,
    ) -> Result<Sending, SubscribeError> {
        let alone = again.is_some();
        let (rules, bound) = self.check(&request.claims, &request.bindings).await?;
        let (plan, ids) = Plan::of(&bound, &request.claims, &rules)?.ok_or_else(gone)?;
        let out = Out::Lane {
            subscriber: request.subscriber.clone(),
            reply,
            again,
        };
        let (seat, Ticket { taken, done }) = Seat::new(out, ids);
        self.snapshots.join(plan, seat, alone)?;
        let since = taken.await.map_err(|_| gone())??;
        Ok(Sending { since, done })
    }

    /// Waits until all rows of a snapshot have been queued, then goes on from it. If that took longer than the replay window
    /// reaches back, it begins again.
    pub(in crate::feed) async fn finish(
        &self,
        mut request: SubscribeRequest,
        mut sending: Sending,
    ) -> Result<Subscribed, SubscribeError> {
        for left in (0..MOST_REPEATS).rev() {
            let reason = match (&mut sending.done).await.map_err(|_| gone())? {
                End::Failed(error) => return Err(error),
                End::Late => "it was read too slowly while others waited for the same rows".to_owned(),
                End::Complete => {
                    request.since = Some(sending.since);
                    let comes = if left == 0 {
                        Comes::Back
                    } else {
                        Comes::FromSnapshot
                    };
                    match self.go_live(&request, comes).await {
                        Err(SubscribeError::Behind(reason)) => reason,
                        outcome => return outcome,
                    }
                }
            };
            sending = self.take(&request, None, Some(reason)).await?;
        }
        Err(SubscribeError::Refused(super::TOO_SLOW.to_owned()))
    }
}
