//! Tokens: verification for joins and refreshes, and what follows when one is no longer good.

use std::sync::Arc;

use super::channel::{RowState, Stage, Verifying};
use super::join::bounded_token;
use super::{Effect, Now, Session, Ticket};
use crate::auth::{Claims, TokenError};
use crate::protocol::errors::{JoinError, Notice};
use crate::protocol::{self, ClientMessage, Payload};

impl Session {
    /// A token asked for by [`Effect::Verify`] has been judged.
    pub fn verified(
        &mut self,
        ticket: Ticket,
        outcome: Result<Arc<Claims>, TokenError>,
        now: Now,
    ) -> Vec<Effect> {
        let of_ticket =
            |verifying: &Option<Verifying>| verifying.as_ref().is_some_and(|v| v.ticket == ticket);
        let topic = self
            .channels
            .iter()
            .find(|(_, channel)| of_ticket(&channel.verifying));
        let Some(topic) = topic.map(|(topic, _)| Arc::clone(topic)) else {
            return Vec::new();
        };
        let Some(channel) = self.channels.get_mut(&topic) else {
            return Vec::new();
        };
        let verifying = channel.verifying.take();
        let mut effects = match outcome {
            Err(error) => return self.token_failed(&topic, error, now),
            Ok(claims) => {
                if let Some(verifying) = verifying {
                    channel.token = verifying.token;
                }
                if matches!(channel.stage, Stage::Admission(_)) {
                    self.admitted(&topic, claims, now)
                } else {
                    self.refreshed(&topic, claims)
                }
            }
        };
        effects.extend(self.verify_next(&topic));
        effects
    }

    /// `access_token`: verified now, or after the verification under way. Never answered.
    pub(super) fn new_token(&mut self, message: &ClientMessage<'_>) -> Vec<Effect> {
        let Payload::Json(payload) = message.payload else {
            return Vec::new();
        };
        let Some(token) = protocol::access_token(payload) else {
            return Vec::new();
        };
        let Some(channel) = self.channels.get_mut(message.topic.as_ref()) else {
            return Vec::new();
        };
        let newest = match (&channel.next_token, &channel.verifying) {
            (Some(next), _) => next,
            (None, Some(verifying)) => &verifying.token,
            (None, None) => &channel.token,
        };
        if **newest == *token {
            return Vec::new();
        }
        channel.next_token = Some(bounded_token(&token));
        self.verify_next(&message.topic).into_iter().collect()
    }

    fn verify_next(&mut self, topic: &str) -> Option<Effect> {
        let channel = self.channels.get_mut(topic)?;
        if channel.verifying.is_some() {
            return None;
        }
        let token = channel.next_token.take()?;
        let (verifying, effect) = self.verify(&token);
        self.channels.get_mut(topic)?.verifying = Some(verifying);
        Some(effect)
    }

    pub(super) fn verify(&mut self, token: &Arc<str>) -> (Verifying, Effect) {
        self.tickets += 1;
        let ticket = Ticket(self.tickets);
        let effect = Effect::Verify {
            ticket,
            token: Arc::clone(token),
        };
        (
            Verifying {
                ticket,
                token: Arc::clone(token),
            },
            effect,
        )
    }

    /// New claims for a channel that is joined, or whose reply waits for its rows.
    fn refreshed(&mut self, topic: &Arc<str>, claims: Arc<Claims>) -> Vec<Effect> {
        let Some(channel) = self.channels.get_mut(topic) else {
            return Vec::new();
        };
        let user = claims.user();
        channel.claims = Some(claims);
        channel.warned = false;
        self.pass_on(topic, user);
        let mut effects: Vec<Effect> = self.judge_again(topic).into_iter().collect();
        effects.extend(self.rows_refreshed(topic));
        effects
    }

    fn rows_refreshed(&mut self, topic: &Arc<str>) -> Vec<Effect> {
        let Some(channel) = self.channels.get_mut(topic) else {
            return Vec::new();
        };
        let (Some(rows), Some(claims)) = (&mut channel.rows, &channel.claims) else {
            return Vec::new();
        };
        match &mut rows.state {
            RowState::Live => {
                rows.state = RowState::Replacing { again: false };
                self.replace_claims(topic).into_iter().collect()
            }
            RowState::Pending { again } => {
                *again = true;
                let Some(newer) = &rows.newer else {
                    return Vec::new();
                };
                newer.put(Arc::clone(claims));
                vec![Effect::NewerClaims {
                    id: rows.id,
                    newer: newer.clone(),
                }]
            }
            RowState::Replacing { again } => {
                *again = true;
                Vec::new()
            }
            RowState::Refused => self.resubscribe(topic).into_iter().collect(),
            // The next attempt takes the claims in force by then.
            RowState::Retry(_) => Vec::new(),
        }
    }

    /// The token in force has run out or the one that should replace it is no good: the channel is over.
    pub(super) fn token_failed(&mut self, topic: &Arc<str>, error: TokenError, now: Now) -> Vec<Effect> {
        let Some(channel) = self.channels.get(topic) else {
            return Vec::new();
        };
        let unanswered = match &channel.stage {
            Stage::Admission(_) | Stage::Judging(_) => true,
            Stage::Held { reply, .. } | Stage::Replaying { reply, .. } => reply.discard(),
            Stage::Joined => false,
        };
        if unanswered {
            return self.refuse(topic, &JoinError::Token(error), now);
        }
        self.close(topic, &Notice::Token(error), now)
    }

    /// Ends a channel that has been joined, and says why.
    pub(super) fn close(&mut self, topic: &Arc<str>, notice: &Notice, now: Now) -> Vec<Effect> {
        // In front of its ends: what comes in between would be behind its place and yet not sent.
        self.remember(topic);
        self.end_rows(topic);
        if let Some(channel) = self.channels.get_mut(topic) {
            channel.member = None;
        }
        self.notify(topic, notice);
        let Some(channel) = self.take_out(topic) else {
            return Vec::new();
        };
        self.note_if_empty(now);
        self.discard_reply(&channel);
        self.send(protocol::phx_close(self.version, channel.own_ref(), topic));
        channel.leftovers()
    }
}
