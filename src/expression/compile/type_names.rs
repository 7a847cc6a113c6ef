//! Type names, as `format_type` prints them.

use sqlparser::ast::{
    ArrayElemTypeDef, CharacterLength, DataType, ExactNumberInfo, ObjectName, ObjectNamePart, TimezoneInfo,
};

use super::{Opaque, Scope};
use crate::expression::Ty;
use crate::postgres::quote_identifier;

/// A type with its modifiers: `[5]` of `varchar(5)`, `[10, 2]` of `numeric(10,2)`.
pub(super) type Typed = (Ty, Vec<i32>);

/// What a type name means.
pub(super) fn of(ty: &DataType, scope: &dyn Scope) -> Result<Typed, Opaque> {
    let plain = |ty: Ty| Ok((ty, Vec::new()));
    let unknown = || Opaque(format!("type {ty}"));
    match ty {
        DataType::Bool | DataType::Boolean => plain(Ty::Bool),
        DataType::SmallInt(None) | DataType::Int2(None) => plain(Ty::Int2),
        DataType::Integer(None) | DataType::Int(None) | DataType::Int4(None) => plain(Ty::Int4),
        DataType::BigInt(None) | DataType::Int8(None) => plain(Ty::Int8),
        DataType::Real | DataType::Float4 => plain(Ty::Float4),
        DataType::DoublePrecision | DataType::Float8 => plain(Ty::Float8),
        DataType::Numeric(ExactNumberInfo::None) => plain(Ty::Numeric),
        DataType::Numeric(ExactNumberInfo::Precision(precision)) => {
            Ok((Ty::Numeric, vec![number(*precision)?, 0]))
        }
        DataType::Numeric(ExactNumberInfo::PrecisionAndScale(precision, scale)) => {
            let scale = i32::try_from(*scale).map_err(|_| unknown())?;
            Ok((Ty::Numeric, vec![number(*precision)?, scale]))
        }
        DataType::Text => plain(Ty::Text),
        DataType::CharacterVarying(None) | DataType::Varchar(None) => plain(Ty::Varchar),
        DataType::CharacterVarying(Some(length)) | DataType::Varchar(Some(length)) => {
            Ok((Ty::Varchar, vec![characters(length)?]))
        }
        DataType::Character(None) | DataType::Char(None) => Ok((Ty::Bpchar, vec![1])),
        DataType::Character(Some(length)) | DataType::Char(Some(length)) => {
            Ok((Ty::Bpchar, vec![characters(length)?]))
        }
        DataType::Bytea => plain(Ty::Bytea),
        DataType::Uuid => plain(Ty::Uuid),
        DataType::Date => plain(Ty::Date),
        DataType::JSON => plain(Ty::Json),
        DataType::JSONB => plain(Ty::Jsonb),
        DataType::Interval {
            fields: None,
            precision: None,
        } => plain(Ty::Interval),
        DataType::Time(precision, TimezoneInfo::None | TimezoneInfo::WithoutTimeZone) => {
            Ok((Ty::Time, precise(*precision)?))
        }
        DataType::Timestamp(precision, TimezoneInfo::None | TimezoneInfo::WithoutTimeZone) => {
            Ok((Ty::Timestamp, precise(*precision)?))
        }
        DataType::Timestamp(precision, TimezoneInfo::WithTimeZone | TimezoneInfo::Tz) => {
            Ok((Ty::Timestamptz, precise(*precision)?))
        }
        DataType::Array(ArrayElemTypeDef::SquareBracket(element, None)) => {
            let (element, modifiers) = of(element, scope)?;
            // `text[][]` is `text[]`.
            Ok(match element {
                Ty::Array(_) => (element, modifiers),
                element => (Ty::Array(Box::new(element)), modifiers),
            })
        }
        DataType::Custom(path, modifiers) if modifiers.is_empty() => {
            let name = name(path)?;
            let builtin = match name.as_str() {
                "bpchar" => Some(Ty::Bpchar),
                "name" => Some(Ty::Name),
                "oid" => Some(Ty::Oid),
                "inet" => Some(Ty::Inet),
                "cidr" => Some(Ty::Cidr),
                _ => None,
            };
            builtin
                .or_else(|| scope.ty(&name))
                .map(|ty| (ty, Vec::new()))
                .ok_or_else(unknown)
        }
        _ => Err(unknown()),
    }
}

fn number(value: u64) -> Result<i32, Opaque> {
    i32::try_from(value).map_err(|_| Opaque("a type modifier out of range".into()))
}

fn precise(precision: Option<u64>) -> Result<Vec<i32>, Opaque> {
    precision.into_iter().map(number).collect()
}

fn characters(length: &CharacterLength) -> Result<i32, Opaque> {
    match length {
        CharacterLength::IntegerLength { length, unit: None } => number(*length),
        _ => Err(Opaque("a type modifier that is not understood".into())),
    }
}

/// A name with its schema, quoted as SQL needs it. A single word in quotes keeps them: `"char"` is not `char`.
pub(super) fn name(path: &ObjectName) -> Result<String, Opaque> {
    let parts = path.0.iter().map(|part| match part {
        ObjectNamePart::Identifier(ident) => Ok(ident),
        ObjectNamePart::Function(_) => Err(Opaque("a name that is computed".into())),
    });
    let parts: Vec<_> = parts.collect::<Result<_, _>>()?;
    if let [single] = parts.as_slice() {
        return Ok(match single.quote_style {
            Some(_) => format!("\"{}\"", single.value.replace('"', "\"\"")),
            None => single.value.to_ascii_lowercase(),
        });
    }
    let quoted: Vec<_> = parts.iter().map(|part| quote_identifier(&part.value)).collect();
    Ok(quoted.join("."))
}
