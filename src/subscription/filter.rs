//! The filter grammar (protocol c.4): `column=[not.]op.value`, joined by commas, all of which must hold.

use crate::predicate::Operator;

/// One segment of a filter, before the catalog has been asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RawCondition {
    /// Column name as written.
    pub column: String,
    /// `not.` stood before the operator.
    pub negate: bool,
    /// The operator.
    pub operator: Operator,
    /// The value, unquoted; for `in` the elements, `None` for an unquoted NULL.
    pub values: Vec<Option<String>>,
}

/// The filter text does not follow the grammar. `Display` is the detail clients see.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FilterError {
    /// Two commas in a row, or one at an end.
    #[error("filter must not contain empty segments (check for extra commas)")]
    EmptySegment,
    /// `in` without parentheses.
    #[error("`in` filter value must be wrapped by parentheses")]
    InParentheses,
    /// Anything else: the parts that were understood.
    #[error("{}", list(.0))]
    Parts(Vec<String>),
}

fn list(parts: &[String]) -> String {
    let quoted: Vec<String> = parts.iter().map(|part| format!("{part:?}")).collect();
    format!("[{}]", quoted.join(", "))
}

/// Parses a filter; blank text is no condition.
///
/// # Errors
/// [`FilterError`] for the first segment that does not parse.
pub fn parse(text: &str) -> Result<Vec<RawCondition>, FilterError> {
    if text.trim().is_empty() {
        return Ok(Vec::new());
    }
    split_top_level(text).into_iter().map(segment).collect()
}

fn segment(text: &str) -> Result<RawCondition, FilterError> {
    let text = text.trim();
    if text.is_empty() {
        return Err(FilterError::EmptySegment);
    }
    let parts = |parts: &[&str]| FilterError::Parts(parts.iter().map(|part| (*part).to_owned()).collect());
    let Some((column, condition)) = text.split_once('=') else {
        return Err(parts(&[text]));
    };
    let (negate, rest) = condition
        .strip_prefix("not.")
        .map_or((false, condition), |rest| (true, rest));
    let Some((name, value)) = rest.split_once('.') else {
        return Err(parts(&[column, condition]));
    };
    let Some(operator) = Operator::parse(name) else {
        return Err(parts(&[column, condition]));
    };
    let values = if operator == Operator::In {
        let inside = value.strip_prefix('(').and_then(|rest| rest.strip_suffix(')'));
        elements(inside.ok_or(FilterError::InParentheses)?)
    } else {
        vec![Some(unquote(value))]
    };
    Ok(RawCondition {
        column: column.to_owned(),
        negate,
        operator,
        values,
    })
}

/// Cuts at commas that are neither inside parentheses nor inside a quoted value.
fn split_top_level(text: &str) -> Vec<&str> {
    let mut segments = Vec::new();
    let (mut start, mut depth, mut quoted) = (0, 0usize, false);
    let mut previous = '\0';
    let mut chars = text.char_indices();
    while let Some((i, c)) = chars.next() {
        match c {
            '\\' if quoted => {
                chars.next();
            }
            '"' if quoted => quoted = false,
            _ if quoted => {}
            '"' if matches!(previous, '.' | '(' | ',') => quoted = true,
            '(' => depth += 1,
            ')' => depth = depth.saturating_sub(1),
            ',' if depth == 0 => {
                segments.push(&text[start..i]);
                start = i + 1;
            }
            _ => {}
        }
        previous = c;
    }
    segments.push(&text[start..]);
    segments
}

/// A value that is `"…"` from end to end loses its quotes and their escapes; anything else stays as written.
fn unquote(value: &str) -> String {
    let Some(inside) = value.strip_prefix('"') else {
        return value.to_owned();
    };
    let mut text = String::with_capacity(inside.len());
    let mut chars = inside.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => match chars.next() {
                Some(escaped) => text.push(escaped),
                None => return value.to_owned(),
            },
            '"' if chars.as_str().is_empty() => return text,
            '"' => return value.to_owned(),
            c => text.push(c),
        }
    }
    value.to_owned()
}

/// The elements of an `in` list, read as those of an array literal: blanks around unquoted ones do not count, an
/// unquoted NULL is NULL, a backslash escapes.
fn elements(text: &str) -> Vec<Option<String>> {
    if text.trim().is_empty() {
        return Vec::new();
    }
    let mut values = Vec::new();
    let (mut current, mut quoted, mut was_quoted) = (String::new(), false, false);
    let mut chars = text.chars();
    let finish = |current: &mut String, was_quoted: &mut bool, values: &mut Vec<Option<String>>| {
        let text = std::mem::take(current);
        let value = if std::mem::take(was_quoted) {
            text
        } else {
            text.trim().to_owned()
        };
        values.push(Some(value));
    };
    let mut bare_null = Vec::new();
    while let Some(c) = chars.next() {
        match c {
            '\\' => current.extend(chars.next()),
            '"' if quoted => quoted = false,
            '"' if current.trim().is_empty() && !was_quoted => {
                current.clear();
                (quoted, was_quoted) = (true, true);
            }
            ',' if !quoted => {
                bare_null.push(!was_quoted);
                finish(&mut current, &mut was_quoted, &mut values);
            }
            // Blanks behind a closing quote do not belong to the value.
            c if was_quoted && !quoted && c.is_whitespace() => {}
            c => current.push(c),
        }
    }
    bare_null.push(!was_quoted);
    finish(&mut current, &mut was_quoted, &mut values);
    for (value, bare) in values.iter_mut().zip(bare_null) {
        if bare
            && value
                .as_deref()
                .is_some_and(|text| text.eq_ignore_ascii_case("null"))
        {
            *value = None;
        }
    }
    values
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn one(text: &str) -> RawCondition {
        let mut all = parse(text).unwrap();
        assert_eq!(all.len(), 1, "{text}");
        all.remove(0)
    }

    fn value(text: &str) -> String {
        one(text).values.remove(0).unwrap()
    }

    #[test]
    fn plain_conditions() {
        let condition = one(" id=eq.1 ");
        assert_eq!(
            (condition.column.as_str(), condition.operator, condition.negate),
            ("id", Operator::Eq, false)
        );
        assert_eq!(value("id=eq.1"), "1");
        assert!(one("id=not.eq.1").negate);
        assert_eq!(value("at=lt.2026-01-01T00:00:00.5Z"), "2026-01-01T00:00:00.5Z");
        assert_eq!(value("t=eq.a=b"), "a=b");
        assert_eq!(value("t=eq."), "");
    }

    #[test]
    fn segments_are_cut_at_commas_outside_quotes_and_parentheses() {
        let all = parse(r#"a=eq.1, b=in.(x,"y,z",w) ,c=eq."q,r""#).unwrap();
        assert_eq!(all.len(), 3);
        assert_eq!(
            all[1].values,
            [Some("x".into()), Some("y,z".into()), Some("w".into())]
        );
        assert_eq!(all[2].values, [Some("q,r".into())]);
    }

    #[test]
    fn quotes_and_escapes() {
        assert_eq!(value(r#"t=eq."a\"b\\c""#), r#"a"b\c"#);
        assert_eq!(value(r#"t=eq."open"#), r#""open"#);
        assert_eq!(value(r#"t=eq."a"b"#), r#""a"b"#);
        assert_eq!(
            one(r#"t=in.( a , "b" ,null,"null",NULL)"#).values,
            [
                Some("a".into()),
                Some("b".into()),
                None,
                Some("null".into()),
                None
            ]
        );
        assert!(one("t=in.()").values.is_empty());
    }

    #[test]
    fn blank_is_no_filter() {
        assert_eq!(parse(""), Ok(vec![]));
        assert_eq!(parse("  "), Ok(vec![]));
    }

    #[test]
    fn errors_have_the_known_details() {
        for (text, detail) in [
            ("undefined", r#"["undefined"]"#),
            ("foo=hey", r#"["foo", "hey"]"#),
            ("foo=near.hey", r#"["foo", "near.hey"]"#),
            (
                "a=eq.1,",
                "filter must not contain empty segments (check for extra commas)",
            ),
            (
                "a=eq.1,,b=eq.2",
                "filter must not contain empty segments (check for extra commas)",
            ),
            ("a=in.1,2", "`in` filter value must be wrapped by parentheses"),
        ] {
            assert_eq!(parse(text).unwrap_err().to_string(), detail, "{text}");
        }
    }

    proptest! {
        #[test]
        fn never_panics(text in ".{0,60}", shaped in r#"[a-c=.,()"\\ neqin]{0,40}"#) {
            let _ = (parse(&text), parse(&shaped));
        }

        #[test]
        fn any_quoted_value_survives(text in "[^\0]{0,20}") {
            let escaped = text.replace('\\', r"\\").replace('"', "\\\"");
            prop_assert_eq!(value(&format!("t=eq.\"{escaped}\"")), text.clone());
            prop_assert_eq!(&one(&format!("t=in.(\"{escaped}\")")).values, &[Some(text)]);
        }
    }
}
