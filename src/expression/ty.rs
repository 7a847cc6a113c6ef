//! The types that expressions are computed in.

use std::sync::Arc;

use crate::postgres::catalog::{TypeKind, Types};

/// A type that this module computes with. Domains are not here: a value of one is a value of its base.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Ty {
    /// `bool`
    Bool,
    /// `int2`
    Int2,
    /// `int4`
    Int4,
    /// `int8`
    Int8,
    /// `oid`
    Oid,
    /// `numeric`
    Numeric,
    /// `float4`
    Float4,
    /// `float8`
    Float8,
    /// `text`
    Text,
    /// `varchar`
    Varchar,
    /// `char(n)`
    Bpchar,
    /// `name`
    Name,
    /// `bytea`
    Bytea,
    /// `uuid`
    Uuid,
    /// `date`
    Date,
    /// `time`
    Time,
    /// `timestamp`
    Timestamp,
    /// `timestamptz`
    Timestamptz,
    /// `interval`
    Interval,
    /// `json`
    Json,
    /// `jsonb`
    Jsonb,
    /// `inet`
    Inet,
    /// `cidr`
    Cidr,
    /// An enum.
    Enum(Arc<EnumTy>),
    /// An array of these.
    Array(Box<Ty>),
}

/// An enum type.
#[derive(Debug, PartialEq, Eq, Hash)]
pub struct EnumTy {
    /// `pg_type.oid`.
    pub oid: u32,
    /// Labels in sort order.
    pub labels: Vec<Arc<str>>,
}

impl Ty {
    /// The type of an oid, domains looked through; `None` for one that is not computed with here.
    pub fn of(oid: u32, types: &Types) -> Option<Self> {
        let base = types.base(oid);
        Self::builtin(base).or_else(|| match &types.0.get(&base)?.kind {
            TypeKind::Enum { labels } => Some(Self::Enum(Arc::new(EnumTy {
                oid: base,
                labels: labels.clone(),
            }))),
            TypeKind::Array { element, .. } => Some(Self::Array(Box::new(Self::of(*element, types)?))),
            _ => None,
        })
    }

    /// The type of a built-in oid that is no array (`pg_type.dat`).
    fn builtin(oid: u32) -> Option<Self> {
        Some(match oid {
            16 => Self::Bool,
            17 => Self::Bytea,
            19 => Self::Name,
            20 => Self::Int8,
            21 => Self::Int2,
            23 => Self::Int4,
            25 => Self::Text,
            26 => Self::Oid,
            114 => Self::Json,
            650 => Self::Cidr,
            700 => Self::Float4,
            701 => Self::Float8,
            869 => Self::Inet,
            1042 => Self::Bpchar,
            1043 => Self::Varchar,
            1082 => Self::Date,
            1083 => Self::Time,
            1114 => Self::Timestamp,
            1184 => Self::Timestamptz,
            1186 => Self::Interval,
            1700 => Self::Numeric,
            2950 => Self::Uuid,
            3802 => Self::Jsonb,
            _ => return None,
        })
    }
}
