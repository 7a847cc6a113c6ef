use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::{Frame, Outbox};

/// A frame that several parties may send and exactly one does.
///
/// The reply to a join is one: it goes out when the subscription is live, or when its time is up, whichever is first.
/// It is queued while the lock is held, so whoever comes second and finds it gone may queue what belongs behind it.
#[derive(Clone, Debug)]
pub struct HeldFrame(Arc<Mutex<State>>);

#[derive(Debug)]
enum State {
    Held(Held),
    Sent,
    Discarded,
}

/// A frame and what follows it at once.
#[derive(Debug)]
struct Held {
    frame: Frame,
    followers: Vec<Frame>,
}

impl HeldFrame {
    /// Holds a frame.
    pub fn new(frame: Frame) -> Self {
        Self(Arc::new(Mutex::new(State::Held(Held {
            frame,
            followers: Vec::new(),
        }))))
    }

    /// Puts another frame in its place. Returns whether it was still held.
    pub fn replace(&self, frame: Frame) -> bool {
        let State::Held(held) = &mut *self.lock() else {
            return false;
        };
        held.frame = frame;
        true
    }

    /// Lets more frames follow it, directly behind it. Returns whether it was still held.
    pub fn append(&self, frames: Vec<Frame>) -> bool {
        let State::Held(held) = &mut *self.lock() else {
            return false;
        };
        held.followers.extend(frames);
        true
    }

    /// Queues the frame unless it has been sent or discarded. Once this returns it is in front of anything the caller
    /// queues next. Returns whether this call was the one.
    pub fn send(&self, outbox: &Outbox) -> bool {
        let mut state = self.lock();
        let Held { frame, followers } = match std::mem::replace(&mut *state, State::Sent) {
            State::Held(held) => held,
            before => {
                *state = before;
                return false;
            }
        };
        for frame in std::iter::once(frame).chain(followers) {
            // A full outbox has told its owner; there is nothing to add here.
            let _ = outbox.push(frame);
        }
        true
    }

    /// Whether nobody has sent or discarded it yet.
    pub fn is_held(&self) -> bool {
        matches!(*self.lock(), State::Held(_))
    }

    /// Whether it has been sent: what the caller queues next comes behind it.
    pub fn was_sent(&self) -> bool {
        matches!(*self.lock(), State::Sent)
    }

    /// Drops the frame. Returns whether it was still held: if so, nobody has sent it or ever will.
    pub fn discard(&self) -> bool {
        let mut state = self.lock();
        let held = matches!(*state, State::Held(_));
        if held {
            *state = State::Discarded;
        }
        held
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;
    use crate::hub::{Bounds, Drained};

    fn frame(text: &str) -> Frame {
        Frame::Text(text.to_owned().into())
    }

    #[test]
    fn one_of_two_sends_and_the_follower_comes_behind() {
        for _ in 0..200 {
            let outbox = Outbox::new(Bounds {
                frames: 10,
                bytes: 100,
            });
            let held = HeldFrame::new(frame("reply"));
            let feed = std::thread::spawn({
                let (outbox, held) = (outbox.clone(), held.clone());
                move || {
                    let first = held.send(&outbox);
                    outbox.push(frame("live")).unwrap();
                    first
                }
            });
            let session_was_first = held.send(&outbox);
            assert_ne!(feed.join().unwrap(), session_was_first);
            let Some(Drained::Frames(frames)) = outbox.drain().now_or_never() else {
                panic!("nothing queued")
            };
            assert_eq!(frames, [frame("reply"), frame("live")]);
        }
    }

    #[test]
    fn what_follows_leaves_right_behind_it() {
        let outbox = Outbox::new(Bounds {
            frames: 10,
            bytes: 100,
        });
        let held = HeldFrame::new(frame("reply"));
        assert!(held.append(vec![frame("one"), frame("two")]));
        assert!(held.replace(frame("first reply")) && held.replace(frame("reply")));
        assert!(!held.was_sent() && held.send(&outbox) && held.was_sent());
        assert!(!held.replace(frame("late")));
        assert!(!held.append(vec![frame("late")]) && !held.discard() && held.was_sent());
        let Some(Drained::Frames(frames)) = outbox.drain().now_or_never() else {
            panic!("nothing queued")
        };
        assert_eq!(frames, [frame("reply"), frame("one"), frame("two")]);
    }

    #[test]
    fn a_discarded_frame_is_never_sent() {
        let outbox = Outbox::new(Bounds {
            frames: 10,
            bytes: 100,
        });
        let held = HeldFrame::new(frame("reply"));
        assert!(held.is_held());
        assert!(held.discard());
        assert!(!held.is_held() && !held.discard());
        assert!(!held.send(&outbox) && !held.was_sent());
        assert!(outbox.drain().now_or_never().is_none());
    }
}
