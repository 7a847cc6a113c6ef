//! What Postgres makes of a condition on rows before it evaluates any (`canonicalize_qual`): which operands are evaluated,
//! and may raise, follows from it.

use crate::expression::{Expr, Node, Phase};

/// In its ANDs and ORs a constant NULL is as good as false, and what stands beside it in an AND is not evaluated. What all
/// operands of an OR demand is demanded once, in front of it.
pub(super) fn qualification(expr: Expr) -> Expr {
    match canonical(expr) {
        Expr {
            node: Node::And(all), ..
        } => Expr::and(all.into_iter().map(searching).collect(), Phase::Planned),
        expr => searching(expr),
    }
}

fn canonical(expr: Expr) -> Expr {
    match expr.node {
        Node::And(all) => {
            let all: Vec<Expr> = all.into_iter().map(canonical).collect();
            if all.iter().any(refused) {
                return Expr::bool(Some(false));
            }
            Expr::and(all, Phase::Planned)
        }
        Node::Or(any) => {
            let any = any.into_iter().map(canonical);
            let any = Expr::or(any.filter(|part| !refused(part)).collect(), Phase::Planned);
            match any.node {
                Node::Or(any) => factored(any),
                _ => any,
            }
        }
        Node::Const(None) => Expr::bool(Some(false)),
        _ => expr,
    }
}

/// In an OR or an AND, an IN that comes to NULL is as good as false where Postgres hashes what it looks through
/// (`unknownEqFalse`), which is for it to choose: nobody here knows whether what stands behind one in an AND is evaluated.
/// At the top that does not matter, what is not true there is hidden either way.
fn searching(expr: Expr) -> Expr {
    match expr.node {
        Node::Or(any) => Expr::or(any.into_iter().map(searching).collect(), Phase::Planned),
        Node::And(all) => {
            let mut behind = false;
            let all = all.into_iter().map(|part| {
                let search = part.contains(&mut |part| matches!(part.node, Node::In { exists: false, .. }));
                let part = match behind && !part.is_harmless() {
                    true => Expr::unsure(part),
                    false => searching(part),
                };
                behind |= search;
                part
            });
            Expr::and(all.collect(), Phase::Planned)
        }
        _ => expr,
    }
}

fn refused(part: &Expr) -> bool {
    matches!(part.as_truth(), Some(Some(false) | None))
}

/// The OR of these, with the operands that all of them have in common in an AND in front (`process_duplicate_ors`). Where
/// nothing but those is left of one, the others do not matter.
fn factored(any: Vec<Expr>) -> Expr {
    let conjuncts: Vec<Vec<(String, Expr)>> = any.iter().map(printed).collect();
    let mut common: Vec<(String, Expr)> = Vec::new();
    for (print, conjunct) in conjuncts.iter().min_by_key(|all| all.len()).into_iter().flatten() {
        if !has(&common, print) && conjuncts.iter().all(|all| has(all, print)) {
            common.push((print.clone(), conjunct.clone()));
        }
    }
    if common.is_empty() {
        return Expr::or(any, Phase::Planned);
    }
    let left = conjuncts.into_iter().map(|all| {
        let left = all.into_iter().filter(|(print, _)| !has(&common, print));
        let left: Vec<Expr> = left.map(|(_, conjunct)| conjunct).collect();
        Expr::and(left, Phase::Planned)
    });
    let left: Vec<Expr> = left.collect();
    let mut all: Vec<Expr> = common.into_iter().map(|(_, conjunct)| conjunct).collect();
    // An AND of nothing is true.
    if left.iter().all(|part| part.as_truth().is_none()) {
        all.push(Expr::or(left, Phase::Planned));
    }
    Expr::and(all, Phase::Planned)
}

/// What an operand demands, each with what tells equal ones: their types, names and values are all in it.
fn printed(operand: &Expr) -> Vec<(String, Expr)> {
    let all = match &operand.node {
        Node::And(all) => all.as_slice(),
        _ => std::slice::from_ref(operand),
    };
    all.iter().map(|one| (format!("{one:?}"), one.clone())).collect()
}

fn has(all: &[(String, Expr)], print: &str) -> bool {
    all.iter().any(|(other, _)| other == print)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::expression::Ty;

    fn column(index: usize) -> Expr {
        Expr::new(Node::Column(index), Ty::Bool)
    }

    fn and(all: &[usize]) -> Expr {
        Expr::and(all.iter().copied().map(column).collect(), Phase::Planned)
    }

    fn or(any: Vec<Expr>) -> Expr {
        Expr::or(any, Phase::Planned)
    }

    #[test]
    fn what_all_demand_is_demanded_once() {
        let shown = |expr: Expr| format!("{expr:?}");
        for (condition, expected) in [
            (
                or(vec![and(&[1, 2]), and(&[3, 2, 2])]),
                Expr::and(vec![column(2), or(vec![column(1), column(3)])], Phase::Planned),
            ),
            // Of one nothing else is left: the other cannot raise.
            (or(vec![and(&[1, 2]), column(2)]), column(2)),
            (or(vec![column(2), and(&[2, 1, 3])]), column(2)),
            (or(vec![and(&[1, 2]), and(&[2, 1])]), and(&[1, 2])),
            (
                or(vec![and(&[1, 2]), column(3), column(2)]),
                or(vec![and(&[1, 2]), column(3), column(2)]),
            ),
            // A constant NULL is not true either.
            (
                or(vec![
                    Expr::and(vec![column(1), Expr::bool(None)], Phase::Planned),
                    column(2),
                ]),
                column(2),
            ),
        ] {
            let text = shown(condition.clone());
            assert_eq!(shown(qualification(condition)), shown(expected), "{text}");
        }
    }
}
