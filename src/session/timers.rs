//! What happens because time passes.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::channel::{AtLimit, Channel, RowState, Stage};
use super::{Effect, Now, Session};
use crate::auth::TokenError;
use crate::protocol::errors::{Close, JoinError};

/// The longest sleep until a token's expiry, so that a wall clock that was set meanwhile is noticed.
const CLOCK_CHECK: Duration = Duration::from_secs(300);

/// What has come due for a channel, most final first.
enum Due {
    Expired { seconds_ago: i64 },
    ReplyLimit(AtLimit),
    Retry,
}

impl Session {
    /// Does what has come due. Call it at [`Session::next_wake`]; earlier or later does no harm.
    pub fn tick(&mut self, now: Now) -> Vec<Effect> {
        while self.delayed.front().is_some_and(|(due, _)| *due <= now.instant) {
            if let Some((_, frame)) = self.delayed.pop_front() {
                let _ = self.outbox.push(frame);
            }
        }
        let due: Vec<_> = self
            .channels
            .iter()
            .filter_map(|(topic, channel)| Some((Arc::clone(topic), channel.due(now)?)))
            .collect();
        let mut effects = Vec::new();
        for (topic, due) in due {
            effects.extend(self.perform(&topic, due, now));
        }
        if now.instant >= self.last_heard + self.context.limits.idle_timeout {
            effects.push(Effect::Close(Close::Idle));
        } else if self.sweep_at().is_some_and(|at| at <= now.instant) {
            effects.push(Effect::Close(Close::NoChannels));
        }
        effects
    }

    /// When [`Session::tick`] next has something to do.
    pub fn next_wake(&self, now: Now) -> Instant {
        let channels = self
            .channels
            .values()
            .filter_map(|channel| channel.next_wake(now));
        let idle = self.last_heard + self.context.limits.idle_timeout;
        let delayed = self.delayed.front().map(|(due, _)| *due);
        channels
            .chain(delayed)
            .chain(self.sweep_at())
            .fold(idle, Instant::min)
    }

    fn sweep_at(&self) -> Option<Instant> {
        Some(self.empty_since? + self.context.limits.no_channel_timeout)
    }

    fn perform(&mut self, topic: &Arc<str>, due: Due, now: Now) -> Vec<Effect> {
        match due {
            Due::Expired { seconds_ago } => {
                self.token_failed(topic, TokenError::Expired { seconds_ago }, now)
            }
            Due::ReplyLimit(AtLimit::Reply) => {
                self.answer(topic);
                Vec::new()
            }
            Due::ReplyLimit(AtLimit::Refuse { waited_ms }) => self.waited_too_long(topic, waited_ms, now),
            Due::Retry => self.resubscribe(topic).into_iter().collect(),
        }
    }

    fn waited_too_long(&mut self, topic: &Arc<str>, ms: u128, now: Now) -> Vec<Effect> {
        let held = match self.channels.get(topic).map(|channel| &channel.stage) {
            Some(Stage::Held { reply, .. }) => reply.discard(),
            _ => return Vec::new(),
        };
        if held {
            return self.refuse(topic, &JoinError::SubscribeTimeout { ms }, now);
        }
        // It went live in this very moment; the outcome is on its way.
        self.answer(topic);
        Vec::new()
    }
}

impl Channel {
    fn due(&self, now: Now) -> Option<Due> {
        if let Some(claims) = &self.claims
            && claims.exp <= now.unix_seconds
        {
            return Some(Due::Expired {
                seconds_ago: now.unix_seconds - claims.exp,
            });
        }
        if let Stage::Held { until, then, .. } = self.stage
            && until <= now.instant
        {
            return Some(Due::ReplyLimit(then));
        }
        match self.rows.as_ref()?.state {
            RowState::Retry(at) if at <= now.instant => Some(Due::Retry),
            _ => None,
        }
    }

    fn next_wake(&self, now: Now) -> Option<Instant> {
        let expiry = self.claims.as_ref().map(|claims| {
            let seconds = claims.exp.saturating_sub(now.unix_seconds).max(0);
            now.instant + Duration::from_secs(seconds.unsigned_abs()).min(CLOCK_CHECK)
        });
        let limit = match self.stage {
            Stage::Held { until, .. } => Some(until),
            _ => None,
        };
        let retry = match self.rows.as_ref().map(|rows| rows.state) {
            Some(RowState::Retry(at)) => Some(at),
            _ => None,
        };
        [expiry, limit, retry].into_iter().flatten().min()
    }
}
