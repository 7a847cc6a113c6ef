use tokio_util::sync::CancellationToken;

/// Ends an HTTP connection whose client does not read, from within one of its requests: put into a request's extensions by the
/// one who serves the connection. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Hangup(CancellationToken);

impl Hangup {
    /// The connection is to end, whatever it is doing.
    pub fn now(&self) {
        self.0.cancel();
    }

    /// Resolves once that has been asked for.
    pub async fn asked(&self) {
        self.0.cancelled().await;
    }
}
