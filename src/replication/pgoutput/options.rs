/// The option list of `START_REPLICATION`, parentheses included, for these publications.
pub fn start_options(publications: &[String]) -> String {
    let quoted: Vec<String> = publications
        .iter()
        .map(|name| format!("\"{}\"", name.replace('"', "\"\"")))
        .collect();
    let list = quoted.join(",").replace('\'', "''");
    format!("(\"proto_version\" '1', \"publication_names\" '{list}', \"messages\" 'true')")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_quoted_for_the_list_and_the_command() {
        assert_eq!(
            start_options(&["a".to_owned(), "it's \"b\"".to_owned()]),
            "(\"proto_version\" '1', \"publication_names\" '\"a\",\"it''s \"\"b\"\"\"', \"messages\" 'true')"
        );
    }
}
