//! Takes what only the claims decide out of an expression.

use crate::expression::{Expr, Node, Phase};

/// Reads nothing but claims, and has a value or raises.
pub(super) fn is_of_claims(expr: &Expr) -> bool {
    if expr.as_constant().is_some() {
        return false;
    }
    !expr.contains(&mut |part| {
        matches!(
            part.node,
            Node::Column(_)
                | Node::Stop(_)
                | Node::Now
                | Node::In { .. }
                | Node::Exists(_)
                | Node::Scalar(_)
                | Node::ArrayOf(_)
        )
    })
}

/// Reads some setting.
pub(super) fn reads_claims(expr: &Expr) -> bool {
    expr.contains(&mut |part| matches!(part.node, Node::Param(_)))
}

/// The expression with its largest parts that only claims decide made parameters; `param` numbers them.
pub(super) fn lift(expr: &Expr, param: &mut dyn FnMut(&Expr) -> usize) -> Expr {
    expr.rebuilt(Phase::Executed, &mut |part| {
        is_of_claims(part).then(|| Expr {
            node: Node::Param(param(part)),
            ..part.clone()
        })
    })
}
