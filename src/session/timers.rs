//! What happens because time passes.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::channel::{AtLimit, Channel, RowState, Rows, Stage};
use super::{Effect, Now, Session};
use crate::auth::TokenError;
use crate::protocol::errors::{Close, JoinError, Notice};

/// The longest sleep until a token's expiry, so that a wall clock that was set meanwhile is noticed.
const CLOCK_CHECK: Duration = Duration::from_secs(300);

/// What has come due for a channel, most final first.
enum Due {
    Expired {
        seconds_ago: i64,
    },
    ReplyLimit(AtLimit),
    Retry,
    /// Broadcasts from the database do not flow yet.
    NotReady,
    /// The token runs out in so many seconds.
    Warning {
        seconds: i64,
    },
}

impl Session {
    /// Does what has come due. Call it at [`Session::next_wake`]; earlier or later does no harm.
    pub fn tick(&mut self, now: Now) -> Vec<Effect> {
        while self.delayed.front().is_some_and(|(due, _)| *due <= now.instant) {
            if let Some((_, frame)) = self.delayed.pop_front() {
                let _ = self.outbox.push(frame);
            }
        }
        let warning = self.context.limits.expiry_warning;
        let due: Vec<_> = self
            .channels
            .iter()
            .filter_map(|(topic, channel)| Some((Arc::clone(topic), channel.due(warning, now)?)))
            .collect();
        self.paused_until = self.paused_until.filter(|until| *until > now.instant);
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
        let warning = self.context.limits.expiry_warning;
        let channels = self
            .channels
            .values()
            .filter_map(|channel| channel.next_wake(warning, now));
        let idle = self.last_heard + self.context.limits.idle_timeout;
        let delayed = self.delayed.front().map(|(due, _)| *due);
        channels
            .chain(delayed)
            .chain(self.paused_until)
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
            Due::NotReady => self.close(topic, &Notice::ReplicationLate, now),
            Due::Warning { seconds } => {
                if let Some(channel) = self.channels.get_mut(topic) {
                    channel.warned = true;
                }
                self.notify(topic, &Notice::TokenExpires { seconds });
                Vec::new()
            }
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
    fn due(&self, warning: Duration, now: Now) -> Option<Due> {
        let left = self
            .claims
            .as_ref()
            .map(|claims| claims.exp.saturating_sub(now.unix_seconds));
        if let Some(left) = left
            && left <= 0
        {
            return Some(Due::Expired {
                seconds_ago: left.saturating_neg(),
            });
        }
        if let Stage::Held { until, then, .. } = self.stage
            && until <= now.instant
        {
            return Some(Due::ReplyLimit(then));
        }
        if self.is_joined() && self.ready_by.is_some_and(|by| by <= now.instant) {
            return Some(Due::NotReady);
        }
        if let Some(RowState::Retry(at)) = self.rows.as_ref().map(|rows| rows.state)
            && at <= now.instant
        {
            return Some(Due::Retry);
        }
        left.filter(|left| self.may_be_warned() && left.unsigned_abs() <= warning.as_secs())
            .map(|seconds| Due::Warning { seconds })
    }

    fn next_wake(&self, warning: Duration, now: Now) -> Option<Instant> {
        let expiry = self.claims.as_ref().map(|claims| {
            let mut seconds = claims.exp.saturating_sub(now.unix_seconds).max(0).unsigned_abs();
            if self.may_be_warned() {
                seconds = seconds.saturating_sub(warning.as_secs());
            }
            now.instant + Duration::from_secs(seconds).min(CLOCK_CHECK)
        });
        let limit = match self.stage {
            Stage::Held { until, .. } => Some(until),
            _ => None,
        };
        let retry = match self.rows.as_ref().map(|rows| rows.state) {
            Some(RowState::Retry(at)) => Some(at),
            _ => None,
        };
        let ready = self.ready_by.filter(|_| self.is_joined());
        [expiry, limit, retry, ready].into_iter().flatten().min()
    }

    /// Clients may take any `system` message with status `ok` for the one that says their rows are live: who waits for
    /// that is told nothing else.
    fn may_be_warned(&self) -> bool {
        let live = |rows: &Rows| matches!(rows.state, RowState::Live | RowState::Replacing { .. });
        !self.warned && self.is_joined() && self.rows.as_ref().is_none_or(live)
    }
}
