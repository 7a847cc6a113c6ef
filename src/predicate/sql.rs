use std::fmt::Write;

use super::{Condition, Is, Operator};
use crate::postgres::catalog::{Table, TypeKind, Types};
use crate::postgres::quote_identifier;

/// The SQL operator between two values of the column's type; `None` for `in` and `is`, which are syntax.
pub fn operator_symbol(operator: Operator) -> Option<&'static str> {
    Some(match operator {
        Operator::Eq => "=",
        Operator::Neq => "<>",
        Operator::Lt => "<",
        Operator::Lte => "<=",
        Operator::Gt => ">",
        Operator::Gte => ">=",
        Operator::Like => "~~",
        Operator::Ilike => "~~*",
        Operator::Match => "~",
        Operator::Imatch => "~*",
        Operator::IsDistinct => "is distinct from",
        Operator::In | Operator::Is => return None,
    })
}

pub(super) fn condition(
    condition: &Condition,
    table: &Table,
    types: &Types,
    values: &str,
    first: usize,
) -> Option<String> {
    let column = table.columns.get(condition.column)?;
    let name = quote_identifier(&column.name);
    let type_sql = &types.0.get(&column.type_oid)?.sql;
    let bound = |k: usize| format!("({values}[{}])::{type_sql}", first + k);
    let test = match condition.operator {
        Operator::Is => {
            let what = match condition.is? {
                Is::Null => "null",
                Is::True => "true",
                Is::False => "false",
                Is::Unknown => "unknown",
            };
            format!("{name} is {what}")
        }
        Operator::In => in_list(condition, &name, types, column.type_oid, &bound),
        operator => format!("{name} {} {}", operator_symbol(operator)?, bound(0)),
    };
    Some(if condition.negate {
        format!("not ({test})")
    } else {
        format!("({test})")
    })
}

fn in_list(
    condition: &Condition,
    name: &str,
    types: &Types,
    type_oid: u32,
    bound: &dyn Fn(usize) -> String,
) -> String {
    if condition.values.is_empty() {
        return "false".to_owned();
    }
    // There is no array of arrays in SQL, and a domain's array is not its base's: spell the alternatives out for both.
    let plain = matches!(
        types.0.get(&type_oid).map(|t| &t.kind),
        Some(TypeKind::Base | TypeKind::Enum { .. })
    );
    let (open, between, close) = if plain {
        (format!("{name} = any (array["), ", ", "])")
    } else {
        (format!("{name} = "), "", "")
    };
    let mut sql = open;
    for k in 0..condition.values.len() {
        let separator = match (k, plain) {
            (0, _) => "",
            (_, true) => between,
            (_, false) => &format!(" or {name} = "),
        };
        // Writing to a String cannot fail.
        let _ = write!(sql, "{separator}{}", bound(k));
    }
    sql + close
}
