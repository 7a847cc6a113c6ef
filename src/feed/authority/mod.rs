//! Who may do what on private channels: the policies on `realtime.messages`, judged by the same engine as rows, and judged
//! again as soon as something changes that they depend on.
//!
//! A task of its own beside the pump: rows that wait for the database must not keep anybody from joining.

use std::sync::Arc;

use crate::auth::Claims;
use crate::policy::Rights;
use crate::subscription::SubscriberId;

/// Why rights could not be told. `Display` is for the log.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AuthorityError {
    /// The database does not answer.
    #[error("the database could not be asked: {0}")]
    Unavailable(String),
    /// The policies took too long.
    #[error("the policies were not evaluated within the time limit")]
    Canceled,
    /// More is asked than the database answers: all its connections are busy.
    #[error("too many questions wait for the database")]
    Busy,
}

/// Who wants to know.
#[derive(Clone, Debug)]
pub struct Seeker {
    /// Set for members: what was judged for them is judged again until [`super::Feed::forget_rights`], and they are told
    /// ([`super::Feed::rights_changed`]). Asking again with the same id adds to what is judged, and replaces the claims.
    pub id: Option<SubscriberId>,
    /// With the channel's topic and the request's headers as their scope.
    pub claims: Arc<Claims>,
}

impl super::Feed {
    /// Which of `wanted` somebody has. A policy that raises says no.
    ///
    /// # Errors
    /// See [`AuthorityError`]; nothing is registered then that was not before.
    pub async fn rights(&self, _seeker: Seeker, _wanted: Rights) -> Result<Rights, AuthorityError> {
        Err(AuthorityError::Unavailable("not built".to_owned()))
    }

    /// Waits until what a member was told last is no longer so; returns what it has now, of all that was judged for it.
    /// Never returns for one that is forgotten.
    pub async fn rights_changed(&self, _id: SubscriberId) -> Rights {
        std::future::pending().await
    }

    /// Forgets a member. Never waits; unknown ids are ignored.
    pub fn forget_rights(&self, _id: SubscriberId) {}
}
