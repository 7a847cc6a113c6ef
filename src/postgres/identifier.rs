//! Names in SQL text: they come from the catalog or the settings, never from a client.

use crate::change::TableName;

/// A name as SQL wants it: in double quotes, its own doubled.
pub fn quote_identifier(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// A table's qualified name as SQL wants it.
pub fn quote_table(name: &TableName) -> String {
    format!(
        "{}.{}",
        quote_identifier(&name.schema),
        quote_identifier(&name.table)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_are_doubled() {
        assert_eq!(quote_table(&TableName::new("a b", "c\"d.e")), r#""a b"."c""d.e""#);
    }
}
