//! Operators and functions of `inet` and `cidr`.

use super::calls::{binary, unary, unexpected};
use crate::expression::{Builtin, Datum, Inet, Ty};

pub(super) fn operator(symbol: &str, left: Option<&Ty>, right: &Ty) -> Option<Builtin> {
    let (Some(Ty::Inet | Ty::Cidr), Ty::Inet | Ty::Cidr) = (left, right) else {
        return None;
    };
    let test: fn(&Inet, &Inet) -> bool = match symbol {
        "<<" => |left, right| right.contains(left) && right.bits < left.bits,
        "<<=" => |left, right| right.contains(left),
        ">>" => |left, right| left.contains(right) && left.bits < right.bits,
        ">>=" => |left, right| left.contains(right),
        "&&" => |left, right| left.contains(right) || right.contains(left),
        _ => return None,
    };
    Some(binary(Ty::Bool, move |left, right| match (left, right) {
        (Datum::Inet(left), Datum::Inet(right)) => Ok(Some(Datum::Bool(test(left, right)))),
        _ => unexpected(),
    }))
}

pub(super) fn function(name: &str, arguments: &[Ty]) -> Option<Builtin> {
    // `cidr` is shown with a cast.
    let [Ty::Inet] = arguments else {
        return None;
    };
    let (returns, compute): (Ty, fn(&Inet) -> Datum) = match name {
        "family" => (Ty::Int4, |inet| {
            Datum::Int(if inet.address.is_ipv4() { 4 } else { 6 })
        }),
        "masklen" => (Ty::Int4, |inet| Datum::Int(inet.bits.into())),
        "host" => (Ty::Text, |inet| Datum::Text(inet.print_address().into())),
        "network" => (Ty::Cidr, |inet| Datum::Inet(inet.network())),
        _ => return None,
    };
    Some(unary(returns, move |value| match value {
        Datum::Inet(inet) => Ok(Some(compute(inet))),
        _ => unexpected(),
    }))
}
