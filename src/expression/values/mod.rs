//! Truth, numbers, bytes, network addresses, enums and arrays: text, order, operators, functions and casts.

pub(super) mod array_text;
mod arrays;
mod calls;
mod casts;
mod comparison;
pub(super) mod float;
mod floats;
mod input;
mod integers;
mod networks;
mod number_casts;
mod numeric;
mod numeric_arithmetic;
mod numerics;
#[cfg(test)]
mod tests;

pub(super) use casts::{by_output, cast};
pub(super) use comparison::comparable;

use super::{Builtin, Collation, Ty};

pub(super) fn operator(
    symbol: &str,
    left: Option<&Ty>,
    right: &Ty,
    collation: &Collation,
) -> Option<Builtin> {
    integers::operator(symbol, left, right)
        .or_else(|| numerics::operator(symbol, left, right))
        .or_else(|| floats::operator(symbol, left, right))
        .or_else(|| networks::operator(symbol, left, right))
        .or_else(|| arrays::operator(symbol, left, right, collation))
}

pub(super) fn function(name: &str, arguments: &[Ty], collation: &Collation) -> Option<Builtin> {
    integers::function(name, arguments)
        .or_else(|| numerics::function(name, arguments))
        .or_else(|| floats::function(name, arguments))
        .or_else(|| networks::function(name, arguments))
        .or_else(|| arrays::function(name, arguments, collation))
}
