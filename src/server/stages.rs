//! How a server ends, in order.

use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};

use crate::shutdown::{Drain, Shutdown};

/// What is left for requests under way and for clients that do not answer a close, behind the last client's turn. Whoever
/// sends half a request would otherwise be waited for forever.
const FAREWELL: Duration = Duration::from_secs(2);
/// What tasks get to end in, however late it is by then.
const LEAST: Duration = Duration::from_millis(500);

/// How long each stage may take.
#[derive(Clone, Copy, Debug)]
pub(super) struct Times {
    /// Between the word to load balancers and the first client.
    pub(super) notice: Duration,
    /// Between the first client and the last.
    pub(super) drain: Duration,
    /// All of it.
    pub(super) grace: Duration,
}

/// The parts of a server that stop one after another.
#[derive(Clone, Debug)]
pub(super) struct Stages {
    times: Times,
    /// Clients, in turns.
    pub(super) drain: Drain,
    /// New connections.
    pub(super) accepting: Shutdown,
    /// The replication stream.
    pub(super) stream: Shutdown,
    /// Everything else.
    pub(super) rest: Shutdown,
}

impl Stages {
    pub(super) fn new(times: Times) -> Self {
        let rest = Shutdown::new();
        Self {
            times,
            drain: Drain::new(&rest, times.drain),
            accepting: rest.part(),
            stream: rest.part(),
            rest,
        }
    }

    /// Once `asked`, goes through the stages up to where clients have left, or had their time; `serving` resolves when the
    /// last HTTP connection has ended, and `keep` when it is written down where clients are. Returns when everything has to be
    /// over.
    pub(super) async fn run(
        &self,
        asked: &Shutdown,
        serving: impl Future<Output = ()>,
        keep: impl Future<Output = ()>,
    ) -> Instant {
        let serving = async {
            serving.await;
            // Clients of ours may have been taken over from it.
            self.drain.empty().await;
        };
        tokio::pin!(serving);
        tokio::select! {
            // The listener broke, or nobody wants it any more.
            () = &mut serving => return Instant::now() + self.times.grace,
            () = asked.cancelled() => {}
        }
        let end = Instant::now() + self.times.grace;
        // First the load balancers: until they have looked, clients come, and are served as ever.
        self.drain.announce();
        tracing::info!(notice = ?self.times.notice, drain = ?self.times.drain, "stopping");
        tokio::select! {
            () = &mut serving => {}
            () = sleep(self.times.notice) => {}
        }
        // From here on nobody new comes. Connections without a request end, requests under way are answered.
        self.accepting.cancel();
        // The slot goes before the clients: a standby needs a moment to take it, and whoever is sent away should find a
        // server where rows flow. What those who are still here would have got meanwhile, they get there, from the cursor
        // that they have kept. What has left the replay window is confirmed with the last word of the stream.
        self.stream.cancel();
        // Whoever is sent away finds its place where it comes to.
        keep.await;
        self.drain.begin();
        let last = (self.times.drain + FAREWELL).min(end.saturating_duration_since(Instant::now()));
        if timeout(last, serving).await.is_err() {
            tracing::info!("clients were left that did not go");
        }
        end
    }

    /// Stops what is left, which gets until `end`.
    pub(super) async fn finish(&self, end: Instant) -> Result<(), crate::shutdown::StillRunning> {
        self.rest.cancel();
        let left = end.saturating_duration_since(Instant::now());
        self.rest.wait(left.max(LEAST)).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Duration = Duration::from_secs(30);

    fn stages(notice: Duration) -> Stages {
        Stages::new(Times {
            notice,
            drain: Duration::from_millis(100),
            grace: PATIENCE,
        })
    }

    #[tokio::test]
    async fn load_balancers_then_the_slot_then_clients() {
        let stages = stages(Duration::from_millis(300));
        let asked = Shutdown::new();
        let guest = stages.drain.enter();
        let running = tokio::spawn({
            let (stages, asked) = (stages.clone(), asked.clone());
            async move {
                let serving = stages.accepting.clone();
                let ready = std::future::ready(());
                stages
                    .run(&asked, async move { serving.cancelled().await }, ready)
                    .await
            }
        });
        tokio::task::yield_now().await;
        assert!(!stages.drain.is_announced());
        asked.cancel();
        while !stages.drain.is_announced() {
            tokio::task::yield_now().await;
        }
        assert!(!stages.accepting.is_cancelled() && !stages.stream.is_cancelled());
        assert!(!stages.drain.has_begun());
        stages.drain.begun().await;
        assert!(stages.accepting.is_cancelled() && stages.stream.is_cancelled());
        assert!(!running.is_finished(), "somebody is there");
        assert!(!stages.rest.is_cancelled(), "for whom the rest goes on");
        drop(guest);
        stages.finish(running.await.unwrap()).await.unwrap();
        assert!(stages.rest.is_cancelled());
    }

    #[tokio::test]
    async fn who_does_not_go_is_not_waited_for_for_ever() {
        let stages = stages(Duration::ZERO);
        let asked = Shutdown::new();
        let _guest = stages.drain.enter();
        asked.cancel();
        stages
            .run(&asked, std::future::pending(), std::future::ready(()))
            .await;
        assert!(stages.drain.has_begun() && !stages.rest.is_cancelled());
    }
}
