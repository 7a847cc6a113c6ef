//! What the claims say to SQL: the settings that sql/rowcast/judge.sql sets, and the role.

use std::sync::Arc;

use crate::auth::Claims;
use crate::expression::{Context, Datum, Evaluated, Expr, Node, Relation, Stop, Ty};
use crate::policy::identity::{email, scope};
use crate::policy::relation::ParamKey;

/// A primitive that everything about claims is computed from. Its number stands in [`Node::Param`] of a parameter's
/// expression.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Setting {
    /// `request.jwt.claims`
    Claims,
    /// `request.jwt.claim.sub`
    Sub,
    /// `request.jwt.claim.role`
    Role,
    /// `request.jwt.claim.email`
    Email,
    /// `current_user`
    User,
    /// `request.jwt.claim`, which nobody sets: NULL.
    Unset,
    /// `realtime.topic`
    Topic,
    /// `request.headers`
    Headers,
}

impl Setting {
    /// By the name of the setting, in which case does not matter.
    pub(super) fn named(name: &str) -> Option<Self> {
        Some(match name.to_ascii_lowercase().as_str() {
            "request.jwt.claims" => Self::Claims,
            "request.jwt.claim.sub" => Self::Sub,
            "request.jwt.claim.role" => Self::Role,
            "request.jwt.claim.email" => Self::Email,
            "request.jwt.claim" => Self::Unset,
            "realtime.topic" => Self::Topic,
            "request.headers" => Self::Headers,
            _ => return None,
        })
    }

    /// As a leaf of an expression.
    pub(super) fn expr(self) -> Expr {
        let ty = if self == Self::User { Ty::Name } else { Ty::Text };
        Expr::new(Node::Param(self as usize), ty)
    }
}

/// Whether an expression reads nothing of who asks, but the scope that they ask in.
pub(super) fn is_of_channel(expr: &Expr) -> bool {
    let scope = [Setting::Topic as usize, Setting::Headers as usize];
    !expr.contains(&mut |part| matches!(part.node, Node::Param(setting) if !scope.contains(&setting)))
}

/// The settings of somebody, by [`Setting`].
#[derive(Debug)]
pub(super) struct Settings([Option<Arc<str>>; 8]);

impl Settings {
    pub(super) fn of(claims: &Claims) -> Self {
        let empty = || Some(Arc::from(""));
        let (topic, headers) = scope(claims.scope.as_ref());
        Self([
            Some(Arc::clone(&claims.json)),
            claims.sub.clone().or_else(empty),
            Some(Arc::clone(&claims.role)),
            email(&claims.json).map(Arc::from).or_else(empty),
            Some(Arc::clone(&claims.role)),
            None,
            Some(topic.into()),
            Some(headers.into()),
        ])
    }
}

impl Context for Settings {
    fn column(&self, index: usize) -> Evaluated {
        Err(Stop::Missing(index))
    }
    fn param(&self, index: usize) -> Evaluated {
        let setting = self.0.get(index).ok_or_else(|| Stop::ask("a setting"))?;
        Ok(setting.clone().map(Datum::Text))
    }
    fn relation(&self, _: usize) -> Result<&Relation, Stop> {
        Err(Stop::ask("a subquery among claims"))
    }
    fn now(&self) -> i64 {
        0
    }
}

/// A parameter's value and its key. One whose value is not known is nobody else's.
pub(super) fn bound(param: &Expr, settings: &Settings, claims: &Arc<Claims>) -> (Evaluated, ParamKey) {
    let unknown = |stop: Stop| match stop {
        Stop::Raise(_) | Stop::Raised(_) => (Err(stop.clone()), ParamKey::Stop(stop)),
        Stop::Ask(_) | Stop::Unavailable(_) | Stop::Missing(_) => {
            (Err(stop), ParamKey::Unknown(Arc::clone(claims)))
        }
    };
    match param.evaluate(settings) {
        Ok(None) => (Ok(None), ParamKey::Null),
        Ok(Some(datum)) => match datum.print(&param.ty) {
            Ok(text) => (Ok(Some(datum)), ParamKey::Text(text.into())),
            Err(stop) => unknown(stop),
        },
        Err(stop) => unknown(stop),
    }
}
