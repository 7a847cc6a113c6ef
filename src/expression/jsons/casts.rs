//! Casts to and from `json` and `jsonb`.

use std::sync::Arc;

use bigdecimal::BigDecimal;

use super::super::arguments::{immutable, jsonb};
use super::arguments::text;
use super::{WRONG_KIND, whole};
use crate::expression::json::{self, Escapes};
use crate::expression::{Builtin, Datum, Evaluated, Json, Numeric, Stop, Ty};

/// A cast from or to `json` or `jsonb`. With modifiers, a cast to the type with a cast of the type to itself behind it.
pub(in crate::expression) fn cast(from: &Ty, to: &Ty, modifiers: &[i32]) -> Option<Builtin> {
    let plain = plain(from, to)?;
    if modifiers.is_empty() {
        return Some(plain);
    }
    let narrow = crate::expression::cast(to, to, modifiers)?;
    let immutable = plain.immutable && narrow.immutable;
    let call = move |arguments: &[Option<Datum>]| match (plain.call)(arguments)? {
        None => Ok(None),
        value => (narrow.call)(&[value]),
    };
    Some(Builtin {
        returns: to.clone(),
        strict: true,
        immutable,
        call: Arc::new(call),
    })
}

fn plain(from: &Ty, to: &Ty) -> Option<Builtin> {
    match (from, to) {
        (Ty::Text | Ty::Varchar | Ty::Bpchar | Ty::Name, Ty::Jsonb) => Some(immutable(Ty::Jsonb, parsed)),
        (Ty::Text | Ty::Varchar | Ty::Bpchar | Ty::Name, Ty::Json) => Some(immutable(Ty::Json, |a| {
            let written = text(a, 0)?;
            json::validate(written, Escapes::Keep)?;
            Ok(Some(Datum::Json(Arc::clone(written))))
        })),
        (Ty::Json, Ty::Jsonb) => Some(immutable(Ty::Jsonb, parsed)),
        (Ty::Jsonb, Ty::Json) => Some(immutable(Ty::Json, |a| {
            Ok(Some(Datum::Json(json::print(jsonb(a, 0)?)?.into())))
        })),
        (Ty::Json, Ty::Text | Ty::Varchar) => Some(immutable(to.clone(), |a| {
            Ok(Some(Datum::Text(Arc::clone(text(a, 0)?))))
        })),
        (Ty::Jsonb, Ty::Text | Ty::Varchar) => Some(immutable(to.clone(), |a| {
            Ok(Some(Datum::Text(json::print(jsonb(a, 0)?)?.into())))
        })),
        (Ty::Jsonb, to) => scalar(to),
        _ => None,
    }
}

fn parsed(arguments: &[Option<Datum>]) -> Evaluated {
    json::parse(text(arguments, 0)?).map(|json| whole(Arc::new(json)))
}

/// The number or truth that a `jsonb` is.
fn scalar(to: &Ty) -> Option<Builtin> {
    Some(match to {
        Ty::Bool => immutable(Ty::Bool, |a| match &**jsonb(a, 0)? {
            Json::Bool(value) => Ok(Some(Datum::Bool(*value))),
            other => Err(no_cast(other)),
        }),
        Ty::Numeric => immutable(Ty::Numeric, |a| {
            number(a).map(|number| Some(Datum::Numeric(Numeric::Finite(number.clone()))))
        }),
        Ty::Int2 => integer(Ty::Int2, i16::MIN.into(), i16::MAX.into()),
        Ty::Int4 => integer(Ty::Int4, i32::MIN.into(), i32::MAX.into()),
        Ty::Int8 => integer(Ty::Int8, i64::MIN, i64::MAX),
        Ty::Float4 => immutable(Ty::Float4, |a| {
            json::to_f32(number(a)?).map(|float| Some(Datum::Float4(float)))
        }),
        Ty::Float8 => immutable(Ty::Float8, |a| {
            json::to_f64(number(a)?).map(|float| Some(Datum::Float8(float)))
        }),
        _ => return None,
    })
}

fn integer(to: Ty, min: i64, max: i64) -> Builtin {
    immutable(to, move |a| {
        json::to_int(number(a)?, min, max).map(|int| Some(Datum::Int(int)))
    })
}

fn number(arguments: &[Option<Datum>]) -> Result<&BigDecimal, Stop> {
    match &**jsonb(arguments, 0)? {
        Json::Number(Numeric::Finite(number)) => Ok(number),
        other => Err(no_cast(other)),
    }
}

/// Newer servers make SQL's NULL of `null`, older ones raise.
fn no_cast(json: &Json) -> Stop {
    match json {
        Json::Null => Stop::ask("a cast of jsonb's null"),
        _ => WRONG_KIND,
    }
}
