//! Which values compare.

use crate::expression::{Collation, Comparable, Ty};

/// Whether `left = right` is an operator of `pg_catalog` whose answer is known here. `varchar` and `cidr` have none of
/// their own; those of `text` and `inet` are shown with casts.
pub(in crate::expression) fn comparable(left: &Ty, right: &Ty, collation: &Collation) -> Option<Comparable> {
    use Ty::{
        Array, Bool, Bpchar, Bytea, Cidr, Date, Enum, Float4, Float8, Inet, Int2, Int4, Int8, Interval,
        Jsonb, Name, Numeric, Oid, Text, Time, Timestamp, Timestamptz, Uuid,
    };
    let full = Some(Comparable {
        ordered: true,
        keyed: true,
    });
    match (left, right) {
        (Bool, Bool) | (Oid, Oid) | (Numeric, Numeric) | (Bytea, Bytea) | (Uuid, Uuid) => full,
        (Int2 | Int4 | Int8, Int2 | Int4 | Int8) | (Float4 | Float8, Float4 | Float8) => full,
        (Inet | Cidr, Inet | Cidr) => full,
        (Text | Name, Text | Name) | (Bpchar, Bpchar) => textual(collation),
        (Date, Date) | (Time, Time) | (Interval, Interval) => full,
        (Timestamp | Timestamptz, Timestamp | Timestamptz) => full,
        // A date's key counts days.
        (Date, Timestamp | Timestamptz) | (Timestamp | Timestamptz, Date) => Some(Comparable {
            ordered: true,
            keyed: false,
        }),
        (Jsonb, Jsonb) => full,
        (Enum(left), Enum(right)) => full.filter(|_| left.oid == right.oid),
        (Array(left), Array(right)) if left == right => elements(left, collation),
        _ => None,
    }
}

/// How elements of an array compare: `varchar` and `cidr` by the operators of the types they are like.
pub(super) fn elements(element: &Ty, collation: &Collation) -> Option<Comparable> {
    match element {
        Ty::Varchar => textual(collation),
        Ty::Array(_) => None,
        other => comparable(other, other, collation),
    }
}

/// Equal text is equal bytes unless the collation says otherwise; its order is only known as that of bytes.
fn textual(collation: &Collation) -> Option<Comparable> {
    match collation {
        Collation::Nondeterministic => None,
        Collation::C => Some(Comparable {
            ordered: true,
            keyed: true,
        }),
        Collation::Default | Collation::Named(_) => Some(Comparable {
            ordered: false,
            keyed: true,
        }),
    }
}
