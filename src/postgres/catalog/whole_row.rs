//! Finds references to a row as a whole in the text of an expression.

/// Whether a `pg_get_expr` text contains `name.*`.
///
/// `pg_depend` does not record such references, and Postgres always prints them this way, whatever the policy's author
/// wrote. The row of another table in a subquery counts too: needing a complete row when part of it would do costs a
/// few judgements, the reverse would judge missing columns as NULL.
///
/// The text must have been printed under `standard_conforming_strings`.
pub(super) fn mentions_whole_row(expression: &str) -> bool {
    let mut rest = expression.char_indices();
    // The last two characters outside literals.
    let (mut before, mut last) = (' ', ' ');
    while let Some((at, c)) = rest.next() {
        match c {
            '\'' | '"' => {
                skip_quoted(&mut rest, c);
                (before, last) = (last, c);
                continue;
            }
            '*' if last == '.' && is_name_end(before) => {
                let in_operator = expression[..at]
                    .rsplit_once("OPERATOR(")
                    .is_some_and(|(_, inside)| !inside.contains([')', '(', ' ', ',']));
                if !in_operator {
                    return true;
                }
            }
            _ => {}
        }
        (before, last) = (last, c);
    }
    false
}

fn is_name_end(c: char) -> bool {
    c == '"' || c == '_' || c == '$' || c.is_alphanumeric()
}

/// Consumes up to and with the closing quote; a doubled quote is read as two quoted parts in a row, which is the same.
fn skip_quoted(rest: &mut std::str::CharIndices<'_>, quote: char) {
    for (_, c) in rest.by_ref() {
        if c == quote {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::mentions_whole_row;
    use proptest::prelude::*;

    #[test]
    fn a_row_as_a_whole_is_found() {
        for text in [
            "public.visible(todos.*)",
            "(todos.* IS NOT NULL)",
            "(to_jsonb(\"Odd Name\".*) ? 'a'::text)",
            "(t.*)::text ~ 'x'::text",
            "(é.* IS NULL)",
            "(\"a\"\"b\".* IS NULL)",
            "((a OPERATOR(public.*) b) AND f(t.*))",
        ] {
            assert!(mentions_whole_row(text), "{text}");
        }
    }

    #[test]
    fn what_only_looks_like_one_is_not() {
        for text in [
            "",
            "true",
            "(a * b)",
            "(name ~ '^a.*b'::text)",
            "(name ~ 'it''s.*'::text)",
            "(\"x.*\" = 1)",
            "((SELECT count(*) AS count FROM public.m) > 0)",
            "((a OPERATOR(public.*) b) > 1)",
            "((a OPERATOR(\"Odd\".*#) b) > 1)",
            "(1.5 * 2.0)",
        ] {
            assert!(!mentions_whole_row(text), "{text}");
        }
    }

    proptest! {
        #[test]
        fn never_panics(text in "\\PC{0,80}") {
            mentions_whole_row(&text);
        }
    }
}
