//! Operators, functions and casts of texts.

use super::{Builtin, Collation, Ty};

pub(super) fn operator(
    _symbol: &str,
    _left: Option<&Ty>,
    _right: &Ty,
    _collation: &Collation,
) -> Option<Builtin> {
    None
}

pub(super) fn function(_name: &str, _arguments: &[Ty], _collation: &Collation) -> Option<Builtin> {
    None
}

pub(super) fn cast(_from: &Ty, _to: &Ty, _modifiers: &[i32]) -> Option<Builtin> {
    None
}
