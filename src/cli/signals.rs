//! Ctrl-C and its relatives.

use tokio::signal::unix::{SignalKind, signal};

use super::Failure;
use crate::server::Reload;
use crate::shutdown::Shutdown;

/// Cancels `shutdown` at the first of these signals; further ones change nothing, stopping is under way.
pub(super) fn cancel_on(kinds: &[SignalKind], shutdown: &Shutdown) -> Result<(), Failure> {
    for kind in kinds {
        let mut signals = signal(*kind).map_err(Failure::failed)?;
        let shutdown = shutdown.clone();
        // Not tracked: it waits for as long as the process lives.
        tokio::spawn(async move {
            while signals.recv().await.is_some() {
                tracing::info!("stopping");
                shutdown.cancel();
            }
        });
    }
    Ok(())
}

/// Has the policy files and the certificate read again at every SIGHUP.
pub(super) fn reload_on_hangup(reload: &Reload) -> Result<(), Failure> {
    let mut signals = signal(SignalKind::hangup()).map_err(Failure::failed)?;
    let reload = reload.clone();
    // Not tracked: it waits for as long as the process lives.
    tokio::spawn(async move {
        while signals.recv().await.is_some() {
            reload.ask();
        }
    });
    Ok(())
}
