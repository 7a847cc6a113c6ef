use super::text::write_string;

/// Appends a number as jsonb prints it: all its digits, no exponent, no negative zero. `NaN` and the infinities, which
/// JSON has no number for, become strings, as in Postgres.
pub(super) fn write(value: &str, out: &mut String) {
    match split(value) {
        None => write_string(value, out),
        Some(Parts {
            exponent: 0,
            negative,
            whole,
            fraction,
        }) => {
            let zero = whole.bytes().chain(fraction.bytes()).all(|digit| digit == b'0');
            if negative && !zero {
                out.push('-');
            }
            out.push_str(whole);
            if !fraction.is_empty() {
                out.push('.');
                out.push_str(fraction);
            }
        }
        Some(parts) => write_shifted(&parts, out),
    }
}

struct Parts<'a> {
    negative: bool,
    whole: &'a str,
    fraction: &'a str,
    exponent: i32,
}

/// `[-]digits[.digits][e[+-]digits]`, with no leading zero before other digits; anything else is not a JSON number.
fn split(value: &str) -> Option<Parts<'_>> {
    let (negative, rest) = value
        .strip_prefix('-')
        .map_or((false, value), |rest| (true, rest));
    let (mantissa, exponent) = match rest.split_once(['e', 'E']) {
        None => (rest, 0),
        Some((mantissa, exponent)) => (mantissa, exponent.parse::<i32>().ok()?),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits = |part: &str| part.bytes().all(|b| b.is_ascii_digit());
    let fits = !whole.is_empty()
        && digits(whole)
        && digits(fraction)
        && (whole.len() == 1 || !whole.starts_with('0'))
        && !mantissa.ends_with('.')
        // Postgres' own floats end near 10^308; more would only let rubbish ask for gigabytes of zeros.
        && exponent.abs() <= 400;
    fits.then_some(Parts {
        negative,
        whole,
        fraction,
        exponent,
    })
}

/// Moves the decimal point: `1.5e-07` → `0.00000015`, `1e+20` → `100000000000000000000`.
fn write_shifted(parts: &Parts<'_>, out: &mut String) {
    let digits: String = [parts.whole, parts.fraction].concat();
    if parts.negative && digits.bytes().any(|digit| digit != b'0') {
        out.push('-');
    }
    let point = i64::try_from(parts.whole.len()).unwrap_or(i64::MAX) + i64::from(parts.exponent);
    let zeros = |n: usize| std::iter::repeat_n('0', n);
    match usize::try_from(point) {
        Ok(point) if point >= digits.len() => {
            let whole = digits.trim_start_matches('0');
            out.push_str(if whole.is_empty() { "0" } else { whole });
            if !whole.is_empty() {
                out.extend(zeros(point - digits.len()));
            }
        }
        Ok(point) if point > 0 => {
            let whole = digits[..point].trim_start_matches('0');
            out.push_str(if whole.is_empty() { "0" } else { whole });
            out.push('.');
            out.push_str(&digits[point..]);
        }
        _ => {
            out.push_str("0.");
            out.extend(zeros(usize::try_from(-point).unwrap_or(0)));
            out.push_str(&digits);
        }
    }
}

#[cfg(test)]
mod tests {
    fn written(value: &str) -> String {
        let mut out = String::new();
        super::write(value, &mut out);
        out
    }

    #[test]
    fn as_jsonb_prints_them() {
        for (text, expected) in [
            ("0", "0"),
            ("-0", "0"),
            ("-1", "-1"),
            ("1.10", "1.10"),
            ("1e+20", "100000000000000000000"),
            ("1.5e-07", "0.00000015"),
            ("-1.2345e+02", "-123.45"),
            ("1.2345e+04", "12345"),
            ("5e-324", &format!("0.{}5", "0".repeat(323))),
            ("NaN", "\"NaN\""),
            ("Infinity", "\"Infinity\""),
            ("-Infinity", "\"-Infinity\""),
            ("01", "\"01\""),
            ("1.", "\"1.\""),
            ("", "\"\""),
            ("1e99999", "\"1e99999\""),
        ] {
            assert_eq!(written(text), expected, "{text}");
        }
    }
}
