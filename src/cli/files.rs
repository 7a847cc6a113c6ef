//! How many files the system lets this process open: every connection is one.

use rustix::process::{Resource, getrlimit, setrlimit};

/// Files of a server beside its clients' connections: the database's, the listener, the log.
const OTHER_FILES: u64 = 100;

/// Raises the limit as far as it may be, and says so if that many connections do not fit.
pub(super) fn allow(connections: usize) {
    let allowed = raise_limit();
    if let Some(limit) = too_few(connections, allowed) {
        tracing::warn!(
            limit,
            connections,
            "fewer files may be open than limits.connections allows connections: raise the limit (ulimit -n, LimitNOFILE=)"
        );
    }
}

/// The limit from now on; `None` if there is none.
fn raise_limit() -> Option<u64> {
    let mut limit = getrlimit(Resource::Nofile);
    let before = limit.current;
    limit.current = limit.maximum;
    match setrlimit(Resource::Nofile, limit) {
        Ok(()) => limit.current,
        Err(error) => {
            tracing::debug!(%error, "the limit of open files stays as it is");
            before
        }
    }
}

fn too_few(connections: usize, allowed: Option<u64>) -> Option<u64> {
    let wanted = u64::try_from(connections).unwrap_or(u64::MAX);
    allowed.filter(|allowed| *allowed < wanted.saturating_add(OTHER_FILES))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_have_to_fit_beside_the_other_files() {
        assert_eq!(too_few(1_000, Some(1_100)), None);
        assert_eq!(too_few(1_001, Some(1_100)), Some(1_100));
        assert_eq!(too_few(usize::MAX, None), None);
    }

    #[test]
    fn the_limit_is_as_high_as_it_may_be() {
        assert_eq!(raise_limit(), getrlimit(Resource::Nofile).maximum);
    }
}
