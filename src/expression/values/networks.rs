//! Operators of `inet` and `cidr`.

use super::calls::{binary, unexpected};
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
