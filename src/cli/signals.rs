//! Ctrl-C and its relatives.

use tokio::signal::unix::{SignalKind, signal};

use super::Failure;
use crate::server::Reload;
use crate::shutdown::Shutdown;

/// What a second signal does.
#[derive(Clone, Copy, Debug)]
pub(super) enum Again {
    /// Nothing: stopping is under way, and would leave something behind.
    Waits,
    /// Ends the process at once: who asks twice has had enough of waiting for clients.
    Ends,
}

/// Cancels `shutdown` at the first of these signals.
pub(super) fn cancel_on(kinds: &[SignalKind], shutdown: &Shutdown, again: Again) -> Result<(), Failure> {
    for kind in kinds.iter().copied() {
        let mut signals = signal(kind).map_err(Failure::failed)?;
        let shutdown = shutdown.clone();
        // Not tracked: it waits for as long as the process lives.
        tokio::spawn(async move {
            while signals.recv().await.is_some() {
                match again {
                    Again::Ends if shutdown.is_cancelled() => {
                        tracing::warn!("asked once more to stop, ending at once");
                        // As of a process that the signal has ended.
                        std::process::exit(128 + kind.as_raw_value());
                    }
                    _ => shutdown.cancel(),
                }
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
