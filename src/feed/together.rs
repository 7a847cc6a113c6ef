//! One call for all who ask at once: who asks while another call is under way waits for the next.

use tokio::sync::mpsc;

use crate::shutdown::Shutdown;

/// The way to the task that serves them. Cheap to clone.
#[derive(Debug)]
pub(super) struct Together<R>(mpsc::Sender<R>);

impl<R> Clone for Together<R> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<R: Send + 'static> Together<R> {
    /// Starts the task. So many callers may wait at once; more of them wait to be queued. `serve` answers those it is
    /// given, and is given up when the server stops.
    pub(super) fn start<F>(
        name: &'static str,
        waiting: usize,
        shutdown: &Shutdown,
        mut serve: impl FnMut(Vec<R>) -> F + Send + 'static,
    ) -> Self
    where
        F: Future<Output = ()> + Send,
    {
        let (requests, mut incoming) = mpsc::channel(waiting);
        let stopping = shutdown.clone();
        shutdown.spawn(name, async move {
            let serving = async {
                let mut callers = Vec::new();
                while incoming.recv_many(&mut callers, waiting).await > 0 {
                    serve(std::mem::take(&mut callers)).await;
                }
            };
            tokio::select! {
                () = serving => {}
                () = stopping.cancelled() => {}
            }
        });
        Self(requests)
    }

    /// Asks; false if nobody is left to answer.
    pub(super) async fn ask(&self, request: R) -> bool {
        self.0.send(request).await.is_ok()
    }
}
