//! Nodes of constants become constants, as Postgres' planner makes them (`eval_const_expressions`).

use std::sync::Arc;

use super::{
    Builtin, Collation, Comparison, Context, Datum, ElementTest, Evaluated, Expr, Is, Node, Relation,
};
use super::{Stop, Ty};

/// What may be left out because the rest decides without it, although evaluating it could raise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Postgres plans the expression as it stands, and leaves out what its planner leaves out.
    Planned,
    /// It may or may not see these constants while it plans (inside a function, behind `(select …)`): where that could
    /// make a difference, only it can say.
    Unsure,
    /// It sees the constants only while it executes, from left to right: nothing is left out.
    Executed,
}

/// A context of nothing.
struct Nothing;

impl Context for Nothing {
    fn column(&self, index: usize) -> Evaluated {
        Err(Stop::Missing(index))
    }
    fn param(&self, _: usize) -> Evaluated {
        Err(Stop::ask("a parameter among constants"))
    }
    fn relation(&self, _: usize) -> Result<&Relation, Stop> {
        Err(Stop::ask("a subquery among constants"))
    }
    fn now(&self) -> i64 {
        0
    }
}

impl Expr {
    /// A node of this type, where collations do not matter.
    pub fn new(node: Node, ty: Ty) -> Self {
        let collation = if ty == Ty::Name {
            Collation::C
        } else {
            Collation::Default
        };
        Self { node, ty, collation }
    }

    /// A constant.
    pub fn constant(value: Option<Datum>, ty: Ty) -> Self {
        Self::new(Node::Const(value), ty)
    }

    /// A truth value.
    pub fn bool(value: Option<bool>) -> Self {
        Self::constant(value.map(Datum::Bool), Ty::Bool)
    }

    /// A condition that has no value.
    pub fn stop(stop: Stop) -> Self {
        Self::new(Node::Stop(stop), Ty::Bool)
    }

    /// Its value, if it is a constant.
    pub fn as_constant(&self) -> Option<&Option<Datum>> {
        match &self.node {
            Node::Const(value) => Some(value),
            _ => None,
        }
    }

    /// Its truth value, if it is a constant.
    pub fn as_truth(&self) -> Option<Option<bool>> {
        match &self.node {
            Node::Const(None) => Some(None),
            Node::Const(Some(Datum::Bool(value))) => Some(Some(*value)),
            _ => None,
        }
    }

    /// Is a constant NULL.
    pub fn is_null(&self) -> bool {
        matches!(self.node, Node::Const(None))
    }

    /// Evaluating it cannot make Postgres raise.
    pub fn is_harmless(&self) -> bool {
        match &self.node {
            Node::Const(_) | Node::Column(_) | Node::Param(_) | Node::Now => true,
            Node::Stop(_) | Node::Call(..) => false,
            Node::In { .. } | Node::Exists(_) | Node::Scalar(_) | Node::ArrayOf(_) => false,
            Node::AnyElement {
                left, test, array, ..
            } => matches!(test, ElementTest::Compare(_)) && left.is_harmless() && array.is_harmless(),
            Node::Compare(_, left, right) | Node::Distinct(left, right) | Node::NullIf(left, right) => {
                left.is_harmless() && right.is_harmless()
            }
            Node::Is(_, argument) | Node::Not(argument) | Node::Unsure(argument) => argument.is_harmless(),
            Node::And(all) | Node::Or(all) | Node::Coalesce(all) | Node::Array(all) => {
                all.iter().all(Self::is_harmless)
            }
            Node::Case(branches, otherwise) => {
                branches.iter().all(|(c, r)| c.is_harmless() && r.is_harmless())
                    && otherwise.as_ref().is_none_or(|e| e.is_harmless())
            }
        }
    }

    /// Evaluated, if `constant`: then it has its value, or the reason why it has none.
    fn settled(self, constant: bool) -> Self {
        if !constant {
            return self;
        }
        let node = match self.evaluate(&Nothing) {
            Ok(value) => Node::Const(value),
            Err(stop) => Node::Stop(stop),
        };
        Self { node, ..self }
    }

    /// A call of an operator, function or cast.
    pub fn call(
        builtin: Builtin,
        name: Arc<str>,
        arguments: Vec<Self>,
        collation: Collation,
        phase: Phase,
    ) -> Self {
        let ty = builtin.returns.clone();
        if builtin.strict
            && let Some(settled) = strict(&arguments.iter().collect::<Vec<_>>(), &ty, phase)
        {
            return settled;
        }
        let constant = builtin.immutable && arguments.iter().all(|a| a.as_constant().is_some());
        let node = Node::Call(builtin, name, arguments);
        Self { node, ty, collation }.settled(constant)
    }

    /// A comparison.
    pub fn compare(comparison: Comparison, left: Self, right: Self, phase: Phase) -> Self {
        if let Some(settled) = strict(&[&left, &right], &Ty::Bool, phase) {
            return settled;
        }
        let constant = fold_together(&left, &right, &right.ty);
        let node = Node::Compare(comparison, Box::new(left), Box::new(right));
        Self::new(node, Ty::Bool).settled(constant)
    }

    /// `IS DISTINCT FROM`
    pub fn distinct(left: Self, right: Self) -> Self {
        let constant = fold_together(&left, &right, &right.ty);
        Self::new(Node::Distinct(Box::new(left), Box::new(right)), Ty::Bool).settled(constant)
    }

    /// `IS …`
    pub fn is(is: Is, argument: Self) -> Self {
        let constant = argument.as_constant().is_some();
        Self::new(Node::Is(is, Box::new(argument)), Ty::Bool).settled(constant)
    }

    /// `NOT`
    pub fn negated(self) -> Self {
        let constant = self.as_constant().is_some();
        Self::new(Node::Not(Box::new(self)), Ty::Bool).settled(constant)
    }

    /// `AND` of any number; true of none.
    pub fn and(operands: Vec<Self>, phase: Phase) -> Self {
        joined(operands, false, phase)
    }

    /// `OR` of any number; false of none.
    pub fn or(operands: Vec<Self>, phase: Phase) -> Self {
        joined(operands, true, phase)
    }

    /// `left op ANY (array)`, or `ALL`.
    pub fn any_element(left: Self, test: ElementTest, array: Self, all: bool) -> Self {
        let element = match &array.ty {
            Ty::Array(element) => element,
            other => other,
        };
        let constant = match &test {
            ElementTest::Compare(_) => fold_together(&left, &array, element),
            ElementTest::Call(builtin, _) => {
                builtin.immutable && left.as_constant().is_some() && array.as_constant().is_some()
            }
        };
        let node = Node::AnyElement {
            left: Box::new(left),
            test,
            array: Box::new(array),
            all,
        };
        Self::new(node, Ty::Bool).settled(constant)
    }

    /// `CASE`. A branch whose condition is a constant is taken, or is not there.
    pub fn case(branches: Vec<(Self, Self)>, otherwise: Option<Self>, ty: Ty, collation: Collation) -> Self {
        let mut kept = Vec::new();
        let mut last = otherwise;
        for (condition, result) in branches {
            match condition.as_truth() {
                Some(Some(true)) => {
                    last = Some(result);
                    break;
                }
                Some(_) => {}
                None => kept.push((condition, result)),
            }
        }
        if kept.is_empty() {
            return last.unwrap_or_else(|| Self::constant(None, ty));
        }
        let node = Node::Case(kept, last.map(Box::new));
        Self { node, ty, collation }
    }

    /// `COALESCE`. Nothing behind a constant that is not NULL is evaluated.
    pub fn coalesce(arguments: Vec<Self>, ty: Ty, collation: Collation) -> Self {
        let mut kept: Vec<Self> = Vec::new();
        for argument in arguments {
            match argument.as_constant() {
                Some(None) => {}
                Some(Some(_)) => {
                    kept.push(argument);
                    break;
                }
                None => kept.push(argument),
            }
        }
        if kept.len() > 1 {
            let node = Node::Coalesce(kept);
            return Self { node, ty, collation };
        }
        kept.pop().unwrap_or_else(|| Self::constant(None, ty))
    }

    /// The value of `inner`, of which nobody here knows whether Postgres looks at it.
    pub fn unsure(inner: Self) -> Self {
        if inner.as_constant().is_some() {
            return inner;
        }
        Self {
            ty: inner.ty.clone(),
            collation: inner.collation.clone(),
            node: Node::Unsure(Box::new(inner)),
        }
    }

    /// `NULLIF`
    pub fn null_if(left: Self, right: Self) -> Self {
        let constant = fold_together(&left, &right, &right.ty);
        let (ty, collation) = (left.ty.clone(), left.collation.clone());
        let node = Node::NullIf(Box::new(left), Box::new(right));
        Self { node, ty, collation }.settled(constant)
    }

    /// `ARRAY[…]`
    pub fn array(elements: Vec<Self>, ty: Ty, collation: Collation) -> Self {
        let constant = elements.iter().all(|e| e.as_constant().is_some());
        let node = Node::Array(elements);
        Self { node, ty, collation }.settled(constant)
    }

    /// A copy in which `replace` has had its say on every node from the top down: what it answers stands for the node,
    /// and what it leaves alone is made again, of its changed parts.
    pub fn rebuilt(&self, phase: Phase, replace: &mut dyn FnMut(&Self) -> Option<Self>) -> Self {
        if let Some(replaced) = replace(self) {
            return replaced;
        }
        let mut all =
            |list: &[Self]| -> Vec<Self> { list.iter().map(|e| e.rebuilt(phase, replace)).collect() };
        let (ty, collation) = (self.ty.clone(), self.collation.clone());
        match &self.node {
            Node::Call(builtin, name, arguments) => {
                let arguments = all(arguments);
                Self::call(builtin.clone(), Arc::clone(name), arguments, collation, phase)
            }
            Node::Compare(comparison, left, right) => {
                let left = left.rebuilt(phase, replace);
                Self::compare(*comparison, left, right.rebuilt(phase, replace), phase)
            }
            Node::Distinct(left, right) => {
                let left = left.rebuilt(phase, replace);
                Self::distinct(left, right.rebuilt(phase, replace))
            }
            Node::Is(is, argument) => Self::is(*is, argument.rebuilt(phase, replace)),
            Node::And(operands) => Self::and(all(operands), phase),
            Node::Or(operands) => Self::or(all(operands), phase),
            Node::Not(operand) => operand.rebuilt(phase, replace).negated(),
            Node::Unsure(inner) => Self::unsure(inner.rebuilt(phase, replace)),
            Node::Case(branches, otherwise) => {
                let branches = branches
                    .iter()
                    .map(|(c, r)| (c.rebuilt(phase, replace), r.rebuilt(phase, replace)))
                    .collect();
                let otherwise = otherwise.as_ref().map(|e| e.rebuilt(phase, replace));
                Self::case(branches, otherwise, ty, collation)
            }
            Node::Coalesce(arguments) => Self::coalesce(all(arguments), ty, collation),
            Node::NullIf(left, right) => {
                let left = left.rebuilt(phase, replace);
                Self::null_if(left, right.rebuilt(phase, replace))
            }
            Node::Array(elements) => Self::array(all(elements), ty, collation),
            Node::AnyElement {
                left,
                test,
                array,
                all,
            } => {
                let left = left.rebuilt(phase, replace);
                Self::any_element(left, test.clone(), array.rebuilt(phase, replace), *all)
            }
            Node::In {
                keys,
                relation,
                exists,
            } => {
                let node = Node::In {
                    keys: all(keys),
                    relation: *relation,
                    exists: *exists,
                };
                Self { node, ty, collation }
            }
            _ => self.clone(),
        }
    }

    /// Whether `test` is true of it or of some part of it.
    pub fn contains(&self, test: &mut dyn FnMut(&Self) -> bool) -> bool {
        let mut found = false;
        self.walk(&mut |e| {
            found = found || test(e);
        });
        found
    }

    /// Calls `visit` for it and every part of it.
    fn walk(&self, visit: &mut dyn FnMut(&Self)) {
        visit(self);
        match &self.node {
            Node::Call(_, _, all)
            | Node::And(all)
            | Node::Or(all)
            | Node::Coalesce(all)
            | Node::Array(all)
            | Node::In { keys: all, .. } => all.iter().for_each(|e| e.walk(visit)),
            Node::Compare(_, left, right) | Node::Distinct(left, right) | Node::NullIf(left, right) => {
                left.walk(visit);
                right.walk(visit);
            }
            Node::AnyElement { left, array, .. } => {
                left.walk(visit);
                array.walk(visit);
            }
            Node::Is(_, argument) | Node::Not(argument) | Node::Unsure(argument) => argument.walk(visit),
            Node::Case(branches, otherwise) => {
                for (condition, result) in branches {
                    condition.walk(visit);
                    result.walk(visit);
                }
                if let Some(otherwise) = otherwise {
                    otherwise.walk(visit);
                }
            }
            Node::Const(_)
            | Node::Stop(_)
            | Node::Column(_)
            | Node::Param(_)
            | Node::Now
            | Node::Exists(_)
            | Node::Scalar(_)
            | Node::ArrayOf(_) => {}
        }
    }
}

/// Whether the planner compares two constants: not where one of them has a time zone and the other has none, since that
/// depends on the session's. `right_ty` is the type that the right side is compared as.
fn fold_together(left: &Expr, right: &Expr, right_ty: &Ty) -> bool {
    let zoned = |ty: &Ty| *ty == Ty::Timestamptz;
    left.as_constant().is_some() && right.as_constant().is_some() && zoned(&left.ty) == zoned(right_ty)
}

/// What a strict function of a constant NULL comes to, if that can be said.
fn strict(arguments: &[&Expr], ty: &Ty, phase: Phase) -> Option<Expr> {
    if !arguments.iter().any(|argument| argument.is_null()) {
        return None;
    }
    if phase == Phase::Planned || arguments.iter().all(|argument| argument.is_harmless()) {
        return Some(Expr::constant(None, ty.clone()));
    }
    let why = || Stop::ask("NULL beside what may raise, inside a function");
    (phase == Phase::Unsure).then(|| Expr::new(Node::Stop(why()), ty.clone()))
}

/// AND (`decides` is false) or OR (true).
fn joined(operands: Vec<Expr>, decides: bool, phase: Phase) -> Expr {
    let mut kept: Vec<Expr> = Vec::with_capacity(operands.len());
    let mut null = false;
    let flat = operands.into_iter().flat_map(|operand| match operand.node {
        Node::And(inner) if !decides => inner,
        Node::Or(inner) if decides => inner,
        node => vec![Expr { node, ..operand }],
    });
    for operand in flat {
        match operand.as_truth() {
            Some(Some(value)) if value == decides => {
                if phase == Phase::Planned || kept.iter().all(Expr::is_harmless) {
                    return operand;
                }
                if phase == Phase::Unsure {
                    return Expr::stop(Stop::ask("a constant behind what may raise, inside a function"));
                }
                kept.push(operand);
                break;
            }
            Some(Some(_)) => {}
            Some(None) => null = true,
            None => kept.push(operand),
        }
    }
    if null {
        kept.push(Expr::bool(None));
    }
    let one = if kept.len() == 1 { kept.pop() } else { None };
    if let Some(one) = one {
        return one;
    }
    if kept.is_empty() {
        return Expr::bool(Some(!decides));
    }
    Expr::new(if decides { Node::Or(kept) } else { Node::And(kept) }, Ty::Bool)
}
