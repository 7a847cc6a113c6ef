//! Channels for a plain request: server-sent events and long polls.
//!
//! One URL names the channels (`query`) and one text how far their reader has come (`place`). Whoever comes back with that text
//! gets what it missed, so nothing is kept here for anybody who is away. A request is a session like that of a WebSocket
//! (`channels`; `batch` is what comes out of it), joined by messages made from the URL before anything is answered (`opening`):
//! what is wrong has a status. `sse` goes on for as long as both sides like (`handoff` is between its task and the HTTP server),
//! `poll` answers once.
//!
//! Not in here: what a message means, as that is the session's, and what was missed, as that is the feed's and the rooms'.

mod admission;
mod batch;
mod channels;
mod frames;
mod handoff;
mod opening;
mod place;
mod poll;
mod progress;
mod query;
mod refusal;
mod sse;

pub(super) use poll::serve as poll;
pub(super) use sse::serve as sse;
