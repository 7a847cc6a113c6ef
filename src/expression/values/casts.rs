//! Casts (`pg_cast`, and through text where it has none).

use std::sync::Arc;

use super::calls::{unary, unexpected};
use super::input::reader;
use super::number_casts;
use super::numeric_arithmetic::fitted;
use crate::expression::{Array, Builtin, Datum, Evaluated, Stop, Ty, builtin};

/// Bytes of a `name` (`NAMEDATALEN - 1`).
const NAME_BYTES: usize = 63;

/// A cast among the types of this module, with the length or precision that the type asks for.
pub(in crate::expression) fn cast(from: &Ty, to: &Ty, modifiers: &[i32]) -> Option<Builtin> {
    if let (Ty::Array(from), Ty::Array(to)) = (from, to) {
        return elementwise(from, to, modifiers);
    }
    let converted = convert(from, to)?;
    modified(converted, modifiers)
}

/// To text, whatever there is: the output form. Asked last, after the casts that know better.
pub(in crate::expression) fn by_output(from: &Ty, to: &Ty, modifiers: &[i32]) -> Option<Builtin> {
    if !is_textual(to) || is_textual(from) {
        return None;
    }
    let (source, target) = (from.clone(), to.clone());
    let shown = unary(to.clone(), move |value| {
        into_textual(value.print(&source)?, &target)
    });
    // The output functions of these look at settings.
    let stable = matches!(
        from,
        Ty::Date | Ty::Timestamp | Ty::Timestamptz | Ty::Interval | Ty::Enum(_) | Ty::Array(_)
    );
    modified(
        Builtin {
            immutable: !stable,
            ..shown
        },
        modifiers,
    )
}

fn is_textual(ty: &Ty) -> bool {
    matches!(ty, Ty::Text | Ty::Varchar | Ty::Bpchar | Ty::Name)
}

fn into_textual(text: String, ty: &Ty) -> Evaluated {
    match ty {
        Ty::Bpchar => Ok(Some(Datum::Bpchar(text.into()))),
        Ty::Name if text.len() > NAME_BYTES => Err(Stop::ask("a name that is cut")),
        Ty::Text | Ty::Varchar | Ty::Name => Ok(Some(Datum::Text(text.into()))),
        _ => unexpected(),
    }
}

fn convert(from: &Ty, to: &Ty) -> Option<Builtin> {
    let target = to.clone();
    match (from, to) {
        (from, to) if from == to => Some(unary(target, |value| Ok(Some(value.clone())))),
        (Ty::Bpchar, _) if is_textual(to) => Some(unary(to.clone(), move |value| {
            into_textual(textual(value)?.trim_end_matches(' ').into(), &target)
        })),
        _ if is_textual(from) && is_textual(to) => Some(unary(to.clone(), move |value| {
            into_textual(textual(value)?.into(), &target)
        })),
        (Ty::Bool, Ty::Text | Ty::Varchar | Ty::Bpchar) => {
            Some(unary(to.clone(), move |value| match value {
                Datum::Bool(value) => into_textual(value.to_string(), &target),
                _ => unexpected(),
            }))
        }
        (Ty::Inet | Ty::Cidr, Ty::Text | Ty::Varchar | Ty::Bpchar) => {
            Some(unary(to.clone(), move |value| match value {
                Datum::Inet(value) => into_textual(value.print_network(), &target),
                _ => unexpected(),
            }))
        }
        (Ty::Cidr, Ty::Inet) => Some(unary(target, |value| Ok(Some(value.clone())))),
        (Ty::Inet, Ty::Cidr) => Some(unary(target, |value| match value {
            Datum::Inet(value) => Ok(Some(Datum::Inet(value.network()))),
            _ => unexpected(),
        })),
        _ if is_textual(from) => read(to),
        _ => number_casts::convert(from, to),
    }
}

fn textual(value: &Datum) -> Result<&str, Stop> {
    match value {
        Datum::Text(text) | Datum::Bpchar(text) => Ok(text),
        _ => unexpected(),
    }
}

/// Text read by the type's input function.
fn read(to: &Ty) -> Option<Builtin> {
    let stable = |cast| {
        Some(Builtin {
            immutable: false,
            ..cast
        })
    };
    match to {
        Ty::Enum(labels) => {
            let (ty, labels) = (to.clone(), Arc::clone(labels));
            stable(unary(ty, move |value| {
                let text = textual(value)?;
                let known = labels.labels.iter().position(|label| **label == *text);
                let known = known.and_then(|index| u32::try_from(index).ok());
                known
                    .map(|index| Some(Datum::Enum(index)))
                    .ok_or_else(|| Stop::ask("an enum's label"))
            }))
        }
        Ty::Array(element) => {
            let reading = builtin::cast(&Ty::Text, element, &[])?;
            stable(unary(to.clone(), move |value| {
                let element = |text: &str| (reading.call)(&[Some(Datum::Text(text.into()))]);
                let array = super::array_text::parse(textual(value)?, &element)?;
                Ok(Some(Datum::Array(Arc::new(array))))
            }))
        }
        _ => {
            let input = reader(to)?;
            Some(unary(to.clone(), move |value| input(textual(value)?)))
        }
    }
}

fn elementwise(from: &Ty, to: &Ty, modifiers: &[i32]) -> Option<Builtin> {
    let each = builtin::cast(from, to, modifiers)?;
    let immutable = each.immutable;
    let cast = unary(Ty::Array(Box::new(to.clone())), move |value| {
        let Datum::Array(array) = value else {
            return unexpected();
        };
        let elements = array.elements.iter().map(|element| match element {
            None => Ok(None),
            Some(_) => (each.call)(std::slice::from_ref(element)),
        });
        let elements = elements.collect::<Result<_, _>>()?;
        Ok(Some(Datum::Array(Arc::new(Array {
            dimensions: array.dimensions.clone(),
            elements,
        }))))
    });
    Some(Builtin { immutable, ..cast })
}

/// The cast followed by what `varchar(n)`, `char(n)` and `numeric(p, s)` do to a value.
fn modified(cast: Builtin, modifiers: &[i32]) -> Option<Builtin> {
    let fit: Box<dyn Fn(Datum) -> Evaluated + Send + Sync> = match (&cast.returns, modifiers) {
        (_, []) => return Some(cast),
        (Ty::Varchar | Ty::Bpchar, [length]) => {
            let length = usize::try_from(*length).ok().filter(|length| *length > 0)?;
            Box::new(move |value| Ok(Some(cut(value, length)?)))
        }
        (Ty::Numeric, [precision, rest @ ..]) => {
            let (precision, scale) = match rest {
                [] => (*precision, 0),
                [scale] => (*precision, *scale),
                _ => return None,
            };
            if !(1..=1000).contains(&precision) || !(-1000..=1000).contains(&scale) {
                return None;
            }
            Box::new(move |value| match value {
                Datum::Numeric(value) => {
                    fitted(&value, precision, scale).map(|value| Some(Datum::Numeric(value)))
                }
                _ => unexpected(),
            })
        }
        _ => return None,
    };
    let call = Arc::clone(&cast.call);
    Some(Builtin {
        call: Arc::new(move |arguments| match call(arguments)? {
            None => Ok(None),
            Some(value) => fit(value),
        }),
        ..cast
    })
}

/// The first `length` characters; `char(n)` is filled up with blanks.
fn cut(value: Datum, length: usize) -> Result<Datum, Stop> {
    match value {
        Datum::Text(text) => Ok(Datum::Text(text.chars().take(length).collect::<String>().into())),
        Datum::Bpchar(text) => {
            let filled = text.chars().chain(std::iter::repeat(' ')).take(length);
            Ok(Datum::Bpchar(filled.collect::<String>().into()))
        }
        _ => unexpected(),
    }
}
