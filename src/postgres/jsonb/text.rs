use std::borrow::Cow;

/// Appends a JSON string.
pub fn write_string(value: &str, out: &mut String) {
    out.push('"');
    let mut plain = 0;
    for (i, byte) in value.bytes().enumerate() {
        let escape: &str = match byte {
            b'"' => "\\\"",
            b'\\' => "\\\\",
            b'\n' => "\\n",
            b'\r' => "\\r",
            b'\t' => "\\t",
            0x08 => "\\b",
            0x0C => "\\f",
            0x00..=0x1F => "",
            _ => continue,
        };
        out.push_str(&value[plain..i]);
        if escape.is_empty() {
            const HEX: &[u8; 16] = b"0123456789abcdef";
            out.push_str("\\u00");
            out.push(char::from(HEX[usize::from(byte >> 4)]));
            out.push(char::from(HEX[usize::from(byte & 15)]));
        } else {
            out.push_str(escape);
        }
        plain = i + 1;
    }
    out.push_str(&value[plain..]);
    out.push('"');
}

/// One step through an array's text form.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Element<'a> {
    /// `{`
    Open,
    /// `}`
    Close,
    /// An unquoted NULL.
    Null,
    /// An element, unescaped.
    Text(Cow<'a, str>),
}

/// Takes an array's text output form apart (manual, "Array Input and Output Syntax"): `{1,"a,b",NULL}`, nested
/// braces for dimensions, an optional `[l:u]=` in front. `None` if the text is not of that form.
pub(super) fn array_elements(value: &str, delimiter: char) -> Option<Vec<Element<'_>>> {
    let body = match value.strip_prefix('[') {
        Some(_) => value.split_once('=')?.1,
        None => value,
    };
    let mut elements = Vec::new();
    let mut depth = 0usize;
    let mut rest = body;
    // What may come next: an element (or an opening brace), or a delimiter (or a closing brace).
    let mut want_element = true;
    while let Some(next) = rest.chars().next() {
        match next {
            '{' if want_element && (depth > 0 || elements.is_empty()) => {
                depth += 1;
                elements.push(Element::Open);
                rest = &rest[1..];
            }
            '}' if depth > 0 && (!want_element || elements.last() == Some(&Element::Open)) => {
                depth -= 1;
                elements.push(Element::Close);
                want_element = false;
                rest = &rest[1..];
            }
            _ if depth == 0 => return None,
            c if c == delimiter && !want_element => {
                want_element = true;
                rest = &rest[c.len_utf8()..];
            }
            '"' if want_element => {
                let (text, after) = quoted(&rest[1..], false)?;
                elements.push(Element::Text(text));
                want_element = false;
                rest = after;
            }
            _ if want_element => {
                let end = rest.find([delimiter, '}', '{', '"'])?;
                let text = &rest[..end];
                elements.push(if text == "NULL" {
                    Element::Null
                } else {
                    Element::Text(Cow::Borrowed(text))
                });
                want_element = false;
                rest = &rest[end..];
            }
            _ => return None,
        }
    }
    (depth == 0 && !elements.is_empty()).then_some(elements)
}

/// Takes a composite value's text form apart (manual, "Composite Type Input and Output Syntax"): `(1,"a ""b""",)`.
/// An empty unquoted field is NULL. `None` if the text is not of that form.
pub(super) fn record_fields(value: &str) -> Option<Vec<Option<Cow<'_, str>>>> {
    let mut rest = value.strip_prefix('(')?.strip_suffix(')')?;
    let mut fields = Vec::new();
    loop {
        if let Some(inside) = rest.strip_prefix('"') {
            let (text, after) = quoted(inside, true)?;
            fields.push(Some(text));
            rest = after;
        } else {
            let end = rest.find(',').unwrap_or(rest.len());
            let text = &rest[..end];
            fields.push((!text.is_empty()).then_some(Cow::Borrowed(text)));
            rest = &rest[end..];
        }
        match rest.strip_prefix(',') {
            Some(after) => rest = after,
            None if rest.is_empty() => return Some(fields),
            None => return None,
        }
    }
}

/// Reads up to the closing quote; a backslash escapes, and in composites a doubled quote is a quote.
fn quoted(text: &str, doubled: bool) -> Option<(Cow<'_, str>, &str)> {
    let mut unescaped: Option<String> = None;
    let mut chars = text.char_indices();
    while let Some((i, c)) = chars.next() {
        match c {
            '\\' => {
                let (_, escaped) = chars.next()?;
                unescaped
                    .get_or_insert_with(|| text[..i].to_owned())
                    .push(escaped);
            }
            '"' if doubled && text[i + 1..].starts_with('"') => {
                chars.next();
                unescaped.get_or_insert_with(|| text[..i].to_owned()).push('"');
            }
            '"' => {
                let value = unescaped.map_or(Cow::Borrowed(&text[..i]), Cow::Owned);
                return Some((value, &text[i + 1..]));
            }
            _ => {
                if let Some(unescaped) = &mut unescaped {
                    unescaped.push(c);
                }
            }
        }
    }
    None
}
