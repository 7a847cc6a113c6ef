use std::collections::BTreeSet;

use crate::change::TableName;

/// Prefixes of the logical messages (`pg_logical_emit_message`) that come through; all others stay in the database.
/// The plugin keeps backslashes in this list, so it must need none.
const MESSAGE_PREFIXES: &str = "rowcast,rowcast.heartbeat";
/// With the prefix of those that are broadcasts.
const MESSAGE_AND_BROADCAST_PREFIXES: &str = "rowcast,rowcast.heartbeat,rowcast.broadcast";

/// The option list of `START_REPLICATION`, parentheses included, for these tables, and for broadcasts by logical message if
/// they are wanted.
///
/// No table at all is asked for with a filter on every table: an empty `add-tables` means "none" to some versions of
/// the plugin and "all" to others.
pub fn start_options(tables: &BTreeSet<TableName>, logical_broadcasts: bool) -> String {
    let mut options = String::from("(\"format-version\" '2'");
    for on in [
        "include-transaction",
        "include-lsn",
        "include-timestamp",
        "include-type-oids",
        "include-xids",
    ] {
        push_option(&mut options, on, "1");
    }
    push_option(&mut options, "include-types", "0");
    if tables.is_empty() {
        push_option(&mut options, "filter-tables", "*.*");
    } else {
        let list: Vec<String> = tables.iter().map(escape).collect();
        push_option(&mut options, "add-tables", &list.join(","));
    }
    let prefixes = if logical_broadcasts {
        MESSAGE_AND_BROADCAST_PREFIXES
    } else {
        MESSAGE_PREFIXES
    };
    push_option(&mut options, "add-msg-prefixes", prefixes);
    options.push(')');
    options
}

fn push_option(options: &mut String, name: &str, value: &str) {
    options.push_str(", \"");
    options.push_str(name);
    options.push_str("\" '");
    options.push_str(&value.replace('\'', "''"));
    options.push('\'');
}

/// A table as an item of wal2json's `add-tables` and `filter-tables`: `schema.table`, with a backslash before
/// everything that is special there (space, comma, dot, backslash, `*`) and, to be safe under any server encoding,
/// before everything that is not an ASCII letter, digit or underscore.
///
/// Not quoted for SQL: double the single quotes before you put it between them.
pub fn escape(table: &TableName) -> String {
    format!("{}.{}", escape_name(&table.schema), escape_name(&table.table))
}

fn escape_name(name: &str) -> String {
    let mut escaped = String::with_capacity(name.len() + 4);
    for c in name.chars() {
        if !c.is_ascii_alphanumeric() && c != '_' {
            escaped.push('\\');
        }
        escaped.push(c);
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_escaped() {
        for (schema, table, expected) in [
            ("public", "todos", "public.todos"),
            ("public", "*", "public.\\*"),
            ("My Schema", "a.b,c", "My\\ Schema.a\\.b\\,c"),
            ("q\"s", "back\\slash", "q\\\"s.back\\\\slash"),
            ("ü", "it's", "\\ü.it\\'s"),
        ] {
            assert_eq!(escape(&TableName::new(schema, table)), expected);
        }
    }

    #[test]
    fn options_quote_for_the_command() {
        let tables = BTreeSet::from([TableName::new("public", "it's"), TableName::new("a", "b")]);
        assert_eq!(
            start_options(&tables, false),
            "(\"format-version\" '2', \"include-transaction\" '1', \"include-lsn\" '1', \
             \"include-timestamp\" '1', \"include-type-oids\" '1', \"include-xids\" '1', \
             \"include-types\" '0', \"add-tables\" 'a.b,public.it\\''s', \"add-msg-prefixes\" 'rowcast,rowcast.heartbeat')"
        );
    }

    #[test]
    fn no_table_is_not_every_table() {
        let options = start_options(&BTreeSet::new(), true);
        assert!(options.contains("\"filter-tables\" '*.*'"), "{options}");
        assert!(!options.contains("add-tables"), "{options}");
        assert!(
            options.contains("'rowcast,rowcast.heartbeat,rowcast.broadcast'"),
            "{options}"
        );
    }
}
