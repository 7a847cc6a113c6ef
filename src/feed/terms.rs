//! Whether a request to subscribe can be served, as the catalog is now.

use std::sync::Arc;
use std::time::Instant;

use super::keeper::Snapshot;
use super::request::stopping;
use super::roster::Bound;
use super::{Feed, SubscribeError, unpublished};
use crate::auth::Claims;
use crate::protocol::Binding;
use crate::subscription;

impl Feed {
    /// Settles every binding against the catalog and lets Postgres check the filters.
    pub(super) async fn check(
        &self,
        claims: &Claims,
        bindings: &[Binding],
    ) -> Result<(Arc<Snapshot>, Vec<Bound>), SubscribeError> {
        let asked = Instant::now();
        let mut snapshot = self.role(claims).await?;
        match self.bind(&snapshot, claims, bindings).await {
            // The table may have been published a moment ago: look again before saying no.
            Err(SubscribeError::Refused(_)) if self.keeper.refresh_since(asked).await => {
                snapshot = self.role(claims).await?;
                match self.bind(&snapshot, claims, bindings).await {
                    Err(SubscribeError::Refused(why)) => {
                        Err(self.refused(why, claims, bindings, &snapshot).await)
                    }
                    other => other.map(|bindings| (snapshot, bindings)),
                }
            }
            other => other.map(|bindings| (snapshot, bindings)),
        }
    }

    /// A refusal, in better words if there are any.
    async fn refused(
        &self,
        why: String,
        claims: &Claims,
        bindings: &[Binding],
        snapshot: &Snapshot,
    ) -> SubscribeError {
        let role = &claims.role;
        if let (Some(access), Ok(client)) = (snapshot.roles.get(role), self.keeper.client().await)
            && let Some(refusal) =
                unpublished::explain(&client, bindings, &snapshot.catalog, (role, access)).await
        {
            return SubscribeError::Refused(refusal.to_string());
        }
        SubscribeError::Refused(why)
    }

    /// The current snapshot, with what this role may read in it.
    pub(super) async fn role(&self, claims: &Claims) -> Result<Arc<Snapshot>, SubscribeError> {
        match self.keeper.with_role(&claims.role).await {
            Ok(Some(snapshot)) => Ok(snapshot),
            Ok(None) => Err(SubscribeError::Refused(format!(
                "role \"{}\" does not exist",
                claims.role
            ))),
            Err(error) => Err(SubscribeError::Unavailable(error.to_string())),
        }
    }

    async fn bind(
        &self,
        snapshot: &Snapshot,
        claims: &Claims,
        bindings: &[Binding],
    ) -> Result<Vec<Bound>, SubscribeError> {
        let Some(access) = snapshot.roles.get(&claims.role) else {
            return Err(stopping());
        };
        let mut bound = Vec::with_capacity(bindings.len());
        for binding in bindings {
            let filter = self.keeper.filter(binding, snapshot, access).await?;
            subscription::resolve(binding, &filter, &snapshot.catalog, access)
                .map_err(|refusal| SubscribeError::Refused(refusal.to_string()))?;
            bound.push(Bound {
                binding: binding.clone(),
                filter,
            });
        }
        Ok(bound)
    }
}
